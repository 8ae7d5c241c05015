# The coordinator's token: its log key signs checkpoints in here and never leaves. {{node}} names the coordinator.
path "transit/sign/log-{{node}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "input" = [] }
  required_parameters = ["input"]
}
# The public half, which the rules pin.
path "transit/keys/log-{{node}}" {
  capabilities = ["read"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

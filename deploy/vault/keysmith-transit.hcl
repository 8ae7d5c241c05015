# Ceremony only: seals a seed for this node's context, can not open one.
path "transit/encrypt/seed-{{node}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "plaintext" = [], "context" = ["{{context}}"] }
  required_parameters = ["plaintext", "context"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# Ceremony only: has the engine make its seed, and pins the genesis. The engine does each once and refuses a second one;
# it asks nobody's policy for that.
path "keyturn-{{node}}/key" {
  capabilities        = ["update", "read"]
  allowed_parameters  = { "node" = ["{{node}}"], "network" = [], "request" = [] }
}
path "keyturn-{{node}}/genesis" {
  capabilities        = ["update"]
  allowed_parameters  = { "genesis" = [], "hash" = [] }
  required_parameters = ["genesis", "hash"]
}
# A later wallet, where this node holds a key of it. Log and rules must have it too before anything is signed.
path "keyturn-{{node}}/wallet" {
  capabilities        = ["update"]
  allowed_parameters  = { "wallet" = [], "hash" = [] }
  required_parameters = ["wallet", "hash"]
}
path "keyturn-{{node}}/status" {
  capabilities = ["read"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# The standing token of a signer node whose key lives in the engine: it hands over bundles and cosigned history, and is
# answered with signatures or a refusal. It can neither make a key nor pin a genesis, and nobody can read a seed.
path "keyturn-{{node}}/sign" {
  capabilities        = ["update"]
  allowed_parameters  = { "bundle" = [], "confirmed" = [] }
  required_parameters = ["bundle"]
}
path "keyturn-{{node}}/follow" {
  capabilities        = ["update"]
  allowed_parameters  = { "delta" = [] }
  required_parameters = ["delta"]
}
# The weekly proof that the key is still there.
path "keyturn-{{node}}/life" {
  capabilities        = ["update"]
  allowed_parameters  = { "life" = [] }
  required_parameters = ["life"]
}
# Health, and the public half of the key.
path "keyturn-{{node}}/status" {
  capabilities = ["read"]
}
path "keyturn-{{node}}/key" {
  capabilities = ["read"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# The standing token of a signer node whose seed is a KV v2 secret: it reads that one secret and nothing else.
# {{node}} is filled in by whoever applies this file.
path "keyturn/data/signers/{{node}}/seed" {
  capabilities = ["read"]
}
# Health: the names of the secret's fields, not their values.
path "keyturn/subkeys/signers/{{node}}/seed" {
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

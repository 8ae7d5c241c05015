# Ceremony only: writes the seed once ("create" without "update"), can neither overwrite it nor read it back.
path "keyturn/data/signers/{{node}}/seed" {
  capabilities = ["create"]
}
# Whether there is one already: the names of its fields, not their values.
path "keyturn/subkeys/signers/{{node}}/seed" {
  capabilities = ["read"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

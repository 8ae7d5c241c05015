# Ceremony only: writes the seed once ("create" without "update"), can neither overwrite it nor read it back.
path "keyturn/data/signers/{{node}}/seed" {
  capabilities = ["create"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

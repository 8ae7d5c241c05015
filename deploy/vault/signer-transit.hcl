# The standing token of a signer node whose seed is sealed by transit: it opens blobs made for this node's context.
# {{node}} and {{context}} (base64 of keyturn/v1|NODE) are filled in by whoever applies this file.
path "transit/decrypt/seed-{{node}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "ciphertext" = [], "context" = ["{{context}}"] }
  required_parameters = ["ciphertext", "context"]
}
# Health, and rotation without ever showing the plaintext.
path "transit/rewrap/seed-{{node}}" {
  capabilities        = ["update"]
  allowed_parameters  = { "ciphertext" = [], "context" = ["{{context}}"] }
  required_parameters = ["ciphertext", "context"]
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

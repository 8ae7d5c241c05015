# Hands a node its first secret: wrapped only, so that a stolen one is noticed, and for this node's roles only.
# Kept apart from the operator, who must not be able to become a signer.
path "auth/approle/role/signer-{{node}}/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "120s"
}
path "auth/approle/role/keysmith-{{node}}/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "120s"
}
path "auth/approle/role/log-{{node}}/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "120s"
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# Opens the way to a root token, which only the holders of the unseal (or recovery) keys can finish: nobody alone.
# For what no standing token may do: another address or certificate of a node, another policy, another plugin.
path "sys/generate-root-token/attempt" {
  capabilities = ["read", "update", "delete", "sudo"]
}
path "sys/generate-root-token/update" {
  capabilities = ["update", "sudo"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}

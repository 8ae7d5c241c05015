# Runs the place: seals it, cuts tokens off, rotates the key above the seeds. Cannot reach a seed or become a signer.
path "sys/seal" {
  capabilities = ["update", "sudo"]
}
path "sys/leases/revoke-prefix/auth/*" {
  capabilities = ["update", "sudo"]
}
path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}
path "transit/keys/+/rotate" {
  capabilities = ["update"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# Denied by name, so that no other policy given to the same token opens them: each leads to the seeds.
path "keyturn/*" {
  capabilities = ["deny"]
}
path "keyturn-*" {
  capabilities = ["deny"]
}
path "transit/keys/+/config" {
  capabilities = ["deny"]
}
path "transit/export/*" {
  capabilities = ["deny"]
}
path "transit/backup/*" {
  capabilities = ["deny"]
}
path "transit/decrypt/*" {
  capabilities = ["deny"]
}
path "auth/approle/*" {
  capabilities = ["deny"]
}
path "sys/policies/*" {
  capabilities = ["deny"]
}
path "sys/mounts/*" {
  capabilities = ["deny"]
}
path "sys/plugins/*" {
  capabilities = ["deny"]
}
path "sys/raw/*" {
  capabilities = ["deny"]
}
path "sys/storage/*" {
  capabilities = ["deny"]
}

# The server of ONE signer node, as Terraform (provider hashicorp/vault) makes it. Each node has its own server, so this is
# applied once for each, with a root token that the break-glass holder and the key holders made and that is revoked after.
#
# Policies are the files beside this one, as they are. Seeds are not made here: a state file would hold them. The ceremony
# makes them (signer_node record). Standing tokens (operator, breakglass, introducer) are not made here for the same reason.

terraform {
  required_version = ">= 1.6"
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 4.4"
    }
  }
}

variable "node" {
  type        = string
  description = "Its name in the rules."
}
variable "kind" {
  type        = string
  description = "Where its key lives: kv, transit or engine (the plugin is registered in the server's own configuration)."
}
variable "enters" {
  type        = string
  description = "cert, by its TLS certificate; or approle, by a wrapped secret_id that somebody brings each day."
  default     = "cert"
}
variable "address" {
  type        = string
  description = "From where it calls, as CIDR: 10.1.0.11/32."
}
variable "ca_pem" {
  type        = string
  description = "PEM of the authority that issues certificates of nodes."
}
variable "token_ttl_s" {
  type    = number
  default = 900
}
variable "token_max_ttl_s" {
  type    = number
  default = 86400
}

locals {
  context = base64encode("keyturn/v1|${var.node}")
}

# --- Where keys live ---------------------------------------------------------------------------------------------------

resource "vault_mount" "kv" {
  count   = var.kind == "kv" ? 1 : 0
  path    = "keyturn"
  type    = "kv"
  options = { version = "2" }
}
resource "vault_kv_secret_backend_v2" "kv" {
  count        = var.kind == "kv" ? 1 : 0
  mount        = "keyturn"
  cas_required = true
  depends_on   = [vault_mount.kv]
}
resource "vault_mount" "transit" {
  count = var.kind == "transit" ? 1 : 0
  path  = "transit"
  type  = "transit"
}
resource "vault_transit_secret_backend_key" "seed" {
  count      = var.kind == "transit" ? 1 : 0
  backend    = "transit"
  name       = "seed-${var.node}"
  type       = "aes256-gcm96"
  derived    = true
  depends_on = [vault_mount.transit]
}
resource "vault_mount" "engine" {
  count = var.kind == "engine" ? 1 : 0
  path  = "keyturn-${var.node}"
  type  = "keyturn"
}

# --- What each role may do -----------------------------------------------------------------------------------------------

resource "vault_policy" "operator" {
  name   = "operator"
  policy = file("${path.module}/operator.hcl")
}
resource "vault_policy" "breakglass" {
  name   = "breakglass"
  policy = file("${path.module}/breakglass.hcl")
}
resource "vault_policy" "introducer" {
  name   = "introducer-${var.node}"
  policy = replace(file("${path.module}/introducer.hcl"), "{{node}}", var.node)
}
resource "vault_policy" "signer" {
  name   = "signer-${var.node}"
  policy = replace(replace(file("${path.module}/signer-${var.kind}.hcl"), "{{node}}", var.node), "{{context}}", local.context)
}
resource "vault_policy" "keysmith" {
  name   = "keysmith-${var.node}"
  policy = replace(replace(file("${path.module}/keysmith-${var.kind}.hcl"), "{{node}}", var.node), "{{context}}", local.context)
}

# --- How they get in -----------------------------------------------------------------------------------------------------

resource "vault_auth_backend" "approle" {
  type = "approle"
}
resource "vault_auth_backend" "cert" {
  count = var.enters == "cert" ? 1 : 0
  type  = "cert"
}
# The chain alone admits every node of the authority: its common name and its URI tell which one.
resource "vault_cert_auth_backend_role" "signer" {
  count                   = var.enters == "cert" ? 1 : 0
  backend                 = "cert"
  name                    = "signer-${var.node}"
  certificate             = var.ca_pem
  allowed_common_names    = [var.node]
  allowed_uri_sans        = ["keyturn://signer/${var.node}"]
  token_policies          = ["signer-${var.node}"]
  token_no_default_policy = true
  token_ttl               = var.token_ttl_s
  token_max_ttl           = var.token_max_ttl_s
  token_bound_cidrs       = [var.address]
  depends_on              = [vault_auth_backend.cert]
}
resource "vault_approle_auth_backend_role" "signer" {
  count                   = var.enters == "approle" ? 1 : 0
  backend                 = "approle"
  role_name               = "signer-${var.node}"
  token_policies          = ["signer-${var.node}"]
  token_no_default_policy = true
  token_ttl               = var.token_ttl_s
  token_max_ttl           = var.token_max_ttl_s
  token_bound_cidrs       = [var.address]
  secret_id_bound_cidrs   = [var.address]
  secret_id_num_uses      = 0
  secret_id_ttl           = 86400
  depends_on              = [vault_auth_backend.approle]
}
# Logs in once, for the ceremony.
resource "vault_approle_auth_backend_role" "keysmith" {
  backend                 = "approle"
  role_name               = "keysmith-${var.node}"
  token_policies          = ["keysmith-${var.node}"]
  token_no_default_policy = true
  token_ttl               = var.token_ttl_s
  token_max_ttl           = var.token_ttl_s
  token_bound_cidrs       = [var.address]
  secret_id_bound_cidrs   = [var.address]
  secret_id_num_uses      = 1
  secret_id_ttl           = 600
  depends_on              = [vault_auth_backend.approle]
}

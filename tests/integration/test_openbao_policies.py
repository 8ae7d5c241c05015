"""The policy files as they are, on a real server: what each role may do, and that it may do nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from signer_node.backends.vault_transit import context_of
from tests.fakes.vault_nodes import VaultNode
from tests.integration.conftest import Bao

pytestmark = pytest.mark.slow

OWN, OTHER = "keyturn/data/signers/kv-1/seed", "keyturn/data/signers/kv-2/seed"
WRITE = {"options": {"cas": 1}, "data": {"seed": "00" * 32}}
CREATE = {"options": {"cas": 0}, "data": {"seed": "00" * 32}}
CONTEXT, OTHER_CONTEXT = context_of("transit-1"), context_of("transit-2")
SEALED: Mapping[str, Any] = {"ciphertext": "BLOB", "context": CONTEXT}
PLAIN: Mapping[str, Any] = {"plaintext": "AAAA", "context": CONTEXT}
BATCH = {"batch_input": [{"ciphertext": "BLOB", "context": CONTEXT}], "context": CONTEXT, "ciphertext": "x"}

# (who, method, path, body): what is allowed; everything in DENIED is answered 403.
ALLOWED: list[tuple[str, str, str, Mapping[str, Any] | None]] = [
    ("signer kv", "GET", OWN, None),
    ("signer kv", "GET", "keyturn/subkeys/signers/kv-1/seed", None),
    ("signer kv", "GET", "auth/token/lookup-self", None),
    ("signer kv", "POST", "auth/token/renew-self", {}),
    ("signer transit", "POST", "transit/decrypt/seed-transit-1", SEALED),
    ("signer transit", "POST", "transit/rewrap/seed-transit-1", SEALED),
    ("signer transit", "GET", "auth/token/lookup-self", None),
    ("keysmith kv", "GET", "keyturn/subkeys/signers/kv-1/seed", None),
    ("keysmith transit", "POST", "transit/encrypt/seed-transit-1", PLAIN),
    ("operator", "POST", "transit/keys/seed-transit-1/rotate", {}),
    ("operator", "GET", "auth/token/lookup-self", None),
    ("breakglass", "GET", "sys/generate-root-token/attempt", None),
]
DENIED: list[tuple[str, str, str, Mapping[str, Any] | None]] = [
    # A signer reads its own seed and nothing else; it writes nothing.
    ("signer kv", "GET", OTHER, None),
    ("signer kv", "POST", OWN, WRITE),
    ("signer kv", "DELETE", OWN, None),
    ("signer kv", "LIST", "keyturn/metadata/signers", None),
    ("signer kv", "GET", "keyturn/metadata/signers/kv-1/seed", None),
    ("signer kv", "DELETE", "keyturn/metadata/signers/kv-1/seed", None),
    ("signer kv", "POST", "keyturn/destroy/signers/kv-1/seed", {"versions": [1]}),
    ("signer kv", "POST", "keyturn/config", {"cas_required": False}),
    ("signer kv", "POST", "auth/token/create", {}),
    ("signer kv", "POST", "auth/approle/role/signer-kv-1/secret-id", {}),
    ("signer kv", "GET", "sys/policies/acl/signer-kv-1", None),
    # A transit signer opens blobs of its own context, one at a time, and makes none.
    ("signer transit", "POST", "transit/decrypt/seed-transit-1", {**SEALED, "context": OTHER_CONTEXT}),
    ("signer transit", "POST", "transit/decrypt/seed-transit-1", {"ciphertext": "BLOB"}),
    ("signer transit", "POST", "transit/decrypt/seed-transit-1", BATCH),
    ("signer transit", "POST", "transit/decrypt/seed-transit-2", {**SEALED, "context": OTHER_CONTEXT}),
    ("signer transit", "POST", "transit/encrypt/seed-transit-1", PLAIN),
    ("signer transit", "GET", "transit/keys/seed-transit-1", None),
    ("signer transit", "LIST", "transit/keys", None),
    ("signer transit", "POST", "transit/keys/seed-transit-1/rotate", {}),
    ("signer transit", "POST", "transit/keys/seed-transit-1/config", {"exportable": True}),
    ("signer transit", "GET", "transit/export/encryption-key/seed-transit-1", None),
    ("signer transit", "GET", "transit/backup/seed-transit-1", None),
    ("signer transit", "DELETE", "transit/keys/seed-transit-1", None),
    # A keysmith makes a seed and can neither read nor replace one.
    ("keysmith kv", "GET", OWN, None),
    ("keysmith kv", "POST", OWN, WRITE),
    ("keysmith kv", "POST", OWN, CREATE),
    ("keysmith kv", "POST", OTHER, CREATE),
    ("keysmith kv", "DELETE", OWN, None),
    ("keysmith kv", "POST", "auth/token/renew-self", {}),
    ("keysmith transit", "POST", "transit/decrypt/seed-transit-1", SEALED),
    ("keysmith transit", "POST", "transit/rewrap/seed-transit-1", SEALED),
    ("keysmith transit", "POST", "transit/encrypt/seed-transit-1", {**PLAIN, "context": OTHER_CONTEXT}),
    ("keysmith transit", "POST", "transit/encrypt/seed-transit-2", PLAIN),
    ("keysmith transit", "POST", "transit/encrypt/new-key", PLAIN),
    # An introducer hands out wrapped secrets of its own node, never bare ones.
    ("introducer", "POST", "auth/approle/role/signer-kv-1/secret-id", {}),
    ("introducer", "POST", "auth/approle/role/signer-kv-2/secret-id", {}),
    ("introducer", "POST", "auth/approle/role/signer-kv-1/custom-secret-id", {"secret_id": "known"}),
    ("introducer", "POST", "auth/approle/role/signer-kv-1", {"token_policies": ["operator"]}),
    ("introducer", "GET", OWN, None),
    # An operator runs the place and reaches no seed, no policy, no plugin, no snapshot, no root token.
    ("operator", "GET", OWN, None),
    ("operator", "POST", OTHER, CREATE),
    ("operator", "LIST", "keyturn/metadata/signers", None),
    ("operator", "POST", "transit/decrypt/seed-transit-1", SEALED),
    ("operator", "POST", "transit/keys/seed-transit-1/config", {"exportable": True}),
    ("operator", "GET", "transit/export/encryption-key/seed-transit-1", None),
    ("operator", "GET", "transit/backup/seed-transit-1", None),
    ("operator", "POST", "auth/approle/role/signer-kv-1/secret-id", {}),
    ("operator", "POST", "auth/token/create", {"policies": ["signer-kv-1"]}),
    ("operator", "POST", "sys/policies/acl/signer-kv-1", {"policy": ""}),
    ("operator", "DELETE", "sys/mounts/keyturn", None),
    ("operator", "POST", "sys/mounts/keyturn/tune", {"description": "x"}),
    ("operator", "POST", "sys/plugins/catalog/secret/x", {"command": "x", "sha256": "00"}),
    ("operator", "GET", "sys/raw/core", None),
    ("operator", "GET", "sys/storage/raft/snapshot", None),
    ("operator", "GET", "sys/audit", None),
    ("operator", "PUT", "sys/generate-root-token/attempt", {}),
    # Break-glass alone opens the way to a root token and does not get through it.
    ("breakglass", "POST", "auth/token/create", {"policies": ["root"]}),
    ("breakglass", "POST", "sys/policies/acl/breakglass", {"policy": ""}),
    ("breakglass", "GET", OWN, None),
    ("breakglass", "GET", "sys/storage/raft/snapshot", None),
    # Nobody at all.
    ("nobody", "GET", OWN, None),
    ("nobody", "POST", "transit/decrypt/seed-transit-1", SEALED),
]
# What leads around every policy is for no standing token: other plugins, other settings of mounts, raw storage, copies.
AROUND: list[tuple[str, str, Mapping[str, Any] | None]] = [
    ("POST", "sys/plugins/catalog/secret/x", {"command": "x", "sha256": "00"}),
    ("DELETE", "sys/plugins/catalog/secret/x", None),
    ("POST", "sys/mounts/keyturn/tune", {"description": "x"}),
    ("POST", "sys/mounts/other", {"type": "kv"}),
    ("GET", "sys/raw/core", None),
    ("POST", "sys/raw/core", {"value": "x"}),
    ("GET", "sys/storage/raft/snapshot", None),
    ("POST", "sys/storage/raft/snapshot-force", None),
    ("POST", "sys/policies/acl/x", {"policy": ""}),
    ("POST", "sys/auth/other", {"type": "approle"}),
]
STANDING = ("signer kv", "signer transit", "introducer", "operator", "breakglass")
DENIED += [(who, *call) for who in STANDING for call in AROUND if (who, *call) not in DENIED]


@dataclass(frozen=True, slots=True)
class Holders:
    """A living token of every role, and the way to use one."""

    node: VaultNode
    tokens: Mapping[str, str]
    blob: str

    def status(self, who: str, method: str, path: str, body: Mapping[str, Any] | None) -> int:
        """Return the status of one call; BLOB in a body stands for the sealed seed of transit-1."""
        filled = {key: self.blob if value == "BLOB" else value for key, value in body.items()} if body else body
        token, server = self.tokens[who], self.node.server
        return requests.request(
            method,
            f"{server.address}/v1/{path}",
            headers={"X-Vault-Token": token} if token else {},
            json=filled,
            verify=str(server.ca_path),
            timeout=5,
        ).status_code


@pytest.fixture
def holders(bao: Bao) -> Holders:
    """Fresh tokens, because other tests revoke them."""
    kv, transit = bao.node("kv"), bao.node("transit")
    return Holders(
        kv,
        {
            "signer kv": kv.token(),
            "signer transit": transit.token(),
            "keysmith kv": kv.token("keysmith"),
            "keysmith transit": transit.token("keysmith"),
            "introducer": bao.server.introducers["kv-1"],
            "operator": bao.server.operator_token,
            "breakglass": bao.server.breakglass_token,
            "nobody": "",
        },
        transit.blob.read_text(),
    )


def _name(case: tuple[str, str, str, object]) -> str:
    return f"{case[0]} {case[1]} {case[2]}".replace(" ", "-").replace("/", ".")


@pytest.mark.parametrize("case", ALLOWED, ids=_name)
def test_policy_when_the_role_needs_it_allows(
    holders: Holders, case: tuple[str, str, str, Mapping[str, Any] | None]
) -> None:
    """Each role can do its job."""
    assert holders.status(*case) in (200, 204)


@pytest.mark.parametrize("case", DENIED, ids=_name)
def test_policy_when_the_role_does_not_need_it_denies(
    holders: Holders, case: tuple[str, str, str, Mapping[str, Any] | None]
) -> None:
    """Everything else is forbidden, by status and without effect."""
    assert holders.status(*case) == 403
    assert holders.status("signer kv", "GET", OWN, None) == 200

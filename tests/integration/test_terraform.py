"""deploy/vault/main.tf: it loads the policy files as they are, asks for what the demo asks for, and works on a server.

There is no Terraform here: python-hcl2 reads the file, and its resources are put to a real server as API calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.ca import Ca, make_ca
from deploy.openbao import POLICIES, Role, initialise, launch_new, policy_text, requests_of
from signer_node.backends import make_key, open_backend
from signer_node.backends.port import State
from tests.fakes.cleared import cleared
from tests.fakes.terraform import calls, load
from tests.fakes.vault_nodes import VaultNode

SEED = bytes(range(9, 41))
UNITS = {"s": 1, "m": 60, "h": 3600}


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    """An authority."""
    return make_ca(tmp_path / "ca")


def _variables(ca: Ca, kind: str, enters: str) -> Mapping[str, Any]:
    pem = ca.certificate_path.read_text()
    return {"node": "alpha", "kind": kind, "enters": enters, "address": "127.0.0.1/32", "ca_pem": pem}


def _roles(kind: str, enters: str) -> tuple[Role, Role]:
    return Role(f"signer-{kind}", "alpha", by=enters), Role(f"keysmith-{kind}", "alpha")


def _in_seconds(value: object) -> object:
    """Return a duration as a number: the API takes "15m", Terraform 900."""
    if isinstance(value, str) and value[:-1].isdigit() and value[-1] in UNITS:
        return int(value[:-1]) * UNITS[value[-1]]
    return value


@pytest.mark.parametrize("enters", ["cert", "approle"])
@pytest.mark.parametrize("kind", ["kv", "transit", "engine"])
def test_module_when_evaluated_asks_for_what_the_demo_asks_for(ca: Ca, kind: str, enters: str) -> None:
    """Every path and every field of it: what the tests prove of the demo's server holds for production's."""
    made = {path: dict(body) for path, body in calls(load(POLICIES, _variables(ca, kind, enters)))}
    demos = {
        path: {key: _in_seconds(value) for key, value in body.items()}
        for path, body in requests_of(ca, _roles(kind, enters), 900, 86_400)
    }

    assert made == demos


@pytest.mark.parametrize("kind", ["kv", "transit", "engine"])
def test_module_when_evaluated_loads_the_policy_files_as_they_are(ca: Ca, kind: str) -> None:
    """Five policies, each the text of its file with the node's name."""
    made = {path: body for path, body in calls(load(POLICIES, _variables(ca, kind, "cert"))) if "/acl/" in path}

    assert {path.rpartition("/")[2]: body["policy"] for path, body in made.items()} == {
        "operator": policy_text("operator", ""),
        "breakglass": policy_text("breakglass", ""),
        "introducer-alpha": policy_text("introducer", "alpha"),
        "signer-alpha": policy_text(f"signer-{kind}", "alpha"),
        "keysmith-alpha": policy_text(f"keysmith-{kind}", "alpha"),
    }


@pytest.mark.slow
def test_module_when_applied_to_a_server_then_a_node_makes_its_key_and_signs(ca: Ca, tmp_path: Path) -> None:
    """An empty server, a root token of two holders, the module's calls, the ceremony; then by certificate."""
    server = launch_new(tmp_path / "server", ca)
    try:
        initialise(server, ca)
        root = server.root_token()
        for path, body in calls(load(POLICIES, _variables(ca, "transit", "cert"))):
            if path != "sys/auth/approle":  # an initialised server of ours has it
                server.call("POST", path, root, body)
        answer = server.call("GET", "auth/approle/role/keysmith-alpha/role-id", root)
        token = {"policies": ["introducer-alpha"], "no_default_policy": True, "no_parent": True}
        made = server.call("POST", "auth/token/create", root, token)
        server.call("POST", "auth/token/revoke-self", root, {})
        server.role_ids = {"keysmith-alpha": answer["data"]["role_id"]}
        server.introducers = {"alpha": made["auth"]["client_token"]}

        node = VaultNode(server, "transit", "alpha", tmp_path)
        asyncio.run(make_key(node.uri, node.access("keysmith"), lambda size: SEED[:size]))
        certificate = ca.issue("alpha", "signer", tmp_path / "alpha", server=False)
        backend = open_backend(node.uri, node.certificate_access(*certificate))

        assert asyncio.run(backend.health()).state is State.READY
        assert len(asyncio.run(backend.sign(cleared(SEED)))) == 3
    finally:
        server.stop()

"""Canaries over a whole stack with a real Vault: no secret stands in a file, log, page or database of it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
import requests

from deploy.openbao import Server
from deploy.stack import Stack, roles_of
from signer_node.backends.vault_transit import context_of
from tests.attacks.test_secrets import spellings
from tests.crash.light_stack import Light
from tests.vaulted import until_broadcast, wait_until

pytestmark = pytest.mark.slow
# A token of OpenBao or of Vault, of whatever kind: in clear none may stand anywhere, whoever's it is.
TOKEN = re.compile(rb"\b(?:hv)?[sbr]\.(?:[A-Za-z0-9]{24,32}|[A-Za-z0-9_-]{90,})\b")
HOMES = {"unseal.key", "seed.sealed", "passphrase", "log.passphrase", "identity.key"}  # where secrets are meant to be
KEYS = {".key", ".ed25519", ".wrapped"}  # as above, by the end of the name


def secrets(light: Light) -> Mapping[str, bytes]:
    """Return the secrets of a running stack by name, raw or as the text that they are used as."""
    stack, server = light.stack, light.stack.vaults["alpha"]
    found = {
        "operator token": server.operator_token.encode(),
        "break-glass token": server.breakglass_token.encode(),
        "introducer token": server.introducers["alpha"].encode(),
        "recovery key": base64.b64decode(server.recovery_key),
        "unseal key": (server.directory / "unseal.key").read_bytes(),
        "identity of alpha": bytes.fromhex((stack.node("alpha") / "state" / "identity.key").read_text()),
        "log passphrase": (stack.directory / "log.passphrase").read_bytes(),
        "passphrase of gamma": (stack.node("gamma") / "passphrase").read_bytes(),
        "engine's operator token": stack.vaults["beta"].operator_token.encode(),
    }
    secret_id = _keysmith_secret_id(server)
    token, seed = _seed(stack, server)
    return {**found, "secret_id": secret_id.encode(), "signer token": token.encode(), "seed of alpha": seed}


def _keysmith_secret_id(server: Server) -> str:
    wrapped = server.wrapped_secret(roles_of("alpha", "transit")[1])
    return str(server.call("POST", "sys/wrapping/unwrap", wrapped, {})["data"]["secret_id"])


def _seed(stack: Stack, server: Server) -> tuple[str, bytes]:
    """Return a token of alpha and its seed, got as alpha gets them."""
    home, post = stack.node("alpha"), requests.post
    pair, trust = (str(home / "alpha.pem"), str(home / "alpha.key")), str(server.ca_path)
    name = {"name": roles_of("alpha", "transit")[0].name}
    answer = post(f"{server.address}/v1/auth/cert/login", json=name, cert=pair, verify=trust, timeout=20)
    token = str(answer.json()["auth"]["client_token"])
    body = {"ciphertext": (home / "seed.blob").read_text(), "context": context_of("alpha")}
    opened = server.call("POST", "transit/decrypt/seed-alpha", token, body)
    return token, base64.b64decode(opened["data"]["plaintext"])


def outputs(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the stack but those that are meant to hold a secret, and what its pages say."""
    for path in sorted(stack.directory.rglob("*")):
        if path.is_file() and path.name not in HOMES and path.suffix not in KEYS:
            content = path.read_bytes().replace(bytes(4096), b"")  # raft's file is made of 32 MiB of nothing
            yield str(path.relative_to(stack.directory)), content
    for command in (["signer", "list"], ["list"], ["-o", "json", "signer", "list"], ["policy", "show"]):
        yield f"keyturn {' '.join(command)}", _said(stack, command)


def _said(stack: Stack, command: list[str]) -> bytes:
    config = str(stack.person("alice") / "keyturn.toml")
    ran = subprocess.run(
        [sys.executable, "-m", "console.cli.app", "--config", config, *command], capture_output=True, check=False
    )
    return ran.stdout + ran.stderr


def test_stack_when_it_signed_failed_and_came_back_then_holds_no_secret_but_in_its_place(vaulted: Light) -> None:
    """Logs of every process, the server's audit log and raft files, the coordinator's database, command output."""
    stack, server = vaulted.stack, vaulted.stack.vaults["alpha"]
    wait_until(vaulted, "alpha", "ready", "")
    asked = vaulted.withdrawal()
    vaulted.propose(asked)
    until_broadcast(vaulted, asked)
    server.call("PUT", "sys/leases/revoke-prefix/auth/cert/login", server.operator_token, {})
    wait_until(vaulted, "alpha", "ready", "")
    vaulted.mine()
    known = {name: spellings(secret) for name, secret in secrets(vaulted).items()}

    seen = dict(outputs(stack))

    assert [f"{name} in {place}" for place, content in seen.items() for name, ways in known.items()
            if any(way in content for way in ways)] == []  # fmt: skip
    assert [f"{token[:6]!r}... in {place}" for place, content in seen.items() for token in TOKEN.findall(content)
            if "/data/" not in place] == []  # fmt: skip
    names = " ".join(seen)
    for part in ("coordinator.log", "alpha.log", "coordinator.db", "audit.log", "server.log", "vault.db", "journal"):
        assert part in names, part
    assert b"backend.changed" in seen["alpha.log"]


@pytest.mark.parametrize("token", ["s." + "a1" * 12, "hvs." + "A" * 95, "b." + "Q_-9" * 30])
def test_token_when_it_stands_in_a_log_is_found(token: str) -> None:
    """The search that the test above rests on."""
    assert TOKEN.findall(json.dumps({"detail": f"POST x: {token}"}).encode()) == [token.encode()]

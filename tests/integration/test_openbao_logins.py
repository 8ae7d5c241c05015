"""How a node gets in on a real server: its certificate, a credential that somebody brings, its address."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from custody.errors import CustodyError, IntegrityError, MalformedError
from custody.wallet import Network
from deploy.ca import make_ca
from signer_node.backends import open_backend
from signer_node.backends.port import Access, Backend, State, VaultAccess
from signer_node.backends.private_file import wrapped_from_file, write_private_once
from signer_node.backends.vault_client import VaultSession
from signer_node.config import NodeConfig, VaultCertConfig, VaultConfig, load_config
from signer_node.credential import bring
from tests.fakes.cleared import cleared
from tests.fakes.vault_nodes import VaultNode
from tests.integration.conftest import SEED, Bao

pytestmark = pytest.mark.slow


async def _refusal(backend: Backend) -> tuple[str, State]:
    """Return the code with which `backend` refuses to sign, and the state it reports."""
    with pytest.raises(CustodyError) as refused:
        await backend.sign(cleared(SEED))
    return refused.value.code, (await backend.health()).state


# --- By certificate ----------------------------------------------------------------------------------------------


async def test_certificate_when_it_is_the_nodes_own_lets_it_in_again_and_again(bao: Bao, tmp_path: Path) -> None:
    """Nobody brings anything: after all its tokens were cut off the node comes back by itself."""
    node = bao.node("kv", 3)
    backend = open_backend(node.uri, node.certificate_access(*bao.ca.issue("kv-3", "signer", tmp_path, False)))
    before = await backend.sign(cleared(SEED))

    node.server.call("PUT", "sys/leases/revoke-prefix/auth/cert/login", node.server.operator_token, {})

    assert await backend.sign(cleared(SEED)) == before
    assert (await backend.health()).state is State.READY


@pytest.mark.parametrize(
    ("name", "role"), [("kv-1", "signer"), ("kv-3", "coordinator"), ("kv-3", "operator")], ids=lambda text: str(text)
)
async def test_certificate_when_it_is_anothers_is_refused(bao: Bao, tmp_path: Path, name: str, role: str) -> None:
    """The chain admits the whole organisation: name and URI must both be those of this node."""
    node = bao.node("kv", 3)
    backend = open_backend(node.uri, node.certificate_access(*bao.ca.issue(name, role, tmp_path, False)))

    assert await _refusal(backend) == ("VAULT_LOGIN_REFUSED", State.DENIED)


async def test_certificate_when_another_authority_issued_it_is_refused(bao: Bao, tmp_path: Path) -> None:
    """Whatever names it bears."""
    node, other = bao.node("kv", 3), make_ca(tmp_path / "other")
    backend = open_backend(node.uri, node.certificate_access(*other.issue("kv-3", "signer", tmp_path, False)))

    assert await _refusal(backend) == ("VAULT_LOGIN_REFUSED", State.DENIED)


async def test_certificate_when_it_has_expired_is_refused_until_its_file_is_replaced(bao: Bao, tmp_path: Path) -> None:
    """The running node needs no restart: each login reads the file."""
    node = bao.node("kv", 3)
    stale = bao.ca.issue("kv-3", "signer", tmp_path / "stale", server=False, lifetime_s=-10)
    fresh = bao.ca.issue("kv-3", "signer", tmp_path / "fresh", server=False)
    backend = open_backend(node.uri, node.certificate_access(*stale))
    assert await _refusal(backend) == ("VAULT_CERTIFICATE", State.DENIED)

    for old, new in zip(stale, fresh, strict=True):
        shutil.copy(new, old)

    assert len(await backend.sign(cleared(SEED))) == 3


# --- A credential that somebody brings -----------------------------------------------------------------------------


def _config(node: VaultNode, directory: Path) -> NodeConfig:
    """Return the configuration of `node` from a file, as its operator writes it."""
    role = node.role().name
    lines = [
        f'name = "{node.name}"',
        'network = "regtest"',
        'state = "state"',
        f'backend = "{node.uri}"',
        "[vault]",
        f'ca = "{node.server.ca_path}"',
        f'role = "{role}"',
        f'role_id = "{node.server.role_ids[role]}"',
        'wrapped_secret_id = "signer.wrapped"',
    ]
    (directory / "node.toml").write_text("\n".join(lines))
    return load_config(directory / "node.toml")


def _wrapped_at(config: NodeConfig) -> Path:
    assert isinstance(config.vault, VaultConfig)
    return config.vault.wrapped_secret_id


async def test_credential_when_brought_to_a_running_node_is_taken_and_used_when_the_old_one_ends(
    node: VaultNode, tmp_path: Path
) -> None:
    """The old secret_id is destroyed at the server: the node goes on with the one that was brought in time."""
    config = _config(node, tmp_path)
    path = _wrapped_at(config)
    write_private_once(path, node.server.wrapped_secret(node.role()).encode())
    access = VaultAccess(
        node.server.ca_path, node.role().name, node.server.role_ids[node.role().name], wrapped_from_file(path),
        path.exists,
    )  # fmt: skip
    async with open_backend(node.uri, Access(node.name, Network.REGTEST, vault=access)) as backend:
        before = await backend.sign(cleared(SEED))

        assert await asyncio.to_thread(bring, config, node.server.wrapped_secret(node.role()), False, 60.0)

        root = node.server.root_token()
        held = node.server.call("LIST", f"auth/approle/role/{node.role().name}/secret-id", root)["data"]["keys"]
        uses = {one: _born(node, root, one) for one in held}
        for accessor in sorted(uses, key=lambda one: uses[one])[:-1]:  # all but the newest
            path_of = f"auth/approle/role/{node.role().name}/secret-id-accessor/destroy"
            node.server.call("POST", path_of, root, {"secret_id_accessor": accessor})
        node.server.call("PUT", "sys/leases/revoke-prefix/auth/approle/login", root, {})
        node.server.call("POST", "auth/token/revoke-self", root, {})

        assert await backend.sign(cleared(SEED)) == before


def _born(node: VaultNode, root: str, accessor: str) -> str:
    path = f"auth/approle/role/{node.role().name}/secret-id-accessor/lookup"
    return str(node.server.call("POST", path, root, {"secret_id_accessor": accessor})["data"]["creation_time"])


async def test_credential_when_the_waiting_one_was_used_before_is_an_incident_of_a_running_node(
    bao: Bao, tmp_path: Path
) -> None:
    """Its login still works, and yet it says INTEGRITY: somebody had what was meant for it. A fresh one ends that."""
    node = bao.node("kv")
    config = _config(node, tmp_path)
    path, session = _wrapped_at(config), _session(node, _wrapped_at(config))
    write_private_once(path, node.server.wrapped_secret(node.role()).encode())
    session.renew()
    used = node.server.wrapped_secret(node.role())
    node.server.call("POST", "sys/wrapping/unwrap", used, {})
    keeping = asyncio.create_task(session.keep_fresh())
    try:
        write_private_once(path, used.encode())
        assert await _check_until(session, "WRAP_USED") == "WRAP_USED"
        assert session.request("GET", "auth/token/lookup-self")

        assert await asyncio.to_thread(bring, config, node.server.wrapped_secret(node.role()), False, 60.0)
        assert await _check_until(session, "") == ""
    finally:
        keeping.cancel()
        session.close()


async def _check_until(session: VaultSession, wanted: str) -> str:
    """Return what `check` says as soon as it says `wanted`, or after 60 s."""
    end, found = time.monotonic() + 60, "-"
    while time.monotonic() < end and found != wanted:
        await asyncio.sleep(0.2)
        try:
            await asyncio.to_thread(session.check)
            found = ""
        except CustodyError as error:
            found = error.code
    return found


def _session(node: VaultNode, path: Path) -> VaultSession:
    access = node.vault_access(node.role())
    return VaultSession(node.server.address, replace(access, wrapped=wrapped_from_file(path), is_waiting=path.exists))


def test_credential_when_it_was_used_or_is_anothers_is_not_put_there(bao: Bao, tmp_path: Path) -> None:
    """A person sees it, at once, and the running node never does."""
    node, other = bao.node("kv"), bao.node("kv", 2)
    config = _config(node, tmp_path)
    used = node.server.wrapped_secret(node.role())
    node.server.call("POST", "sys/wrapping/unwrap", used, {})

    for token, code in ((used, "WRAP_USED"), (other.server.wrapped_secret(other.role()), "WRAP_FOREIGN")):
        with pytest.raises(IntegrityError, match=code):
            bring(config, token, within_s=0)
        assert not _wrapped_at(config).exists()


def test_credential_when_given_by_command_replaces_one_that_nobody_took(bao: Bao, tmp_path: Path) -> None:
    """From stdin, never from the command line, where every user of the machine reads it; mode 0600; still unused."""
    node = bao.node("kv")
    config = _config(node, tmp_path)
    write_private_once(_wrapped_at(config), b"s.stale")
    token = node.server.wrapped_secret(node.role())
    command = [sys.executable, "-c", "from signer_node import credential; credential.TAKEN_WITHIN_S = 0;"
               "from signer_node.__main__ import main; raise SystemExit(main())"]  # fmt: skip

    ran = subprocess.run(
        [*command, "credential", "--config", str(tmp_path / "node.toml")],
        input=token.encode() + b"\n",
        capture_output=True,
        check=True,
    )

    assert json.loads(ran.stdout) == {"node": "kv-1", "taken": False}
    assert _wrapped_at(config).read_bytes() == token.encode()
    assert _wrapped_at(config).stat().st_mode & 0o777 == 0o600
    assert node.server.call("POST", "sys/wrapping/unwrap", token, {})["data"]["secret_id"]


def test_credential_when_the_node_enters_by_certificate_is_needless(bao: Bao, tmp_path: Path) -> None:
    """The command says so instead of writing a file that nobody reads."""
    config = _config(bao.node("kv"), tmp_path)
    by_certificate = VaultCertConfig(tmp_path, "x", tmp_path, tmp_path)

    with pytest.raises(MalformedError, match="CREDENTIAL_NONE"):
        bring(replace(config, vault=by_certificate), "s.x")


# --- Its address ---------------------------------------------------------------------------------------------------


async def test_login_from_another_address_than_the_roles_is_refused(bao: Bao) -> None:
    """The right secret_id from the wrong machine: refused, and the node says so."""
    node = bao.node("kv", 4)

    assert await _refusal(open_backend(node.uri, node.access())) == ("VAULT_LOGIN_REFUSED", State.DENIED)

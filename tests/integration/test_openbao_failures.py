"""A real server that is sealed, stopped, untrusted, or refuses: each is one state and one code, never a signature."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from custody.errors import CustodyError, DeniedError, IntegrityError, UnavailableError
from deploy.ca import make_ca
from signer_node.backends import open_backend
from signer_node.backends.port import Access, Backend, State, VaultAccess
from signer_node.backends.vault_client import MAX_REFUSED_LOGINS, VaultSession
from tests.fakes.cleared import cleared
from tests.fakes.vault_nodes import VaultNode
from tests.integration.conftest import SEED, Bao

pytestmark = pytest.mark.slow


async def _refusal(backend: Backend) -> tuple[str, State]:
    """Return the code with which `backend` refuses to sign, and the state it reports."""
    with pytest.raises(CustodyError) as refused:
        await backend.sign(cleared(SEED))
    return refused.value.code, (await backend.health()).state


async def until_ready(backend: Backend) -> None:
    """Return when the health of `backend` is READY, as a node's heartbeat would find it."""
    async with asyncio.timeout(60):
        while (await backend.health()).state is not State.READY:  # noqa: ASYNC110 - a server tells only who asks
            await asyncio.sleep(0.2)


def _vault(access: Access) -> VaultAccess:
    assert isinstance(access.vault, VaultAccess)
    return access.vault


async def test_sign_when_the_server_is_stopped_is_unreachable_and_heals(node: VaultNode) -> None:
    """Refused connections cost the pauses of an election, no timeouts."""
    backend = open_backend(node.uri, node.access())
    before = await backend.sign(cleared(SEED))
    await asyncio.to_thread(node.server.stop)
    try:
        began = time.monotonic()
        assert await _refusal(backend) == ("VAULT_UNREACHABLE", State.UNREACHABLE)
        assert time.monotonic() - began < 6
    finally:
        await asyncio.to_thread(node.server.restart)

    await until_ready(backend)  # its breaker was open
    assert await backend.sign(cleared(SEED)) == before


async def test_sign_when_the_server_hangs_is_unreachable_and_heals(bao: Bao) -> None:
    """A frozen server costs one timeout per call, not for ever; thawed, it serves a new session."""
    node = bao.node("transit")
    backend = open_backend(node.uri, node.access())
    before = await backend.sign(cleared(SEED))
    node.server.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert await _refusal(backend) == ("VAULT_UNREACHABLE", State.UNREACHABLE)
        assert time.monotonic() - began < 12  # 5 s for the call, at most 4 s for the health
    finally:
        node.server.process.send_signal(signal.SIGCONT)

    assert await open_backend(node.uri, node.access()).sign(cleared(SEED)) == before


async def test_sign_when_policy_forbids_is_denied_without_a_retry(bao: Bao, node: VaultNode) -> None:
    """A living token of another node is told from a dead one: no new login, no argument."""
    other = bao.node(node.kind, 2)
    asked: list[str] = []
    access = other.vault_access(other.role())

    def wrapped() -> str:
        asked.append("once")
        return access.wrapped()

    backend = open_backend(node.uri, replace(node.access(), vault=replace(access, wrapped=wrapped)))

    assert await _refusal(backend) == ("VAULT_DENIED", State.DENIED)
    assert asked == ["once"]


async def test_sign_when_its_token_was_revoked_logs_in_anew_once(node: VaultNode) -> None:
    """An incident switch cuts tokens off; a node that still has its secret_id comes back by itself."""
    backend = open_backend(node.uri, node.access())
    before = await backend.sign(cleared(SEED))

    node.server.call("PUT", "sys/leases/revoke-prefix/auth/approle/login", node.server.operator_token, {})

    assert await backend.sign(cleared(SEED)) == before


async def test_session_when_logins_are_refused_locks_itself_out(node: VaultNode) -> None:
    """Three refusals, then no attempt for a minute: refused on purpose is not to be hammered."""
    now, tries = [100.0], []
    access = _vault(node.access())

    def wrapped() -> str:
        tries.append(now[0])
        return access.wrapped()

    session = VaultSession(
        node.server.address, replace(access, role_id="not-ours", wrapped=wrapped), monotonic=lambda: now[0]
    )

    def refused() -> str:
        with pytest.raises(DeniedError) as error:
            session.renew()
        return error.value.code

    assert [refused() for _ in range(MAX_REFUSED_LOGINS + 2)] == ["VAULT_LOGIN_REFUSED"] * (MAX_REFUSED_LOGINS + 2)
    assert len(tries) == MAX_REFUSED_LOGINS
    now[0] += 61
    refused()
    assert len(tries) == MAX_REFUSED_LOGINS + 1


async def test_session_when_its_credential_is_spent_asks_for_a_fresh_one(node: VaultNode) -> None:
    """After its secret_id is refused, the node wants a new wrapping token; its own used one is no incident."""
    token = node.server.wrapped_secret(node.role())
    session = VaultSession(node.server.address, _with_token(node, token))
    session.renew()
    session.close()

    with pytest.raises(DeniedError, match="VAULT_NO_CREDENTIAL"):
        session.renew()


async def test_session_when_the_server_is_of_another_authority_says_nothing_to_it(
    node: VaultNode, tmp_path: Path
) -> None:
    """No fallback: a certificate from elsewhere is INTEGRITY, and no credential was sent or spent."""
    other = make_ca(tmp_path)
    access = replace(_vault(node.access()), ca_path=other.certificate_path)
    backend = open_backend(node.uri, replace(node.access(), vault=access))

    assert await _refusal(backend) == ("VAULT_UNTRUSTED", State.INTEGRITY)


@pytest.mark.parametrize("gap_s", [-40, 40])
async def test_session_when_clocks_differ_says_so(node: VaultNode, gap_s: int) -> None:
    """Beyond 30 s, lifetimes mean different things on both sides."""
    session = VaultSession(node.server.address, _vault(node.access()), utc=lambda: time.time() + gap_s)

    with pytest.raises(UnavailableError) as refused:
        session.check()

    assert refused.value.code == "VAULT_CLOCK"


async def test_backend_when_kept_open_outlives_its_tokens(short_lived: Bao) -> None:
    """Tokens of 6 s that end at 15 s are renewed, then replaced, before any call meets a dead one."""
    node = short_lived.node("transit")
    seen = node.server.audit_log.stat().st_size

    async with open_backend(node.uri, node.access()) as backend:
        before = await backend.sign(cleared(SEED))
        for _ in range(18):
            await asyncio.sleep(1)
            assert (await backend.health()).state is State.READY
            assert await backend.sign(cleared(SEED)) == before

    lines = node.server.audit_log.read_bytes()[seen:].splitlines()
    answers = [entry for entry in map(json.loads, lines) if entry["type"] == "response"]
    paths = [entry["request"]["path"] for entry in answers]
    assert not [entry for entry in answers if entry.get("error")]
    assert 2 <= paths.count("auth/approle/login") <= 4
    assert paths.count("auth/token/renew-self") >= 2
    assert paths.count("sys/wrapping/unwrap") == 1


async def test_backend_when_left_gives_its_token_back(node: VaultNode) -> None:
    """After the context, the token that was used is dead at the server."""
    session = VaultSession(node.server.address, _vault(node.access()))
    session.renew()
    token = session._token
    assert token is not None
    session.close()

    with pytest.raises(UnavailableError, match="403"):
        node.server.call("GET", "auth/token/lookup-self", token.value)


def _with_token(node: VaultNode, token: str) -> VaultAccess:
    return replace(_vault(node.access()), wrapped=lambda: token)


def _unused(node: VaultNode) -> VaultAccess:
    """Return an access whose wrapping token is made up: a sealed server must be told before it matters."""
    return replace(_vault(node.access()), wrapped=lambda: "s.made-up")


def test_integrity_error_when_told_holds_no_token(node: VaultNode) -> None:
    """The message and the chain of an incident name no credential."""
    token = node.server.wrapped_secret(node.role())
    node.server.call("POST", "sys/wrapping/unwrap", token, {})
    session = VaultSession(node.server.address, _with_token(node, token))

    with pytest.raises(IntegrityError) as refused:
        session.renew()

    chain = [refused.value, refused.value.__cause__, refused.value.__context__]
    assert all(token not in repr(one) and token not in str(vars(one) if one else "") for one in chain)

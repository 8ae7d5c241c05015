"""Attacks on the way to a key in Vault, on a real server: each is one code, and no signature leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from custody import curve
from custody.errors import CustodyError
from signer_node.backends import open_backend
from signer_node.backends.port import Access, Backend, State, VaultAccess
from signer_node.backends.private_file import wrapped_from_file, write_private_once
from tests.fakes.cleared import cleared
from tests.fakes.vault_nodes import VaultNode
from tests.integration.conftest import SEED, Bao, bao, node

__all__ = ["bao", "node"]  # fixtures

pytestmark = pytest.mark.slow


async def _refusal(backend: Backend) -> tuple[str, State]:
    """Return the code with which `backend` refuses to sign, and the state it reports."""
    with pytest.raises(CustodyError) as refused:
        await backend.sign(cleared(SEED))
    return refused.value.code, (await backend.health()).state


def _vault(access: Access) -> VaultAccess:
    assert isinstance(access.vault, VaultAccess)
    return access.vault


def _with_token(node: VaultNode, token: str) -> VaultAccess:
    return replace(_vault(node.access()), wrapped=lambda: token)


def _unused(node: VaultNode) -> VaultAccess:
    """Return an access whose wrapping token is made up: a sealed server must be told before it matters."""
    return _with_token(node, "s.made-up")


async def test_atk_111_wrapping_token_used_before_us_is_an_incident(node: VaultNode) -> None:
    """Somebody unwrapped it on the way: INTEGRITY, and nothing is tried again with it."""
    access = _vault(node.access())
    token = access.wrapped()
    node.server.call("POST", "sys/wrapping/unwrap", token, {})
    backend = open_backend(node.uri, replace(node.access(), vault=replace(access, wrapped=lambda: token)))

    assert await _refusal(backend) == ("WRAP_USED", State.INTEGRITY)


async def test_atk_111_interception_stays_in_view_until_a_fresh_token_comes(node: VaultNode, tmp_path: Path) -> None:
    """The incident does not turn into a mere lack of credentials; a fresh token ends it."""
    path = tmp_path / "wrapped"
    access = replace(_vault(node.access()), wrapped=wrapped_from_file(path))
    backend = open_backend(node.uri, replace(node.access(), vault=access))
    assert await _refusal(backend) == ("VAULT_NO_CREDENTIAL", State.DENIED)
    used = node.server.wrapped_secret(node.role())
    node.server.call("POST", "sys/wrapping/unwrap", used, {})

    write_private_once(path, used.encode())
    assert await _refusal(backend) == ("WRAP_USED", State.INTEGRITY)
    assert await _refusal(backend) == ("WRAP_USED", State.INTEGRITY)

    write_private_once(path, node.server.wrapped_secret(node.role()).encode())
    assert (await backend.health()).state is State.READY


async def test_atk_111_wrapping_token_expired_is_an_incident(node: VaultNode) -> None:
    """The server cannot tell expired from used; neither is retried."""
    token = node.server.wrapped_secret(node.role(), ttl_s=1)
    await asyncio.sleep(1.5)
    backend = open_backend(node.uri, replace(node.access(), vault=_with_token(node, token)))

    assert await _refusal(backend) == ("WRAP_USED", State.INTEGRITY)


async def test_atk_111_wrapping_token_of_another_role_is_not_unwrapped(bao: Bao, node: VaultNode) -> None:
    """A re-wrapped or foreign secret is seen by its creation path, and is not unwrapped."""
    other = bao.node(node.kind, 2)
    token = other.server.wrapped_secret(other.role())
    backend = open_backend(node.uri, replace(node.access(), vault=_with_token(node, token)))

    assert await _refusal(backend) == ("WRAP_FOREIGN", State.INTEGRITY)
    assert other.server.call("POST", "sys/wrapping/unwrap", token, {})["data"]["secret_id"]


async def test_atk_109_environment_names_another_token_and_server_is_ignored(
    node: VaultNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither VAULT_TOKEN nor a proxy nor a CA bundle of the environment changes where we go or as whom."""
    (tmp_path / ".vault-token").write_text("s.stolen")
    for name, value in {
        "VAULT_TOKEN": "s.stolen",
        "VAULT_ADDR": "https://127.0.0.1:1",
        "HOME": str(tmp_path),
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
        "REQUESTS_CA_BUNDLE": "/nonexistent",
        "VAULT_CACERT": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)

    assert len(await open_backend(node.uri, node.access()).sign(cleared(SEED))) == 3


async def test_atk_110_server_sealed_in_between_signs_nothing_and_heals(node: VaultNode) -> None:
    """SEALED at once, without a login attempt; after unsealing the same backend signs the same bytes."""
    backend = open_backend(node.uri, node.access())
    before = await backend.sign(cleared(SEED))
    await asyncio.to_thread(node.server.seal)
    try:
        assert await _refusal(backend) == ("VAULT_SEALED", State.SEALED)
        assert await _refusal(open_backend(node.uri, replace(node.access(), vault=_unused(node)))) == (
            "VAULT_SEALED",
            State.SEALED,
        )
    finally:
        await asyncio.to_thread(node.server.restart)

    assert await backend.sign(cleared(SEED)) == before
    assert (await backend.health()).state is State.READY


async def test_atk_112_vault_answers_with_another_seed_signs_nothing(
    node: VaultNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wallet holds the key of a seed that this server does not have: not one digest is signed."""
    wallets_seed = bytes(range(32))
    monkeypatch.setattr(curve, "ecdsa_sign_children", _never)

    with pytest.raises(CustodyError) as refused:
        await open_backend(node.uri, node.access()).sign(cleared(wallets_seed))

    assert refused.value.code == "KEY_NOT_MINE"


def _never(jobs: Iterable[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    raise AssertionError("expected no signature")

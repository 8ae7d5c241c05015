"""A node checks its own backend's signatures, many of them in a process of their own that cannot say yes by dying."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from custody import curve
from custody.errors import UnavailableError
from signer_node.checking import Checking, Claim
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW
from tests.integration.harness import genesis_of, open_node
from tests.world import World

GENESIS = genesis_of()

SECRET, DIGESTS = bytes(range(1, 33)), [bytes([at]) * 32 for at in range(3)]
PUBKEY = curve.public_key(SECRET)
ECDSA = [(PUBKEY, digest, curve.ecdsa_sign(SECRET, digest) + b"\x01") for digest in DIGESTS]
SCHNORR = [(PUBKEY[1:], digest, curve.schnorr_sign(SECRET, digest)) for digest in DIGESTS]
CLAIMS = {
    "ecdsa": (ECDSA, True),
    "schnorr": (SCHNORR, True),
    "another digest": ([*ECDSA, (PUBKEY, DIGESTS[0], ECDSA[1][2])], False),
    "another sighash byte": ([*ECDSA, (PUBKEY, DIGESTS[0], ECDSA[0][2][:-1] + b"\x03")], False),
    "another schnorr digest": ([*SCHNORR, (PUBKEY[1:], DIGESTS[0], SCHNORR[1][2])], False),
}


@pytest_asyncio.fixture
async def checking() -> AsyncIterator[Checking]:
    """A checker to which two signatures are many."""
    found = Checking(many=2)
    yield found
    await found.close()


@pytest.mark.parametrize("name", CLAIMS)
async def test_all_signed_given_many_says_what_this_process_would(checking: Checking, name: str) -> None:
    """Where signatures are checked changes nothing; one bad one is enough for a no."""
    claims, expected = CLAIMS[name]

    assert await checking.all_signed(claims) is expected
    assert await Checking(many=100).all_signed(claims) is expected


def dies(claims: list[Claim]) -> bool:
    """End the process that this runs in, as the kernel does to one that takes too much memory."""
    os._exit(9)


async def test_node_whose_worker_dies_then_nothing_leaves_and_asked_again_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead worker is no yes: the node answers nothing, and gives the same signatures once it has a new one."""
    world = World(GENESIS)
    spend = world.spend(world.withdrawal())
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    node._checking = Checking(many=1)
    with monkeypatch.context() as dying:
        dying.setattr("signer_node.checking.all_signed", dies)
        with pytest.raises(UnavailableError, match="WORKER_DIED"):
            await node.answer(spend.bundle().to_bytes())

    assert (await node.answer(spend.bundle().to_bytes())).outcome == spend.signatures("alpha")
    await node.close()
    assert node._checking._pool is None

"""A node over every backend: what was not asked, approved and released is refused, by code, and no key is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from custody.bundle import Bundle
from custody.errors import CustodyError, Refused
from custody.genesis import Genesis
from custody.signatures import InputSignature
from custody.statements import Signed
from signer_node.backends.port import Backend, BackendRefused
from signer_node.clock import Clock, SystemClock
from signer_node.followed import Followed
from signer_node.journal import Journal
from signer_node.judge import Pinned
from signer_node.node import Node
from tests.attacks.test_every_signer import ATTACKS, GENESIS, answers
from tests.contracts.conftest import Place
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, seed_of
from tests.fakes.today import Today

ME = "alpha"
STRIDE = (
    13  # bits between two that are changed: every place of a byte in turn; all bits: tests/attacks/test_every_bit.py
)
ENGINE_STRIDE = 29  # each is a call to a server


def node_over(backend: Backend, genesis: Genesis, directory: Path, clock: Clock) -> Node:
    """Return node alpha with its key behind `backend`."""
    followed, journal = Followed(directory / "followed.log", genesis), Journal(directory / "journal.log", genesis.hash)
    return Node(Pinned(genesis, ME), seed_of(ME), followed, journal, backend, clock)


def changed(signed: Signed, stride: int) -> Iterator[Signed]:
    """Yield `signed` with one bit of its statement, or of its signature, changed; every `stride`-th bit."""
    (endorsement,) = signed.endorsements
    for at in range(0, len(signed.raw) * 8, stride):
        yield replace(signed, raw=_flipped(signed.raw, at))
    for at in range(0, len(endorsement.signature) * 8, stride):
        yield replace(signed, endorsements=(replace(endorsement, signature=_flipped(endorsement.signature, at)),))


def _flipped(raw: bytes, at: int) -> bytes:
    return raw[: at // 8] + bytes([raw[at // 8] ^ 1 << at % 8]) + raw[at // 8 + 1 :]


def with_a_bit_changed(bundle: Bundle, stride: int) -> Iterator[Bundle]:
    """Yield `bundle` with a bit of its withdrawal, then of its approval, changed."""
    (approval,) = bundle.approvals
    yield from (replace(bundle, withdrawal=lie) for lie in changed(bundle.withdrawal, stride))
    yield from (replace(bundle, approvals=(lie,)) for lie in changed(approval, stride))


async def is_signed(node: Node, bundle: Bundle) -> bool:
    """Return whether `node` signs for `bundle`."""
    try:
        return not isinstance((await node.answer(bundle.to_bytes())).outcome, Refused)
    except CustodyError:
        return False


@pytest.mark.parametrize("attack", ATTACKS)
async def test_node_given_made_up_people_refuses_over_every_backend(place: Place, attack: str, tmp_path: Path) -> None:
    """The six things that a hostile coordinator does with withdrawals and people, each by its code."""
    node = node_over(place.open(), GENESIS, tmp_path, FakeClock(NOW))

    assert await answers(node, ME, attack) == ATTACKS[attack][1]


async def test_node_given_any_bit_changed_refuses_over_every_backend(
    place: Place, today: Today, tmp_path: Path
) -> None:
    """Payee, amount, fee, floor of the rules, end, decision, person: the same node then signs what was not changed."""
    bundle = today.spend().approved_by("bob").bundle(node=ME)
    node = node_over(place.open(), today.genesis, tmp_path, SystemClock())

    for lie in with_a_bit_changed(bundle, STRIDE):
        assert not await is_signed(node, lie)
    assert await is_signed(node, bundle)


@pytest.mark.slow
async def test_engine_asked_past_its_node_given_any_bit_changed_refuses(engine_place: Place, today: Today) -> None:
    """The engine judges for itself: whoever holds the node's token gets no signature for what nobody signed."""
    spend = today.spend().approved_by("bob")
    bundle, backend = spend.bundle(node=ME), engine_place.open()
    cleared = today.judged(bundle)

    for lie in with_a_bit_changed(bundle, ENGINE_STRIDE):
        with pytest.raises((BackendRefused, CustodyError)):
            await backend.sign(replace(cleared, raw_bundle=lie.to_bytes()))
    signed: tuple[InputSignature, ...] = await backend.sign(replace(cleared, raw_bundle=bundle.to_bytes()))
    assert len(signed) == 1

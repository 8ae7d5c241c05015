"""What a hostile coordinator does with withdrawals and people: every signer refuses it, by code.

It holds the log key and every key of its own, writes the log as it likes and has it cosigned. The nodes are real; each
case runs at all three; tests/contracts/test_refusals.py runs them over every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.bundle import Bundle
from custody.errors import CustodyError, Refused
from custody.genesis import Genesis
from custody.statements import Kind, Signed, endorse, sign
from custody.withdrawal import Relation, RelationKind, Withdrawal
from signer_node.node import Node
from tests.fakes.authenticators import ORIGIN, RP_ID, Passkey, desk_seed
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY, document, key_of, rule, seed_of
from tests.governing import after, document_of, log_rules, user_of
from tests.integration.harness import genesis_of, open_node
from tests.world import EXCHANGE, LOG_SEED, NODES, Spend, World, approval, signed_by_initiator

TWO_EYES = rule(
    "eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
LARGE = ((EXCHANGE, 15_000_000),)
COPIES = 5
Bundles = Iterator[Callable[[str], Bundle]]
"""Bundles of one attack, each for the node that is named."""


def _genesis() -> Genesis:
    """Return a genesis in which bob and carol have passkeys, beside the keys of their desks, and nothing else."""
    found = document()
    for user in found["principals"]["users"]:
        if user["name"] in ("bob", "carol"):
            user["credentials"] = [Passkey(user["name"]).credential()]
    roots = {"rp_ids": [RP_ID, "coordinator.example"], "origins": [ORIGIN, "https://coordinator.example"]}
    return genesis_of(PAY, TWO_EYES, principals=found["principals"], roots=roots)


GENESIS = _genesis()


def by_passkey(asked: Withdrawal, person: str, page: str = ORIGIN, *, desk: bool = True) -> Signed:
    """Return a person's approval of `asked`. page: the origin that asked for it.  desk: whether theirs showed it."""
    bare = replace(approval(asked, person, NOW), endorsements=())
    shown = (endorse(bare.kind, bare.raw, desk_seed(person)),) if desk else ()
    return replace(bare, endorsements=(Passkey(person, client={"origin": page}).endorse(bare.digest), *shown))


def carrying(spend: Spend, withdrawal: Signed | None = None, approvals: tuple[Signed, ...] = ()) -> Any:
    """Log a release of `spend` that names `approvals`; return what makes its bundle for a node."""
    withdrawal = withdrawal or signed_by_initiator(spend.asked)
    index = spend.release(withdrawal, *approvals, approvals=tuple(said.digest for said in approvals))
    return lambda node: spend.bundle(index, node, withdrawal=withdrawal, approvals=approvals)


def minted(world: World) -> Bundles:
    """A withdrawal in alice's name that the coordinator signs."""
    spend = world.spend(world.withdrawal())
    yield carrying(spend, sign(Kind.WITHDRAWAL, spend.asked.to_json(), LOG_SEED))


def copied(world: World) -> Bundles:
    """A real withdrawal under other ids, with the signature of the real one."""
    real = signed_by_initiator(world.withdrawal())
    for number in range(COPIES):
        spend = world.spend(
            world.withdrawal(withdrawal_id=f"copy-{number}"), (world.coin(number),), change_index=number
        )
        copy = replace(signed_by_initiator(spend.asked), endorsements=real.endorsements)
        yield carrying(spend, copy)


def renamed(world: World) -> Bundles:
    """A withdrawal of alice's that names dave as its initiator, so that alice may approve it."""
    real = world.withdrawal(*LARGE)
    spend = world.spend(replace(real, initiator="dave"))
    signed = replace(signed_by_initiator(spend.asked), endorsements=signed_by_initiator(real).endorsements)
    yield carrying(spend, signed, (approval(spend.asked, "alice", NOW), by_passkey(spend.asked, "bob")))


def proposed_again(world: World) -> Bundles:
    """A released withdrawal "failed": released again from other coins, then asked for again by its initiator."""
    asked = world.withdrawal()
    world.spend(asked).release()
    yield carrying(world.spend(asked, (world.coin(1),), change_index=1))
    asked_again = world.withdrawal(withdrawal_id="w-2")
    yield carrying(world.spend(asked_again, (world.coin(2),), change_index=2))
    other = world.withdrawal(withdrawal_id="w-3", relation=Relation(RelationKind.ADDITIONAL, (bytes(32),)))
    yield carrying(world.spend(other, (world.coin(3),), change_index=3))


def asked_for_another(world: World) -> Bundles:
    """The coordinator's own page, whose origin the rules list, shows W1 and asks passkeys for W2."""
    spend = world.spend(world.withdrawal(*LARGE, withdrawal_id="w-2"))
    page = "https://coordinator.example"
    yield carrying(spend, None, tuple(by_passkey(spend.asked, who, page) for who in ("bob", "carol")))
    blind = world.spend(world.withdrawal(*LARGE, withdrawal_id="w-3"), (world.coin(1),), change_index=1)
    yield carrying(blind, None, tuple(by_passkey(blind.asked, who, desk=False) for who in ("bob", "carol")))
    first = world.withdrawal(*LARGE)
    moved = world.spend(world.withdrawal(*LARGE, withdrawal_id="w-4"), (world.coin(2),), change_index=2)
    yield carrying(moved, None, tuple(by_passkey(first, who) for who in ("bob", "carol")))


def registered(world: World) -> Bundles:
    """A key of the coordinator's as carol's: in her approval, and in a rules document that it signs itself."""
    spend = world.spend(world.withdrawal(*LARGE))
    bare = replace(approval(spend.asked, "carol", NOW), endorsements=())
    by_its_own = replace(bare, endorsements=(endorse(bare.kind, bare.raw, LOG_SEED),))
    yield carrying(spend, None, (by_passkey(spend.asked, "bob"), by_its_own))

    def as_carols(found: Any) -> None:
        user_of(found, "carol")["credentials"] = [{"alg": "ed25519", "key": key_of("own").hex(), "seen": True}]

    log_rules(world, sign(Kind.RULES, after(document_of(GENESIS), as_carols), LOG_SEED))
    later = world.spend(world.withdrawal(*LARGE, withdrawal_id="w-2"), (world.coin(1),), change_index=1)
    said = replace(approval(later.asked, "carol", NOW), endorsements=())
    enrolled = replace(said, endorsements=(endorse(said.kind, said.raw, seed_of("own")),))
    yield carrying(later, None, (by_passkey(later.asked, "bob"), enrolled))


ATTACKS: dict[str, tuple[Callable[[World], Bundles], tuple[str, ...]]] = {
    "mints a withdrawal": (minted, ("RELEASE_INADMISSIBLE",)),
    "copies a real one": (copied, ("RELEASE_INADMISSIBLE",) * COPIES),
    "names another initiator": (renamed, ("RELEASE_INADMISSIBLE",)),
    "proposes a failed one again": (proposed_again, ("SECOND_PAYMENT", "ALREADY_PAID", "ALREADY_PAID")),
    "shows one and asks for another": (
        asked_for_another,
        ("RELEASE_INADMISSIBLE", "APPROVALS_MISSING", "RELEASE_INADMISSIBLE"),
    ),
    "registers its own key": (registered, ("RELEASE_INADMISSIBLE", "RELEASE_INADMISSIBLE")),
}


async def answers(node: Node, name: str, attack: str) -> tuple[str, ...]:
    """Return what `node`, which is called `name`, says to each bundle of an attack: codes, or "signed"."""
    found = []
    for bundle_for in ATTACKS[attack][0](World(GENESIS)):
        try:
            outcome = (await node.answer(bundle_for(name).to_bytes())).outcome
        except CustodyError as error:
            found.append(error.code)
        else:
            found.append(outcome.code if isinstance(outcome, Refused) else "signed")
    return tuple(found)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_atk_086_coordinator_that_makes_up_people_is_refused_by_every_signer(
    attack: str, name: str, tmp_path: Path
) -> None:
    """Each bundle by its own code, and none of them leaves a signature in the journal."""
    node = open_node(GENESIS, name, tmp_path, FakeClock(NOW))

    assert await answers(node, name, attack) == ATTACKS[attack][1]
    assert node._journal.signed == ()


async def test_honest_coordinator_is_answered_by_every_signer(tmp_path: Path) -> None:
    """The same people, asked on their own page about what their desks showed: all three nodes sign."""
    world = World(GENESIS)
    spend = world.spend(world.withdrawal(*LARGE))
    bundle_for = carrying(spend, None, tuple(by_passkey(spend.asked, who) for who in ("bob", "carol")))

    for name in NODES:
        answer = await open_node(GENESIS, name, tmp_path, FakeClock(NOW)).answer(bundle_for(name).to_bytes())
        assert isinstance(answer.outcome, tuple)

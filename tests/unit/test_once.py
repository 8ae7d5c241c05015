"""Not a second payment: which transactions may follow which, told by the pure rule that every signer applies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.errors import Refused
from custody.once import REPAYMENT_SECONDS, OwnSignature, pays_once
from custody.release import release_of
from custody.withdrawal import Relation, RelationKind, Withdrawal
from tests.fakes.rules import NOW
from tests.world import Spend, World, make_genesis, supersedes

GENESIS = make_genesis()


@pytest.fixture
def world() -> World:
    """A log with nothing in it."""
    return World(GENESIS)


def told(spend: Spend, lo: int = NOW, mine: tuple[OwnSignature, ...] = (), index: int | None = None) -> str:
    """Return the code with which `spend` is refused, "" where it may be paid."""
    found = pays_once(spend.asked, spend.facts(), spend.world.state(), lo, index, mine)
    return found.code if isinstance(found, Refused) else ""


def own(spend: Spend, family: bytes | None = None) -> OwnSignature:
    """Return what a signer of `spend` remembers."""
    facts = spend.facts()
    return OwnSignature(spend.asked.digest, family or spend.asked.digest, facts.txid, facts.outpoints)


def again(asked: Withdrawal, *listed: Withdrawal) -> Withdrawal:
    """Return a withdrawal that pays the same once more, and names what it knows of."""
    relation = Relation(RelationKind.ADDITIONAL, tuple(sorted(w.digest for w in listed))) if listed else asked.relation
    return replace(asked, withdrawal_id="w-again", relation=relation)


def test_first_payment_then_may_be_made(world: World) -> None:
    """Nothing stands against it, before and after its own release."""
    spend = world.spend(world.withdrawal())
    assert told(spend) == ""
    assert told(spend, index=spend.release()) == ""


def test_fee_bump_that_shares_a_coin_then_may_be_made_and_others_not(world: World) -> None:
    """Any two transactions of a withdrawal conflict: one shared coin is enough, none is a second payment."""
    asked = world.withdrawal()
    world.spend(asked, (world.coin(0), world.coin(1))).release()

    assert told(world.spend(asked, (world.coin(1), world.coin(2)), fee=9_000)) == ""
    assert told(world.spend(asked, (world.coin(2),))) == "SECOND_PAYMENT"


def test_third_transaction_that_shares_with_the_last_only_then_is_refused(world: World) -> None:
    """It must share a coin with EVERY release: a chain of overlaps could pay twice at its ends."""
    asked = world.withdrawal()
    world.spend(asked, (world.coin(0), world.coin(1))).release()
    world.spend(asked, (world.coin(1), world.coin(2)), fee=9_000).release()

    assert told(world.spend(asked, (world.coin(2), world.coin(3)), fee=12_000)) == "SECOND_PAYMENT"
    assert told(world.spend(asked, (world.coin(1), world.coin(3)), fee=12_000)) == ""


def test_signature_of_mine_that_the_log_does_not_know_then_counts_too(world: World) -> None:
    """A log that lost a release does not make a signer forget what it signed."""
    asked = world.withdrawal()
    mine = own(world.spend(asked))

    assert told(world.spend(asked, (world.coin(1),)), mine=(mine,)) == "SECOND_PAYMENT"
    assert told(world.spend(asked, fee=5_000), mine=(mine,)) == ""
    other = world.spend(world.withdrawal(withdrawal_id="w-2"), (world.coin(1),))
    assert told(other, mine=(mine,)) == ""


def test_replacement_then_shares_a_coin_and_ends_what_it_replaces(world: World) -> None:
    """After its release the replaced withdrawal gets none any more, with the same coins or others."""
    first = world.withdrawal()
    released = world.spend(first)
    assert told(world.spend(world.withdrawal(withdrawal_id="w-2", relation=supersedes(first)))) == (
        "NOTHING_TO_SUPERSEDE"
    )
    released.release()
    second = replace(world.withdrawal(withdrawal_id="w-2", relation=supersedes(first)), payments=())

    assert told(world.spend(second, (world.coin(1),))) == "SECOND_PAYMENT"
    bump = world.spend(second, fee=6_000)
    assert told(bump) == ""
    bump.release()
    assert told(world.spend(first, fee=9_000)) == "SUPERSEDED"


def test_same_payment_again_then_lists_every_earlier_one(world: World) -> None:
    """`new` pays nothing twice within 90 days; `additional` names all of them, not some."""
    first = world.withdrawal()
    world.spend(first).release()
    second = again(first, first)
    world.spend(second, (world.coin(1),), change_index=1).release()
    third = replace(again(first), withdrawal_id="w-third")

    def third_with(relation: Relation) -> str:
        return told(world.spend(replace(third, relation=relation), (world.coin(2),)))

    assert third_with(first.relation) == "ALREADY_PAID"
    assert third_with(Relation(RelationKind.ADDITIONAL, (first.digest,))) == "ALREADY_PAID"
    assert third_with(Relation(RelationKind.ADDITIONAL, tuple(sorted((first.digest, second.digest))))) == ""


@pytest.mark.parametrize(("later", "code"), [(REPAYMENT_SECONDS - 1, "ALREADY_PAID"), (REPAYMENT_SECONDS, "")])
def test_same_payment_after_ninety_days_then_is_new(later: int, code: str, world: World) -> None:
    """The window is counted from T of the release to the early end of now."""
    first = world.withdrawal()
    world.spend(first).release()

    assert told(world.spend(again(first), (world.coin(1),)), lo=NOW + later) == code


def test_withdrawal_id_used_for_something_else_then_is_refused(world: World) -> None:
    """One (initiator, id) stands for one withdrawal for ever; another initiator's same id is another name."""
    world.spend(world.withdrawal()).release()
    reused = world.spend(world.withdrawal((12, 70_000)), (world.coin(1),))
    other = world.spend(world.withdrawal((12, 70_000), initiator="bob"), (world.coin(1),))

    assert told(reused) == "WITHDRAWAL_ID_REUSED"
    assert told(other) == ""


def test_release_of_a_transaction_then_holds_every_fact_of_it(world: World) -> None:
    """Whoever recomputes it from the same bytes gets the same entry; any other transaction gives another."""
    spend = world.spend(world.withdrawal(), (world.coin(0), world.coin(1)), fee=3_000, change_index=4)
    facts = spend.facts()
    found = release_of(spend.asked, (b"\x05" * 32,), facts, spend.asked.digest, NOW)

    assert (found.txid, frozenset(found.outpoints)) == (facts.txid, facts.outpoints)
    assert (found.fee_sats, found.max_fee_sats) == (3_000, spend.asked.max_fee_sats)
    assert [index for index, _ in found.change] == [4]
    assert found.total_sats == 50_000 + spend.asked.max_fee_sats
    other = world.spend(spend.asked, (world.coin(0), world.coin(1)), fee=3_001, change_index=4).facts()
    assert found != release_of(spend.asked, (b"\x05" * 32,), other, spend.asked.digest, NOW)

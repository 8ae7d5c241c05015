"""A node's journal: what it signed and the latest time it accepted, through every restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from custody.errors import IntegrityError
from custody.follow import start
from signer_node.journal import Journal
from signer_node.judge import Cleared, Moment, Pinned, judge
from tests.world import World, make_genesis

GENESIS = make_genesis()


def cleared() -> Cleared:
    """Return what the judge clears of a valid bundle."""
    world = World(GENESIS)
    bundle = world.spend(world.withdrawal()).bundle()
    found = judge(bundle, Pinned(GENESIS, "alpha"), start(GENESIS), Moment(world.now, 0), (), world.book).outcome
    assert isinstance(found, Cleared), found
    return found


def reopened(path: Path) -> Journal:
    """Return the journal as a new process reads it."""
    journal = Journal(path, GENESIS.hash)
    journal.close()
    return journal


def test_journal_reopened_then_knows_what_was_signed(tmp_path: Path) -> None:
    """Digest, family, txid and coins come back as they were, with the high-water mark."""
    wanted = cleared()
    journal = Journal(tmp_path / "journal", GENESIS.hash)
    journal.record(wanted)
    journal.close()

    found = reopened(tmp_path / "journal")

    assert found.signed == journal.signed
    (own,) = found.signed
    assert (own.withdrawal_digest, own.family, own.txid, own.outpoints) == (
        wanted.withdrawal_digest,
        wanted.family,
        wanted.txid,
        wanted.outpoints,
    )
    assert found.high_water == wanted.lo


def test_journal_given_a_repeat_then_counts_it_once(tmp_path: Path) -> None:
    """The same again writes nothing; later time raises the mark; earlier time never lowers it."""
    wanted, path = cleared(), tmp_path / "journal"
    journal = Journal(path, GENESIS.hash)
    journal.record(wanted)
    size = path.stat().st_size
    journal.record(wanted)
    journal.record(replace(wanted, lo=wanted.lo - 50))
    assert path.stat().st_size == size
    journal.record(replace(wanted, lo=wanted.lo + 50))
    journal.close()

    found = reopened(path)

    assert len(found.signed) == 1
    assert found.high_water == wanted.lo + 50


def test_journal_given_one_transaction_for_two_withdrawals_then_keeps_both(tmp_path: Path) -> None:
    """Families are remembered apart, whichever transaction they share."""
    wanted = cleared()
    journal = Journal(tmp_path / "journal", GENESIS.hash)
    journal.record(wanted)
    journal.record(replace(wanted, withdrawal_digest=bytes(32), family=bytes(32)))
    journal.close()

    assert [own.family for own in reopened(tmp_path / "journal").signed] == [wanted.family, bytes(32)]


def test_journal_of_another_genesis_then_is_refused(tmp_path: Path) -> None:
    """A node that is pinned anew does not take over another organisation's memory."""
    Journal(tmp_path / "journal", bytes(32)).close()

    with pytest.raises(IntegrityError) as refused:
        Journal(tmp_path / "journal", GENESIS.hash)

    assert refused.value.code == "JOURNAL_OTHER"

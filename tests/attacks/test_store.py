"""Attacks on what the coordinator remembers: two claims on one name or coin, and words that come too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.session import Stage, add_signatures, ask, cancel, cosigned, expire, propose
from coordinator.store import Change, Event, Reservation
from coordinator.store.sql import SqlStore
from custody.audit import Log
from custody.errors import ConflictError, Refused
from custody.signatures import InputSignature
from tests.fakes.sessions import NOW, coin, drafted, release_body, released, withdrawal

SIGNATURE = InputSignature(0, b"\x02" * 33, b"\x30\x01")
PROPOSED = Change(NOW, events=(Event("withdrawal.proposed", "payroll"),))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    """The real store, empty."""
    opened = SqlStore.open(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    await opened.close()


async def test_atk_055_two_withdrawals_over_one_coin_cannot_both_be_stored(store: SqlStore) -> None:
    """Of many that want one coin at the same moment, one gets it; the others leave neither session nor entry."""

    async def take(number: int) -> str:
        session = drafted(f"w-{number}")
        wanted = Reservation(frozenset({coin(1), coin(10 + number)}), session.digest, NOW + 60)
        try:
            await store.commit(None, session, PROPOSED, reserve=wanted)
        except ConflictError as error:
            return error.code
        return "taken"

    assert sorted(await asyncio.gather(*map(take, range(8)))) == ["OUTPOINT_RESERVED"] * 7 + ["taken"]
    assert store.head(Log.EVENT).size == 1
    assert len(await store.reserved(NOW)) == 2
    kept = [await store.load(drafted(f"w-{number}").digest) for number in range(8)]
    assert len([session for session in kept if session]) == 1


async def test_atk_068_signature_after_cancel_or_expiry_is_recorded_and_never_combined(store: SqlStore) -> None:
    """A late signature is told by its code, can be logged, and stands in no session, before or after a restart."""
    made, _ = await store.commit(None, drafted(), PROPOSED)
    cancelled = cancel(made.value, NOW)
    assert not isinstance(cancelled, Refused)
    await store.commit(made, cancelled, Change(NOW))
    other, _ = await store.commit(None, drafted("w-2"), PROPOSED)
    signing = ask(cosigned(released(other.value), NOW), "n1", NOW)
    other, _ = await store.commit(other, signing, Change(NOW, money=(release_body(other.value),)))
    await store.commit(other, expire(other.value, NOW), Change(NOW))

    for digest, stage in ((made.value.digest, Stage.CANCELLED), (other.value.digest, Stage.EXPIRED)):
        held = await store.load(digest)
        assert held is not None
        with pytest.raises(ConflictError) as caught:
            add_signatures(held.value, [SIGNATURE], NOW)
        assert caught.value.code == "LATE_SIGNATURE"
        await store.record(Change(NOW, events=(Event("signature.late", "n1", {"withdrawal": digest.hex()}),)))
        assert await store.load(digest) == held
        assert (held.value.stage, held.value.signatures) == (stage, ())


async def test_atk_095_idempotency_key_with_other_content_is_a_conflict(tmp_path: Path) -> None:
    """One (initiator, withdrawal_id) keeps its first digest, across restarts and after its end."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = SqlStore.open(url)
    made, _ = await store.commit(None, drafted(), PROPOSED)
    await store.commit(made, expire(made.value, NOW), Change(NOW))
    await store.close()

    store = SqlStore.open(url)
    other = propose(withdrawal(sats=2_000), NOW)
    with pytest.raises(ConflictError) as caught:
        await store.commit(None, other, PROPOSED)
    again, committed = await store.commit(None, drafted(), PROPOSED)

    assert caught.value.code == "WITHDRAWAL_ID_TAKEN"
    assert (again.value.stage, committed.is_new) == (Stage.EXPIRED, False)
    assert (await store.load(other.digest), store.head(Log.EVENT).size) == (None, 1)
    await store.close()

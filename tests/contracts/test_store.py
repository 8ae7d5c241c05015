"""The store's promises, held by every adapter and by the fake that tests of the flow use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.session import Stage, approve, ask, cosigned, deny, propose, refuse
from coordinator.store import Change, Event, MoneyBody, Page, Reservation, Store, Versioned
from coordinator.store.sql import SqlStore
from custody.audit import (
    Checkpoint,
    Frontier,
    Log,
    Subtrees,
    cosign,
    leaf_hash,
    origin_of,
    sign_checkpoint,
    with_lines,
)
from custody.entries import Document, EntryKind, Notice, Witnessed, parse_entry
from custody.errors import ConflictError, CustodyError, MalformedError, NotFoundError, Refused
from custody.statements import Kind, Signed, sign
from tests.fakes.sessions import (
    GENESIS,
    NOW,
    PSBT,
    SEED,
    WALLET,
    approval,
    coin,
    drafted,
    release_body,
    released,
    withdrawal,
)
from tests.fakes.store import FakeStore

EVERYTHING = 2**30
PROPOSED = Event("withdrawal.proposed", "payroll", {"amount_sats": 1_000})
NOTHING = Change(NOW)
ADAPTERS: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda path: SqlStore.open(f"sqlite:///{path / 'store.db'}"),
    "memory": lambda _: FakeStore(),
}


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """One adapter, empty."""
    opened = ADAPTERS[request.param](tmp_path)
    yield opened
    await opened.close()


def freeze(text: str = "stop") -> tuple[MoneyBody, Signed]:
    """Return a money entry and the statement that it names."""
    signed = sign(Kind.FREEZE, {"text": text}, SEED)
    return MoneyBody(EntryKind.FREEZE, Document(signed.digest)), signed


def frozen(text: str = "stop", at: int = NOW) -> Change:
    """Return a change of one money entry."""
    body, signed = freeze(text)
    return Change(at, money=(body,), bodies=(signed,))


def note_of(store: Store, log: Log, at: int = NOW) -> str:
    """Return the log's checkpoint as one witness vouched for it at `at`."""
    tree = store.head(log)
    note = sign_checkpoint(Checkpoint(origin_of(GENESIS, log), tree.size, tree.root), SEED)
    return with_lines(note, [cosign(note, "witness-1", SEED, at)])


async def all_entries(store: Store, log: Log) -> tuple[bytes, ...]:
    """Return the whole log."""
    return await store.entries(log, 0, store.head(log).size, EVERYTHING)


async def code_of(call: object) -> str:
    """Return the code that an awaitable raises."""
    with pytest.raises(CustodyError) as caught:
        await call  # type: ignore[misc]  # every caller hands in a coroutine
    return caught.value.code


async def test_commit_when_session_is_new_then_it_and_its_entries_are_there(store: Store) -> None:
    """A proposal is stored whole, with its event, in one step."""
    session = replace(drafted(), approvals=(approval(drafted().digest),))

    made, committed = await store.commit(None, session, Change(NOW, events=(PROPOSED,)))

    assert (made, committed.events, committed.is_new) == (Versioned(session, 1), (0,), True)
    assert await store.load(session.digest) == made
    assert await store.by_initiator("payroll", "w-1") == made
    (entry,) = await all_entries(store, Log.EVENT)
    assert entry == (
        b'{"actor":"payroll","fields":{"amount_sats":1000},"kind":"withdrawal.proposed","time":1700000000}'
    )


async def test_commit_when_session_is_full_then_every_field_comes_back(store: Store) -> None:
    """Nothing of a session is lost on the way through the store."""
    from custody.signatures import InputSignature

    made, _ = await store.commit(None, drafted(), NOTHING)
    full = replace(
        refuse(ask(cosigned(released(drafted()), NOW), "n1", NOW), "n2", Refused("FROZEN", "no freeze", "one"), NOW),
        signatures=(InputSignature(0, b"\x02" * 33, b"\x30\x01"),),
        transaction=b"\x01\x02",
        txid=b"\x09" * 32,
        confirmed_height=7,
    )

    stored, _ = await store.commit(made, full, NOTHING)

    assert stored == await store.load(full.digest) == Versioned(full, 2)


async def test_load_when_nothing_is_there_then_none(store: Store) -> None:
    """Unknown names have no session and no value."""
    assert await store.load(b"\x01" * 32) is None
    assert await store.by_initiator("payroll", "w-9") is None
    assert await store.recall("pin") is None
    assert await store.cosigned(Log.MONEY) is None


async def test_commit_when_withdrawal_comes_again_then_same_session_and_no_entry(store: Store) -> None:
    """The same withdrawal twice is one withdrawal: the second time writes nothing."""
    made, _ = await store.commit(None, drafted(), Change(NOW, events=(PROPOSED,)))

    again, committed = await store.commit(None, propose(withdrawal(), NOW + 5), Change(NOW + 5, events=(PROPOSED,)))

    assert again == made
    assert (committed.is_new, committed.events) == (False, ())
    assert store.head(Log.EVENT).size == 1


async def test_commit_when_name_has_another_withdrawal_then_conflict(store: Store) -> None:
    """One (initiator, withdrawal_id) has one digest for ever."""
    await store.commit(None, drafted(), NOTHING)

    other = propose(withdrawal(sats=2_000), NOW)

    assert await code_of(store.commit(None, other, Change(NOW, events=(PROPOSED,)))) == "WITHDRAWAL_ID_TAKEN"
    assert await store.load(other.digest) is None
    assert store.head(Log.EVENT).size == 0
    await store.commit(None, propose(withdrawal(initiator="treasury"), NOW), NOTHING)


async def test_commit_when_old_is_stale_then_conflict_and_nothing_written(store: Store) -> None:
    """Two who read the same version cannot both write."""
    made, _ = await store.commit(None, drafted(), NOTHING)
    approved, _ = await store.commit(made, approve(made.value, approval(made.value.digest), NOW), NOTHING)

    denied = store.commit(made, deny(made.value, NOW), Change(NOW, events=(PROPOSED,)))

    assert await code_of(denied) == "SESSION_STALE"
    assert await store.load(made.value.digest) == approved
    assert store.head(Log.EVENT).size == 0


async def test_commit_when_release_is_logged_then_session_knows_its_index(store: Store) -> None:
    """The index of the RELEASE is known only to the store, which fills it in."""
    await store.record(frozen())
    made, _ = await store.commit(None, drafted(), NOTHING)

    after, committed = await store.commit(
        made, released(made.value), Change(NOW + 1, money=(release_body(made.value),), events=(PROPOSED,))
    )

    assert (after.value.release_index, committed.money) == (1, (1,))
    assert await store.load(made.value.digest) == after
    entry = parse_entry((await all_entries(store, Log.MONEY))[1])
    assert (entry.event_size, entry.event_root) == (0, Frontier().root)


async def test_reserve_when_another_family_holds_a_coin_then_conflict(store: Store) -> None:
    """A coin that another family holds is refused, and the refused commit leaves nothing."""
    first, second = drafted("w-1"), drafted("w-2")
    both = frozenset({coin(1), coin(2)})
    await store.commit(None, first, NOTHING, reserve=Reservation(both, first.digest, NOW + 60))

    wanted = Reservation(frozenset({coin(2), coin(3)}), second.digest, NOW + 60)
    refused = store.commit(None, second, Change(NOW, events=(PROPOSED,)), reserve=wanted)

    assert await code_of(refused) == "OUTPOINT_RESERVED"
    assert await store.load(second.digest) is None
    assert store.head(Log.EVENT).size == 0
    assert await store.reserved(NOW) == {coin(1): first.digest, coin(2): first.digest}


async def test_reserve_when_same_family_then_coins_are_shared(store: Store) -> None:
    """What replaces a withdrawal must spend its coins, so its family may hold them too."""
    first, second = drafted("w-1"), drafted("w-2")
    coins = frozenset({coin(1)})
    made, _ = await store.commit(None, first, NOTHING, reserve=Reservation(coins, first.digest, NOW + 60))

    await store.commit(None, second, NOTHING, reserve=Reservation(coins, first.digest, NOW + 90))
    await store.commit(made, deny(first, NOW), NOTHING, release=coins)

    assert await store.reserved(NOW + 80) == {coin(1): first.digest}


async def test_reserve_when_expired_or_released_then_coins_are_free(store: Store) -> None:
    """A reservation ends by time or by its holder."""
    first, second, third = drafted("w-1"), drafted("w-2"), drafted("w-3")
    coins = frozenset({coin(1)})
    await store.commit(None, first, NOTHING, reserve=Reservation(coins, first.digest, NOW + 60))

    later = Change(NOW + 60)
    made, _ = await store.commit(None, second, later, reserve=Reservation(coins, second.digest, NOW + 120))
    await store.commit(made, deny(second, NOW), Change(NOW + 61), release=coins)
    assert await store.reserved(NOW + 61) == {}
    await store.commit(None, third, Change(NOW + 62), reserve=Reservation(coins, third.digest, NOW + 120))

    assert await store.reserved(NOW + 62) == {coin(1): third.digest}


async def test_record_when_changes_follow_then_indices_and_trees_do(store: Store) -> None:
    """Entries get consecutive indices, money entries name the event log before their own commit."""
    bodies = [freeze(f"n{n}") for n in range(3)]
    await store.record(Change(NOW, events=(PROPOSED, PROPOSED)))
    change = Change(NOW, tuple(b for b, _ in bodies), (PROPOSED,), tuple(s for _, s in bodies))

    committed = await store.record(change)

    assert (committed.money, committed.events) == ((0, 1, 2), (2,))
    events = await all_entries(store, Log.EVENT)
    money = await all_entries(store, Log.MONEY)
    assert store.head(Log.EVENT) == Subtrees(map(leaf_hash, events)).frontier
    assert store.head(Log.MONEY) == Subtrees(map(leaf_hash, money)).frontier
    for raw in money:
        assert parse_entry(raw).event_size == 2
        assert parse_entry(raw).event_root == Subtrees(map(leaf_hash, events[:2])).frontier.root


async def test_record_when_statement_is_missing_then_refused(store: Store) -> None:
    """A money entry is never logged without the statement it names; one stored before will do."""
    body, signed = freeze()

    assert await code_of(store.record(Change(NOW, money=(body,)))) == "MISSING_BODY"
    assert store.head(Log.MONEY).size == 0
    await store.record(Change(NOW, bodies=(signed,)))
    await store.record(Change(NOW, money=(body,)))

    assert store.head(Log.MONEY).size == 1


async def test_record_when_entry_cannot_be_then_malformed_and_others_stand(store: Store) -> None:
    """A float in an event is refused for its maker alone, even in a batch with others."""
    bad = Change(NOW, events=(Event("a.b", "ops", {"rate": 1.5}),))  # type: ignore[dict-item]  # that is the point
    good = Change(NOW, events=(PROPOSED,))

    results = await asyncio.gather(
        store.record(good), store.record(bad), store.record(good), store.record(bad), return_exceptions=True
    )

    assert [type(r) for r in results[1::2]] == [MalformedError, MalformedError]
    assert len(await all_entries(store, Log.EVENT)) == store.head(Log.EVENT).size == 2


async def test_record_when_caller_writes_witness_then_refused(store: Store) -> None:
    """WITNESS entries are the store's own."""
    forged = MoneyBody(EntryKind.WITNESS, Witnessed("note"))

    assert await code_of(store.record(Change(NOW, money=(forged,)))) == "WITNESS_ENTRY"


async def test_witness_entry_when_log_was_vouched_for_then_stands_in_front_of_next(store: Store) -> None:
    """The first note of exactly this log goes in front of the next other entry, once."""
    await store.record(frozen("a"))
    first, again = note_of(store, Log.MONEY), note_of(store, Log.MONEY, NOW + 9)
    await store.keep_cosigned(Log.MONEY, 1, first)
    await store.keep_cosigned(Log.MONEY, 1, again)

    committed = await store.record(frozen("b"))
    await store.record(frozen("c"))

    entries = [parse_entry(raw) for raw in await all_entries(store, Log.MONEY)]
    assert [e.kind.value for e in entries] == ["FREEZE", "WITNESS", "FREEZE", "FREEZE"]
    assert entries[1].body == Witnessed(first)
    assert committed.money == (2,)
    notes = await store.cosigned(Log.MONEY)
    assert notes is not None
    assert (notes.first, notes.newest) == (first, again)


async def test_witness_entry_when_checkpoint_ends_elsewhere_then_none(store: Store) -> None:
    """A follower takes a WITNESS entry only right behind what it covers; an empty log has nothing to cover."""
    await store.keep_cosigned(Log.MONEY, 0, note_of(store, Log.MONEY))
    await store.record(frozen("a"))
    late = note_of(store, Log.MONEY)
    await store.record(frozen("b"))
    await store.keep_cosigned(Log.MONEY, 1, late)
    await store.record(frozen("c"))

    kinds = [parse_entry(raw).kind for raw in await all_entries(store, Log.MONEY)]
    assert kinds == [EntryKind.FREEZE] * 3
    assert await store.cosigned_sizes(Log.MONEY, 0, 10) == (1,)


async def test_entries_when_large_then_as_many_as_fit_but_one(store: Store) -> None:
    """A limit in bytes cuts the answer, never to nothing."""
    await store.record(Change(NOW, events=tuple(replace(PROPOSED, actor=f"a{n}") for n in range(9))))
    one = (await all_entries(store, Log.EVENT))[0]

    assert len(await store.entries(Log.EVENT, 0, 9, 3 * len(one))) == 3
    assert len(await store.entries(Log.EVENT, 4, 9, 1)) == 1
    assert await store.entries(Log.EVENT, 9, 20, 100) == ()


async def test_subtrees_when_asked_then_hashes_of_every_level(store: Store) -> None:
    """Stored subtree hashes are those of the tree over the entries."""
    await store.record(Change(NOW, events=(PROPOSED,) * 13))
    tree = Subtrees(map(leaf_hash, await all_entries(store, Log.EVENT)))
    places = [(0, 12), (0, 3), (1, 5), (2, 2), (3, 0)]

    found = await store.subtrees(Log.EVENT, places)

    assert found == {place: tree.hashes(*place) for place in places}
    with pytest.raises(NotFoundError):
        await store.subtrees(Log.EVENT, [(0, 13)])


async def test_list_when_paged_then_newest_first_and_each_once(store: Store) -> None:
    """Pages follow each other without gap or repetition; filters hold."""
    for number in range(5):
        session = propose(withdrawal(f"w-{number}", wallet=bytes([number % 2]) * 32), NOW + number // 2)
        await store.commit(None, session, NOTHING)
    opened = await store.load(withdrawal("w-0", wallet=bytes(32)).digest)
    assert opened is not None
    await store.commit(opened, deny(opened.value, NOW), NOTHING)

    seen: list[Versioned[object]] = []
    before = None
    while page := await store.list(frozenset({Stage.APPROVING}), Page(2, before)):
        seen += page  # type: ignore[arg-type]  # a list of anything
        before = page[-1].value.digest

    assert len(seen) == len({s.value.digest for s in seen}) == 4  # type: ignore[attr-defined]  # sessions
    assert len(await store.list(frozenset(Stage), Page(10, None, bytes(32)))) == 3
    assert [s.value.stage for s in await store.list(frozenset({Stage.DENIED}), Page())] == [Stage.DENIED]


async def test_bodies_when_stored_then_found_by_digest(store: Store) -> None:
    """Statements and raw bytes come back under their digests; the first stays."""
    import hashlib

    signed = withdrawal()
    unsigned = replace(signed, endorsements=())
    await store.record(Change(NOW, bodies=(signed, PSBT)))
    await store.record(Change(NOW, bodies=(unsigned,)))
    psbt_digest = hashlib.sha256(PSBT).digest()

    assert await store.bodies([signed.digest, psbt_digest, b"\x00" * 32]) == {signed.digest: signed, psbt_digest: PSBT}


async def test_next_index_when_taken_then_never_again(store: Store) -> None:
    """Indices are unique per wallet and branch, and follow what the log already holds."""
    taken = await asyncio.gather(*(store.next_index(WALLET, 1) for _ in range(8)))

    assert sorted(taken) == list(range(8))
    assert await store.next_index(WALLET, 0) == 0
    assert await store.next_index(WALLET, 1, at_least=20) == 20
    assert await store.next_index(WALLET, 1, at_least=5) == 21


async def test_remember_when_again_then_newest(store: Store) -> None:
    """A small fact is replaced."""
    await store.remember("pin", b"one")
    await store.remember("pin", b"two")

    assert await store.recall("pin") == b"two"


async def test_commit_when_sixty_four_write_at_once_then_every_entry_has_its_place(store: Store) -> None:
    """64 writers, each several times: indices are distinct, entries and trees agree."""

    async def write(number: int) -> list[int]:
        session = drafted(f"w-{number}")
        notice = MoneyBody(EntryKind.NOTICE, Notice(session.digest))
        change = Change(NOW, (notice,), (replace(PROPOSED, actor=f"a{number}"),))
        made, first = await store.commit(None, session, change)
        _, second = await store.commit(made, deny(session, NOW), replace(change, money=()))
        assert (await store.load(session.digest)) is not None
        return [*first.events, *second.events]

    places = [index for indices in await asyncio.gather(*map(write, range(64))) for index in indices]

    assert sorted(places) == list(range(128))
    for log, size in ((Log.EVENT, 128), (Log.MONEY, 64)):
        entries = await all_entries(store, log)
        assert len(entries) == size
        assert Subtrees(map(leaf_hash, entries)).frontier == store.head(log)


async def test_commit_when_two_take_one_coin_at_once_then_one_gets_it(store: Store) -> None:
    """In one batch too, a coin goes to one family."""

    async def take(number: int) -> str:
        session = drafted(f"w-{number}")
        try:
            wanted = Reservation(frozenset({coin(1)}), session.digest, NOW + 60)
            await store.commit(None, session, NOTHING, reserve=wanted)
        except ConflictError as error:
            return error.code
        return "OK"

    assert sorted(await asyncio.gather(*map(take, range(5)))) == ["OK"] + ["OUTPOINT_RESERVED"] * 4

"""The engine over a storage that can fail: born once, pinned once, judged always, counted once, not rewound unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from custody import curve
from custody.alive import Life, breath_of
from custody.bundle import Behind, Bundle, Delta, LogPart
from custody.canonical import decode, encode
from custody.errors import ConflictError, CustodyError, IntegrityError, MalformedError, NotFoundError, Refused
from custody.fields import Fields
from custody.genesis import Genesis
from custody.signatures import InputSignature
from custody.statements import Signed
from custody.wallet import Network
from signer_node.engine import memory as memory_module
from signer_node.engine.engine import Birth, Engine
from signer_node.engine.storage import MAX_ENTRY_BYTES, ReadOnlyError, get_parts, put_parts
from tests.fakes.clock import FakeClock
from tests.fakes.engine_storage import MemoryStorage
from tests.fakes.rules import DAY, NOW, PAY
from tests.unit.test_judge_message import SPEAK, bundle_of, message, spend
from tests.unit.test_later_wallet import VAULT, vault_in_force
from tests.world import Spend, World, bitcoin_seed, make_genesis

SEED = bytes(bitcoin_seed("alpha"))
GENESIS = make_genesis()
BIRTH = Birth("alpha", Network.REGTEST, bytes(16))


def engine_over(storage: MemoryStorage, now: int = NOW, seed: bytes = SEED) -> Engine:
    """Return an engine as a new process would be: all that it knows is in `storage`."""
    return Engine(storage, FakeClock(now), lambda size: seed[:size])


async def pinned_over(storage: MemoryStorage, genesis: Genesis = GENESIS) -> Engine:
    """Return an engine with a seed and `genesis`."""
    engine = engine_over(storage)
    await engine.bear(BIRTH)
    await engine.pin(genesis.signed.to_bytes(), genesis.hash)
    return engine


def recorded(storage: MemoryStorage) -> int:
    """Return how many signatures the first segment of records counts."""
    lines = storage.entries["log/00000000"].splitlines()
    return sum(Fields(decode(line), "record").has("signed") for line in lines)


def payment(world: World, number: int = 1) -> Spend:
    """Return a payment that no other `number` repeats."""
    asked = world.withdrawal((11, 50_000 + number), withdrawal_id=f"w-{number}")
    return world.spend(asked, [world.coin(number)])


def raw_of(spend: Spend) -> bytes:
    """Log the release of `spend` and return its bundle for alpha."""
    return spend.bundle().to_bytes()


def since(bundle: Bundle, size: int) -> bytes:
    """Return `bundle` as a coordinator sends it to a node that has `size` entries."""
    log = bundle.log
    return replace(bundle, log=replace(log, first=size, entries=log.entries[size:])).to_bytes()


def delta_of(bundle: Bundle, size: int = 0) -> bytes:
    """Return the log part of `bundle` from `size` on as a delta."""
    log = bundle.log
    part = LogPart(size, log.entries[size:], log.statements, log.note)
    return Delta(GENESIS.hash, part).to_bytes()


async def test_bear_when_the_same_call_is_run_again_gives_the_same_key() -> None:
    """The server runs a request again when the plugin died in the middle of it."""
    storage = MemoryStorage()
    storage.fail = ("after", "seed")
    with pytest.raises(CustodyError):
        await engine_over(storage).bear(BIRTH)

    again = await engine_over(storage, seed=bytes(range(32))).bear(BIRTH)

    assert again == await engine_over(storage).public()
    assert storage.puts == ["seed"]


async def test_bear_when_another_call_asks_changes_nothing() -> None:
    """A second ceremony is refused, also under the same name."""
    storage = MemoryStorage()
    first = await engine_over(storage).bear(BIRTH)

    with pytest.raises(ConflictError) as refused:
        await engine_over(storage, seed=bytes(range(32))).bear(replace(BIRTH, request=b"\1" * 16))

    assert refused.value.code == "SEED_EXISTS"
    assert await engine_over(storage).public() == first


async def test_sign_before_birth_and_before_the_pin_is_refused() -> None:
    """Nothing is signed by an engine that has no root."""
    storage, raw = MemoryStorage(), raw_of(payment(World(GENESIS)))

    with pytest.raises(NotFoundError, match="SEED_MISSING"):
        await engine_over(storage).sign(raw)
    await engine_over(storage).bear(BIRTH)
    with pytest.raises(NotFoundError, match="ENGINE_UNPINNED"):
        await engine_over(storage).sign(raw)


async def test_pin_when_given_again_is_the_same_and_another_is_refused() -> None:
    """Write-once: the same genesis is no news, any other one is too late."""
    storage = MemoryStorage()
    engine = await pinned_over(storage)
    other = make_genesis(threshold=3)

    assert await engine.pin(GENESIS.signed.to_bytes(), GENESIS.hash) == GENESIS.hash
    with pytest.raises(ConflictError) as refused:
        await engine.pin(other.signed.to_bytes(), other.hash)

    assert refused.value.code == "GENESIS_PINNED"
    assert (await engine.status())["genesis"] == GENESIS.hash.hex()


WRONG_PINS: dict[str, tuple[Callable[[], tuple[bytes, bytes, Birth]], str]] = {
    "another_hash": (lambda: (GENESIS.signed.to_bytes(), bytes(32), BIRTH), "GENESIS_HASH"),
    "unsigned": (
        lambda: (replace(GENESIS.signed, endorsements=()).to_bytes(), GENESIS.hash, BIRTH),
        "GENESIS_UNSIGNED",
    ),
    "anothers_slot": (
        lambda: (GENESIS.signed.to_bytes(), GENESIS.hash, replace(BIRTH, node="beta")),
        "GENESIS_NOT_MINE",
    ),
    "no_slot": (lambda: (GENESIS.signed.to_bytes(), GENESIS.hash, replace(BIRTH, node="gamma")), "GENESIS_NOT_MINE"),
    "another_network": (
        lambda: (GENESIS.signed.to_bytes(), GENESIS.hash, replace(BIRTH, network=Network.SIGNET)),
        "GENESIS_NOT_MINE",
    ),
    "no_genesis": (lambda: (b"{}", GENESIS.hash, BIRTH), "FIELD_MISSING"),
}


@pytest.mark.parametrize("wrong", WRONG_PINS)
async def test_pin_when_something_is_wrong_pins_nothing(wrong: str) -> None:
    """One lie, one code, and the engine stays without a root."""
    (raw, compared, birth), code = WRONG_PINS[wrong][0](), WRONG_PINS[wrong][1]
    engine = engine_over(MemoryStorage())
    await engine.bear(birth)

    with pytest.raises(CustodyError) as refused:
        await engine.pin(raw, compared)

    assert refused.value.code == code
    assert "genesis" not in await engine.status()


async def test_sign_when_the_bundle_holds_gives_what_any_node_of_that_key_signs() -> None:
    """Byte for byte, also from a new process, which has read everything again."""
    storage = MemoryStorage()
    engine, spend = await pinned_over(storage), payment(World(GENESIS))
    raw = raw_of(spend)

    first = await engine.sign(raw)

    assert first == spend.signatures("alpha")
    assert await engine_over(storage).sign(raw) == first


async def test_sign_when_repeated_is_judged_again_and_counted_once() -> None:
    """One record of one transaction; a freeze in the log meanwhile stops the repeat."""
    storage, world = MemoryStorage(), World(GENESIS)
    engine, spend = await pinned_over(storage), payment(world)
    index = spend.release()
    bundle = spend.bundle(index)
    await engine.sign(bundle.to_bytes())
    written = list(storage.puts)
    assert await engine.sign(bundle.to_bytes()) == spend.signatures("alpha")
    assert storage.puts == written
    world.freeze()

    outcome = await engine_over(storage).sign(spend.bundle(index).to_bytes())

    assert isinstance(outcome, Refused)
    assert outcome.code == "FROZEN"
    assert (await engine_over(storage).sign(bundle.to_bytes())) != spend.signatures("alpha"), (
        "an older log comes too late"
    )


LIES: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "another_node": (lambda b: replace(b, node="beta"), "NODE_OTHER"),
    "another_genesis": (lambda b: replace(b, genesis=bytes(32)), "GENESIS_OTHER"),
    "another_release": (lambda b: replace(b, release_index=b.release_index + 7), "RELEASE_INADMISSIBLE"),
    "no_psbt": (lambda b: replace(b, psbt=b.psbt[:-1]), "TRUNCATED"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_sign_when_the_bundle_lies_is_refused_by_its_code(lie: str) -> None:
    """The judge inside is the judge outside; a node that was taken over gains nothing here."""
    engine = await pinned_over(MemoryStorage())

    outcome = await engine.sign(LIES[lie][0](payment(World(GENESIS)).bundle()).to_bytes())

    assert isinstance(outcome, Refused)
    assert outcome.code == LIES[lie][1]


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b'{"format":"keyturn-bundle","protocol":1}'])
async def test_sign_when_given_no_bundle_is_refused(raw: bytes) -> None:
    """Rubbish is an answer of its own, not a breakage."""
    engine = await pinned_over(MemoryStorage())

    assert isinstance(await engine.sign(raw), Refused)


async def test_sign_when_a_message_holds_gives_what_a_node_signs_and_counts_nothing() -> None:
    """BIP-322 messages are judged inside too; only the time that one was judged at is kept."""
    genesis = make_genesis(PAY, SPEAK)
    storage, world = MemoryStorage(), World(genesis)
    engine = await pinned_over(storage, genesis)
    said = message(genesis)
    bundle = bundle_of(world, said, ())

    outcome = await engine.sign(bundle.to_bytes())
    lie = await engine.sign(replace(bundle, release_index=bundle.release_index + 1).to_bytes())

    assert isinstance(outcome, tuple)
    assert spend(said, genesis).accept(outcome).rejected == ()
    assert isinstance(lie, Refused)
    memory = await memory_module.recall(storage, genesis)
    assert (memory.signed, memory.high_water) == ((), NOW)


LIVES: dict[str, tuple[Callable[[Life], Life], str]] = {
    "mine": (lambda life: life, "OK"),
    "another_nodes": (lambda life: replace(life, node="beta"), "ALIVE_OTHER"),
    "another_genesis": (lambda life: replace(life, genesis=bytes(32)), "ALIVE_OTHER"),
    "of_next_year": (lambda life: replace(life, at=NOW + 365 * DAY), "ALIVE_TIME"),
    "of_last_week": (lambda life: replace(life, at=NOW - 7 * DAY), "ALIVE_TIME"),
}


@pytest.mark.parametrize("lie", LIVES)
async def test_breathe_when_asked_signs_its_own_sentence_of_now_and_no_other(lie: str) -> None:
    """The sentence is made inside, from four fields; nobody stores up proofs for later."""
    change, code = LIVES[lie]
    engine = await pinned_over(MemoryStorage())
    life = change(Life(GENESIS.hash, "alpha", NOW, bytes(16)))

    outcome = await engine.breathe(encode(life.to_json()))

    if isinstance(outcome, tuple):
        breath = breath_of(GENESIS, life)
        assert breath is not None
        assert (code, curve.ecdsa_verify(breath.pubkey, breath.digest, outcome[0].signature[:-1])) == ("OK", True)
    else:
        assert isinstance(outcome, Refused)
        assert outcome.code == code


async def test_sign_when_the_seed_was_exchanged_signs_nothing() -> None:
    """Storage that somebody wrote to from elsewhere gives another key: refused before the first signature."""
    storage = MemoryStorage()
    engine = await pinned_over(storage)
    other = MemoryStorage()
    await engine_over(other, seed=bytes(range(32))).bear(BIRTH)
    storage.entries["seed"] = other.entries["seed"]

    with pytest.raises(IntegrityError, match="KEY_NOT_MINE"):
        await engine.sign(raw_of(payment(World(GENESIS))))


@pytest.mark.parametrize("side", ["before", "after"])
async def test_sign_when_the_record_cannot_be_written_signs_nothing_and_can_be_asked_again(side: str) -> None:
    """Durable first; whether it was written is not known, so the engine reads anew, and counts it once."""
    storage = MemoryStorage()
    engine, spend = await pinned_over(storage), payment(World(GENESIS))
    raw = raw_of(spend)
    storage.fail = (side, "log/")

    with pytest.raises(CustodyError, match="STORAGE_UNWRITABLE"):
        await engine.sign(raw)

    assert await engine.sign(raw) == spend.signatures("alpha")
    assert recorded(storage) == 1


async def test_sign_on_a_standby_is_handed_to_the_leader() -> None:
    """Its words go back unchanged; nothing is remembered that was not written."""
    storage = MemoryStorage()
    engine, raw = await pinned_over(storage), raw_of(payment(World(GENESIS)))
    storage.is_standby = True

    with pytest.raises(ReadOnlyError):
        await engine.sign(raw)

    assert "money_size" not in await engine.status()


async def test_sign_when_the_engine_is_behind_says_how_far_and_signs_after_the_history() -> None:
    """A bundle that starts beyond what the engine has is not judged; a delta of any age brings it on."""
    storage, world = MemoryStorage(), World(GENESIS)
    engine = await pinned_over(storage)
    first, second = payment(world), payment(world, 2)
    earlier = first.bundle()
    size = len(world.entries)
    bundle = second.bundle()

    assert await engine.sign(since(bundle, size)) == Behind(0)
    assert await engine.follow(delta_of(earlier)) == size
    assert await engine.sign(since(bundle, size)) == second.signatures("alpha")


async def test_rewound_engine_replays_before_it_signs_and_refuses_what_the_log_forbids() -> None:
    """A restored snapshot forgot a signature; the log did not: a second payment of that family is refused."""
    storage, world = MemoryStorage(), World(GENESIS)
    engine = await pinned_over(storage)
    snapshot = dict(storage.entries)
    spend = payment(world)
    paid = spend.bundle()
    assert await engine.sign(paid.to_bytes()) == spend.signatures("alpha")
    again = world.spend(spend.asked, [world.coin(9)])  # other coins: both could confirm
    size = len(world.entries)
    double = again.bundle()

    rewound = engine_over(replace(storage, entries=dict(snapshot)))

    assert await rewound.sign(since(double, size)) == Behind(0)
    await rewound.follow(delta_of(paid))
    outcome = await rewound.sign(since(double, size))
    assert isinstance(outcome, Refused)
    assert outcome.code == "SECOND_PAYMENT"


async def test_follow_when_the_delta_is_of_another_log_changes_nothing() -> None:
    """Only cosigned entries that continue this engine's log are taken."""
    engine = await pinned_over(MemoryStorage())
    delta = Delta(bytes(32), payment(World(GENESIS)).bundle().log).to_bytes()
    forged = payment(World(GENESIS, log_seed=bytes(32))).bundle()

    with pytest.raises(IntegrityError, match="GENESIS_OTHER"):
        await engine.follow(delta)
    with pytest.raises(CustodyError):
        await engine.follow(delta_of(forged))
    with pytest.raises(MalformedError):
        await engine.follow(b"{}")
    assert (await engine.status()).get("money_size", 0) == 0


async def test_records_when_they_are_many_are_packed_into_segments_and_read_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A restart reads few entries, in order, and counts each transaction once."""
    monkeypatch.setattr(memory_module, "SEGMENT_BYTES", 6_000)
    storage, world = MemoryStorage(), World(GENESIS)
    engine = await pinned_over(storage)
    for number in range(1, 6):
        await engine.sign(raw_of(payment(world, number)))

    memory = await memory_module.recall(storage, GENESIS)

    assert (memory.state.size, len(memory.signed), memory.high_water) == (len(world.entries), 5, NOW)
    assert memory.segment >= 2
    assert [key for key in storage.entries if key.startswith("log/")] == [
        f"log/{n:08d}" for n in range(memory.segment + 1)
    ]


async def test_records_when_one_is_larger_than_an_entry_are_cut_and_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server's storage cannot hold in one piece is there whole or not at all."""
    monkeypatch.setattr(memory_module, "MAX_ENTRY_BYTES", 4_000)
    storage, world = MemoryStorage(), World(GENESIS)
    engine = await pinned_over(storage)
    bundles = [payment(world, number).bundle() for number in range(1, 4)]
    size = await engine.follow(delta_of(bundles[-1]))

    memory = await memory_module.recall(storage, GENESIS)

    assert memory.state.size == size == len(world.entries)
    assert b'{"parts":' in storage.entries["log/00000000"]


async def test_parts_when_one_is_gone_or_changed_are_refused() -> None:
    """A value of three entries; each missing or changed one is found."""
    storage, value = MemoryStorage(), bytes(range(256)) * (MAX_ENTRY_BYTES // 100)
    parts = await put_parts(storage, value)
    assert parts.count == 3
    assert await get_parts(storage, parts) == value
    for key in list(storage.entries):
        kept = storage.entries[key]
        storage.entries[key] = kept[:-1] + b"\0"
        with pytest.raises(IntegrityError, match="STORAGE_DAMAGED"):
            await get_parts(storage, parts)
        storage.entries[key] = kept


async def test_calls_when_side_by_side_move_in_one_order() -> None:
    """Ten at once: one record each, none lost."""
    storage, world = MemoryStorage(), World(GENESIS)
    engine = await pinned_over(storage)
    raws = [raw_of(payment(world, number)) for number in range(1, 11)]

    outcomes = await asyncio.gather(*(engine.sign(raw) for raw in raws[-1:] * 3 + raws[-1:]))

    assert len({repr(outcome) for outcome in outcomes}) == 1
    assert isinstance(outcomes[0], tuple)
    assert all(isinstance(one, InputSignature) for one in outcomes[0])
    assert recorded(storage) == 1


async def test_forget_when_another_server_has_written_reads_anew() -> None:
    """A standby that becomes leader goes by what the leader before it wrote."""
    storage, world = MemoryStorage(), World(GENESIS)
    standby, leader = await pinned_over(storage), engine_over(storage)
    await standby.follow(delta_of(payment(world).bundle()))
    spend = payment(world, 2)
    raw = raw_of(spend)
    await leader.sign(raw)

    await standby.forget()

    assert await standby.sign(raw) == spend.signatures("alpha")
    assert recorded(storage) == 1


async def test_status_when_asked_names_no_secret() -> None:
    """Who it is and what it is pinned to; the seed is in none of the answers."""
    storage = MemoryStorage()
    engine = await pinned_over(storage)

    told = repr(await engine.status()) + repr(await engine.public())

    assert SEED.hex() in storage.entries["seed"].decode()
    assert SEED.hex() not in told
    assert repr(SEED) not in told


async def test_sign_for_a_later_wallet_when_it_is_pinned_here_and_not_before() -> None:
    """Log and rules have it; the engine waits for its own pin, as its node does."""
    storage, world = MemoryStorage(), vault_in_force()
    engine = engine_over(storage, world.now)
    await engine.bear(BIRTH)
    await engine.pin(world.genesis.signed.to_bytes(), world.genesis.hash)
    spend = world.spend(world.withdrawal())
    raw = raw_of(spend)
    before = await engine.sign(raw)
    assert isinstance(before, Refused)
    assert before.code == "WALLET_UNPINNED"

    assert await engine.pin_wallet(VAULT.to_bytes(), VAULT.digest) == VAULT.digest
    assert await engine.pin_wallet(VAULT.to_bytes(), VAULT.digest) == VAULT.digest

    assert isinstance(await engine.sign(raw), tuple)
    assert isinstance(await engine_over(storage, world.now).sign(raw), tuple)


WRONG_WALLETS: dict[str, tuple[Signed, bytes, str]] = {
    "another_hash": (VAULT, bytes(32), "WALLET_HASH"),
    "unsigned": (replace(VAULT, endorsements=()), VAULT.digest, "WALLET_UNSIGNED"),
    "a_genesis": (GENESIS.signed, GENESIS.hash, "STATEMENT_KIND"),
}


@pytest.mark.parametrize("wrong", WRONG_WALLETS)
async def test_pin_wallet_when_something_is_wrong_pins_nothing(wrong: str) -> None:
    """One lie, one code."""
    signed, compared, code = WRONG_WALLETS[wrong]
    storage, genesis = MemoryStorage(), vault_in_force().genesis
    engine = await pinned_over(storage, genesis)

    with pytest.raises(CustodyError) as refused:
        await engine.pin_wallet(signed.to_bytes(), compared)

    assert refused.value.code == code
    assert "wallets" not in storage.entries

"""The engine itself: one seed that is born here, one genesis that it is pinned to, and a judge in front of both.

Nobody who holds a token can read the seed, replace it, pin another genesis or have anything signed that the judge does
not clear. After the pin only cosigned entries of the money log change what the engine goes by. The server runs a
request again when the plugin ends in the middle of it, so that every operation gives the same answer twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from custody.alive import read_unsigned
from custody.bundle import MAX_BUNDLE_BYTES, MAX_DELTA_BYTES, Behind, Bundle, parse_bundle, parse_delta
from custody.canonical import Json, decode, encode
from custody.errors import ConflictError, CustodyError, IntegrityError, MalformedError, NotFoundError, Refused
from custody.fields import Fields
from custody.follow import advance
from custody.genesis import MAX_WALLETS, Genesis, GenesisWallet, check_signed, parse_genesis
from custody.later_wallet import node_keys, read_later_wallet
from custody.signatures import InputSignature
from custody.statements import Kind, Signed
from custody.wallet import Network
from signer_node.backends.signing import sign_and_drop
from signer_node.books import Books, book_for, books_of
from signer_node.breath import breath_to_sign
from signer_node.clock import Clock
from signer_node.engine.memory import Memory, recall, remember
from signer_node.engine.storage import Parts, Storage, get_parts, put_parts
from signer_node.judge import Cleared, Judged, Moment, Pinned, judge
from signer_node.judge_message import ClearedMessage, JudgedMessage, judge_message
from signer_node.seed import Entropy, KeyMaterial, key_material, new_seed, wipe

SEED, GENESIS, WALLETS = "seed", "genesis", "wallets"
MAX_LIFE_GAP_S = 300  # as old as an online node's checkpoint may be
MAX_GENESIS_BYTES = 4 * 1024 * 1024  # as a node reads: 64 wallets with records and one rules document are under 1 MiB
Outcome = tuple[InputSignature, ...] | Refused | Behind


@dataclass(frozen=True, slots=True)
class Birth:
    """What was said when the seed was made. request: 16 bytes, the caller's own, so that the same call can be told."""

    node: str
    network: Network
    request: bytes


@dataclass(slots=True)
class _Open:
    """What is kept in memory once the genesis is pinned: all of it public."""

    pinned: Pinned
    network: Network
    memory: Memory
    books: Books


class Engine:
    """One mount. Calls wait for each other: storage and memory move in one order.

    Args:
        storage: of this mount.
        clock: this machine's time.
        entropy: the machine's own; another one only in tests.
    """

    def __init__(self, storage: Storage, clock: Clock, entropy: Entropy) -> None:
        self._storage, self._clock, self._entropy = storage, clock, entropy
        self._turn = asyncio.Lock()
        self._open: _Open | None = None

    async def forget(self) -> None:
        """Read everything anew at the next call: another server of the cluster has written."""
        async with self._turn:
            self._open = None

    async def status(self) -> dict[str, Json]:
        """Return what health needs, from two reads: who this is and what it is pinned to; never the key.

        Raises:
            NotFoundError: SEED_MISSING.
        """
        birth = await self._birth()
        told: dict[str, Json] = {"node": birth.node, "network": birth.network.value}
        raw = await self._storage.get(GENESIS)
        if raw is not None:
            told["genesis"] = Fields(decode(raw), GENESIS).text("hash")
        if self._open is not None:  # else nothing was asked of it since it started
            told["money_size"] = self._open.memory.state.size
        return told

    async def bear(self, birth: Birth) -> KeyMaterial:
        """Make the seed, once, and return its public half.

        Raises:
            ConflictError: SEED_EXISTS: another call made one; it stays.
        """
        async with self._turn:
            if await self._storage.get(SEED) is None:
                seed = new_seed(self._entropy)
                try:
                    await self._storage.put(SEED, _seed_entry(seed, birth))
                finally:
                    wipe(seed)
            elif (await self._birth()).request != birth.request:  # else this very call, run again by the server
                raise ConflictError("SEED_EXISTS", "expected no seed yet")
            return await self._public()

    async def public(self) -> KeyMaterial:
        """Return the public half of the key, derived anew. Raises NotFoundError SEED_MISSING."""
        async with self._turn:
            return await self._public()

    async def pin(self, raw: bytes, compared: bytes) -> bytes:
        """Make the genesis document `raw` this engine's root for ever; return its hash.

        Args:
            raw: the document with its signatures.
            compared: 32 bytes, its hash as people compared it between machines.

        Raises:
            ConflictError: GENESIS_PINNED: another one is.
            IntegrityError: GENESIS_HASH, GENESIS_NOT_MINE.
            MalformedError: what does not hold in it, by code; GENESIS_UNSIGNED.
        """
        # Plan: 1 it is what people compared · 2 everybody signed it · 3 this seed's key is in it · 4 write once.
        async with self._turn:
            genesis = _read_genesis(raw)
            if genesis.hash != compared:
                raise IntegrityError("GENESIS_HASH", f"expected {compared.hex()}, found {genesis.hash.hex()}")
            check_signed(genesis)
            if genesis.network is not (await self._birth()).network:
                raise IntegrityError("GENESIS_NOT_MINE", "expected the network that this engine's key was made for")
            await self._check_mine(genesis.wallets)
            pinned = await self._storage.get(GENESIS)
            if pinned is None:
                parts = await put_parts(self._storage, raw)
                entry: Json = {"hash": genesis.hash.hex(), "parts": parts.to_json()}
                await self._storage.put(GENESIS, encode(entry))
            elif Fields(decode(pinned), GENESIS).hex("hash", 32) != genesis.hash:
                raise ConflictError("GENESIS_PINNED", "expected no other genesis, found one pinned already")
            return genesis.hash

    async def pin_wallet(self, raw: bytes, compared: bytes) -> bytes:
        """Let this engine sign for a later wallet, once log and rules have it too; return its document's digest.

        Args:
            raw: the document with its signatures.
            compared: 32 bytes, its digest as people compared it between machines.

        Raises:
            IntegrityError: WALLET_HASH, GENESIS_NOT_MINE.
            MalformedError: what does not hold in it, by code; WALLET_UNSIGNED.
        """
        # Plan: 1 it is what people compared · 2 every node signed it (that the admins did, the log proves each time) ·
        #       3 this seed's key is in it · 4 once: nothing takes it back.
        async with self._turn:
            opened, signed = await self._opened(), _read_signed(raw)
            wallet = read_later_wallet(signed, opened.pinned.genesis)
            if wallet.document != compared:
                raise IntegrityError("WALLET_HASH", f"expected {compared.hex()}, found {wallet.document.hex()}")
            if unsigned := [name for name, key in node_keys(wallet).items() if not signed.signed_by(key)]:
                raise MalformedError("WALLET_UNSIGNED", f"expected the signatures of {', '.join(sorted(unsigned))}")
            await self._check_mine((wallet,))
            documents = sorted({*await self._later_wallets(), wallet.document})
            self._open = None
            await self._storage.put(WALLETS, encode({"documents": [document.hex() for document in documents]}))
            return wallet.document

    async def follow(self, raw: bytes) -> int:
        """Follow the log entries of the delta `raw`; return how many entries this engine has now.

        Raises:
            MalformedError, IntegrityError: the delta does not continue this engine's log; nothing changed.
        """
        async with self._turn:
            if len(raw) > MAX_DELTA_BYTES:
                raise MalformedError("DELTA_TOO_LARGE", f"expected at most {MAX_DELTA_BYTES} bytes")
            opened = await self._opened()
            delta = await asyncio.to_thread(parse_delta, raw)
            if delta.genesis != opened.pinned.genesis.hash:
                raise IntegrityError("GENESIS_OTHER", "expected a delta of my genesis")
            state, log = opened.memory.state, delta.log
            state = await asyncio.to_thread(advance, state, log.from_size(state.size), log.by_digest(), log.note)
            await self._remember(opened, remember(self._storage, opened.memory, log, state))
            return state.size

    async def sign(self, raw: bytes, confirmed: Iterable[bytes] = ()) -> Outcome:
        """Return the signatures of the bundle `raw` if the judge clears it, else why not.

        Args:
            raw: the bundle, whole.
            confirmed: digests (32 bytes) of withdrawals whose code was typed at the node: its word, for `local_conf`.

        Raises:
            CustodyError: the engine itself is broken, or not pinned yet; nothing was signed, or it can be asked again.
        """
        # Plan: 1 judge, with this engine's own log, journal and clock · 2 keep what the log part proved and what is
        #       about to be signed, durable · 3 fetch the seed, sign, drop it.
        async with self._turn:
            if len(raw) > MAX_BUNDLE_BYTES:
                return Refused("BUNDLE_TOO_LARGE", f"at most {MAX_BUNDLE_BYTES} bytes", str(len(raw)))
            opened = await self._opened()
            try:
                bundle = parse_bundle(raw)
            except CustodyError as error:
                return Refused(error.code, "a bundle", error.message)
            judged = await asyncio.to_thread(self._judge, opened, bundle, frozenset(confirmed))
            cleared = judged.outcome if isinstance(judged.outcome, Cleared | ClearedMessage) else None
            await self._remember(opened, remember(self._storage, opened.memory, bundle.log, judged.state, cleared))
            if isinstance(judged.outcome, Refused | Behind):
                return judged.outcome
            seed = await self._seed()
            return await asyncio.to_thread(sign_and_drop, lambda: seed, opened.network, judged.outcome)

    async def breathe(self, raw: bytes) -> Outcome:
        """Return the signature of a proof of life: the one sentence that needs no entry in the log.

        Args:
            raw: the proof without its signature; genesis, node and time must be this engine's own.
        """
        async with self._turn:
            opened = await self._opened()
            life = read_unsigned(raw)
            if (life.genesis, life.node) != (opened.pinned.genesis.hash, opened.pinned.node):
                return Refused("ALIVE_OTHER", f"node {opened.pinned.node} of my genesis", life.node)
            if abs(life.at - self._clock.now()) > MAX_LIFE_GAP_S:  # one for next year would say that a dead key lives
                return Refused("ALIVE_TIME", f"within {MAX_LIFE_GAP_S} s of my clock", str(life.at))
            cleared = breath_to_sign(opened.pinned.genesis, life)
            if cleared is None:
                return Refused("ALIVE_OTHER", "a node of this genesis that holds a key", life.node)
            seed = await self._seed()
            return await asyncio.to_thread(sign_and_drop, lambda: seed, opened.network, cleared)

    def _judge(self, opened: _Open, bundle: Bundle, confirmed: frozenset[bytes]) -> Judged | JudgedMessage:
        memory = opened.memory
        moment, book = Moment(self._clock.now(), memory.high_water), book_for(bundle, memory.state, opened.books)
        if bundle.withdrawal.kind is Kind.MESSAGE:
            return judge_message(bundle, opened.pinned, memory.state, moment, book, (), confirmed)
        return judge(bundle, opened.pinned, memory.state, moment, memory.signed, book, (), confirmed)

    async def _remember(self, opened: _Open, writing: Coroutine[Any, Any, Memory]) -> None:
        """Take over what `writing` made durable; where that failed nobody knows what is there, so it is read anew."""
        self._open = None
        opened.memory = await writing
        self._open = opened

    async def _opened(self) -> _Open:
        """Return what is pinned and remembered, read and verified again after a restart."""
        if self._open is None:
            birth = await self._birth()
            raw = await self._storage.get(GENESIS)
            if raw is None:
                raise NotFoundError("ENGINE_UNPINNED", "expected a pinned genesis: signer_node pin HASH")
            fields = Fields(decode(raw), GENESIS)
            parts = Parts.from_fields(fields.fields("parts"))
            genesis = _read_genesis(await get_parts(self._storage, parts))
            if genesis.hash != fields.hex("hash", 32):
                raise IntegrityError("STORAGE_DAMAGED", "expected the genesis that was pinned")
            pinned = Pinned(genesis, birth.node, frozenset(await self._later_wallets()))
            self._open = _Open(pinned, birth.network, await recall(self._storage, genesis), books_of(genesis))
        return self._open

    async def _later_wallets(self) -> tuple[bytes, ...]:
        """Return the digests of the later wallets that were pinned here."""
        raw = await self._storage.get(WALLETS)
        items = () if raw is None else Fields(decode(raw), WALLETS).items("documents", MAX_WALLETS)
        return tuple(Fields({"digest": item}, WALLETS).hex("digest", 32) for item in items)

    async def _check_mine(self, wallets: Iterable[GenesisWallet]) -> None:
        """Prove that this seed's key, and no other, stands in every slot of `wallets` that bears this node's name."""
        birth, own = await self._birth(), (await self._public()).key
        if {slot.key for wallet in wallets for slot in wallet.slots if slot.node == birth.node} != {own}:
            raise IntegrityError("GENESIS_NOT_MINE", f"expected this engine's key in the slot of node {birth.node}")

    async def _birth(self) -> Birth:
        fields = Fields(decode(await self._seed_record()), SEED)
        network = Network(fields.text("network"))
        return Birth(fields.name("node"), network, fields.hex("request", 16))

    async def _public(self) -> KeyMaterial:
        network, seed = (await self._birth()).network, await self._seed()
        try:
            return key_material(seed, network)
        finally:
            wipe(seed)

    async def _seed(self) -> bytearray:
        """Return the seed; whoever asks wipes it."""
        return bytearray(Fields(decode(await self._seed_record()), SEED).hex("seed"))

    async def _seed_record(self) -> bytes:
        raw = await self._storage.get(SEED)
        if raw is None:
            raise NotFoundError("SEED_MISSING", "expected a seed; only a ceremony makes one")
        return raw


def _seed_entry(seed: bytearray, birth: Birth) -> bytes:
    entry: Json = {
        "seed": seed.hex(),
        "node": birth.node,
        "network": birth.network.value,
        "request": birth.request.hex(),
    }
    return encode(entry)


def _read_genesis(raw: bytes) -> Genesis:
    return parse_genesis(_read_signed(raw))


def _read_signed(raw: bytes) -> Signed:
    if len(raw) > MAX_GENESIS_BYTES:
        raise MalformedError("GENESIS_TOO_LARGE", f"expected at most {MAX_GENESIS_BYTES} bytes, found {len(raw)}")
    return Signed.from_bytes(raw)

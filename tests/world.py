"""A small real world: three nodes with real keys, a real wallet, log, witness and people. Valid until a test lies.

Nothing is mocked: statements are signed, the log is a tree with a cosigned checkpoint, the coins are in transactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from custody.address import script_of
from custody.approval import Approval, Decision
from custody.audit import (
    Checkpoint,
    Frontier,
    Subtrees,
    cosign,
    inclusion_proof,
    leaf_hash,
    sign_checkpoint,
    with_lines,
)
from custody.bundle import Bundle, LogPart
from custody.entries import (
    Body,
    Document,
    EntryKind,
    Freeze,
    MoneyEntry,
    Notice,
    Stop,
    StopCause,
    StopStatement,
    Unfreeze,
    Witnessed,
    named_by,
    seal_of,
)
from custody.facts import CHANGE_GAP, Facts, ShapeLimits, read_facts
from custody.follow import State, advance, family_of, open_under, settled, start
from custody.genesis import (
    Genesis,
    GenesisWallet,
    KeyRecord,
    Purpose,
    Slot,
    compose,
    parse_genesis,
    with_endorsement,
)
from custody.psbt import parse, serialize
from custody.release import release_of
from custody.scripts import Template
from custody.signatures import InputSignature, sighashes
from custody.statements import Kind, Signed, endorse, sign
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import Network, ScriptBook, Wallet, make_wallet, parse_key
from custody.withdrawal import NEW, Payment, Relation, RelationKind, Withdrawal
from signer_node.backends.signing import sign_and_drop
from signer_node.seed import key_material
from tests.fakes.cleared import ClearedInputs
from tests.fakes.rules import DAY, NOW, address, document, key_of, seed_of

NODES = ("alpha", "beta", "cold")
LOG_SEED, WITNESS_SEED = seed_of("log"), seed_of("witness")
COIN_SATS = 50_000_000
EXCHANGE = 11


def bitcoin_seed(node: str) -> bytearray:
    """Return the wallet seed of `node`: 32 bytes."""
    return bytearray(seed_of(f"bitcoin {node}"))


def record_of(node: str, key: str = "") -> Signed:
    """Return the key record that `node` signed, of `key` where it is another than that of its seed."""
    key = key or key_material(bitcoin_seed(node), Network.REGTEST).key
    record = KeyRecord(node, key_of(node), Network.REGTEST, key, NOW - DAY)
    return sign(Kind.RECORD, record.to_json(), seed_of(node))


def make_genesis(
    *rules: Mapping[str, Any],
    threshold: int = 2,
    template: Template = Template.WSH,
    others: Mapping[str, str] | None = None,
    **changes: Any,
) -> Genesis:
    """Return a signed genesis of a 2-of-3 wallet over alpha, beta and cold, with these rules; others: keys by node."""
    slots = tuple(_slot(node, (others or {}).get(node, "")) for node in NODES)
    keys = tuple(parse_key(slot.key, Network.REGTEST) for slot in slots)
    wallet = make_wallet(threshold, keys, Network.REGTEST, template)
    wallets = {"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": ["hot"]}}
    rules_document = document(*rules, **{"wallets": wallets, **changes})
    signed = compose(Purpose.DEMO, Network.REGTEST, (GenesisWallet("treasury", wallet, slots),), rules_document)
    for name in (*NODES, "erin", "frank"):
        signed = with_endorsement(signed, endorse(Kind.GENESIS, signed.raw, seed_of(name)))
    return parse_genesis(signed)


def _slot(node: str, key: str) -> Slot:
    key = key or key_material(bitcoin_seed(node), Network.REGTEST).key
    return Slot(key, node, record=record_of(node, key))


@dataclass
class World:
    """One organisation with its log; every method that adds something returns what it added.

    now: the time at which the next entry and cosignature are made.
    """

    genesis: Genesis
    now: int = NOW
    entries: list[bytes] = field(default_factory=list)
    statements: dict[bytes, Signed] = field(default_factory=dict)
    covering: str = ""
    log_seed: bytes = LOG_SEED
    witness: tuple[str, bytes] = ("witness", WITNESS_SEED)
    _followed: State | None = None
    _tree: Frontier = field(default_factory=Frontier)

    @property
    def wallet(self) -> Wallet:
        """The treasury."""
        return self.genesis.wallets[0].wallet

    @property
    def book(self) -> ScriptBook:
        """The treasury's scripts."""
        return book_of(self.wallet)

    def state(self) -> State:
        """Return what a follower of the whole log knows, the tail settled now."""
        found = start(self.genesis) if self._followed is None else self._followed
        if self.entries:
            note = self.cosigned()
            found = advance(found, self.entries[found.size :], self.statements, note)
            self._followed = found  # a log only grows
            found = settled(open_under(found, note)[0], self.now)
        return found

    def withdrawal(self, *payments: tuple[int, int], **changes: Any) -> Withdrawal:
        """Return a withdrawal by alice that pays (payee tag, sats) each."""
        base = Withdrawal(
            genesis=self.genesis.hash,
            withdrawal_id="w-1",
            wallet_id=self.wallet.wallet_id,
            network="regtest",
            payments=tuple(Payment(address(tag), Sats(amount)) for tag, amount in payments or [(EXCHANGE, 50_000)]),
            max_fee_sats=Sats(20_000),
            relation=NEW,
            initiator="alice",
            created_at=self.now - 100,
            expires_at=self.now + DAY,
            rules_floor=1,
        )
        return replace(base, **changes)

    def coin(self, number: int = 0, amount: int = COIN_SATS, branch: int = 0, index: int = 0) -> SpendableCoin:
        """Return a coin of the treasury; another one for each `number`."""
        script = self.book.script(branch, index).script
        previous = Transaction(
            2, (TxIn(OutPoint(bytes([number + 1]) * 32, 0), b"\x51"),), (TxOut(Sats(amount), script),)
        )
        return SpendableCoin(OutPoint(previous.txid, 0), previous, branch, index)

    def spend(
        self, asked: Withdrawal, coins: Sequence[SpendableCoin] = (), fee: int = 2_000, change_index: int = 0
    ) -> Spend:
        """Return the transaction that pays `asked` from `coins` with one change output."""
        used = tuple(coins) or (self.coin(),)
        payments = [TxOut(p.amount_sats, _script_of(p.address)) for p in asked.payments]
        total = sum(coin.previous.outputs[coin.outpoint.vout].amount for coin in used)
        change = total - sum(p.amount for p in payments) - fee
        outputs = [*payments, TxOut(Sats(change), self.book.script(1, change_index).script)]
        psbt = build(self.book, used, outputs, [(len(payments), change_index)])
        return Spend(self, asked, serialize(psbt), change_from=max(-1, change_index - CHANGE_GAP))

    def append(self, kind: EntryKind, body: Body, *statements: Signed) -> int:
        """Append one entry, behind the WITNESS entry of the checkpoint before it; return its index."""
        if self.covering:
            self.entries.append(
                MoneyEntry(EntryKind.WITNESS, self.now, 0, bytes(32), Witnessed(self.covering)).to_bytes()
            )
        self.statements.update({signed.digest: signed for signed in statements})
        told = [self.statements[digest] for digest in named_by(body) if digest in self.statements]
        self.entries.append(MoneyEntry(kind, self.now, 0, bytes(32), body, seal_of(told)).to_bytes())
        self.covering = self.cosigned()
        return len(self.entries) - 1

    def cosigned(self, at: int | None = None, size: int | None = None) -> str:
        """Return the log's checkpoint with the witness's cosignature at `at`."""
        tree = self._tree if size is None else Frontier()
        for raw in self.entries[tree.size : size]:
            tree = tree.append(leaf_hash(raw))
        if size is None:
            self._tree = tree
        checkpoint = Checkpoint(self.genesis.origin("money"), tree.size, tree.root)
        note = sign_checkpoint(checkpoint, self.log_seed)
        return with_lines(note, [cosign(note, *self.witness, self.now if at is None else at)])

    def freeze(self, by: str = "dave", freeze_id: bytes = b"\x01" * 16) -> int:
        """Append a freeze by `by`."""
        signed = sign(Kind.FREEZE, Freeze(self.genesis.hash, freeze_id, by, self.now).to_json(), seed_of(by))
        return self.append(EntryKind.FREEZE, Document(signed.digest), signed)

    def unfreeze(self, *by: str, freeze_id: bytes = b"\x01" * 16) -> int:
        """Append an unfreeze signed by all of `by`."""
        first, *rest = by
        signed = sign(Kind.UNFREEZE, Unfreeze(self.genesis.hash, (freeze_id,), self.now).to_json(), seed_of(first))
        for name in rest:
            signed = with_endorsement(signed, endorse(Kind.UNFREEZE, signed.raw, seed_of(name)))
        return self.append(EntryKind.UNFREEZE, Document(signed.digest), signed)

    def stop(self, asked: Withdrawal, by: str, cause: StopCause = StopCause.CANCEL) -> int:
        """Append a stop of `asked`."""
        if cause is StopCause.REJECT:
            said = Approval(self.genesis.hash, asked.digest, Decision.REJECT, by, self.now, self.now + DAY)
            signed = sign(Kind.APPROVAL, said.to_json(), seed_of(by))
        else:
            said_stop = StopStatement(self.genesis.hash, asked.digest, cause, by, self.now)
            signed = sign(Kind.STOP, said_stop.to_json(), seed_of(by))
        return self.append(EntryKind.STOP, Stop(asked.digest, cause, by, signed.digest), signed)

    def notice(self, asked: Withdrawal) -> int:
        """Append a NOTICE of `asked`."""
        return self.append(EntryKind.NOTICE, Notice(asked.digest), signed_by_initiator(asked))


@dataclass(frozen=True)
class Spend:
    """A transaction for a withdrawal; `release` logs it, `bundle` carries it.

    change_from: the highest change index that its own change is told to stand behind, true or not.
    """

    world: World
    asked: Withdrawal
    psbt: bytes
    people: tuple[str, ...] = ()
    approved_at: int = NOW
    change_from: int = -1

    def approved_by(self, *people: str) -> Spend:
        """Return the same with approvals by `people`."""
        return replace(self, people=people, approved_at=self.world.now)

    @property
    def approvals(self) -> tuple[Signed, ...]:
        """The approvals, in order."""
        return tuple(approval(self.asked, person, self.approved_at) for person in self.people)

    def facts(self) -> Facts:
        """Return what the transaction does."""
        found = read_facts(parse(self.psbt), self.world.book, ShapeLimits(self.change_from))
        assert isinstance(found, Facts), found
        return found

    def release(self, *said: Signed, **changes: Any) -> int:
        """Log a RELEASE of this transaction; `changes` make it lie, and what is `said` in place of the truth."""
        world = self.world
        family = family_of(world.state(), self.asked) or self.asked.digest
        approvals = tuple(signed.digest for signed in self.approvals)
        body = release_of(self.asked, approvals, self.facts(), family, world.now)
        return world.append(
            EntryKind.RELEASE, replace(body, **changes), signed_by_initiator(self.asked), *self.approvals, *said
        )

    def bundle(self, index: int | None = None, node: str = "alpha", **changes: Any) -> Bundle:
        """Return the bundle for `node` of the release at `index` (logged now where None); `changes` make it lie."""
        index = self.release() if index is None else index
        world = self.world
        leaves = [leaf_hash(raw) for raw in world.entries]
        bundle = Bundle(
            genesis=world.genesis.hash,
            node=node,
            withdrawal=signed_by_initiator(self.asked),
            approvals=self.approvals,
            psbt=self.psbt,
            release_index=index,
            inclusion=tuple(inclusion_proof(Subtrees(leaves), index, len(leaves))),
            covering=world.covering,
            log=LogPart(0, tuple(world.entries), tuple(world.statements.values()), world.cosigned()),
            signatures=(),
        )
        return replace(bundle, **changes)

    def signatures(self, node: str) -> tuple[InputSignature, ...]:
        """Return the signatures that `node` would make."""
        psbt, facts, book = parse(self.psbt), self.facts(), self.world.book
        at = NODES.index(node)
        paths = tuple((fact.branch, fact.index) for fact in facts.inputs)
        pubkeys = tuple(book.script(*path).pubkeys[at] for path in paths)
        cleared = ClearedInputs(sighashes(psbt, facts, book), paths, pubkeys)
        return sign_and_drop(lambda: bitcoin_seed(node), Network.REGTEST, cleared)


def signed_by_initiator(asked: Withdrawal) -> Signed:
    """Return the statement of `asked`, signed by the one it names."""
    return sign(Kind.WITHDRAWAL, asked.to_json(), seed_of(asked.initiator))


def approval(asked: Withdrawal, person: str, at: int) -> Signed:
    """Return the approval of `asked` by `person`."""
    said = Approval(asked.genesis, asked.digest, Decision.APPROVE, person, at - 50, at + DAY)
    return sign(Kind.APPROVAL, said.to_json(), seed_of(person))


_BOOKS: dict[bytes, ScriptBook] = {}


def book_of(wallet: Wallet) -> ScriptBook:
    """Return the one script cache of `wallet` that all tests share."""
    if wallet.wallet_id not in _BOOKS:
        _BOOKS[wallet.wallet_id] = ScriptBook(wallet)
    return _BOOKS[wallet.wallet_id]


def _script_of(text: str) -> bytes:
    return script_of(text, Network.REGTEST)


def supersedes(asked: Withdrawal) -> Relation:
    """Return the relation of what replaces `asked`."""
    return Relation(RelationKind.SUPERSEDES, (asked.digest,))

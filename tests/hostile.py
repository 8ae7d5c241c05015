"""A hostile coordinator as a state machine: random lies over random histories; what leaves must have been allowed.

It holds the log key and every key of its own, writes what it likes into the log and carries what it likes to three real
signers, in any order. The one witness is honest: it vouches for one history, and not at all once a freeze that it holds
is missing. People ask and approve honestly. Counted over ALL pairs of signers together: a transaction is paid once two
of them signed it.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from custody.bundle import Bundle
from custody.entries import MoneyEntry, StopCause, parse_entry, statements_of
from custody.errors import CustodyError, Refused
from custody.follow import State, family_of
from custody.psbt import Psbt, parse, serialize
from custody.statements import Kind, Signed, sign
from custody.transaction import OutPoint, TxOut
from custody.units import Sats
from custody.updater import build
from custody.withdrawal import NEW, Payment, Relation, RelationKind, Withdrawal
from signer_node.backends.port import Backend
from signer_node.backends.private_file import write_private_once
from signer_node.backends.sealed_file import Hardness, seal
from signer_node.node import Node
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, address, script
from tests.fakes.rules import rule as rules_rule
from tests.integration.harness import PASSPHRASE, genesis_of, open_node
from tests.world import LOG_SEED, Spend, World, approval, bitcoin_seed, signed_by_initiator

THREE_ONLINE = ("alpha", "beta", "gamma")
DAILY_SATS = 40_000_000
THIEF = 66
TWO_EYES = rules_rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
DAILY = rules_rule("daily", "limit", {}, {"window": "day", "max_sats": DAILY_SATS, "on_exceed": "deny"})
GENESIS = genesis_of(PAY, TWO_EYES, DAILY, nodes=THREE_ONLINE)
AMOUNTS = (50_000, 400_000, 4_000_000, 15_000_000)
PAYEES = (11, 12)
SCRIPTS = {address(payee): script(payee) for payee in PAYEES}
COINS = 4
PATIENCE_S = 60  # protocol.md: a witness does not vouch for a log that omits what it has held for so long
FRESH_S = 300  # protocol.md step 2: how old a checkpoint may be for an online signer
CHEAPEST = Hardness(memory_kib=8 * 1024, passes=1, lanes=1)  # what it costs is measured elsewhere
FAR = 500  # a change index that no recovery would look at
FILES = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory: what a signer fsyncs is no secret


@dataclass
class Paid:
    """A transaction that some signer signed. at: when, UTC seconds."""

    asked: Withdrawal
    psbt: Psbt
    at: int
    signers: set[str] = field(default_factory=set)

    @property
    def fee_sats(self) -> int:
        """What the coins are worth, by their own transactions, less the outputs."""
        places = zip(self.psbt.inputs, self.psbt.transaction.inputs, strict=True)
        spent = [said.spends(txin.outpoint) for said, txin in places]
        return sum(o.amount for o in spent if o) - sum(o.amount for o in self.psbt.transaction.outputs)

    @property
    def outpoints(self) -> frozenset[OutPoint]:
        """The coins that it spends."""
        return frozenset(txin.outpoint for txin in self.psbt.transaction.inputs)


class HostileCoordinator(RuleBasedStateMachine):
    """Every rule is something that the owner of the coordinator can do; the invariants are what SECURITY.md claims.

    said: how often signers gave which answer.  begun, steps: histories and steps.  All three over the whole run.
    """

    said: ClassVar[Counter[str]] = Counter()
    begun: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hostile", dir=FILES))
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock(NOW)
        self.world = World(GENESIS)
        self.nodes: dict[str, Node] = {}
        self.asked: list[Withdrawal] = []
        self.by_digest: dict[bytes, Withdrawal] = {}
        self.approvals: dict[bytes, list[Signed]] = {}
        self.kept: list[Bundle] = []
        self.paid: dict[bytes, Paid] = {}
        self.posted: int | None = None  # when a freeze came to the witness
        self.logged = False
        self.numbers = itertools.count()
        self.stopped: dict[bytes, int] = {}  # withdrawals, and since when a veto stands in the log
        self.late_signatures: list[str] = []
        self.signatures, self.judged = 0, 0
        self.followed: State | None = None

    @initialize()
    def begin(self) -> None:
        """Three signers with their keys in sealed files, and one honest withdrawal."""
        HostileCoordinator.begun += 1
        shutil.copytree(_sealed(), self.directory, dirs_exist_ok=True)
        self.nodes = {name: self._open(name) for name in THREE_ONLINE}
        self.ask(0, 0, 0)

    def _open(self, name: str) -> Node:
        node = open_node(GENESIS, name, self.directory, self.clock)
        node._books = {self.world.wallet.wallet_id: self.world.book}  # a cache, and 2,000 scripts take a second
        backend = self.backend_of(name)
        if backend is not None:
            node._backend = backend
        return node

    def backend_of(self, name: str) -> Backend | None:
        """Return where the key of node `name` is; None for a sealed file."""
        return None

    def teardown(self) -> None:
        """Remove the signers' files."""
        for node in self.nodes.values():
            _close(node)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)

    @rule(amount=st.integers(0, len(AMOUNTS) - 1), payee=st.integers(0, len(PAYEES) - 1), relation=st.integers(0, 3))
    def ask(self, amount: int, payee: int, relation: int) -> None:
        """Alice asks for a payment, in one of the ways that her program offers."""
        payments = (Payment(address(PAYEES[payee]), Sats(AMOUNTS[amount])),)
        self.world.now = self.clock.now()
        base = self.world.withdrawal(withdrawal_id=f"w-{next(self.numbers)}", relation=self._relation(relation))
        self.asked.append(replace(base, payments=payments))
        self.by_digest[self.asked[-1].digest] = self.asked[-1]

    def _relation(self, kind: int) -> Relation:
        released = sorted({r.release.withdrawal_digest for r in self.world.state().releases})
        if kind == 0 or not released:
            return NEW
        if kind == 1:
            return Relation(RelationKind.SUPERSEDES, (released[-1],))
        return Relation(RelationKind.ADDITIONAL, tuple(released))

    @rule(which=st.integers(0, 50), person=st.sampled_from(("bob", "carol")))
    def approve(self, which: int, person: str) -> None:
        """Somebody approves what alice asked for."""
        asked = self.asked[which % len(self.asked)]
        self.approvals.setdefault(asked.digest, []).append(approval(asked, person, self.clock.now()))

    @rule(
        which=st.integers(0, 50),
        coins=st.sets(st.integers(0, COINS - 1), min_size=1, max_size=3),
        fee=st.sampled_from((500, 2_000, 20_000, 20_001)),
        change=st.integers(0, 3),
        lie=st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)),
    )
    def release(self, which: int, coins: set[int], fee: int, change: int, lie: int) -> None:
        """The coordinator logs a RELEASE of a transaction it likes, true or false, and keeps the bundles of it."""
        if not self._is_vouched_for():
            return
        self.world.now = self.clock.now()
        asked = self.asked[which % len(self.asked)]
        said = self.approvals.get(asked.digest, [])
        approvals = tuple({signed.endorsements[0].key: signed for signed in said}.values())
        change = FAR if lie == 8 else change  # where no recovery looks, and the log says so
        spend = self.world.spend(asked, [self.world.coin(at) for at in sorted(coins)], fee, change)
        signed = signed_by_initiator(asked)
        if lie == 1:  # another amount than alice signed, under her old signature
            grown = replace(asked, payments=(replace(asked.payments[0], amount_sats=Sats(29_000_000)),))
            signed = replace(signed_by_initiator(grown), endorsements=signed.endorsements)
            spend = self.world.spend(grown, [self.world.coin(at) for at in sorted(coins)], fee, change)
        if lie == 2:  # the same content under another id, signed by a key of the coordinator's own
            copied = replace(asked, withdrawal_id=f"{asked.withdrawal_id}-copy")
            signed = sign(Kind.WITHDRAWAL, copied.to_json(), LOG_SEED)
            spend = replace(spend, asked=copied)
        if lie == 3:  # change to a stranger
            spend = _to_a_stranger(spend, len(spend.asked.payments), coins)
        if lie == 4:  # the payment to a stranger, and the log says so
            spend = _to_a_stranger(spend, 0, coins)
        self._log(spend, signed, approvals, lie, fee)

    def _log(self, spend: Spend, signed: Signed, approvals: Sequence[Signed], lie: int, fee: int) -> None:
        outputs, facts = parse(spend.psbt).transaction.outputs, replace(spend, people=())
        changes: dict[str, object] = {"approvals": tuple(said.digest for said in approvals)}
        if lie == 4:
            changes["payments"] = (outputs[0],)
        if lie == 5:  # a family of its own, so that it counts by itself
            changes["family"] = os.urandom(32)
        if lie == 6:
            changes |= {"payments": (TxOut(Sats(1), outputs[0].script),), "fee_sats": Sats(1)}
        if lie == 7:
            changes["time"] = self.clock.now() - DAY
        try:
            index = facts.release(signed, *approvals, **changes)  # lies too, in place of the truth
        except (AssertionError, CustodyError):
            return  # a transaction of which not even the facts can be read
        whole = facts.bundle(index, withdrawal=signed, approvals=tuple(approvals))
        self.kept += [self._cut(replace(whole, node=node)) for node in THREE_ONLINE]

    @precondition(lambda self: self.kept)
    @rule(back=st.integers(0, 2), first=st.integers(0, 2))
    def serve(self, back: int, first: int) -> None:
        """One of the last releases goes to two signers, as an honest coordinator would do it."""
        if not self.kept:  # `pay` calls it too
            return
        self.world.now = self.clock.now()
        newest = self.kept[-3 * (1 + back) :][:3] or self.kept[-3:]
        for bundle in (newest[first], newest[(first + 1) % 3]):
            self._tell(self._fresh(bundle))

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 1000), refresh=st.booleans(), swap=st.integers(0, 1000), how=st.integers(0, 7))
    def carry(self, which: int, refresh: bool, swap: int, how: int) -> None:
        """A bundle goes to its signer: as it was, with a fresh checkpoint, or with parts of another one."""
        bundle = self.kept[which % len(self.kept)]
        other = self.kept[swap % len(self.kept)]
        if refresh:
            self.world.now = self.clock.now()
            bundle = self._fresh(bundle)
        if how == 4:
            bundle = replace(bundle, psbt=other.psbt)
        if how == 5:
            bundle = replace(bundle, approvals=other.approvals)
        if how == 6:
            bundle = replace(bundle, log=other.log)
        if how == 7:  # what people said, shown without their signatures
            bare = tuple(replace(signed, endorsements=()) for signed in bundle.log.statements)
            bundle = replace(bundle, log=replace(bundle.log, statements=bare))
        self._tell(bundle)

    def _is_vouched_for(self) -> bool:
        """Return whether the witness cosigns the log as it is; not one that omits a freeze which it holds."""
        return self.posted is None or self.logged or self.clock.now() <= self.posted + PATIENCE_S

    def _fresh(self, bundle: Bundle) -> Bundle:
        """Return it with today's log, as far as the honest witness vouches for it."""
        if not self._is_vouched_for():
            return bundle
        asked = self.by_digest.get(bundle.withdrawal.digest, self.asked[0])
        fresh = Spend(self.world, asked, bundle.psbt).bundle(bundle.release_index, bundle.node)
        return self._cut(replace(fresh, withdrawal=bundle.withdrawal, approvals=bundle.approvals))

    def _cut(self, bundle: Bundle) -> Bundle:
        """Return it with what its node lacks of the log, as a coordinator sends it; entries that it has cost time."""
        size = self.nodes[bundle.node].state.size
        log = bundle.log
        named = {digest for raw in log.entries[size:] for digest in statements_of(_entry(raw))}
        said = tuple(self.world.statements[digest] for digest in named if digest in self.world.statements)
        return replace(bundle, log=replace(log, first=size, entries=log.entries[size:], statements=said))

    def _tell(self, bundle: Bundle) -> None:
        try:
            outcome = self.loop.run_until_complete(self.nodes[bundle.node].answer(bundle.to_bytes())).outcome
        except CustodyError as error:
            self.said[error.code] += 1
            return
        self.said[outcome.code if isinstance(outcome, Refused) else type(outcome).__name__] += 1
        if not isinstance(outcome, tuple):
            return
        psbt = parse(bundle.psbt)
        asked = self.by_digest.get(bundle.withdrawal.digest)
        assert asked is not None, "a signer signed for a withdrawal that nobody asked for"
        paid = self.paid.setdefault(psbt.transaction.txid, Paid(asked, psbt, self.clock.now()))
        paid.signers.add(bundle.node)
        self.signatures += 1
        paid.at = min(paid.at, self.clock.now())
        if self.logged or (self.posted is not None and self.clock.now() > self.posted + PATIENCE_S + FRESH_S):
            self.late_signatures.append(f"{bundle.node} under a freeze")
        if self.clock.now() > self.stopped.get(asked.digest, self.clock.now()) + FRESH_S:
            self.late_signatures.append(f"{bundle.node} under a veto")

    @rule(seconds=st.sampled_from((1, 30, 61, 299, 600)))
    def wait(self, seconds: int) -> None:
        """Time goes by, for everybody alike."""
        self.clock.advance(seconds)

    @rule(
        amount=st.integers(0, len(AMOUNTS) - 1),
        payee=st.integers(0, len(PAYEES) - 1),
        relation=st.integers(0, 3),
        coins=st.sets(st.integers(0, COINS - 1), min_size=1, max_size=2),
        first=st.integers(0, 2),
    )
    def pay(self, amount: int, payee: int, relation: int, coins: set[int], first: int) -> None:
        """An honest withdrawal, approved and carried to two signers: what lies have to fit in between."""
        self.ask(amount, payee, relation)
        for person in ("bob", "carol"):
            self.approve(len(self.asked) - 1, person)
        self.wait(61)
        self.release(len(self.asked) - 1, coins, 2_000, len(self.asked) % 4, 0)
        self.serve(0, first)

    @precondition(lambda self: self.posted is None)
    @rule(logs_it=st.booleans(), mood=st.integers(0, 9))
    def freeze(self, logs_it: bool, mood: int) -> None:
        """Dave freezes everything, seldom; the coordinator logs it, or hides it."""
        if mood:
            return
        self.posted, self.logged = self.clock.now(), logs_it
        self.world.now = self.clock.now()
        if logs_it:
            self.world.freeze()
            self.kept = [self._fresh(bundle) for bundle in self.kept[-6:]]  # what is older shows an older log

    @rule(which=st.integers(0, 50), mood=st.integers(0, 4))
    def veto(self, which: int, mood: int) -> None:
        """Dave stops a withdrawal, now and then; it comes into the log, behind whatever the coordinator kept."""
        asked = self.asked[which % len(self.asked)]
        if mood or asked.digest in self.stopped or not self._is_vouched_for():
            return
        self.world.now = self.clock.now()
        self.world.stop(asked, "dave", StopCause.VETO)
        self.stopped[asked.digest] = self.clock.now()

    @rule(name=st.sampled_from(THREE_ONLINE), mood=st.integers(0, 3))
    def restart(self, name: str, mood: int) -> None:
        """A signer starts anew from its files, now and then."""
        if not mood:
            _close(self.nodes[name])
            self.nodes[name] = self._open(name)

    @invariant()
    def what_left_was_allowed(self) -> None:
        """Judged anew whenever a signature left; a transaction counts as paid once enough signers signed it."""
        HostileCoordinator.steps += 1
        assert not self.late_signatures
        if self.signatures == self.judged:
            return
        threshold = GENESIS.wallets[0].wallet.threshold
        paid = [found for found in self.paid.values() if len(found.signers) >= threshold]
        self._was_asked_for(paid)
        self._is_paid_once(paid)
        self._is_inside_the_budget(paid)
        self._people_agreed(paid)
        self.judged = self.signatures

    def _was_asked_for(self, paid: Sequence[Paid]) -> None:
        """Outputs that are not ours are the payments of a withdrawal that alice signed; the fee is within her bound."""
        for each in paid:
            outputs = each.psbt.transaction.outputs
            foreign = [(o.script, o.amount) for o in outputs if self.world.book.find(o.script, 1, 30) is None]
            assert foreign == [(SCRIPTS[p.address], p.amount_sats) for p in each.asked.payments]
            assert each.fee_sats <= each.asked.max_fee_sats

    def _is_paid_once(self, paid: Sequence[Paid]) -> None:
        """Any two transactions of one withdrawal, or of what supersedes it, share a coin: one of them can confirm."""
        families: dict[bytes, list[Paid]] = {}
        for each in paid:
            families.setdefault(self._family(each.asked), []).append(each)
        for members in families.values():
            for one, other in itertools.combinations(members, 2):
                assert one.outpoints & other.outpoints

    def _is_inside_the_budget(self, paid: Sequence[Paid]) -> None:
        """Over all pairs of signers: the largest member of each family, with the fee that alice allows."""
        largest: dict[bytes, int] = {}
        for each in paid:
            family = self._family(each.asked)
            largest[family] = max(largest.get(family, 0), each.asked.amount_sats)
        assert self.clock.now() - NOW >= DAY or sum(largest.values()) <= DAILY_SATS

    def _people_agreed(self, paid: Sequence[Paid]) -> None:
        """From 10 million sats on, two people approved that very withdrawal."""
        for each in paid:
            if each.asked.amount_sats >= 10_000_000:
                said = self.approvals.get(each.asked.digest, [])
                assert len({signed.endorsements[0].key for signed in said}) >= 2

    def _family(self, asked: Withdrawal) -> bytes:
        """Return the family of a withdrawal as the log has it now; followed anew only where the log grew."""
        if self.followed is None or self.followed.size != len(self.world.entries):
            self.followed = self.world.state()
        return family_of(self.followed, asked) or asked.digest


def _to_a_stranger(spend: Spend, output: int, coins: set[int]) -> Spend:
    outputs = list(parse(spend.psbt).transaction.outputs)
    outputs[output] = replace(outputs[output], script=script(THIEF))
    used = [spend.world.coin(at) for at in sorted(coins)]
    return replace(spend, psbt=serialize(build(spend.world.book, used, outputs)))


def _close(node: Node) -> None:
    """Give back a node's files, as the end of its process does: a long run has thousands of nodes."""
    node._followed.close()
    node._journal.close()


@lru_cache(maxsize=1_000)
def _entry(raw: bytes) -> MoneyEntry:
    return parse_entry(raw)


@cache
def _sealed() -> Path:
    """Return a directory with the signers' sealed seeds, made once in a process: sealing is slow on purpose."""
    directory = Path(tempfile.mkdtemp(prefix="sealed", dir=FILES))
    atexit.register(shutil.rmtree, directory)
    for name in THREE_ONLINE:
        home = directory / name
        home.mkdir(mode=0o700)
        write_private_once(home / "seed", seal(bitcoin_seed(name), bytearray(PASSPHRASE), os.urandom, CHEAPEST))
    return directory

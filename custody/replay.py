"""Level full of the verifier: replay what an export says, and name the withdrawal that left the rules.

Give `replay` to `custody.audit.verify_export`, or call `verify`, which reads the keys from the genesis in the file once
its hash is the one that the verifier knows. Nothing here has a network, a service or a clock; it cannot see what never
reached the logs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from custody.audit import (
    Export,
    ExportError,
    ExportKeys,
    Log,
    Verdict,
    VerdictKind,
    genesis_of,
    verify_export,
)
from custody.bundle import check_receipt, read_receipt
from custody.canonical import decode
from custody.entries import Document, EntryKind, MoneyEntry, Release, StopStatement, parse_entry, read_unfreeze
from custody.errors import CustodyError, MalformedError, Refused
from custody.facts import Facts
from custody.fields import Fields
from custody.finalise import signatures_in
from custody.follow import (
    State,
    append_parsed,
    governed,
    in_force,
    open_money_checkpoint,
    settled,
    start,
    time_of,
    under_version,
)
from custody.genesis import Genesis, check_signed, parse_genesis
from custody.key_times import keys_under, later_keys
from custody.psbt import MAGIC, Psbt, parse
from custody.rejudge import History, Logged, Papers, Rejudged, judge_again, why_inadmissible
from custody.signatures import is_signed, sighashes
from custody.statements import Kind, Signed
from custody.transaction import Transaction, parse_transaction
from custody.wallet import ScriptBook
from custody.withdrawal import read_withdrawal

FINAL_EVENTS = frozenset({"transaction.finalised", "transaction.broadcast", "transaction.confirmed"})


def verify(raw: bytes, genesis_hash: bytes, known: str | None = None, full: bool = True) -> Verdict:
    """Return what the export `raw` is, with the keys of its own genesis once that hashes to `genesis_hash` (32 bytes).

    Args:
        raw: the export file.
        genesis_hash: as the verifier knows it from elsewhere.
        known: a checkpoint note that the verifier holds from elsewhere.
        full: judge what the entries mean too, not only that they are the ones that were signed.

    Raises:
        MalformedError, IntegrityError: `known` is no checkpoint of this log.
    """
    try:
        genesis = genesis_of(raw)
    except ExportError as error:
        kind = VerdictKind.TRUNCATED if error.cut else VerdictKind.MODIFIED
        return Verdict(kind, error.message, line=error.place.line)
    if genesis.digest != genesis_hash:
        return Verdict(VerdictKind.MODIFIED, f"expected the genesis {genesis_hash.hex()}", line=1)
    try:
        keys = export_keys(parse_genesis(genesis))
    except MalformedError as error:
        return Verdict(VerdictKind.MODIFIED, f"{error.code}: {error.message}", line=1)
    return verify_export(raw, keys, known, replay if full else None, later_keys)


def export_keys(genesis: Genesis) -> ExportKeys:
    """Return whose signatures an export under `genesis` must carry, until later rules say otherwise."""
    return keys_under(genesis, genesis.policy)


def replay(export: Export) -> Verdict | None:
    """Return the first thing in a verified export that left the rules, or None.

    POLICY_VIOLATION names a withdrawal; MODIFIED an entry that no follower could have taken, or a genesis that not all
    signed.
    """
    # Plan: 1 genesis signed by all · 2 events and PSBTs by what they are of · 3 the money log, each release judged
    #       again · 4 what became final stands on a release that holds · 5 its signatures.
    try:
        genesis = parse_genesis(export.genesis)
        check_signed(genesis)
    except MalformedError as error:
        return Verdict(VerdictKind.MODIFIED, f"{error.code}: {error.message}", line=1)
    try:
        return _Replay(export, genesis).run()
    except _Stopped as stopped:
        return stopped.verdict


class _Stopped(Exception):
    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class _Final:
    """The first event that says a transaction of a withdrawal is complete. bodies: what it names.

    txid: wire order, complete.  released: the same without scriptSigs, as releases name it.
    """

    index: int
    time: int
    withdrawal: bytes
    txid: bytes
    released: bytes
    bodies: tuple[bytes, ...]


@dataclass(slots=True)
class _Found:
    """What became of the releases of one transaction of one withdrawal. held: those that stand.  judged: the last."""

    held: list[Logged] = field(default_factory=list)
    judged: Rejudged | None = None
    faults: list[tuple[Logged, Refused]] = field(default_factory=list)


class _Replay:
    """One pass over one export."""

    def __init__(self, export: Export, genesis: Genesis) -> None:
        self._export = export
        self._genesis = genesis
        self._state = start(genesis)
        self._statements = {d: body for d, body in export.bodies.items() if isinstance(body, Signed)}
        self._books: dict[bytes, ScriptBook] = {}
        self._psbts: dict[bytes, Psbt] = {}
        self._finals: dict[tuple[bytes, bytes], _Final] = {}
        self._receipts: list[tuple[int, Signed]] = []
        self._has_pruned = False
        self._history = History(genesis.policy)
        self._waiting: list[tuple[int, MoneyEntry, Release, State]] = []
        self._found: dict[tuple[bytes, bytes], _Found] = {}
        self._stops: list[tuple[int, StopStatement]] = []  # with the size of the event log in front of each
        self._lifted: list[tuple[int, frozenset[bytes]]] = []  # what was asked; the state says whether by enough people

    def run(self) -> Verdict | None:
        """Return the first violation."""
        self._read_bodies()
        self._read_events()
        parsed = self._export.money
        for index, raw in enumerate(self._export.entries[Log.MONEY]):
            self._take(index, raw, parsed[index] if parsed else None)
        tail_time = self._tail_time()
        self._state = settled(in_force(self._state, tail_time), tail_time)
        self._settle()
        for index, receipt in self._receipts:
            self._check_receipt(index, receipt)
        for final in self._finals.values():
            self._check_final(final)
        return None

    def _read_bodies(self) -> None:
        for body in self._export.bodies.values():
            if isinstance(body, bytes) and body.startswith(MAGIC):
                try:
                    psbt = parse(body)
                except MalformedError:
                    continue  # a release that needs it finds none
                self._psbts[psbt.transaction.txid] = psbt

    def _read_events(self) -> None:
        for index, raw in enumerate(self._export.entries[Log.EVENT]):
            if b'"bodies":' not in raw and b'"kind":"transaction.' not in raw:
                continue
            try:
                self._read_event(index, raw)
            except MalformedError as error:
                raise _Stopped(_modified(Log.EVENT, index, error)) from error

    def _read_event(self, index: int, raw: bytes) -> None:
        event = Fields(decode(raw), "event")
        kind, time, fields = event.text("kind"), event.time("time"), event.fields("fields")
        named = fields.items("bodies") if fields.has("bodies") else ()
        bodies = tuple(Fields({"digest": item}, "bodies").hex("digest", 32) for item in named)
        self._has_pruned = self._has_pruned or any(digest not in self._export.bodies for digest in bodies)
        for digest in bodies:
            body = self._export.bodies.get(digest)
            if isinstance(body, Signed) and body.kind is Kind.RECEIPT:
                self._receipts.append((index, body))
        if kind in FINAL_EVENTS:
            withdrawal, txid = fields.hex("withdrawal", 32), fields.hex("txid", 32)[::-1]
            released = fields.hex("unsigned_txid", 32)[::-1] if fields.has("unsigned_txid") else txid
            self._finals.setdefault((withdrawal, txid), _Final(index, time, withdrawal, txid, released, bodies))

    def _check_receipt(self, index: int, receipt: Signed) -> None:
        """A receipt in the log is by an identity key that the rules gave to the node that it names."""
        answer, release_index = read_receipt(receipt)
        nodes = [policy.roots.node(answer.node) for policy in self._state.rules.versions]
        identities = [node.identity for node in nodes if node is not None]
        used = next((key for key in identities if receipt.signed_by(key)), b"")
        try:
            check_receipt(answer, release_index, used)
        except MalformedError as error:
            detail, digest = f"{error.code}: {error.message}", answer.withdrawal_digest.hex()
            verdict = Verdict(VerdictKind.POLICY_VIOLATION, detail, Log.EVENT, index, withdrawal=digest)
            raise _Stopped(verdict) from error

    def _take(self, index: int, raw: bytes, parsed: MoneyEntry | None) -> None:
        """Follow one entry; what it settles is judged."""
        before = self._state
        try:
            entry = parsed or parse_entry(raw)
            leaf = self._export.leaves[Log.MONEY][index]
            self._state = append_parsed(before, entry, leaf, self._statements)
        except CustodyError as error:
            raise _Stopped(_modified(Log.MONEY, index, error)) from error
        # Some count only once the rules of their T are known: behind a WITNESS entry.
        self._stops += [(entry.event_size, stop) for stop in self._state.stops[len(before.stops) :]]
        if isinstance(entry.body, Release):
            self._waiting.append((index, entry, entry.body, before))
        elif entry.kind is EntryKind.UNFREEZE and isinstance(entry.body, Document):
            unfreeze = read_unfreeze(self._statements[entry.body.statement])
            self._lifted.append((entry.event_size, frozenset(unfreeze.freeze_ids)))
        elif entry.kind is EntryKind.WITNESS:
            self._settle()

    def _tail_time(self) -> int:
        """Return T of the entries behind the last WITNESS entry.

        The export's checkpoint may have been cosigned again long after it was first, so the newest time that they name
        themselves stands in for the first: signers refuse a release where the two differ by more than ten minutes.
        """
        newest = time_of(open_money_checkpoint(self._state, self._export.checkpoints[Log.MONEY]))
        return min(newest, max((pending.entry.time for pending in self._state.tail), default=newest))

    def _settle(self) -> None:
        """Judge the releases that have their T now, in the order of the log."""
        newest = max(0, len(self._state.releases) - len(self._waiting))
        counted = {released.index: released for released in self._state.releases[newest:]}
        for index, entry, release, before in self._waiting:
            released = counted.get(index)
            t = entry.time if released is None else released.t
            at_index = governed(before, t)  # one that counts nothing: about where it stood
            if released is not None:
                at_index = under_version(before, self._state.rules, released.rules)
            logged = Logged(index, entry, release, at_index, t)
            found = self._found.setdefault((release.withdrawal_digest, release.txid), _Found())
            if released is None:
                found.faults.append((logged, why_inadmissible(logged, self._export.bodies)))
                continue
            judged = self._judge(logged)
            if isinstance(judged, Refused):
                raise _Stopped(_violation(logged, judged))
            self._history.add(released)
            if logged.is_dated:
                found.held.append(logged)
                found.judged = judged
            else:
                found.faults.append((logged, Refused("ENTRY_TIME", f"a time near {logged.t}", str(entry.time))))
        self._waiting = []

    def _judge(self, logged: Logged) -> Rejudged | Refused:
        book = self._book(logged.release.wallet_id)
        if book is None:
            return Refused("WALLET_OTHER", "a wallet of this genesis", logged.release.wallet_id.hex())
        psbt = self._psbts.get(logged.release.txid)
        if psbt is None and not self._has_pruned:
            return Refused("PSBT_MISSING", f"the PSBT of {logged.release.txid[::-1].hex()}", "none, and nothing pruned")
        try:
            papers = Papers(self._export.bodies, self._state.notices, psbt, book)
            return judge_again(logged, self._history, papers)
        except CustodyError as error:
            return Refused(error.code, "what protocol.md says of it", error.message)

    def _book(self, wallet_id: bytes) -> ScriptBook | None:
        """Return the scripts of a wallet of the genesis, or of one that the log added."""
        wallet = self._state.genesis.wallet(wallet_id)
        if wallet is not None and wallet_id not in self._books:
            self._books[wallet_id] = ScriptBook(wallet.wallet)
        return self._books.get(wallet_id)

    def _check_final(self, final: _Final) -> None:
        """A transaction that is complete rests on a release that was logged before, holds, and was never stopped."""
        found = self._found.get((final.withdrawal, final.released), _Found())
        held = [logged for logged in found.held if logged.entry.event_size <= final.index]
        if not held:
            faults = [refused for logged, refused in found.faults if logged.entry.event_size <= final.index]
            missing = Refused("RELEASE_MISSING", f"a release of {final.txid[::-1].hex()}", "none in front of its event")
            raise _Stopped(_final_violation(final, faults[0] if faults else missing))
        judged = found.judged
        facts = None if judged is None else judged.facts
        refused = self._was_stopped(final, judged) or self._was_frozen(final, held)
        if refused := refused or self._check_signatures(final, held[0], facts):
            raise _Stopped(_final_violation(final, refused))

    def _was_stopped(self, final: _Final, judged: Rejudged | None) -> Refused | None:
        state = replace(self._state, stops=tuple(stop for size, stop in self._stops if size <= final.index))
        withdrawal = read_withdrawal(self._statements[final.withdrawal])
        if stop := state.is_stopped(withdrawal):
            return Refused("STOPPED", "no stop", f"{stop.cause.value} by {stop.by}")
        vetoed = state.vetoed_by(withdrawal, () if judged is None else judged.vetoes)
        return Refused("STOPPED", "no stop", f"vetoes by {', '.join(vetoed)}") if vetoed else None

    def _was_frozen(self, final: _Final, held: list[Logged]) -> Refused | None:
        """Return FROZEN where a freeze stood in front of every release and nothing ended it before the signatures."""
        asked = frozenset[bytes]().union(*(ids for size, ids in self._lifted if size <= final.index))
        lifted = asked & self._state.lifted
        for logged in held:
            policy = logged.before.policy
            at = min(max(logged.t, final.time), logged.t + policy.limits.bundle_max_age_s)
            standing = tuple(f for f in logged.before.freezes if f.freeze_id not in lifted)
            if not replace(logged.before, freezes=standing).is_frozen(at):
                return None
        return Refused("FROZEN", "no freeze in front of the release", "one that stood until it was final")

    def _check_signatures(self, final: _Final, logged: Logged, facts: Facts | None) -> Refused | None:
        """Prove the exported transaction: the released one, signed by `threshold` keys on every input."""
        raws = [self._export.bodies[digest] for digest in final.bodies if digest in self._export.bodies]
        psbt, book = self._psbts.get(final.released), self._book(logged.release.wallet_id)
        if not raws or psbt is None or facts is None or book is None:
            if self._has_pruned:
                return None
            return Refused("TRANSACTION_MISSING", f"the transaction {final.txid[::-1].hex()}", "none, nothing pruned")
        try:
            transaction = parse_transaction(raws[0] if isinstance(raws[0], bytes) else b"")
        except MalformedError as error:
            return Refused(error.code, "a transaction", error.message)
        if transaction.unsigned() != psbt.transaction or transaction.txid != final.txid:
            return Refused("TRANSACTION_OTHER", f"the transaction {final.txid[::-1].hex()}", transaction.txid_hex)
        return check_multisig(transaction, psbt, facts, book)


def check_multisig(transaction: Transaction, psbt: Psbt, facts: Facts, book: ScriptBook) -> Refused | None:
    """Return None if every input of `transaction` carries valid signatures of `threshold` different keys.

    Args:
        transaction: complete; unsigned it is that of `psbt`.
        psbt: what it was made from.
        facts: what it spends, proven.
        book: the wallet's scripts.
    """
    threshold = book.wallet.threshold
    digests = sighashes(psbt, facts, book)
    for at, (txin, fact, digest) in enumerate(zip(transaction.inputs, facts.inputs, digests, strict=True)):
        script = book.script(fact.branch, fact.index)
        signatures = signatures_in(txin, script, threshold)
        if signatures is None:
            return Refused("WITNESS_FORM", f"{threshold} signatures and the script in input {at}", "another witness")
        pubkeys = iter([script.pubkeys[cosigner] for cosigner in script.order])
        # Each by a later key than the one before: in script order, each key once.
        if not all(any(is_signed(pubkey, digest, one) for pubkey in pubkeys) for one in signatures):
            return Refused("SIGNATURES", f"{threshold} keys of the wallet on input {at}", "fewer")
    return None


def _modified(log: Log, index: int, error: CustodyError) -> Verdict:
    return Verdict(VerdictKind.MODIFIED, f"{error.code}: {error.message}", log, index)


def _violation(logged: Logged, refused: Refused) -> Verdict:
    digest = logged.release.withdrawal_digest.hex()
    return Verdict(VerdictKind.POLICY_VIOLATION, str(refused), Log.MONEY, logged.index, withdrawal=digest)


def _final_violation(final: _Final, refused: Refused) -> Verdict:
    digest = final.withdrawal.hex()
    return Verdict(VerdictKind.POLICY_VIOLATION, str(refused), Log.EVENT, final.index, withdrawal=digest)

"""A follower's state: a pure function of (genesis, money log), shared by signers, engine, desk, CLI and verifier.

Releases, stops and freezes are counted from here and from nowhere else, so spreading requests over signers evades
nothing. An entry's T (when it happened, as witnesses saw it) is fixed by the WITNESS entry behind it; entries of the
tail, which no WITNESS entry covers yet, get theirs from the checkpoint at hand by `settled`. What cannot be verified
counts nothing; what is missing or contradicts itself is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from custody.address import script_of
from custody.approval import read_approval
from custody.audit import (
    Cosigned,
    Frontier,
    Log,
    WitnessKey,
    leaf_hash,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from custody.entries import (
    Document,
    EntryKind,
    MoneyEntry,
    Notice,
    Release,
    Stop,
    StopCause,
    StopStatement,
    Witnessed,
    parse_entry,
    read_freeze,
    read_stop,
    read_unfreeze,
    statements_of,
)
from custody.errors import CustodyError, IntegrityError, MalformedError
from custody.genesis import Genesis
from custody.governing import Rules, succeed
from custody.people import verify_people
from custody.policy import Policy
from custody.policy.budgets import Spent
from custody.quorum import key_holders
from custody.statements import Signed
from custody.transaction import TxOut
from custody.withdrawal import RelationKind, Withdrawal, read_withdrawal

LONE_FREEZE_SECONDS = 72 * 3600  # protocol.md "Rules, freeze": one person's freeze lapses unless a second joins


@dataclass(frozen=True, slots=True)
class Released:
    """An admissible release. t: when witnesses first saw it, UTC seconds.  rules: the version that it counts under."""

    index: int
    release: Release
    t: int
    rules: int = 1


@dataclass(frozen=True, slots=True)
class Frozen:
    """A freeze that nobody lifted. t: None while it is in the tail."""

    freeze_id: bytes
    by: str
    t: int | None


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that no WITNESS entry covers yet, with the statements it names."""

    index: int
    entry: MoneyEntry
    statements: Mapping[bytes, Signed]


@dataclass(frozen=True, slots=True)
class State:
    """What a follower knows after `frontier.size` entries.

    spent: `releases` as the budgets of `policy` count them.  releases, notices (withdrawal digest, T): settled only.
    stops, freezes: from the moment they are in the log.  lifted: freeze ids that are dead.
    rules: as of the last settled entry; `in_force` moves them on.
    """

    genesis: Genesis
    frontier: Frontier
    rules: Rules
    spent: Spent = field(compare=False, repr=False)
    event_size: int = 0
    releases: tuple[Released, ...] = ()
    notices: tuple[tuple[bytes, int], ...] = ()
    stops: tuple[StopStatement, ...] = ()
    freezes: tuple[Frozen, ...] = ()
    lifted: frozenset[bytes] = frozenset()
    tail: tuple[Pending, ...] = ()

    @property
    def policy(self) -> Policy:
        """The rules in force."""
        return self.rules.policy

    @property
    def size(self) -> int:
        """How many money-log entries this state has followed."""
        return self.frontier.size

    def releases_of(self, digest: bytes) -> tuple[Released, ...]:
        """Return the admissible releases of the withdrawal `digest`, oldest first."""
        return tuple(r for r in self.releases if r.release.withdrawal_digest == digest)

    def family(self, family: bytes) -> tuple[Released, ...]:
        """Return the admissible releases of `family` (32 bytes), oldest first."""
        return tuple(r for r in self.releases if r.release.family == family)

    def highest_change_index(self, wallet_id: bytes) -> int:
        """Return the highest change index in the money log, -1 where there is none."""
        found = (i for r in self.releases if r.release.wallet_id == wallet_id for i, _ in r.release.change)
        return max(found, default=-1)

    def is_frozen(self, lo: int) -> bool:
        """Return whether a freeze stands at `lo`: two people's until lifted, one person's for 72 h."""
        if len({freeze.by for freeze in self.freezes}) > 1:
            return True
        return any(freeze.t is None or lo < freeze.t + LONE_FREEZE_SECONDS for freeze in self.freezes)

    def is_stopped(self, withdrawal: Withdrawal) -> StopStatement | None:
        """Return the stop that ends `withdrawal`: a cancel by its initiator, or a reject or veto by anyone listed."""
        for stop in self.stops:
            if stop.withdrawal_digest != withdrawal.digest:
                continue
            if stop.cause is not StopCause.CANCEL or stop.by == withdrawal.initiator:
                return stop
        return None


def start(genesis: Genesis) -> State:
    """Return the state of a follower that has seen nothing: a node starts its log at size 0."""
    return State(genesis, Frontier(), Rules(genesis.policy), Spent(genesis.policy))


def in_force(state: State, at: int) -> State:
    """Return `state` under the rules of `at` (UTC seconds): a loosening that is due by then has taken effect."""
    return _under(state, state.rules.at(at))


def governed(state: State, at: int) -> State:
    """Return `state` under the rules of `at`, the tail's rule documents taken as first seen then; only to judge by.

    Whoever follows on goes on from `state`: the tail gets its true T from a WITNESS entry.
    """
    rules = state.rules.at(at)
    for pending in state.tail:
        if pending.entry.kind is EntryKind.RULE:
            rules = _succeed(replace(state, rules=rules), pending, at).rules
    return _under(state, rules.at(at))


def under_version(state: State, rules: Rules, version: int) -> State:
    """Return `state` under a version that is or was in force in `rules`, of the same log."""
    if state.policy.version == version:
        return state
    return _under(state, Rules(rules.versions[version - 1], (), rules.versions[: version - 1]))


def _under(state: State, rules: Rules) -> State:
    """Return `state` under `rules`, its past counted by their budgets."""
    if rules is state.rules:
        return state
    return replace(state, rules=rules, spent=state.spent.under(rules.policy))


def open_under(state: State, note: str, log: Log = Log.MONEY) -> tuple[State, Cosigned]:
    """Return `note` of `log` opened, and `state` under the rules whose keys must vouch at the time that it bears.

    From the moment a waiting document is due, its log key and witnesses count, and the former ones no more. Which
    moment a checkpoint is of, its oldest counted cosignature says.

    Raises:
        MalformedError, IntegrityError: what the note lacks, by code; CHECKPOINT_UNDERSIGNED for too few witnesses,
            CHECKPOINT_RULES where only keys of another time vouch.
    """
    if not state.rules.waiting:
        return state, _open(state, note, log)[0]
    due = state.rules.waiting[0].due
    failures: list[CustodyError] = []
    for candidate, is_later in ((state, False), (in_force(state, due), True)):
        try:
            cosigned, vouched_at = _open(candidate, note, log)
        except (MalformedError, IntegrityError) as error:
            failures.append(error)
            continue
        if (vouched_at >= due) == is_later:
            return candidate, cosigned
    if len(failures) < 2:
        raise IntegrityError("CHECKPOINT_RULES", "expected the log key and witnesses of its time, found others")
    raise failures[0]


def open_money_checkpoint(state: State, note: str) -> Cosigned:
    """Return `note` opened as `open_under` does."""
    return open_under(state, note)[1]


def _open(state: State, note: str, log: Log) -> tuple[Cosigned, int]:
    """Return `note` under the keys of `state`, and by when w of them vouched."""
    roots = state.policy.roots
    cosigned = open_checkpoint(note, roots.log_key, state.genesis.origin(log.value), witness_keys(state.policy))
    oldest = cosigned.oldest_counted(roots.w)
    if oldest is None:
        raise IntegrityError(
            "CHECKPOINT_UNDERSIGNED", f"expected {roots.w} witnesses' cosignatures, found {len(cosigned.counted)}"
        )
    return cosigned, oldest


def witness_keys(policy: Policy) -> tuple[WitnessKey, ...]:
    """Return the pinned witnesses as the log's notes name them."""
    return tuple(WitnessKey(witness.name, witness.key) for witness in policy.roots.witnesses)


def time_of(cosigned: Cosigned) -> int:
    """Return T of what `cosigned` is the first to cover: its latest counted timestamp, UTC seconds."""
    if cosigned.newest is None:
        raise IntegrityError("CHECKPOINT_UNDERSIGNED", "expected a cosignature, found none")
    return cosigned.newest


def advance(state: State, entries: Sequence[bytes], statements: Mapping[bytes, Signed], note: str) -> State:
    """Return the state after `entries`, which must end exactly at the cosigned checkpoint `note`.

    Args:
        state: where the follower stands.
        entries: canonical money-log entries from index `state.size` on.
        statements: by digest, what the entries name.
        note: a cosigned money checkpoint of any age.

    Raises:
        IntegrityError: ROLLED_BACK, LOG_FORK, CHECKPOINT_UNDERSIGNED, MISSING_BODY, ...
        MalformedError: an entry, note or statement is not what it claims to be.
    """
    claimed = parse_checkpoint(parse_note(note).body).size
    if claimed < state.size:
        raise IntegrityError("ROLLED_BACK", f"expected size >= {state.size}, found {claimed}")
    for raw in entries:  # first: they tell whose keys vouch for the checkpoint behind them
        state = append(state, raw, statements)
    checkpoint = open_money_checkpoint(state, note).checkpoint
    if checkpoint.size != state.size:
        raise IntegrityError("LOG_SIZE", f"expected entries up to {checkpoint.size}, found {state.size}")
    if state.size and checkpoint.root != state.frontier.root:
        raise IntegrityError("LOG_FORK", f"expected the root of my {state.size} entries, found another")
    return state


def settled(state: State, t: int) -> State:
    """Return `state` with the tail's T set to `t`: the latest counted timestamp of the checkpoint that covers it.

    The rules are those that `open_under` gives for that checkpoint: delays run out by the oldest counted timestamp, so
    that no single witness can end one early.
    """
    settled_state = state
    for pending in state.tail:
        settled_state = _settle(settled_state, pending, t)
    return replace(settled_state, tail=())


def append(state: State, raw: bytes, statements: Mapping[bytes, Signed]) -> State:
    """Return the state after one more entry, for whoever keeps the log himself; a follower calls `advance`."""
    return append_parsed(state, parse_entry(raw), leaf_hash(raw), statements)


def append_parsed(state: State, entry: MoneyEntry, leaf: bytes, statements: Mapping[bytes, Signed]) -> State:
    """Return the state after `entry`, whose leaf hash (32 bytes) the caller has at hand."""
    index = state.size
    if entry.event_size < state.event_size:
        raise IntegrityError("EVENT_SIZE", f"expected event_size >= {state.event_size}, found {entry.event_size}")
    named: dict[bytes, Signed] = {}
    for digest in statements_of(entry):
        if digest not in statements or statements[digest].digest != digest:
            raise IntegrityError("MISSING_BODY", f"expected the statement {digest.hex()[:16]} of entry {index}")
        named[digest] = statements[digest]
    if entry.kind is EntryKind.WITNESS:
        state = _settle_all(state, entry)
    else:
        pending = Pending(index, entry, named)
        state = replace(_count_at_once(state, pending), tail=(*state.tail, pending))
    return replace(state, frontier=state.frontier.append(leaf), event_size=entry.event_size)


def _settle_all(state: State, entry: MoneyEntry) -> State:
    """Take a WITNESS entry: it covers every entry in front of it, or it is refused."""
    assert isinstance(entry.body, Witnessed)  # noqa: S101 - parse_entry pairs kind and body
    if not state.tail:
        raise IntegrityError("WITNESS_ENTRY", "expected a WITNESS entry only behind an entry that it covers")
    vouched, cosigned = open_under(state, entry.body.note)
    if (cosigned.checkpoint.size, cosigned.checkpoint.root) != (state.size, state.frontier.root):
        raise IntegrityError("WITNESS_ENTRY", f"expected the checkpoint of the {state.size} entries in front of it")
    return settled(vouched, time_of(cosigned))


def _settle(state: State, pending: Pending, t: int) -> State:
    body = pending.entry.body
    if isinstance(body, Release):
        if _is_admissible(state, body, pending.statements, t):
            released = Released(pending.index, body, t, state.policy.version)
            return replace(state, releases=(*state.releases, released), spent=state.spent.add(body, t))
    elif isinstance(body, Notice):
        withdrawal_signed = pending.statements[body.withdrawal_digest]
        if _initiated(state, withdrawal_signed):
            return replace(state, notices=(*state.notices, (body.withdrawal_digest, t)))
    elif isinstance(body, Stop):
        return _stop(state, body, pending.statements[body.statement])
    elif isinstance(body, Document):
        signed = pending.statements[body.statement]
        if pending.entry.kind is EntryKind.FREEZE:
            return _date_freeze(_freeze(state, signed), signed, t)  # its maker may have come with rules that just began
        if pending.entry.kind is EntryKind.UNFREEZE:
            return _unfreeze(state, signed, t)
        if pending.entry.kind is EntryKind.RULE:
            return _succeed(state, pending, t)
    return state


def _succeed(state: State, pending: Pending, t: int) -> State:
    """Take a rule document: only its T tells which version is in effect, and who is in office."""
    assert isinstance(pending.entry.body, Document)  # noqa: S101 - parse_entry pairs kind and body
    signed = pending.statements[pending.entry.body.statement]
    return _under(state, succeed(state.rules, state.genesis, signed, pending.index, t))


def _count_at_once(state: State, pending: Pending) -> State:
    """Take what protects: stops and freezes count from their index on, not only from T."""
    body = pending.entry.body
    if isinstance(body, Stop):
        return _stop(state, body, pending.statements[body.statement])
    if isinstance(body, Document):
        signed = pending.statements[body.statement]
        if pending.entry.kind is EntryKind.FREEZE:
            return _freeze(state, signed)
    return state


def _stop(state: State, body: Stop, signed: Signed) -> State:
    stop = read_stop(signed)
    told = (body.withdrawal_digest, body.cause, body.by)
    if stop in state.stops or (stop.withdrawal_digest, stop.cause, stop.by) != told:
        return state
    return replace(state, stops=(*state.stops, stop)) if may_stop(state, stop, signed) else state


def may_stop(state: State, stop: StopStatement, signed: Signed) -> bool:
    """Return whether `signed` is by the listed person or service that it names."""
    return stop.genesis == state.genesis.hash and bool(key_holders(state.policy, signed) & {stop.by})


def may_freeze(policy: Policy, by: str, signed: Signed) -> bool:
    """Return whether `signed` is by `by`, who is in a group that may freeze."""
    return by in key_holders(policy, signed, groups=policy.admin.freeze.groups)


def _freeze(state: State, signed: Signed) -> State:
    freeze = read_freeze(signed)
    known = freeze.freeze_id in state.lifted or any(f.freeze_id == freeze.freeze_id for f in state.freezes)
    again = any(f.by == freeze.by for f in state.freezes)  # no second one until a quorum re-arms
    if known or again or freeze.genesis != state.genesis.hash or not may_freeze(state.policy, freeze.by, signed):
        return state
    return replace(state, freezes=(*state.freezes, Frozen(freeze.freeze_id, freeze.by, None)))


def _date_freeze(state: State, signed: Signed, t: int) -> State:
    """Give a freeze its T; it stops counting if its maker was no longer in office then."""
    freeze = read_freeze(signed)
    stands = freeze.by in key_holders(state.policy, signed, groups=state.policy.admin.freeze.groups, at=t)
    found: list[Frozen] = []
    for frozen in state.freezes:
        if frozen.freeze_id != freeze.freeze_id or frozen.t is not None:  # a freeze logged twice keeps its first T
            found.append(frozen)
        elif stands:
            found.append(replace(frozen, t=t))
    return replace(state, freezes=tuple(found))


def _unfreeze(state: State, signed: Signed, t: int) -> State:
    """Lift freezes: loosening, so it counts only from its T on, and only by people in office then."""
    unfreeze = read_unfreeze(signed)
    quorum = state.policy.admin.unfreeze
    people = key_holders(state.policy, signed, groups=quorum.groups, at=t, seen=True)
    if unfreeze.genesis != state.genesis.hash or len(people) < quorum.threshold:
        return state
    lifted = state.lifted | frozenset(unfreeze.freeze_ids)
    return replace(state, lifted=lifted, freezes=tuple(f for f in state.freezes if f.freeze_id not in lifted))


def _initiated(state: State, signed: Signed) -> bool:
    """Return whether `signed` is a withdrawal of this genesis, signed by the initiator it names."""
    withdrawal = read_withdrawal(signed)
    return withdrawal.genesis == state.genesis.hash and withdrawal.initiator in key_holders(state.policy, signed)


def _is_admissible(state: State, release: Release, statements: Mapping[bytes, Signed], t: int) -> bool:
    """Return whether `release` counts: its withdrawal and approvals verify at `t`, and it says what they say."""
    try:
        signed = statements[release.withdrawal_digest]
        withdrawal = read_withdrawal(signed)
        approvals = tuple((read_approval(statements[d]), statements[d]) for d in release.approvals)
        payments = payments_of(withdrawal, state.genesis)
    except MalformedError:
        return False
    if verify_people(state.policy, withdrawal, signed, approvals, t) is not None:
        return False
    told = (
        release.withdrawal_id,
        release.wallet_id,
        release.initiator,
        release.relation,
        release.max_fee_sats,
        release.family,
        sorted(release.payments, key=_payment_order),
    )
    true = (
        withdrawal.withdrawal_id,
        withdrawal.wallet_id,
        withdrawal.initiator,
        withdrawal.relation,
        withdrawal.max_fee_sats,
        family_of(state, withdrawal),
        sorted(payments, key=_payment_order),
    )
    return told == true and withdrawal.genesis == state.genesis.hash


def payments_of(withdrawal: Withdrawal, genesis: Genesis) -> tuple[TxOut, ...]:
    """Return the outputs that `withdrawal` asks for, in its order; refuses addresses of another network."""
    return tuple(TxOut(p.amount_sats, script_of(p.address, genesis.network)) for p in withdrawal.payments)


def family_of(state: State, withdrawal: Withdrawal) -> bytes | None:
    """Return the family (32 bytes) that `withdrawal` belongs to: its own digest, or that of what it supersedes.

    None where it supersedes what was never released: there is nothing to replace, and no family to share coins with.
    """
    if withdrawal.relation.kind is not RelationKind.SUPERSEDES:
        return withdrawal.digest
    replaced = state.releases_of(withdrawal.relation.digests[0])
    return replaced[0].release.family if replaced else None


def _payment_order(payment: TxOut) -> tuple[bytes, int]:
    return payment.script, payment.amount

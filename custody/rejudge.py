"""Judge a release again, long after: would the rules of its index have let it through, on what came before it?

Level full of the verifier stands on this. It judges as a signer did, with two differences that time forces on it: it
knows T for certain, and it cannot know at which second inside `ENTRY_TIME_TOLERANCE_S` a release was decided, so it
takes the entry's own time where T says no.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from custody.approval import Approval, read_approval
from custody.audit import Body
from custody.decide import Allow, Case, Deny, check_feerate, decide
from custody.entries import MoneyEntry, Release
from custody.errors import MalformedError, Refused
from custody.facts import (
    CHANGE_GAP,
    VERSION,
    ChangeFact,
    Facts,
    InputFact,
    ShapeLimits,
    check_matches,
    own_payees,
    read_facts,
)
from custody.follow import Released, State, family_of
from custody.interval import Interval
from custody.once import pays_once
from custody.people import verify_people
from custody.policy import Policy
from custody.policy.budgets import Spent
from custody.policy.duties import Delay, Veto
from custody.policy.match import leaves
from custody.policy.terms import DestinationClass, DestinationTerm
from custody.psbt import Psbt
from custody.release import release_of, vsize_of_release_vb
from custody.state import next_highest_change
from custody.statements import Signed
from custody.units import Sats
from custody.wallet import ScriptBook
from custody.withdrawal import Withdrawal, read_withdrawal

ENTRY_TIME_TOLERANCE_S = 600  # protocol.md "WITNESS": an entry's own time may differ from T by this much


class History:
    """The admissible releases so far, found by what they can stand against: a log of years is replayed in one pass."""

    def __init__(self, policy: Policy) -> None:
        self._spent = Spent(policy)
        self._asks_for_own: dict[bytes, bool] = {}  # by the policy's hash
        self._by_name: dict[tuple[str, str], list[Released]] = defaultdict(list)
        self._by_digest: dict[bytes, list[Released]] = defaultdict(list)
        self._by_superseded: dict[bytes, list[Released]] = defaultdict(list)
        self._by_payment: dict[tuple[bytes, int], list[Released]] = defaultdict(list)
        self._by_family: dict[bytes, list[Released]] = defaultdict(list)
        self._highest: dict[bytes, int] = {}

    def add(self, released: Released) -> None:
        """Count one more."""
        release = released.release
        self._by_name[release.initiator, release.withdrawal_id].append(released)
        self._by_digest[release.withdrawal_digest].append(released)
        for digest in release.relation.digests:
            self._by_superseded[digest].append(released)
        for payment in {(p.script, int(p.amount)) for p in release.payments}:
            self._by_payment[payment].append(released)
        self._by_family[release.family].append(released)
        self._spent = self._spent.add(release, released.t)
        highest = self.highest_change_index(release.wallet_id)
        self._highest[release.wallet_id] = next_highest_change(highest, release)

    def highest_change_index(self, wallet_id: bytes) -> int:
        """Return the highest change index so far, -1 before the first."""
        return self._highest.get(wallet_id, -1)

    def beside(self, withdrawal: Withdrawal, release: Release) -> tuple[Released, ...]:
        """Return every release that `custody.once` can hold against `withdrawal`, in the order of the log."""
        found = [
            *self._by_name.get((withdrawal.initiator, withdrawal.withdrawal_id), ()),
            *self._by_superseded.get(withdrawal.digest, ()),
            *self._by_family.get(release.family, ()),
        ]
        for digest in withdrawal.relation.digests:
            found += self._by_digest.get(digest, ())
        for payment in release.payments:
            found += self._by_payment.get((payment.script, int(payment.amount)), ())
        return tuple(sorted({released.index: released for released in found}.values(), key=lambda r: r.index))

    def spent(self, policy: Policy) -> Spent:
        """Return the releases so far as the budgets of `policy` count them."""
        self._spent = self._spent.under(policy)
        return self._spent

    def asks_for_own(self, policy: Policy) -> bool:
        """Return whether a rule asks which payees are wallets of ours: to tell, a thousand scripts are derived."""
        if policy.hash not in self._asks_for_own:
            terms = (leaf for rule in policy.rules for leaf in leaves(rule.match))
            kinds = {term.kind for term in terms if isinstance(term, DestinationTerm)}
            self._asks_for_own[policy.hash] = bool(kinds & {DestinationClass.INTERNAL, DestinationClass.ONE_TIME})
        return self._asks_for_own[policy.hash]


@dataclass(frozen=True, slots=True)
class Logged:
    """One RELEASE as it stands in the log. before: the state in front of it.  t: T(RELEASE), UTC seconds."""

    index: int
    entry: MoneyEntry
    release: Release
    before: State
    t: int

    @property
    def is_dated(self) -> bool:
        """Whether the entry's own time is as near to T as signers demand."""
        return abs(self.entry.time - self.t) <= ENTRY_TIME_TOLERANCE_S


@dataclass(frozen=True, slots=True)
class Papers:
    """What an export holds of one release. bodies: by digest.  notices: (withdrawal digest, T) of the whole log so far.

    psbt: its transaction, or None where it was pruned; then the entry speaks for it.  book: its wallet's scripts.
    """

    bodies: Mapping[bytes, Body]
    notices: tuple[tuple[bytes, int], ...]
    psbt: Psbt | None
    book: ScriptBook


def why_inadmissible(logged: Logged, bodies: Mapping[bytes, Body]) -> Refused:
    """Return why a RELEASE that the follower did not count is inadmissible."""
    try:
        withdrawal, signed, approvals = _statements(logged.release, bodies)
    except MalformedError as error:
        return Refused(error.code, "a withdrawal and approvals", error.message)
    found = verify_people(logged.before.policy, withdrawal, signed, approvals, logged.t)
    return found or Refused("RELEASE_MISMATCH", "a release that says what its withdrawal says", "another")


@dataclass(frozen=True, slots=True)
class Rejudged:
    """What the transaction of a release that was rightly made does, and who might have vetoed it."""

    facts: Facts
    vetoes: tuple[Veto, ...]


def judge_again(logged: Logged, history: History, papers: Papers) -> Rejudged | Refused:
    """Return what the transaction of an admissible release does, or why it should not have been made.

    Args:
        logged: the release.
        history: every admissible release in front of it.
        papers: what the export holds of it.
    """
    # Plan: 1 the transaction is the logged one · 2 it is what was asked, change and fee in bounds · 3 rules · 4 once.
    release, policy, psbt, book = logged.release, logged.before.policy, papers.psbt, papers.book
    withdrawal, _, approvals = _statements(release, papers.bodies)
    limits = ShapeLimits(
        highest_change_index=history.highest_change_index(release.wallet_id),
        change_floor_sats=policy.limits.change_floor_sats,
        max_change_outputs=policy.limits.change_max_outputs,
    )
    facts = _facts_of_entry(release, book, limits) if psbt is None else read_facts(psbt, book, limits)
    if isinstance(facts, Refused):
        return facts
    state = replace(logged.before, releases=history.beside(withdrawal, release), notices=papers.notices, tail=())
    family = family_of(state, withdrawal)
    digests = tuple(approval.digest for approval, _ in approvals)
    if family is None or (psbt is not None and release != release_of(withdrawal, digests, facts, family, release.time)):
        return Refused("RELEASE_MISMATCH", "a release of exactly this transaction", "another")
    if refused := check_matches(withdrawal, facts, book.wallet) or check_feerate(
        policy.limits, facts.fee_sats, facts.vsize_vb
    ):
        return refused
    case = Case(
        withdrawal=withdrawal,
        facts=facts,
        approvals=approvals,
        families=history.spent(policy),
        family=release.family,
        time=Interval(logged.t, logged.t),
        t_release=logged.t,
        own_scripts=own_payees(facts, book) if history.asks_for_own(policy) else None,
    )
    found = _judge_at(logged.t, case, state)
    if isinstance(found, Refused) and logged.is_dated and logged.entry.time != logged.t:
        again = _judge_at(logged.entry.time, case, state)
        found = found if isinstance(again, Refused) else again
    return found if isinstance(found, Refused) else Rejudged(facts, found.vetoes)


def _judge_at(at: int, case: Case, state: State) -> Delay | Refused:
    """Return the wait that rules asked for, or what they and payments so far say against it at `at` (UTC seconds)."""
    decision = decide(state.policy, replace(case, time=Interval(at, at)))
    if isinstance(decision, Deny):
        return decision.refused
    if not isinstance(decision, Allow):
        lack = decision.missing[0]
        return Refused("APPROVALS_MISSING", f"{lack.needed} of {lack.of} by rule {lack.rule}", str(len(lack.have)))
    noticed = [t for digest, t in state.notices if digest == case.withdrawal.digest] if decision.delay.seconds else []
    if decision.delay.seconds and (not noticed or at < min(noticed) + decision.delay.seconds):
        return Refused("DELAY_RUNNING", f"a NOTICE {decision.delay.seconds} s before", "none as old")
    return pays_once(case.withdrawal, case.facts, state, at) or decision.delay


def _statements(
    release: Release, bodies: Mapping[bytes, Body]
) -> tuple[Withdrawal, Signed, tuple[tuple[Approval, Signed], ...]]:
    signed = _signed(bodies, release.withdrawal_digest)
    approvals = [_signed(bodies, digest) for digest in release.approvals]
    return read_withdrawal(signed), signed, tuple((read_approval(found), found) for found in approvals)


def _signed(bodies: Mapping[bytes, Body], digest: bytes) -> Signed:
    found = bodies.get(digest)
    if not isinstance(found, Signed):
        raise MalformedError("MISSING_BODY", f"expected the statement {digest.hex()}")
    return found


def _facts_of_entry(release: Release, book: ScriptBook, limits: ShapeLimits) -> Facts | Refused:
    """Return what the entry alone says of its transaction, its change inside the window; amounts spent stay unknown."""
    highest = limits.highest_change_index + CHANGE_GAP
    if len(release.change) > limits.max_change_outputs:
        return Refused("TOO_MUCH_CHANGE", f"at most {limits.max_change_outputs}", str(len(release.change)))
    for index, amount in release.change:
        if index > highest:
            return Refused("CHANGE_INDEX", f"an index of at most {highest}", str(index))
        if amount < limits.change_floor_sats:
            return Refused("CHANGE_BELOW_FLOOR", f"at least {limits.change_floor_sats} sats", f"{amount} sats")
    return Facts(
        txid=release.txid,
        version=VERSION,
        locktime=0,
        inputs=tuple(InputFact(outpoint, Sats(0), 0, 0, b"") for outpoint in release.outpoints),
        payments=release.payments,
        change=tuple(ChangeFact(at, index, amount) for at, (index, amount) in enumerate(release.change)),
        fee_sats=release.fee_sats,
        vsize_vb=vsize_of_release_vb(release, book),
    )

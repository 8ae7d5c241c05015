"""What would a draft have changed? Past releases, judged again under two versions of the rules, side by side.

Each version counts its budgets over what was really released, and judges each release at its own T with the approvals
that were really given. The dates of the documents are left out: a draft of tomorrow is asked about yesterday.
What was never released is in no log, so a draft that allows more shows it only where the log says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from custody.approval import Approval
from custody.entries import Release
from custody.interval import Interval
from custody.people import Ballot, check_approval
from custody.policy.budgets import Spent, subject_of_release
from custody.policy.document import Policy
from custody.policy.evaluate import Allow, Decided, Deny, Question, weigh
from custody.policy.votes import Electorate
from custody.release import vsize_of_release_vb
from custody.statements import Signed
from custody.wallet import RECEIVE, ScriptBook
from custody.withdrawal import Withdrawal

OWN_ADDRESSES = 1_000  # how far receiving scripts of our own are looked for, as signers do


@dataclass(frozen=True, slots=True)
class PastRelease:
    """A release of the log with its statements. t: T(RELEASE), UTC seconds."""

    release: Release
    t: int
    withdrawal: Withdrawal
    approvals: tuple[tuple[Approval, Signed], ...]


class Verdict(Enum):
    """What a version of the rules says of a release."""

    ALLOWED = "allowed"
    NEEDS = "needs approvals"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Said:
    """A version's answer. because: the rules that stop it, or codes where no rule does.  also: what else it asks."""

    verdict: Verdict
    because: tuple[str, ...]
    also: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One release under both versions. amount_sats: its payments and largest fee."""

    withdrawal_digest: bytes
    withdrawal_id: str
    initiator: str
    t: int
    amount_sats: int
    now: Said
    draft: Said

    @property
    def is_changed(self) -> bool:
        """Whether the draft says something else."""
        return (self.now.verdict, self.now.also) != (self.draft.verdict, self.draft.also)


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the table: how many releases go from what to what by which rule, and what they pay."""

    before: str
    after: str
    by: str
    count: int
    amount_sats: int


def simulate(
    now: Policy, draft: Policy, history: Iterable[PastRelease], books: Mapping[bytes, ScriptBook], since: int = 0
) -> tuple[Compared, ...]:
    """Return each release from `since` on (UTC seconds) under both versions, in the order of the log.

    Args:
        now: the rules in force.
        draft: the rules that may replace them.
        history: every admissible release, in the order of the log; the older ones fill budgets.
        books: scripts of each wallet, by its id: sizes and our own addresses are known from them.
        since: releases before it are counted and not compared.
    """
    counts = {now.hash: Spent(now), draft.hash: Spent(draft)}
    found = []
    for past in history:
        if past.t >= since:
            said = [_said(policy, past, counts[policy.hash], books) for policy in (now, draft)]
            found.append(
                Compared(
                    withdrawal_digest=past.release.withdrawal_digest,
                    withdrawal_id=past.release.withdrawal_id,
                    initiator=past.release.initiator,
                    t=past.t,
                    amount_sats=past.release.total_sats,
                    now=said[0],
                    draft=said[1],
                )
            )
        counts = {name: spent.add(past.release, past.t) for name, spent in counts.items()}
    return tuple(found)


def changes(compared: Sequence[Compared]) -> tuple[Change, ...]:
    """Return the table of what changes, by rule: the most frequent first."""
    counted: Counter[tuple[str, str, str]] = Counter()
    amounts: Counter[tuple[str, str, str]] = Counter()
    for each in compared:
        if not each.is_changed:
            continue
        for by in _causes(each):
            row = (_words(each.now), _words(each.draft), by)
            counted[row] += 1
            amounts[row] += each.amount_sats
    rows = sorted(counted, key=lambda row: (-counted[row], row))
    return tuple(Change(*row, counted[row], amounts[row]) for row in rows)


def _causes(each: Compared) -> tuple[str, ...]:
    """Return what makes the difference: what stops it in the draft, or stopped it until now."""
    gone, new = set(each.now.because), set(each.draft.because)
    return tuple(sorted(new - gone or gone - new or {"what matched rules ask besides"}))


def _words(said: Said) -> str:
    return f"{said.verdict.value}, {said.also}" if said.also else said.verdict.value


def _said(policy: Policy, past: PastRelease, spent: Spent, books: Mapping[bytes, ScriptBook]) -> Said:
    subject = subject_of_release(past.release, past.t)
    book = books.get(past.release.wallet_id)
    if book is not None:
        scripts = {payment.script for payment in past.release.payments}
        own = frozenset(script for script in scripts if book.find(script, RECEIVE, OWN_ADDRESSES) is not None)
        subject = replace(subject, vsize_vb=vsize_of_release_vb(past.release, book), own_scripts=own)
    before = spent.family(past.release.family)
    earlier = () if before is None else before.releases
    subject = replace(subject, replaced_fees=tuple(sorted(r.fee_sats for r in earlier if r.txid != past.release.txid)))
    found = [check_approval(policy, past.withdrawal, *approval, past.t) for approval in past.approvals]
    ballots = {ballot.person: ballot for ballot in found if isinstance(ballot, Ballot)}
    electorate = Electorate(policy, past.release.initiator, tuple(ballots.values()), past.t)
    moment = Interval(past.t, past.t)
    return _answer(weigh(Question(policy, subject, moment, electorate, (), spent, past.release.family)))


def _answer(decision: Decided) -> Said:
    stopping = tuple(reason.rule for reason in decision.reasons if reason.stops)
    if isinstance(decision, Deny):
        return Said(Verdict.DENIED, stopping or tuple(sorted({refused.code for refused in decision.refusals})))
    also = [f"waits {decision.delay.seconds} s"] if decision.delay.seconds else []
    also += [f"{decision.signers.min_offline} offline"] if decision.signers.min_offline else []
    also += [f"with {name}" for name in decision.signers.include]
    also += [f"without {name}" for name in decision.signers.exclude]
    also += ["a code typed at each signer"] if decision.local_conf else []
    verdict = Verdict.ALLOWED if isinstance(decision, Allow) else Verdict.NEEDS
    return Said(verdict, stopping, ", ".join(also))

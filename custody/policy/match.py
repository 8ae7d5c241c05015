"""Does a rule speak of this? Matchers over proven facts, in three values: true, false, or not known.

A fact that is not known never becomes "false": whoever asks decides what it costs (a deny, or a release counted).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import assert_never

from custody.policy.document import Policy
from custody.policy.subject import Subject, script_type
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
    ChainTerm,
    ChangeTerm,
    ConfirmationsTerm,
    DestinationClass,
    DestinationTerm,
    Evidence,
    FeeTerm,
    InitiatorTerm,
    InputsTerm,
    MessageTerm,
    NoPaymentsTerm,
    NotTerm,
    Quantifier,
    RelationTerm,
    ReplacementTerm,
    ScriptType,
    SessionTerm,
    ShapeTerm,
    Term,
    TimeTerm,
    WalletShareTerm,
    WalletTerm,
    ZoneTimeTerm,
)
from custody.policy.words import describe

HOUR_S = 3_600
HOURS_PER_WEEK = 168
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday


class Outcome(Enum):
    """What a matcher says."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reason:
    """One node of the tree that explains a match. what: the matcher in words, with what was found."""

    what: str
    outcome: Outcome
    parts: tuple[Reason, ...] = ()

    @property
    def has_unknown(self) -> bool:
        """Whether any matcher below lacked its fact, even where the rest already decides."""
        return any(part.has_unknown for part in self.parts) if self.parts else self.outcome is Outcome.UNKNOWN


def reason_for(term: Term, subject: Subject, policy: Policy) -> Reason:
    """Return what `term` says of `subject`, as a tree with every matcher answered."""
    if isinstance(term, NotTerm):
        inner = reason_for(term.term, subject, policy)
        return Reason("not", _OPPOSITE[inner.outcome], (inner,))
    if isinstance(term, AnyTerm | AllTerm):
        parts = tuple(reason_for(part, subject, policy) for part in term.terms)
        answers = [_ANSWERS[part.outcome] for part in parts]
        if isinstance(term, AnyTerm):
            return Reason("any of", _OUTCOMES[_any(answers)], parts)
        return Reason("all of", _OUTCOMES[_all(answers)], parts)
    return Reason(describe(term, subject, policy), _OUTCOMES[holds(term, subject, policy)])


_OUTCOMES = {True: Outcome.TRUE, False: Outcome.FALSE, None: Outcome.UNKNOWN}
_ANSWERS = {outcome: answer for answer, outcome in _OUTCOMES.items()}
_OPPOSITE = {Outcome.TRUE: Outcome.FALSE, Outcome.FALSE: Outcome.TRUE, Outcome.UNKNOWN: Outcome.UNKNOWN}


def holds(term: Term, subject: Subject, policy: Policy) -> bool | None:
    """Return whether `term` is true of `subject`; None where a missing fact decides it."""
    if isinstance(term, NotTerm):
        inner = holds(term.term, subject, policy)
        return None if inner is None else not inner
    if isinstance(term, AllTerm):
        return _all(holds(part, subject, policy) for part in term.terms)
    if isinstance(term, AnyTerm):
        return _any(holds(part, subject, policy) for part in term.terms)
    return _leaf_holds(term, subject, policy)


def _leaf_holds(term: Term, subject: Subject, policy: Policy) -> bool | None:
    match term:
        case WalletTerm():
            return _wallet(term, subject, policy)
        case InitiatorTerm():
            return _initiator(term, subject, policy)
        case DestinationTerm():
            return _destination(term, subject, policy)
        case AmountTerm():
            return _amount(term, subject)
        case FeeTerm():
            return _fee(term, subject)
        case ShapeTerm():
            return _shape(term, subject)
        case InputsTerm():
            return None if subject.outpoints is None else subject.outpoints <= set(term.outpoints)
        case ChangeTerm():
            return _at_most(subject.change_outputs, term.max_outputs)
        case NoPaymentsTerm():
            return not subject.payments
        case RelationTerm():
            return subject.relation in term.kinds
        case ReplacementTerm():
            return _replacement(term, subject)
        case MessageTerm():
            return _message(term, subject)
        case TimeTerm():
            return _time(term, subject, 0)
        case ZoneTimeTerm() | SessionTerm() | WalletShareTerm() | ConfirmationsTerm() | ChainTerm():
            return _told(term, subject)
        case NotTerm() | AnyTerm() | AllTerm():
            return holds(term, subject, policy)
        case _:
            assert_never(term)


def _all(answers: Iterable[bool | None]) -> bool | None:
    found = list(answers)
    if False in found:
        return False
    return None if None in found else True


def _any(answers: Iterable[bool | None]) -> bool | None:
    found = list(answers)
    if True in found:
        return True
    return None if None in found else False


def _wallet(term: WalletTerm, subject: Subject, policy: Policy) -> bool | None:
    wallet = policy.wallet(subject.wallet_id)
    known_classes = {name for listed in policy.wallets for name in listed.classes}
    if wallet is None or set(term.names) - set(policy.wallet_ids) or set(term.classes) - known_classes:
        return None
    return (not term.names or wallet.name in term.names) and (
        not term.classes or not set(term.classes).isdisjoint(wallet.classes)
    )


def _initiator(term: InitiatorTerm, subject: Subject, policy: Policy) -> bool | None:
    dead = (
        set(term.users) - {user.name for user in policy.users}
        or set(term.services) - {service.name for service in policy.services}
        or set(term.groups) - set(policy.groups)
    )
    if dead:
        return None
    if subject.initiator in term.users or subject.initiator in term.services:
        return True
    if not term.groups:
        return False
    initiator = policy.principal(subject.initiator)  # None: who left may have been in the group
    return None if initiator is None else not set(term.groups).isdisjoint(initiator.groups)


def _destination(term: DestinationTerm, subject: Subject, policy: Policy) -> bool | None:
    """A payee is judged by its script alone: full bytes, never a shown or shortened address."""
    lists = [policy.destination_list(name) for name in term.lists]
    if None in lists:
        return None
    named = set(term.scripts)
    for found in lists:
        if found is not None:
            named |= found.live_scripts(subject.lo, subject.hi)
    listed: frozenset[bytes] = frozenset()
    if term.kind is not None:
        listed = frozenset().union(*(found.live_scripts(subject.lo, subject.hi) for found in policy.lists))
    answers = [_payee(term, payment.script, named, listed, subject.own_scripts) for payment in subject.payments]
    if not answers:
        return False  # "all of nobody" must not let a self-transfer through a rule about payees
    return _all(answers) if term.quantifier is Quantifier.ALL else _any(answers)


def _payee(
    term: DestinationTerm, script: bytes, named: set[bytes], listed: frozenset[bytes], own: frozenset[bytes] | None
) -> bool | None:
    kind = script_type(script)
    answers: list[bool | None] = []
    if term.lists or term.scripts:
        answers.append(script in named)
    if term.script_types:
        answers.append(kind in term.script_types)
    if term.op_return is not None:
        answers.append((kind is ScriptType.OP_RETURN) == term.op_return)
    is_own = None if own is None else script in own
    if term.kind is DestinationClass.LISTED:
        answers.append(script in listed)
    elif term.kind is DestinationClass.INTERNAL:
        answers.append(is_own)
    elif term.kind is DestinationClass.ONE_TIME:
        answers.append(False if script in listed else None if is_own is None else not is_own)
    return _all(answers)


def _amount(term: AmountTerm, subject: Subject) -> bool:
    amount = subject.total_sats if term.include_fee else subject.paid_sats
    return (
        (term.min_sats is None or amount >= term.min_sats)
        and (term.max_sats is None or amount <= term.max_sats)
        and (term.per_output_max_sats is None or all(p.amount <= term.per_output_max_sats for p in subject.payments))
    )


def _fee(term: FeeTerm, subject: Subject) -> bool | None:
    """Whole numbers only: rates and percentages are compared by products, nothing is rounded."""
    fee, vsize = subject.fee_sats, subject.vsize_vb
    answers: list[bool | None] = []
    if term.max_sats is not None:
        answers.append(None if fee is None else fee <= term.max_sats)
    if term.max_sat_vb is not None:
        answers.append(None if fee is None or vsize is None else fee <= term.max_sat_vb * vsize)
    if term.min_sat_vb is not None:
        answers.append(None if fee is None or vsize is None else fee >= term.min_sat_vb * vsize)
    if term.max_pct_of_amount is not None and subject.payments:
        answers.append(None if fee is None else fee * 100 <= term.max_pct_of_amount * subject.paid_sats)
    return _all(answers)


def _shape(term: ShapeTerm, subject: Subject) -> bool | None:
    answers = [
        _at_most(subject.inputs, term.max_inputs),
        _at_most(subject.outputs, term.max_outputs),
        _at_most(subject.vsize_vb, term.max_vbytes),
    ]
    if term.script_types:
        answers.append(None if subject.script_types is None else subject.script_types <= set(term.script_types))
    return _all(answers)


def _at_most(found: int | None, most: int | None) -> bool | None:
    if most is None:
        return True
    return None if found is None else found <= most


def _replacement(term: ReplacementTerm, subject: Subject) -> bool | None:
    """The smallest fee of the family is what others are measured by: a row of small bumps is one large bump."""
    if subject.fee_sats is None or subject.replaced_fees is None or term.max_fee_increase is None:
        return None
    return not subject.replaced_fees or subject.fee_sats - min(subject.replaced_fees) <= term.max_fee_increase


def _message(term: MessageTerm, subject: Subject) -> bool | None:
    if subject.message is None:
        return None
    return (not term.formats or subject.message.format in term.formats) and (
        term.max_len is None or subject.message.length <= term.max_len
    )


def _told(
    term: ZoneTimeTerm | SessionTerm | WalletShareTerm | ConfirmationsTerm | ChainTerm, subject: Subject
) -> bool | None:
    """What only the coordinator can say; what it does not say is not known."""
    told = subject.coordinator
    if told is None:
        return None
    match term:
        case ZoneTimeTerm():
            offset_s = None if told.offsets_s is None else told.offsets_s.get(term.zone)
            return None if offset_s is None else _time(TimeTerm(term.days, term.hours), subject, offset_s)
        case SessionTerm():
            return _session(term, told.factors, told.ip, told.cert_role)
        case WalletShareTerm():
            if told.wallet_sats is None or term.max_pct is None:
                return None
            return subject.total_sats * 100 <= term.max_pct * told.wallet_sats
        case ConfirmationsTerm():
            return None if told.confirmations is None else told.confirmations >= term.least
        case ChainTerm():
            return None if told.lag_blocks is None else _at_most(told.lag_blocks, term.max_lag_blocks)
        case _:
            assert_never(term)


def _session(term: SessionTerm, factors: frozenset[str] | None, ip: str | None, role: str | None) -> bool | None:
    answers: list[bool | None] = []
    if term.factors:
        answers.append(None if factors is None else not factors.isdisjoint(term.factors))
    if term.ip_cidrs:
        answers.append(None if ip is None else any(ip_address(ip) in ip_network(cidr) for cidr in term.ip_cidrs))
    if term.cert_role:
        answers.append(None if role is None else role in term.cert_role)
    return _all(answers)


def _time(term: TimeTerm, subject: Subject, offset_s: int) -> bool | None:
    """The witnesses' time of the release where there is one; before that, now, if both ends of now agree."""
    if subject.released is not None:
        return _in_hours(term, (subject.released + offset_s) // HOUR_S)
    first = (subject.lo + offset_s) // HOUR_S
    last = min((subject.hi + offset_s) // HOUR_S, first + HOURS_PER_WEEK)  # a week holds every answer
    answers = {_in_hours(term, hour) for hour in range(first, last + 1)}
    return answers.pop() if len(answers) == 1 else None


def _in_hours(term: TimeTerm, hours: int) -> bool:
    weekday = (hours // 24 + _EPOCH_WEEKDAY) % 7
    return (not term.days or weekday in term.days) and (not term.hours or hours % 24 in term.hours)


def bounds_fee(term: Term) -> bool:
    """Return whether `term` can only be true of a transaction whose fee has a limit in sats."""
    if isinstance(term, FeeTerm):
        return term.max_sats is not None
    if isinstance(term, AllTerm):
        return any(bounds_fee(part) for part in term.terms)
    if isinstance(term, AnyTerm):
        return all(bounds_fee(part) for part in term.terms)
    return False


def leaves(term: Term) -> tuple[Term, ...]:
    """Return the matchers inside `term`, whatever joins them."""
    if isinstance(term, NotTerm):
        return leaves(term.term)
    if isinstance(term, AnyTerm | AllTerm):
        return tuple(leaf for part in term.terms for leaf in leaves(part))
    return (term,)


def coordinator_only(term: Term) -> tuple[str, ...]:
    """Return the names of the matchers in `term` that no signer can judge, sorted."""
    found = {type(leaf) for leaf in leaves(term) if getattr(leaf, "evidence", None) is Evidence.COORDINATOR}
    return tuple(sorted(_COORDINATOR_WORDS[kind] for kind in found))


_COORDINATOR_WORDS: dict[type, str] = {
    SessionTerm: "session",
    WalletShareTerm: "pct_of_wallet",
    ConfirmationsTerm: "min_confirmations",
    ChainTerm: "chain",
    ZoneTimeTerm: "time.zone",
}

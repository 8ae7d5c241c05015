"""A matcher in words, with what was found: the leaves of the tree that explains a decision."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from custody.policy.document import Policy
from custody.policy.subject import Subject
from custody.policy.terms import (
    AmountTerm,
    ChainTerm,
    ChangeTerm,
    ConfirmationsTerm,
    DestinationTerm,
    FeeTerm,
    InitiatorTerm,
    InputsTerm,
    MessageTerm,
    NoPaymentsTerm,
    RelationTerm,
    ReplacementTerm,
    SessionTerm,
    ShapeTerm,
    Term,
    TimeTerm,
    WalletShareTerm,
    WalletTerm,
    ZoneTimeTerm,
)
from custody.transaction import OutPoint


def describe(term: Term, subject: Subject, policy: Policy) -> str:
    """Return one matcher in words, with what it found: "fee max_sats=1000; found 900 sats in 200 vB"."""
    return f"{words_of(term)}; found {_FOUND[type(term)](subject, policy)}"


def words_of(term: Term) -> str:
    """Return one matcher in words: "amount max_sats=5000"."""
    name = type(term).__name__.removesuffix("Term").lower()
    given = []
    for field in type(term).__dataclass_fields__:
        value = getattr(term, field)
        if value is None or value == () or field == "evidence":
            continue
        given.append(f"{field}={_value_words(value)}")
    return " ".join([name, *given])


def _value_words(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_value_words(item) for item in value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, OutPoint):
        return str(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _wallet(subject: Subject, policy: Policy) -> str:
    wallet = policy.wallet(subject.wallet_id)
    return wallet.name if wallet else "unknown"


def _when(subject: Subject, policy: Policy) -> str:
    return str(subject.released if subject.released is not None else (subject.lo, subject.hi))


def _payees(subject: Subject, policy: Policy) -> str:
    return f"{len(subject.payments)} payees"


def _message(subject: Subject, policy: Policy) -> str:
    return f"{subject.message.format.value}, {subject.message.length} characters" if subject.message else "no message"


def _session(subject: Subject, policy: Policy) -> str:
    told = subject.coordinator
    if told is None:
        return "nobody to ask"
    return f"{','.join(sorted(told.factors or ())) or 'no factors'} from {told.ip} as {told.cert_role}"


def _chain(subject: Subject, policy: Policy) -> str:
    told = subject.coordinator
    if told is None:
        return "nobody to ask"
    return f"{told.wallet_sats} sats, {told.confirmations} confirmations, {told.lag_blocks} blocks behind"


_FOUND: dict[type, Callable[[Subject, Policy], str]] = {
    WalletTerm: _wallet,
    InitiatorTerm: lambda s, _: s.initiator,
    DestinationTerm: _payees,
    NoPaymentsTerm: _payees,
    AmountTerm: lambda s, _: f"{s.paid_sats} sats + at most {s.max_fee_sats} sats of fee",
    FeeTerm: lambda s, _: f"{s.fee_sats} sats in {s.vsize_vb} vB",
    ShapeTerm: lambda s, _: f"{s.inputs} inputs, {s.outputs} outputs, {s.vsize_vb} vB",
    InputsTerm: lambda s, _: ",".join(sorted(map(str, s.outpoints))) if s.outpoints is not None else "unknown",
    ChangeTerm: lambda s, _: f"{s.change_outputs} change outputs",
    RelationTerm: lambda s, _: s.relation.value,
    ReplacementTerm: lambda s, _: f"{s.fee_sats} sats over {s.replaced_fees}",
    MessageTerm: _message,
    TimeTerm: _when,
    ZoneTimeTerm: _when,
    SessionTerm: _session,
    WalletShareTerm: _chain,
    ConfirmationsTerm: _chain,
    ChainTerm: _chain,
}

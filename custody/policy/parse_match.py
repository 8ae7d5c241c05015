"""Read what a rule speaks of: each matcher once, from canonical JSON, into a term that cannot be wrong in its shape.

A matcher without content would match everything and is refused; an unknown word may have been a restriction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from ipaddress import ip_network
from typing import TypeVar

from custody.address import script_of
from custody.canonical import Json
from custody.errors import MalformedError
from custody.fields import Fields
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
    ChainTerm,
    ChangeTerm,
    ConfirmationsTerm,
    DestinationClass,
    DestinationTerm,
    FeeTerm,
    InitiatorTerm,
    InputsTerm,
    Leaf,
    MessageFormat,
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
from custody.transaction import OutPoint
from custody.units import MAX_MONEY_SATS
from custody.wallet import Network
from custody.withdrawal import RelationKind

MAX_MATCH_DEPTH = 8  # not / any_of / all_of inside each other; deeper is unreadable to the people who sign it
MAX_ITEMS = 10_000  # items of one matcher field
MAX_MESSAGE_CHARS = 2_000  # as long as a message may be at all
MAX_CONFIRMATIONS = 10_000  # ten weeks of blocks: more is a deny
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

E = TypeVar("E", bound=Enum)
V = TypeVar("V")


def read_match(value: Json, network: Network, where: str, depth: int = MAX_MATCH_DEPTH) -> AllTerm:
    """Return what a rule's `match` says; addresses are of `network`; `where` names it in messages.

    Raises:
        MalformedError: POLICY_TOO_DEEP, POLICY_EMPTY_MATCHER, and ADDRESS_ and FIELD_ codes.
    """
    if depth == 0:
        raise MalformedError("POLICY_TOO_DEEP", f"{where}: expected at most {MAX_MATCH_DEPTH} levels")
    if not isinstance(value, Mapping):
        raise MalformedError("FIELD_TYPE", f"{where}: expected an object, found {type(value).__name__}")
    fields = Fields(value, where)
    terms: list[Term] = []
    for key in sorted(value):
        inner = f"{where}.{key}"
        if key == "not":
            terms.append(NotTerm(_some(read_match(fields.any(key), network, inner, depth - 1), inner)))
        elif key in ("any_of", "all_of"):
            parts = tuple(
                _some(read_match(part, network, f"{inner}[{at}]", depth - 1), f"{inner}[{at}]")
                for at, part in enumerate(fields.items(key, 64))
            )
            terms.append(_branches(key, parts, inner))
        elif key == "payments":
            terms.append(_read_payments(fields.text(key), inner))
        elif key == "min_confirmations":
            terms.append(ConfirmationsTerm(fields.integer(key, 1, MAX_CONFIRMATIONS)))
        elif key in _READERS:
            terms.append(_READERS[key](fields.fields(key), network))
    fields.done()
    return AllTerm(tuple(terms))


def _some(term: AllTerm, where: str) -> AllTerm:
    if not term.terms:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{where}: expected at least one matcher")
    return term


def _branches(key: str, parts: tuple[AllTerm, ...], where: str) -> Term:
    if not parts:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{where}: expected at least one branch")
    return AnyTerm(parts) if key == "any_of" else AllTerm(parts)


def _read_payments(text: str, where: str) -> NoPaymentsTerm:
    if text != "none":
        raise MalformedError("FIELD_RANGE", f"{where}: expected none, found {text[:20]!r}")
    return NoPaymentsTerm()


def _read_wallet(fields: Fields, _: Network) -> Leaf:
    term = WalletTerm(names(fields, "names"), names(fields, "classes"))
    return _filled(fields, term, WalletTerm())


def _read_initiator(fields: Fields, _: Network) -> Leaf:
    term = InitiatorTerm(names(fields, "users"), names(fields, "groups"), names(fields, "services"))
    return _filled(fields, term, InitiatorTerm())


def _read_destination(fields: Fields, network: Network) -> Leaf:
    addresses = items(fields, "addresses", lambda item: item.text("item", 120))
    quantifier = word(fields, "quantifier", Quantifier) if fields.has("quantifier") else Quantifier.ALL
    term = DestinationTerm(
        lists=names(fields, "lists"),
        scripts=tuple(script_of(address, network) for address in addresses),
        kind=word(fields, "class", DestinationClass) if fields.has("class") else None,
        quantifier=quantifier,
        script_types=items(fields, "script_types", lambda item: word(item, "item", ScriptType)),
        op_return=fields.boolean("op_return") if fields.has("op_return") else None,
    )
    return _filled(fields, term, DestinationTerm(quantifier=quantifier))


def _read_amount(fields: Fields, _: Network) -> Leaf:
    include_fee = fields.boolean("include_fee") if fields.has("include_fee") else True
    term = AmountTerm(
        min_sats=_number(fields, "min_sats", MAX_MONEY_SATS),
        max_sats=_number(fields, "max_sats", MAX_MONEY_SATS),
        per_output_max_sats=_number(fields, "per_output_max_sats", MAX_MONEY_SATS),
        include_fee=include_fee,
    )
    return _filled(fields, term, AmountTerm(include_fee=include_fee))


def _read_fee(fields: Fields, _: Network) -> Leaf:
    term = FeeTerm(
        max_sats=_number(fields, "max_sats", MAX_MONEY_SATS),
        max_sat_vb=_number(fields, "max_sat_vb", 100_000),
        min_sat_vb=_number(fields, "min_sat_vb", 100_000),
        max_pct_of_amount=_number(fields, "max_pct_of_amount", 100),
    )
    return _filled(fields, term, FeeTerm())


def _read_shape(fields: Fields, _: Network) -> Leaf:
    term = ShapeTerm(
        max_inputs=_number(fields, "max_inputs", 100_000),
        max_outputs=_number(fields, "max_outputs", 100_000),
        max_vbytes=_number(fields, "max_vbytes", 1_000_000),
        script_types=items(fields, "script_types", lambda item: word(item, "item", ScriptType)),
    )
    return _filled(fields, term, ShapeTerm())


def _read_inputs(fields: Fields, _: Network) -> Leaf:
    term = InputsTerm(items(fields, "outpoints", lambda item: OutPoint.parse(item.text("item"))))
    return _filled(fields, term, InputsTerm())


def _read_change(fields: Fields, _: Network) -> Leaf:
    return _filled(fields, ChangeTerm(_number(fields, "max_outputs", 16)), ChangeTerm())


def _read_replacement(fields: Fields, _: Network) -> Leaf:
    term = ReplacementTerm(_number(fields, "max_fee_increase", MAX_MONEY_SATS))
    return _filled(fields, term, ReplacementTerm())


def _read_message(fields: Fields, _: Network) -> Leaf:
    term = MessageTerm(
        formats=items(fields, "formats", lambda item: word(item, "item", MessageFormat)),
        max_len=_number(fields, "max_len", MAX_MESSAGE_CHARS),
    )
    return _filled(fields, term, MessageTerm())


def _read_session(fields: Fields, _: Network) -> Leaf:
    term = SessionTerm(
        factors=names(fields, "factors"),
        ip_cidrs=items(fields, "ip_cidrs", _cidr),
        cert_role=names(fields, "cert_role"),
    )
    return _filled(fields, term, SessionTerm())


def _cidr(fields: Fields) -> str:
    text = fields.text("item", 64)
    try:
        network = str(ip_network(text))
    except ValueError:
        network = ""
    if network != text:
        raise MalformedError("POLICY_CIDR", f"{fields.where}: expected a network such as 10.0.0.0/8, found {text!r}")
    return text


def _read_share(fields: Fields, _: Network) -> Leaf:
    return _filled(fields, WalletShareTerm(_number(fields, "max_pct", 100)), WalletShareTerm())


def _read_chain(fields: Fields, _: Network) -> Leaf:
    return _filled(fields, ChainTerm(_number(fields, "max_lag_blocks", MAX_CONFIRMATIONS)), ChainTerm())


def _read_relation(fields: Fields, _: Network) -> Leaf:
    term = RelationTerm(items(fields, "kinds", lambda item: word(item, "item", RelationKind)))
    return _filled(fields, term, RelationTerm(()))


def _read_time(fields: Fields, _: Network) -> Leaf:
    zone = _zone(fields.text("zone", 40), fields.where) if fields.has("zone") else None
    days = items(fields, "days", _day)
    hours = items(fields, "hours", lambda item: item.integer("item", 0, 23))
    if zone is not None:
        return _filled(fields, ZoneTimeTerm(zone, days, hours), ZoneTimeTerm(zone))
    return _filled(fields, TimeTerm(days, hours), TimeTerm())


def _zone(text: str, where: str) -> str:
    if not text.isascii() or not text.replace("/", "a").replace("_", "a").replace("-", "a").isalnum():
        raise MalformedError("POLICY_ZONE", f"{where}.zone: expected a zone such as Europe/Zurich, found {text!r}")
    return text


_READERS: Mapping[str, Callable[[Fields, Network], Leaf]] = {
    "wallet": _read_wallet,
    "initiator": _read_initiator,
    "destination": _read_destination,
    "amount": _read_amount,
    "fee": _read_fee,
    "shape": _read_shape,
    "inputs": _read_inputs,
    "change": _read_change,
    "relation": _read_relation,
    "replacement": _read_replacement,
    "message": _read_message,
    "time": _read_time,
    "session": _read_session,
    "pct_of_wallet": _read_share,
    "chain": _read_chain,
}


def _filled(fields: Fields, term: Leaf, empty: Leaf) -> Leaf:
    fields.done()  # an unknown field is named as such, not as nothing
    if term == empty:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{fields.where}: expected a field that narrows")
    return term


def _number(fields: Fields, key: str, high: int) -> int | None:
    return fields.integer(key, 0, high) if fields.has(key) else None


def names(fields: Fields, key: str) -> tuple[str, ...]:
    """Take an optional list of distinct ids."""
    return items(fields, key, lambda item: item.name("item"))


def _day(fields: Fields) -> int:
    text = fields.text("item")
    if text not in DAYS:
        raise MalformedError("FIELD_RANGE", f"{fields.where}: expected {' '.join(DAYS)}, found {text[:20]!r}")
    return DAYS.index(text)


def items(fields: Fields, key: str, read: Callable[[Fields], V]) -> tuple[V, ...]:
    """Take an optional list of distinct items; present but empty is refused: it would match nothing, or all."""
    if not fields.has(key):
        return ()
    found = tuple(
        read(Fields({"item": item}, f"{fields.where}.{key}[{at}]"))
        for at, item in enumerate(fields.items(key, MAX_ITEMS))
    )
    if not found:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{fields.where}.{key}: expected at least one item")
    if len(set(found)) != len(found):
        raise MalformedError("FIELD_DUPLICATE", f"{fields.where}.{key}: expected distinct items")
    return found


def word(fields: Fields, key: str, words: type[E]) -> E:
    """Take one of the words that `words` has, or refuse it with FIELD_RANGE."""
    text = fields.text(key)
    found = next((word for word in words if word.value == text), None)
    if found is None:
        known = ", ".join(str(word.value) for word in words)
        raise MalformedError("FIELD_RANGE", f"{fields.where}.{key}: expected one of {known}, found {text[:20]!r}")
    return found

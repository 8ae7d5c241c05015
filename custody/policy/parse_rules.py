"""Read one rule: what it matches and what follows.

A matcher without content would match everything and is refused; what this version cannot judge is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeVar

from custody.address import script_of
from custody.canonical import Json
from custody.errors import MalformedError
from custody.fields import Fields
from custody.policy.document import Mode, Rule, RuleKind
from custody.policy.terms import (
    AllTerm,
    AllVotes,
    AmountTerm,
    AnyTerm,
    AnyVotes,
    Budget,
    Delay,
    DestinationClass,
    DestinationTerm,
    FeeTerm,
    GroupBy,
    InitiatorTerm,
    Leaf,
    Measure,
    NoPaymentsTerm,
    NotTerm,
    Obligations,
    Quantifier,
    RelationTerm,
    ScriptType,
    ShapeTerm,
    SignersRequired,
    Term,
    TimeTerm,
    Veto,
    Votes,
    VoteTree,
    WalletTerm,
)
from custody.units import MAX_MONEY_SATS
from custody.wallet import Network
from custody.withdrawal import RelationKind

MAX_MATCH_DEPTH = 8  # not / any_of / all_of inside each other; deeper is unreadable to the people who sign it
MAX_VOTE_LEAVES = 12  # parts of one approvals tree: choices multiply, and people must be able to read it
MAX_DELAY_S = 30 * 86_400  # a longer wait than rules are likely to live is a deny
MAX_ITEMS = 10_000  # items of one matcher field
COORDINATOR_ONLY = ("session", "pct_of_wallet", "min_confirmations", "chain")  # facts that no signer can check
NOT_YET = ("inputs", "change", "replacement", "message")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

E = TypeVar("E", bound=Enum)
V = TypeVar("V")


def read_rule(fields: Fields, network: Network) -> Rule:
    """Return the rule in `fields`, whose addresses are of `network`; leftovers are the caller's to refuse.

    Raises:
        MalformedError: POLICY_NOT_SUPPORTED, POLICY_EMPTY_MATCHER, POLICY_TOO_DEEP, POLICY_BUDGET, POLICY_VOTES, and
            ADDRESS_ and FIELD_ codes.
    """
    kind = _word(fields, "kind", RuleKind)
    if fields.has("operations") and fields.names("operations") != ("withdrawal",):
        raise MalformedError("POLICY_NOT_SUPPORTED", "rule.operations: expected withdrawal alone")
    obligations, budget = None, None
    if kind is RuleKind.REQUIRE:
        obligations = _read_obligations(fields.fields("then"))
    elif kind is RuleKind.LIMIT:
        budget = _read_budget(fields.fields("then"))
    return Rule(
        id=fields.name("id"),
        kind=kind,
        mode=_word(fields, "mode", Mode) if fields.has("mode") else Mode.ENFORCE,
        match=_read_match(fields.any("match"), network, MAX_MATCH_DEPTH),
        obligations=obligations,
        budget=budget,
        reason_code=_reason_code(fields),
        not_before=fields.time("not_before") if fields.has("not_before") else None,
        expires_at=fields.time("expires_at") if fields.has("expires_at") else None,
        description=fields.text("description", 1_000) if fields.has("description") else "",
    )


def _reason_code(fields: Fields) -> str:
    if not fields.has("reason_code"):
        return ""
    code = fields.text("reason_code", 64)
    if not code.replace("_", "A").isalnum() or not code.isascii() or code.upper() != code:
        raise MalformedError("FIELD_NAME", "rule.reason_code: expected upper-case letters, digits and underscores")
    return code


def _read_match(value: Json, network: Network, depth: int) -> AllTerm:
    if depth == 0:
        raise MalformedError("POLICY_TOO_DEEP", f"rule.match: expected at most {MAX_MATCH_DEPTH} levels")
    if not isinstance(value, Mapping):
        raise MalformedError("FIELD_TYPE", f"rule.match: expected an object, found {type(value).__name__}")
    fields = Fields(value, "match")
    terms: list[Term] = []
    for key in sorted(value):
        if key in COORDINATOR_ONLY or key in NOT_YET:
            raise MalformedError("POLICY_NOT_SUPPORTED", f"match.{key}: this version cannot judge it")
        if key == "not":
            terms.append(NotTerm(_some(_read_match(fields.any("not"), network, depth - 1), "not")))
        elif key in ("any_of", "all_of"):
            parts = tuple(_some(_read_match(p, network, depth - 1), key) for p in fields.items(key, 64))
            terms.append(_branches(key, parts))
        elif key == "payments":
            terms.append(_read_payments(fields.text(key)))
        elif key in _READERS:
            terms.append(_READERS[key](fields.fields(key), network))
    fields.done()
    return AllTerm(tuple(terms))


def _some(term: AllTerm, where: str) -> AllTerm:
    if not term.terms:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"match.{where}: expected at least one matcher")
    return term


def _branches(key: str, parts: tuple[AllTerm, ...]) -> Term:
    if not parts:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"match.{key}: expected at least one branch")
    return AnyTerm(parts) if key == "any_of" else AllTerm(parts)


def _read_payments(text: str) -> NoPaymentsTerm:
    if text != "none":
        raise MalformedError("FIELD_RANGE", f"match.payments: expected none, found {text[:20]!r}")
    return NoPaymentsTerm()


def _read_wallet(fields: Fields, _: Network) -> Leaf:
    term = WalletTerm(_names(fields, "names"), _names(fields, "classes"))
    return _filled(fields, term, WalletTerm())


def _read_initiator(fields: Fields, _: Network) -> Leaf:
    term = InitiatorTerm(_names(fields, "users"), _names(fields, "groups"), _names(fields, "services"))
    return _filled(fields, term, InitiatorTerm())


def _read_destination(fields: Fields, network: Network) -> Leaf:
    addresses = _items(fields, "addresses", lambda item: item.text("item", 120))
    quantifier = _word(fields, "quantifier", Quantifier) if fields.has("quantifier") else Quantifier.ALL
    term = DestinationTerm(
        lists=_names(fields, "lists"),
        scripts=tuple(script_of(address, network) for address in addresses),
        kind=_word(fields, "class", DestinationClass) if fields.has("class") else None,
        quantifier=quantifier,
        script_types=_items(fields, "script_types", lambda item: _word(item, "item", ScriptType)),
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
    if fields.has("script_types"):
        raise MalformedError("POLICY_NOT_SUPPORTED", "match.shape.script_types: use destination.script_types")
    term = ShapeTerm(
        max_inputs=_number(fields, "max_inputs", 100_000),
        max_outputs=_number(fields, "max_outputs", 100_000),
        max_vbytes=_number(fields, "max_vbytes", 1_000_000),
    )
    return _filled(fields, term, ShapeTerm())


def _read_relation(fields: Fields, _: Network) -> Leaf:
    term = RelationTerm(_items(fields, "kinds", lambda item: _word(item, "item", RelationKind)))
    return _filled(fields, term, RelationTerm(()))


def _read_time(fields: Fields, _: Network) -> Leaf:
    term = TimeTerm(
        days=_items(fields, "days", _day),
        hours=_items(fields, "hours", lambda item: item.integer("item", 0, 23)),
    )
    return _filled(fields, term, TimeTerm())


_READERS: Mapping[str, Callable[[Fields, Network], Leaf]] = {
    "wallet": _read_wallet,
    "initiator": _read_initiator,
    "destination": _read_destination,
    "amount": _read_amount,
    "fee": _read_fee,
    "shape": _read_shape,
    "relation": _read_relation,
    "time": _read_time,
}


def _filled(fields: Fields, term: Leaf, empty: Leaf) -> Leaf:
    fields.done()  # an unknown field is named as such, not as nothing
    if term == empty:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"match: expected a field that narrows in {type(term).__name__}")
    return term


def _read_obligations(fields: Fields) -> Obligations:
    if fields.has("local_conf"):
        raise MalformedError("POLICY_NOT_SUPPORTED", "then.local_conf: this version cannot judge it")
    obligations = Obligations(
        approvals=_read_tree(fields.fields("approvals")) if fields.has("approvals") else None,
        signers=_read_signers(fields.fields("signers")) if fields.has("signers") else None,
        delay=_read_delay(fields.fields("delay")) if fields.has("delay") else None,
    )
    fields.done()
    if obligations == Obligations():
        raise MalformedError("POLICY_EMPTY_MATCHER", "then: expected approvals, signers or delay")
    return obligations


def _read_tree(fields: Fields) -> VoteTree:
    tree = _read_votes(fields, 4)
    if (leaves := _count_leaves(tree)) > MAX_VOTE_LEAVES:
        raise MalformedError("POLICY_VOTES", f"approvals: expected at most {MAX_VOTE_LEAVES} parts, found {leaves}")
    return tree


def _count_leaves(tree: VoteTree) -> int:
    return 1 if isinstance(tree, Votes) else sum(_count_leaves(part) for part in tree.parts)


def _read_votes(fields: Fields, depth: int) -> VoteTree:
    for key in ("all_of", "any_of"):
        if fields.has(key):
            if depth == 0:
                raise MalformedError("POLICY_TOO_DEEP", "approvals: expected at most 4 levels")
            parts = tuple(_read_votes(Fields(p, f"approvals.{key}"), depth - 1) for p in fields.items(key, 16))
            fields.done()
            if not parts:
                raise MalformedError("POLICY_VOTES", f"approvals.{key}: expected at least one part")
            return AllVotes(parts) if key == "all_of" else AnyVotes(parts)
    return _read_leaf(fields)


def _read_leaf(fields: Fields) -> Votes:
    for key in ("distinct_orgs", "device_bound", "stage", "after"):
        if fields.has(key):
            raise MalformedError("POLICY_NOT_SUPPORTED", f"approvals.{key}: this version cannot judge it")
    if fields.has("exclude_initiator") and not fields.boolean("exclude_initiator"):
        raise MalformedError("POLICY_NOT_SUPPORTED", "approvals.exclude_initiator: the initiator never counts")
    group = fields.name("group") if fields.has("group") else None
    service = fields.name("service") if fields.has("service") else None
    if (group is None) == (service is None):
        raise MalformedError("POLICY_VOTES", "approvals: expected group or service, one of them")
    most = 64 if service is None else 1
    threshold = fields.integer("threshold", 1, most) if group is not None or fields.has("threshold") else 1
    blind = fields.boolean("blind") if fields.has("blind") else False
    seen = fields.integer("seen", 0, threshold) if fields.has("seen") else 1
    lifetime = fields.integer("lifetime_s", 1, MAX_DELAY_S) if fields.has("lifetime_s") else None
    fields.done()
    if seen == 0 and not blind:
        raise MalformedError("POLICY_VOTES", "approvals: expected seen >= 1, or blind true")
    return Votes(group, service, threshold, seen if blind else threshold, blind, lifetime)


def _read_signers(fields: Fields) -> SignersRequired:
    signers = SignersRequired(
        include=tuple(sorted(_names(fields, "include"))),
        exclude=tuple(sorted(_names(fields, "exclude"))),
        min_offline=fields.integer("min_offline", 1, 15) if fields.has("min_offline") else 0,
    )
    fields.done()
    if signers == SignersRequired():
        raise MalformedError("POLICY_EMPTY_MATCHER", "then.signers: expected include, exclude or min_offline")
    return signers


def _read_delay(fields: Fields) -> Delay:
    seconds = fields.integer("seconds", 1, MAX_DELAY_S)
    vetoes: tuple[Veto, ...] = ()
    if fields.has("veto"):
        veto = fields.fields("veto")
        vetoes = (Veto(veto.name("group"), veto.integer("threshold", 1, 64)),)
        veto.done()
    fields.done()
    return Delay(seconds, vetoes)


def _read_budget(fields: Fields) -> Budget:
    measures = [measure for measure in Measure if fields.has(measure.value)]
    if len(measures) != 1:
        raise MalformedError("POLICY_BUDGET", "then: expected one of max_sats, max_count, max_fee_sats")
    exceeding = fields.text("on_exceed")
    if exceeding not in ("deny", "require"):
        raise MalformedError("POLICY_BUDGET", f"then.on_exceed: expected deny or require, found {exceeding[:20]!r}")
    budget = Budget(
        window=fields.name("window"),
        measure=measures[0],
        most=fields.integer(measures[0].value, 0, MAX_MONEY_SATS),
        group_by=_items(fields, "group_by", lambda item: _word(item, "item", GroupBy)),
        approvals=_read_tree(fields.fields("approvals")) if exceeding == "require" else None,
    )
    fields.done()
    return budget


def _number(fields: Fields, key: str, high: int) -> int | None:
    return fields.integer(key, 0, high) if fields.has(key) else None


def _names(fields: Fields, key: str) -> tuple[str, ...]:
    return _items(fields, key, lambda item: item.name("item"))


def _day(fields: Fields) -> int:
    text = fields.text("item")
    if text not in DAYS:
        raise MalformedError("FIELD_RANGE", f"time.days: expected {' '.join(DAYS)}, found {text[:20]!r}")
    return DAYS.index(text)


def _items(fields: Fields, key: str, read: Callable[[Fields], V]) -> tuple[V, ...]:
    """Take an optional list of distinct items; present but empty is refused: it would match nothing, or all."""
    if not fields.has(key):
        return ()
    found = tuple(read(Fields({"item": item}, key)) for item in fields.items(key, MAX_ITEMS))
    if not found:
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{key}: expected at least one item")
    if len(set(found)) != len(found):
        raise MalformedError("FIELD_DUPLICATE", f"{key}: expected distinct items")
    return found


def _word(fields: Fields, key: str, words: type[E]) -> E:
    text = fields.text(key)
    found = next((word for word in words if word.value == text), None)
    if found is None:
        known = ", ".join(str(word.value) for word in words)
        raise MalformedError("FIELD_RANGE", f"{key}: expected one of {known}, found {text[:20]!r}")
    return found

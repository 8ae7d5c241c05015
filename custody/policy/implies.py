"""Is one matcher, or one approvals tree, provably no wider than another? "No" also where nobody can tell.

`custody.policy.diff` stands on this. Only shapes that people write are recognised; everything else must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from custody.policy.document import Policy
from custody.policy.duties import AllVotes, AnyVotes, Votes, VoteTree
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
    DestinationClass,
    DestinationTerm,
    FeeTerm,
    InitiatorTerm,
    NoPaymentsTerm,
    NotTerm,
    Quantifier,
    RelationTerm,
    ShapeTerm,
    Term,
    TimeTerm,
    WalletTerm,
)

Fits = Callable[[Any, Any], bool]


def conjuncts(term: Term) -> tuple[Term, ...]:
    """Return the matchers that must all hold for `term` to hold."""
    if isinstance(term, AllTerm):
        return tuple(inner for part in term.terms for inner in conjuncts(part))
    return (term,)


def implies(narrow: Term, wide: Term) -> bool:
    """Return whether whatever `narrow` is true of, `wide` is provably true of; facts that are not known aside."""
    if narrow == wide:
        return True
    if isinstance(narrow, AllTerm) or isinstance(wide, AllTerm):
        given = conjuncts(narrow)
        return all(any(implies(part, needed) for part in given) for needed in conjuncts(wide))
    if isinstance(narrow, NotTerm) and isinstance(wide, NotTerm):
        return implies(wide.term, narrow.term)
    if isinstance(narrow, AnyTerm):
        return all(implies(part, wide) for part in narrow.terms)
    if isinstance(wide, AnyTerm):
        return any(implies(narrow, part) for part in wide.terms)
    return type(narrow) is type(wide) and _leaf_implies(narrow, wide)


def is_known(term: Term, policy: Policy) -> bool:
    """Return whether `term` always has an answer under `policy`, whatever is asked about."""
    if isinstance(term, NotTerm):
        return is_known(term.term, policy)
    if isinstance(term, AllTerm | AnyTerm):
        return all(is_known(part, policy) for part in term.terms)
    if isinstance(term, WalletTerm):
        classes = {name for wallet in policy.wallets for name in wallet.classes}
        return set(term.names) <= set(policy.wallet_ids) and set(term.classes) <= classes
    if isinstance(term, InitiatorTerm):
        users, services = {u.name for u in policy.users}, {s.name for s in policy.services}
        listed = set(term.users) <= users and set(term.services) <= services
        return listed and set(term.groups) <= set(policy.groups)
    if isinstance(term, DestinationTerm):  # whether a payee is our own wallet, not every caller knows
        is_listed = set(term.lists) <= {found.name for found in policy.lists}
        return is_listed and term.kind in (None, DestinationClass.LISTED)
    if isinstance(term, ShapeTerm):
        return not term.script_types
    return isinstance(term, AmountTerm | FeeTerm | NoPaymentsTerm | RelationTerm)


def asks_more(new: VoteTree, old: VoteTree) -> bool:
    """Return whether approvals that satisfy `new` provably satisfy `old`."""
    if new == old:
        return True
    if isinstance(new, AnyVotes):
        return all(asks_more(part, old) for part in new.parts)
    if isinstance(old, AnyVotes):
        return any(asks_more(new, part) for part in old.parts)
    if isinstance(new, AllVotes) and isinstance(old, AllVotes):  # by place: one person may not fill two parts
        return len(new.parts) >= len(old.parts) and all(map(asks_more, new.parts, old.parts))
    if isinstance(new, AllVotes):
        return any(asks_more(part, old) for part in new.parts)
    return isinstance(new, Votes) and isinstance(old, Votes) and fits(new, old, _VOTES)


def fits(new: Any, old: Any, rules: Mapping[str, Fits]) -> bool:
    """Return whether every field of two values of one dataclass is equal, or fits by its own rule."""
    for found in fields(old):
        mine, theirs = getattr(new, found.name), getattr(old, found.name)
        if mine != theirs and (found.name not in rules or not rules[found.name](mine, theirs)):
            return False
    return True


def at_most(new: int | None, old: int | None) -> bool:
    """Return whether the upper bound `new` is no wider than `old`; None is no bound."""
    return old is None or (new is not None and new <= old)


def at_least(new: int | None, old: int | None) -> bool:
    """Return whether the lower bound `new` is no wider than `old`; None is no bound."""
    return old is None or (new is not None and new >= old)


def part_of(new: Collection[object], old: Collection[object]) -> bool:
    """Return whether `new` names no more than `old`, where naming nothing means everything."""
    return not old or (bool(new) and set(new) <= set(old))


def _leaf_implies(narrow: Term, wide: Term) -> bool:
    if isinstance(narrow, DestinationTerm) and isinstance(wide, DestinationTerm):
        return _destination_implies(narrow, wide)
    return type(wide) in _LEAVES and fits(narrow, wide, _LEAVES[type(wide)])


def _destination_implies(narrow: DestinationTerm, wide: DestinationTerm) -> bool:
    """Lists and scripts widen each other, so they are compared as one set; the other fields narrow one by one."""
    named = part_of({*narrow.lists, *narrow.scripts}, {*wide.lists, *wide.scripts})
    return named and fits(replace(narrow, lists=wide.lists, scripts=wide.scripts), wide, _DESTINATION)


def _subset(new: Collection[object], old: Collection[object]) -> bool:
    return set(new) <= set(old)


_LEAVES: Mapping[type, Mapping[str, Fits]] = {
    WalletTerm: {"names": part_of, "classes": part_of},
    InitiatorTerm: {"users": _subset, "groups": _subset, "services": _subset},  # any one of them is enough
    AmountTerm: {"min_sats": at_least, "max_sats": at_most, "per_output_max_sats": at_most},
    FeeTerm: {"max_sats": at_most, "max_sat_vb": at_most, "min_sat_vb": at_least, "max_pct_of_amount": at_most},
    ShapeTerm: {"max_inputs": at_most, "max_outputs": at_most, "max_vbytes": at_most, "script_types": part_of},
    RelationTerm: {"kinds": _subset},
    TimeTerm: {"days": part_of, "hours": part_of},
}
_DESTINATION: Mapping[str, Fits] = {
    "kind": lambda new, old: old is None,
    "quantifier": lambda new, old: old is Quantifier.ANY,
    "script_types": part_of,
    "op_return": lambda new, old: old is None,
}
_VOTES: Mapping[str, Fits] = {
    "threshold": lambda new, old: new >= old,
    "seen": lambda new, old: new >= old,
    "blind": lambda new, old: not new,
    "lifetime_s": at_most,
    "distinct_orgs": lambda new, old: new,
    "device_bound": lambda new, old: new,
}

"""When one matcher is provably no wider than another, and when approvals provably ask no less; "no" where unsure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.policy.duties import AllVotes, AnyVotes, StagedVotes, Votes, VoteTree
from custody.policy.implies import asks_more, at_least, at_most, conjuncts, implies, is_known, part_of
from custody.policy.terms import (
    AllTerm,
    AmountTerm,
    AnyTerm,
    ChangeTerm,
    DestinationClass,
    DestinationTerm,
    FeeTerm,
    InitiatorTerm,
    InputsTerm,
    NoPaymentsTerm,
    NotTerm,
    Quantifier,
    RelationTerm,
    ReplacementTerm,
    ScriptType,
    ShapeTerm,
    Term,
    TimeTerm,
    WalletTerm,
)
from custody.withdrawal import RelationKind
from tests.fakes.rules import policy

NEW, MORE, OVER = RelationKind.NEW, RelationKind.ADDITIONAL, RelationKind.SUPERSEDES
WSH, TR = ScriptType.P2WSH, ScriptType.P2TR
ONE, TWO = b"\x01", b"\x02"
# The first of each pair is true of strictly less than the second.
NARROWER: dict[str, tuple[Term, Term]] = {
    "fewer wallets": (WalletTerm(names=("a",)), WalletTerm(names=("a", "b"))),
    "wallets of any class": (WalletTerm(names=("a",), classes=("hot",)), WalletTerm(names=("a",))),
    "fewer classes": (WalletTerm(classes=("hot",)), WalletTerm(classes=("hot", "cold"))),
    "fewer users": (InitiatorTerm(users=("a",)), InitiatorTerm(users=("a", "b"))),
    "users besides groups": (InitiatorTerm(groups=("g",)), InitiatorTerm(users=("a",), groups=("g",))),
    "fewer services": (InitiatorTerm(services=("s",)), InitiatorTerm(services=("s", "t"))),
    "a higher floor": (AmountTerm(min_sats=6), AmountTerm(min_sats=5)),
    "a lower cap": (AmountTerm(max_sats=5), AmountTerm(max_sats=6)),
    "a cap at all": (AmountTerm(min_sats=5, max_sats=6), AmountTerm(min_sats=5)),
    "a lower cap for each": (AmountTerm(per_output_max_sats=5), AmountTerm(per_output_max_sats=6)),
    "a lower fee": (FeeTerm(max_sats=5), FeeTerm(max_sats=6)),
    "a lower rate": (FeeTerm(max_sat_vb=5), FeeTerm(max_sat_vb=6)),
    "a higher least rate": (FeeTerm(min_sat_vb=6), FeeTerm(min_sat_vb=5)),
    "a lower share": (FeeTerm(max_pct_of_amount=5), FeeTerm(max_pct_of_amount=6)),
    "fewer inputs": (ShapeTerm(max_inputs=5), ShapeTerm(max_inputs=6)),
    "fewer outputs": (ShapeTerm(max_outputs=5), ShapeTerm(max_outputs=6)),
    "fewer bytes": (ShapeTerm(max_vbytes=5), ShapeTerm(max_vbytes=6)),
    "fewer script types": (ShapeTerm(script_types=(WSH,)), ShapeTerm(script_types=(WSH, TR))),
    "fewer relations": (RelationTerm((NEW,)), RelationTerm((NEW, OVER))),
    "fewer days": (TimeTerm(days=(1,)), TimeTerm(days=(1, 2))),
    "fewer hours": (TimeTerm(days=(1,), hours=(8,)), TimeTerm(days=(1,))),
    "fewer lists": (DestinationTerm(lists=("a",)), DestinationTerm(lists=("a", "b"))),
    "a list beside an address": (DestinationTerm(scripts=(ONE,)), DestinationTerm(lists=("a",), scripts=(ONE,))),
    "fewer addresses": (DestinationTerm(scripts=(ONE,)), DestinationTerm(scripts=(ONE, TWO))),
    "all of the payees": (
        DestinationTerm(lists=("a",)),
        DestinationTerm(lists=("a",), quantifier=Quantifier.ANY),
    ),
    "a class": (DestinationTerm(lists=("a",), kind=DestinationClass.LISTED), DestinationTerm(lists=("a",))),
    "fewer types of payees": (DestinationTerm(script_types=(WSH,)), DestinationTerm(script_types=(WSH, TR))),
    "no data": (DestinationTerm(lists=("a",), op_return=False), DestinationTerm(lists=("a",))),
    "one more matcher": (AllTerm((NoPaymentsTerm(), FeeTerm(max_sats=5))), AllTerm((NoPaymentsTerm(),))),
    "a branch less": (
        AnyTerm((NoPaymentsTerm(), FeeTerm(max_sats=5))),
        AnyTerm((NoPaymentsTerm(), FeeTerm(max_sats=5), ChangeTerm(1))),
    ),
    "one of the branches": (NoPaymentsTerm(), AnyTerm((NoPaymentsTerm(), ChangeTerm(1)))),
    "narrower branches": (
        AnyTerm((FeeTerm(max_sats=4), FeeTerm(max_sats=5))),
        FeeTerm(max_sats=6),
    ),
    "not of more": (NotTerm(FeeTerm(max_sats=6)), NotTerm(FeeTerm(max_sats=5))),
}


@pytest.mark.parametrize("name", NARROWER)
def test_implies_given_a_narrower_matcher_holds_one_way_alone(name: str) -> None:
    """The narrow one implies the wide one, itself and what is joined to it, and never the other way about."""
    narrow, wide = NARROWER[name]

    assert implies(narrow, wide)
    assert implies(narrow, narrow)
    assert implies(AllTerm((narrow, ReplacementTerm(1))), wide)
    assert not implies(wide, narrow)


UNRELATED: dict[str, tuple[Term, Term]] = {
    "other wallets": (WalletTerm(names=("a",)), WalletTerm(names=("b",))),
    "all wallets": (WalletTerm(classes=("hot",)), WalletTerm(names=("a",))),
    "amounts with and without the fee": (AmountTerm(max_sats=5), AmountTerm(max_sats=6, include_fee=False)),
    "other quantifiers": (
        DestinationTerm(lists=("a",), quantifier=Quantifier.ANY),
        DestinationTerm(lists=("a", "b")),
    ),
    "other classes": (
        DestinationTerm(kind=DestinationClass.LISTED),
        DestinationTerm(kind=DestinationClass.INTERNAL),
    ),
    "any payee": (DestinationTerm(script_types=(WSH,)), DestinationTerm(lists=("a",))),
    "data or none": (DestinationTerm(op_return=False), DestinationTerm(op_return=True)),
    "coins, which are compared as they are": (InputsTerm(()), InputsTerm((None,))),  # type: ignore[arg-type]
    "changes, which are compared as they are": (ChangeTerm(1), ChangeTerm(2)),
    "another matcher": (NoPaymentsTerm(), FeeTerm(max_sats=5)),
    "a branch that is wider": (AnyTerm((FeeTerm(max_sats=4), FeeTerm(max_sats=7))), FeeTerm(max_sats=6)),
    "one matcher of two": (AllTerm((NoPaymentsTerm(),)), AllTerm((NoPaymentsTerm(), ChangeTerm(1)))),
    "not and its inside": (NotTerm(FeeTerm(max_sats=5)), FeeTerm(max_sats=5)),
}


@pytest.mark.parametrize("name", UNRELATED)
def test_implies_given_what_cannot_be_proven_says_no(name: str) -> None:
    """What nobody can tell is no."""
    assert not implies(*UNRELATED[name])


def test_conjuncts_given_nested_terms_lists_what_must_all_hold() -> None:
    """All of all of; a branch or a negation stays one."""
    a, b, c = NoPaymentsTerm(), ChangeTerm(1), NotTerm(AllTerm((ChangeTerm(2),)))

    assert conjuncts(AllTerm((a, AllTerm((b, c))))) == (a, b, c)
    assert conjuncts(a) == (a,)


KNOWN: dict[str, tuple[Term, bool]] = {
    "a wallet": (WalletTerm(names=("treasury", "vault"), classes=("hot", "cold")), True),
    "a wallet of another name": (WalletTerm(names=("treasury", "gone")), False),
    "a wallet of another class": (WalletTerm(classes=("hot", "gone")), False),
    "people": (InitiatorTerm(("alice",), ("ops",), ("payroll",)), True),
    "another user": (InitiatorTerm(users=("alice", "gone")), False),
    "another group": (InitiatorTerm(groups=("ops", "gone")), False),
    "another service": (InitiatorTerm(services=("payroll", "gone")), False),
    "a service as a user": (InitiatorTerm(users=("payroll",)), False),
    "a list": (DestinationTerm(lists=("exchanges",)), True),
    "another list": (DestinationTerm(lists=("exchanges", "gone")), False),
    "listed payees": (DestinationTerm(kind=DestinationClass.LISTED), True),
    "our own payees": (DestinationTerm(kind=DestinationClass.INTERNAL), False),
    "payees of one time": (DestinationTerm(kind=DestinationClass.ONE_TIME), False),
    "a shape": (ShapeTerm(max_inputs=1), True),
    "a shape of types": (ShapeTerm(script_types=(WSH,)), False),
    "an amount": (AmountTerm(max_sats=1), True),
    "a fee": (FeeTerm(max_sats=1), True),
    "nobody": (NoPaymentsTerm(), True),
    "a relation": (RelationTerm((NEW,)), True),
    "an hour": (TimeTerm(hours=(8,)), False),
    "coins": (InputsTerm(()), False),
    "a replacement": (ReplacementTerm(1), False),
}


@pytest.mark.parametrize("name", KNOWN)
def test_is_known_given_each_matcher_says_whether_it_always_has_an_answer(name: str) -> None:
    """Alone, negated, and beside one that always has."""
    term, known = KNOWN[name]
    rules = policy()

    assert is_known(term, rules) is known
    assert is_known(NotTerm(term), rules) is known
    assert is_known(AllTerm((NoPaymentsTerm(), term)), rules) is known
    assert is_known(AnyTerm((term, NoPaymentsTerm())), rules) is known


OPS = Votes("ops", None, threshold=2, seen=1, blind=True)
SECURITY = Votes("security", None, threshold=1, seen=1, blind=False)
SERVICE = Votes(None, "screening", threshold=1, seen=1, blind=False)
MORE_VOTES: dict[str, tuple[VoteTree, VoteTree]] = {
    "one more": (replace(OPS, threshold=3), OPS),
    "one more seen": (replace(OPS, seen=2), OPS),
    "nobody blind": (replace(OPS, blind=False), OPS),
    "no two of one org": (replace(OPS, distinct_orgs=True), OPS),
    "device bound": (replace(OPS, device_bound=True), OPS),
    "that age": (replace(OPS, lifetime_s=60), OPS),
    "that age sooner": (replace(OPS, lifetime_s=59), replace(OPS, lifetime_s=60)),
    "a part more": (AllVotes((OPS, SERVICE)), OPS),
    "one more of all": (AllVotes((OPS, SERVICE, SECURITY)), AllVotes((OPS, SERVICE))),
    "each part more": (AllVotes((replace(OPS, threshold=3), SERVICE)), AllVotes((OPS, SERVICE))),
    "a way less": (AnyVotes((OPS, SERVICE)), AnyVotes((OPS, SERVICE, SECURITY))),
    "one of the ways": (OPS, AnyVotes((SERVICE, OPS))),
    "ways that all ask more": (AnyVotes((replace(OPS, threshold=3), AllVotes((OPS, SERVICE)))), OPS),
}


@pytest.mark.parametrize("name", MORE_VOTES)
def test_asks_more_given_more_approvals_holds_one_way_alone(name: str) -> None:
    """Whoever satisfies the new tree has satisfied the old one."""
    new, old = MORE_VOTES[name]

    assert asks_more(new, old)
    assert asks_more(old, old)
    assert not asks_more(old, new)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (SECURITY, OPS),
        (SERVICE, SECURITY),
        (replace(OPS, group="admins"), OPS),
        (AllVotes((SERVICE, OPS)), AllVotes((OPS, SERVICE))),  # by place: one person may not fill two parts
        (StagedVotes((OPS, SERVICE)), OPS),
        (OPS, StagedVotes((OPS,))),
        (AnyVotes((OPS, SERVICE)), OPS),
    ],
)
def test_asks_more_given_what_cannot_be_proven_says_no(new: VoteTree, old: VoteTree) -> None:
    """Other people, another order, stages."""
    assert not asks_more(new, old)


@pytest.mark.parametrize(
    ("new", "old", "lower", "upper"),
    [(5, 5, True, True), (4, 5, False, True), (6, 5, True, False), (5, None, True, True), (None, 5, False, False)],
)
def test_bounds_given_each_side_are_no_wider(new: Any, old: Any, lower: bool, upper: bool) -> None:
    """None is no bound: nothing is narrower than it by being none."""
    assert (at_least(new, old), at_most(new, old)) == (lower, upper)
    assert at_least(None, None)
    assert at_most(None, None)


@pytest.mark.parametrize(
    ("new", "old", "is_part"),
    [
        (("a",), ("a", "b"), True),
        (("a", "c"), ("a", "b"), False),
        ((), ("a",), False),
        (("a",), (), True),
        ((), (), True),
    ],
)
def test_part_of_given_nothing_means_everything(new: tuple[str, ...], old: tuple[str, ...], is_part: bool) -> None:
    """Naming nobody narrows nothing."""
    assert part_of(new, old) is is_part

"""Properties of the decision: order never matters, restrictions only restrict, permissions only permit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from custody.decide import Allow, Case, Decided, Deny, decide
from custody.interval import Interval
from custody.policy import Policy
from custody.policy.subject import CoordinatorFacts
from custody.withdrawal import Relation, RelationKind, Withdrawal
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    STRANGER,
    SUPPLIER,
    VAULT,
    Document,
    approval,
    case,
    family,
    policy,
    rule,
    script,
    withdrawal,
)

PEOPLE = ("bob", "carol", "dave", "blind-ben", "screening", "alice")
SMALL = st.sampled_from([0, 1_000, 2_000, 50_000, 52_000, 100_000])
# "gone" is nowhere in the rules: each matcher is also met with a fact that is missing.
LEAVES: st.SearchStrategy[Document] = st.one_of(
    st.fixed_dictionaries(
        {"wallet": st.sampled_from([{"names": ["treasury"]}, {"classes": ["cold"]}, {"names": ["gone"]}])}
    ),
    st.fixed_dictionaries(
        {
            "initiator": st.sampled_from(
                [{"users": ["alice"]}, {"groups": ["ops"]}, {"services": ["payroll"]}, {"groups": ["gone"]}]
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "destination": st.fixed_dictionaries(
                {"quantifier": st.sampled_from(["all", "any"])},
                optional={
                    "lists": st.sampled_from([["exchanges"], ["gone"]]),
                    "class": st.sampled_from(["listed", "internal", "one_time"]),
                },
            ).filter(lambda found: len(found) > 1)
        }
    ),
    st.builds(lambda key, value: {"amount": {key: value}}, st.sampled_from(["min_sats", "max_sats"]), SMALL),
    st.builds(lambda value: {"fee": {"max_sats": value}}, SMALL),
    st.just({"fee": {"max_pct_of_amount": 1}}),
    st.just({"payments": "none"}),
    st.just({"shape": {"script_types": ["p2wsh"]}}),
    st.just({"inputs": {"outpoints": [f"{'09' * 32}:0"]}}),
    st.just({"change": {"max_outputs": 0}}),
    st.builds(lambda value: {"replacement": {"max_fee_increase": value}}, SMALL),
    st.builds(lambda kind: {"relation": {"kinds": [kind]}}, st.sampled_from(["new", "supersedes"])),
    st.builds(lambda hour: {"time": {"hours": [hour]}}, st.integers(7, 9)),
)


TOLD: st.SearchStrategy[Document] = st.sampled_from(
    [
        {"session": {"factors": ["otp"]}},
        {"pct_of_wallet": {"max_pct": 10}},
        {"min_confirmations": 6},
        {"chain": {"max_lag_blocks": 2}},
        {"time": {"hours": [9], "zone": "Europe/Zurich"}},
    ]
)
FACTS = st.sampled_from(
    [
        None,
        CoordinatorFacts(),
        CoordinatorFacts(frozenset({"otp"}), "10.0.0.1", "person", 10**6, 6, 3, {"Europe/Zurich": 3_600}),
    ]
)


def _joined(inner: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    return st.one_of(
        st.builds(lambda match: {"not": match}, inner),
        st.builds(lambda matches: {"any_of": matches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda matches: {"all_of": matches}, st.lists(inner, min_size=1, max_size=3)),
    )


MATCHES = st.one_of(st.just(Document()), st.recursive(LEAVES, _joined, max_leaves=4))
RESTRICTIONS = st.one_of(MATCHES, st.recursive(st.one_of(LEAVES, TOLD), _joined, max_leaves=4))
VOTES = st.recursive(
    st.one_of(
        st.builds(
            lambda group, threshold, blind: {"group": group, "threshold": threshold, "blind": blind},
            st.sampled_from(["ops", "security", "gone"]),
            st.integers(1, 2),
            st.booleans(),
        ),
        st.builds(
            lambda group, key: {"group": group, "threshold": 2, key: True},
            st.sampled_from(["ops", "security"]),
            st.sampled_from(["distinct_orgs", "device_bound"]),
        ),
        st.just({"service": "screening"}),
    ),
    lambda inner: st.builds(
        lambda word, parts: {word: parts},
        st.sampled_from(["all_of", "any_of", "stages"]),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=3,
)
THEN = st.one_of(
    st.builds(lambda votes: {"approvals": votes}, VOTES),
    st.builds(lambda names: {"signers": {"include": names}}, st.sampled_from([["alpha"], ["cold"], ["gone"]])),
    st.builds(lambda names: {"signers": {"exclude": names}}, st.sampled_from([["alpha"], ["cold"]])),
    st.just({"local_conf": True}),
    st.just({"delay": {"seconds": 60, "veto": {"group": "security", "threshold": 1}}}),
)
BUDGETS = st.builds(
    lambda window, measure, most, by, votes: {
        "window": window,
        **measure(most),
        **({"group_by": by} if by else {}),
        **({"on_exceed": "deny"} if votes is None else {"on_exceed": "require", "approvals": votes}),
    },
    st.sampled_from(["day", "ever", "gone"]),
    st.sampled_from(
        [
            lambda most: {"max_sats": most},
            lambda most: {"max_count": most // 50_000},
            lambda most: {"max_fee_sats": most},
        ]
    ),
    SMALL,
    st.sampled_from([[], ["wallet"], ["initiator"], ["destination"], ["org", "destination"]]),
    st.one_of(st.none(), VOTES),
)


@st.composite
def rules_of(draw: st.DrawFn, *kinds: str) -> Document:
    """Draw one rule of one of `kinds`, without an id."""
    kind = draw(st.sampled_from(kinds))
    then = {"require": THEN, "limit": BUDGETS}.get(kind)
    match = draw(RESTRICTIONS if kind in ("deny", "require") else MATCHES)
    found = rule("x", kind, match, draw(then) if then is not None else None)
    for key in ("not_before", "expires_at"):
        if draw(st.booleans()) and draw(st.booleans()):
            found[key] = NOW + draw(st.integers(-3, 3))
    if draw(st.integers(0, 9)) == 0:
        found["mode"] = "shadow"
    return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a withdrawal with its approvals, its past and its time."""
    payees = st.tuples(st.sampled_from([EXCHANGE, SUPPLIER, STRANGER]), st.sampled_from([1_000, 50_000]))
    asked: Withdrawal = withdrawal(
        *draw(st.lists(payees, min_size=1, max_size=2)),
        initiator=draw(st.sampled_from([*["alice", "bob", "payroll"] * 3, "mallory"])),
        wallet_id=draw(st.sampled_from([withdrawal().wallet_id, VAULT])),
    )
    if draw(st.booleans()):
        asked = replace(asked, payments=(), relation=Relation(RelationKind.SUPERSEDES, (bytes(32),)))
    people = [
        name for name in draw(st.lists(st.sampled_from(PEOPLE), unique=True, max_size=4)) if name != asked.initiator
    ]
    before = [withdrawal((EXCHANGE, 50_000), withdrawal_id=f"w-{n}") for n in range(2, 2 + draw(st.integers(0, 3)))]
    families = tuple(family(w, t=NOW - draw(st.sampled_from([0, DAY - 1, DAY]))) for w in before)
    if draw(st.booleans()):
        families += (family(asked),)
    lo = NOW - draw(st.integers(0, 3))
    votes = [approval(asked, name) for name in people]
    for at in range(1, len(votes)):  # some name one that came before
        if draw(st.booleans()):
            votes[at] = approval(asked, people[at], after=(votes[at - 1][0].digest,))
    return case(
        asked,
        approvals=tuple(votes),
        coordinator=draw(FACTS),
        families=families,
        time=Interval(lo, lo + draw(st.sampled_from([0, 2, 3_600]))),
        t_release=draw(st.sampled_from([None, NOW])),
        own_scripts=draw(st.sampled_from([None, frozenset(), frozenset({script(SUPPLIER)})])),
    )


def named(rules: list[Document]) -> list[Document]:
    """Return `rules` with ids by their place."""
    return [{**found, "id": f"r{at}"} for at, found in enumerate(rules)]


def without_hash(found: Decided) -> Decided:
    """Return a decision without the hash of the document, which the order of its bytes does change."""
    return replace(found, policy_hash=bytes(32))


def rank(found: Decided) -> int:
    """Return 0 for a deny, 1 for approvals missing, 2 for a yes."""
    return 0 if isinstance(found, Deny) else 2 if isinstance(found, Allow) else 1


ANY = rules_of("allow", "deny", "require", "limit")
BROAD = rule("x", "allow", {"fee": {"max_sats": 1_000_000}})
MANY = st.builds(
    lambda broad, rules: named([*broad, *rules]),
    st.sampled_from([[], [BROAD], [BROAD]]),
    st.lists(st.one_of(ANY, rules_of("allow")), max_size=4),
)


@settings(max_examples=120, deadline=None)
@given(rules=MANY, of=cases(), data=st.data())
def test_decide_given_permuted_rules_says_the_same(rules: list[Document], of: Case, data: st.DataObject) -> None:
    """Permuting rules changes nothing, down to the reasons."""
    shuffled = data.draw(st.permutations(rules))

    assert without_hash(decide(_policy(rules), of)) == without_hash(decide(_policy(shuffled), of))


@settings(max_examples=120, deadline=None)
@given(rules=MANY, extra=rules_of("deny", "require", "limit"), of=cases())
def test_decide_given_one_more_restriction_never_says_more(rules: list[Document], extra: Document, of: Case) -> None:
    """Adding a deny, require or limit never turns a refusal into an acceptance, nor a "not yet" into a yes."""
    more = [*rules, {**extra, "id": "extra"}]

    assert rank(decide(_policy(more), of)) <= rank(decide(_policy(rules), of))


@settings(max_examples=120, deadline=None)
@given(rules=MANY, of=cases(), data=st.data())
def test_decide_given_one_allow_less_never_says_more(rules: list[Document], of: Case, data: st.DataObject) -> None:
    """Removing an allow never turns a refusal into an acceptance."""
    allows = [found for found in rules if found["kind"] == "allow"]
    if not allows:
        return
    gone = data.draw(st.sampled_from(allows))
    fewer = [found for found in rules if found["id"] != gone["id"]]

    assert rank(decide(_policy(fewer), of)) <= rank(decide(_policy(rules), of))


@settings(max_examples=80, deadline=None)
@given(rules=MANY, of=cases(), data=st.data())
def test_decide_given_permuted_people_and_past_says_the_same(
    rules: list[Document], of: Case, data: st.DataObject
) -> None:
    """Neither the order of approvals nor that of families is anybody's to choose."""
    assert isinstance(of.families, tuple)
    shuffled = replace(
        of,
        approvals=tuple(data.draw(st.permutations(of.approvals))),
        families=tuple(data.draw(st.permutations(of.families))),
    )

    assert decide(_policy(rules), of) == decide(_policy(rules), shuffled)


@settings(max_examples=80, deadline=None)
@given(rules=MANY, of=cases(), data=st.data())
def test_decide_given_one_more_release_never_says_more(rules: list[Document], of: Case, data: st.DataObject) -> None:
    """What the log holds more can only use budgets up."""
    assert isinstance(of.families, tuple)
    more = family(withdrawal((EXCHANGE, 1_000), withdrawal_id="w-more"), t=data.draw(st.sampled_from([NOW, NOW - DAY])))

    assert rank(decide(_policy(rules), replace(of, families=(*of.families, more)))) <= rank(decide(_policy(rules), of))


def _policy(rules: list[Document]) -> Policy:
    changes: dict[str, Any] = {"rules": rules}
    return policy(**changes)

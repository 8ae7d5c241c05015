"""Initiator and approvals: one valid set of people, one lie, one exact code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import pytest

from custody.approval import Approval, Decision
from custody.errors import Refused
from custody.people import Ballot, check_approval, verify_people
from custody.statements import Kind, Signed, sign
from custody.withdrawal import Withdrawal
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    approval,
    document,
    policy,
    principal,
    seed_of,
    signed_by_initiator,
    withdrawal,
)

People: TypeAlias = tuple[Withdrawal, Signed, tuple[tuple[Approval, Signed], ...], int]
W = withdrawal()
OTHER = withdrawal((EXCHANGE, 50_001))


def people(*approvals: tuple[Approval, Signed], at: int = NOW) -> People:
    """Return W, signed by alice, with `approvals`."""
    return W, signed_by_initiator(W), approvals, at


def unsigned_change(change: Callable[[Withdrawal], Withdrawal]) -> People:
    """Return a withdrawal that was changed after alice signed it."""
    return change(W), signed_by_initiator(W), (), NOW


def named(name: str, *, signer: str) -> People:
    """Return a withdrawal in the name of `name`, signed by `signer`."""
    asked = withdrawal(initiator=name)
    return asked, sign(Kind.WITHDRAWAL, asked.to_json(), seed_of(signer)), (), NOW


def swapped() -> tuple[Approval, Signed]:
    """Return a statement of W carrying the signature that bob gave for OTHER."""
    said, _ = approval(W, "bob")
    return said, approval(OTHER, "bob")[1]


LIES: dict[str, tuple[People, str]] = {
    "an initiator nobody knows": (named("mallory", signer="mallory"), "INITIATOR_UNKNOWN"),
    "another's name": (named("bob", signer="alice"), "INITIATOR_SIGNATURE"),
    "a changed payee after signing": (
        unsigned_change(lambda w: replace(w, withdrawal_id="w-2")),
        "INITIATOR_SIGNATURE",
    ),
    "another kind of statement": (
        (W, replace(signed_by_initiator(W), kind=Kind.MESSAGE), (), NOW),
        "INITIATOR_SIGNATURE",
    ),
    "an initiator out of date": (people(at=NOW + 365 * DAY), "INITIATOR_UNKNOWN"),
    "an approval of another withdrawal": (people(approval(OTHER, "bob")), "APPROVAL_OTHER_WITHDRAWAL"),
    "an approval of another genesis": (people(approval(W, "bob", genesis=bytes(32))), "APPROVAL_OTHER_WITHDRAWAL"),
    "an approver nobody knows": (people(approval(W, "mallory")), "APPROVER_UNKNOWN"),
    "an approver signed for by another": (people(approval(W, "bob", signer="carol")), "APPROVAL_SIGNATURE"),
    "a signature of something else": (people(swapped()), "APPROVAL_SIGNATURE"),
    "an approval by the initiator": (people(approval(W, "alice")), "APPROVAL_SELF"),
    "an approval of tomorrow": (people(approval(W, "bob", at=NOW + 1)), "APPROVAL_NOT_YET"),
    "an approval of yesterday": (people(approval(W, "bob", expires_at=NOW)), "APPROVAL_EXPIRED"),
    "an approval that outlives its withdrawal": (
        people(approval(W, "bob", expires_at=NOW + 2 * DAY), at=NOW + DAY),
        "APPROVAL_EXPIRED",
    ),
    "one person twice": (people(approval(W, "bob"), approval(W, "bob", at=NOW - 10)), "APPROVAL_DUPLICATE_PERSON"),
    "a reject": (people(approval(W, "carol"), approval(W, "bob", decision=Decision.REJECT)), "REJECTED"),
    "a reject that ran out": (
        people(approval(W, "bob", decision=Decision.REJECT, expires_at=NOW - 40)),
        "REJECTED",
    ),
    "the initiator's own reject": (people(approval(W, "alice", decision=Decision.REJECT)), "REJECTED"),
}


def test_verify_people_given_initiator_and_two_approvers_finds_nothing() -> None:
    """The valid set is valid."""
    assert verify_people(policy(), *people(approval(W, "bob"), approval(W, "carol"))) is None


def test_verify_people_given_both_edges_of_an_approval_accepts_them() -> None:
    """An approval holds from its own second on, until the second before its end."""
    edges = approval(W, "bob", at=NOW, expires_at=NOW + 1)

    assert verify_people(policy(), *people(edges)) is None


@pytest.mark.parametrize("lie", LIES)
def test_verify_people_given_one_lie_refuses_with_its_code(lie: str) -> None:
    """A valid set of people with one lie is refused with that lie's code."""
    given, code = LIES[lie]

    refused = verify_people(policy(), *given)

    assert refused is not None
    assert refused.code == code


def test_verify_people_given_a_leaver_refuses_the_approval() -> None:
    """From valid_until on, a person's key counts for nothing."""
    users = document()["principals"]["users"]
    users[1]["valid_until"] = NOW
    rules = policy(principals={**document()["principals"], "users": users})

    refused = verify_people(rules, *people(approval(W, "bob")))

    assert refused == Refused("APPROVER_UNKNOWN", f"an approver valid at {NOW}", f"one valid until {NOW}")


def test_check_approval_given_seen_and_blind_credentials_tells_them_apart() -> None:
    """Seen is what the rules say of the credential that signed."""
    for person, seen in (("bob", True), ("blind-ben", False)):
        said, signed = approval(W, person)

        assert check_approval(policy(), W, said, signed, NOW) == Ballot(person, seen, NOW - 50, said.digest)


def test_check_approval_given_each_flipped_byte_of_a_signature_refuses() -> None:
    """No byte of a signature is free."""
    said, signed = approval(W, "bob")
    endorsement = signed.endorsements[0]
    for at in range(64):
        wrong = bytearray(endorsement.signature)
        wrong[at] ^= 1
        broken = replace(signed, endorsements=(replace(endorsement, signature=bytes(wrong)),))

        refused = check_approval(policy(), W, said, broken, NOW)

        assert isinstance(refused, Refused)
        assert refused.code == "APPROVAL_SIGNATURE"


def test_principal_given_two_credentials_counts_as_one_human() -> None:
    """Two keys of one person are two approvals of one human."""
    users = document()["principals"]["users"]
    users[1] = principal("bob", "acme", ["ops"])
    users[1]["credentials"].append(principal("bob-phone", "acme", [])["credentials"][0])
    rules = policy(principals={**document()["principals"], "users": users})

    refused = verify_people(rules, *people(approval(W, "bob"), approval(W, "bob", signer="bob-phone")))

    assert refused is not None
    assert refused.code == "APPROVAL_DUPLICATE_PERSON"

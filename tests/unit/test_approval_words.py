"""Approvals word for word: the statement's one form, and each refusal of the people behind a withdrawal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.approval import MAX_AFTER, Approval, Decision, read_approval
from custody.canonical import encode, tagged_hash
from custody.errors import MalformedError
from custody.people import Ballot, check_approval, check_initiator, verify_people
from custody.statements import Kind, Signed, sign
from tests.fakes.rules import (
    DAY,
    EXCHANGE,
    NOW,
    approval,
    policy,
    seed_of,
    signed_by_initiator,
    withdrawal,
)

W = withdrawal()
FIRST, SECOND = bytes(31) + b"\x01", bytes(31) + b"\x02"
APPROVAL = Approval(bytes([1]) * 32, bytes([2]) * 32, Decision.APPROVE, "bob", 1_700_000_000, 1_700_000_100)
STATEMENT: dict[str, Any] = {
    "genesis": "01" * 32,
    "withdrawal_digest": "02" * 32,
    "decision": "approve",
    "approver": "bob",
    "at": 1_700_000_000,
    "expires_at": 1_700_000_100,
}


def read(statement: dict[str, Any], kind: Kind = Kind.APPROVAL) -> Approval | str:
    """Return what is read of a statement, or the refusal."""
    try:
        return read_approval(sign(kind, statement, seed_of("bob")))
    except MalformedError as error:
        return str(error)


def test_approval_has_one_form_as_a_statement() -> None:
    """Field by field, with and without earlier approvals; its digest is that of its bytes."""
    after = replace(APPROVAL, after=(FIRST, SECOND))
    with_after = {**STATEMENT, "after": [FIRST.hex(), SECOND.hex()]}

    assert APPROVAL.to_json() == STATEMENT
    assert after.to_json() == with_after
    assert read(STATEMENT) == APPROVAL
    assert read(with_after) == after
    assert read({**STATEMENT, "decision": "reject"}) == replace(APPROVAL, decision=Decision.REJECT)
    assert APPROVAL.digest == tagged_hash(Kind.APPROVAL.value, encode(STATEMENT))
    assert after.digest != APPROVAL.digest


AFTER = "APPROVAL_AFTER: expected sorted distinct digests of approvals, or no such field"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"decision": "maybe"}, "APPROVAL_DECISION: expected approve or reject, found 'maybe'"),
        ({"decision": "x" * 40}, f"APPROVAL_DECISION: expected approve or reject, found '{'x' * 20}'"),
        ({"after": []}, AFTER),
        ({"after": [SECOND.hex(), FIRST.hex()]}, AFTER),
        ({"after": [FIRST.hex(), FIRST.hex()]}, AFTER),
    ],
)
def test_read_approval_given_another_form_says_what_was_expected(change: dict[str, Any], expected: str) -> None:
    """One field, one refusal word for word."""
    assert read({**STATEMENT, **change}) == expected


@pytest.mark.parametrize("name", STATEMENT)
def test_read_approval_given_a_field_too_few_or_of_another_type_names_it(name: str) -> None:
    """Each field is needed, and named where it is wrong."""
    missing = read({key: value for key, value in STATEMENT.items() if key != name})
    wrong = read({**STATEMENT, name: [STATEMENT[name]]})

    assert missing == f"FIELD_MISSING: approval: expected field {name}"
    assert isinstance(wrong, str)
    assert f"approval.{name}" in wrong


@pytest.mark.parametrize("name", ["genesis", "withdrawal_digest"])
@pytest.mark.parametrize("size", [31, 33])
def test_read_approval_given_a_digest_of_another_length_refuses(name: str, size: int) -> None:
    """32 bytes each."""
    assert isinstance(read({**STATEMENT, name: "01" * size}), str)


def test_read_approval_given_earlier_approvals_takes_64_of_32_bytes() -> None:
    """As many as one part of a rule can ask for."""
    digests = [bytes([at]) * 32 for at in range(MAX_AFTER + 1)]
    most = read({**STATEMENT, "after": [digest.hex() for digest in digests[:-1]]})

    assert isinstance(most, Approval)
    assert most.after == tuple(digests[:-1])
    for wrong in ([digest.hex() for digest in digests], ["01" * 31], ["01" * 33], [7]):
        said = read({**STATEMENT, "after": wrong})
        assert isinstance(said, str)
        assert "approval.after" in said


def test_read_approval_given_another_kind_or_a_field_too_many_refuses() -> None:
    """The kind is told by its name; nothing may be added."""
    assert read(STATEMENT, Kind.MESSAGE) == "STATEMENT_KIND: expected an approval, found MESSAGE"
    said = read({**STATEMENT, "note": "x"})
    assert isinstance(said, str)
    assert "note" in said


Given = tuple[Approval, Signed]
OTHER = withdrawal((EXCHANGE, 50_001))
UNTIL = policy().principal("bob")
assert UNTIL is not None
END = UNTIL.valid_until


def judged(given: Given, at: int = NOW) -> str:
    """Return what an approval is worth, or the refusal word for word."""
    found = check_approval(policy(), W, *given, at)
    return "a ballot" if isinstance(found, Ballot) else str(found)


def swapped() -> Given:
    """Return a statement of W carrying the signature that bob gave for OTHER."""
    return approval(W, "bob")[0], approval(OTHER, "bob")[1]


def of_kind() -> Given:
    """Return bob's approval said to be another kind of statement."""
    said, signed = approval(W, "bob")
    return said, replace(signed, kind=Kind.MESSAGE)


JUDGED: dict[str, tuple[Given, int, str]] = {
    "an approval": (approval(W, "bob"), NOW, "a ballot"),
    "of another withdrawal": (
        approval(OTHER, "bob"),
        NOW,
        f"APPROVAL_OTHER_WITHDRAWAL: expected {W.digest.hex()[:16]}, found {OTHER.digest.hex()[:16]}",
    ),
    "of another genesis": (
        approval(W, "bob", genesis=bytes(32)),
        NOW,
        f"APPROVAL_OTHER_WITHDRAWAL: expected {W.digest.hex()[:16]}, found {W.digest.hex()[:16]}",
    ),
    "by nobody": (
        approval(W, "mallory"),
        NOW,
        "APPROVER_UNKNOWN: expected an approver named in the rules, found mallory",
    ),
    "signed by another": (
        approval(W, "bob", signer="carol"),
        NOW,
        "APPROVAL_SIGNATURE: expected a signature by bob, found none",
    ),
    "a signature of something else": (swapped(), NOW, "APPROVAL_SIGNATURE: expected a signature by bob, found none"),
    "another kind": (of_kind(), NOW, "APPROVAL_SIGNATURE: expected a signature by bob, found none"),
    "a reject": (
        approval(W, "bob", decision=Decision.REJECT),
        NOW,
        "REJECTED: expected no reject, found a reject by bob",
    ),
    "by the initiator": (
        approval(W, "alice"),
        NOW,
        "APPROVAL_SELF: expected an approver other than the initiator, found alice",
    ),
    "by someone who left": (
        approval(W, "bob", at=END, expires_at=END + 9),
        END,
        f"APPROVER_UNKNOWN: expected an approver valid at {END}, found one valid until {END}",
    ),
    "too early": (
        approval(W, "bob", at=NOW + 1),
        NOW,
        f"APPROVAL_NOT_YET: expected an approval made by {NOW}, found one of {NOW + 1} by bob",
    ),
    "in its first second": (approval(W, "bob", at=NOW), NOW, "a ballot"),
    "in its last second": (approval(W, "bob", expires_at=NOW + 1), NOW, "a ballot"),
    "too late": (
        approval(W, "bob", expires_at=NOW),
        NOW,
        f"APPROVAL_EXPIRED: expected an approval valid at {NOW}, found one of bob until {NOW}",
    ),
    "later than its withdrawal": (
        approval(W, "bob", expires_at=W.expires_at + 9),
        W.expires_at,
        f"APPROVAL_EXPIRED: expected an approval valid at {W.expires_at}, found one of bob until {W.expires_at}",
    ),
    "in the last second of its withdrawal": (
        approval(W, "bob", expires_at=W.expires_at + 9),
        W.expires_at - 1,
        "a ballot",
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_check_approval_given_one_lie_says_what_was_expected(name: str) -> None:
    """One valid approval, one change, one refusal word for word."""
    given, at, expected = JUDGED[name]
    assert judged(given, at) == expected


def test_check_approval_given_a_ballot_says_all_that_rules_ask_of_it() -> None:
    """Whose, seen or blind, when, its digest and what it names."""
    said, signed = approval(W, "bob")
    blind, blind_signed = approval(W, "blind-ben")

    assert check_approval(policy(), W, said, signed, NOW) == Ballot("bob", True, said.at, said.digest)
    assert check_approval(policy(), W, blind, blind_signed, NOW) == Ballot("blind-ben", False, blind.at, blind.digest)
    named = replace(said, after=(FIRST,))
    found = check_approval(policy(), W, named, sign(Kind.APPROVAL, named.to_json(), seed_of("bob")), NOW)
    assert found == Ballot("bob", True, said.at, named.digest, False, (FIRST,))


INITIATOR = policy().principal("alice")
assert INITIATOR is not None
INITIATOR_END = INITIATOR.valid_until


def test_check_initiator_given_one_lie_says_what_was_expected() -> None:
    """Named, in date, and of exactly this withdrawal."""
    signed = signed_by_initiator(W)
    unnamed = withdrawal(initiator="mallory")
    lacking = "INITIATOR_SIGNATURE: expected a signature of this withdrawal by alice, found none"

    def said(asked: object, given: Signed, at: int = NOW) -> str:
        return str(check_initiator(policy(), asked, given, at))  # type: ignore[arg-type]  # withdrawals, all of them

    assert said(W, signed) == said(W, signed, INITIATOR_END - 1) == "None"
    assert said(unnamed, signed) == "INITIATOR_UNKNOWN: expected an initiator named in the rules, found mallory"
    assert said(W, signed, INITIATOR_END) == (
        f"INITIATOR_UNKNOWN: expected an initiator valid at {INITIATOR_END}, found one valid until {INITIATOR_END}"
    )
    assert said(W, replace(signed, kind=Kind.MESSAGE)) == lacking
    assert said(OTHER, signed) == lacking
    assert said(W, sign(Kind.WITHDRAWAL, W.to_json(), seed_of("bob"))) == lacking


def test_verify_people_given_several_says_the_first_that_is_wrong() -> None:
    """The initiator first, then each approval, then one human, one vote."""
    signed = signed_by_initiator(W)
    bob, carol = approval(W, "bob"), approval(W, "carol")
    again = approval(W, "bob", at=NOW - 10)

    def said(*approvals: Given, by: Signed = signed, at: int = NOW) -> str:
        return str(verify_people(policy(), W, by, approvals, at))

    assert said() == said(bob, carol) == said(carol, bob) == "None"
    assert (
        said(bob, again)
        == said(bob, carol, again)
        == ("APPROVAL_DUPLICATE_PERSON: expected one approval of each person, found two of bob")
    )
    assert said(carol, approval(W, "bob", expires_at=NOW)).startswith("APPROVAL_EXPIRED")
    assert said(bob, by=signed_by_initiator(OTHER)).startswith("INITIATOR_SIGNATURE")
    assert said(bob, at=W.expires_at + DAY).startswith("APPROVAL_EXPIRED")

"""Attacks on the desk between a page and a signature: what was answered before, or for something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from console.desk.acts import ACT_SECONDS, Act, Acts, signed_of
from console.desk.passkeys import DeskKeys, Passkey, b64
from console.pen import Pen
from console.refusal import RefusedHereError
from custody.approval import Approval, Decision
from custody.canonical import encode
from custody.credentials import proofs_by
from custody.errors import MalformedError
from custody.policy import parse_policy
from custody.statements import Kind, Signed
from custody.webauthn import parse_assertion
from tests.fakes import authenticators
from tests.fakes.authenticators import ORIGIN, RP_ID, desk_seed
from tests.fakes.rules import DAY, GENESIS, NOW, document

BOB = authenticators.Passkey("bob")
KEYS = DeskKeys(desk_seed("bob"), Path("unused"), ORIGIN)


async def sent(_: Signed) -> str:
    """Take what was signed."""
    return "/"


def no_pen() -> Pen:
    """Fail: a passkey signs here."""
    raise AssertionError


def act(withdrawal: int, at: int = NOW) -> Act:
    """Return bob's approval of another withdrawal for each number, to be signed by his passkey."""
    said = Approval(GENESIS, bytes([withdrawal]) * 32, Decision.APPROVE, "bob", at, at + DAY)
    return Act(Kind.APPROVAL, encode(said.to_json()), sent, Passkey(b"id", BOB.alg, BOB.key), at)


def answer_of(challenge: bytes) -> Mapping[str, object]:
    """Return what a browser sends once bob's passkey signed `challenge`."""
    made = parse_assertion(BOB.endorse(challenge).signature)
    parts = {"clientDataJSON": made.client_data, "authenticatorData": made.authenticator_data}
    return {"response": {name: b64(raw) for name, raw in {**parts, "signature": made.signature}.items()}}


def test_atk_103_answer_of_a_passkey_counts_for_its_own_statement_and_is_seen() -> None:
    """The valid case: two signatures, by the passkey and by the desk, that signers take for seen."""
    users = document()["principals"]
    for user in users["users"]:
        if user["name"] == "bob":
            user["credentials"].append(BOB.credential())
    roots = {**document()["roots"], "rp_ids": [RP_ID], "origins": [ORIGIN]}
    bob = parse_policy(document(principals=users, roots=roots)).principal("bob")
    assert bob is not None

    signed = signed_of(act(1), answer_of(act(1).digest), KEYS, no_pen)

    assert [proof.seen for proof in proofs_by(bob, signed)] == [True]


def test_atk_103_answer_of_a_passkey_sent_again_finds_no_question() -> None:
    """A replayed request: the name of a question works once, and not after five minutes."""
    acts = Acts()
    again, late = acts.begin(act(1)), acts.begin(act(1))
    acts.take(again, NOW)

    for name, now in ((again, NOW), (late, NOW + ACT_SECONDS + 1), ("guessed", NOW)):
        with pytest.raises(RefusedHereError) as refused:
            acts.take(name, now)
        assert refused.value.code == "ACT_EXPIRED"


@pytest.mark.parametrize("answer", [act(2).digest, act(1, NOW - 60).digest, bytes(32)])
def test_atk_103_answer_of_a_passkey_to_another_question_signs_nothing(answer: bytes) -> None:
    """Of another withdrawal, of the same one a minute ago, of nothing at all: the desk's key does not join it."""
    with pytest.raises(MalformedError) as refused:
        signed_of(act(1), answer_of(answer), KEYS, no_pen)
    assert refused.value.code == "ASSERTION"


@pytest.mark.parametrize(
    "answer", ["{}", '{"response": {}}', '{"response": {"clientDataJSON": "%%"}}', '{"response": 1}']
)
def test_atk_103_answer_that_is_none_signs_nothing(answer: str) -> None:
    """Whatever a browser sends in its place."""
    with pytest.raises(MalformedError) as refused:
        signed_of(act(1), json.loads(answer), KEYS, no_pen)
    assert refused.value.code == "ASSERTION"

"""Statements: what is signed is bytes of one kind; a signature is of one key over one kind and one text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody import ed25519
from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.statements import MAX_STATEMENT_BYTES, Endorsement, Kind, Signed, endorse, sign
from tests.fakes.rules import key_of, seed_of

STATEMENT: dict[str, Json] = {"text": "pay", "amount": 7}
SIGNED = sign(Kind.WITHDRAWAL, STATEMENT, seed_of("alice"))


def code_of(value: Any) -> str:
    """Return the code with which the JSON form is refused, or OK."""
    try:
        Signed.from_json(value)
    except MalformedError as error:
        return error.code
    return "OK"


def test_sign_given_a_statement_signs_its_tagged_hash() -> None:
    """The digest is of the kind and the canonical bytes, and the key's owner signed it."""
    assert SIGNED.raw == encode(STATEMENT)
    assert SIGNED.digest == tagged_hash("keyturn/withdrawal/v1", encode(STATEMENT))
    (endorsement,) = SIGNED.endorsements
    assert ed25519.verify(key_of("alice"), SIGNED.digest, endorsement.signature)
    assert SIGNED.signed_by(key_of("alice"))
    assert not SIGNED.signed_by(key_of("bob"))


def test_digest_given_other_signatures_is_the_same() -> None:
    """Who signed changes nothing of what was said."""
    both = replace(SIGNED, endorsements=(*SIGNED.endorsements, endorse(Kind.WITHDRAWAL, SIGNED.raw, seed_of("bob"))))

    assert both.digest == SIGNED.digest
    assert both.signed_by(key_of("bob"))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.WITHDRAWAL])
def test_signed_by_given_the_same_bytes_as_another_kind_says_no(kind: Kind) -> None:
    """A signature under a withdrawal is none under an approval of the same text."""
    assert not replace(SIGNED, kind=kind).signed_by(key_of("alice"))


def test_signed_by_given_one_changed_byte_or_bit_says_no() -> None:
    """Neither text nor signature bends."""
    (endorsement,) = SIGNED.endorsements
    for at in range(64):
        bent = endorsement.signature[:at] + bytes([endorsement.signature[at] ^ 1]) + endorsement.signature[at + 1 :]
        assert not replace(SIGNED, endorsements=(replace(endorsement, signature=bent),)).signed_by(key_of("alice"))
    assert not replace(SIGNED, raw=encode({**STATEMENT, "amount": 8})).signed_by(key_of("alice"))


def test_from_bytes_given_to_bytes_returns_the_same() -> None:
    """One statement, one file."""
    assert Signed.from_bytes(SIGNED.to_bytes()) == SIGNED
    assert SIGNED.to_bytes() == encode(decode(SIGNED.to_bytes()))


def plain() -> dict[str, Any]:
    """Return the JSON form to be changed."""
    value: Any = SIGNED.to_json()
    return {**value, "endorsements": [dict(item) for item in value["endorsements"]]}


def endorsed(**changes: Any) -> dict[str, Any]:
    """Return the JSON form with `changes` of its endorsement."""
    value = plain()
    value["endorsements"][0].update(changes)
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown kind": ({**plain(), "kind": "keyturn/withdrawal/v2"}, "STATEMENT_KIND"),
    "an unknown field": ({**plain(), "more": 1}, "FIELD_UNKNOWN"),
    "no statement": ({"kind": Kind.STOP.value, "endorsements": []}, "FIELD_MISSING"),
    "a float inside": ({**plain(), "statement": {"amount": 1.5}}, "NOT_CANONICAL_VALUE"),
    "an unknown algorithm": (endorsed(alg="rsa"), "SIGNATURE_ALGORITHM"),
    "a short key": (endorsed(key="00"), "FIELD_HEX"),
    "a long signature": (endorsed(signature="00" * 65), "FIELD_HEX"),
    "an unknown field of an endorsement": (endorsed(more=1), "FIELD_UNKNOWN"),
    "65 endorsements": ({**plain(), "endorsements": plain()["endorsements"] * 65}, "FIELD_TOO_LONG"),
    "a statement too large": ({**plain(), "statement": {"t": "x" * MAX_STATEMENT_BYTES}}, "STATEMENT_TOO_LARGE"),
    "no object": ([], "FIELD_TYPE"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_from_json_given_another_shape_refuses(name: str) -> None:
    """One valid form, one change, one code."""
    value, code = REFUSED[name]
    assert code_of(plain()) == "OK"
    assert code_of(value) == code


def test_endorsement_to_json_is_read_back() -> None:
    """Lower-case hex, named algorithm."""
    (endorsement,) = SIGNED.endorsements
    assert isinstance(endorsement, Endorsement)
    assert endorsement.to_json() == {
        "alg": "ed25519",
        "key": key_of("alice").hex(),
        "signature": endorsement.signature.hex(),
    }


def test_from_canonical_whatever_statement_gives_what_encoding_it_again_gives() -> None:
    """The statement cut out of canonical bytes is the one that is encoded from the value, even where it quotes them."""
    text = f'"kind":"{Kind.FREEZE.value}","statement":{{}}'
    tricky: Json = {"kind": Kind.FREEZE.value, "note": text, "statement": {"a": 1}}
    signed = sign(Kind.FREEZE, tricky, bytes(32))
    raw = signed.to_bytes()
    assert Signed.from_bytes(raw) == Signed.from_json(decode(raw)) == signed

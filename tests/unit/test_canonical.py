"""The canonical encoding against the `rfc8785` package, and everything that is no canonical value."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from custody.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, decode, encode, tagged_hash
from custody.errors import MalformedError

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


def code_of_encode(value: Any) -> str:
    """Return the code with which `value` is refused, or OK."""
    try:
        encode(value)
    except MalformedError as error:
        return error.code
    return "OK"


def code_of_decode(raw: bytes) -> str:
    """Return the code with which `raw` is refused, or OK."""
    try:
        decode(raw)
    except MalformedError as error:
        return error.code
    return "OK"


@given(VALUES)
def test_encode_given_any_value_is_what_rfc8785_says(value: Any) -> None:
    """Byte for byte the encoding of another implementation, and back."""
    raw = encode(value)

    assert raw == rfc8785.dumps(value)
    assert decode(raw) == value


@given(VALUES)
def test_decode_given_another_spelling_refuses(value: Any) -> None:
    """One value has one encoding: spaces and escapes are another document."""
    for other in (json.dumps(value, indent=1).encode(), encode(value) + b" ", b"\xef\xbb\xbf" + encode(value)):
        if other != encode(value):
            assert code_of_decode(other) in {"NOT_CANONICAL", "NOT_JSON"}


@given(st.binary(max_size=40))
def test_decode_given_any_bytes_raises_nothing_foreign(raw: bytes) -> None:
    """Whatever comes in, one family of errors comes out."""
    assert code_of_decode(raw) in {"OK", "NOT_JSON", "NOT_CANONICAL", "NOT_CANONICAL_VALUE", "DUPLICATE_KEY"}


def test_encode_given_the_escapes_of_rfc8785_writes_each_its_shortest_way() -> None:
    """Control characters by their shortest escape, everything else as it is."""
    assert encode('\x00\x08\t\n\x0b\x0c\r\x1f"\\/\x7f\u20ac\U0001f600') == (
        b'"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\"\\\\/\x7f\xe2\x82\xac\xf0\x9f\x98\x80"'
    )


NO_VALUES: dict[str, Any] = {
    "a float": 1.0,
    "null": None,
    "bytes": b"x",
    "a number beyond 2^53 - 1": MAX_SAFE_INTEGER + 1,
    "one below": -MAX_SAFE_INTEGER - 1,
    "a key that is not ASCII": {"\u00e9": 1},
    "a key that is a number": {1: 1},
    "a lone surrogate": "\ud800",
    "a set": {1},
}


@pytest.mark.parametrize("name", NO_VALUES)
def test_encode_given_what_is_no_value_refuses(name: str) -> None:
    """Also where it hides inside."""
    value = NO_VALUES[name]
    assert {code_of_encode(hidden) for hidden in (value, [value], {"a": [value]})} == {"NOT_CANONICAL_VALUE"}


def nested(depth: int) -> bytes:
    """Return that many arrays in each other."""
    return b"[" * depth + b"]" * depth


REFUSED = {
    "nothing": (b"", "NOT_JSON"),
    "no JSON": (b"{", "NOT_JSON"),
    "no UTF-8": (b'"\xff"', "NOT_JSON"),
    "two values": (b"1 1", "NOT_JSON"),
    "a float": (b"1.5", "NOT_CANONICAL_VALUE"),
    "an exponent": (b"1e3", "NOT_CANONICAL_VALUE"),
    "NaN": (b"NaN", "NOT_CANONICAL_VALUE"),
    "null": (b"null", "NOT_CANONICAL_VALUE"),
    "minus zero": (b"-0", "NOT_CANONICAL"),
    "a key twice": (b'{"a":1,"a":1}', "DUPLICATE_KEY"),
    "keys out of order": (b'{"b":1,"a":1}', "NOT_CANONICAL"),
    "a space": (b'{"a": 1}', "NOT_CANONICAL"),
    "a needless escape": (b'"\\u0061"', "NOT_CANONICAL"),
    "a lone surrogate": (b'"\\ud800"', "NOT_CANONICAL_VALUE"),
    "a huge number": (b"9" * 5000, "NOT_JSON"),
    "a large number": (b"9" * 40, "NOT_CANONICAL_VALUE"),
    "one level too many": (nested(MAX_DEPTH + 1), "NOT_CANONICAL_VALUE"),
    "a hundred thousand levels": (nested(100_000), "NOT_JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_decode_given_what_is_not_canonical_refuses(name: str) -> None:
    """One kind of wrong bytes, one code."""
    raw, code = REFUSED[name]
    assert code_of_decode(raw) == code


def test_tagged_hash_is_of_bip340() -> None:
    """The tag's hash twice, then the data: no data of one tag is data of another."""
    tag = hashlib.sha256(b"BIP0340/challenge").digest()

    assert tagged_hash("BIP0340/challenge", b"data") == hashlib.sha256(tag + tag + b"data").digest()
    assert tagged_hash("a", b"data") != tagged_hash("b", b"data")

"""The one byte encoding, and the tagged hash, of everything that is approved, signed or logged.

RFC 8785 (JCS) restricted to what custody needs: objects with ASCII keys, arrays, strings, booleans and whole
numbers inside +-(2^53 - 1). There are no floats and no null, so there is no number formatting and no "absent or null"
to disagree about. `decode` accepts only canonical bytes: one value has one encoding, and a digest of received bytes is
a digest of the value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn, TypeAlias

from custody.errors import MalformedError

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | bool

MAX_SAFE_INTEGER = 2**53 - 1  # RFC 7493 I-JSON: beyond it JSON readers disagree
MAX_DEPTH = 32  # our deepest document uses under 16; deeper is an attack on the reader's stack
# Made once: json.dumps makes a new encoder on every call that does not take its defaults.
_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False, check_circular=False)


def encode(value: Json) -> bytes:
    """Return the canonical bytes of `value` (RFC 8785).

    Raises:
        MalformedError: NOT_CANONICAL_VALUE for a float, null, foreign type, non-ASCII key, unsafe integer, lone
            surrogate or too deep a value.
    """
    _check(value, MAX_DEPTH)
    return _encoded(value)


def decode(raw: bytes) -> Json:
    """Return the value whose canonical encoding is exactly `raw`.

    Raises:
        MalformedError: NOT_JSON, DUPLICATE_KEY, NOT_CANONICAL_VALUE or NOT_CANONICAL (a second spelling).
    """
    try:
        value: Json = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError("NOT_JSON", f"expected canonical JSON: {type(error).__name__}") from error
    if not _is_plain(raw):
        _check(value, MAX_DEPTH)
    if _encoded(value) != raw:
        raise MalformedError(
            "NOT_CANONICAL", "expected the RFC 8785 encoding, found another spelling of the same value"
        )
    return value


def tagged_hash(tag: str, data: bytes) -> bytes:
    """Return sha256(sha256(tag) || sha256(tag) || data): 32 bytes (BIP-340 construction)."""
    return hashlib.sha256(_tag_prefix(tag) + data).digest()


@lru_cache(maxsize=64)
def _tag_prefix(tag: str) -> bytes:
    return hashlib.sha256(tag.encode()).digest() * 2


def _encoded(value: Json) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError as error:
        raise MalformedError("NOT_CANONICAL_VALUE", "expected valid Unicode, found a lone surrogate") from error


def _is_plain(raw: bytes) -> bool:
    """Return whether `_check` has nothing to find in what `_DECODER` made of `raw`; False says only "look".

    Without a letter beyond ASCII or an escape every key is ASCII, without the word there is no null, and what opens
    fewer objects and lists than may be nested nests fewer. Integers and floats the decoder judges itself.
    """
    shallow = raw.count(b"{") + raw.count(b"[") < MAX_DEPTH
    return shallow and raw.isascii() and b"\\" not in raw and b"null" not in raw


def _unique_keys(pairs: list[tuple[str, Json]]) -> Mapping[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedError("DUPLICATE_KEY", "expected each key once, found one twice")
    return value


def _no_float(text: str) -> NoReturn:
    raise MalformedError("NOT_CANONICAL_VALUE", f"expected whole numbers, found {text[:20]}")


def _safe_integer(text: str) -> int:
    if not -MAX_SAFE_INTEGER <= (number := int(text)) <= MAX_SAFE_INTEGER:
        raise MalformedError("NOT_CANONICAL_VALUE", f"expected an integer inside 2^53 - 1, found {text[:20]}")
    return number


# Made once, as `_ENCODER`. What it makes holds no float, and no integer that is not safe.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_int=_safe_integer, parse_float=_no_float, parse_constant=_no_float
)


def _check(value: Json, depth: int) -> None:
    if depth == 0:
        raise MalformedError("NOT_CANONICAL_VALUE", f"expected at most {MAX_DEPTH} levels")
    if isinstance(value, (str, bool)):  # a union type costs three times as much, on every value
        return
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise MalformedError("NOT_CANONICAL_VALUE", f"expected an integer inside 2^53 - 1, found {value}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not (type(key) is str or isinstance(key, str)) or not key.isascii():
                raise MalformedError("NOT_CANONICAL_VALUE", "expected ASCII keys")
            if type(item) is not str or depth == 1:  # most values are text, which needs no second look
                _check(item, depth - 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth - 1)
    else:
        raise MalformedError(
            "NOT_CANONICAL_VALUE", f"expected JSON without floats or null, found {type(value).__name__}"
        )

"""The usual form of a PSBT's maps and previous transactions, read in one pass without an object per field.

It exists for speed alone: the strict readers of `custody.psbt` and `custody.transaction` make an object for each field,
which for a thousand inputs costs more than a thousand signatures. Nothing is refused here and nothing is half believed:
each function returns what it read when every byte of it is what the strict reader would accept, and None otherwise.
None says only "not the usual form"; the strict reader then judges the same bytes from their beginning, and it alone
knows codes and offsets. tests/properties holds the two against each other.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from custody.curve import is_public_key

_OUTPUT_HEAD = struct.Struct("<QB")
_TWO_BYTES = struct.Struct("<H")
_BITS = tuple(1 << kind for kind in range(256))
_LONG = 0xFD  # from here on a CompactSize has more than one byte
_MAX_MONEY_SATS = 21_000_000 * 100_000_000
_MAX_PATH_BYTES = 4 + 4 * 255
_NEVER = (1, 0)


@dataclass(frozen=True, slots=True)
class Rules:
    """Which fields of one kind of map are usual.

    where, version: names of the kind of map and the PSBT version, as `check_field` takes them.
    lengths: type without key data -> least and most bytes of its value.
    derivation, signature, output: types of BIP-32 hints, of partial signatures, of the serialised output that is spent,
        behind which a `Tail` may stand; -1 for none.
    """

    where: str
    version: int
    lengths: Mapping[int, tuple[int, int]]
    derivation: int
    signature: int = -1
    output: int = -1


@dataclass(frozen=True, slots=True)
class Tail:
    """What the wallet itself writes behind an output of its own that is spent, up to the end of the map.

    raw: those bytes.  values: the same by key.  kinds: their types, as bits.  hint: the first derivation's value.
    """

    raw: bytes
    values: Mapping[bytes, bytes]
    kinds: int
    hint: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """What needs no second proof, because we derived it.

    points: public keys (33 bytes) that are points of the curve.  tails: by the scriptPubKey that is spent.
    """

    points: Container[bytes] = ()
    tails: Mapping[bytes, Tail] = field(default_factory=dict)


def skim_map(raw: bytes, at: int, rules: Rules, known: Known) -> tuple[dict[bytes, bytes], int, bytes, int] | None:
    """Return the values by key, the types as bits, the first derivation's value, and where the map ends; or None.

    Args:
        raw: the whole PSBT.
        at: where the map begins.
        rules: of this kind of map.
        known: from our own derivation.
    """
    values: dict[bytes, bytes] = {}
    kinds, hint = 0, b""
    lengths, derivation, signature, output = rules.lengths, rules.derivation, rules.signature, rules.output
    points, tails = known.points, known.tails
    try:
        while size := raw[at]:
            start = at + 1
            at = start + size
            key, kind, length = raw[start:at], raw[start], raw[at]
            at += 1
            if length >= _LONG:
                (length,) = _TWO_BYTES.unpack_from(raw, at)
                if raw[at - 1] != _LONG or length < _LONG:
                    return None
                at += 2
            start = at
            at += length
            value = raw[start:at]
            if size == 34:
                if kind == derivation:
                    hint = hint or value
                    if length & 3 or not 4 <= length <= _MAX_PATH_BYTES:
                        return None
                elif kind != signature or not 9 <= length <= 73:
                    return None
                if key[1:] not in points and not is_public_key(key[1:]):
                    return None
            elif size == 1:
                least, most = lengths.get(kind, _NEVER)
                if not least <= length <= most:
                    return None
            else:
                return None
            if key in values:
                return None
            values[key] = value
            kinds |= _BITS[kind]
            if kind == output and size == 1:
                if not _is_output(value):
                    return None
                tail = tails.get(value[9:])
                if tail is not None and raw.startswith(tail.raw, at) and not kinds & tail.kinds:  # else a key is twice
                    values.update(tail.values)
                    return values, kinds | tail.kinds, tail.hint, at + len(tail.raw)
    except (IndexError, struct.error):  # past the end, where a value was cut short too
        return None
    return values, kinds, hint, at + 1


def skim_transaction(raw: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return the txid (32 bytes, wire order) and the serialised outputs of a whole transaction; or None."""
    try:
        is_segwit = raw[4] == 0
        body = 6 if is_segwit else 4
        if is_segwit and raw[5] != 1:
            return None
        inputs, at = raw[body], body + 1
        for _ in range(inputs):
            size = raw[at + 36]
            if size >= _LONG:
                return None
            at += 41 + size
        count = raw[at]
        at += 1
        if not inputs or not count or inputs >= _LONG or count >= _LONG:
            return None
        outputs = []
        for _ in range(count):
            amount, size = _OUTPUT_HEAD.unpack_from(raw, at)
            if size >= _LONG or amount > _MAX_MONEY_SATS:
                return None
            start = at
            at += 9 + size
            outputs.append(raw[start:at])
        end = at
        if is_segwit:
            at = _skim_witnesses(raw, at, inputs)
    except (IndexError, struct.error):
        return None
    if at + 4 != len(raw):
        return None
    stripped = b"".join((raw[:4], raw[6:end], raw[at:])) if is_segwit else raw
    return sha256(sha256(stripped).digest()).digest(), outputs


def _skim_witnesses(raw: bytes, at: int, inputs: int) -> int:
    """Return where the witnesses end, or a place where no transaction ends."""
    has_items = 0
    for _ in range(inputs):
        items = raw[at]
        at += 1
        if items >= _LONG:
            return -1
        has_items |= items
        for _ in range(items):
            size = raw[at]
            if size >= _LONG:
                return -1
            at += 1 + size
    return at if has_items else -1


def _is_output(value: bytes) -> bool:
    amount, size = _OUTPUT_HEAD.unpack_from(value)
    return bool(size < _LONG and len(value) == 9 + size and amount <= _MAX_MONEY_SATS)

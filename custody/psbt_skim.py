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
from custody.transaction import OutPoint

_output_head = struct.Struct("<QB").unpack_from
_two_bytes = struct.Struct("<H").unpack_from
_BITS = tuple(1 << kind for kind in range(256))
_LONG = 0xFD  # from here on a CompactSize has more than one byte
_MAX_MONEY_SATS = 21_000_000 * 100_000_000
_MAX_PATH_BYTES = 4 + 4 * 255
_NEVER = (1, 0)
OWN_KINDS = 0b11  # the types in front of a `Tail`
_PREVIOUS_KEY = b"\x01\x00"


@dataclass(frozen=True, slots=True)
class Rules:
    """Which fields of one kind of map are usual.

    where, version: names of the kind of map and the PSBT version, as `check_field` takes them.
    lengths: type without key data -> least and most bytes of its value.
    derivation, signature, output: types of BIP-32 hints, of partial signatures, of the serialised output that is spent;
        -1 for none.
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

    raw: those bytes.  kinds: the types in them, as bits.  script: scriptPubKey of the output, at branch/index.
    head: what stands in front of the output.
    """

    head: bytes
    raw: bytes
    kinds: int
    script: bytes
    branch: int
    index: int


@dataclass(frozen=True, slots=True)
class Known:
    """What needs no second proof, because we derived it.

    points: public keys (33 bytes) that are points of the curve.  tails: by the scriptPubKey that is spent.
    """

    points: Container[bytes] = ()
    tails: Mapping[bytes, Tail] = field(default_factory=dict)


# txid -> where a previous transaction that hashes to it stands (bytes, start, end), and where each of its outputs does
Earlier = dict[bytes, tuple[bytes, int, int, list[int]]]


def skim_own(
    raw: bytes, at: int, outpoint: OutPoint, tails: Mapping[bytes, Tail], earlier: Earlier
) -> tuple[bytes, Tail, int] | None:
    """Return the spent output, its `Tail`, and where the map ends, of an input as the wallet writes it; or None.

    Such a map is a previous transaction that hashes to the outpoint, its output byte for byte, and the bytes that we
    would write for this output: every claim in it is proven.

    Args:
        raw: the whole PSBT.
        at: where the map begins.
        outpoint: what the unsigned transaction spends here.
        tails: of the wallet.
        earlier: of the inputs before this one; grows.
    """
    if not raw.startswith(_PREVIOUS_KEY, at):
        return None
    try:
        size, at = raw[at + 2], at + 3
        if size >= _LONG:
            if size != _LONG:
                return None
            (size,) = _two_bytes(raw, at)
            at += 2
            if size < _LONG:
                return None
    except (IndexError, struct.error):
        return None
    end = at + size
    output = spent_output(raw, at, end, outpoint, earlier)
    tail = tails.get(output[9:]) if output else None
    if not output or tail is None or not raw.startswith(tail.head, end):
        return None
    at = end + len(tail.head)
    end = at + len(output)
    if raw.startswith(output, at) and raw.startswith(tail.raw, end):
        return output, tail, end + len(tail.raw)
    return None


def spent_output(raw: bytes, start: int, end: int, outpoint: OutPoint, earlier: Earlier) -> bytes | None:
    """Return the serialised output at `outpoint`, b"" where there is none, of the transaction raw[start:end].

    None where it does not hash to the txid, or has another than the usual form. It is read once for all that spend it.

    earlier: what was read before; grows.
    """
    txid, vout = outpoint.txid, outpoint.vout
    known = earlier.get(txid)
    if known is None or raw[start:end] != known[0][known[1] : known[2]]:
        skimmed = skim_transaction(raw, start, end)
        if skimmed is None or skimmed[0] != txid:
            return None
        known = earlier[txid] = (raw, start, end, skimmed[1])
    source, places = known[0], known[3]
    return source[places[vout] : places[vout + 1]] if vout + 1 < len(places) else b""


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
    points = known.points
    try:
        while size := raw[at]:
            start = at + 1
            at = start + size
            key, kind, length = raw[start:at], raw[start], raw[at]
            at += 1
            if length >= _LONG:
                (length,) = _two_bytes(raw, at)
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
            if kind == output and size == 1 and not _is_output(value):
                return None
    except (IndexError, struct.error):  # past the end, where a value was cut short too
        return None
    return values, kinds, hint, at + 1


def skim_transaction(raw: bytes, at: int, end: int) -> tuple[bytes, list[int]] | None:
    """Return the txid of the transaction raw[at:end], 32 bytes in wire order, and the places of its outputs; or None.

    places: where each output begins, and where the last one ends.
    """
    start = at
    try:
        is_segwit = not raw[at + 4]
        if is_segwit and raw[at + 5] != 1:
            return None
        body = at + 6 if is_segwit else at + 4
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
        places = [at]
        for _ in range(count):
            amount, size = _output_head(raw, at)
            if size >= _LONG or amount > _MAX_MONEY_SATS:
                return None
            at += 9 + size
            places.append(at)
        locktime = _skim_witnesses(raw, at, inputs) if is_segwit else at
    except (IndexError, struct.error):
        return None
    if locktime + 4 != end or end > len(raw):
        return None
    stripped = raw[start : start + 4] + raw[body:at] + raw[locktime:end]
    return sha256(sha256(stripped).digest()).digest(), places


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
    amount, size = _output_head(value)
    return bool(size < _LONG and len(value) == 9 + size and amount <= _MAX_MONEY_SATS)

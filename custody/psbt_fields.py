"""The fields of a PSBT and the shape of each (BIP-174, BIP-370, BIP-371), for the maps that `custody.psbt` reads.

Only shape is proven here, with a code and an offset. Unknown fields are kept. Fields of version 2 (BIP-370) in a PSBT
version 0 are refused: a reader that skips them and one that obeys them see two transactions. So are fields of MuSig2
(BIP-373), which no wallet of ours uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from custody import curve
from custody.errors import MalformedError
from custody.reader import Reader, sized
from custody.transaction import TxOut
from custody.units import MAX_MONEY_SATS, Sats

MAX_PSBT_BYTES = 2 * 1024 * 1024  # 1,000 inputs with their own previous transactions are about 0.8 MiB
MAX_SCRIPT_BYTES = 10_000  # consensus: MAX_SCRIPT_SIZE
MAX_REMEMBERED_KEYS = 16_384  # 1,000 inputs of 15 keys: the same ones come back from every signer; about 2 MB
MAX_PATH_STEPS = 255  # BIP-32: depth is one byte
GLOBAL_TRANSACTION, GLOBAL_XPUB, GLOBAL_VERSION = 0x00, 0x01, 0xFB
GLOBAL_TX_VERSION, GLOBAL_FALLBACK_LOCKTIME = 0x02, 0x03
GLOBAL_INPUT_COUNT, GLOBAL_OUTPUT_COUNT, GLOBAL_MODIFIABLE = 0x04, 0x05, 0x06
IN_PREVIOUS, IN_WITNESS_UTXO, IN_PARTIAL_SIGNATURE, IN_SIGHASH = 0x00, 0x01, 0x02, 0x03
IN_REDEEM_SCRIPT, IN_WITNESS_SCRIPT, IN_DERIVATION = 0x04, 0x05, 0x06
IN_FINAL_SCRIPT_SIG, IN_FINAL_WITNESS = 0x07, 0x08
IN_PREVIOUS_TXID, IN_OUTPUT_INDEX, IN_SEQUENCE = 0x0E, 0x0F, 0x10
IN_TIME_LOCKTIME, IN_HEIGHT_LOCKTIME = 0x11, 0x12
IN_TAP_KEY_SIGNATURE, IN_TAP_SIGNATURE, IN_TAP_LEAF, IN_TAP_DERIVATION = 0x13, 0x14, 0x15, 0x16  # BIP-371
IN_TAP_INTERNAL_KEY, IN_TAP_ROOT = 0x17, 0x18
OUT_REDEEM_SCRIPT, OUT_WITNESS_SCRIPT, OUT_DERIVATION = 0x00, 0x01, 0x02
OUT_AMOUNT, OUT_SCRIPT = 0x03, 0x04
OUT_TAP_INTERNAL_KEY, OUT_TAP_TREE, OUT_TAP_DERIVATION = 0x05, 0x06, 0x07
PROPRIETARY = 0xFC
TIME_LOCKTIME_FROM = 500_000_000  # consensus: from here on a locktime is a time, below it a height
GLOBAL, INPUT, OUTPUT = "global", "input", "output"
V2_ONLY = {
    GLOBAL: frozenset(range(0x02, 0x07)),
    INPUT: frozenset(range(0x0E, 0x13)),
    OUTPUT: frozenset((0x03, 0x04)),
}
_MUSIG2 = {GLOBAL: frozenset[int](), INPUT: frozenset((0x1A, 0x1B, 0x1C)), OUTPUT: frozenset((0x08,))}
_LONG_TYPE = 0xFD  # from here on a type is longer than one byte: none is assigned (BIP-174 "Types")


@dataclass(frozen=True, slots=True)
class Field:
    """One key-value pair. key: type byte(s) and key data.  offset: of the value in the PSBT, -1 where we built it."""

    key: bytes
    value: bytes
    offset: int = -1

    @property
    def type(self) -> int:
        """The type: every type that we know is one byte."""
        return self.key[0]

    def serialize(self) -> bytes:
        """Return the pair as it stands in a map."""
        return sized(self.key) + sized(self.value)


class FieldMap:
    """One map of a PSBT, in the order of its bytes; each key once. Never changed once it is made.

    kinds: bit k is set where there is a field of type k.  hint: value of the first derivation, where it was read fast.
    """

    __slots__ = ("_end", "_fields", "_source", "_start", "_values", "hint", "kinds")

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields: tuple[Field, ...] | None = tuple(fields)
        self._source, self._start, self._end = b"", 0, 0
        self._values: dict[bytes, bytes] | None = None
        self.hint = b""
        self.kinds = 0
        for field in fields:
            self.kinds |= 1 << field.type

    @classmethod
    def skimmed(cls, source: bytes, start: int, read: tuple[dict[bytes, bytes] | None, int, bytes, int]) -> Self:
        """Return the map at `start` of the PSBT `source`, as `custody.psbt_skim.skim_map` read it."""
        found = cls.__new__(cls)
        found._fields, found._source, found._start = None, source, start
        found._values, found.kinds, found.hint, found._end = read
        return found

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, FieldMap) and other.fields == self.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields, in order."""
        if self._fields is None:
            self._fields = tuple(_walk(self._source[self._start : self._end], self._start))
        return self._fields

    @property
    def values(self) -> dict[bytes, bytes]:
        """Key -> value."""
        if self._values is None:
            self._values = {field.key: field.value for field in self.fields}
        return self._values

    def value(self, kind: int) -> bytes | None:
        """Return the value of the field of a type that has no key data, or None."""
        return self.values.get(_KEYS[kind])

    def one(self, kind: int) -> Field | None:
        """Return the field of a type that has no key data, or None."""
        key = _KEYS[kind]
        return next((field for field in self.fields if field.key == key), None) if key in self.values else None

    def all(self, kind: int) -> tuple[Field, ...]:
        """Return every field of a type."""
        return tuple(field for field in self.fields if field.type == kind) if self.kinds >> kind & 1 else ()

    def serialize(self) -> bytes:
        """Return the map with its end mark."""
        return self._source[self._start : self._end] or b"".join(field.serialize() for field in self.fields) + b"\0"


def _walk(source: bytes, at: int) -> Iterator[Field]:
    reader = Reader(source, at)
    while key := reader.sized():
        length = reader.compact_size()
        offset = reader.offset
        yield Field(key, reader.take(length), offset)


_KEYS = tuple(bytes([kind]) for kind in range(256))


def check_field(field: Field, where: str, offset: int, version: int = 0) -> None:
    """Prove the shape of one field; unknown ones are kept as they are. offset: of its key, for messages."""
    kind = field.type
    if kind in V2_ONLY[where] and where != GLOBAL and version == 0:  # global ones: once `parse` knows the version
        raise v2_field(kind, where, offset)
    if kind in _MUSIG2[where]:
        raise MalformedError("MUSIG2_FIELD", f"expected no MuSig2 {where} field {kind:#04x}", offset)
    if kind == PROPRIETARY:
        _check_proprietary(field, offset)
    elif kind >= _LONG_TYPE:
        Reader(field.key, offset).compact_size()
    elif check := _CHECKS[where].get(kind):
        check(field, offset)


def v2_field(kind: int, where: str, offset: int) -> MalformedError:
    """Return the refusal of a version 2 field in a version 0 PSBT."""
    return MalformedError("V2_FIELD", f"expected no version 2 {where} field {kind:#04x} in version 0", offset)


def read_output(field: Field) -> TxOut:
    """Return the output that the value of `field` is: amount, then script, then nothing."""
    reader = Reader(field.value, field.offset)
    amount = reader.number(8)
    if amount > MAX_MONEY_SATS:
        raise reader.malformed("AMOUNT_OUT_OF_RANGE", f"expected at most {MAX_MONEY_SATS} sats")
    found = TxOut(Sats(amount), reader.sized())
    reader.end()
    return found


def read_stack(field: Field) -> tuple[bytes, ...]:
    """Return the witness stack that the value of `field` is, and nothing behind it."""
    reader = Reader(field.value, field.offset)
    stack = tuple(reader.sized() for _ in range(reader.count(1)))
    reader.end()
    return stack


def read_path(value: bytes) -> tuple[int, ...]:
    """Return the steps behind the fingerprint; `value` is of a derivation field."""
    return tuple(int.from_bytes(value[at : at + 4], "little") for at in range(4, len(value), 4))


def read_tap_path(value: bytes) -> tuple[int, ...]:
    """Return the steps of a taproot derivation field's value: behind its leaf hashes and the fingerprint."""
    reader = Reader(value)
    reader.take(32 * reader.count(32))
    return read_path(reader.take(reader.left))


_Check = Callable[[Field, int], None]


def _plain(low: int, high: int) -> _Check:
    """Return a check of a field without key data whose value has low..high bytes."""
    return _keyed(0, low, high)


def _keyed(key_bytes: int, low: int, high: int) -> _Check:
    """Return a check of a field with `key_bytes` of key data whose value has low..high bytes."""

    def check(field: Field, offset: int) -> None:
        if len(field.key) != 1 + key_bytes:
            found = len(field.key) - 1
            raise MalformedError(
                "KEY_LENGTH", f"expected {key_bytes} bytes behind type {field.type:#04x}, found {found}", offset
            )
        if not low <= len(field.value) <= high:
            raise MalformedError(
                "VALUE_LENGTH", f"expected {low}..{high} bytes, found {len(field.value)}", field.offset
            )

    return check


def _locktime(low: int, high: int) -> _Check:
    """Return a check of a required locktime of one kind (BIP-370)."""

    def check(field: Field, offset: int) -> None:
        _plain(4, 4)(field, offset)
        found = int.from_bytes(field.value, "little")
        if not low <= found <= high:
            raise MalformedError("LOCKTIME_KIND", f"expected {low}..{high}, found {found}", field.offset)

    return check


def _check_proprietary(field: Field, offset: int) -> None:
    """BIP-174: type, identifier behind its length, subtype, any key data."""
    reader = Reader(field.key, offset)
    reader.take(1)
    reader.sized()
    reader.compact_size()


def _check_pubkey(field: Field, offset: int) -> None:
    if len(field.key) != 34:  # uncompressed keys cannot stand in a segwit script (BIP-143)
        raise MalformedError(
            "KEY_LENGTH", f"expected a compressed public key, found {len(field.key) - 1} bytes", offset
        )
    if not curve.is_public_key(field.key[1:]):
        raise MalformedError("PUBKEY", "expected a compressed point of the curve", offset)


def _partial_signature(field: Field, offset: int) -> None:
    _check_pubkey(field, offset)
    if not 9 <= len(field.value) <= 73:  # the shortest DER signature is 8 bytes; one sighash byte follows
        raise MalformedError("VALUE_LENGTH", f"expected a DER signature, found {len(field.value)} bytes", field.offset)


def _derivation(field: Field, offset: int) -> None:
    _check_pubkey(field, offset)
    _check_path(field.value, field.offset)


def _check_path(value: bytes, offset: int) -> None:
    if len(value) < 4 or len(value) % 4 or len(value) > 4 + 4 * MAX_PATH_STEPS:
        raise MalformedError("VALUE_LENGTH", f"expected a fingerprint and path steps, found {len(value)} bytes", offset)


def _xpub(field: Field, offset: int) -> None:
    if len(field.key) != 79:
        raise MalformedError("KEY_LENGTH", f"expected 78 bytes of extended key, found {len(field.key) - 1}", offset)
    if not curve.is_public_key(field.key[46:]):
        raise MalformedError("PUBKEY", "expected a compressed point of the curve in an extended key", offset)
    _check_path(field.value, field.offset)
    if field.key[5] != (len(field.value) - 4) // 4:
        raise MalformedError("VALUE_LENGTH", "expected as many path steps as the key's depth", field.offset)


_WITNESS_UTXO_LENGTH = _plain(9, MAX_SCRIPT_BYTES + 12)
_LONG_VALUE = _plain(1, MAX_PSBT_BYTES)
_TAP_SIGNATURE_LENGTH = _keyed(64, 64, 65)


def _witness_utxo(field: Field, offset: int) -> None:
    _WITNESS_UTXO_LENGTH(field, offset)
    read_output(field)


def _final_witness(field: Field, offset: int) -> None:
    _LONG_VALUE(field, offset)
    read_stack(field)


def _tap_leaf_script(field: Field, offset: int) -> None:
    control_bytes = len(field.key) - 1  # BIP-371: 33 + 32 * m with m <= 128
    if control_bytes < 33 or (control_bytes - 33) % 32 or control_bytes > 33 + 32 * 128:
        raise MalformedError("KEY_LENGTH", f"expected a control block, found {control_bytes} bytes", offset)
    if not field.value:
        raise MalformedError("VALUE_LENGTH", "expected a script and its leaf version", field.offset)


@lru_cache(maxsize=MAX_REMEMBERED_KEYS)
def _is_xonly(xonly: bytes) -> bool:
    return curve.is_public_key(b"\x02" + xonly)


def _check_xonly(xonly: bytes, offset: int) -> None:
    """BIP-340: an x-only key is the point with an even y; a script with anything else in it is anyone's or nobody's."""
    if not _is_xonly(xonly):
        raise MalformedError("PUBKEY", "expected the x of a point of the curve", offset)


def _tap_signature(field: Field, offset: int) -> None:
    _TAP_SIGNATURE_LENGTH(field, offset)
    _check_xonly(field.key[1:33], offset)


def _tap_derivation(field: Field, offset: int) -> None:
    if len(field.key) != 33:
        raise MalformedError("KEY_LENGTH", f"expected an x-only key, found {len(field.key) - 1} bytes", offset)
    _check_xonly(field.key[1:], offset)
    reader = Reader(field.value, field.offset)
    reader.take(32 * reader.count(32))
    _check_path(reader.take(reader.left), reader.offset)


def _tap_tree(field: Field, offset: int) -> None:
    """BIP-371: leaves in depth-first order that together fill exactly one binary tree."""
    _LONG_VALUE(field, offset)
    reader = Reader(field.value, field.offset)
    wanted = [0]  # depths of the branches that still lack their leaves, the next one last
    while reader.left:
        depth, version = reader.take(1)[0], reader.take(1)[0]
        reader.sized()
        if not wanted or not wanted[-1] <= depth <= 128 or version & 1:
            raise reader.malformed("TAP_TREE", "expected leaves in depth-first order with even versions")
        top = wanted.pop()
        wanted.extend(range(top + 1, depth + 1))
    if wanted:
        raise MalformedError("TAP_TREE", "expected a complete tree", field.offset)


_SCRIPT = _plain(0, MAX_SCRIPT_BYTES)
_CHECKS: Mapping[str, Mapping[int, _Check]] = {
    GLOBAL: {
        GLOBAL_TRANSACTION: _plain(10, MAX_PSBT_BYTES),
        GLOBAL_XPUB: _xpub,
        GLOBAL_VERSION: _plain(4, 4),
        GLOBAL_TX_VERSION: _plain(4, 4),  # BIP-370, as all below
        GLOBAL_FALLBACK_LOCKTIME: _plain(4, 4),
        GLOBAL_INPUT_COUNT: _plain(1, 9),
        GLOBAL_OUTPUT_COUNT: _plain(1, 9),
        GLOBAL_MODIFIABLE: _plain(1, 1),
    },
    INPUT: {
        IN_PREVIOUS: _plain(10, MAX_PSBT_BYTES),
        IN_WITNESS_UTXO: _witness_utxo,
        IN_PARTIAL_SIGNATURE: _partial_signature,
        IN_SIGHASH: _plain(4, 4),
        IN_REDEEM_SCRIPT: _SCRIPT,
        IN_WITNESS_SCRIPT: _SCRIPT,
        IN_DERIVATION: _derivation,
        IN_FINAL_SCRIPT_SIG: _SCRIPT,
        IN_FINAL_WITNESS: _final_witness,
        0x09: _plain(0, MAX_SCRIPT_BYTES),  # proof of reserves commitment
        0x0A: _keyed(20, 0, MAX_SCRIPT_BYTES),  # hash preimages
        0x0B: _keyed(32, 0, MAX_SCRIPT_BYTES),
        0x0C: _keyed(20, 0, MAX_SCRIPT_BYTES),
        0x0D: _keyed(32, 0, MAX_SCRIPT_BYTES),
        IN_TAP_KEY_SIGNATURE: _keyed(0, 64, 65),  # BIP-371, as all below
        IN_TAP_SIGNATURE: _tap_signature,
        IN_TAP_LEAF: _tap_leaf_script,
        IN_TAP_DERIVATION: _tap_derivation,
        IN_TAP_INTERNAL_KEY: _plain(32, 32),
        IN_TAP_ROOT: _plain(32, 32),
        IN_PREVIOUS_TXID: _plain(32, 32),  # BIP-370, as all below
        IN_OUTPUT_INDEX: _plain(4, 4),
        IN_SEQUENCE: _plain(4, 4),
        IN_TIME_LOCKTIME: _locktime(TIME_LOCKTIME_FROM, 2**32 - 1),
        IN_HEIGHT_LOCKTIME: _locktime(1, TIME_LOCKTIME_FROM - 1),
    },
    OUTPUT: {
        OUT_REDEEM_SCRIPT: _SCRIPT,
        OUT_WITNESS_SCRIPT: _SCRIPT,
        OUT_DERIVATION: _derivation,
        OUT_TAP_INTERNAL_KEY: _plain(32, 32),
        OUT_TAP_TREE: _tap_tree,
        OUT_TAP_DERIVATION: _tap_derivation,
        OUT_AMOUNT: _plain(8, 8),  # BIP-370, as the next
        OUT_SCRIPT: _SCRIPT,
    },
}

"""Our own strict PSBT version 0 codec (BIP-174, with the fields of BIP-371): every malformed byte string is refused.

`parse` gives frozen values and keeps every field byte for byte, so `serialize(parse(raw)) == raw`. It proves shape
only: what a PSBT spends and pays is for `custody.facts`. No embit object is made here; every refusal is a
`MalformedError` with a code and an offset.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from custody import curve
from custody.errors import MalformedError
from custody.reader import Reader, sized
from custody.transaction import Transaction, TxOut, parse_transaction
from custody.units import MAX_MONEY_SATS, Sats

MAGIC = b"psbt\xff"
MAX_PSBT_BYTES = 2 * 1024 * 1024  # 1,000 inputs with their own previous transactions are about 0.8 MiB
MAX_SCRIPT_BYTES = 10_000  # consensus: MAX_SCRIPT_SIZE
MAX_PATH_STEPS = 255  # BIP-32: depth is one byte
GLOBAL_TRANSACTION, GLOBAL_XPUB, GLOBAL_VERSION = 0x00, 0x01, 0xFB
IN_PREVIOUS, IN_WITNESS_UTXO, IN_PARTIAL_SIGNATURE, IN_SIGHASH = 0x00, 0x01, 0x02, 0x03
IN_REDEEM_SCRIPT, IN_WITNESS_SCRIPT, IN_DERIVATION = 0x04, 0x05, 0x06
IN_FINAL_SCRIPT_SIG, IN_FINAL_WITNESS = 0x07, 0x08
OUT_REDEEM_SCRIPT, OUT_WITNESS_SCRIPT, OUT_DERIVATION = 0x00, 0x01, 0x02
PROPRIETARY = 0xFC
_V2_ONLY = {
    "global": frozenset(range(0x02, 0x07)),
    "input": frozenset(range(0x0E, 0x13)),
    "output": frozenset((0x03, 0x04)),
}
_MUSIG2 = {"global": frozenset[int](), "input": frozenset((0x1A, 0x1B, 0x1C)), "output": frozenset((0x08,))}


@dataclass(frozen=True, slots=True)
class Field:
    """One key-value pair. key: type byte(s) and key data.  offset: of the key in the PSBT."""

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


@dataclass(frozen=True)
class FieldMap:
    """One map of a PSBT, in the order of its bytes; each key once."""

    fields: tuple[Field, ...]

    def one(self, kind: int) -> Field | None:
        """Return the field of a type that has no key data, or None."""
        return next((field for field in self.fields if field.key == bytes([kind])), None)

    def all(self, kind: int) -> tuple[Field, ...]:
        """Return every field of a type."""
        return tuple(field for field in self.fields if field.type == kind)

    def serialize(self) -> bytes:
        """Return the map with its end mark."""
        return b"".join(field.serialize() for field in self.fields) + b"\0"


@dataclass(frozen=True)
class PsbtInput(FieldMap):
    """What a PSBT says of one input; nothing in it is proven."""

    @cached_property
    def previous(self) -> Transaction | None:
        """The whole previous transaction, or None."""
        field = self.one(IN_PREVIOUS)
        return None if field is None else parse_transaction(field.value)

    @property
    def witness_utxo(self) -> TxOut | None:
        """The output it claims to spend, or None."""
        field = self.one(IN_WITNESS_UTXO)
        return None if field is None else _read_output(Reader(field.value, field.offset))

    @property
    def witness_script(self) -> bytes | None:
        """The witness script, or None."""
        field = self.one(IN_WITNESS_SCRIPT)
        return None if field is None else field.value

    @property
    def redeem_script(self) -> bytes | None:
        """The redeem script, or None."""
        field = self.one(IN_REDEEM_SCRIPT)
        return None if field is None else field.value

    @property
    def sighash_type(self) -> int | None:
        """The sighash type it asks for, or None."""
        field = self.one(IN_SIGHASH)
        return None if field is None else int.from_bytes(field.value, "little")

    @property
    def partial_signatures(self) -> tuple[tuple[bytes, bytes], ...]:
        """(public key, DER signature with its sighash byte) pairs."""
        return tuple((field.key[1:], field.value) for field in self.all(IN_PARTIAL_SIGNATURE))

    @property
    def derivations(self) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
        """(public key, path from the master key) pairs: hints, never proof."""
        return tuple((field.key[1:], _path(field.value)) for field in self.all(IN_DERIVATION))


@dataclass(frozen=True)
class PsbtOutput(FieldMap):
    """What a PSBT says of one output; nothing in it is proven."""

    @property
    def derivations(self) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
        """(public key, path from the master key) pairs: hints, never proof."""
        return tuple((field.key[1:], _path(field.value)) for field in self.all(OUT_DERIVATION))


@dataclass(frozen=True)
class Psbt:
    """A PSBT. transaction: the unsigned transaction of its global map."""

    globals: FieldMap
    transaction: Transaction
    inputs: tuple[PsbtInput, ...]
    outputs: tuple[PsbtOutput, ...]


def parse(raw: bytes) -> Psbt:
    """Return the PSBT whose bytes are exactly `raw`.

    Raises:
        MalformedError: PSBT_TOO_LARGE, PSBT_MAGIC, PSBT_VERSION, DUPLICATE_KEY, KEY_LENGTH, VALUE_LENGTH, V2_FIELD,
            MUSIG2_FIELD, PUBKEY, PREVIOUS_MISMATCH, TX_NOT_UNSIGNED, TX_MISSING, or a code of `custody.reader`,
            `custody.transaction`.
    """
    if len(raw) > MAX_PSBT_BYTES:
        raise MalformedError("PSBT_TOO_LARGE", f"expected at most {MAX_PSBT_BYTES} bytes, found {len(raw)}", 0)
    if raw[: len(MAGIC)] != MAGIC:
        raise MalformedError("PSBT_MAGIC", "expected the PSBT magic", 0)
    reader = Reader(raw)
    reader.take(len(MAGIC))
    global_map = FieldMap(_read_map(reader, "global"))
    transaction = _read_unsigned(global_map)
    inputs = tuple(PsbtInput(_read_map(reader, "input")) for _ in transaction.inputs)
    outputs = tuple(PsbtOutput(_read_map(reader, "output")) for _ in transaction.outputs)
    reader.end()
    for txin, found in zip(transaction.inputs, inputs, strict=True):
        previous = found.previous  # parsed once, here, so that nothing malformed is found later
        is_spent = previous is None or (
            previous.txid == txin.outpoint.txid and txin.outpoint.vout < len(previous.outputs)
        )
        if not is_spent:
            where = found.fields[0].offset
            raise MalformedError("PREVIOUS_MISMATCH", f"expected the transaction of {txin.outpoint}", where)
    return Psbt(global_map, transaction, inputs, outputs)


def serialize(psbt: Psbt) -> bytes:
    """Return the bytes of `psbt`: those it was parsed from, or the shortest form of what was built."""
    maps = (psbt.globals, *psbt.inputs, *psbt.outputs)
    return MAGIC + b"".join(found.serialize() for found in maps)


def from_base64(text: str) -> bytes:
    """Return the bytes of strict base64 `text`. Raises MalformedError PSBT_BASE64 for any other spelling."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("PSBT_BASE64", "expected strict base64") from error
    if base64.b64encode(raw).decode() != text:
        raise MalformedError("PSBT_BASE64", "expected the one base64 spelling of these bytes")
    return raw


def _read_map(reader: Reader, where: str) -> tuple[Field, ...]:
    fields: list[Field] = []
    seen: set[bytes] = set()
    while True:
        offset = reader.offset
        key = reader.sized()
        if not key:
            return tuple(fields)
        if key in seen:
            raise MalformedError("DUPLICATE_KEY", f"expected each key once in a {where} map", offset)
        seen.add(key)
        length = reader.compact_size()
        value_offset = reader.offset
        field = Field(key, reader.take(length), value_offset)
        _check_field(field, where, offset)
        fields.append(field)


def _check_field(field: Field, where: str, offset: int) -> None:
    """Prove the shape of one known field; unknown and proprietary ones are kept as they are."""
    kind = field.type
    if kind in _V2_ONLY[where]:
        raise MalformedError("V2_FIELD", f"expected no version 2 {where} field {kind:#04x} in version 0", offset)
    if kind in _MUSIG2[where]:
        raise MalformedError("MUSIG2_FIELD", f"expected no MuSig2 {where} field {kind:#04x}", offset)
    check = _CHECKS[where].get(kind)
    if check is not None:
        check(field, offset)


def _read_unsigned(global_map: FieldMap) -> Transaction:
    version = global_map.one(GLOBAL_VERSION)
    if version is not None and int.from_bytes(version.value, "little") != 0:
        raise MalformedError("PSBT_VERSION", "expected version 0", version.offset)
    field = global_map.one(GLOBAL_TRANSACTION)
    if field is None:
        raise MalformedError("TX_MISSING", "expected an unsigned transaction", len(MAGIC))
    transaction = parse_transaction(field.value, field.offset)
    if transaction.serialize_stripped() != field.value or any(txin.script_sig for txin in transaction.inputs):
        raise MalformedError("TX_NOT_UNSIGNED", "expected no scriptSig and no witness form", field.offset)
    return transaction


def _read_output(reader: Reader) -> TxOut:
    amount = reader.number(8)
    if amount > MAX_MONEY_SATS:
        raise reader.malformed("AMOUNT_OUT_OF_RANGE", f"expected at most {MAX_MONEY_SATS} sats")
    found = TxOut(Sats(amount), reader.sized())
    reader.end()
    return found


def _path(value: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(value[at : at + 4], "little") for at in range(4, len(value), 4))


_Check = Callable[[Field, int], None]


def _plain(low: int, high: int) -> _Check:
    """Return a check of a field without key data whose value has low..high bytes."""

    def check(field: Field, offset: int) -> None:
        if len(field.key) != 1:
            raise MalformedError("KEY_LENGTH", f"expected no key data in field {field.type:#04x}", offset)
        if not low <= len(field.value) <= high:
            raise MalformedError(
                "VALUE_LENGTH", f"expected {low}..{high} bytes, found {len(field.value)}", field.offset
            )

    return check


def _keyed(key_bytes: int, low: int, high: int) -> _Check:
    """Return a check of a field with `key_bytes` of key data whose value has low..high bytes."""

    def check(field: Field, offset: int) -> None:
        if len(field.key) != 1 + key_bytes:
            raise MalformedError("KEY_LENGTH", f"expected {key_bytes} bytes of key data", offset)
        if not low <= len(field.value) <= high:
            raise MalformedError(
                "VALUE_LENGTH", f"expected {low}..{high} bytes, found {len(field.value)}", field.offset
            )

    return check


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
    _check_path(field.value, field.offset)
    if field.key[5] != (len(field.value) - 4) // 4:
        raise MalformedError("VALUE_LENGTH", "expected as many path steps as the key's depth", field.offset)


def _previous(field: Field, offset: int) -> None:
    _plain(10, MAX_PSBT_BYTES)(field, offset)
    if parse_transaction(field.value, field.offset).serialize() != field.value:
        raise MalformedError("TX_FORM", "expected the one form of the previous transaction", field.offset)


def _witness_utxo(field: Field, offset: int) -> None:
    _plain(9, MAX_SCRIPT_BYTES + 12)(field, offset)
    _read_output(Reader(field.value, field.offset))


def _final_witness(field: Field, offset: int) -> None:
    _plain(1, MAX_PSBT_BYTES)(field, offset)
    reader = Reader(field.value, field.offset)
    for _ in range(reader.count(1)):
        reader.sized()
    reader.end()


def _tap_leaf_script(field: Field, offset: int) -> None:
    control_bytes = len(field.key) - 1  # BIP-371: 33 + 32 * m with m <= 128
    if control_bytes < 33 or (control_bytes - 33) % 32 or control_bytes > 33 + 32 * 128:
        raise MalformedError("KEY_LENGTH", f"expected a control block, found {control_bytes} bytes", offset)
    if not field.value:
        raise MalformedError("VALUE_LENGTH", "expected a script and its leaf version", field.offset)


def _tap_signature(key_bytes: int) -> _Check:
    def check(field: Field, offset: int) -> None:
        _keyed(key_bytes, 64, 65)(field, offset)

    return check


def _tap_derivation(field: Field, offset: int) -> None:
    if len(field.key) != 33:
        raise MalformedError("KEY_LENGTH", f"expected an x-only key, found {len(field.key) - 1} bytes", offset)
    reader = Reader(field.value, field.offset)
    reader.take(32 * reader.count(32))
    _check_path(reader.take(reader.left), reader.offset)


def _tap_tree(field: Field, offset: int) -> None:
    """BIP-371: leaves in depth-first order that together fill exactly one binary tree."""
    _plain(1, MAX_PSBT_BYTES)(field, offset)
    reader = Reader(field.value, field.offset)
    filled = 0  # in units of 2^-128 of the tree
    while reader.left:
        depth, version = reader.take(1)[0], reader.take(1)[0]
        reader.sized()
        if depth > 128 or version & 1:
            raise reader.malformed("TAP_TREE", "expected depth <= 128 and an even leaf version")
        filled += 1 << (128 - depth)
    if filled != 1 << 128:
        raise MalformedError("TAP_TREE", "expected a complete tree", field.offset)


_SCRIPT = _plain(0, MAX_SCRIPT_BYTES)
_CHECKS: Mapping[str, Mapping[int, _Check]] = {
    "global": {
        GLOBAL_TRANSACTION: _plain(10, MAX_PSBT_BYTES),
        GLOBAL_XPUB: _xpub,
        GLOBAL_VERSION: _plain(4, 4),
    },
    "input": {
        IN_PREVIOUS: _previous,
        IN_WITNESS_UTXO: _witness_utxo,
        IN_PARTIAL_SIGNATURE: _partial_signature,
        IN_SIGHASH: _plain(4, 4),
        IN_REDEEM_SCRIPT: _SCRIPT,
        IN_WITNESS_SCRIPT: _SCRIPT,
        IN_DERIVATION: _derivation,
        IN_FINAL_SCRIPT_SIG: _SCRIPT,
        IN_FINAL_WITNESS: _final_witness,
        0x09: _plain(0, MAX_SCRIPT_BYTES),  # proof of reserves commitment
        0x0A: _keyed(20, 0, MAX_SCRIPT_BYTES),
        0x0B: _keyed(32, 0, MAX_SCRIPT_BYTES),
        0x0C: _keyed(20, 0, MAX_SCRIPT_BYTES),
        0x0D: _keyed(32, 0, MAX_SCRIPT_BYTES),
        0x13: _tap_signature(0),
        0x14: _tap_signature(64),
        0x15: _tap_leaf_script,
        0x16: _tap_derivation,
        0x17: _plain(32, 32),
        0x18: _plain(32, 32),
    },
    "output": {
        OUT_REDEEM_SCRIPT: _SCRIPT,
        OUT_WITNESS_SCRIPT: _SCRIPT,
        OUT_DERIVATION: _derivation,
        0x05: _plain(32, 32),
        0x06: _tap_tree,
        0x07: _tap_derivation,
    },
}

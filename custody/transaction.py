"""Bitcoin transactions as frozen values: strict parsing, byte-exact serialisation, txid, weight.

Hashes are kept in wire order (`txid: 32 bytes`); `txid_hex` is the reversed form that people and nodes print.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256

from custody.errors import MalformedError
from custody.quick import quick
from custody.reader import Reader, compact_size, sized
from custody.units import MAX_MONEY_SATS, Sats, VBytes

MAX_TRANSACTION_BYTES = 4_000_000  # consensus: block weight limit in Bitcoin Core's consensus.h
MAX_VOUT = 2**32 - 1  # four bytes (consensus)
_LEAST_INPUT_BYTES = 41  # outpoint 36, empty scriptSig 1, sequence 4
_LEAST_OUTPUT_BYTES = 9  # amount 8, empty script 1
_UNSIGNED_INPUT = struct.Struct("<32sIBI")  # outpoint, empty scriptSig, sequence
_output_head = struct.Struct("<QB").unpack_from  # amount, length of a script below 0xfd bytes


@dataclass(frozen=True, slots=True, order=True)
class OutPoint:
    """One output of an earlier transaction.

    txid: 32 bytes, wire order.
    """

    txid: bytes
    vout: int

    def __str__(self) -> str:
        return f"{self.txid[::-1].hex()}:{self.vout}"

    @staticmethod
    def parse(text: str) -> OutPoint:
        """Return the outpoint written as `txid_hex:vout`, or refuse it with OUTPOINT."""
        txid_hex, _, vout = text.partition(":")
        try:
            txid = bytes.fromhex(txid_hex)[::-1]
        except ValueError:
            txid = b""
        is_number = vout.isascii() and vout.isdigit() and len(vout) <= len(str(MAX_VOUT))
        if len(txid) != 32 or not is_number or int(vout) > MAX_VOUT or str(OutPoint(txid, int(vout))) != text:
            raise MalformedError("OUTPOINT", "expected txid:vout")
        return OutPoint(txid, int(vout))


@dataclass(frozen=True, slots=True)
class TxIn:
    """One input. witness: the stack, empty where the input is unsigned."""

    outpoint: OutPoint
    script_sig: bytes = b""
    sequence: int = 0xFFFFFFFD
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TxOut:
    """One output. script: its scriptPubKey."""

    amount: Sats
    script: bytes

    def serialize(self) -> bytes:
        """Return the output as it stands in a transaction."""
        return self.amount.to_bytes(8, "little") + sized(self.script)


_outpoint, _txin, _txout = quick(OutPoint), quick(TxIn), quick(TxOut)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int = 0
    _stripped: bytes = field(default=b"", init=False, repr=False, compare=False)  # once it was asked for

    def serialize(self) -> bytes:
        """Return the network form: with witnesses where any input has one (BIP-144)."""
        if not any(txin.witness for txin in self.inputs):
            return self.serialize_stripped()
        witnesses = [b"".join((compact_size(len(txin.witness)), *map(sized, txin.witness))) for txin in self.inputs]
        stripped = self.serialize_stripped()
        return b"".join((stripped[:4], b"\x00\x01", stripped[4:-4], *witnesses, stripped[-4:]))

    def serialize_stripped(self) -> bytes:
        """Return the form without witnesses, whose double SHA-256 is the txid."""
        if not self._stripped:
            made = self.version.to_bytes(4, "little") + self._body() + self.locktime.to_bytes(4, "little")
            object.__setattr__(self, "_stripped", made)  # same value whoever asks first: still frozen to all who look
        return self._stripped

    def _body(self) -> bytes:
        parts = [compact_size(len(self.inputs))]
        for txin in self.inputs:
            outpoint = txin.outpoint
            if txin.script_sig:
                parts.append(outpoint.txid + outpoint.vout.to_bytes(4, "little"))
                parts.append(sized(txin.script_sig) + txin.sequence.to_bytes(4, "little"))
            else:
                parts.append(_UNSIGNED_INPUT.pack(outpoint.txid, outpoint.vout, 0, txin.sequence))
        parts.append(compact_size(len(self.outputs)))
        parts.extend(txout.serialize() for txout in self.outputs)
        return b"".join(parts)

    @property
    def txid(self) -> bytes:
        """32 bytes, wire order."""
        return hash256(self.serialize_stripped())

    @property
    def txid_hex(self) -> str:
        """The txid as people and nodes print it."""
        return self.txid[::-1].hex()

    @property
    def weight(self) -> int:
        """Weight units (BIP-141)."""
        stripped = len(self.serialize_stripped())
        return stripped * 3 + len(self.serialize())

    @property
    def vsize_vb(self) -> VBytes:
        """Virtual size, rounded up (BIP-141)."""
        return VBytes((self.weight + 3) // 4)

    def with_witnesses(self, stacks: Iterable[tuple[bytes, ...]]) -> Transaction:
        """Return this transaction with one witness per input and the same txid, which witnesses do not enter."""
        inputs = [
            _txin(txin.outpoint, txin.script_sig, txin.sequence, stack)
            for txin, stack in zip(self.inputs, stacks, strict=True)
        ]
        found = replace(self, inputs=tuple(inputs))
        object.__setattr__(found, "_stripped", self.serialize_stripped())
        return found

    def unsigned(self) -> Transaction:
        """Return this transaction with empty scriptSigs and witnesses: what statements name by txid."""
        return replace(self, inputs=tuple(TxIn(i.outpoint, b"", i.sequence) for i in self.inputs))


def hash256(data: bytes) -> bytes:
    """Return the double SHA-256 of `data`: 32 bytes."""
    return sha256(sha256(data).digest()).digest()


def parse_transaction(raw: bytes, base: int = 0) -> Transaction:
    """Return the transaction that is exactly `raw`, with or without witnesses (BIP-144).

    Args:
        raw: the whole transaction and nothing else.
        base: offset of `raw` in an outer input, for messages.

    Raises:
        MalformedError: TX_TOO_LARGE, TRUNCATED, NOT_MINIMAL, COUNT_TOO_LARGE, AMOUNT_OUT_OF_RANGE, NO_INPUTS,
            NO_OUTPUTS, WITNESS_FLAG, WITNESS_EMPTY or TRAILING_BYTES.
    """
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise MalformedError("TX_TOO_LARGE", f"expected at most {MAX_TRANSACTION_BYTES} bytes, found {len(raw)}", base)
    reader = Reader(raw, base)
    version = reader.number(4)
    has_witness = raw[4:5] == b"\x00"
    if has_witness and reader.take(2) != b"\x00\x01":
        raise reader.malformed("WITNESS_FLAG", "expected marker 00 and flag 01")
    body_at = reader.at
    count = reader.count(_LEAST_INPUT_BYTES)
    inputs = _read_unsigned_inputs(reader, count) or [_read_input(reader) for _ in range(count)]
    if not inputs:
        raise reader.malformed("NO_INPUTS", "expected at least one input")
    count = reader.count(_LEAST_OUTPUT_BYTES)
    outputs = _read_short_outputs(reader, count) or [_read_output(reader) for _ in range(count)]
    if not outputs:
        raise reader.malformed("NO_OUTPUTS", "expected at least one output")
    body = raw[body_at : reader.at]
    if has_witness:
        inputs = [replace(txin, witness=_read_witness(reader)) for txin in inputs]
        if not any(txin.witness for txin in inputs):
            raise reader.malformed("WITNESS_EMPTY", "expected at least one witness behind the witness flag")
    locktime = reader.number(4)
    reader.end()
    found = Transaction(version, tuple(inputs), tuple(outputs), locktime)
    # What was read strictly serialises to the same bytes.
    object.__setattr__(found, "_stripped", b"".join((raw[:4], body, raw[-4:])) if has_witness else raw)
    return found


def _read_unsigned_inputs(reader: Reader, count: int) -> list[TxIn] | None:
    """Return `count` inputs if all have empty scriptSigs, the usual case, in one step; else None, nothing read."""
    end = reader.at + count * _UNSIGNED_INPUT.size
    found = [
        _txin(_outpoint(txid, vout), b"", sequence)
        for txid, vout, script_bytes, sequence in _UNSIGNED_INPUT.iter_unpack(reader.raw[reader.at : end])
        if not script_bytes
    ]
    if len(found) != count:
        return None
    reader.at = end
    return found


def _read_short_outputs(reader: Reader, count: int) -> list[TxOut] | None:
    """Return `count` outputs if all have scripts below 0xfd bytes, the usual case; else None, nothing read."""
    raw, at, found = reader.raw, reader.at, []
    try:
        for _ in range(count):
            amount, size = _output_head(raw, at)
            start = at + _LEAST_OUTPUT_BYTES
            at = start + size
            if size >= 0xFD or amount > MAX_MONEY_SATS:
                return None
            found.append(_txout(amount, raw[start:at]))
    except struct.error:  # past the end
        return None
    if at > len(raw):
        return None
    reader.at = at
    return found


def _read_input(reader: Reader) -> TxIn:
    outpoint = OutPoint(reader.take(32), reader.number(4))
    return TxIn(outpoint, reader.sized(), reader.number(4))


def _read_output(reader: Reader) -> TxOut:
    amount = reader.number(8)
    if amount > MAX_MONEY_SATS:
        raise reader.malformed("AMOUNT_OUT_OF_RANGE", f"expected at most {MAX_MONEY_SATS} sats, found {amount}")
    return TxOut(Sats(amount), reader.sized())


def _read_witness(reader: Reader) -> tuple[bytes, ...]:
    return tuple(reader.sized() for _ in range(reader.count(1)))

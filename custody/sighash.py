"""BIP-143 digests with SIGHASH_ALL for every input of a transaction; the three midstates are hashed once."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256

from custody.reader import compact_size, sized
from custody.transaction import Transaction, hash256

SIGHASH_ALL = 1
_TYPE = SIGHASH_ALL.to_bytes(4, "little")
_INPUT = struct.Struct("<36sB4s")  # outpoint, length of an empty scriptSig, sequence
_AMOUNT = struct.Struct("<Q")


def segwit_digests(transaction: Transaction, scripts: Sequence[tuple[bytes, int]]) -> tuple[bytes, ...]:
    """Return the digest of each input: 32 bytes each, SIGHASH_ALL (BIP-143).

    Args:
        transaction: unsigned or signed; signatures do not enter.
        scripts: (script code, amount in sats of the spent output) per input.
    """
    raw = transaction.serialize_stripped()
    start = 4 + len(compact_size(len(transaction.inputs)))
    end = start + _INPUT.size * len(transaction.inputs)
    outpoints, lengths, sequences = zip(*_INPUT.iter_unpack(raw[start:end]), strict=True)
    if any(lengths):  # of scriptSigs, which do not enter; where all are 0, every input was read at its place
        return segwit_digests(transaction.unsigned(), scripts)
    head = raw[:4] + hash256(b"".join(outpoints)) + hash256(b"".join(sequences))
    outputs = raw[end + len(compact_size(len(transaction.outputs))) : -4]
    tail = hash256(outputs) + raw[-4:] + _TYPE
    amount_of = _AMOUNT.pack
    return tuple(
        [
            sha256(
                sha256(b"".join((head, outpoint, sized(script), amount_of(amount), sequence, tail))).digest()
            ).digest()
            for outpoint, sequence, (script, amount) in zip(outpoints, sequences, scripts, strict=True)
        ]
    )

"""BIP-143 digests with SIGHASH_ALL for every input of a transaction; the three midstates are hashed once."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from custody.reader import sized
from custody.transaction import Transaction, TxOut, hash256

SIGHASH_ALL = 1
_SEQUENCE = struct.Struct("<I")


def segwit_digests(transaction: Transaction, scripts: Sequence[tuple[bytes, int]]) -> tuple[bytes, ...]:
    """Return the digest of each input: 32 bytes each, SIGHASH_ALL (BIP-143).

    Args:
        transaction: unsigned or signed; signatures do not enter.
        scripts: (script code, amount in sats of the spent output) per input.
    """
    inputs = transaction.inputs
    outpoints = [txin.outpoint.txid + _SEQUENCE.pack(txin.outpoint.vout) for txin in inputs]
    sequences = [_SEQUENCE.pack(txin.sequence) for txin in inputs]
    head = _SEQUENCE.pack(transaction.version) + hash256(b"".join(outpoints)) + hash256(b"".join(sequences))
    tail = (
        hash256(b"".join(map(TxOut.serialize, transaction.outputs)))
        + _SEQUENCE.pack(transaction.locktime)
        + _SEQUENCE.pack(SIGHASH_ALL)
    )
    return tuple(
        hash256(head + outpoint + sized(script) + amount.to_bytes(8, "little") + sequence + tail)
        for outpoint, sequence, (script, amount) in zip(outpoints, sequences, scripts, strict=True)
    )

"""BIP-143 digests with SIGHASH_ALL for every input of a transaction; the three midstates are hashed once."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256

from custody.reader import sized
from custody.transaction import Transaction, TxOut, hash256

SIGHASH_ALL = 1
_NUMBER = struct.Struct("<I")
_AMOUNT = struct.Struct("<Q")


def segwit_digests(transaction: Transaction, scripts: Sequence[tuple[bytes, int]]) -> tuple[bytes, ...]:
    """Return the digest of each input: 32 bytes each, SIGHASH_ALL (BIP-143).

    Args:
        transaction: unsigned or signed; signatures do not enter.
        scripts: (script code, amount in sats of the spent output) per input.
    """
    inputs = transaction.inputs
    number, amount_of = _NUMBER.pack, _AMOUNT.pack
    outpoints = [txin.outpoint.txid + number(txin.outpoint.vout) for txin in inputs]
    sequences = [number(txin.sequence) for txin in inputs]
    head = number(transaction.version) + hash256(b"".join(outpoints)) + hash256(b"".join(sequences))
    tail = (
        hash256(b"".join(map(TxOut.serialize, transaction.outputs)))
        + number(transaction.locktime)
        + number(SIGHASH_ALL)
    )
    return tuple(
        [
            sha256(
                sha256(b"".join((head, outpoint, sized(script), amount_of(amount), sequence, tail))).digest()
            ).digest()
            for outpoint, sequence, (script, amount) in zip(outpoints, sequences, scripts, strict=True)
        ]
    )

"""What is signed for every input of a transaction: BIP-143 with SIGHASH_ALL, BIP-341 with SIGHASH_DEFAULT.

What the inputs share is hashed once, so the work grows with their number and not with its square.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256

from custody.reader import compact_size, sized
from custody.transaction import Transaction, TxOut, hash256

SIGHASH_ALL, SIGHASH_DEFAULT = 1, 0
_TYPE = SIGHASH_ALL.to_bytes(4, "little")
_INPUT = struct.Struct("<36sB4s")  # outpoint, length of an empty scriptSig, sequence
_AMOUNT = struct.Struct("<Q")
_TAP_SIGHASH = sha256(sha256(b"TapSighash").digest() * 2)
_SCRIPT_PATH = b"\x02"  # spend_type: extension flag 1, no annex (BIP-341)
_KEY_VERSION, _NO_CODE_SEPARATOR = b"\x00", b"\xff\xff\xff\xff"  # BIP-342


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
    amount_of, join, script_bytes, prefix = _AMOUNT.pack, b"".join, -1, b""
    digests = []
    for outpoint, sequence, (script, amount) in zip(outpoints, sequences, scripts, strict=True):
        if len(script) != script_bytes:  # the scripts of one wallet are of one length
            script_bytes, prefix = len(script), compact_size(len(script))
        message = join((head, outpoint, prefix, script, amount_of(amount), sequence, tail))
        digests.append(sha256(sha256(message).digest()).digest())
    return tuple(digests)


def taproot_digests(
    transaction: Transaction, spent: Sequence[TxOut], leaf_hashes: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Return the digest of each input spent by a tapscript: 32 bytes each, SIGHASH_DEFAULT, no annex (BIP-341, 342).

    Args:
        transaction: unsigned or signed; signatures do not enter.
        spent: the output behind each input.
        leaf_hashes: 32 bytes each, of the leaf that spends it.
    """
    state = _TAP_SIGHASH.copy()
    state.update(b"\x00" + shared_message(transaction, spent) + _SCRIPT_PATH)  # behind the epoch
    digests = []
    for at, leaf_hash in enumerate(leaf_hashes):
        one = state.copy()
        one.update(at.to_bytes(4, "little") + leaf_hash + _KEY_VERSION + _NO_CODE_SEPARATOR)
        digests.append(one.digest())
    return tuple(digests)


def shared_message(transaction: Transaction, spent: Sequence[TxOut]) -> bytes:
    """Return what all inputs sign alike in taproot: from the sighash type, DEFAULT, to the hash of the outputs."""
    inputs = transaction.inputs
    parts = (
        b"".join(txin.outpoint.txid + txin.outpoint.vout.to_bytes(4, "little") for txin in inputs),
        b"".join(_AMOUNT.pack(output.amount) for output in spent),
        b"".join(sized(output.script) for output in spent),
        b"".join(txin.sequence.to_bytes(4, "little") for txin in inputs),
        b"".join(output.serialize() for output in transaction.outputs),
    )
    head = bytes([SIGHASH_DEFAULT]) + transaction.version.to_bytes(4, "little")
    return head + transaction.locktime.to_bytes(4, "little") + b"".join(sha256(part).digest() for part in parts)

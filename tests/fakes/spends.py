"""Transactions for chain tests: coins anyone may spend, and 2-of-3 P2WSH signed with plain keys.

The BIP-143 digest is written out here a second time on purpose, so that the chain tests do not lean on custody.sighash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from coincurve import PrivateKey

from coordinator.chain.port import ChainCoin
from custody.reader import sized
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, hash256
from custody.units import Sats

RBF = 0xFFFFFFFD
OPEN_WITNESS_SCRIPT = b"\x51"  # OP_TRUE


def p2wsh(witness_script: bytes) -> bytes:
    """Return the scriptPubKey of `witness_script`."""
    return b"\x00\x20" + hashlib.sha256(witness_script).digest()


OPEN = p2wsh(OPEN_WITNESS_SCRIPT)
KEYS = tuple(PrivateKey(bytes([n]) * 32) for n in (1, 2, 3))


def two_of_three() -> bytes:
    """Return the witness script 2 <three sorted keys> 3 OP_CHECKMULTISIG."""
    pubkeys = sorted(key.public_key.format() for key in KEYS)
    return b"\x52" + b"".join(sized(pubkey) for pubkey in pubkeys) + b"\x53\xae"


def spend_open(
    coin: ChainCoin | tuple[OutPoint, int], fee_sats: int, to: bytes = OPEN, sequence: int = RBF
) -> Transaction:
    """Return a transaction that moves one coin on OPEN to `to`, less the fee."""
    outpoint, amount = (coin.outpoint, coin.amount_sats) if isinstance(coin, ChainCoin) else coin
    txin = TxIn(outpoint, sequence=sequence, witness=(OPEN_WITNESS_SCRIPT,))
    return Transaction(2, (txin,), (TxOut(Sats(amount - fee_sats), to),))


def sign_two_of_three(
    unsigned: Transaction, amounts: Sequence[int], keys: Sequence[PrivateKey] = KEYS[:2]
) -> Transaction:
    """Return `unsigned` with a 2-of-3 witness on every input; `keys` sign in order of their public keys."""
    script = two_of_three()
    ordered = sorted(keys, key=lambda key: key.public_key.format())
    inputs = []
    for index, txin in enumerate(unsigned.inputs):
        digest = bip143_digest(unsigned, index, script, amounts[index])
        signatures = [key.sign(digest, hasher=None) + b"\x01" for key in ordered]
        inputs.append(replace(txin, witness=(b"", *signatures, script)))
    return replace(unsigned, inputs=tuple(inputs))


def bip143_digest(transaction: Transaction, index: int, script_code: bytes, amount_sats: int) -> bytes:
    """Return the SIGHASH_ALL digest of one input (BIP-143)."""
    point = [i.outpoint.txid + i.outpoint.vout.to_bytes(4, "little") for i in transaction.inputs]
    sequences = [i.sequence.to_bytes(4, "little") for i in transaction.inputs]
    return hash256(
        transaction.version.to_bytes(4, "little")
        + hash256(b"".join(point))
        + hash256(b"".join(sequences))
        + point[index]
        + sized(script_code)
        + amount_sats.to_bytes(8, "little")
        + sequences[index]
        + hash256(b"".join(output.serialize() for output in transaction.outputs))
        + transaction.locktime.to_bytes(4, "little")
        + b"\x01\x00\x00\x00"
    )


def with_high_s(signature: bytes) -> bytes:
    """Return the same DER + sighash signature with S replaced by order - S."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r_end = 4 + signature[3]
    s_value = order - int.from_bytes(signature[r_end + 2 : -1], "big")
    s_bytes = s_value.to_bytes(33, "big").lstrip(b"\0")
    s_bytes = b"\0" + s_bytes if s_bytes[0] >= 0x80 else s_bytes
    body = signature[2:r_end] + b"\x02" + bytes([len(s_bytes)]) + s_bytes
    return b"\x30" + bytes([len(body)]) + body + signature[-1:]

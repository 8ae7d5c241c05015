"""BIP-322: what is signed for a message, made from the message itself, and the proof as it travels.

`to_spend` pays nothing to the script that is to be proven, from an outpoint that does not exist; `to_sign` spends it
and pays nothing to nobody. No network can take either, so signing them moves no money: that is why a node makes both
from the text and takes neither from outside. A proof of funds adds coins of the wallet as further inputs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from custody.canonical import tagged_hash
from custody.errors import MalformedError
from custody.psbt import from_base64, parse
from custody.reader import Reader, compact_size, sized
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from custody.units import Sats

HASH_TAG = "BIP0322-signed-message"
NOTHING = TxOut(Sats(0), b"\x6a")  # OP_RETURN: the one output of to_sign
MAX_COINS = 1_000  # of one proof of funds: what a verifier looks up, and a PSBT of 2 MiB holds
MAX_PROOF_CHARS = 2_800_000  # a PSBT of 2 MiB in base64
_NO_OUTPOINT = OutPoint(bytes(32), 0xFFFFFFFF)
_VERSIONS = (0, 2)  # BIP-322 "Full"
_UTXO, _FINAL_SIG, _FINAL_WITNESS = 0x01, 0x07, 0x08  # BIP-174 input types


class Form(Enum):
    """How a proof is written. The value is its prefix."""

    SIMPLE = "smp"
    FULL = "ful"
    FUNDS = "pof"


@dataclass(frozen=True, slots=True)
class Coin:
    """A coin in a proof of funds. output: what it pays, and to which script."""

    outpoint: OutPoint
    output: TxOut


def message_hash(message: bytes) -> bytes:
    """Return the tagged hash of `message`: 32 bytes."""
    return tagged_hash(HASH_TAG, message)


def to_spend(script: bytes, message: bytes) -> Transaction:
    """Return the transaction that pays nothing to `script` and commits to `message` (BIP-322 "Full")."""
    push = b"\x00\x20" + message_hash(message)
    return Transaction(0, (TxIn(_NO_OUTPOINT, push, 0),), (TxOut(Sats(0), script),), 0)


def to_sign(script: bytes, message: bytes, coins: Sequence[Coin] = ()) -> Transaction:
    """Return the unsigned transaction whose signatures prove `message` for `script`, and `coins` beside it."""
    first = TxIn(OutPoint(to_spend(script, message).txid, 0), b"", 0)
    others = (TxIn(coin.outpoint, b"", 0) for coin in coins)
    return Transaction(0, (first, *others), (NOTHING,), 0)


def spent_outputs(script: bytes, coins: Sequence[Coin] = ()) -> tuple[TxOut, ...]:
    """Return the output behind each input of `to_sign`."""
    return (TxOut(Sats(0), script), *(coin.output for coin in coins))


def write_proof(form: Form, signed: Transaction, spent: Sequence[TxOut]) -> str:
    """Return the proof as text.

    Args:
        form: SIMPLE and FULL for a message alone.
        signed: `to_sign` with what satisfies its scripts.
        spent: from `spent_outputs`.

    Raises:
        MalformedError: PROOF_FORM: the signature needs more than a witness, or proves coins, and the form has no place.
    """
    if form is Form.SIMPLE and (len(signed.inputs) != 1 or signed.inputs[0].script_sig):
        raise MalformedError("PROOF_FORM", "expected one input without scriptSig in a simple signature")
    if form is Form.FULL and len(signed.inputs) != 1:
        raise MalformedError("PROOF_FORM", "expected one input in a full signature")
    if form is Form.SIMPLE:
        raw = _stack(signed.inputs[0].witness)
    else:
        raw = signed.serialize() if form is Form.FULL else _finished_psbt(signed, spent)
    return form.value + base64.b64encode(raw).decode()


def read_proof(text: str, script: bytes, message: bytes) -> tuple[Transaction, tuple[TxOut, ...]]:
    """Return what a proof claims: the signed transaction, and the output behind each input, for a script interpreter.

    Everything that needs no interpreter is proven here; whether the scripts are satisfied is not.

    Args:
        text: as it came.
        script: that of the address it is to prove.
        message: what is said to be signed.

    Raises:
        MalformedError: PROOF_TOO_LARGE, PROOF_BASE64, PROOF_SHORT, PROOF_MESSAGE (of another message or address),
            PROOF_SHAPE (it pays somebody, or has a version that no proof has), PROOF_COIN, or what its bytes say.
    """
    if len(text) > MAX_PROOF_CHARS:
        raise MalformedError("PROOF_TOO_LARGE", f"expected at most {MAX_PROOF_CHARS} characters")
    form = next((f for f in Form if text.startswith(f.value)), None)
    body = text if form is None else text[len(form.value) :]
    if form is Form.FUNDS:
        signed, spent = _read_funds(from_base64(body))
    else:
        raw = _base64(body)
        if form is Form.FULL:
            signed = parse_transaction(raw)
        else:  # no prefix: BIP-322 takes it for a simple one
            signed = to_sign(script, message).with_witnesses([_read_stack(raw)])
        if len(signed.inputs) != 1:
            raise MalformedError("PROOF_SHAPE", "expected one input in a proof without coins")
        spent = (TxOut(Sats(0), script),)
    if signed.inputs[0].outpoint != OutPoint(to_spend(script, message).txid, 0) or spent[0] != TxOut(Sats(0), script):
        raise MalformedError("PROOF_MESSAGE", "expected a proof of this message for this address")
    if signed.outputs != (NOTHING,) or signed.version not in _VERSIONS:
        raise MalformedError("PROOF_SHAPE", "expected version 0 or 2, and one output that pays nothing to nobody")
    return signed, spent


def _read_funds(raw: bytes) -> tuple[Transaction, tuple[TxOut, ...]]:
    """Return the transaction of a finished PSBT, and the output behind each input."""
    psbt = parse(raw)
    unsigned = psbt.transaction
    known = {found.previous.txid: found.previous for found in psbt.inputs if found.previous is not None}
    inputs, spent = [], []
    for txin, found in zip(unsigned.inputs, psbt.inputs, strict=True):
        sig, witness, utxo = (found.one(key) for key in (_FINAL_SIG, _FINAL_WITNESS, _UTXO))
        stack = () if witness is None else _read_stack(witness.value)
        inputs.append(replace(txin, script_sig=b"" if sig is None else sig.value, witness=stack))
        spent.append(_spent_by(txin.outpoint, None if utxo is None else utxo.value, known))
    return replace(unsigned, inputs=tuple(inputs)), tuple(spent)


def _spent_by(outpoint: OutPoint, utxo: bytes | None, known: dict[bytes, Transaction]) -> TxOut:
    if (previous := known.get(outpoint.txid)) is not None and outpoint.vout < len(previous.outputs):
        return previous.outputs[outpoint.vout]
    if utxo is None:
        raise MalformedError("PROOF_COIN", f"expected the output behind {outpoint}")
    reader = Reader(utxo)
    found = TxOut(Sats(reader.number(8)), reader.sized())
    reader.end()
    return found


def _finished_psbt(signed: Transaction, spent: Sequence[TxOut]) -> bytes:
    """Return a PSBT of version 0 with nothing but what a verifier needs of each input."""
    maps = [_entry(0x00, signed.unsigned().serialize_stripped()) + b"\x00"]
    for txin, output in zip(signed.inputs, spent, strict=True):
        entries = _entry(_UTXO, output.serialize())
        if txin.script_sig:
            entries += _entry(_FINAL_SIG, txin.script_sig)
        maps.append(entries + _entry(_FINAL_WITNESS, _stack(txin.witness)) + b"\x00")
    return b"psbt\xff" + b"".join(maps) + b"\x00" * len(signed.outputs)


def _entry(kind: int, value: bytes) -> bytes:
    return sized(bytes([kind])) + sized(value)


def _stack(items: Sequence[bytes]) -> bytes:
    return compact_size(len(items)) + b"".join(map(sized, items))


def _read_stack(raw: bytes) -> tuple[bytes, ...]:
    if not raw:
        raise MalformedError("PROOF_SHORT", "expected a witness, found nothing")
    reader = Reader(raw)
    items = tuple(reader.sized() for _ in range(reader.count(1)))
    reader.end()
    return items


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise MalformedError("PROOF_BASE64", "expected strict base64 behind smp, ful, pof or nothing") from None

"""Relay rules: what nodes ask of a transaction beyond consensus, so that ours is not refused on its way to a miner.

Pure. The kernel checks consensus alone: it lets high S, dust, no fee, an absurd fee and non-final transactions pass.
The limits are those of Bitcoin Core's policy.h and policy.cpp, the stricter where versions differ. Of what Core would
relay, two things are refused because nothing of ours makes them: relative lock times and bare scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.errors import Refused
from custody.transaction import Transaction, TxIn, TxOut
from custody.units import Sats

MAX_STANDARD_WEIGHT = 400_000  # MAX_STANDARD_TX_WEIGHT
MIN_STRIPPED_BYTES = 65  # MIN_STANDARD_TX_NONWITNESS_SIZE: a 64-byte transaction can pose as a merkle node
MAX_SCRIPT_SIG_BYTES = 1_650  # MAX_STANDARD_SCRIPTSIG_SIZE
MAX_WITNESS_SCRIPT_BYTES = 3_600  # MAX_STANDARD_P2WSH_SCRIPT_SIZE
MAX_WITNESS_ITEMS = 100  # MAX_STANDARD_P2WSH_STACK_ITEMS, without the script
MAX_WITNESS_ITEM_BYTES = 80  # MAX_STANDARD_P2WSH_STACK_ITEM_SIZE
MAX_DATA_SCRIPT_BYTES = 83  # MAX_OP_RETURN_RELAY before Core 30; most of the network still keeps it
MIN_FEE_RATE_SAT_VB = 1  # DEFAULT_MIN_RELAY_TX_FEE before Core 29.1; lower ones do not travel far
MAX_FEE_RATE_SAT_VB = 10_000  # DEFAULT_MAX_RAW_TX_FEE_RATE: 0.1 BTC/kvB, above it is a mistake
MAX_FEE_SATS = 10_000_000  # DEFAULT_TRANSACTION_MAXFEE: 0.1 BTC
DUST_RATE_SAT_VB = 3  # DUST_RELAY_TX_FEE
_LOCKTIME_THRESHOLD = 500_000_000  # below: a height, else UTC seconds (Core's script.h)
_FINAL_SEQUENCE = 0xFFFFFFFF
_NO_RELATIVE_LOCK = 1 << 31  # BIP-68 disable flag
_SIGHASH_TYPES = (0x01, 0x02, 0x03, 0x81, 0x82, 0x83)
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # of secp256k1, rounded down


@dataclass(frozen=True, slots=True)
class NextBlock:
    """The first block that could take a transaction.

    median_time: UTC seconds, median of the 11 blocks before it; what lock times compare with (BIP-113).
    """

    height: int
    median_time: int


def relay_check(transaction: Transaction, spent: Sequence[TxOut], at: NextBlock) -> Refused | None:
    """Return None if nodes would relay `transaction`, else the first rule it breaks.

    Args:
        transaction: signed; passed consensus already, so its inputs pay for its outputs.
        spent: the output behind each input, same order.
        at: the block it should enter.
    """
    # Plan: 1 version, size · 2 lock times · 3 inputs · 4 signatures · 5 outputs, dust · 6 fee.
    return (
        _shape(transaction)
        or check_final(transaction, at)
        or _inputs(transaction, spent)
        or _signatures(transaction, spent)
        or check_outputs(transaction.outputs)
        or _fee(transaction, spent)
    )


def _shape(transaction: Transaction) -> Refused | None:
    if transaction.version != 2:
        return Refused("TX_NONSTANDARD", "version 2", f"version {transaction.version}")
    if transaction.weight > MAX_STANDARD_WEIGHT:
        return Refused("TX_WEIGHT", f"weight of at most {MAX_STANDARD_WEIGHT}", f"{transaction.weight}")
    size = len(transaction.serialize_stripped())
    if size < MIN_STRIPPED_BYTES:
        return Refused("TX_NONSTANDARD", f"at least {MIN_STRIPPED_BYTES} bytes without witnesses", f"{size}")
    return None


def _inputs(transaction: Transaction, spent: Sequence[TxOut]) -> Refused | None:
    for index, (txin, output) in enumerate(zip(transaction.inputs, spent, strict=True)):
        if len(txin.script_sig) > MAX_SCRIPT_SIG_BYTES or pushes(txin.script_sig) is None:
            return Refused("TX_NONSTANDARD", "a scriptSig of pushes", f"other bytes in input {index}")
        if not _fits_witness(txin, output.script):
            return Refused("TX_NONSTANDARD", "a witness within relay limits", f"another one in input {index}")
    return None


def _fits_witness(txin: TxIn, script: bytes) -> bool:
    """IsWitnessStandard of Core's policy.cpp, for P2WSH, bare or in P2SH, and for taproot."""
    if not txin.witness:
        return True
    in_script = pushes(txin.script_sig)
    program = in_script[-1] if in_script and _is_p2sh(script) else script
    if _is_p2wsh(program):
        *stack, witness_script = txin.witness
        if len(witness_script) > MAX_WITNESS_SCRIPT_BYTES or len(stack) > MAX_WITNESS_ITEMS:
            return False
        return all(len(item) <= MAX_WITNESS_ITEM_BYTES for item in stack)
    if program is script and _is_p2tr(script):
        if len(txin.witness) > 1 and txin.witness[-1][:1] == b"\x50":  # an annex (BIP-341)
            return False
        return all(len(item) <= MAX_WITNESS_ITEM_BYTES for item in txin.witness[:-2])
    return True


def _signatures(transaction: Transaction, spent: Sequence[TxOut]) -> Refused | None:
    """LOW_S and the hash types of STRICTENC; strict DER itself is consensus (BIP-66)."""
    for index, (txin, output) in enumerate(zip(transaction.inputs, spent, strict=True)):
        for item in _ecdsa_candidates(txin, output.script):
            s_value = _s_of_der(item)
            if s_value is None:
                continue
            if s_value > _HALF_ORDER:
                return Refused("TX_HIGH_S", "signatures with low S (BIP-146)", f"high S in input {index}")
            if item[-1] not in _SIGHASH_TYPES:
                return Refused("TX_NONSTANDARD", "a defined sighash type", f"{item[-1]:#04x} in input {index}")
    return None


def _fee(transaction: Transaction, spent: Sequence[TxOut]) -> Refused | None:
    fee_sats = sum(o.amount for o in spent) - sum(o.amount for o in transaction.outputs)
    vsize_vb = transaction.vsize_vb
    least, most = vsize_vb * MIN_FEE_RATE_SAT_VB, min(vsize_vb * MAX_FEE_RATE_SAT_VB, MAX_FEE_SATS)
    if fee_sats < least:
        return Refused("TX_FEE_TOO_LOW", f"a fee of at least {least} sats", f"{fee_sats}")
    if fee_sats > most:
        return Refused("TX_FEE_ABSURD", f"a fee of at most {most} sats", f"{fee_sats}")
    return None


def check_final(transaction: Transaction, at: NextBlock) -> Refused | None:
    """Return None if the lock times of `transaction` let it into block `at` (IsFinalTx of Core's tx_verify.cpp).

    Relative lock times (BIP-68) are refused whole: the ages of the coins are not known here.
    """
    for index, txin in enumerate(transaction.inputs):
        if not txin.sequence & _NO_RELATIVE_LOCK:
            return Refused("TX_NOT_FINAL", "no relative lock time", f"sequence {txin.sequence:#010x} on input {index}")
    locktime = transaction.locktime
    reached = at.height if locktime < _LOCKTIME_THRESHOLD else at.median_time
    if locktime == 0 or locktime < reached or all(i.sequence == _FINAL_SEQUENCE for i in transaction.inputs):
        return None
    return Refused("TX_NOT_FINAL", f"lock time below {reached}", f"{locktime}")


def check_outputs(outputs: Sequence[TxOut]) -> Refused | None:
    """Return None if every output has a standard script and is not dust, else TX_NONSTANDARD or TX_DUST."""
    for index, output in enumerate(outputs):
        if not _is_standard(output.script):
            return Refused("TX_NONSTANDARD", "a standard output script", f"another one in output {index}")
        least = dust_threshold_sats(output.script)
        if output.amount < least:
            return Refused("TX_DUST", f"at least {least} sats", f"{output.amount} in output {index}")
    if sum(output.script[:1] == b"\x6a" for output in outputs) > 1:
        return Refused("TX_NONSTANDARD", "at most one data output", "more")
    return None


def dust_threshold_sats(script: bytes) -> int:
    """Return the smallest amount that is not dust on `script` (GetDustThreshold of Core's policy.cpp), 0 for data."""
    if script[:1] == b"\x6a":
        return 0
    spend_bytes = 67 if _is_witness_program(script) else 148
    return DUST_RATE_SAT_VB * (len(TxOut(Sats(0), script).serialize()) + spend_bytes)


def pushes(script: bytes) -> tuple[bytes, ...] | None:
    """Return what `script` pushes, or None when it holds anything but pushes (small numbers count as b"")."""
    found: list[bytes] = []
    at = 0
    while at < len(script):
        opcode = script[at]
        at += 1
        if opcode > 0x60:  # OP_16 is the last that only pushes
            return None
        width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
        size = int.from_bytes(script[at : at + width], "little") if width else opcode if opcode < 0x4C else 0
        at += width + size
        if at > len(script):
            return None
        found.append(script[at - size : at])
    return tuple(found)


def _ecdsa_candidates(txin: TxIn, script: bytes) -> tuple[bytes, ...]:
    """The items that may be ECDSA signatures: scriptSig pushes, and the witness unless the program is taproot."""
    in_script = pushes(txin.script_sig) or ()
    return in_script if script[:1] == b"\x51" else in_script + txin.witness


def _s_of_der(item: bytes) -> int | None:
    """S of a DER signature with its sighash byte, or None where `item` has another shape."""
    if not 9 <= len(item) <= 73 or item[0] != 0x30 or item[1] != len(item) - 3:
        return None
    r_size = item[3]
    if item[2] != 0x02 or 6 + r_size >= len(item) or item[4 + r_size] != 0x02:
        return None
    s_size = item[5 + r_size]
    if r_size + s_size + 7 != len(item):
        return None
    return int.from_bytes(item[6 + r_size : -1], "big")


def _is_standard(script: bytes) -> bool:
    is_p2pkh = len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac"
    is_data = script[:1] == b"\x6a" and len(script) <= MAX_DATA_SCRIPT_BYTES and pushes(script[1:]) is not None
    return is_p2pkh or _is_p2sh(script) or is_data or _is_standard_program(script)


def _is_witness_program(script: bytes) -> bool:
    """BIP-141: OP_0 or OP_1..OP_16, then one push of 2 to 40 bytes."""
    return 4 <= len(script) <= 42 and script[1] == len(script) - 2 and (script[0] == 0 or 0x51 <= script[0] <= 0x60)


def _is_standard_program(script: bytes) -> bool:
    return _is_witness_program(script) and (script[0] != 0 or len(script) in (22, 34))


def _is_p2sh(script: bytes) -> bool:
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87"


def _is_p2tr(script: bytes) -> bool:
    return len(script) == 34 and script[:2] == b"\x51\x20"


def _is_p2wsh(script: bytes) -> bool:
    return len(script) == 34 and script[:2] == b"\x00\x20"

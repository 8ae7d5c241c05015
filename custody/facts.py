"""What a PSBT really does, each fact proven from its bytes and our descriptor, or a refusal that names what is not.

Amounts come from re-hashed previous transactions alone, scripts from derivation alone; every field that a PSBT merely
claims is a hint that must agree. Nothing here is asked of a network.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from custody.address import script_of
from custody.base58 import decode_check
from custody.claims import check_input_scripts, check_output_scripts
from custody.errors import MalformedError, Refused
from custody.payees import LEAST_SATS, P2SH, kind_of
from custody.psbt import Psbt, PsbtInput, PsbtOutput
from custody.psbt_fields import (
    GLOBAL,
    GLOBAL_TRANSACTION,
    GLOBAL_VERSION,
    GLOBAL_XPUB,
    IN_DERIVATION,
    IN_FINAL_SCRIPT_SIG,
    IN_FINAL_WITNESS,
    IN_PARTIAL_SIGNATURE,
    IN_PREVIOUS,
    IN_REDEEM_SCRIPT,
    IN_SIGHASH,
    IN_TAP_DERIVATION,
    IN_TAP_INTERNAL_KEY,
    IN_TAP_KEY_SIGNATURE,
    IN_TAP_LEAF,
    IN_TAP_ROOT,
    IN_TAP_SIGNATURE,
    IN_WITNESS_SCRIPT,
    IN_WITNESS_UTXO,
    INPUT,
    OUT_DERIVATION,
    OUT_REDEEM_SCRIPT,
    OUT_TAP_DERIVATION,
    OUT_TAP_INTERNAL_KEY,
    OUT_TAP_TREE,
    OUT_WITNESS_SCRIPT,
    OUTPUT,
    V2_ONLY,
    FieldMap,
)
from custody.psbt_v2 import is_modifiable
from custody.quick import quick
from custody.scripts import Template, spend_weight
from custody.sighash import SIGHASH_ALL, SIGHASH_DEFAULT
from custody.transaction import OutPoint, TxIn, TxOut
from custody.units import MAX_MONEY_SATS, Sats, VBytes
from custody.wallet import CHANGE, RECEIVE, ScriptBook, Wallet, WalletScript
from custody.withdrawal import Withdrawal

CHANGE_GAP = 20  # protocol.md step 4: a coordinator that runs ahead further hides change from its own recovery
INPUT_GAP = 1_000  # architecture.md "Limits": addresses are handed out up to this far above the last one in use
MAX_HINTED_OUTPUTS = 100  # hints of outputs only serve the message of a refusal; each costs a derivation
SEQUENCE = 0xFFFFFFFD  # replaceable (BIP-125), no relative lock
VERSION = 2
_WITNESS_UTXO, _SIGHASH = bytes([IN_WITNESS_UTXO]), bytes([IN_SIGHASH])
_ALL, _DEFAULT = SIGHASH_ALL.to_bytes(4, "little"), SIGHASH_DEFAULT.to_bytes(4, "little")
_PLACE = struct.Struct("<II")  # branch and index: the last two steps of a path
_HINTS = 1 << OUT_DERIVATION | 1 << OUT_TAP_DERIVATION
_LEAST_HINT_BYTES = 12  # a fingerprint and two steps
_GLOBAL_TYPES = frozenset((GLOBAL_TRANSACTION, GLOBAL_XPUB, GLOBAL_VERSION)) | V2_ONLY[GLOBAL]
_CLAIMED_TYPES = frozenset((IN_PREVIOUS, IN_WITNESS_UTXO, IN_SIGHASH)) | V2_ONLY[INPUT]
_SEGWIT_TYPES = (frozenset((IN_WITNESS_SCRIPT, IN_DERIVATION)), frozenset((OUT_WITNESS_SCRIPT, OUT_DERIVATION)))
_TAPROOT_TYPES = (
    frozenset((IN_TAP_LEAF, IN_TAP_DERIVATION, IN_TAP_INTERNAL_KEY, IN_TAP_ROOT)),
    frozenset((OUT_TAP_INTERNAL_KEY, OUT_TAP_TREE, OUT_TAP_DERIVATION)),
)
_SCRIPT_TYPES = {  # of inputs, of outputs: what a PSBT may say of the scripts of a template
    Template.WSH: _SEGWIT_TYPES,
    Template.SH_WSH: (_SEGWIT_TYPES[0] | {IN_REDEEM_SCRIPT}, _SEGWIT_TYPES[1] | {OUT_REDEEM_SCRIPT}),
    Template.TR: _TAPROOT_TYPES,
    Template.TR_SORTED: _TAPROOT_TYPES,
}
_FINAL_TYPES = frozenset((IN_FINAL_SCRIPT_SIG, IN_FINAL_WITNESS))
_SIGNATURE_TYPES = _FINAL_TYPES | {IN_PARTIAL_SIGNATURE}
_TAP_SIGNATURE_TYPES = _FINAL_TYPES | {IN_TAP_KEY_SIGNATURE, IN_TAP_SIGNATURE}


@dataclass(frozen=True, slots=True)
class ShapeLimits:
    """Bounds that rules and log set. highest_change_index: -1 before the first change in the log."""

    highest_change_index: int = -1
    change_floor_sats: int = 10_000
    max_change_outputs: int = 1


@dataclass(frozen=True, slots=True)
class InputFact:
    """One coin of ours. script: its scriptPubKey, derived by us at branch/index."""

    outpoint: OutPoint
    amount_sats: Sats
    branch: int
    index: int
    script: bytes


_input_fact = quick(InputFact)


@dataclass(frozen=True, slots=True)
class ChangeFact:
    """One output that comes back. output: its place in the transaction.  index: on branch 1."""

    output: int
    index: int
    amount_sats: Sats


@dataclass(frozen=True, slots=True)
class Facts:
    """What the transaction does. txid: 32 bytes, wire order, unsigned.  vsize_vb: upper bound of the signed size."""

    txid: bytes
    version: int
    locktime: int
    inputs: tuple[InputFact, ...]
    payments: tuple[TxOut, ...]
    change: tuple[ChangeFact, ...]
    fee_sats: Sats
    vsize_vb: VBytes

    @property
    def outpoints(self) -> frozenset[OutPoint]:
        """The coins that are spent."""
        return frozenset(fact.outpoint for fact in self.inputs)


def read_facts(psbt: Psbt, book: ScriptBook, limits: ShapeLimits) -> Facts | Refused:
    """Return what `psbt` does with the coins of `book`'s wallet, or the first thing that is not proven.

    Args:
        psbt: carries no signatures; those travel beside it.
        book: the wallet's scripts.
        limits: of change.
    """
    # Plan: 1 only fields we judge · 2 each input is our coin, its amount proven · 3 change · 4 money adds up.
    if refused := _check_fields(psbt, book.wallet):
        return refused
    inputs: list[InputFact] = []
    sighash = _DEFAULT if book.wallet.template.is_taproot else _ALL
    for txin, found in zip(psbt.transaction.inputs, psbt.inputs, strict=True):
        fact = _read_input(txin, found, book, sighash)
        if isinstance(fact, Refused):
            return fact
        inputs.append(fact)
    if len({fact.outpoint for fact in inputs}) != len(inputs):
        return Refused("DUPLICATE_OUTPOINT", "each coin once", "one twice")
    outputs = _read_outputs(psbt, book, limits)
    if isinstance(outputs, Refused):
        return outputs
    payments, change = outputs
    total_in = sum(fact.amount_sats for fact in inputs)
    total_out = sum(output.amount for output in psbt.transaction.outputs)
    if max(total_in, total_out) > MAX_MONEY_SATS or total_out > total_in:
        return Refused("MONEY", f"outputs of at most {total_in} sats", f"{total_out} sats")
    return Facts(
        txid=psbt.transaction.txid,
        version=psbt.transaction.version,
        locktime=psbt.transaction.locktime,
        inputs=tuple(inputs),
        payments=payments,
        change=change,
        fee_sats=Sats(total_in - total_out),
        vsize_vb=vsize_bound_vb(psbt, book.wallet),
    )


def own_payees(facts: Facts, book: ScriptBook) -> frozenset[bytes]:
    """Return the payees' scripts that are receiving scripts of the same wallet, inside the window of addresses."""
    scripts = {payment.script for payment in facts.payments}
    return frozenset(script for script in scripts if book.find(script, RECEIVE, INPUT_GAP) is not None)


def check_matches(withdrawal: Withdrawal, facts: Facts, wallet: Wallet) -> Refused | None:
    """Return None if `facts` are exactly what `withdrawal` asks for: payees, amounts, wallet, network, fee, shape."""
    if (withdrawal.wallet_id, withdrawal.network) != (wallet.wallet_id, wallet.network.value):
        return Refused("WALLET_OTHER", f"wallet {wallet.wallet_id.hex()[:16]} on {wallet.network.value}", "another")
    try:
        asked = Counter((script_of(p.address, wallet.network), p.amount_sats) for p in withdrawal.payments)
    except MalformedError as error:
        return Refused(error.code, f"addresses of {wallet.network.value}", error.message)
    paid = Counter((payment.script, payment.amount) for payment in facts.payments)
    if extra := paid - asked:
        return Refused("OUTPUT_NOT_ASKED", "only the payments of the withdrawal", f"{extra.total()} other output(s)")
    if missing := asked - paid:
        own_change = {wallet.script(CHANGE, change.index).script for change in facts.change}
        if any(script in own_change for script, _ in missing):
            return Refused("PAYMENT_TO_CHANGE", "payments to addresses of branch 0 or of others", "one to own branch 1")
        return Refused("PAYMENT_MISSING", "every payment of the withdrawal", f"{missing.total()} missing")
    if refused := next((r for payment in facts.payments if (r := _check_payment(payment))), None):
        return refused
    if facts.fee_sats > withdrawal.max_fee_sats:
        return Refused("FEE_ABOVE_MAX", f"at most {withdrawal.max_fee_sats} sats", f"{facts.fee_sats} sats")
    if withdrawal.pinned_txid not in (None, facts.txid):
        return Refused("PINNED_OTHER", "the pinned transaction", facts.txid[::-1].hex())
    if withdrawal.pinned_txid is None and facts.locktime:
        return Refused("LOCKTIME", "0 where no transaction is pinned", str(facts.locktime))
    return None


def vsize_bound_vb(psbt: Psbt, wallet: Wallet) -> VBytes:
    """Return the largest virtual size that the signed transaction can have."""
    signing = spend_weight(wallet.template, wallet.threshold, len(wallet.keys))
    weight = len(psbt.transaction.serialize_stripped()) * 4 + 2 + signing * len(psbt.inputs)
    return VBytes((weight + 3) // 4)


def _check_fields(psbt: Psbt, wallet: Wallet) -> Refused | None:
    transaction = psbt.transaction
    if is_modifiable(psbt.globals):
        return Refused("TX_MODIFIABLE", "a transaction that nothing may be added to", "a modifiable flag")
    if transaction.version != VERSION:
        return Refused("TX_VERSION", str(VERSION), str(transaction.version))
    if any(txin.sequence != SEQUENCE for txin in transaction.inputs):
        return Refused("SEQUENCE", f"{SEQUENCE:#x} in every input", "another")
    signatures, of_inputs, of_outputs = _judged(wallet.template)
    types = _types(psbt.inputs)
    if types & signatures:
        return Refused("PSBT_HAS_SIGNATURES", "signatures beside the PSBT", "one inside")
    return (
        _unknown(psbt.globals.kinds, _GLOBAL_MASK)
        or _foreign_xpub(psbt, wallet)
        or _unknown(types, of_inputs)
        or _unknown(_types(psbt.outputs), of_outputs)
    )


def _unknown(types: int, known: int) -> Refused | None:
    extra = types & ~known
    if not extra:
        return None
    first = (extra & -extra).bit_length() - 1
    return Refused("UNKNOWN_FIELD", "fields that are judged here", f"type {first:#04x}")


def _types(maps: Iterable[FieldMap]) -> int:
    """Return which types of field there are in any of `maps`, as bits."""
    found = 0
    for one in maps:
        found |= one.kinds
    return found


def _mask(types: frozenset[int]) -> int:
    return sum(1 << kind for kind in types)


_GLOBAL_MASK = _mask(_GLOBAL_TYPES)


@cache
def _judged(template: Template) -> tuple[int, int, int]:
    """Return the types that sign, and those that are judged here, of inputs and of outputs, as bits."""
    of_inputs, of_outputs = _SCRIPT_TYPES[template]
    signatures = _TAP_SIGNATURE_TYPES if template.is_taproot else _SIGNATURE_TYPES
    return _mask(signatures), _mask(_CLAIMED_TYPES | of_inputs), _mask(V2_ONLY[OUTPUT] | of_outputs)


def _foreign_xpub(psbt: Psbt, wallet: Wallet) -> Refused | None:
    """Refuse a global xpub that is not of this wallet: what nobody judges is a place to hide things."""
    said = {(field.key[1:], field.value) for field in psbt.globals.all(GLOBAL_XPUB)}
    if said and said - {(decode_check(key.xpub), key.origin) for key in wallet.keys}:
        return Refused("XPUB_OTHER", "only extended keys of this wallet, with their origin", "another")
    return None


def _read_input(txin: TxIn, found: PsbtInput, book: ScriptBook, sighash: bytes) -> InputFact | Refused:
    """Prove one coin: its previous transaction re-hashed, its script derived, every claim in agreement."""
    outpoint = txin.outpoint
    if own := found.own_at(outpoint):
        output, tail = own
        if book.known.tails.get(tail.script) is tail:  # not of another book: every byte is what this one would write
            return _input_fact(outpoint, int.from_bytes(output[:8], "little"), tail.branch, tail.index, tail.script)
    spent = found.spent(outpoint)
    if spent is None:
        if found.previous is None:
            return Refused("PREVIOUS_MISSING", f"the previous transaction of {outpoint}", "none")
        return Refused("PREVIOUS_MISMATCH", f"the transaction of {outpoint}", found.previous.txid_hex)
    # The script of an output of ours has 34 bytes behind one byte of length; of another one, this is not the script.
    values = found.values
    amount, script = Sats(int.from_bytes(spent[:8], "little")), spent[9:]
    if values.get(_WITNESS_UTXO, spent) != spent:
        return Refused("AMOUNT_LIE", f"{amount} sats on the script of {outpoint}", "another claim")
    if values.get(_SIGHASH, sighash) != sighash:
        return Refused("SIGHASH_TYPE", "SIGHASH_ALL, in taproot DEFAULT", f"{found.sighash_type:#x}")
    ours = _at_hint(script, found.hint, book) or _hinted(script, found, book) or _in_window(script, book)
    if ours is None:
        return Refused("FOREIGN_INPUT", f"a coin of this wallet at {outpoint}", "another's")
    if refused := check_input_scripts(found, ours):
        return refused
    return InputFact(outpoint, amount, ours.branch, ours.index, ours.script)


def _read_outputs(
    psbt: Psbt, book: ScriptBook, limits: ShapeLimits
) -> tuple[tuple[TxOut, ...], tuple[ChangeFact, ...]] | Refused:
    """Tell change from payments: change is branch 1 of this wallet inside the window, and nothing else is."""
    payments: list[TxOut] = []
    change: list[ChangeFact] = []
    hints_left = MAX_HINTED_OUTPUTS
    for place, (output, found) in enumerate(zip(psbt.transaction.outputs, psbt.outputs, strict=True)):
        ours = _in_change_window(output.script, book, limits)
        if ours is None and found.kinds & _HINTS and hints_left:
            hints_left -= 1
            ours = _hinted(output.script, found, book)
        if ours is None or ours.branch == RECEIVE:
            payments.append(output)
            continue
        if refused := _check_change(output, found, ours, limits):
            return refused
        change.append(ChangeFact(place, ours.index, output.amount))
    if len(change) > limits.max_change_outputs:
        return Refused("TOO_MUCH_CHANGE", f"at most {limits.max_change_outputs} change output(s)", str(len(change)))
    return tuple(payments), tuple(change)


def _check_payment(output: TxOut) -> Refused | None:
    kind = kind_of(output.script)
    if kind is None:
        return Refused("OUTPUT_TYPE", f"one of {', '.join(LEAST_SATS)}", output.script[:8].hex())
    if output.amount < LEAST_SATS[kind]:
        return Refused("OUTPUT_DUST", f"at least {LEAST_SATS[kind]} sats on {kind}", f"{output.amount} sats")
    return None


def _check_change(output: TxOut, found: PsbtOutput, ours: WalletScript, limits: ShapeLimits) -> Refused | None:
    highest = limits.highest_change_index + CHANGE_GAP
    if ours.index > highest:
        return Refused("CHANGE_INDEX", f"an index of at most {highest}", str(ours.index))
    floor = max(limits.change_floor_sats, LEAST_SATS[kind_of(ours.script) or P2SH])  # P2SH's dust is above P2WSH's
    if output.amount < floor:
        return Refused("CHANGE_BELOW_FLOOR", f"at least {floor} sats", f"{output.amount} sats")
    return check_output_scripts(found, ours)


def _at_hint(script: bytes, hint: bytes, book: ScriptBook) -> WalletScript | None:
    """Return our script that equals `script` where the first hint points; or None, then `_hinted` looks further."""
    if len(hint) < _LEAST_HINT_BYTES:
        return None
    branch, index = _PLACE.unpack_from(hint, len(hint) - _PLACE.size)
    return book.recognise(script, branch, index)


def _hinted(script: bytes, found: PsbtInput | PsbtOutput, book: ScriptBook) -> WalletScript | None:
    """Return our script that equals `script` at a place where a hint points, at any index; or None.

    Only as many hints as the wallet has keys are looked at: they all name one place, and each place costs derivations.
    """
    derivations = (*found.derivations, *found.tap_derivations)
    hints = [path[-2:] for _, path in derivations[: len(book.wallet.keys)] if len(path) >= 2]
    for branch, index in dict.fromkeys(hints):
        if ours := book.recognise(script, branch, index):
            return ours
    return None


def _in_window(script: bytes, book: ScriptBook) -> WalletScript | None:
    """Return our script that equals `script`, on either branch inside the window of a wallet that gives no hints."""
    for branch in (RECEIVE, CHANGE):
        if place := book.find(script, branch, INPUT_GAP + 1):
            return book.script(*place)
    return None


def _in_change_window(script: bytes, book: ScriptBook, limits: ShapeLimits) -> WalletScript | None:
    """Return our change script that equals `script`; looks further than change may go, to name what went too far."""
    place = book.find(script, CHANGE, limits.highest_change_index + INPUT_GAP + 1)
    return book.script(*place) if place else None

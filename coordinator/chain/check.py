"""Would the network take this transaction? Consensus by libbitcoinkernel first, then the relay rules.

Needs no node: whoever calls brings the outputs that are spent. Every adapter of the port uses this one function.
"""

from __future__ import annotations

from collections.abc import Sequence

import pbk
from pbk.script import PrecomputedTransactionData

from coordinator.chain.relay import NextBlock, relay_check
from custody.errors import Refused
from custody.transaction import Transaction, TxOut, parse_transaction
from custody.units import MAX_MONEY_SATS

_NULL_TXID = bytes(32)


def check_transaction(raw: bytes, spent: Sequence[TxOut], at: NextBlock) -> Refused | None:
    """Return None if `raw` may enter block `at` and travel there, else the first rule it breaks (TX_...).

    Args:
        raw: signed transaction, network form.
        spent: the output behind each input, same order.
        at: the block it should enter.

    Raises:
        MalformedError: `raw` is not a transaction.
    """
    transaction = parse_transaction(raw)
    if len(spent) != len(transaction.inputs):
        return Refused("TX_INPUT_MISSING", f"{len(transaction.inputs)} spent outputs", f"{len(spent)}")
    return (
        _money_adds_up(transaction, spent)
        or _scripts_hold(raw, transaction, spent)
        or relay_check(transaction, spent, at)
    )


def _money_adds_up(transaction: Transaction, spent: Sequence[TxOut]) -> Refused | None:
    """CheckTransaction and CheckTxInputs of Core's tx_check.cpp and tx_verify.cpp, which the script check skips."""
    outpoints = [txin.outpoint for txin in transaction.inputs]
    if len(set(outpoints)) != len(outpoints):
        return Refused("TX_CONSENSUS", "each coin spent once", "one spent twice")
    if any(outpoint.txid == _NULL_TXID for outpoint in outpoints):
        return Refused("TX_CONSENSUS", "no coinbase", "an input without a previous transaction")
    paid, out = sum(output.amount for output in spent), sum(output.amount for output in transaction.outputs)
    if max(paid, out) > MAX_MONEY_SATS:
        return Refused("TX_CONSENSUS", f"at most {MAX_MONEY_SATS} sats", f"{max(paid, out)}")
    if paid < out:
        return Refused("TX_CONSENSUS", f"outputs of at most {paid} sats", f"{out}")
    return None


def _scripts_hold(raw: bytes, transaction: Transaction, spent: Sequence[TxOut]) -> Refused | None:
    kernel_tx = pbk.Transaction(raw)
    scripts = [pbk.ScriptPubkey(output.script) for output in spent]
    outputs = [pbk.TransactionOutput(script, o.amount) for script, o in zip(scripts, spent, strict=True)]
    shared = PrecomputedTransactionData(kernel_tx, outputs)
    for index, (script, output) in enumerate(zip(scripts, spent, strict=True)):
        # verify() answers False for a script that fails; it raises only for misuse.
        if not script.verify(output.amount, kernel_tx, shared, index, pbk.ScriptVerificationFlags.ALL):
            outpoint = transaction.inputs[index].outpoint
            return Refused("TX_CONSENSUS", f"input {index} to satisfy the script of {outpoint}", "it does not")
    return None

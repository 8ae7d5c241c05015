"""The complete transaction: verified signatures put where each template wants them, and read out of there again.

Nobody else's finaliser is used: those that exist verify nothing, or drop what they cannot place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from custody.errors import IntegrityError
from custody.facts import Facts
from custody.psbt import Psbt
from custody.signatures import Accepted, InputSignature
from custody.transaction import Transaction, TxIn
from custody.wallet import ScriptBook, WalletScript


def finalize(psbt: Psbt, facts: Facts, book: ScriptBook, accepted: Accepted) -> Transaction:
    """Return the signed transaction: m signatures on each input, in script order, and the scripts of the template.

    Raises:
        IntegrityError: NOT_COMPLETE.
    """
    if not accepted.is_complete:
        raise IntegrityError("NOT_COMPLETE", f"expected {accepted.threshold} cosigners, found {len(accepted.signed)}")
    signers = frozenset(sorted(accepted.signed)[: accepted.threshold])
    spends = list(zip(book.of(facts.inputs), accepted.by_input, strict=True))
    signed = psbt.transaction.with_witnesses([_witness(ours, filed, signers) for ours, filed in spends])
    if not any(ours.redeem_script for ours, _ in spends):
        return signed
    inputs = [
        TxIn(txin.outpoint, ours.script_sig, txin.sequence, txin.witness)
        for txin, (ours, _) in zip(signed.inputs, spends, strict=True)
    ]
    return replace(signed, inputs=tuple(inputs))


def signatures_in(txin: TxIn, script: WalletScript, threshold: int) -> tuple[bytes, ...] | None:
    """Return the `threshold` signatures of an input in script order, unverified, or None for another form than ours."""
    items, scripts = txin.witness[: -len(_scripts(script))], txin.witness[-len(_scripts(script)) :]
    if txin.script_sig != script.script_sig or scripts != _scripts(script):
        return None
    if script.leaf_hash:
        signatures = tuple(item for item in reversed(items) if item)
        return signatures if len(items) == len(script.order) and len(signatures) == threshold else None
    return items[1:] if len(items) == threshold + 1 and not items[0] else None


def _witness(script: WalletScript, filed: Mapping[int, InputSignature], signers: frozenset[int]) -> tuple[bytes, ...]:
    """Return what satisfies `script`; signers: cosigners that filed a signature, exactly as many as it asks for."""
    if script.leaf_hash:  # the first key's signature on top, an empty item for each key that did not sign (BIP-342)
        return (
            *[filed[at].signature if at in signers else b"" for at in reversed(script.order)],
            *_scripts(script),
        )
    # In front of them the item that OP_CHECKMULTISIG takes for nothing (BIP-147).
    return (b"", *[filed[at].signature for at in script.order if at in signers], script.witness_script)


def _scripts(script: WalletScript) -> tuple[bytes, ...]:
    """Return what ends the witness: the script, in taproot with its control block."""
    return (script.witness_script, script.control_block) if script.leaf_hash else (script.witness_script,)

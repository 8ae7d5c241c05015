"""Build our PSBT: everything in it that a signer, ours or a third party's, needs to prove what it signs (BIP-174, 371).

It chooses neither coins nor change; `coordinator.spending` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.claims import LEAF_VERSION_BYTE, ONLY_LEAF
from custody.psbt import Psbt, PsbtInput, PsbtOutput
from custody.psbt_fields import (
    IN_DERIVATION,
    IN_PREVIOUS,
    IN_REDEEM_SCRIPT,
    IN_SIGHASH,
    IN_TAP_DERIVATION,
    IN_TAP_INTERNAL_KEY,
    IN_TAP_LEAF,
    IN_TAP_ROOT,
    IN_WITNESS_SCRIPT,
    IN_WITNESS_UTXO,
    OUT_DERIVATION,
    OUT_REDEEM_SCRIPT,
    OUT_TAP_DERIVATION,
    OUT_TAP_INTERNAL_KEY,
    OUT_TAP_TREE,
    OUT_WITNESS_SCRIPT,
    Field,
    FieldMap,
)
from custody.reader import sized
from custody.scripts import NUMS
from custody.sighash import SIGHASH_ALL
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.wallet import CHANGE, ScriptBook, WalletScript

_ONE_LEAF = b"\x01"  # how many leaf hashes stand in front of a key's origin


@dataclass(frozen=True, slots=True)
class SpendableCoin:
    """A coin to spend. previous: the whole transaction that made it.  branch, index: of our script it pays."""

    outpoint: OutPoint
    previous: Transaction
    branch: int
    index: int


def build(
    book: ScriptBook, coins: Sequence[SpendableCoin], outputs: Sequence[TxOut], change: Sequence[tuple[int, int]] = ()
) -> Psbt:
    """Return our PSBT: version 2, locktime 0, every input replaceable, everything a signer needs to prove it.

    Args:
        book: the wallet's scripts.
        coins: in input order.
        outputs: in output order.
        change: (place among `outputs`, index on branch 1).
    """
    transaction = Transaction(2, tuple(TxIn(coin.outpoint) for coin in coins), tuple(outputs))
    places = dict(change)
    return Psbt(
        globals=FieldMap((Field(b"\0", transaction.serialize_stripped()),)),
        transaction=transaction,
        inputs=tuple(_build_input(coin, book) for coin in coins),
        outputs=tuple(
            PsbtOutput(_output_fields(book, book.script(CHANGE, places[at])) if at in places else ())
            for at in range(len(outputs))
        ),
    )


def _build_input(coin: SpendableCoin, book: ScriptBook) -> PsbtInput:
    spent = coin.previous.outputs[coin.outpoint.vout]
    script = book.script(coin.branch, coin.index)
    return PsbtInput(
        (
            _field(IN_PREVIOUS, coin.previous.serialize()),
            _field(IN_WITNESS_UTXO, spent.serialize()),
            *(_tap_input_fields(book, script) if script.leaf_hash else _input_fields(book, script)),
        )
    )


def _input_fields(book: ScriptBook, script: WalletScript) -> tuple[Field, ...]:
    redeem = (_field(IN_REDEEM_SCRIPT, script.redeem_script),) if script.redeem_script else ()
    return (
        _field(IN_SIGHASH, SIGHASH_ALL.to_bytes(4, "little")),
        *redeem,
        _field(IN_WITNESS_SCRIPT, script.witness_script),
        *_origins(book, script, IN_DERIVATION),
    )


def _tap_input_fields(book: ScriptBook, script: WalletScript) -> tuple[Field, ...]:
    """BIP-371; no sighash type, which means SIGHASH_DEFAULT."""
    return (
        Field(bytes([IN_TAP_LEAF]) + script.control_block, script.witness_script + LEAF_VERSION_BYTE),
        *_origins(book, script, IN_TAP_DERIVATION, _ONE_LEAF + script.leaf_hash),
        _field(IN_TAP_INTERNAL_KEY, NUMS),
        _field(IN_TAP_ROOT, script.leaf_hash),
    )


def _output_fields(book: ScriptBook, script: WalletScript) -> tuple[Field, ...]:
    if script.leaf_hash:
        return (
            _field(OUT_TAP_INTERNAL_KEY, NUMS),
            _field(OUT_TAP_TREE, ONLY_LEAF + sized(script.witness_script)),
            *_origins(book, script, OUT_TAP_DERIVATION, _ONE_LEAF + script.leaf_hash),
        )
    redeem = (_field(OUT_REDEEM_SCRIPT, script.redeem_script),) if script.redeem_script else ()
    return (*redeem, _field(OUT_WITNESS_SCRIPT, script.witness_script), *_origins(book, script, OUT_DERIVATION))


def _origins(book: ScriptBook, script: WalletScript, kind: int, before: bytes = b"") -> tuple[Field, ...]:
    """Return where each key comes from, in the order of the keys. before: what stands in front of the origin."""
    pairs = sorted(zip(script.pubkeys, book.wallet.keys, strict=True), key=lambda pair: pair[0])
    place = script.branch.to_bytes(4, "little") + script.index.to_bytes(4, "little")
    return tuple(Field(bytes([kind]) + pubkey, before + key.origin + place) for pubkey, key in pairs)


def _field(kind: int, value: bytes) -> Field:
    return Field(bytes([kind]), value)

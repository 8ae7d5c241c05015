"""Target: the PSBT codec beside libwally and rust-bitcoin (in bdk): who accepts what, and what it then says.

What all accept has one transaction, the same amounts, and comes back with the same fields. Other differences must
stand in the reviewed list of `tests.fuzz.differences`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import bdkpython
import wallycore

from custody.errors import MalformedError
from custody.psbt import Psbt, parse
from custody.psbt_fields import GLOBAL, INPUT, OUTPUT, FieldMap
from custody.transaction import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from custody.units import Sats
from tests.fuzz import psbts
from tests.fuzz.differences import our_refusal_reason, place_of, rewrite_reason, their_refusal_reason
from tests.fuzz.oddities import odd_index
from tests.fuzz.parse import CODES
from tests.fuzz.psbts import own, vectors
from tests.fuzz.refusal import attempt
from tests.fuzz.target import ByteMutator

STRICT = wallycore.WALLY_PSBT_PARSE_FLAG_STRICT
REDUNDANT = wallycore.WALLY_PSBT_SERIALIZE_FLAG_REDUNDANT  # else it drops fields of inputs that are final


def seeds() -> Iterator[bytes]:
    """Yield official vectors and PSBTs of our builder."""
    yield from vectors()
    yield from own()


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with its maps changed."""
    return psbts.mutate(raw, random, mutate_bytes)


def check(raw: bytes) -> None:
    """Read `raw` three times; fail on a difference that nobody has reviewed."""
    ours = attempt(lambda: parse(raw), CODES, len(raw))
    unreviewed = [told for told in differences(raw, ours) if told]
    assert not unreviewed, unreviewed


def differences(raw: bytes, ours: Psbt | MalformedError) -> Iterator[str]:
    """Yield each difference that has no reviewed reason, in words."""
    for name, read in (("wally", _by_wally), ("bdk", _by_bdk)):
        theirs = read(raw)
        if isinstance(theirs, str):
            if isinstance(ours, Psbt) and not their_refusal_reason(name, theirs, ours):
                yield f"{name} refuses what we accept: {theirs}"
        elif isinstance(ours, MalformedError):
            if not our_refusal_reason(name, ours, raw):
                yield f"{name} accepts what we refuse: {ours.code} in {place_of(raw, ours)}, {ours.message}"
        else:
            yield from _compare(name, theirs, ours)


@dataclass(frozen=True, slots=True)
class Seen:
    """What another reader says, asked only where we accept too.

    transaction: the unsigned one, or its txid.  amount: sats that one input spends; asked only where we know them.
    written: the PSBT as it writes it.
    """

    transaction: Callable[[], Transaction | bytes]
    amount: Callable[[int], int]
    written: Callable[[], bytes]


def _compare(name: str, theirs: Seen, ours: Psbt) -> Iterator[str]:
    """Transaction and amounts have no list: there, every difference is a fault of somebody."""
    transaction, written = theirs.transaction(), theirs.written()
    if transaction not in (ours.transaction, ours.transaction.txid) and not (name == "wally" and odd_index(ours)):
        yield f"{name} sees transaction {transaction!r}"
    for at, own_amount in enumerate(_amounts(ours)):
        if own_amount is not None and (amount := theirs.amount(at)) != own_amount:
            yield f"{name} sees {amount} sats in input {at}, we {own_amount}"
    again = attempt(lambda: parse(written), CODES, len(written))
    if isinstance(again, MalformedError):
        yield f"{name} writes what we refuse: {again}"
        return
    for (where, before), (_, after) in zip(_maps(ours), _maps(again), strict=True):
        for key in sorted({key for key, _ in before.items() ^ after.items()}):
            if not rewrite_reason(name, (where, key[0]), before.get(key), after.get(key)):
                yield f"{name} rewrites {where} field {key.hex()}: {before.get(key)!r} -> {after.get(key)!r}"


def _amounts(ours: Psbt) -> list[int | None]:
    """Return what each input spends; None where it does not say, or says two things, which `read_facts` refuses."""
    found: list[int | None] = []
    for said, txin in zip(ours.inputs, ours.transaction.inputs, strict=True):
        claims = {each.amount for each in (said.spends(txin.outpoint), said.witness_utxo) if each is not None}
        found.append(claims.pop() if len(claims) == 1 else None)
    return found


def _maps(psbt: Psbt) -> list[tuple[str, dict[bytes, bytes]]]:
    """Return each map's kind and its values by key."""
    found: list[tuple[str, FieldMap]] = [(GLOBAL, psbt.globals)]
    found += [(INPUT, each) for each in psbt.inputs]
    found += [(OUTPUT, each) for each in psbt.outputs]
    return [(where, dict(each.values)) for where, each in found]


def _by_wally(raw: bytes) -> Seen | str:
    try:
        psbt = wallycore.psbt_from_bytes(raw, STRICT)
    except ValueError as error:
        return str(error)
    return Seen(
        partial(_wally_transaction, psbt),
        partial(_wally_amount, psbt),
        lambda: bytes(wallycore.psbt_to_bytes(psbt, REDUNDANT)),
    )


def _wally_transaction(psbt: Any) -> Transaction | bytes:
    """Return the txid of a version 0 PSBT, the whole transaction of its fields of a version 2 one."""
    if wallycore.psbt_get_version(psbt) == 0:
        return bytes(wallycore.tx_get_txid(wallycore.psbt_get_global_tx(psbt)))
    inputs = tuple(
        TxIn(
            OutPoint(
                bytes(wallycore.psbt_get_input_previous_txid(psbt, at)),
                wallycore.psbt_get_input_output_index(psbt, at),
            ),
            b"",
            wallycore.psbt_get_input_sequence(psbt, at),
        )
        for at in range(_inputs(psbt))
    )
    outputs = tuple(
        TxOut(
            Sats(wallycore.psbt_get_output_amount(psbt, at)),
            bytes(wallycore.psbt_get_output_script(psbt, at)),
        )
        for at in range(wallycore.psbt_get_num_outputs(psbt))
    )
    return Transaction(wallycore.psbt_get_tx_version(psbt), inputs, outputs, wallycore.psbt_get_locktime(psbt))


def _inputs(psbt: Any) -> int:
    return int(wallycore.psbt_get_num_inputs(psbt))


def _wally_amount(psbt: Any, at: int) -> int:
    return int(wallycore.tx_output_get_satoshi(wallycore.psbt_get_input_best_utxo(psbt, at)))


def _by_bdk(raw: bytes) -> Seen | str:
    try:
        psbt = bdkpython.Psbt(base64.b64encode(raw).decode())
    except bdkpython.PsbtParseError as error:
        return str(error)
    return Seen(partial(_bdk_txid, psbt), partial(_bdk_amount, psbt), lambda: base64.b64decode(psbt.serialize()))


def _bdk_txid(psbt: bdkpython.Psbt) -> bytes:
    """It gives the transaction only with the final scripts that stand in the PSBT: they are taken out again."""
    return parse_transaction(bytes(psbt.extract_tx_unchecked_fee_rate().serialize())).unsigned().txid


def _bdk_amount(psbt: bdkpython.Psbt, at: int) -> int:
    return int(json.loads(psbt.spend_utxo(at))["value"])  # it ends the whole process where there is none

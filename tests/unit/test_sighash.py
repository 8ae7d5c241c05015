"""BIP-143 digests against the BIP's own examples and libwally."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wallycore as wally

from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import Psbt, parse, serialize
from custody.scripts import Template
from custody.sighash import segwit_digests, taproot_digests
from custody.signatures import sighashes
from custody.transaction import OutPoint, parse_transaction
from custody.units import Sats
from tests.fakes.psbts import facts_of, spend, spent_outputs
from tests.fakes.spends import bip143_digest
from tests.fakes.templates import BOOKS
from tests.world import World, make_genesis

EXAMPLES: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors/bip143/vectors.json").read_text()
)["examples"]


def sats(text: str) -> int:
    """Return an amount in coins as sats."""
    whole, _, part = text.partition(".")
    return int(whole) * 100_000_000 + int(part.ljust(8, "0") or "0")


def test_segwit_digests_given_bip143_examples_are_theirs() -> None:
    """The three of SIGHASH_ALL: P2WPKH, P2SH-P2WPKH, P2SH-P2WSH multisig; the other types are never made."""
    for number, script, at in (
        (0, "76a9141d0f172a0ecb48aee1be1f2687d2963ae33f71a188ac", 1),
        (1, "76a91479091972186c449eb1ded22b78e40d009bdf008988ac", 0),
        (3, EXAMPLES[3]["witness_scripts"][0], 0),
    ):
        example = EXAMPLES[number]
        transaction = parse_transaction(bytes.fromhex(example["unsigned"][0]))
        amount = sats(example["inputs"][at][1])

        digests = segwit_digests(transaction, [(bytes.fromhex(script), amount)] * len(transaction.inputs))

        assert digests[at].hex() == example["sighashes"][0]


def test_sighashes_given_our_spend_are_those_of_a_second_implementation() -> None:
    """Two inputs on two scripts, each with its own amount and script code."""
    world = World(make_genesis())
    spend = world.spend(world.withdrawal(), [world.coin(0), world.coin(1, 70_000_000, 1, 5)])
    psbt = parse(spend.psbt)
    facts = read_facts(psbt, world.book, ShapeLimits())
    assert isinstance(facts, Facts)
    assert serialize(psbt) == spend.psbt

    found = sighashes(psbt, facts, world.book)

    scripts = [world.book.script(0, 0).witness_script, world.book.script(1, 5).witness_script]
    expected = [
        bip143_digest(psbt.transaction, at, scripts[at], amount) for at, amount in enumerate((50_000_000, 70_000_000))
    ]
    assert list(found) == expected


def taproot_by_wally(psbt: Psbt, at: int, leaf: bytes) -> bytes:
    """Return libwally's digest of one input: script path, SIGHASH_DEFAULT, no annex."""
    spent = spent_outputs(psbt)
    scripts, values = wally.map_init(len(spent), None), [output.amount for output in spent]
    for place, output in enumerate(spent):
        wally.map_add_integer(scripts, place, output.script)
    transaction = wally.tx_from_bytes(psbt.transaction.serialize_stripped(), 0)
    return bytes(
        wally.tx_get_btc_taproot_signature_hash(transaction, at, scripts, values, leaf, 0, 0xFFFFFFFF, None, 0, 0)
    )


@pytest.mark.parametrize("template", [Template.TR, Template.TR_SORTED])
def test_sighashes_given_a_taproot_spend_are_those_of_libwally(template: Template) -> None:
    """Three inputs on three scripts, over both branches, with change."""
    book = BOOKS[template]
    psbt = spend(3, book=book)
    facts = facts_of(psbt, book)

    found = sighashes(psbt, facts, book)

    leaves = [book.script(fact.branch, fact.index).witness_script for fact in facts.inputs]
    assert list(found) == [taproot_by_wally(psbt, at, leaf) for at, leaf in enumerate(leaves)]


def test_taproot_digests_given_any_change_of_what_is_signed_differ() -> None:
    """Version, locktime, any outpoint, sequence, amount, script or output, the leaf: BIP-341 covers them all."""
    book = BOOKS[Template.TR]
    psbt = spend(2, book=book)
    transaction, spent = psbt.transaction, list(spent_outputs(psbt))
    leaves = [book.script(fact.branch, fact.index).leaf_hash for fact in facts_of(psbt, book).inputs]
    first, second = transaction.inputs
    digests = set(taproot_digests(transaction, spent, leaves))
    others = [
        taproot_digests(replace(transaction, version=1), spent, leaves),
        taproot_digests(replace(transaction, locktime=1), spent, leaves),
        taproot_digests(replace(transaction, inputs=(first, replace(second, sequence=0))), spent, leaves),
        taproot_digests(
            replace(transaction, inputs=(first, replace(second, outpoint=OutPoint(bytes(32), 0)))), spent, leaves
        ),
        taproot_digests(replace(transaction, outputs=transaction.outputs[::-1]), spent, leaves),
        taproot_digests(transaction, [spent[0], replace(spent[1], amount=Sats(1))], leaves),
        taproot_digests(transaction, [spent[0], replace(spent[1], script=b"\x51")], leaves),
        taproot_digests(transaction, spent, [leaf[::-1] for leaf in leaves]),
    ]

    assert len(digests) == 2
    for other in others:
        assert not digests & set(other)
    signed = replace(first, witness=(bytes(64),), script_sig=b"\x51")
    assert set(taproot_digests(replace(transaction, inputs=(signed, second)), spent, leaves)) == digests

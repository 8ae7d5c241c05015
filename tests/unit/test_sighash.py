"""BIP-143 digests against the BIP's own examples and libwally."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import parse, serialize
from custody.sighash import segwit_digests
from custody.signatures import sighashes
from custody.transaction import parse_transaction
from tests.fakes.spends import bip143_digest
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

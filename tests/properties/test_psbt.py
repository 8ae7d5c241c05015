"""Mutations of a valid PSBT: what is still accepted says the same thing, and nothing but a refusal comes out.

Each bit flipped, each truncation, 00 and ff put in at each offset, entries moved between maps. A mutation passes where
the field is a hint by which nothing is decided (derivations), or where it makes another transaction that says so; txid,
amounts, scripts and sighashes never differ unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from custody.errors import MalformedError, Refused
from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import convert, parse, serialize
from custody.signatures import sighashes
from custody.transaction import TxOut
from tests.fakes.psbts import BOOK, RawPsbt, valid

RAWS = {version: serialize(convert(valid(), version)) for version in (0, 2)}
VERSIONS = pytest.mark.parametrize("raw", RAWS.values(), ids=RAWS)


def bit_flips(raw: bytes) -> Iterator[bytes]:
    """Yield `raw` with each single bit flipped: 8 per byte."""
    for at, byte in enumerate(raw):
        for bit in range(8):
            yield raw[:at] + bytes([byte ^ 1 << bit]) + raw[at + 1 :]


def truncations(raw: bytes) -> Iterator[bytes]:
    """Yield every shorter beginning of `raw`."""
    return (raw[:size] for size in range(len(raw)))


def insertions(raw: bytes) -> Iterator[bytes]:
    """Yield `raw` with 00 or ff put in at every offset, the end included."""
    return (raw[:at] + byte + raw[at:] for at in range(len(raw) + 1) for byte in (b"\x00", b"\xff"))


def meaning(raw: bytes) -> tuple[Facts, tuple[TxOut, ...], tuple[bytes, ...]] | str:
    """Return what `raw` does: facts, outputs, sighashes; or the code of its refusal. Anything else escapes."""
    try:
        psbt = parse(raw)
    except MalformedError as error:
        return error.code
    assert serialize(psbt) == raw
    facts = read_facts(psbt, BOOK, ShapeLimits())
    if isinstance(facts, Refused):
        return facts.code
    return facts, psbt.transaction.outputs, sighashes(psbt, facts, BOOK)


ORIGINAL = meaning(RAWS[0])


def test_meaning_given_the_original_is_proven() -> None:
    """The PSBT that is mutated below has two inputs, a payment and change; both versions of it say the same."""
    assert meaning(RAWS[2]) == ORIGINAL
    assert not isinstance(ORIGINAL, str)
    facts, outputs, digests = ORIGINAL
    assert (len(facts.inputs), len(outputs), len(digests)) == (2, 2, 2)


@VERSIONS
def test_parse_given_every_truncation_refuses(raw: bytes) -> None:
    """A PSBT that lost its tail is no PSBT."""
    assert all(isinstance(meaning(cut), str) for cut in truncations(raw))


@VERSIONS
def test_parse_given_every_insertion_says_the_same_or_refuses(raw: bytes) -> None:
    """One byte more never changes what is done unseen."""
    found = [meaning(mutant) for mutant in insertions(raw)]

    assert all(isinstance(each, str) or each == ORIGINAL for each in found)


@VERSIONS
def test_parse_given_every_bit_flip_says_the_same_pays_others_or_refuses(raw: bytes) -> None:
    """Where a flip makes another transaction, its facts show it and no digest of it is one of the original.

    What was asked then no longer matches (`check_matches`): a signer compares, it does not repair.
    """
    assert not isinstance(ORIGINAL, str)
    original_facts, _, original_digests = ORIGINAL
    told = Counter[str]()
    for mutant in bit_flips(raw):
        found = meaning(mutant)
        if isinstance(found, str):
            told[found] += 1
            continue
        facts, _, digests = found
        if facts.txid == original_facts.txid:
            assert found == ORIGINAL
            told["same"] += 1
            continue
        assert facts.inputs == original_facts.inputs
        assert (facts.payments, facts.fee_sats, facts.locktime) != (
            original_facts.payments,
            original_facts.fee_sats,
            original_facts.locktime,
        )
        assert not set(digests) & set(original_digests)
        told["other transaction"] += 1

    assert sum(told.values()) == 8 * len(raw)
    assert {"AMOUNT_LIE", "PREVIOUS_MISMATCH", "WITNESS_SCRIPT", "SIGHASH_TYPE", "SEQUENCE"} <= set(told)


@pytest.mark.parametrize("version", RAWS)
def test_parse_given_map_entries_swapped_says_the_same_or_refuses(version: int) -> None:
    """The order inside a map means nothing; an entry moved to another map is refused or changes nothing."""
    raw = RawPsbt.of(convert(valid(), version))
    maps = [raw.globals, *raw.inputs, *raw.outputs]
    for source in maps:
        for at in range(len(source)):
            for target in maps:
                entry = source.pop(at)
                target.insert(0, entry)
                found = meaning(raw.to_bytes())
                assert found == ORIGINAL or isinstance(found, str)
                assert target is not source or found == ORIGINAL
                source.insert(at, target.pop(0))
    assert raw.to_bytes() == RAWS[version]

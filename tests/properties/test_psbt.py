"""Mutations of valid PSBTs: what is still accepted says the same thing, and nothing but a refusal comes out.

Eight seeds in both versions; of all but the first a sample of places, another one for each seed. Twenty seeds at all
places: `python3 dev.py soak psbt`.
"""

from __future__ import annotations

import pytest

from tests.properties.mutations import MUTATIONS, OTHER, SAME, VERSIONS, case_of, outcomes

SEEDS = range(8)
EVERY = 7  # the whole of it takes minutes


@pytest.mark.parametrize("seed", SEEDS)
def test_meaning_given_either_version_is_the_same_and_proven(seed: int) -> None:
    """What is mutated below has coins, payments and a sighash for each coin."""
    first, second = (case_of(seed, version) for version in VERSIONS)

    assert first.original == second.original == second.meaning(second.raw)
    facts, outputs, digests = first.original
    assert len(digests) == len(facts.inputs) >= 1
    assert len(outputs) == len(facts.payments) + len(facts.change) >= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_parse_given_every_bit_flip_of_one_psbt_tells_each_lie_by_its_code(version: int) -> None:
    """Where a flip makes another transaction, its facts show it and no digest of it is one of the original.

    What was asked then no longer matches (`check_matches`): a signer compares, it does not repair.
    """
    case = case_of(0, version)

    told = outcomes(case, "bit flips")

    assert told.total() == 8 * len(case.raw)
    assert {"AMOUNT_LIE", "PREVIOUS_MISMATCH", "WITNESS_SCRIPT", "SIGHASH_TYPE", "SEQUENCE", SAME, OTHER} <= set(told)


@pytest.mark.parametrize("version", VERSIONS)
def test_parse_given_every_truncation_of_one_psbt_refuses(version: int) -> None:
    """A PSBT that lost its tail is no PSBT."""
    told = outcomes(case_of(0, version), "truncations")

    assert not {SAME, OTHER} & set(told)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["insertions", "swaps"])
def test_parse_given_every_insertion_or_swap_of_one_psbt_never_makes_another_transaction(
    kind: str, version: int
) -> None:
    """One byte more never changes what is done; the order inside a map means nothing."""
    told = outcomes(case_of(0, version), kind)

    assert OTHER not in told
    assert kind != "swaps" or told[SAME] > 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", SEEDS[1:])
def test_parse_given_a_sample_of_each_mutation_says_the_same_pays_others_or_refuses(seed: int, version: int) -> None:
    """Other quorums, templates, numbers of coins and payments, with and without change."""
    case = case_of(seed, version)

    told = {kind: outcomes(case, kind, slice(seed, None, EVERY)) for kind in MUTATIONS}

    assert all(counted.total() > 0 for counted in told.values())
    assert not {SAME, OTHER} & set(told["truncations"])

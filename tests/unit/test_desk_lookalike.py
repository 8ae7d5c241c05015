"""Addresses that look like known ones: poisoned, mistyped, and those that only share a beginning."""

from __future__ import annotations

import pytest

from console.desk.lookalike import lookalike_of

KNOWN = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"


@pytest.mark.parametrize(
    ("address", "is_alike"),
    [
        (KNOWN, False),
        (KNOWN.upper(), False),
        ("bc1qar0s9876543210xxxxxxxxxxxxxxxxxxxf5mdq", True),  # same ends, as poisoners make them
        (KNOWN[:20] + "zz" + KNOWN[22:], True),  # two characters in the middle
        ("bc1qar0s9876543210xxxxxxxxxxxxxxxxxxxxxxxxx", False),  # the beginning alone
        ("bc1qzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzf5mdq", False),  # the end alone
    ],
)
def test_address_when_its_ends_or_nearly_all_are_those_of_a_known_one_then_is_a_lookalike(
    address: str, is_alike: bool
) -> None:
    """Being the known one, in whatever case, is not looking like it."""
    assert (lookalike_of(address, (KNOWN,)) == KNOWN) is is_alike

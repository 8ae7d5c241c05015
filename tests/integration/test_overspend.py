"""64 withdrawals at once, one budget, one set of coins: thirty rounds, and never a sat above the budget."""

from __future__ import annotations

import pytest

from tests.integration.overspend import AMOUNT_SATS, PARALLEL, ROOM, rounds

pytestmark = pytest.mark.slow
ROUNDS = 30


async def test_budget_given_64_at_once_is_never_overspent_by_the_coordinator_or_any_signers_together() -> None:
    """What is released is within, and so is what all signers signed, whichever pair signed which; the room is used."""
    found = [each async for each in rounds(ROUNDS)]

    assert len(found) == ROUNDS
    assert all(each.is_within for each in found), found
    assert all(each.proposed > ROOM for each in found), f"expected more than {ROOM} of {PARALLEL} to get to the rules"
    assert all(each.signed > (ROOM - 1) * AMOUNT_SATS for each in found), found

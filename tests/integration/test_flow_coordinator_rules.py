"""Rules over what the coordinator alone can say: it measures what it can, and denies what it cannot know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.session import Stage
from tests.fakes.rules import PAY, rule
from tests.integration.harness import close, genesis_of, organise

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("match", "stage"),
    [
        ({"not": {"min_confirmations": 100}}, Stage.SIGNING),
        ({"not": {"min_confirmations": 10_000}}, Stage.DENIED),
        ({"not": {"pct_of_wallet": {"max_pct": 1}}}, Stage.SIGNING),
        ({"not": {"pct_of_wallet": {"max_pct": 0}}}, Stage.DENIED),
        ({"not": {"session": {"factors": ["otp"]}}}, Stage.DENIED),
        ({"not": {"chain": {"max_lag_blocks": 9}}}, Stage.DENIED),
        ({"time": {"hours": [1], "zone": "Asia/Tokyo"}}, Stage.DENIED),
    ],
)
async def test_rule_of_the_coordinator_given_what_it_measures_or_cannot_know(
    match: dict[str, Any], stage: Stage, tmp_path: Path
) -> None:
    """Four coins of 50 BTC, the newest 101 blocks deep; no session, no lag and no zones are kept."""
    org = await organise(genesis_of(PAY, rule("told", "deny", match)), tmp_path)
    try:
        assert await org.propose(org.withdrawal()) is stage
    finally:
        await close(org)

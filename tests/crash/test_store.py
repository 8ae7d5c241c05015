"""SIGKILL the process that writes the store under load: every acknowledged commit is there, trees and state agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.kills import kills

KILLS = 25  # `dev.py soak kills` makes a thousand


@pytest.mark.slow
def test_store_when_killed_under_load_then_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """Each time: the check at opening passes, acknowledged entries stand where told, sessions match the logs."""
    acknowledged = list(kills(tmp_path, KILLS, seed=7))

    assert len(acknowledged) == KILLS
    assert sum(acknowledged) > KILLS

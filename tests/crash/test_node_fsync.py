"""SIGKILL a signer node at each of its fsyncs: it pays no withdrawal twice, forgets no count, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.node_kills import Death, node_kills

KILLS = 25  # `dev.py soak node_kills` makes a thousand


@pytest.mark.slow
def test_node_when_killed_at_each_fsync_then_pays_once_and_counts_all(tmp_path: Path) -> None:
    """Each time: what it signed is journalled and counted after its restart, and the other history is refused."""
    found = list(node_kills(tmp_path, KILLS))

    assert len(found) == KILLS
    torn = {each.order.at for each in found if each.order.death is Death.TORN}
    assert torn >= set(range(1, 13)), "expected the fsyncs of opening, vouching, following, signing and answering"

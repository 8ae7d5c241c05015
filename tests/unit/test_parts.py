"""Turns: the same key waits, another does not, and nothing is kept for keys that nobody uses."""

from __future__ import annotations

import gc

from coordinator.parts import Turns


async def test_turns_when_the_same_key_is_held_then_others_wait_and_another_key_does_not() -> None:
    """One withdrawal's stages run one after the other; two withdrawals do not hold each other up."""
    turns = Turns()
    async with turns[b"a"]:
        assert turns[b"a"].locked()
        assert not turns[b"b"].locked()
    assert not turns[b"a"].locked()


async def test_turns_when_nobody_holds_a_key_then_it_is_forgotten() -> None:
    """Digests that a client makes up cost no memory."""
    turns = Turns()
    for number in range(1_000):
        async with turns[number.to_bytes(32, "big")]:
            pass
    gc.collect()
    assert len(turns._locks) <= 1

"""All the lies, by the part of protocol.md that they are about."""

from __future__ import annotations

from tests.lies import coins, log, mine, once, people, rules
from tests.lies.told import Lie

CHAPTERS: dict[str, tuple[Lie, ...]] = {
    "Whose bundle it is, and its bytes (step 0)": mine.LIES,
    "Rules, freezes, delays and budgets (steps 1 and 6)": rules.LIES,
    "The log and its witnesses (step 2)": log.LIES,
    "Coins, outputs and fees (steps 3 and 4)": coins.LIES,
    "Who asked, who agreed, who signs first (step 5)": people.LIES,
    "Not a second payment (step 7)": once.LIES,
}
LIES: dict[str, Lie] = {lie.name: lie for lies in CHAPTERS.values() for lie in lies}

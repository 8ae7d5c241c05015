"""What a judge knows from its own machine, whatever anybody tells it."""

from __future__ import annotations

from dataclasses import dataclass

from custody.genesis import Genesis


@dataclass(frozen=True, slots=True)
class Pinned:
    """What this node knows from its own machine: the genesis it pinned and its name in it.

    wallets: digests (32 bytes) of the documents of later wallets that were pinned here.
    """

    genesis: Genesis
    node: str
    wallets: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Moment:
    """This machine's clock and the largest `lo` it ever accepted, UTC seconds."""

    now: int
    high_water: int

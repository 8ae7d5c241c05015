"""The small world on the real clock: for what runs in processes of its own and reads the time by itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from custody.bundle import Bundle, parse_bundle
from custody.follow import start
from custody.genesis import Genesis
from custody.units import Sats
from signer_node.judge import Cleared, Moment, Pinned, judge
from tests.fakes.rules import DAY, PAY, document
from tests.world import Spend, World, make_genesis

_COIN_NUMBERS = 250  # `World.coin` has one transaction for each


def genesis_of_today(*rules: Mapping[str, Any], **changes: Any) -> Genesis:
    """Return a genesis whose rules and people are in office on the real clock, which the program reads."""
    now = int(time.time())
    principals = document()["principals"]
    for principal in (*principals["users"], *principals["services"]):
        principal["valid_until"] = now + 365 * DAY
    in_office = {"principals": principals, "effective_from": now - DAY, "not_after": now + 30 * DAY}
    return make_genesis(*(rules or (PAY,)), **in_office, **changes)


@dataclass
class Today:
    """A world that asks for one small payment after the other, each valid now."""

    genesis: Genesis
    asked: int = 0
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(self.genesis, now=int(time.time()))

    def spend(self, inputs: int = 1) -> Spend:
        """Return a new payment from `inputs` coins; its release is not in the log yet."""
        self.asked += 1
        world = self.world
        world.now = int(time.time())
        fee = 2_000 * inputs
        changes = {"withdrawal_id": f"w-{self.asked}", "max_fee_sats": Sats(10 * fee)}
        asked = world.withdrawal((11, 50_000 + self.asked), **changes)
        at = [(self.asked * inputs + n) % _COIN_NUMBERS for n in range(inputs)]
        return world.spend(asked, [world.coin(number, branch=number % 2, index=number // 2) for number in at], fee)

    def bundle(self, node: str = "alpha", inputs: int = 1) -> Bundle:
        """Return the bundle of a new payment, as it arrives."""
        return arrived(self.spend(inputs).bundle(node=node))

    def cleared(self, node: str = "alpha", inputs: int = 1) -> Cleared:
        """Return what the judge of `node` makes of the bundle of a new payment."""
        return self.judged(self.bundle(node, inputs), node)

    def judged(self, bundle: Bundle, node: str = "alpha") -> Cleared:
        """Return what the judge of `node` makes of `bundle`."""
        now = int(time.time())
        pinned = Pinned(self.genesis, node)
        outcome = judge(bundle, pinned, start(self.genesis), Moment(now, now), (), self.world.book).outcome
        assert isinstance(outcome, Cleared), outcome
        return outcome


def arrived(bundle: Bundle) -> Bundle:
    """Return `bundle` as its receiver reads it."""
    return parse_bundle(bundle.to_bytes())

"""What the coordinator does to the world, by name: the crash matrix kills it before and after each of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum


class Effect(Enum):
    """One durable or visible act of the coordinator."""

    PROPOSE = "propose"
    APPROVE = "approve"
    STOP = "stop"
    RELEASE = "release"
    COSIGN = "cosign"
    HAND_OUT = "hand_out"
    TAKE = "take"
    FINALISE = "finalise"
    BROADCAST = "broadcast"
    RECORD_BROADCAST = "record_broadcast"
    CONFIRM = "confirm"


class Side(Enum):
    """Where a hook stands relative to its effect."""

    BEFORE = "before"
    AFTER = "after"


Hook = Callable[[Effect, Side], None]


def no_hook(effect: Effect, side: Side) -> None:
    """Do nothing: what runs outside tests."""


@contextmanager
def around(hook: Hook, effect: Effect) -> Iterator[None]:
    """Run the body as `effect`, with the hook on both sides; a failing body skips the second."""
    hook(effect, Side.BEFORE)
    yield
    hook(effect, Side.AFTER)

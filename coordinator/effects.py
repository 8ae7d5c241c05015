"""What the coordinator does to the world, by name: the crash matrix kills it before and after each of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum


class Effect(Enum):
    """One durable or visible act of the coordinator."""

    PROPOSE = "propose"
    REFUSE = "refuse"
    APPROVE = "approve"
    STOP = "stop"
    NOTICE = "notice"
    RELEASE = "release"
    COSIGN = "cosign"
    VOUCH = "vouch"
    ASK = "ask"
    HAND_OUT = "hand_out"
    EXPORT = "export"
    IMPORT = "import"
    TAKE = "take"
    RECORD_LATE = "record_late"
    FILE_REFUSAL = "file_refusal"
    FINALISE = "finalise"
    BROADCAST = "broadcast"
    RECORD_BROADCAST = "record_broadcast"
    CONFIRM = "confirm"
    END = "end"
    LOG_STATEMENT = "log_statement"


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

"""Proofs of life on schedule: once a week, and not at once after a start, when a node has other things to do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from custody.alive import NONCE_BYTES
from custody.errors import CustodyError
from custody.statements import Signed
from signer_node.clock import Clock
from signer_node.node import Node
from signer_node.records import replace_durably

EVERY_S = 7 * 86_400  # a dozen chances before a key counts as unproven
LOOK_S = 3_600
FIRST_LOOK_S = 60
STAMP_FILE = "proven_at"
log = structlog.get_logger("signer_node")


class Schedule:
    """When this node proved its key last, in a file beside its state."""

    def __init__(self, state: Path, clock: Clock) -> None:
        self._path, self._clock = state / STAMP_FILE, clock

    @property
    def is_due(self) -> bool:
        """Whether a week has passed; a stamp that cannot be read means yes."""
        text = self._path.read_text().strip() if self._path.exists() else ""
        return not text.isdigit() or not 0 <= self._clock.now() - int(text) < EVERY_S

    def done(self) -> None:
        """Remember that the key was proven now."""
        replace_durably(self._path, str(self._clock.now()).encode())


async def prove_for_ever(node: Node, schedule: Schedule, report: Callable[[Signed], Awaitable[None]]) -> None:
    """Prove the key whenever it is due, and hand the proof to `report`; what fails is tried again in an hour."""
    await asyncio.sleep(FIRST_LOOK_S)
    while True:
        if schedule.is_due:
            await prove(node, schedule, report)
        await asyncio.sleep(LOOK_S)


async def prove(node: Node, schedule: Schedule, report: Callable[[Signed], Awaitable[None]]) -> None:
    """Prove the key once; a proof that could not be made or handed over is logged and due again."""
    name = node.pinned.node
    try:
        await report(await node.prove_alive(os.urandom(NONCE_BYTES)))
    except CustodyError as error:
        log.warning("key.unproven", node=name, code=error.code)
        return
    schedule.done()
    log.info("key.proven", node=name)

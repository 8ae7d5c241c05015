"""Hand in what nobody may withhold: to the coordinator and to every witness at once, and say how far it got.

Done is what no coordinator can keep from signers any more: W - w + 1 witnesses gave a receipt, or w of them vouched for
a money log that has it. Both are judged here, under the pinned keys.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from console.cli.office import Office

if TYPE_CHECKING:
    from console.posting import Delivery
    from custody.canonical import Json
    from custody.errors import CustodyError
    from custody.statements import Signed

T = TypeVar("T")
WAIT_SECONDS = 20.0  # nodes that witness dial every 5 s: receipts and the log are both waited for as long
AGAIN_SECONDS = 1.0  # a fresh checkpoint comes at most so often


@dataclass(frozen=True, slots=True)
class Delivered(Generic[T]):
    """How far a statement got. answer: the coordinator's, None where it did not take it, for the reason `error`.

    receipts: of witnesses; None where the settings name none.  logged_by: whose cosignatures cover it in the log.
    """

    answer: T | None
    error: CustodyError | None
    receipts: Delivery | None
    logged_by: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether no coordinator can keep it from signers."""
        return bool(self.logged_by) or (self.receipts is not None and self.receipts.is_done)

    def to_json(self) -> Json:
        """Return it for programs; `missing` counts receipts."""
        value: dict[str, Json] = {"coordinator": "taken" if self.error is None else self.error.code}
        value |= {"done": self.is_done, "logged_by": list(self.logged_by)}
        if self.receipts is not None:
            posted = self.receipts.posted
            value |= {"receipts": list(posted.by), "needed": posted.needed, "missing": posted.missing}
            value["failures"] = [{"address": address, "code": code} for address, code in self.receipts.failures]
        return value

    def lines(self) -> list[str]:
        """Return it for people."""
        if self.logged_by:
            return [f"done: in the money log, for which {', '.join(self.logged_by)} vouched"]
        if self.receipts is None:
            return ["posted to no witness: your settings name none, so whether it reaches signers is not proven"]
        return [str(self.receipts), *(f"  {address}: {code}" for address, code in self.receipts.failures)]


async def deliver(office: Office, signed: Signed, send: Awaitable[T]) -> Delivered[T]:
    """Hand in `signed` by `send`, the coordinator's call, and by every witness of the settings; say how it went.

    Raises:
        CustodyError: what `send` raises, where the settings name no witness.
        UnavailableError: NOT_DELIVERED: neither the coordinator nor enough witnesses took it.
    """
    from custody.errors import UnavailableError

    if not office.config.witnesses:
        delivered = Delivered(await send, None, None)
    else:
        delivered = await _everywhere(office, signed, send)
    if delivered.error is not None and not delivered.is_done:
        told = "; ".join(line.strip() for line in delivered.lines())
        raise UnavailableError("NOT_DELIVERED", f"the coordinator: {delivered.error.code}; witnesses: {told}")
    if delivered.error is not None:
        office.output.warn(f"The coordinator did not take it: {delivered.error}")
    if not delivered.is_done:
        office.output.warn(*delivered.lines())
    return delivered


async def _everywhere(office: Office, signed: Signed, send: Awaitable[T]) -> Delivered[T]:
    # Plan: 1 all are asked at once · 2 the coordinator took it: then the log may prove it before receipts do.
    from console.channel import Address
    from console.posting import post_everywhere
    from console.tls import TlsFiles
    from custody.errors import CustodyError

    tls = office.config.tls
    files = TlsFiles(tls.certificate, tls.key, tls.ca)
    witnesses = [Address(witness.address, files) for witness in office.config.witnesses]
    roots, genesis = office.policy.roots, office.genesis.hash
    posting = asyncio.create_task(post_everywhere(signed, witnesses, roots, genesis, wait_s=WAIT_SECONDS))
    try:
        answer = await send
    except CustodyError as error:
        return Delivered(None, error, await posting)
    logged = asyncio.create_task(_logged_by(office, signed))
    await asyncio.wait({posting, logged}, return_when=asyncio.FIRST_COMPLETED)
    if posting.done() and posting.result().is_done:
        logged.cancel()
        return Delivered(answer, None, posting.result())
    if names := await logged:
        posting.cancel()
        return Delivered(answer, None, None, names)
    return Delivered(answer, None, await posting)


async def _logged_by(office: Office, signed: Signed) -> tuple[str, ...]:
    """Return who vouched for a money log in which `signed` counts; () where nobody did in time."""
    from custody.errors import CustodyError, UnavailableError
    from custody.follow import open_money_checkpoint
    from custody.held import is_moot

    ends = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < ends:
        try:
            followed = await office.followed()
        except UnavailableError:
            followed = None
        except CustodyError as error:
            office.output.warn(f"ALARM: the money log does not hold: {error}")
            return ()
        if followed is not None and is_moot(followed.state, signed, office.now):
            return tuple(sorted(name for name, _ in open_money_checkpoint(followed.state, followed.note).counted))
        await asyncio.sleep(AGAIN_SECONDS)
    return ()

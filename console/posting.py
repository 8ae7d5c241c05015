"""Leave a freeze, unfreeze, stop or rule document with witnesses, so that no coordinator can keep it from signers.

It arrived only when W - w + 1 witnesses gave a receipt: no checkpoint without it gets enough cosignatures after 60 s.
Receipts are judged here, against pinned keys; a witness's or a coordinator's word for them counts nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from console.channel import Address, call, open_channel
from console.statements import read_signed, write_signed
from custody.errors import CustodyError
from custody.held import Posted, count_receipts
from custody.policy import Roots
from custody.statements import Signed
from custody.v1 import witness_pb2, witness_pb2_grpc

CALL_SECONDS = 10.0
AGAIN_SECONDS = (
    1.0  # between rounds: nodes that witness take it over from where it was posted, and their receipts follow
)
WAIT_SECONDS = 20.0  # nodes dial every 5 s: two rounds and some


@dataclass(frozen=True, slots=True)
class Delivery:
    """How posting went. posted: whose receipts hold, how many it takes.  failures: (target, code), last round."""

    posted: Posted
    failures: tuple[tuple[str, str], ...]

    @property
    def is_done(self) -> bool:
        """Whether enough witnesses hold it."""
        return not self.posted.missing

    def __str__(self) -> str:
        if self.is_done:
            return f"done: held by {', '.join(self.posted.by)}"
        return f"NOT done: {self.posted.missing} of {self.posted.needed} receipts missing"


async def post_everywhere(
    statement: Signed, witnesses: Sequence[Address], roots: Roots, genesis: bytes, *, wait_s: float = WAIT_SECONDS
) -> Delivery:
    """Post `statement` to every stand-alone witness until enough receipts are there or `wait_s` is over.

    Args:
        statement: with all signatures that it needs.
        witnesses: where the stand-alone witnesses listen.
        roots: of the rules in force, which pin all W witnesses and w.
        genesis: 32 bytes.
        wait_s: how long to wait for receipts of nodes that witness; posting again meanwhile is harmless.
    """
    receipts: set[Signed] = set()
    ends = time.monotonic() + wait_s
    while True:
        answers = await asyncio.gather(*(_post(statement, address) for address in witnesses))
        receipts.update(receipt for found, _ in answers for receipt in found)
        failures = tuple((address.target, code) for address, (_, code) in zip(witnesses, answers, strict=True) if code)
        posted = count_receipts(roots.witnesses, roots.w, genesis, statement.digest, receipts)
        if not posted.missing or time.monotonic() >= ends:
            return Delivery(posted, failures)
        await asyncio.sleep(AGAIN_SECONDS)


async def _post(statement: Signed, address: Address) -> tuple[tuple[Signed, ...], str]:
    """Return the receipts that one witness gave or passed on, and the code of what went wrong, or ""."""
    request = witness_pb2.PostStatementRequest(statement=write_signed(statement))
    try:
        async with open_channel(address) as channel:
            answer = await call(witness_pb2_grpc.WitnessServiceStub(channel).PostStatement, request, CALL_SECONDS)
        if answer.WhichOneof("answer") == "refusal":
            return (), answer.refusal.code
        return tuple(read_signed(message) for message in (answer.receipt, *answer.others)), ""
    except CustodyError as error:
        return (), error.code

"""An online node dials every stand-alone witness itself and takes over what it holds: the coordinator is not asked.

A freeze or stop counts at this node as soon as it came in, whatever the log says. Who is away is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import grpc
import structlog

from custody.errors import CustodyError, MalformedError, Refused
from custody.statements import Signed
from custody.v1 import witness_pb2, witness_pb2_grpc
from signer_node.config import CoordinatorConfig
from signer_node.node import Node
from signer_node.statements import read_signed, write_signed
from signer_node.tls import client_credentials
from signer_node.witness_money import MoneyWitness

DIAL_SECONDS = 5  # protocol.md: at least every 10 s
CALL_SECONDS = 4.0
MAX_HELD_BYTES = 32 * 1024 * 1024  # 256 stops of each of a hundred people
log = structlog.get_logger("signer_node")


async def dial_for_ever(node: Node, where: CoordinatorConfig, own: MoneyWitness | None) -> None:
    """Ask one witness every DIAL_SECONDS for what it holds, until cancelled.

    Args:
        node: takes it over.
        where: the witness.
        own: this node's own witness: its receipts tell the witness, and so the sender, that this node holds it too.
    """
    receipts: dict[bytes, Signed] = {}
    options = (("grpc.max_receive_message_length", MAX_HELD_BYTES), ("grpc.keepalive_time_ms", 20_000))
    while True:
        try:
            async with grpc.aio.secure_channel(where.address, client_credentials(where.tls), options) as channel:
                while True:
                    told = receipts.keys()
                    receipts = await ask_once(node, witness_pb2_grpc.WitnessServiceStub(channel), own, receipts)
                    if receipts.keys() <= told:  # else tell at once: a sender may be waiting for this node's receipt
                        await asyncio.sleep(DIAL_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.warning("witness.away", node=node.pinned.node, address=where.address, grpc_code=error.code().name)
        except CustodyError as error:
            log.error("witness.failed", node=node.pinned.node, address=where.address, code=error.code)
        await asyncio.sleep(DIAL_SECONDS)


async def ask_once(
    node: Node,
    stub: witness_pb2_grpc.WitnessServiceAsyncStub,
    own: MoneyWitness | None,
    receipts: Mapping[bytes, Signed],
) -> dict[bytes, Signed]:
    """Take over what the witness behind `stub` holds; return this node's receipts by digest, to be told next time."""
    request = witness_pb2.ListHeldRequest(receipts=[write_signed(receipt) for receipt in receipts.values()])
    answer = await stub.ListHeld(request, timeout=CALL_SECONDS)
    given = {}
    for message in answer.statements:
        try:
            signed = read_signed(message)
        except MalformedError as error:
            log.warning("held.refused", node=node.pinned.node, code=error.code)
            continue
        since = node.hold(signed)
        if isinstance(since, Refused):
            log.warning("held.refused", node=node.pinned.node, code=since.code, digest=signed.digest.hex())
        elif own is not None:
            given[signed.digest] = own.receipt(signed, since)
    return given

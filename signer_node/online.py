"""The gRPC courier of an online node: it dials out, says hello, answers what it is handed, and opens no port.

A broken stream, a refused hello or a coordinator that is away end in waiting and dialling again, never in a signature.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator

import grpc
import structlog

from custody.bundle import MAX_BUNDLE_BYTES, PROTOCOL, summary_of
from custody.errors import CustodyError
from custody.v1 import signer_pb2 as wire
from custody.v1 import signer_pb2_grpc
from signer_node.backends.port import Backend
from signer_node.clock import Clock, SystemClock
from signer_node.config import CoordinatorConfig, NodeConfig
from signer_node.effects import Effect, Hook, around, no_hook
from signer_node.logging import configure
from signer_node.node import Node
from signer_node.offline import open_backend_of, open_node
from signer_node.tls import client_credentials

HEARTBEAT_SECONDS = 3  # routing picks another signer within 10 s of the last one
RECONNECT_SECONDS = (0.2, 5.0)  # first and longest wait between dials; each wait is drawn at random below its bound
MESSAGE_BYTES = MAX_BUNDLE_BYTES + 2 * 1024 * 1024  # a bundle or delta in its envelope
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
)
log = structlog.get_logger("signer_node")


def run(config: NodeConfig, hook: Hook = no_hook) -> int:
    """Run the node of `config` until SIGTERM or SIGINT; return the exit code."""
    configure()
    return asyncio.run(_run(config, SystemClock(), hook))


async def _run(config: NodeConfig, clock: Clock, hook: Hook) -> int:
    if config.coordinator is None:
        log.error("node.refused", code="CONFIG_COORDINATOR", expected="a [coordinator] table")
        return 1
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    backend = open_backend_of(config)
    async with backend:
        node = open_node(config, clock, hook=hook, backend=backend)
        dialling = asyncio.create_task(_dial_for_ever(node, backend, config.coordinator, hook))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({dialling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
    log.info("node.stopped", node=config.name)
    return 0


async def _dial_for_ever(node: Node, backend: Backend, where: CoordinatorConfig, hook: Hook) -> None:
    wait_s = RECONNECT_SECONDS[0]
    while True:
        try:
            async with grpc.aio.secure_channel(where.address, client_credentials(where.tls), _OPTIONS) as channel:
                await _serve(node, backend, channel, hook)
            wait_s = RECONNECT_SECONDS[0]
        except grpc.aio.AioRpcError as error:
            log.warning("node.disconnected", node=node.pinned.node, grpc_code=error.code().name)
            wait_s = min(wait_s * 2, RECONNECT_SECONDS[1])
        except CustodyError as error:  # this node is broken: say so, keep dialling, sign nothing
            log.error("node.broken", node=node.pinned.node, code=error.code)
            wait_s = RECONNECT_SECONDS[1]
        await asyncio.sleep(random.uniform(wait_s / 2, wait_s))  # noqa: S311 - jitter, not a secret


async def _serve(node: Node, backend: Backend, channel: grpc.aio.Channel, hook: Hook) -> None:
    """Hold one stream until either side ends it."""
    stub = signer_pb2_grpc.SignerServiceStub(channel)
    outbox: asyncio.Queue[wire.ConnectRequest] = asyncio.Queue()
    outbox.put_nowait(_hello(node))

    async def outgoing() -> AsyncIterator[wire.ConnectRequest]:
        while True:
            yield await outbox.get()

    beating = asyncio.create_task(_beat(node, backend, outbox))
    try:
        async for message in stub.Connect(outgoing()):
            await _take(node, backend, message, outbox, hook)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat(node: Node, backend: Backend, outbox: asyncio.Queue[wire.ConnectRequest]) -> None:
    while True:
        outbox.put_nowait(await _heartbeat(node, backend))
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _take(
    node: Node,
    backend: Backend,
    message: wire.ConnectResponse,
    outbox: asyncio.Queue[wire.ConnectRequest],
    hook: Hook,
) -> None:
    kind = message.WhichOneof("message")
    if kind == "bundle":
        answer = await node.answer(message.bundle.document)
        log.info("bundle.answered", **summary_of(answer))
        with around(hook, Effect.ANSWER):
            reply = wire.Answer(document=answer.to_bytes(), release_index=message.bundle.release_index)
            outbox.put_nowait(wire.ConnectRequest(answer=reply))
    elif kind == "delta":
        size = await node.take_delta(message.delta.document)
        log.info("delta.followed", node=node.pinned.node, size=size)
        outbox.put_nowait(await _heartbeat(node, backend))
    elif kind == "ping":
        outbox.put_nowait(await _heartbeat(node, backend))


def _hello(node: Node) -> wire.ConnectRequest:
    pinned = node.pinned
    hello = wire.Hello(node=pinned.node, genesis=pinned.genesis.hash, money_size=node.state.size, protocol=PROTOCOL)
    return wire.ConnectRequest(hello=hello)


async def _heartbeat(node: Node, backend: Backend) -> wire.ConnectRequest:
    found = await backend.health()
    state = wire.BackendState.Value(f"BACKEND_STATE_{found.state.name}")
    return wire.ConnectRequest(heartbeat=wire.Heartbeat(backend=state, money_size=node.state.size))

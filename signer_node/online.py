"""The gRPC courier of an online node: it dials out, says hello, answers what it is handed, and opens no port.

Where the node witnesses too, it is asked over the same stream; a checkpoint never waits for a key.
A broken stream, a refused hello or a coordinator that is away end in waiting and dialling again, never in a signature.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from custody.bundle import MAX_BUNDLE_BYTES, PROTOCOL, summary_of
from custody.errors import CustodyError, IntegrityError, Refused, UnavailableError
from custody.statements import Signed
from custody.v1 import signer_pb2 as wire
from custody.v1 import signer_pb2_grpc
from signer_node.backends.port import Backend, BackendState, State
from signer_node.clock import Clock, SystemClock
from signer_node.config import CoordinatorConfig, NodeConfig, OwnWitnessConfig
from signer_node.effects import Effect, Hook, around, no_hook
from signer_node.inbox import Inbox
from signer_node.logging import configure
from signer_node.node import Node
from signer_node.offline import open_backend_of, open_node
from signer_node.proving import Schedule, prove_for_ever
from signer_node.statements import write_signed
from signer_node.tls import client_credentials
from signer_node.witness_dial import dial_for_ever
from signer_node.witness_money import WitnessHome, WitnessPair, open_pair
from signer_node.witness_wire import ASK_AGAIN, checkpoint_response, cosign_request, delta_response

REPORT_SECONDS = 10
HEARTBEAT_SECONDS = 3  # routing picks another signer within 10 s of the last one
RECONNECT_SECONDS = (0.2, 5.0)  # first and longest wait between dials; each wait is drawn at random below its bound
MESSAGE_BYTES = MAX_BUNDLE_BYTES + 2 * 1024 * 1024  # a bundle or delta in its envelope
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
)
MAX_HELD_IN_A_BEAT = 32  # statements that wait for the log; the oldest first, until they are in it
log = structlog.get_logger("signer_node")


class Told:
    """How the key backend was when it was last looked at: each change is one line in the log."""

    def __init__(self) -> None:
        self._last: BackendState | None = None

    def tell(self, node: str, found: BackendState) -> None:
        """Log `found` where its state or code is not what was found before."""
        last, self._last = self._last, found
        if last is None or (last.state, last.code) != (found.state, found.code):
            say = log.info if found.state is State.READY else log.warning
            say("backend.changed", node=node, state=found.state.value, code=found.code, detail=found.detail)


@dataclass(frozen=True, slots=True)
class Courier:
    """What one stream works with.

    witness: None where this node does not witness.  schedule: of proofs of life.  told: how its key was said to be.
    """

    node: Node
    backend: Backend
    witness: WitnessPair | None
    hook: Hook
    schedule: Schedule | None = None
    told: Told = field(default_factory=Told)


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
        inbox = Inbox(config.state)
        node = open_node(config, clock, hook=hook, backend=backend, inbox=inbox)
        witness = _open_witness(config.witness, node, inbox, clock) if config.witness is not None else None
        courier = Courier(node, backend, witness, hook, Schedule(config.state, clock))
        own = None if witness is None else witness.money
        work = [asyncio.create_task(_dial_for_ever(courier, config.coordinator))]
        work += [asyncio.create_task(dial_for_ever(node, where, own)) for where in config.witnesses]
        try:
            await _until_first([*work, asyncio.create_task(stop.wait())])
        finally:
            await node.close()
    log.info("node.stopped", node=config.name)
    return 0


def _open_witness(config: OwnWitnessConfig, node: Node, inbox: Inbox, clock: Clock) -> WitnessPair | None:
    """Return this node's own witness; None where its state was lost or rewound: it signs, but vouches no more."""
    try:
        home = WitnessHome(config.name, config.key, config.state)
        return open_pair(home, node.pinned.genesis, inbox, clock.now)
    except IntegrityError as error:
        log.error("witness.ended", node=node.pinned.node, code=error.code)
        return None


async def _until_first(tasks: Iterable[asyncio.Task[Any]]) -> None:  # Any: only whether one ended counts
    """Wait until one of `tasks` ends, end the others, and raise what ended it."""
    everything = list(tasks)
    try:
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
    for task in done:
        task.result()


async def _dial_for_ever(courier: Courier, where: CoordinatorConfig) -> None:
    name = courier.node.pinned.node
    wait_s = RECONNECT_SECONDS[0]
    while True:
        welcomed = asyncio.Event()
        try:
            async with grpc.aio.secure_channel(where.address, client_credentials(where.tls), _OPTIONS) as channel:
                await _serve(courier, channel, welcomed)
            wait_s = RECONNECT_SECONDS[0]
        except grpc.aio.AioRpcError as error:
            log.warning("node.disconnected", node=name, grpc_code=error.code().name)
            wait_s = RECONNECT_SECONDS[0] if welcomed.is_set() else min(wait_s * 2, RECONNECT_SECONDS[1])
        except CustodyError as error:  # this node is broken: say so, keep dialling, sign nothing
            log.error("node.broken", node=name, code=error.code)
            wait_s = RECONNECT_SECONDS[1]
        await asyncio.sleep(random.uniform(wait_s / 2, wait_s))  # noqa: S311 - jitter, not a secret


async def _serve(courier: Courier, channel: grpc.aio.Channel, welcomed: asyncio.Event) -> None:
    """Hold one stream until either side ends it. What is being signed when the stream breaks is finished first.

    Args:
        courier: of this node.
        channel: to the coordinator.
        welcomed: set once the coordinator took the hello: the next break is a new one, to be waited out from the start.
    """
    stub = signer_pb2_grpc.SignerServiceStub(channel)
    outbox: asyncio.Queue[wire.ConnectRequest] = asyncio.Queue()
    work: asyncio.Queue[wire.ConnectResponse | None] = asyncio.Queue()
    outbox.put_nowait(_hello(courier.node))

    async def outgoing() -> AsyncIterator[wire.ConnectRequest]:
        while True:
            yield await outbox.get()

    async def listen() -> None:
        try:
            async for message in stub.Connect(outgoing()):
                welcomed.set()
                if message.WhichOneof("message") == "witness":
                    outbox.put_nowait(wire.ConnectRequest(witness=_vouch(courier, message.witness)))
                else:
                    work.put_nowait(message)
        finally:
            work.put_nowait(None)

    async def answer() -> None:
        while (message := await work.get()) is not None:
            await _take(courier, message, outbox)
        await listening  # raises what ended the stream

    listening = asyncio.create_task(listen())
    answering = asyncio.create_task(answer())
    beating = asyncio.create_task(_beat(courier, outbox))
    proving = asyncio.create_task(_prove(courier, stub))
    try:
        await asyncio.wait({answering, beating}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (listening, answering, beating, proving):
            task.cancel()
        await asyncio.gather(listening, answering, beating, proving, return_exceptions=True)
    for task in (answering, beating):
        if not task.cancelled():
            task.result()


async def _beat(courier: Courier, outbox: asyncio.Queue[wire.ConnectRequest]) -> None:
    while True:
        outbox.put_nowait(await _heartbeat(courier))
        for held in courier.node.held[:MAX_HELD_IN_A_BEAT]:
            outbox.put_nowait(wire.ConnectRequest(held=write_signed(held.signed)))
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _prove(courier: Courier, stub: signer_pb2_grpc.SignerServiceAsyncStub) -> None:
    """Prove on schedule that the key is there, and tell the coordinator."""

    async def report(signed: Signed) -> None:
        try:
            await stub.ReportHealth(wire.ReportHealthRequest(report=write_signed(signed)), timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError("REPORT_FAILED", error.code().name) from error

    if courier.schedule is not None:
        await prove_for_ever(courier.node, courier.schedule, report)


async def _take(courier: Courier, message: wire.ConnectResponse, outbox: asyncio.Queue[wire.ConnectRequest]) -> None:
    node, kind = courier.node, message.WhichOneof("message")
    if kind == "bundle":
        try:
            answer = await node.answer(message.bundle.document)
        except CustodyError as error:
            await _tell_broken(courier, error, outbox)
            return
        log.info("bundle.answered", **summary_of(answer))
        with around(courier.hook, Effect.ANSWER):
            cosignature = None if courier.witness is None else courier.witness.again()
            reply = wire.Answer(
                document=answer.to_bytes(),
                release_index=message.bundle.release_index,
                cosignatures=[cosignature] if cosignature else [],
            )
            outbox.put_nowait(wire.ConnectRequest(answer=reply))
    elif kind == "delta":
        size = await node.take_delta(message.delta.document)
        log.info("delta.followed", node=node.pinned.node, size=size)
        outbox.put_nowait(await _heartbeat(courier))
    elif kind == "ping":
        outbox.put_nowait(await _heartbeat(courier))


async def _tell_broken(courier: Courier, error: CustodyError, outbox: asyncio.Queue[wire.ConnectRequest]) -> None:
    """Say at once that the key cannot sign, so that another node is asked.

    Raises:
        CustodyError: `error`, where the key is well: by the broken stream the coordinator sees that no answer comes.
    """
    log.error("bundle.unanswered", node=courier.node.pinned.node, code=error.code)
    beat = await _heartbeat(courier)
    if beat.heartbeat.backend == wire.BACKEND_STATE_READY:
        raise error
    outbox.put_nowait(beat)


def _vouch(courier: Courier, asked: wire.WitnessQuestion) -> wire.WitnessAnswer:
    """Answer as a witness does; its fsync takes milliseconds, so nothing else has to run meanwhile."""
    pair, is_delta = courier.witness, asked.WhichOneof("question") == "delta"
    answer: str | int | Refused = Refused("WITNESS_NONE", "a witness on this node", "none")
    size = 0
    try:
        if pair is not None and is_delta:
            answer, size = pair.money.watched.take(asked.delta.delta), pair.money.watched.state.size
        elif pair is not None:
            answer, size = pair.answer(cosign_request(asked.checkpoint))
    except UnavailableError as error:
        answer = Refused(error.code, "a durable state", error.message)
    if isinstance(answer, Refused):
        say = log.info if answer.code in ASK_AGAIN else log.warning
        say("checkpoint.refused", node=courier.node.pinned.node, code=answer.code, size=size)
    if is_delta:
        return wire.WitnessAnswer(id=asked.id, delta=delta_response(answer, size))
    return wire.WitnessAnswer(id=asked.id, checkpoint=checkpoint_response(answer, size))


def _hello(node: Node) -> wire.ConnectRequest:
    pinned = node.pinned
    hello = wire.Hello(node=pinned.node, genesis=pinned.genesis.hash, money_size=node.state.size, protocol=PROTOCOL)
    return wire.ConnectRequest(hello=hello)


async def _heartbeat(courier: Courier) -> wire.ConnectRequest:
    node, found = courier.node, await courier.backend.health()
    courier.told.tell(node.pinned.node, found)
    state = wire.BackendState.Value(f"BACKEND_STATE_{found.state.name}")
    beat = wire.Heartbeat(backend=state, money_size=node.state.size, backend_code=found.code)
    return wire.ConnectRequest(heartbeat=beat)

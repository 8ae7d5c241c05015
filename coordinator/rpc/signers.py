"""SignerService: the streams that online nodes open. A node is who its certificate says, and says only for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass

import structlog

from coordinator import flow, keys, messages
from coordinator.asking import take_answer
from coordinator.message_store import find as find_message
from coordinator.outbox import Link
from coordinator.parts import Parts
from coordinator.posted import take_in
from coordinator.rpc.identity import Context, check_own_name, identity_of
from coordinator.rpc.statements import read_signed, write_signed
from coordinator.rpc.status import refuse
from custody.audit import Log
from custody.bundle import PROTOCOL, parse_answer
from custody.errors import CustodyError, DeniedError, MalformedError, Refused
from custody.policy import Location, Roots
from custody.v1 import signer_pb2, signer_pb2_grpc, statement_pb2

MAX_AT_WORK = 64  # of one node's stream: more than it is ever asked at once
log = structlog.get_logger("coordinator")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a node said last. at: UTC seconds, 0 for never.  backend: as on the wire."""

    at: int = 0
    backend: int = 0
    money_size: int = 0
    code: str = ""


class Signers(signer_pb2_grpc.SignerServiceServicer):
    """See protos/custody/v1/signer.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._heard: dict[str, Heard] = {}

    async def Connect(
        self, request_iterator: AsyncIterator[signer_pb2.ConnectRequest], context: Context
    ) -> AsyncIterator[signer_pb2.ConnectResponse]:
        """Hold one node's stream: hello first, then bundles out and answers in."""
        link = await self._hello(await anext(request_iterator), context)
        self._parts.outbox.open(link)
        listening = asyncio.create_task(self._listen(link, request_iterator))
        try:
            size = self._parts.store.head(Log.MONEY).size
            welcome = signer_pb2.Welcome(genesis=self._parts.genesis.hash, money_size=size)
            yield signer_pb2.ConnectResponse(welcome=welcome)
            while (message := await link.queue.get()) is not None:
                yield message
        finally:
            listening.cancel()
            self._parts.outbox.close(link)

    async def ListSigners(
        self, request: signer_pb2.ListSignersRequest, context: Context
    ) -> signer_pb2.ListSignersResponse:
        """Show every node of the rules and when it was heard."""
        nodes = []
        for node in (await self._roots()).nodes:
            heard = self._heard.get(node.name, Heard())
            told = await keys.reports_of(self._parts, node.name)
            nodes.append(
                signer_pb2.NodeView(
                    node=node.name,
                    offline=node.location is Location.OFFLINE,
                    connected=self._parts.outbox.link(node.name) is not None,
                    heard_at=heard.at,
                    backend=signer_pb2.BackendState.ValueType(heard.backend),
                    money_size=heard.money_size,
                    backend_code=heard.code,
                    alive=None if told.alive is None else write_signed(told.alive),
                    drill=None if told.drill is None else write_signed(told.drill),
                )
            )
        return signer_pb2.ListSignersResponse(nodes=nodes, money_size=self._parts.store.head(Log.MONEY).size)

    async def ReportHealth(
        self, request: signer_pb2.ReportHealthRequest, context: Context
    ) -> signer_pb2.ReportHealthResponse:
        """Keep a proof of life or the record of a drill, if it holds and is newer than the last."""
        created = await keys.take_report(self._parts, read_signed(request.report), str(identity_of(context)))
        if isinstance(created, Refused):
            refuse(created)
        return signer_pb2.ReportHealthResponse(created=created)

    async def _roots(self) -> Roots:
        return (await self._parts.followed.state(self._parts.clock.now())).policy.roots

    async def _hello(self, first: signer_pb2.ConnectRequest, context: Context) -> Link:
        if first.WhichOneof("message") != "hello":
            raise MalformedError("HELLO_FIRST", "expected a hello as the first message")
        hello = first.hello
        check_own_name(identity_of(context), hello.node)
        if hello.genesis != self._parts.genesis.hash or hello.protocol != PROTOCOL:
            raise DeniedError("GENESIS_OTHER", f"expected my genesis and protocol {PROTOCOL}, found {hello.protocol}")
        if (await self._roots()).node(hello.node) is None:
            raise DeniedError("NODE_UNKNOWN", f"expected a node of the rules, found {hello.node}")
        return Link(hello.node, hello.money_size, self._parts.clock.now())

    async def _listen(self, link: Link, messages: AsyncIterator[signer_pb2.ConnectRequest]) -> None:
        """Take what the node says until it hangs up; one bad answer is logged and does not end the stream.

        What takes long is done beside the stream: it may need this node's word as a witness, which comes by it.
        """
        at_work: set[asyncio.Task[None]] = set()
        async for message in messages:
            link.heard_at = self._parts.clock.now()
            kind = message.WhichOneof("message")
            if kind == "heartbeat":
                link.hear(message.heartbeat)
                self._heard[link.node] = Heard(link.heard_at, link.backend, link.money_size, link.code)
            elif kind == "witness":
                link.take(message.witness)
            elif kind == "answer":
                self._beside(at_work, self._take(link, message.answer))
            elif kind == "held" and len(at_work) < MAX_AT_WORK:  # it is said again with the next heartbeat
                self._beside(at_work, self._take_in(link, message.held))
        link.queue.put_nowait(None)
        if at_work:
            await asyncio.wait(at_work)

    def _beside(self, at_work: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        at_work.add(task)
        task.add_done_callback(at_work.discard)

    async def _take_in(self, link: Link, message: statement_pb2.SignedStatement) -> None:
        try:
            await asyncio.shield(take_in(self._parts, read_signed(message), link.node))
        except CustodyError as error:
            log.warning("held.failed", node=link.node, code=error.code)

    async def _take(self, link: Link, message: signer_pb2.Answer) -> None:
        try:
            answer = parse_answer(message.document)
            check_own_name_of_answer(link.node, answer.node)
            for line in message.cosignatures[:1]:  # a node has one word; whose it is, its signature says
                await asyncio.shield(self._parts.logs.add_word(line))
            if await find_message(self._parts, answer.withdrawal_digest) is not None:
                await asyncio.shield(messages.take_answer(self._parts, answer, link.node))
                await asyncio.shield(messages.advance(self._parts, answer.withdrawal_digest))
                return
            await asyncio.shield(take_answer(self._parts, answer, link.node))
            await asyncio.shield(flow.advance(self._parts, answer.withdrawal_digest))
        except CustodyError as error:
            log.warning("answer.refused", node=link.node, code=error.code)


def check_own_name_of_answer(node: str, claimed: str) -> None:
    """Refuse an answer that names another node than the stream it came by: NODE_OTHER."""
    if node != claimed:
        raise DeniedError("NODE_OTHER", f"expected an answer of {node}, found one of {claimed}")

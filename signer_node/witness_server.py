"""The stand-alone witness: a small process that listens, cosigns for the coordinator, and holds what is posted to it.

It has its own key and the pinned genesis, follows the money log, and keeps freezes, unfreezes, stops and rule documents
until the log holds them. It signs no transaction. Whoever owns it can lie about time and consistency; with 2w > W + f,
up to f of its kind gain nothing by that.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
import structlog

from custody.bundle import MAX_DELTA_BYTES
from custody.errors import CustodyError, DeniedError, IntegrityError, MalformedError, Refused, UnavailableError
from custody.genesis import Genesis, check_signed, parse_genesis
from custody.held import count_receipts
from custody.statements import Signed
from custody.v1 import statement_pb2, witness_pb2, witness_pb2_grpc
from signer_node.clock import Clock, SystemClock
from signer_node.config import TlsConfig, read_tls, read_toml
from signer_node.inbox import Inbox
from signer_node.logging import configure
from signer_node.statements import read_signed, write_signed
from signer_node.tls import Peer, peer_of, server_credentials
from signer_node.witness import CosignRequest
from signer_node.witness_money import WitnessHome, WitnessPair, open_pair
from signer_node.witness_store import make_key
from signer_node.witness_wire import ASK_AGAIN, checkpoint_response, cosign_request, delta_response, refusal_message

MAX_REQUEST_BYTES = MAX_DELTA_BYTES + 64 * 1024  # the largest is a delta in its envelope
MAX_CALLS = 32  # one coordinator, a few nodes and whoever posts; the rest is a flood
MAX_RECEIPTS = 1_024  # that one node reports at a time
STOP_GRACE_S = 2.0
_LISTEN = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5}|localhost:\d{1,5}")
_LOG_HOLDER = frozenset({"coordinator"})
_READS_HELD = frozenset({"coordinator", "signer"})
_POSTS = frozenset(
    {"operator", "client", "reader", "admin", "signer", "coordinator"}
)  # the signatures decide, not this

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]  # Any: calls of every message type

log = structlog.get_logger("witness")


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """What a witness is told by its operator. genesis, log_key: 32 bytes, pinned.  genesis_file: signed."""

    home: WitnessHome
    listen: str
    tls: TlsConfig
    genesis: bytes
    genesis_file: Path
    log_key: bytes


def load_config(path: Path) -> WitnessConfig:
    """Return the configuration; what is wrong with it is raised (CONFIG_..., FIELD_...) and keeps it from starting."""
    fields, base = read_toml(path)
    config = WitnessConfig(
        home=WitnessHome(fields.name("name"), base / fields.text("witness_key"), base / fields.text("state")),
        listen=fields.text("listen"),
        tls=read_tls(fields.fields("tls"), base),
        genesis=fields.hex("genesis", 32),
        genesis_file=base / (fields.text("genesis_file") if fields.has("genesis_file") else "genesis.json"),
        log_key=fields.hex("log_key", 32),
    )
    fields.done()
    if not _LISTEN.fullmatch(config.listen):
        raise MalformedError("CONFIG_LISTEN", f"expected ADDRESS:PORT, found {config.listen[:60]!r}")
    return config


def read_genesis(config: WitnessConfig) -> Genesis:
    """Return the genesis document that `config` pins.

    Raises:
        IntegrityError: GENESIS_OTHER or LOG_KEY_OTHER: the file is not what was pinned.
        MalformedError: CONFIG_GENESIS, or what the document says.
    """
    try:
        genesis = parse_genesis(Signed.from_bytes(config.genesis_file.read_bytes()))
    except OSError as error:
        raise MalformedError("CONFIG_GENESIS", f"expected {config.genesis_file.name}: {error.strerror}") from error
    check_signed(genesis)
    if genesis.hash != config.genesis:
        raise IntegrityError("GENESIS_OTHER", f"expected {config.genesis.hex()}, found {genesis.hash.hex()}")
    if genesis.policy.roots.log_key != config.log_key:
        raise IntegrityError("LOG_KEY_OTHER", "expected the pinned log key in the genesis")
    return genesis


class WitnessService(witness_pb2_grpc.WitnessServiceServicer):
    """custody.v1.WitnessService over both logs' witnesses. A judged no is an answer; only breakage is a status."""

    def __init__(self, pair: WitnessPair, inbox: Inbox, clock: Clock) -> None:
        self._pair, self._inbox, self._clock = pair, inbox, clock
        self._turn = asyncio.Lock()  # one call judges at a time, fsync included
        self._working: set[asyncio.Task[Any]] = set()  # Any: tasks of every result type, kept only to be kept
        self._others: dict[bytes, dict[str, Signed]] = {}  # receipts of other witnesses: digest, name

    async def AddCheckpoint(
        self, request: witness_pb2.AddCheckpointRequest, context: Context
    ) -> witness_pb2.AddCheckpointResponse:
        """Cosign a checkpoint that continues what this witness saw, or say why not."""
        await _admit(context, _LOG_HOLDER)
        answer, size = await self._in_turn(lambda: self._cosign(cosign_request(request)), context)
        if isinstance(answer, Refused):
            say = log.info if answer.code in ASK_AGAIN else log.warning
            say("checkpoint.refused", origin=request.origin, code=answer.code, size=size)
        else:
            log.info("checkpoint.cosigned", origin=request.origin, size=size)
        return checkpoint_response(answer, size)

    async def TakeDelta(self, request: witness_pb2.TakeDeltaRequest, context: Context) -> witness_pb2.TakeDeltaResponse:
        """Follow money-log entries."""
        await _admit(context, _LOG_HOLDER)
        watched = self._pair.money.watched
        return delta_response(await self._in_turn(lambda: watched.take(request.delta), context), watched.state.size)

    async def GetWitnessState(
        self, request: witness_pb2.GetWitnessStateRequest, context: Context
    ) -> witness_pb2.GetWitnessStateResponse:
        """Say what this witness saw last."""
        await _admit(context, _LOG_HOLDER)
        witness = self._pair.of(request.origin)
        if witness is None:
            error = MalformedError("CHECKPOINT_ORIGIN", f"expected one of {list(self._pair.origins)}")
            await _abort(context, grpc.StatusCode.NOT_FOUND, error)
        state = witness.state
        return witness_pb2.GetWitnessStateResponse(
            name=witness.pins.name, size=state.size, root=state.root, note=witness.note
        )

    async def PostStatement(
        self, request: witness_pb2.PostStatementRequest, context: Context
    ) -> witness_pb2.PostStatementResponse:
        """Hold what may not be withheld, and give a receipt; or say why it is not worth holding."""
        peer = await _admit(context, _POSTS)
        try:
            signed = read_signed(request.statement)
        except MalformedError as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, error)
        answer = await self._in_turn(lambda: self._post(signed), context)
        if isinstance(answer, Refused):
            log.warning("statement.refused", peer=peer.name, kind=signed.kind.name, code=answer.code)
            return witness_pb2.PostStatementResponse(refusal=refusal_message(answer))
        log.info("statement.held", peer=peer.name, kind=signed.kind.name, digest=signed.digest.hex())
        others = [write_signed(other) for other in self._others.get(signed.digest, {}).values()]
        return witness_pb2.PostStatementResponse(receipt=write_signed(answer), others=others)

    async def ListHeld(self, request: witness_pb2.ListHeldRequest, context: Context) -> witness_pb2.ListHeldResponse:
        """Say what is held, and file the receipts of a node that took it over."""
        await _admit(context, _READS_HELD)
        self._file(request.receipts[:MAX_RECEIPTS])
        statements = [write_signed(held.signed) for held in self._inbox.held]
        return witness_pb2.ListHeldResponse(statements=statements)

    def _cosign(self, asked: CosignRequest) -> tuple[str | Refused, int]:
        state, now = self._pair.money.watched.state, self._clock.now()
        for signed in self._inbox.take_dropped(state, now):
            log.info("statement.held", peer="file", kind=signed.kind.name, digest=signed.digest.hex())
        answer = self._pair.answer(asked)
        self._inbox.forget(state, now)
        return answer

    def _post(self, signed: Signed) -> Signed | Refused:
        since = self._inbox.take(signed, self._pair.money.watched.state, self._clock.now())
        return since if isinstance(since, Refused) else self._pair.money.receipt(signed, since)

    def _file(self, receipts: Iterable[statement_pb2.SignedStatement]) -> None:
        """Keep the receipts of pinned witnesses for what is held here, so that senders can ask for them."""
        roots = self._pair.money.watched.state.policy.roots
        genesis = self._pair.money.watched.state.genesis.hash
        digests = {held.signed.digest for held in self._inbox.held}
        self._others = {digest: found for digest, found in self._others.items() if digest in digests}
        for message in receipts:
            try:
                receipt = read_signed(message)
            except MalformedError:
                continue
            for digest in digests:
                for name in count_receipts(roots.witnesses, roots.w, genesis, digest, [receipt]).by:
                    self._others.setdefault(digest, {})[name] = receipt

    async def _in_turn(self, work: Callable[[], T], context: Context) -> T:
        """Do `work` to its end in a thread, even when the caller hangs up: the turn covers all that the thread does."""

        async def alone() -> T:
            async with self._turn:
                return await asyncio.to_thread(work)

        working = asyncio.create_task(alone())
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        try:
            return await asyncio.shield(working)
        except UnavailableError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, error)


async def _admit(context: Context, roles: frozenset[str]) -> Peer:
    try:
        peer = peer_of(context.auth_context())
        if peer.role not in roles:
            raise DeniedError("ROLE_DENIED", f"expected one of the roles {sorted(roles)}, found {peer.role}")
    except DeniedError as error:
        log.warning("call.denied", code=error.code)
        await _abort(context, grpc.StatusCode.PERMISSION_DENIED, error)
    return peer


async def serve(config: WitnessConfig, clock: Clock) -> tuple[grpc.aio.Server, int]:
    """Return the started server and the port it listens on.

    Raises:
        MalformedError, IntegrityError, UnavailableError: what keeps the witness from starting.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CALLS,
        options=(("grpc.max_receive_message_length", MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0)),
    )
    genesis, inbox = read_genesis(config), Inbox(config.home.state)
    pair = open_pair(config.home, genesis, inbox, clock.now)
    witness_pb2_grpc.add_WitnessServiceServicer_to_server(WitnessService(pair, inbox, clock), server)
    try:
        port = server.add_secure_port(config.listen, server_credentials(config.tls))
    except RuntimeError as error:
        raise UnavailableError("LISTEN", f"expected to listen on {config.listen}") from error
    await server.start()
    return server, port


async def run(config_path: Path) -> int:
    """Run the witness of `config_path` until SIGTERM or SIGINT; return the exit code. Its first line has the port."""
    configure()
    config = load_config(config_path)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server, port = await serve(config, SystemClock())
    log.info("witness.listening", name=config.home.name, address=config.listen, port=port)
    await stop.wait()
    await server.stop(STOP_GRACE_S)
    log.info("witness.stopped", name=config.home.name)
    return 0


async def _abort(context: Context, status: grpc.StatusCode, error: CustodyError) -> NoReturn:
    await context.abort(status, str(error))
    raise AssertionError("abort returns")  # for the type checker: abort always raises


__all__ = ["WitnessConfig", "WitnessService", "load_config", "make_key", "run", "serve"]

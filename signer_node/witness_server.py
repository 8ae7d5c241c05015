"""The stand-alone witness: a small process that listens, and cosigns for the one coordinator it admits.

It holds its own key, the pinned genesis hash and log key, and the state of both logs; it knows no wallet and no rules.
Whoever owns it can lie about time and consistency; with 2w > W + f, up to f of its kind gain nothing by that.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
import structlog

from custody.audit import Log, origin_of
from custody.errors import CustodyError, DeniedError, MalformedError, Refused, UnavailableError
from custody.v1 import statement_pb2, witness_pb2, witness_pb2_grpc
from signer_node.clock import Clock, SystemClock
from signer_node.config import TlsConfig, read_tls, read_toml
from signer_node.logging import configure
from signer_node.tls import peer_of, server_credentials
from signer_node.witness import CosignRequest, WitnessPins
from signer_node.witness_store import Witness, WitnessPaths, WitnessStore, make_key, mark_path, read_key

MAX_REQUEST_BYTES = 64 * 1024  # a note of 16 KiB (up to four bytes a character is never ours) and 63 hashes
MAX_CALLS = 32  # one coordinator asks one thing at a time; the rest is a flood
STOP_GRACE_S = 2.0
_LISTEN = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5}|localhost:\d{1,5}")

log = structlog.get_logger("witness")


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """What a witness is told by its operator. genesis, log_key: 32 bytes, pinned.  state: a directory."""

    name: str
    listen: str
    tls: TlsConfig
    witness_key: Path
    genesis: bytes
    log_key: bytes
    state: Path


def load_config(path: Path) -> WitnessConfig:
    """Return the configuration; what is wrong with it is raised (CONFIG_..., FIELD_...) and keeps it from starting."""
    fields, base = read_toml(path)
    config = WitnessConfig(
        name=fields.name("name"),
        listen=fields.text("listen"),
        tls=read_tls(fields.fields("tls"), base),
        witness_key=base / fields.text("witness_key"),
        genesis=fields.hex("genesis", 32),
        log_key=fields.hex("log_key", 32),
        state=base / fields.text("state"),
    )
    fields.done()
    if not _LISTEN.fullmatch(config.listen):
        raise MalformedError("CONFIG_LISTEN", f"expected ADDRESS:PORT, found {config.listen[:60]!r}")
    if config.state.resolve() in config.witness_key.resolve().parents:
        raise MalformedError("CONFIG_STATE", "expected the witness key, and the marks beside it, outside the state")
    return config


def open_witnesses(config: WitnessConfig, clock: Clock) -> dict[str, Witness]:
    """Return the witness of each log by its origin.

    Raises:
        IntegrityError: WITNESS_STATE_LOST, WITNESS_STATE_REWOUND, WITNESS_STATE_CORRUPT or WITNESS_KEY.
        UnavailableError: WITNESS_STATE_HELD: another process has it.
    """
    seed = read_key(config.witness_key)
    found = {}
    for each in Log:
        origin = origin_of(config.genesis, each)
        paths = WitnessPaths(config.state / f"{each.value}.json", mark_path(config.witness_key, each))
        pins = WitnessPins(origin, config.log_key, config.name, seed)
        found[origin] = Witness(pins, WitnessStore(paths, origin), clock.now)
    return found


class WitnessService(witness_pb2_grpc.WitnessServiceServicer):
    """custody.v1.WitnessService over both logs' witnesses. A judged no is an answer; only breakage is a status."""

    def __init__(self, witnesses: Mapping[str, Witness]) -> None:
        self._witnesses = witnesses
        self._turn = asyncio.Lock()  # a witness judges one checkpoint at a time, fsync included
        self._working: set[asyncio.Task[str | Refused]] = set()

    async def AddCheckpoint(  # noqa: N802 - the name in the proto
        self, request: witness_pb2.AddCheckpointRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> witness_pb2.AddCheckpointResponse:
        """Cosign a checkpoint that continues what this witness saw, or say why not."""
        witness = await self._admit(request.origin, context)
        if isinstance(witness, Refused):
            return _refusal(witness, 0)
        asked = CosignRequest(request.origin, request.old_size, tuple(request.consistency_proof), request.note)
        try:
            answer = await self._answer(witness, asked)
        except UnavailableError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, error)
        size = witness.state.size
        if isinstance(answer, Refused):
            log.warning("checkpoint.refused", origin=request.origin, code=answer.code, size=size)
            return _refusal(answer, size)
        log.info("checkpoint.cosigned", origin=request.origin, size=size)
        return witness_pb2.AddCheckpointResponse(cosignature=answer, size=size)

    async def GetWitnessState(  # noqa: N802 - the name in the proto
        self, request: witness_pb2.GetWitnessStateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> witness_pb2.GetWitnessStateResponse:
        """Say what this witness saw last."""
        witness = await self._admit(request.origin, context)
        if isinstance(witness, Refused):
            await _abort(
                context, grpc.StatusCode.NOT_FOUND, MalformedError(witness.code, f"expected {witness.expected}")
            )
        state = witness.state
        return witness_pb2.GetWitnessStateResponse(
            name=witness.pins.name, size=state.size, root=state.root, note=witness.note
        )

    async def _answer(self, witness: Witness, asked: CosignRequest) -> str | Refused:
        """Judge one request to its end, even when the caller hangs up: the turn covers all that the thread does."""

        async def in_turn() -> str | Refused:
            async with self._turn:
                answer = await asyncio.to_thread(witness.answer, asked)
                if isinstance(answer, Refused) and answer.code == "WITNESS_REWOUND":  # one key, one end: both logs
                    for each in self._witnesses.values():
                        await asyncio.to_thread(each.end, answer)
                return answer

        working = asyncio.create_task(in_turn())
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        return await asyncio.shield(working)

    async def _admit(self, origin: str, context: grpc.aio.ServicerContext[Any, Any]) -> Witness | Refused:
        try:
            peer = peer_of(context.auth_context())
            if peer.role != "coordinator":
                raise DeniedError("ROLE_DENIED", f"expected the role coordinator, found {peer.role}")
        except DeniedError as error:
            log.warning("call.denied", code=error.code)
            await _abort(context, grpc.StatusCode.PERMISSION_DENIED, error)
        found = self._witnesses.get(origin)
        if found is None:
            return Refused("CHECKPOINT_ORIGIN", f"one of {sorted(self._witnesses)}", origin[:200])
        return found


async def serve(config: WitnessConfig, clock: Clock) -> tuple[grpc.aio.Server, int]:
    """Return the started server and the port it listens on.

    Raises:
        MalformedError, IntegrityError, UnavailableError: what keeps the witness from starting.
    """
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CALLS,
        options=(("grpc.max_receive_message_length", MAX_REQUEST_BYTES), ("grpc.so_reuseport", 0)),
    )
    witness_pb2_grpc.add_WitnessServiceServicer_to_server(WitnessService(open_witnesses(config, clock)), server)
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
    log.info("witness.listening", name=config.name, address=config.listen, port=port)
    await stop.wait()
    await server.stop(STOP_GRACE_S)
    log.info("witness.stopped", name=config.name)
    return 0


def _refusal(refused: Refused, size: int) -> witness_pb2.AddCheckpointResponse:
    refusal = statement_pb2.Refusal(code=refused.code, expected=refused.expected, found=refused.found)
    return witness_pb2.AddCheckpointResponse(refusal=refusal, size=size)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], status: grpc.StatusCode, error: CustodyError) -> NoReturn:
    await context.abort(status, str(error))
    raise AssertionError("abort returns")  # for the type checker: abort always raises


__all__ = ["WitnessConfig", "WitnessService", "load_config", "make_key", "open_witnesses", "run", "serve"]

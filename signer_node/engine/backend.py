"""The server's calls on a secrets engine (package pb of its SDK), answered by the engine: paths, errors, storage."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Stream

from custody.canonical import Json
from custody.errors import ConflictError, CustodyError, UnavailableError
from signer_node.engine.engine import Engine
from signer_node.engine.hclog import say
from signer_node.engine.paths import UnsupportedOperation, UnsupportedPath, answer
from signer_node.engine.storage import ReadOnlyError, Storage
from signer_node.engine.wire import plugin_pb2 as wire

SECRETS_ENGINE = 1  # logical.TypeLogical
CODED, UNSUPPORTED_OPERATION, UNSUPPORTED_PATH, PLAIN = 3, 5, 6, 0  # ProtoError.err_type
READ_ONLY = "cannot write to readonly storage"  # a standby's words; handed back unchanged they make it ask its leader
STORAGE_TIMEOUT_S = 20.0  # a write waits for a quorum of the cluster; the server's own limit for a request is 90 s
CONFLICT, UNPROCESSABLE, BROKEN = 409, 422, 500  # never 404: the server says that of a mount whose plugin is down

Dial = Callable[[int], Awaitable[Channel]]
MakeEngine = Callable[[Storage], Engine]


class BrokerStorage:
    """This mount's storage, on the connection that the server's broker offers."""

    def __init__(self, channel: Channel) -> None:
        def method(name: str, args: type, reply: type) -> UnaryUnaryMethod[Any, Any]:  # Any: grpclib knows no messages
            return UnaryUnaryMethod(channel, f"/pb.Storage/{name}", args, reply)

        self._get = method("Get", wire.StorageGetArgs, wire.StorageGetReply)
        self._put = method("Put", wire.StoragePutArgs, wire.StoragePutReply)

    async def get(self, key: str) -> bytes | None:
        """See the port."""
        reply = await _asked(self._get(wire.StorageGetArgs(key=key), timeout=STORAGE_TIMEOUT_S), "STORAGE_UNREACHABLE")
        if reply.err:
            raise UnavailableError("STORAGE_UNREACHABLE", f"get {key}: {reply.err[:200]}")
        return bytes(reply.entry.value) if reply.HasField("entry") else None

    async def put(self, key: str, value: bytes) -> None:
        """See the port."""
        args = wire.StoragePutArgs(entry=wire.StorageEntry(key=key, value=value))
        reply = await _asked(self._put(args, timeout=STORAGE_TIMEOUT_S), "STORAGE_UNWRITABLE")
        if READ_ONLY in reply.err:
            raise ReadOnlyError(READ_ONLY)
        if reply.err:
            raise UnavailableError("STORAGE_UNWRITABLE", f"put {key}: {reply.err[:200]}")


async def _asked(call: Coroutine[Any, Any, Any], code: str) -> Any:  # Any: as above
    try:
        return await call
    except (GRPCError, StreamTerminatedError, OSError, TimeoutError) as error:
        raise UnavailableError(code, f"expected the server's storage, found {type(error).__name__}") from error


class BackendService:
    """`pb.Backend` for one mount.

    Args:
        dial: gives the brokered connection of a number.
        make: the engine over a storage.
    """

    def __init__(self, dial: Dial, make: MakeEngine) -> None:
        self._dial, self._make = dial, make
        self._engine: Engine | None = None
        self._running: set[asyncio.Task[Json]] = set()

    def __mapping__(self) -> dict[str, Handler]:
        """Return the methods by name, for grpclib."""
        methods: dict[str, tuple[Callable[[Stream[Any, Any]], Awaitable[None]], type, type]] = {
            "Setup": (self._setup, wire.SetupArgs, wire.SetupReply),
            "Type": (self._type, wire.Empty, wire.TypeReply),
            "SpecialPaths": (self._special_paths, wire.Empty, wire.SpecialPathsReply),
            "Initialize": (self._initialize, wire.Empty, wire.InitializeReply),
            "HandleExistenceCheck": (self._existence, wire.HandleRequestArgs, wire.ExistenceReply),
            "HandleRequest": (self._request, wire.HandleRequestArgs, wire.HandleRequestReply),
            "InvalidateKey": (self._invalidate, wire.InvalidateKeyArgs, wire.Empty),
            "Cleanup": (self._cleanup, wire.Empty, wire.Empty),
        }
        return {
            f"/pb.Backend/{name}": Handler(function, Cardinality.UNARY_UNARY, args, reply)
            for name, (function, args, reply) in methods.items()
        }

    async def _setup(self, stream: Stream[wire.SetupArgs, wire.SetupReply]) -> None:
        """Dial the storage; it is not touched yet: a server that only registers the plugin has none."""
        args, reply = await _received(stream), wire.SetupReply()
        try:
            self._engine = self._make(BrokerStorage(await self._dial(args.broker_id)))
        except (CustodyError, OSError, TimeoutError) as error:
            reply.err = f"storage: {error}"
        await stream.send_message(reply)

    async def _type(self, stream: Stream[wire.Empty, wire.TypeReply]) -> None:
        await stream.send_message(wire.TypeReply(type=SECRETS_ENGINE))

    async def _special_paths(self, stream: Stream[wire.Empty, wire.SpecialPathsReply]) -> None:
        """The seed is wrapped once more where the seal can do that."""
        await stream.send_message(wire.SpecialPathsReply(paths=wire.Paths(seal_wrap_storage=["seed"])))

    async def _initialize(self, stream: Stream[wire.Empty, wire.InitializeReply]) -> None:
        await stream.send_message(wire.InitializeReply())

    async def _existence(self, stream: Stream[wire.HandleRequestArgs, wire.ExistenceReply]) -> None:
        """No such check: policies give `update` for every write."""
        await stream.send_message(wire.ExistenceReply(check_found=False))

    async def _invalidate(self, stream: Stream[wire.InvalidateKeyArgs, wire.Empty]) -> None:
        if self._engine is not None:
            await self._engine.forget()
        await stream.send_message(wire.Empty())

    async def _cleanup(self, stream: Stream[wire.Empty, wire.Empty]) -> None:
        await stream.send_message(wire.Empty())

    async def _request(self, stream: Stream[wire.HandleRequestArgs, wire.HandleRequestReply]) -> None:
        request, reply = (await _received(stream)).request, wire.HandleRequestReply()
        try:
            told = await self._answered(request)
            reply.response.data = json.dumps(told)
        except UnsupportedOperation:
            reply.err.CopyFrom(wire.ProtoError(err_type=UNSUPPORTED_OPERATION, err_msg="unsupported operation"))
        except UnsupportedPath:
            reply.err.CopyFrom(wire.ProtoError(err_type=UNSUPPORTED_PATH, err_msg="unsupported path"))
        except ReadOnlyError:
            reply.err.CopyFrom(wire.ProtoError(err_type=PLAIN, err_msg=READ_ONLY))
        except CustodyError as error:
            say("warn", "request refused", operation=request.operation, path=request.path, code=error.code)
            reply.err.CopyFrom(wire.ProtoError(err_type=CODED, err_code=status_of(error), err_msg=str(error)))
        except Exception as error:  # the border: the server must get an answer, and its log where it came from
            where = traceback.extract_tb(error.__traceback__)[-1]
            say("error", "request broken", kind=type(error).__name__, at=f"{where.name}:{where.lineno}")
            reply.err.CopyFrom(wire.ProtoError(err_type=CODED, err_code=BROKEN, err_msg="ENGINE_BROKEN: see its log"))
        await stream.send_message(reply)

    async def _answered(self, request: wire.Request) -> Json:
        """Run one request to its end, also when the caller gives up: storage and memory must not part."""
        if self._engine is None:
            raise UnavailableError("ENGINE_NOT_SET_UP", "expected Setup before a request")
        task = asyncio.create_task(answer(self._engine, request.operation, request.path, request.data))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)


async def _received(stream: Stream[Any, Any]) -> Any:  # Any: grpclib knows no messages
    message = await stream.recv_message()
    if message is None:
        raise UnavailableError("STREAM_ENDED", "expected a message")
    return message


def status_of(error: CustodyError) -> int:
    """Return the HTTP status that the caller sees for `error`."""
    if isinstance(error, ConflictError):
        return CONFLICT
    return BROKEN if isinstance(error, UnavailableError) else UNPROCESSABLE

"""The one interceptor: every call passes it, whatever its service.

Plan of each call: 1 the message is small and readable · 2 the peer may call the method · 3 a deadline stands ·
4 no text holds a secret · 5 the service works · 6 what went wrong becomes a status · 7 one line in the log.

Reads and refusals become events too (`coordinator.rpc.calls`).
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from coordinator.rpc.calls import Calls, NoCalls
from coordinator.rpc.identity import ALLOWED, Context, Identity, Role, admit
from coordinator.rpc.limits import MAX_CALLS_OF_ONE_PEER, deadline_s, message_limit
from coordinator.rpc.pasted import refuse_secrets
from coordinator.rpc.status import failure_of
from custody.errors import CustodyError, MalformedError, UnavailableError

# Any: one interceptor serves every message type and looks into none.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its stubs alone
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Log: TypeAlias = structlog.typing.FilteringBoundLogger
NO_CALLS = NoCalls()
MINUTE_S = 60.0


@dataclass(slots=True)
class _Call:
    """What the log line of one call says. started: monotonic seconds."""

    method: str
    started: float
    identity: Identity | None = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    unexpected: Exception | None = None


class Border(grpc.aio.ServerInterceptor):
    """Admits calls, bounds them, and turns errors into statuses.

    Args:
        log: gets one line per call.
        now: UTC seconds; certificates are judged by it.
        calls: told of each call, for the event log.
        client_calls_a_minute: how many calls the certificate of a machine may make; 0 for no bound. People are slow.
    """

    def __init__(
        self,
        log: Log,
        now: Callable[[], float] = time.time,
        calls: Calls = NO_CALLS,
        client_calls_a_minute: int = 0,
    ) -> None:
        self._client_calls_a_minute = client_calls_a_minute
        self._minutes: dict[Identity, tuple[float, int]] = {}  # by machine: when its minute began, calls in it
        self._log = log
        self._calls = calls
        self._now = now
        self._running: Counter[Identity] = Counter()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler of the method, bounded; where there is none, one that admits nobody or serves nothing."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details) if method in ALLOWED else None
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._streaming(method, _not_served))
        return self._bounded(method, handler)

    def _bounded(self, method: str, handler: Handler) -> Handler:
        read = _reader(handler.request_deserializer, message_limit(method))
        write = handler.response_serializer
        if handler.stream_stream is not None:
            many = self._streaming(method, _checking_each(handler.stream_stream))
            return grpc.stream_stream_rpc_method_handler(many, read, write)
        if handler.unary_stream is not None:
            many = self._streaming(method, _checking(handler.unary_stream))
            return grpc.unary_stream_rpc_method_handler(many, read, write)
        if handler.unary_unary is not None:
            once = self._unary(method, _checking(handler.unary_unary))
            return grpc.unary_unary_rpc_method_handler(once, read, write)
        raise NotImplementedError(f"{method}: a stream in and one message out is not used here")

    def _unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> Any:
            return await self._run(method, context, request, lambda: behaviour(request, context))

        return answer

    def _streaming(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> None:
            async def work() -> None:
                answers = behaviour(request, context)
                if inspect.isawaitable(answers):
                    await answers  # a service that writes by itself, such as health
                    return
                async with aclosing(answers):  # a service's own clean-up runs now, not at the next collection
                    async for message in answers:
                        await context.write(message)

            await self._run(method, context, request, work)

        return answer

    async def _run(self, method: str, context: Context, request: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do `work` inside the call's bounds and return what it returns; any failure ends the call with its status."""
        structlog.contextvars.clear_contextvars()  # services bind ids to the line; none is left over from elsewhere
        call = _Call(method, time.monotonic())
        clock = asyncio.timeout(deadline_s(method, context.time_remaining()))
        try:
            call.identity = admit(method, context, self._now())
            with self._counted(call.identity):
                async with clock:
                    await self._calls.begun(method, call.identity, request, context.peer())
                    return await work()
        except asyncio.CancelledError:  # the client went away
            call.code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:  # a service of grpc's own ended the call: ours raise
            call.code = _code_of(context)
            raise
        except Exception as error:  # the border: nothing of ours leaves as a surprise
            late = isinstance(error, TimeoutError) and clock.expired()
            failure = failure_of(UnavailableError("DEADLINE_EXCEEDED", "expected less work") if late else error)
            call.code, call.reason = failure.status, failure.reason
            call.unexpected = error if failure.unexpected else None
            await self._calls.failed(method, call.identity, call.reason, context.peer())
        finally:
            self._write(call)
        return await context.abort(failure.status, failure.text, failure.trailers())

    @contextmanager
    def _counted(self, peer: Identity) -> Iterator[None]:
        """Count one call of `peer` while the block runs. Raises UnavailableError TOO_MANY_CALLS above its share."""
        if self._running[peer] >= MAX_CALLS_OF_ONE_PEER:
            raise UnavailableError("TOO_MANY_CALLS", f"expected at most {MAX_CALLS_OF_ONE_PEER} calls at once")
        self._rated(peer)
        self._running[peer] += 1
        try:
            yield
        finally:
            self._running[peer] -= 1
            if not self._running[peer]:
                del self._running[peer]

    def _rated(self, peer: Identity) -> None:
        """Count one call of a machine in its minute. Raises UnavailableError TOO_MANY_CALLS_A_MINUTE above the rate."""
        if peer.role is not Role.CLIENT or not self._client_calls_a_minute:
            return
        now = self._now()
        began, count = self._minutes.get(peer, (now, 0))
        if not 0 <= now - began < MINUTE_S:
            began, count = now, 0
        if count >= self._client_calls_a_minute:
            most = f"expected at most {self._client_calls_a_minute} calls of {peer.name} a minute"
            raise UnavailableError("TOO_MANY_CALLS_A_MINUTE", most)
        self._minutes[peer] = (began, count + 1)

    def _write(self, call: _Call) -> None:
        """Write the one line of a call; services may have bound ids to it."""
        fields = {
            "method": call.method,
            "role": call.identity.role.value if call.identity else "",
            "peer": call.identity.name if call.identity else "",
            "code": call.code.name,
            "reason": call.reason,
            "duration_ms": round(1000 * (time.monotonic() - call.started), 3),
        }
        if call.unexpected is not None:
            self._log.error("call.break", exc_info=call.unexpected, **fields)
        else:
            self._log.info("call.end", **fields)


def _code_of(context: Context) -> grpc.StatusCode:
    """Return the status that a service set; grpc hands it out as a number."""
    found = context.code()
    return next((code for code in grpc.StatusCode if found in (code, code.value[0])), grpc.StatusCode.UNKNOWN)


async def _not_served(_: object, __: Context) -> None:
    raise UnavailableError("NOT_SERVED", "expected a service that runs here")


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for a request that was not parsed, so that its refusal gets a status of ours and not the transport's."""

    error: CustodyError


def _reader(parse: Callable[[bytes], Any] | None, limit: int) -> Callable[[bytes], Any]:
    """Return a deserializer that looks at the size before it parses anything."""

    def read(raw: bytes) -> Any:
        if len(raw) > limit:
            found = f"expected at most {limit} bytes, found {len(raw)}"
            return _Unreadable(MalformedError("MESSAGE_TOO_LARGE", found))
        try:
            return parse(raw) if parse else raw
        except DecodeError:
            return _Unreadable(MalformedError("MESSAGE_UNREADABLE", "expected a message of this method"))

    return read


def _readable(request: Any) -> Any:
    if isinstance(request, _Unreadable):
        raise request.error
    return request


def _checking(behaviour: Callable[..., Any]) -> Behaviour:
    def answer(request: Any, context: Context) -> Any:
        found = _readable(request)
        if isinstance(found, Message):
            refuse_secrets(found)
        return behaviour(found, context)

    return answer


def _checking_each(behaviour: Callable[..., Any]) -> Behaviour:
    async def each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            yield _readable(request)

    return lambda requests, context: behaviour(each(requests), context)

"""HTTP/1.1 for the chain's two HTTP interfaces: one answer per connection, small requests, loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from custody.errors import CustodyError

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024  # a batch of imported scripts, or a block's worth of transactions as hex
REQUEST_SECONDS = 30
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. headers: names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer."""

    status: int
    body: bytes
    kind: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]


async def serve_http(handler: Handler, host: str, port: int) -> asyncio.Server:
    """Serve `handler` until the returned server is closed. port: 0 for any that is free."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await _read(reader)
                answer = await _answered(handler, request)
                writer.write(_written(answer))
                await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever sends half a request or hangs up is gone
        finally:
            writer.close()

    return await asyncio.start_server(connected, host, port, limit=MAX_HEAD_BYTES)


async def _read(reader: asyncio.StreamReader) -> HttpRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = int(headers.get("content-length", "0"))
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ValueError("body too large")
    return HttpRequest(method, path, headers, await reader.readexactly(size))


async def _answered(handler: Handler, request: HttpRequest) -> HttpAnswer:
    try:
        return await handler(request)
    except CustodyError as error:
        return HttpAnswer(500, error.code.encode())


def _written(answer: HttpAnswer) -> bytes:
    headers = {
        "content-type": answer.kind,
        "content-length": str(len(answer.body)),
        "connection": "close",
        **answer.headers,
    }
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Error')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body

"""HTTP to chain servers: bounded answers, few at once, patience with busy servers, a proxy where one is set."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import httpx

from custody.errors import UnavailableError

TIMEOUT_S = 20.0  # Tor circuits are slow; a server that takes longer is asked again later
MAX_AT_ONCE = 8  # public servers count requests per address
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a transaction of 4,000,000 weight units as hex, twice
TRIES = 3
FIRST_PAUSE_S = 0.5  # doubled each time; a server that names a time is given that
MAX_PAUSE_S = 10.0
_BUSY = frozenset((429, 502, 503, 504))
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace").strip()


class HttpSource:
    """One server.

    Args:
        url: without a trailing slash.
        proxy: `socks5://host:port` (Tor: names are resolved there), or "" for none.
        timeout_s: of each request.
    """

    def __init__(self, url: str, proxy: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.removesuffix("/")
        self._client = httpx.AsyncClient(
            proxy=proxy or None,
            timeout=timeout_s,
            follow_redirects=False,  # where an answer comes from is configured, not said
            trust_env=False,  # a proxy of the environment would see what we watch
            limits=httpx.Limits(max_connections=MAX_AT_ONCE),
        )
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    async def get(self, path: str) -> Answer:
        """Return the answer to GET; asked again while the server is busy. Raises UnavailableError CHAIN_HTTP."""
        pause_s = FIRST_PAUSE_S
        for left in reversed(range(TRIES)):
            answer, wait_s = await self._once("GET", path, b"", _NO_HEADERS)
            if answer.status not in _BUSY or not left:
                break
            await asyncio.sleep(min(MAX_PAUSE_S, wait_s or pause_s))
            pause_s *= 2
        return self._usable(answer)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
        """Return the answer to one POST; never repeated here. Raises UnavailableError CHAIN_HTTP."""
        answer, _ = await self._once("POST", path, body, headers)
        return self._usable(answer)

    async def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[Answer, float]:
        """Return the answer, and for how many seconds the server asks for peace (0: it did not say)."""
        try:
            async with (
                self._turns,
                self._client.stream(method, self._url + path, content=body, headers=dict(headers)) as found,
            ):
                parts, size = [], 0
                async for part in found.aiter_bytes():
                    size += len(part)
                    if size > MAX_ANSWER_BYTES:
                        raise UnavailableError("CHAIN_HTTP", f"expected at most {MAX_ANSWER_BYTES} bytes")
                    parts.append(part)
                asked = found.headers.get("retry-after", "")
                return Answer(found.status_code, b"".join(parts)), float(asked) if asked.isdigit() else 0.0
        except httpx.HTTPError as error:
            raise UnavailableError("CHAIN_HTTP", f"expected an answer, found {type(error).__name__}") from error

    def _usable(self, answer: Answer) -> Answer:
        if answer.status in _BUSY:
            raise UnavailableError("CHAIN_BUSY", f"expected an answer, found status {answer.status}")
        return answer

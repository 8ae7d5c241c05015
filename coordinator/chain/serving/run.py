"""`python3 -m coordinator regtest --serve`: the embedded chain for programs of others, until it is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.serving.core_rpc import CoreServer
from coordinator.chain.serving.electrum import serve_electrum
from coordinator.chain.serving.esplora import EsploraServer
from coordinator.chain.serving.http import serve_http
from coordinator.clock import SystemClock

HOST = "127.0.0.1"  # never another: whoever reaches it can broadcast and knows what we watch
COOKIE_USER = "__cookie__"  # Core's own name for it


@dataclass(frozen=True, slots=True)
class Places:
    """Where the chain is served. esplora, core: URLs.  electrum: host:port.  cookie: file with Core's credentials."""

    esplora: str
    electrum: str
    core: str
    cookie: str


async def serve(chain: EmbeddedChain, cookie: Path, stack: AsyncExitStack, ports: tuple[int, int, int]) -> Places:
    """Serve `chain` until `stack` ends.

    Args:
        chain: an open chain.
        cookie: where Core's credentials are written (0600), as Core does.
        stack: closes the servers and removes the cookie.
        ports: of Esplora, Electrum and Core; 0 for any that is free.
    """
    credentials = f"{COOKIE_USER}:{secrets.token_hex(32)}"
    _write_cookie(cookie, credentials)
    stack.callback(cookie.unlink, missing_ok=True)
    servers = [
        await serve_http(EsploraServer(chain).answer, HOST, ports[0]),
        await serve_electrum(chain, HOST, ports[1]),
        await serve_http(CoreServer(chain, credentials).answer, HOST, ports[2]),
    ]
    for server in servers:
        stack.callback(server.close)
    esplora, electrum, core = (server.sockets[0].getsockname()[1] for server in servers)
    return Places(f"http://{HOST}:{esplora}", f"{HOST}:{electrum}", f"http://{HOST}:{core}", str(cookie))


def _write_cookie(cookie: Path, credentials: str) -> None:
    cookie.unlink(missing_ok=True)
    with os.fdopen(os.open(cookie, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(credentials)


async def run(directory: Path, ports: tuple[int, int, int]) -> int:
    """Serve the chain in `directory` and print where, until SIGTERM or SIGINT; return the exit code."""
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(await EmbeddedChain.open(directory, SystemClock()))
        places = await serve(chain, directory / "cookie", stack, ports)
        with suppress(BrokenPipeError):
            print(json.dumps(asdict(places)), flush=True)
        await done.wait()
    return 0

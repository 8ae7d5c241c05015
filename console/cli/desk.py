"""desk: pages on this machine that show, check and sign; nothing else can reach them."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Invocation, invocation

if TYPE_CHECKING:
    import socket

app = typer.Typer(rich_markup_mode=None)


@app.command()
def desk(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Your passkeys are bound to it; 0 takes a free one.")] = (
        8420
    ),
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the link; open nothing.")] = False,
) -> None:
    """Open your desk in the browser: read, approve and reject, ask for withdrawals, freeze."""
    from console.desk.serving import take_port

    asyncio.run(_run(invocation(context), take_port(port), no_browser))


async def _run(called: Invocation, taken: list[socket.socket], no_browser: bool) -> None:
    import webbrowser

    from console.channel import Address
    from console.client import Client
    from console.desk.passkeys import open_keys
    from console.desk.room import make_room
    from console.desk.serving import link, serving
    from console.tls import TlsFiles

    config, genesis = called.config(), called.genesis()
    port = taken[0].getsockname()[1]
    keys = open_keys(config.path, f"http://localhost:{port}")
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    files = TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca)
    async with Client(Address(config.coordinator, files)) as client:
        room = make_room(config.path, config, genesis, client, keys)

        def say_link(word: str) -> None:
            called.output.done({"url": link(room, port)}, f"{word} {link(room, port)}")

        async with serving(room, taken, lambda: say_link("to open it again:")):
            say_link("your desk:")
            if not no_browser:
                webbrowser.open(link(room, port))
            await stopped.wait()

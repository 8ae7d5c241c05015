"""chain: mine on the embedded regtest chain. No other chain has such commands."""

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.office import Office, connected

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Steer the embedded regtest chain.")
app.add_typer(group, name="chain")


@group.command()
def mine(
    context: typer.Context,
    blocks: Annotated[int, typer.Argument(min=1, max=200, help="How many.")] = 1,
    to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Whom the rewards pay; nobody where left out.")
    ] = None,
) -> None:
    """Mine blocks (regtest only)."""
    connected(context, lambda office: _mine(office, blocks, to))


async def _mine(office: Office, blocks: int, to: str | None) -> None:
    from console.refusal import refuse
    from custody.address import script_of
    from custody.wallet import Network

    network = office.genesis.network
    if network is not Network.REGTEST:
        refuse("NOT_REGTEST", "a genesis on regtest", network.value)
    script = b"" if to is None else script_of(to, network)
    height, block_hash = await office.client.mine(blocks, script)
    shown = block_hash[::-1].hex()
    office.output.done({"height": height, "block_hash": shown}, f"height {height}, block {shown}")

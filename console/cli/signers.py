"""signer: the nodes that judge and sign, as the coordinator hears them."""

from __future__ import annotations

import typer

from console.cli.office import Office, connected
from console.cli.output import Table

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The signer nodes.")
app.add_typer(group, name="signer")


@group.command("list")
def list_signers(context: typer.Context) -> None:
    """List the nodes of the pinned rules, and when the coordinator heard each."""
    connected(context, _list)


async def _list(office: Office) -> None:
    from console.pages import span

    nodes, size = await office.client.signers()
    heard = {node.name: node for node in nodes}
    rows, value = [], []
    for pinned in office.policy.roots.nodes:
        node = heard.get(pinned.name)
        state = "not told" if node is None else node.backend or "not heard"
        ago = f"{span(max(0, office.now - node.heard_at))} ago" if node is not None and node.heard_at else "never"
        stream = "open" if node is not None and node.connected else "none"
        entries = str(node.money_size) if node is not None and node.heard_at else "?"
        rows.append((pinned.name, pinned.location.value, pinned.host, stream, state, ago, f"{entries} of {size}"))
        value.append(
            {
                "name": pinned.name,
                "location": pinned.location.value,
                "host": pinned.host,
                "connected": node is not None and node.connected,
                "backend": "" if node is None else node.backend,
                "heard_at": 0 if node is None else node.heard_at,
                "money_size": 0 if node is None else node.money_size,
            }
        )
    columns = ("node", "location", "host", "stream", "key", "heard", "log entries")
    office.output.done({"signers": value, "money_size": size}, Table(columns, rows))

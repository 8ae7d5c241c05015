"""signer: the nodes that judge and sign, as the coordinator hears them, and how their keys stand, as proven here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected
from console.cli.output import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from console.views import NodeView
    from custody.canonical import Json
    from custody.health import Health

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The signer nodes.")
app.add_typer(group, name="signer")
MAX_REPORT_BYTES = 16 * 1024


@group.command("list")
def list_signers(context: typer.Context) -> None:
    """List the nodes of the pinned rules: when each was heard, when its key was proven, and what that means."""
    connected(context, _list)


@group.command()
def report(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Proofs of life and drills, as nodes wrote them.")],
) -> None:
    """Carry proofs of life and records of drills of nodes that have no network."""
    connected(context, lambda office: _report(office, files))


async def _list(office: Office) -> None:
    from console.keys import drilled_at, proven_at
    from console.pages import span

    nodes, size = await office.client.signers()
    heard = {node.name: node for node in nodes}
    policy = await office.in_force()
    rows, value = [], []
    for pinned in policy.roots.nodes:
        node = heard.get(pinned.name)
        state = "not told" if node is None else _state(node)
        ago = f"{span(max(0, office.now - node.heard_at))} ago" if node is not None and node.heard_at else "never"
        stream = "open" if node is not None and node.connected else "none"
        entries = str(node.money_size) if node is not None and node.heard_at else "?"
        proven, drilled = proven_at(office.genesis, policy, node), drilled_at(policy, node)
        rows.append(
            (
                pinned.name,
                pinned.location.value,
                pinned.host,
                stream,
                state,
                ago,
                f"{entries} of {size}",
                *(f"{span(max(0, office.now - at))} ago" if at else "never" for at in (proven, drilled)),
            )
        )
        value.append(
            {
                "name": pinned.name,
                "location": pinned.location.value,
                "host": pinned.host,
                "connected": node is not None and node.connected,
                "backend": "" if node is None else node.backend,
                "code": "" if node is None else node.code,
                "heard_at": 0 if node is None else node.heard_at,
                "money_size": 0 if node is None else node.money_size,
                "proven_at": proven,
                "drilled_at": drilled,
            }
        )
    columns = ("node", "location", "host", "stream", "key", "heard", "log entries", "proven", "drilled")
    found = health(office, nodes)
    told: dict[str, Json] = {"signers": value, "money_size": size, "keys": [_health_json(each) for each in found]}
    office.output.done(told, Table(columns, rows), "", *health_lines(found))


async def _report(office: Office, files: list[Path]) -> None:
    from console.files import read_file
    from custody.statements import Signed

    value: list[Json] = []
    lines = []
    for path in files:
        signed = Signed.from_bytes(read_file(path, MAX_REPORT_BYTES))
        is_new = await office.client.report_health(signed)
        value.append({"file": str(path), "kind": signed.kind.name.lower(), "created": is_new})
        lines.append(f"{path}: {'taken' if is_new else 'known already'}")
    office.output.done({"reports": value}, *lines)


def health(office: Office, nodes: Iterable[NodeView]) -> tuple[Health, ...]:
    """Return how the keys of every pinned wallet stand, from proofs that hold here."""
    from console.keys import proven_at
    from custody.health import health_of

    proven = {node.name: proven_at(office.genesis, office.policy, node) for node in nodes}
    return tuple(health_of(wallet, proven, office.now) for wallet in office.genesis.wallets)


def health_lines(found: Iterable[Health]) -> list[str]:
    """Return one line for each wallet; an alert says so first."""
    from custody.health import Alarm

    return [f"{'ALERT: ' if each.alarm is Alarm.ALERT else ''}{each}" for each in found]


def _health_json(found: Health) -> Json:
    return {
        "wallet": found.wallet,
        "keys": found.keys,
        "threshold": found.threshold,
        "unproven": list(found.unproven),
        "spare": found.spare,
        "alarm": found.alarm.value,
        "told": str(found),
    }


def _state(node: NodeView) -> str:
    """Return how its key is, and in parentheses the code that says why it is not ready."""
    return (node.backend or "not heard") + (f" ({node.code})" if node.code else "")

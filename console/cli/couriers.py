"""bundle, delta: documents that people carry to offline nodes, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected

if TYPE_CHECKING:
    from console.views import WithdrawalView
    from custody.canonical import Json

app = typer.Typer(rich_markup_mode=None)
bundle = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Bundles to offline nodes, answers back.")
delta = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Log entries to an offline node that is behind.")
app.add_typer(bundle, name="bundle")
app.add_typer(delta, name="delta")
Withdrawal = Annotated[str, typer.Argument(metavar="DIGEST|ID")]
Node = Annotated[str, typer.Option(help="Name of the node.")]
Out = Annotated[Path, typer.Option(help="New file.")]
MAX_DELTA_FILES = 1_000  # 6 GB of log; whoever is further behind starts from an export


@bundle.command("export")
def export_bundle(context: typer.Context, withdrawal: Withdrawal, node: Node, out: Out) -> None:
    """Write the bundle of a released withdrawal for an offline node."""
    connected(context, lambda office: _export_bundle(office, withdrawal, node, out))


async def _export_bundle(office: Office, name: str, node: str, out: Path) -> None:
    from console.carried import checked_bundle
    from console.files import write_new
    from console.pages import word_lines

    view = await office.find(name)
    raw = await office.client.export_bundle(view.digest, node)
    found = checked_bundle(raw, office.genesis, node, view.digest)
    write_new(out, raw)
    value: dict[str, Json] = {"file": str(out), "bytes": len(raw), "node": node, "digest": view.digest.hex()}
    office.output.done(
        value | {"log_from": found.log.first},
        f"{len(raw):,} bytes for {node} in {out}; the node's screen must show these words:",
        *word_lines(view.digest),
    )


@bundle.command("import")
def import_answer(
    context: typer.Context, answer: Annotated[Path, typer.Argument(help="The node's answer file.")]
) -> None:
    """Hand in an offline node's answer."""
    connected(context, lambda office: _import_answer(office, answer))


async def _import_answer(office: Office, path: Path) -> None:
    from console.carried import read_answer_file
    from custody.bundle import Behind
    from custody.errors import Refused

    raw, answer = read_answer_file(path, office.genesis)
    after = await office.client.import_answer(raw, answer.withdrawal_digest)
    if isinstance(answer.outcome, Refused):
        said = f"{answer.node} refused: {answer.outcome}"
    elif isinstance(answer.outcome, Behind):
        size = answer.outcome.size
        said = f"{answer.node} is behind: keyturn delta export --node {answer.node} --from {size} --out FILE"
    else:
        said = f"{answer.node} signed {len(answer.outcome)} input(s)"
    _done(office, after, said)


@delta.command("export")
def export_delta(
    context: typer.Context,
    node: Node,
    out: Out,
    from_: Annotated[int, typer.Option("--from", min=0, metavar="SIZE", help="Entries that the node has.")],
) -> None:
    """Write the log entries that an offline node lacks; what does not fit one file goes on in OUT.2, OUT.3, ..."""
    connected(context, lambda office: _export_delta(office, node, from_, out))


async def _export_delta(office: Office, node: str, size: int, out: Path) -> None:
    from console.carried import checked_delta
    from console.files import write_new

    files: list[Json] = []
    for number in range(1, MAX_DELTA_FILES):
        page = await office.client.export_delta(node, size)
        checked_delta(page.document, office.genesis, size)
        path = out if number == 1 else out.with_name(f"{out.name}.{number}")
        write_new(path, page.document)
        files.append(str(path))
        if not page.more or page.to_size <= size:
            break
        size = page.to_size
    office.output.done(
        {"files": files, "to_size": page.to_size},
        f"{node} has {page.to_size} entries after {', '.join(str(f) for f in files)}, in this order",
    )


def _done(office: Office, after: WithdrawalView, said: str) -> None:
    from console.showing import standing_lines, view_json

    value = view_json(after, office.policy, office.now) | {"said": said}
    office.output.done(value, said, *standing_lines(after, office.policy, office.now))

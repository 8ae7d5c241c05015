"""bundle, delta: documents that people carry to offline nodes, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.carriers import Capture, Carrier, Frames, FrameSize, Gif, Out, Pictures, Qr, Size, carriers_of
from console.cli.office import Office, connected
from custody.errors import ConflictError, MalformedError

if TYPE_CHECKING:
    from console.frames import Carriers
    from console.views import WithdrawalView
    from custody.canonical import Json

app = typer.Typer(rich_markup_mode=None)
bundle = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Bundles to offline nodes, answers back.")
delta = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Log entries to an offline node that is behind.")
app.add_typer(bundle, name="bundle")
app.add_typer(delta, name="delta")
Withdrawal = Annotated[str, typer.Argument(metavar="DIGEST|ID")]
Node = Annotated[str, typer.Option(help="Name of the node.")]
DeltaFile = Annotated[Path, typer.Option("--out", help="New file.")]
MAX_DELTA_FILES = 1_000  # 6 GB of log; whoever is further behind starts from an export


@bundle.command("export")
def export_bundle(
    context: typer.Context,
    withdrawal: Withdrawal,
    node: Node,
    out: Out = None,
    pictures: Pictures = None,
    gif: Gif = None,
    qr: Qr = False,
    frames: Frames = None,
    size: FrameSize = Size.MEDIUM,
    carrier: Carrier = "",
) -> None:
    """Hand out the bundle of a released withdrawal for an offline node: as a file, as pictures, on this terminal."""
    carriers = carriers_of(out, pictures, gif, show=qr, kind=frames, size=size)
    connected(context, lambda office: _export_bundle(office, withdrawal, node, carriers, carrier))


async def _export_bundle(office: Office, name: str, node: str, carriers: Carriers, carrier: str) -> None:
    from console.carried import checked_bundle
    from console.frames import hand_out
    from console.pages import word_lines
    from custody.frames import Parcel, ParcelKind, digest_of

    view = await office.find(name)
    raw, deltas = await _fetched(office, view.digest, node, carriers, carrier)
    found = checked_bundle(raw, office.genesis, node, view.digest)
    written = hand_out(Parcel(ParcelKind.DOCUMENT, raw), carriers)
    value: dict[str, Json] = {"files": list(written), "bytes": len(raw), "node": node, "digest": view.digest.hex()}
    if deltas:
        office.output.say(f"{node} is behind; first, in this order: keyturn-node delta {' '.join(deltas)}")
    office.output.done(
        value | {"log_from": found.log.first, "sha256": digest_of(raw).hex(), "deltas": list(deltas)},
        f"{len(raw):,} bytes for {node} {_in(written)}SHA-256 {digest_of(raw).hex()}",
        "the node's screen must show these words:",
        *word_lines(view.digest),
    )


async def _fetched(
    office: Office, digest: bytes, node: str, carriers: Carriers, carrier: str
) -> tuple[bytes, list[str]]:
    """Return a bundle, and the delta files that `node` has to follow before it, written beside the bundle's file.

    Raises:
        ConflictError: NODE_BEHIND where there is no file to write them beside.
    """
    try:
        return await office.client.export_bundle(digest, node, carrier), []
    except ConflictError as error:
        if error.code != "NODE_BEHIND" or carriers.out is None:
            raise
    out = carriers.out.with_name(f"{carriers.out.name}.delta")
    deltas, _ = await _write_deltas(office, node, None, out, carrier)
    return await office.client.export_bundle(digest, node, carrier), deltas


@bundle.command("import")
def import_answer(
    context: typer.Context,
    answer: Annotated[
        Path | None, typer.Argument(help="The node's answer: a file, a picture, a folder of pictures.")
    ] = None,
    capture: Capture = None,
    carrier: Carrier = "",
) -> None:
    """Hand in an offline node's answer."""
    if (answer is None) is (capture is None):
        raise MalformedError("CARRIER", "expected a file or folder, or --capture COMMAND")
    connected(context, lambda office: _import_answer(office, answer, capture, carrier))


async def _import_answer(office: Office, path: Path | None, camera: str | None, carrier: str) -> None:
    from console.carried import checked_answer
    from console.frames import capture, read_carried
    from custody.bundle import Behind
    from custody.errors import Refused
    from custody.frames import ParcelKind

    raw = read_carried(path, ParcelKind.DOCUMENT) if path is not None else capture(camera or "", ParcelKind.DOCUMENT)
    answer = checked_answer(raw, office.genesis)
    after = await office.client.import_answer(raw, answer.withdrawal_digest, carrier)
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
    out: DeltaFile,
    from_: Annotated[
        int | None, typer.Option("--from", min=0, metavar="SIZE", help="Entries that the node has, as it said.")
    ] = None,
    carrier: Carrier = "",
) -> None:
    """Write the log entries that an offline node lacks; what does not fit one file goes on in OUT.2, OUT.3, ..."""
    connected(context, lambda office: _export_delta(office, node, from_, out, carrier))


async def _export_delta(office: Office, node: str, size: int | None, out: Path, carrier: str) -> None:
    files, to_size = await _write_deltas(office, node, size, out, carrier)
    office.output.done(
        {"files": list(files), "to_size": to_size},
        f"{node} has {to_size} entries after {', '.join(files)}, in this order",
    )


async def _write_deltas(office: Office, node: str, size: int | None, out: Path, carrier: str) -> tuple[list[str], int]:
    """Write what `node` lacks behind `size` entries; return the files, in order, and its size after them."""
    from console.carried import checked_delta
    from console.files import write_new

    files: list[str] = []
    for number in range(1, MAX_DELTA_FILES):
        page = await office.client.export_delta(node, size, carrier)
        checked_delta(page.document, office.genesis, size)
        path = out if number == 1 else out.with_name(f"{out.name}.{number}")
        write_new(path, page.document)
        files.append(str(path))
        if not page.more or page.to_size <= (size or 0):
            break
        size = page.to_size
    return files, page.to_size


def _in(written: list[str]) -> str:
    return f"in {', '.join(written)}; " if written else ""


def _done(office: Office, after: WithdrawalView, said: str) -> None:
    from console.showing import standing_lines, view_json

    value = view_json(after, office.policy, office.now) | {"said": said}
    office.output.done(value, said, *standing_lines(after, office.policy, office.now))

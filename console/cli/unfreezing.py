"""unfreeze: a quorum lifts named freezes. One makes the document, others add their signatures, one hands it in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected

if TYPE_CHECKING:
    from console.cli.output import Part
    from custody.canonical import Json
    from custody.entries import Unfreeze
    from custody.statements import Signed

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Lift freezes, as a quorum.")
app.add_typer(group, name="unfreeze")
MAX_DOCUMENT_BYTES = 64 * 1024  # 256 ids and 64 signatures
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@group.command()
def sign(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="New file for the document with your signature.")],
    document: Annotated[
        Path | None, typer.Argument(help="What others signed already; a new one where left out.")
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option(help="Id of a freeze to lift; all in the log where left out.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Sign a document that lifts freezes; lifted ids are dead for ever."""
    connected(context, lambda office: _sign(office, out, document, tuple(freeze or ()), yes))


async def _sign(office: Office, out: Path, document: Path | None, freezes: tuple[str, ...], yes: bool) -> None:
    from console.files import write_new
    from console.refusal import refuse
    from custody.canonical import encode
    from custody.entries import Unfreeze, read_unfreeze
    from custody.fields import parse_hex
    from custody.genesis import with_endorsement
    from custody.statements import Kind, Signed

    pen, state = await office.pen(), (await office.followed()).state
    if document is None:
        ids = {parse_hex(text, "--freeze", 16) for text in freezes} or {found.freeze_id for found in state.freezes}
        if not ids:
            refuse("NOTHING_FROZEN", "a freeze in the log", "none")
        statement = Unfreeze(office.genesis.hash, tuple(sorted(ids)), office.now)
        signed = Signed(Kind.UNFREEZE, encode(statement.to_json()), ())
    else:
        signed = _read(office, document)
    by = {found.freeze_id: found.by for found in state.freezes}
    lifted = read_unfreeze(signed)
    office.output.page(_lines(lifted, by))
    office.output.confirm(f"Lift them as {office.config.me}?", yes)
    signed = with_endorsement(signed, pen.endorse(Kind.UNFREEZE, signed.raw))
    write_new(out, signed.to_bytes())
    have, needed = _standing(office, signed)
    office.output.done(
        {"file": str(out), "signed_by": have, "needed": needed, "freezes": [i.hex() for i in lifted.freeze_ids]},
        f"signed by {', '.join(have)} of {needed} that are needed, in {out}",
    )


@group.command()
def submit(context: typer.Context, document: Annotated[Path, typer.Argument(help="Signed by the quorum.")]) -> None:
    """Hand in a document that lifts freezes."""
    connected(context, lambda office: _submit(office, document))


async def _submit(office: Office, document: Path) -> None:
    from console.cli.delivering import deliver
    from console.cli.policy import freezes_json, freezes_table
    from console.refusal import refuse

    signed = _read(office, document)
    have, needed = _standing(office, signed)
    if len(have) < needed:
        refuse("UNFREEZE_QUORUM", f"signatures of {needed} people", ", ".join(have) or "none")
    delivered = await deliver(office, signed, office.client.unfreeze(signed))
    value: dict[str, Json] = {"delivery": delivered.to_json()}
    parts: list[Part] = ["handed in; it counts once it is in the log"]
    if (freezes := delivered.answer) is not None:
        value["freezes"] = freezes_json(freezes)
        parts = ["still frozen:", freezes_table(freezes)] if freezes else ["no freeze is in force"]
    office.output.done(value, *parts, *(delivered.lines() if delivered.is_done else ()))


def _read(office: Office, path: Path) -> Signed:
    from console.files import read_file
    from console.refusal import refuse
    from custody.entries import read_unfreeze
    from custody.statements import Signed

    signed = Signed.from_bytes(read_file(path, MAX_DOCUMENT_BYTES))
    if read_unfreeze(signed).genesis != office.genesis.hash:
        refuse("GENESIS_OTHER", "a document under the pinned genesis", "another's")
    return signed


def _standing(office: Office, signed: Signed) -> tuple[list[str], int]:
    """Return who of the quorum signed, and how many must."""
    from custody.quorum import key_holders

    quorum = office.policy.admin.unfreeze
    return sorted(key_holders(office.policy, signed, groups=quorum.groups, seen=True)), quorum.threshold


def _lines(lifted: Unfreeze, by: dict[bytes, str]) -> list[str]:
    ids = [f"  {found.hex()} by {by.get(found, 'nobody: not in force')}" for found in lifted.freeze_ids]
    return ["Lift these freezes, so that nodes sign again:", *ids]

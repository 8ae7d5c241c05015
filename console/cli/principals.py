"""principal prove, enrol, revoke: whose keys the rules list. Each writes the next version for admins to propose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected, invocation
from console.cli.rule_changes import diff_json, diff_parts, in_force_document, write_document

if TYPE_CHECKING:
    from console.policy.changes import Document
    from custody.canonical import Json
    from custody.possession import Possession

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Whose keys the rules list.")
app.add_typer(group, name="principal")
MAX_PROOF_BYTES = 16_384  # a statement of seven fields, an assertion of 4 KiB in hex, and a signature
YEAR_DAYS = 365
Out = Annotated[Path, typer.Option(help="New file for the next version of the rules, .yaml or .json.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@group.command()
def prove(context: typer.Context, out: Annotated[Path, typer.Option(help="New file for the proof.")]) -> None:
    """Prove, for an admin to enrol, that your key is yours; read its words to them by voice."""
    from console.files import write_new
    from console.pages import key_words
    from console.pen import open_pen
    from custody.possession import Possession
    from custody.statements import Kind

    called = invocation(context)
    config, pen = called.config(), open_pen(called.config().key)
    said = Possession(called.genesis().hash, config.me, pen.alg, pen.key)
    write_new(out, pen.sign(Kind.POSSESSION, said.to_json()).to_bytes())
    words = key_words(pen.key)
    called.output.done({"file": str(out), "principal": config.me, "words": words}, f"proof in {out}; words: {words}")


@group.command()
def enrol(
    context: typer.Context,
    proof: Annotated[Path, typer.Argument(help="What `keyturn principal prove` wrote.")],
    org: Annotated[str, typer.Option(help="Organisation.")],
    out: Out,
    groups: Annotated[list[str] | None, typer.Option("--group", help="One of the rules' groups; repeat it.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How long the key counts.")] = YEAR_DAYS,
    yes: Yes = False,
) -> None:
    """Write the next version with one person more, after comparing the words of the key by voice."""
    connected(context, lambda office: _enrol(office, proof, out, (org, tuple(groups or ()), days), yes))


async def _enrol(office: Office, proof: Path, out: Path, place: tuple[str, tuple[str, ...], int], yes: bool) -> None:
    from console.files import read_file
    from console.policy.changes import enrolled, next_version
    from custody.possession import read_possession
    from custody.statements import Signed

    found = read_possession(Signed.from_bytes(read_file(proof, MAX_PROOF_BYTES)), office.genesis.hash)
    org, groups, days = place
    office.output.page([f"{found.principal} of {org}, in {', '.join(groups) or 'no group'}", *_key_lines(found)])
    office.output.confirm(f"Did {found.principal} read these words to you?", yes)
    old = await in_force_document(office)
    document = enrolled(next_version(old, office.now), found, org, groups, office.now + days * 86_400)
    await _write(office, out, document, {"principal": found.principal, "key": found.key.hex()})


def _key_lines(found: Possession) -> list[str]:
    from console.pages import key_words

    if not found.is_passkey:
        return [key_words(found.key)]
    return [
        f"a passkey for {', '.join(found.origins)}, with the key of its desk",
        key_words(found.key + found.desk_key),
    ]


@group.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A user or service.")],
    out: Out,
    remove: Annotated[bool, typer.Option("--remove", help="Take them out whole; that loosens, so it waits.")] = False,
) -> None:
    """Write the next version in which somebody may ask, approve and administer nothing any more."""
    connected(context, lambda office: _revoke(office, name, out, remove))


async def _revoke(office: Office, name: str, out: Path, remove: bool) -> None:
    from console.policy.changes import next_version, revoked

    old = await in_force_document(office)
    document = revoked(next_version(old, office.now), name, office.now, remove=remove)
    await _write(office, out, document, {"principal": name})


async def _write(office: Office, out: Path, document: Document, value: dict[str, Json]) -> None:
    """Write the document, and say what it changes and who is next."""
    from console.policy.changes import compared

    policy = await office.in_force()
    found = compared(policy, document)
    write_document(out, document)
    told = f"version {found.policy.version} in {out}: keyturn policy propose {out}"
    office.output.done(value | {"file": str(out), **diff_json(found.diff)}, *diff_parts(policy, found.diff), told)

"""policy lint, simulate, explain and show for a document in a file, YAML or JSON: nothing is sent or signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Invocation, Office, connected, invocation
from console.cli.output import Table

if TYPE_CHECKING:
    from console.policy.draft import Draft
    from custody.canonical import Json
    from custody.policy.places import WalletKeys

drafts = typer.Typer(rich_markup_mode=None)
DAY_SECONDS = 86_400
FOUND_SOMETHING = 3  # as a refusal: scripts stop on it
Document = Annotated[Path, typer.Argument(metavar="FILE", help="Rules document, YAML or JSON.")]


@drafts.command("lint")
def lint_file(context: typer.Context, file: Document) -> None:
    """Read a rules document strictly and say what its authors did not mean; exit code 3 where there is anything."""
    import time

    from console.policy.draft import read_draft
    from custody.policy.lint import lint

    called, draft = invocation(context), read_draft(file)
    findings = lint(draft.policy, _places(called, draft), now=int(time.time()))
    value: dict[str, Json] = {
        "policy_hash": draft.policy.hash.hex(),
        "findings": [{"code": f.code, "where": f.where, "message": f.message} for f in findings],
    }
    table = Table(("code", "where", "what"), [(f.code, f.where, f.message) for f in findings])
    called.output.done(value, *([table] if findings else ["lint has nothing to say"]))
    if findings:
        raise typer.Exit(FOUND_SOMETHING)


@drafts.command("simulate")
def simulate_file(
    context: typer.Context,
    file: Document,
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How far back.")] = 90,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="New file for a picture.")] = None,
) -> None:
    """Judge past releases again under a draft and under the rules in force: what changes, and by which rule."""
    connected(context, lambda office: _simulate(office, file, days, plot))


async def _simulate(office: Office, file: Path, days: int, picture: Path | None) -> None:
    from console.files import write_new
    from console.pages import btc
    from console.policy.draft import read_draft
    from console.policy.plot import plot
    from console.policy.trial import books_of, change_json, compared_json, past_releases
    from custody.policy.simulate import changes, simulate

    draft, followed = read_draft(file), await office.followed()
    since, books = office.now - days * DAY_SECONDS, books_of(office.genesis)
    compared = simulate(followed.state.policy, draft.policy, past_releases(followed), books, since)
    table = changes(compared)
    if picture is not None:
        write_new(picture, plot(compared).encode())
    office.output.done(
        {
            "rules": followed.state.policy.hash.hex(),
            "draft": draft.policy.hash.hex(),
            "days": days,
            "releases": [compared_json(each) for each in compared],
            "changes": [change_json(change) for change in table],
        },
        f"{len(compared)} releases in {days} days, {sum(each.is_changed for each in compared)} judged otherwise",
        *(
            [
                Table(
                    ("now", "draft", "by rule", "releases", "amount"),
                    [(c.before, c.after, c.by, str(c.count), btc(c.amount_sats)) for c in table],
                )
            ]
            if table
            else ["the draft changes none of them"]
        ),
    )


@drafts.command("code")
def code_at(
    context: typer.Context,
    withdrawal: Annotated[str, typer.Argument(metavar="DIGEST|ID")],
    node: Annotated[str, typer.Option(help="The signer at whose machine it is to be typed.")],
) -> None:
    """Show the code that somebody must type at a signer's own machine, where rules want that (local_conf)."""
    connected(context, lambda office: _code(office, withdrawal, node))


async def _code(office: Office, name: str, node: str) -> None:
    from custody.local_code import local_code

    view = await office.find(name)
    code = local_code(office.genesis.hash, view.digest, node)
    value: dict[str, Json] = {"digest": view.digest.hex(), "node": node, "code": code}
    office.output.done(value, f"{code}  is the code of {view.digest.hex()} at {node}")


@drafts.command("import")
def import_rules(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="tap|coldcard", help="Whose rules FILE holds.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Fireblocks TAP rules, or a Coldcard hsm-policy.json.")],
    base: Annotated[Path, typer.Option(help="The document whose rules they replace, YAML or JSON.")],
    out: Annotated[Path, typer.Option(help="New file for the document, YAML.")],
    names: Annotated[Path | None, typer.Option(help="What foreign ids are called here: users, groups, ...")] = None,
) -> None:
    """Turn rules of others into rules of ours; what cannot be said the same way is refused, with its place."""
    from console.files import read_file, write_new
    from console.importers.coldcard import import_coldcard
    from console.importers.merging import merged, read_names
    from console.importers.tap import import_tap
    from console.policy.draft import read_written
    from console.policy.text import MAX_TEXT_BYTES, parse_written, read_text, write_text

    importers = {"tap": import_tap, "coldcard": import_coldcard}
    if kind not in importers:
        raise typer.BadParameter("expected tap or coldcard", param_hint="KIND")
    text = read_file(file, MAX_TEXT_BYTES).decode(errors="replace")
    found = importers[kind](text, file.name, read_names(names))
    written = write_text(merged(read_written(base).value, found))
    policy = parse_written(read_text(written, out.name))
    write_new(out, written.encode())
    value: dict[str, Json] = {
        "policy_hash": policy.hash.hex(),
        "rules": len(policy.rules),
        "file": str(out),
        "notes": list(found.notes),
    }
    invocation(context).output.done(value, f"{len(policy.rules)} rules written to {out}", *found.notes)


def _places(called: Invocation, draft: Draft) -> tuple[WalletKeys, ...]:
    """Return where the pinned genesis puts keys; nothing for who has no settings at all."""
    from console.config import default_path
    from console.policy.draft import keys_of

    if called.config_path is None and not default_path().exists():
        called.output.warn("No genesis is pinned here: where keys stand was not checked.")
        return ()
    return keys_of(called.genesis(), draft.policy)


def show_file(called: Invocation, file: Path, *, as_yaml: bool, whole: bool) -> None:
    """Show the document in `file`: in words, as YAML, or as JSON."""
    from console.cli.policy import head_lines, people_table, rules_table
    from console.policy.draft import read_draft, rules_json
    from console.policy.text import write_text

    draft = read_draft(file)
    policy = draft.policy
    if whole:
        called.output.line({"rules": draft.written.value})
        return
    if as_yaml:
        called.output.done({"yaml": write_text(draft.written.value)}, *write_text(draft.written.value).splitlines())
        return
    value: dict[str, Json] = {"policy_hash": policy.hash.hex(), "version": policy.version, "rules": rules_json(policy)}
    called.output.done(value, *head_lines(policy, 0), rules_table(policy), "", people_table(policy))


def explain_file(called: Invocation, file: Path) -> None:
    """Say what each rule in `file` does, and where the facts come from that it is judged by."""
    from console.policy.draft import explain_rules, read_draft, rules_json

    policy = read_draft(file).policy
    rows = [list(row) for row in explain_rules(policy)]
    called.output.done(
        {"policy_hash": policy.hash.hex(), "rules": rules_json(policy)},
        f"rules {policy.policy_id} version {policy.version}, {policy.hash.hex()[:16]}",
        Table(("kind", "rule", "mode", "says", "judged from"), rows),
    )

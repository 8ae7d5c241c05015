"""policy lint, explain and show for a document in a file, YAML or JSON: nothing is sent, nothing is signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Invocation, invocation
from console.cli.output import Table

if TYPE_CHECKING:
    from console.policy.draft import Draft
    from custody.canonical import Json
    from custody.policy.places import WalletKeys

drafts = typer.Typer(rich_markup_mode=None)
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

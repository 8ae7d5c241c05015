"""policy next, diff, propose, sign, pending: a change of the rules, from the first line to the last signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected
from console.cli.output import Part, Table

if TYPE_CHECKING:
    from console.policy.changes import Document
    from console.views import ProposedView
    from custody.canonical import Json
    from custody.policy import Policy
    from custody.policy.diff import Diff
    from custody.statements import Signed

changes = typer.Typer(rich_markup_mode=None)
LOOSENS = 3  # as a refusal: scripts stop on it
File = Annotated[Path, typer.Argument(metavar="FILE", help="Rules document, YAML or JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@changes.command("next")
def next_file(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="New file, .yaml or .json.")],
) -> None:
    """Write the version that may follow the rules in force, ready to be edited."""
    connected(context, lambda office: _next(office, out))


async def _next(office: Office, out: Path) -> None:
    from console.policy.changes import next_version

    document = next_version(await in_force_document(office), office.now)
    write_document(out, document)
    office.output.done(
        {"file": str(out), "version": document["version"]}, f"version {document['version']} to be edited in {out}"
    )


@changes.command("diff")
def diff_file(context: typer.Context, file: File) -> None:
    """Say what a document changes in the rules in force; exit code 3 where it loosens anything."""
    connected(context, lambda office: _diff(office, file))


async def _diff(office: Office, file: Path) -> None:
    from console.policy.draft import read_draft
    from custody.policy.diff import Verdict, diff

    policy, draft = await office.in_force(), read_draft(file)
    found = diff(policy, draft.policy)
    value: dict[str, Json] = {"from": policy.hash.hex(), "to": draft.policy.hash.hex(), **diff_json(found)}
    office.output.done(value, *diff_parts(policy, found))
    if found.verdict is Verdict.LOOSENS:
        raise typer.Exit(LOOSENS)


@changes.command()
def propose(context: typer.Context, file: File, yes: Yes = False) -> None:
    """Sign a document as its first admin and put it before the others."""
    connected(context, lambda office: _propose(office, file, yes))


async def _propose(office: Office, file: Path, yes: bool) -> None:
    from console.policy.draft import read_draft
    from custody.canonical import encode
    from custody.statements import Kind, Signed

    draft = read_draft(file)
    await sign_and_send(office, Signed(Kind.RULES, encode(draft.written.value), ()), yes)


@changes.command()
def sign(
    context: typer.Context,
    rules: Annotated[str, typer.Argument(metavar="HASH", help="Its hash, or the first 8 digits or more.")],
    yes: Yes = False,
) -> None:
    """Read a document that other admins signed, and sign it."""
    connected(context, lambda office: _sign(office, rules, yes))


async def _sign(office: Office, name: str, yes: bool) -> None:
    from console.refusal import refuse

    proposed = [view for view in (await office.client.rules()).proposed if not view.effective_at]
    found = [view for view in proposed if len(name) >= 8 and view.signed.digest.hex().startswith(name)]
    if len(found) != 1:
        refuse("RULES_UNKNOWN", "the hash of one document that waits for signatures", f"{len(found)} of them")
    await sign_and_send(office, found[0].signed, yes)


async def sign_and_send(office: Office, signed: Signed, yes: bool) -> None:
    """Show what a document, a wallet or a void changes, sign it and send it; complete, to the witnesses too."""
    # Plan: 1 the log is fresh · 2 it fits the rules in force · 3 read · 4 sign · 5 send.
    from console.cli.delivering import deliver
    from console.cli.rule_pages import page_of, trial_lines, words_of
    from console.refusal import refuse_if
    from custody.genesis import with_endorsement
    from custody.rule_entry import rule_fits, standing_of

    state = await office.fresh_state()
    pen = await office.pen()
    refuse_if(rule_fits(state, signed))
    office.output.page([*trial_lines(office, signed), *page_of(state, signed, office.now)])
    office.output.confirm(f"Sign {words_of(signed)} as {office.config.me}, having compared the words?", yes)
    signed = with_endorsement(signed, pen.endorse(signed.kind, signed.raw))
    value: dict[str, Json] = {"rules": signed.digest.hex(), "what": words_of(signed)}
    if not standing_of(state, signed, office.now).is_complete:
        view = await office.client.propose_rules(signed)
        parts: list[Part] = [_standing(view)]
    else:
        delivered = await deliver(office, signed, office.client.propose_rules(signed))
        value["delivery"] = delivered.to_json()
        parts = list(delivered.lines())
        answer = delivered.answer
        if answer is not None:
            view = answer
            parts = [_standing(view), *parts]
        else:
            office.output.done(value, *parts)
            return
    value |= {"effective_at": view.effective_at, "missing": list(view.missing)}
    office.output.done(value, *parts)


@changes.command("void")
def void_pending(
    context: typer.Context,
    rules: Annotated[str, typer.Argument(metavar="HASH", help="Of a document that waits, or its first 8 digits.")],
    yes: Yes = False,
) -> None:
    """Take back a document that waits for its time, for ever; a change quorum signs it, as a document."""
    connected(context, lambda office: _void(office, rules, yes))


async def _void(office: Office, name: str, yes: bool) -> None:
    from console.refusal import refuse
    from custody.canonical import encode
    from custody.statements import Kind, Signed
    from custody.voiding import Void

    waiting = [found.policy.hash for found in (await office.fresh_state()).rules.waiting]
    found = [digest for digest in waiting if len(name) >= 8 and digest.hex().startswith(name)]
    if len(found) != 1:
        refuse("RULES_UNKNOWN", "the hash of one document that waits for its time", f"{len(found)} of them")
    void = Void(office.genesis.hash, found[0], office.now)
    await sign_and_send(office, Signed(Kind.VOID, encode(void.to_json()), ()), yes)


@changes.command()
def pending(context: typer.Context) -> None:
    """List the documents that wait: for signatures, as the coordinator says, or for their time, as the log says."""
    connected(context, _pending)


async def _pending(office: Office) -> None:
    from console.cli.rule_pages import does, words_of
    from custody.errors import CustodyError
    from custody.policy.diff import diff

    state = (await office.followed()).state
    served = await office.client.rules()
    rows: list[tuple[str, ...]] = []
    value: list[Json] = []
    for waiting in state.rules.waiting:
        verdict = diff(state.policy, waiting.policy).verdict.value
        what = f"version {waiting.policy.version}"
        rows.append((waiting.policy.hash.hex()[:16], what, verdict, _due(waiting.due)))
        value.append({"rules": waiting.policy.hash.hex(), "verdict": verdict, "effective_at": waiting.due})
    for view in (found for found in served.proposed if not found.effective_at):
        try:
            verdict = does(state, view.signed)
        except CustodyError as error:
            verdict = error.code
        digest, lack = view.signed.digest.hex(), ", ".join(view.missing)
        rows.append((digest[:16], words_of(view.signed), verdict, f"may sign: {lack}"))
        value.append({"rules": digest, "verdict": verdict, "missing": list(view.missing)})
    table = Table(("hash", "what", "does", "waits for"), rows)
    office.output.done({"in_force": state.policy.version, "pending": value}, *([table] if rows else ["nothing waits"]))


async def in_force_document(office: Office) -> Document:
    """Return the document of the rules in force: served by the coordinator, proven by the log.

    Raises:
        RefusedHereError: RULES_OTHER: the coordinator serves another.
    """
    from console.policy.changes import document_from
    from console.refusal import refuse
    from custody.policy import policy_hash

    policy, served = await office.in_force(), await office.client.rules()
    document = document_from(served.document)
    if policy_hash(document) != policy.hash:
        refuse("RULES_OTHER", f"the rules in force {policy.hash.hex()[:16]}", policy_hash(document).hex()[:16])
    return document


def write_document(out: Path, document: Document) -> None:
    """Write a document to the new file `out`, as YAML or JSON by its name."""
    from console.files import write_new
    from console.policy.text import write_text
    from custody.canonical import encode

    text = encode(document) if out.suffix == ".json" else write_text(document).encode()
    write_new(out, text)


def diff_json(found: Diff) -> dict[str, Json]:
    """Return a comparison for programs."""
    return {
        "verdict": found.verdict.value,
        "only_extends": found.only_extends,
        "changes": [{"path": c.path, "verdict": c.verdict.value, "words": c.words} for c in found.changes],
    }


def diff_parts(policy: Policy, found: Diff) -> list[Part]:
    """Return a comparison for people, and when it would take effect."""
    from console.pages import span, utc
    from custody.policy.diff import Verdict

    when = "takes effect at once"
    if found.verdict is Verdict.LOOSENS:
        when = f"takes effect {span(policy.admin.loosen_delay_s)} after witnesses saw it"
        if found.only_extends:
            when = f"takes effect at once until {utc(policy.not_after)}, later after the delay"
    rows = [(change.verdict.value, change.path, change.words) for change in found.changes]
    table: list[Part] = [Table(("does", "where", "what"), rows)] if rows else ["nothing changes"]
    return [f"{found.verdict.value}: {when}", *table]


def _standing(view: ProposedView) -> str:
    if view.effective_at:
        return f"logged; in effect from {_due(view.effective_at)}"
    return f"signed; not complete, {', '.join(view.missing) or 'nobody'} may still sign"


def _due(at: int) -> str:
    from console.pages import utc

    return utc(at)

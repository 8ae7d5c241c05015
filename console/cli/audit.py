"""audit: verify an export with nothing but pinned keys, fetch one, take a table or evidence of a withdrawal from it.

A checkpoint that is kept is what the next export is compared with.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected, invocation

if TYPE_CHECKING:
    from custody.audit import Verdict
    from custody.canonical import Json

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Verify and export the logs.")
app.add_typer(group, name="audit")
EXIT_CODES = {
    "OK": 0,
    "TRUNCATED": 10,
    "MODIFIED": 11,
    "FORK": 12,
    "ROLLED_BACK": 13,
    "UNSIGNED": 14,
    "POLICY_VIOLATION": 15,
}
MAX_NOTE_BYTES = 64 * 1024
GenesisHash = Annotated[
    str | None,
    typer.Option("--genesis", metavar="HASH", help="Hash of the genesis you trust, instead of the pinned one."),
]


@group.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The export.")],
    known: Annotated[Path | None, typer.Option(help="A checkpoint that you hold from elsewhere.")] = None,
    genesis: GenesisHash = None,
    level: Annotated[str, typer.Option(help="log: these are the entries; full: and they keep the rules.")] = "full",
) -> None:
    """Verify an export, offline.

    Exit codes: 0 OK, 10 TRUNCATED, 11 MODIFIED, 12 FORK, 13 ROLLED_BACK, 14 UNSIGNED, 15 POLICY_VIOLATION.
    """
    from console.cli.papers import MAX_EXPORT_FILE_BYTES, trusted_hash
    from console.files import read_file
    from custody.errors import MalformedError
    from custody.replay import verify as verified

    if level not in ("log", "full"):
        raise typer.BadParameter("expected log or full", param_hint="--level")
    trusted = trusted_hash(invocation(context), genesis)
    try:
        note = None if known is None else read_file(known, MAX_NOTE_BYTES).decode()
    except UnicodeDecodeError as error:
        raise MalformedError("CHECKPOINT", f"expected a checkpoint in {known}") from error
    _say(context, verified(read_file(file, MAX_EXPORT_FILE_BYTES), trusted, note, level == "full"), level)


def _say(context: typer.Context, verdict: Verdict, level: str) -> None:
    from console.pages import utc

    value: dict[str, Json] = {"verdict": verdict.kind.value, "level": level, "anchored": verdict.anchored}
    numbers = {"index": verdict.index, "line": verdict.line, "size": verdict.size, "event_size": verdict.event_size}
    value |= {key: found for key, found in (numbers | {"time": verdict.time}).items() if found >= 0}
    texts = {"detail": verdict.detail, "withdrawal": verdict.withdrawal}
    value |= {key: found for key, found in texts.items() if found}
    if verdict.log is not None:
        value["log"] = verdict.log.value
    if verdict.pruned:
        value["pruned"] = verdict.pruned
    lines = [_headline(verdict)]
    if verdict.kind.value != "OK":
        log = f"{verdict.log.value} log, " if verdict.log is not None else ""
        where = f"{log}line {verdict.line}: " if verdict.line > 0 else ""
        lines.append(f"  {where}{verdict.detail}")
    else:
        lines.append(f"  {verdict.size} money entries, {verdict.event_size} events, level {level}")
        lines.append(f"  the witnesses that the genesis asks for vouched for it at {utc(verdict.time)}")
        lines += [f"  {verdict.detail}"] if verdict.detail else []
        lines += [] if verdict.anchored else ["  Newer entries may be missing: compare with --known CHECKPOINT"]
    invocation(context).output.done(value, *lines)
    if code := EXIT_CODES[verdict.kind.value]:
        raise typer.Exit(code)


def _headline(verdict: Verdict) -> str:
    """Return the verdict; never a bare OK where nothing outside the export was compared."""
    from console.pages import utc

    if verdict.kind.value == "OK" and not verdict.anchored:
        return f"as of size {verdict.size}, {utc(verdict.time)}"
    return str(verdict)


@group.command()
def csv(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The export.")],
    out: Annotated[Path | None, typer.Option(help="New file; stdout where left out.")] = None,
    wallet: Annotated[str | None, typer.Option(help="Only of the wallet with this name.")] = None,
    person: Annotated[str | None, typer.Option(help="Only what this person asked for or approved.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Begun then or later, UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Begun before then, UTC.")] = None,
    genesis: GenesisHash = None,
) -> None:
    """Write a row for each withdrawal of an export that verifies; exit codes as `audit verify`, offline."""
    from console.cli.papers import Filters, read_verified, trusted_hash, wanted_of
    from console.files import write_new
    from custody.story import withdrawals_csv

    called = invocation(context)
    export, verdict = read_verified(file, trusted_hash(called, genesis))
    if export is None:
        _say(context, verdict, "full")
        return
    text = withdrawals_csv(export, wanted_of(Filters(wallet, person, since, until), export))
    count = text.count("\n") - 1  # below the titles
    if out is None:
        called.output.rows({"rows": count, "csv": text, "verdict": verdict.kind.value}, text)
    else:
        write_new(out, text.encode())
        value: dict[str, Json] = {"rows": count, "file": str(out), "verdict": verdict.kind.value}
        called.output.done(value, f"{count} withdrawals in {out}")
    _end_with(context, verdict)


@group.command()
def evidence(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The export.")],
    withdrawal: Annotated[str, typer.Argument(metavar="DIGEST|ID", help="Also INITIATOR/ID, or 8 digits of a digest.")],
    out: Annotated[Path, typer.Option(help="New ZIP file.")],
    genesis: GenesisHash = None,
) -> None:
    """Write the evidence of one withdrawal out of an export that verifies; exit codes as `audit verify`, offline."""
    from console.cli.papers import read_verified, story_named, trusted_hash
    from console.files import write_new
    from custody.evidence import make_evidence

    called = invocation(context)
    export, verdict = read_verified(file, trusted_hash(called, genesis))
    if export is None:
        _say(context, verdict, "full")
        return
    digest = story_named(export, withdrawal).digest
    raw = make_evidence(export, digest)
    write_new(out, raw)
    value: dict[str, Json] = {"withdrawal": digest.hex(), "file": str(out), "bytes": len(raw)}
    value["verdict"] = verdict.kind.value
    called.output.done(value, f"{len(raw):,} bytes in {out}; anybody: keyturn audit check-evidence {out}")
    _end_with(context, verdict)


@group.command("check-evidence")
def check_evidence(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="ZIP", help="As `audit evidence` wrote it.")],
    genesis: GenesisHash = None,
) -> None:
    """Verify the evidence of one withdrawal by itself, offline; exit codes as `audit verify`."""
    from console.cli.papers import trusted_hash
    from console.files import read_file
    from console.pages import utc
    from custody.evidence import MAX_EVIDENCE_BYTES, verify_evidence

    called = invocation(context)
    trusted = trusted_hash(called, genesis)
    verdict = verify_evidence(read_file(file, MAX_EVIDENCE_BYTES), trusted)
    value: dict[str, Json] = {"verdict": verdict.kind.value}
    texts = {"withdrawal": verdict.withdrawal, "detail": verdict.detail}
    value |= {key: found for key, found in texts.items() if found}
    lines = [str(verdict), f"  {verdict.detail}"]
    if verdict.kind.value == "OK":
        value |= {"size": verdict.size, "time": verdict.time}
        lines = [
            f"OK: withdrawal {verdict.withdrawal}",
            f"  its entries are in logs that the witnesses vouched for at {utc(verdict.time)}; people and keys signed",
            "  That the rules allowed it, and that it was not paid twice, takes the whole log: keyturn audit verify",
        ]
    called.output.done(value, *lines)
    if code := EXIT_CODES[verdict.kind.value]:
        raise typer.Exit(code)


def _end_with(context: typer.Context, verdict: Verdict) -> None:
    """End with the verdict's exit code: the papers are genuine, and what they are about left the rules."""
    if code := EXIT_CODES[verdict.kind.value]:
        invocation(context).output.warn(f"{verdict}: {verdict.detail}")
        raise typer.Exit(code)


@group.command("export")
def export_logs(context: typer.Context, out: Annotated[Path, typer.Option(help="New file.")]) -> None:
    """Fetch both logs with every statement into one file, for `audit verify`."""
    connected(context, lambda office: _export(office, out))


async def _export(office: Office, out: Path) -> None:
    from custody.errors import ConflictError, MalformedError

    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise ConflictError("FILE_EXISTS", f"expected no file {out} yet") from error
    except OSError as error:
        raise MalformedError("FILE_UNWRITABLE", f"expected to write {out}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        size = await office.client.export(file.write)
    office.output.done({"file": str(out), "bytes": size}, f"{size:,} bytes in {out}; now: keyturn audit verify {out}")


@group.command()
def checkpoint(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="New file, to keep for --known.")] = None,
    log: Annotated[str, typer.Option(help="money or event")] = "money",
) -> None:
    """Fetch a fresh checkpoint and verify it under the pinned keys."""
    connected(context, lambda office: _checkpoint(office, out, log))


async def _checkpoint(office: Office, out: Path | None, name: str) -> None:
    from console.files import write_new
    from console.pages import utc
    from custody.audit import Log, open_checkpoint, origin_of
    from custody.errors import IntegrityError
    from custody.follow import witness_keys

    which = next((log for log in Log if log.value == name), None)
    if which is None:
        raise typer.BadParameter("expected money or event", param_hint="--log")
    roots = (await office.in_force()).roots
    note = await office.client.checkpoint(which)
    found = open_checkpoint(note, roots.log_key, origin_of(office.genesis.hash, which), witness_keys(office.policy))
    vouched = found.oldest_counted(roots.w)
    if vouched is None:
        raise IntegrityError("CHECKPOINT_UNDERSIGNED", f"expected {roots.w} witnesses, found {len(found.counted)}")
    if out is not None:
        write_new(out, note.encode())
    value: dict[str, Json] = {"log": name, "size": found.checkpoint.size, "time": vouched, "note": note}
    value["root"] = found.checkpoint.root.hex()
    told = f"{name} log: {found.checkpoint.size} entries, root {found.checkpoint.root.hex()}"
    office.output.done(value, told, f"  {roots.w} of {len(roots.witnesses)} witnesses vouched for it by {utc(vouched)}")

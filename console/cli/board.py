"""ceremony: the coordinator's board, where records, the genesis and its signatures meet before there is a genesis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.genesis import MAX_RECORD_BYTES
from console.cli.office import Invocation, invocation

if TYPE_CHECKING:
    from console.board import Board, Hanging
    from custody.canonical import Json
    from custody.genesis import Genesis, KeyRecord
    from custody.statements import Endorsement, Signed

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="The ceremony's board: key records, genesis, signatures."
)
app.add_typer(group, name="ceremony")
_OVER = (
    "signed by every node and the admin quorum: the coordinator starts with it now",
    "`keyturn ceremony fetch` brings it; compare its words between all machines before anybody pins it",
)


@group.command()
def status(context: typer.Context) -> None:
    """Show what hangs on the board: records and how their keys were made, the genesis, and who has not signed it."""
    _at_board(context, _status)


@group.command()
def bring(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Key records, a genesis, or signatures of the one that is up.")],
) -> None:
    """Leave key records, the composed genesis, or signatures on the board."""

    async def work(called: Invocation, board: Board) -> None:
        for path in files:
            if (missing := await _bring(board, path)) is not None and not missing:
                called.output.done({"missing": []}, *_OVER)  # the board is gone: what is left over is not needed
                return
        await _status(called, board)

    _at_board(context, work)


@group.command()
def fetch(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Directory for NODE.record and genesis.json; made where it is missing.")],
) -> None:
    """Take copies of the records and of the genesis with its signatures; each was proven in itself."""

    async def work(called: Invocation, board: Board) -> None:
        from console.files import replace_file

        hanging = await board.read()
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        written = []
        for record, signed in hanging.records:
            written.append(out / f"{record.node}.record")
            replace_file(written[-1], signed.to_bytes())
        if hanging.genesis is not None:
            written.append(out / "genesis.json")
            replace_file(written[-1], hanging.genesis.signed.to_bytes())
        value: dict[str, Json] = {"files": [str(path) for path in written]}
        called.output.done(value, *(f"written to {path}" for path in written))

    _at_board(context, work)


def _at_board(context: typer.Context, work: Callable[[Invocation, Board], Awaitable[None]]) -> None:
    """Run `work` with a connection to a coordinator that has no genesis yet."""
    called = invocation(context)
    config = called.config()

    async def run() -> None:
        from console.board import Board
        from console.channel import Address
        from console.tls import TlsFiles

        files = TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca)
        async with Board(Address(config.coordinator, files)) as board:
            await work(called, board)

    asyncio.run(run())


async def _bring(board: Board, path: Path) -> tuple[str, ...] | None:
    """Leave one file on the board; return who has not signed the genesis then, or None after a record."""
    from console.refusal import refuse
    from custody.genesis import check_ceremony, parse_genesis, read_key_record
    from custody.statements import Endorsement, Kind

    found = _read(path)
    if isinstance(found, Endorsement):
        up = (await board.read()).genesis
        if up is None:
            refuse("NO_GENESIS", "a genesis on the board before its signatures", "none")
        return await board.bring_signature(up, found)
    if found.kind is Kind.GENESIS:
        genesis = parse_genesis(found)
        check_ceremony(genesis)
        return await board.bring_genesis(genesis)
    read_key_record(found)
    await board.bring_record(found)
    return None


def _read(path: Path) -> Signed | Endorsement:
    """Return what a file of the ceremony holds: a signature alone, or a signed document."""
    from console.config import MAX_GENESIS_BYTES
    from console.files import read_file
    from custody.canonical import decode
    from custody.fields import Fields
    from custody.statements import Endorsement, Signed

    raw = read_file(path, MAX_GENESIS_BYTES)
    if len(raw) <= MAX_RECORD_BYTES and (fields := Fields(decode(raw), path.name)).has("alg"):
        return Endorsement.from_fields(fields)
    return Signed.from_bytes(raw)


async def _status(called: Invocation, board: Board) -> None:
    from console.pages import genesis_lines

    hanging = await board.read()
    lines = [line for record, signed in hanging.records for line in _record_lines(record, signed)]
    lines = lines or ["no key record yet"]
    if hanging.genesis is None:
        lines += ["", "no genesis yet: `keyturn genesis compose` makes one of the records"]
    else:
        lines += ["", *genesis_lines(hanging.genesis), "", _said_of(hanging.genesis)]
    called.output.done(_value(hanging), *lines)


def _record_lines(record: KeyRecord, signed: Signed) -> list[str]:
    """Return what a record says of a key and its making; its words are compared with the node's own screen."""
    from console.pages import utc, word_lines

    lines = [f"record of {record.node}, made {utc(record.made_at)}", f"  key      {record.key}"]
    if (making := record.making) is None:
        lines.append("  made by the node alone: there are no words, and no backup")
    else:
        passphrase = (
            f", and a passphrase with {', '.join(making.passphrase_holders)}" if making.passphrase_holders else ""
        )
        lines.append(
            f"  made of  {' + '.join(making.sources)}, {making.words} words{passphrase}; lives at {making.place}"
        )
        lines.append(f"  words    asked back {utc(making.written_down_at)}, typed again {utc(making.drilled_at)}")
        for backup in making.backups:
            needed = f", {backup.needed} needed" if backup.needed > 1 else ""
            lines.append(f"  backup   {backup.form.value} with {', '.join(backup.holders)}{needed}")
    return [*lines, "  words of this record:", *word_lines(signed.digest)]


def _said_of(genesis: Genesis) -> str:
    from console.pages import missing_signers

    missing = missing_signers(genesis)
    return (
        f"not signed by: {', '.join(missing)}" if missing else "signed by every node and the admin quorum: pin it now"
    )


def _value(hanging: Hanging) -> dict[str, Json]:
    from console.pages import missing_signers
    from custody.words import words

    records: list[Json] = [
        {
            "node": record.node,
            "key": record.key,
            "made_at": record.made_at,
            "record": signed.digest.hex(),
            **({} if record.making is None else {"making": record.making.to_json()}),
        }
        for record, signed in hanging.records
    ]
    genesis = hanging.genesis
    if genesis is None:
        return {"records": records}
    told: dict[str, Json] = {
        "genesis": genesis.hash.hex(),
        "words": " ".join(words(genesis.hash)),
        "missing": list(missing_signers(genesis)),
    }
    return {"records": records, **told}

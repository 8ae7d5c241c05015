"""wallet compose, wallet propose: a wallet that comes after the genesis, from key records to the first signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.genesis import Form, slots_of
from console.cli.office import Office, connected, invocation

if TYPE_CHECKING:
    from custody.canonical import Json


def compose(
    context: typer.Context,
    wallet: Annotated[str, typer.Option(help="Name of the wallet.")],
    threshold: Annotated[int, typer.Option(min=1, max=15, help="Keys that must sign.")],
    slot: Annotated[list[Path], typer.Option(help="Key record of a node, in order; once for each.")],
    out: Annotated[Path, typer.Option(help="New file for the unsigned document.")],
    template: Annotated[Form, typer.Option(help="Form of the wallet's scripts.")] = Form.WSH,
    declared: Annotated[list[str] | None, typer.Option(help="KEY=ADMIN: a key without a judge.")] = None,
) -> None:
    """Compose the document of a later wallet from key records; nothing is signed yet."""
    from console.files import write_new
    from console.pages import wallet_lines, word_lines
    from custody.fields import check_name
    from custody.genesis import GenesisWallet
    from custody.later_wallet import compose_wallet, read_later_wallet
    from custody.scripts import Template
    from custody.wallet import make_wallet, parse_key

    called = invocation(context)
    genesis = called.genesis()
    slots = slots_of(slot, declared or ())
    keys = tuple(parse_key(found.key, genesis.network) for found in slots)
    made = make_wallet(threshold, keys, genesis.network, Template[template.name])
    signed = compose_wallet(genesis, GenesisWallet(check_name(wallet, "--wallet"), made, slots))
    found = read_later_wallet(signed, genesis)
    write_new(out, signed.to_bytes())
    value: dict[str, Json] = {
        "wallet": found.name,
        "wallet_id": found.wallet.wallet_id.hex(),
        "document": signed.digest.hex(),
        "file": str(out),
    }
    lines = [*wallet_lines(found), *word_lines(signed.digest), "", f"written to {out}; nobody signed it yet"]
    called.output.done(value, *lines)


def propose(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The composed document.")],
    endorsements: Annotated[list[Path] | None, typer.Argument(help="Signatures of its nodes.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Put a later wallet, with its nodes' signatures, before the admins as the first of them."""
    connected(context, lambda office: _propose(office, file, endorsements or [], yes))


async def _propose(office: Office, file: Path, endorsements: list[Path], yes: bool) -> None:
    from console.cli.genesis import MAX_RECORD_BYTES, read_endorsement
    from console.cli.rule_changes import sign_and_send
    from console.files import read_file
    from console.refusal import refuse
    from custody.genesis import with_endorsement
    from custody.statements import MAX_STATEMENT_BYTES, Signed

    signed = Signed.from_bytes(read_file(file, MAX_STATEMENT_BYTES + MAX_RECORD_BYTES))
    for path in endorsements:
        endorsement = read_endorsement(path)
        if not endorsement.holds(signed.kind, signed.raw):
            refuse("ENDORSEMENT_SIGNATURE", "a valid signature of this very document", f"{path.name}")
        signed = with_endorsement(signed, endorsement)
    await sign_and_send(office, signed, yes)

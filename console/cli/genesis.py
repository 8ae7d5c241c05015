"""The ceremony on a person's own machine: compose the root document, show it whole, sign it, collect signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import invocation

if TYPE_CHECKING:
    from custody.canonical import Json
    from custody.genesis import Genesis, Slot
    from custody.statements import Endorsement, Signed
    from custody.wallet import Network

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Compose, sign, collect and show the root document."
)
app.add_typer(group, name="genesis")
AUTO = "auto"
MAX_RULES_BYTES = 512 * 1024  # as a statement
MAX_RECORD_BYTES = 16 * 1024


class Form(Enum):
    """The templates of custody.scripts as people type them, by the same names."""

    WSH = "wsh"
    SH_WSH = "sh-wsh"
    TR = "tr"
    TR_SORTED = "tr-sorted"


@group.command()
def compose(
    context: typer.Context,
    rules: Annotated[Path, typer.Option(help='Rules document, version 1; ids of wallets and nodes may be "auto".')],
    wallet: Annotated[str, typer.Option(help="Name of the wallet.")],
    threshold: Annotated[int, typer.Option(min=1, max=15, help="Keys that must sign.")],
    slot: Annotated[list[Path], typer.Option(help="Key record of a node, in order; once for each.")],
    out: Annotated[Path, typer.Option(help="New file for the unsigned genesis.")],
    template: Annotated[Form, typer.Option(help="Form of the wallet's scripts.")] = Form.WSH,
    declared: Annotated[list[str] | None, typer.Option(help="KEY=ADMIN: a key without a judge.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Regtest only: weaker than safety needs.")] = False,
) -> None:
    """Compose a genesis of one wallet from key records and a rules document; nothing is signed yet."""
    from console.files import write_new
    from console.pages import genesis_lines
    from custody.fields import check_name
    from custody.genesis import GenesisWallet, Purpose, check_ceremony, parse_genesis
    from custody.genesis import compose as composed
    from custody.scripts import Template
    from custody.wallet import make_wallet, parse_key

    document = _read_rules(rules)
    network = _network(document)
    slots = slots_of(slot, declared or ())
    keys = tuple(parse_key(found.key, network) for found in slots)
    made = make_wallet(threshold, keys, network, Template[template.name])
    name = check_name(wallet, "--wallet")
    filled = _filled(document, name, made.wallet_id, slots)
    purpose = Purpose.DEMO if demo else Purpose.PRODUCTION
    genesis = parse_genesis(composed(purpose, network, (GenesisWallet(name, made, slots),), filled))
    check_ceremony(genesis)
    write_new(out, genesis.signed.to_bytes())
    _done(context, genesis, out, *genesis_lines(genesis), "", f"written to {out}; nobody signed it yet")


@group.command()
def sign(
    context: typer.Context,
    genesis: Annotated[Path, typer.Argument(help="The composed document.")],
    out: Annotated[Path, typer.Option(help="New file for your signature.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show a genesis whole and sign it as an admin that its rules name."""
    from console.config import read_genesis_file
    from console.files import write_new
    from console.pages import endorser_name, genesis_lines
    from console.pen import open_pen
    from console.refusal import refuse
    from custody.canonical import encode
    from custody.genesis import check_ceremony
    from custody.statements import Kind

    called = invocation(context)
    found, config = read_genesis_file(genesis), called.config()
    check_ceremony(found)
    pen = open_pen(config.key)
    if endorser_name(found, pen.key) != config.me:
        refuse("NOT_AN_ADMIN", f"a key of {config.me} in the admin groups of these rules", "another")
    called.output.page(genesis_lines(found))
    called.output.confirm(f"Sign this genesis as {config.me}?", yes)
    write_new(out, encode(pen.endorse(Kind.GENESIS, found.signed.raw).to_json()))
    called.output.done({"genesis": found.hash.hex(), "file": str(out)}, f"signed as {config.me}; signature in {out}")


@group.command()
def collect(
    context: typer.Context,
    genesis: Annotated[Path, typer.Argument(help="The document, with or without signatures.")],
    endorsements: Annotated[list[Path], typer.Argument(help="Signatures of nodes and admins.")],
    out: Annotated[Path, typer.Option(help="New file for the document with its signatures.")],
) -> None:
    """Put signatures to a genesis; each must be valid and by a node or admin that it names."""
    from console.config import read_genesis_file
    from console.files import write_new
    from console.pages import missing_signers
    from custody.genesis import parse_genesis

    signed = read_genesis_file(genesis).signed
    for path in endorsements:
        signed = _with(signed, path)
    whole = parse_genesis(signed)
    write_new(out, signed.to_bytes())
    missing = missing_signers(whole)
    say = f"missing: {', '.join(missing)}" if missing else "every node and the admin quorum signed it"
    called = invocation(context)
    value: dict[str, Json] = {
        "genesis": whole.hash.hex(),
        "file": str(out),
        "signatures": len(signed.endorsements),
        "missing": list(missing),
    }
    called.output.done(value, f"written to {out} with {len(signed.endorsements)} signatures", say)


@group.command("show")
def show_genesis(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A genesis; the pinned one where left out.")] = None,
) -> None:
    """Show a genesis whole, with its hash and words, and who did not sign it."""
    from console.config import read_genesis_file
    from console.pages import genesis_lines, missing_signers

    genesis = invocation(context).genesis() if file is None else read_genesis_file(file)
    missing = missing_signers(genesis)
    say = f"not signed by: {', '.join(missing)}" if missing else "signed by every node and the admin quorum"
    _done(context, genesis, file, *genesis_lines(genesis), "", say)


def _done(context: typer.Context, genesis: Genesis, file: Path | None, *lines: str) -> None:
    from console.pages import missing_signers
    from custody.address import address_of
    from custody.wallet import RECEIVE
    from custody.words import words

    first = {w.name: address_of(w.wallet.script(RECEIVE, 0).script, genesis.network) for w in genesis.wallets}
    value: dict[str, Json] = {
        "genesis": genesis.hash.hex(),
        "words": " ".join(words(genesis.hash)),
        "first_addresses": first,
        "descriptors": {w.name: w.wallet.descriptor for w in genesis.wallets},
        "missing": list(missing_signers(genesis)),
    }
    if file is not None:
        value["file"] = str(file)
    invocation(context).output.done(value, *lines)


def _read_rules(path: Path) -> dict[str, Json]:
    """Return the rules as written by people: YAML, or any spelling of JSON, each key once, whole numbers only."""
    import json

    if path.suffix in (".yaml", ".yml"):
        from console.policy.draft import read_written

        return dict(read_written(path).value)
    from console.files import read_file
    from custody.canonical import decode, encode
    from custody.errors import MalformedError

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise MalformedError("DUPLICATE_KEY", f"expected each key once in {path}")
        return dict(pairs)

    try:
        value = json.loads(read_file(path, MAX_RULES_BYTES).decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise MalformedError("NOT_JSON", f"expected JSON in {path}: {error}") from error
    found = decode(encode(value))
    if not isinstance(found, dict):
        raise MalformedError("FIELD_TYPE", f"expected an object in {path}")
    return found


def _filled(document: dict[str, Json], wallet: str, wallet_id: bytes, slots: Sequence[Slot]) -> dict[str, Json]:
    """Return the rules with every "auto" replaced by what was computed or recorded."""
    from custody.genesis import read_key_record

    records = [read_key_record(slot.record) for slot in slots if slot.record is not None]
    identities = {record.node: record.identity.hex() for record in records}
    ids = {wallet: wallet_id.hex()}
    filled = dict(document)
    if isinstance(wallets := document.get("wallets"), Mapping):
        filled["wallets"] = {name: _put(entry, "wallet_id", ids.get(name)) for name, entry in wallets.items()}
    roots = document.get("roots")
    if isinstance(roots, Mapping) and isinstance(nodes := roots.get("nodes"), Sequence) and not isinstance(nodes, str):
        named = [_put(node, "identity", identities.get(_name(node))) for node in nodes]
        filled["roots"] = {**roots, "nodes": named}
    return filled


def _put(entry: Json, key: str, value: str | None) -> Json:
    if not isinstance(entry, Mapping) or entry.get(key) != AUTO or value is None:
        return entry
    return {**entry, key: value}


def _name(node: Json) -> str:
    return str(node.get("name")) if isinstance(node, Mapping) else ""


def _network(document: Mapping[str, Json]) -> Network:
    from custody.errors import MalformedError
    from custody.wallet import Network

    found = next((n for n in Network if n.value == document.get("network")), None)
    if found is None:
        raise MalformedError("NETWORK", "expected the rules to name a known network")
    return found


def slots_of(records: Sequence[Path], declared: Sequence[str]) -> tuple[Slot, ...]:
    """Return the slots of a wallet: key records of nodes from files, then declared keys ("KEY=ADMIN")."""
    return (*(_recorded(path) for path in records), *(_declared(text) for text in declared))


def read_endorsement(path: Path) -> Endorsement:
    """Return the one signature in the file `path`; whose it is, and of what, is another question."""
    from console.files import read_file
    from custody.canonical import decode
    from custody.fields import Fields
    from custody.statements import Endorsement

    return Endorsement.from_fields(Fields(decode(read_file(path, MAX_RECORD_BYTES)), "endorsement"))


def _recorded(path: Path) -> Slot:
    from console.files import read_file
    from custody.genesis import Slot, read_key_record
    from custody.statements import Signed

    signed = Signed.from_bytes(read_file(path, MAX_RECORD_BYTES))
    record = read_key_record(signed)
    return Slot(record.key, record.node, record=signed)


def _declared(text: str) -> Slot:
    from custody.errors import MalformedError
    from custody.fields import check_name
    from custody.genesis import Slot

    key, equals, admin = text.rpartition("=")
    if not equals:
        raise MalformedError("DECLARED", "expected KEY=ADMIN")
    return Slot(key, None, admin=check_name(admin, "--declared"))


def _with(signed: Signed, path: Path) -> Signed:
    """Return `signed` with the signature in `path`, which must hold and be by somebody the document names."""
    from console.pages import endorser_name
    from console.refusal import refuse
    from custody.genesis import parse_genesis, with_endorsement

    endorsement = read_endorsement(path)
    found = with_endorsement(signed, endorsement)
    if not endorsement.holds(found.kind, found.raw):
        refuse("ENDORSEMENT_SIGNATURE", "a valid signature of this very document", f"{path.name}")
    if endorser_name(parse_genesis(signed), endorsement.key) is None:
        refuse("ENDORSEMENT_STRANGER", "a node or an admin of this document", f"the key in {path.name}")
    return found

"""psbt: released withdrawals to signers of other makers, by file or by HWI, and their signatures back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.carriers import Carrier, Frames, FrameSize, Gif, Kind, Out, Pictures, Qr, Size, carriers_of
from console.cli.office import Office, connected, invocation
from console.cli.output import Table

if TYPE_CHECKING:
    from console.devices.incoming import Returned
    from console.frames import Carriers
    from console.views import WithdrawalView
    from custody.canonical import Json
    from custody.genesis import GenesisWallet
    from custody.psbt import Psbt

app = typer.Typer(rich_markup_mode=None)
psbt = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="PSBTs to third-party signers and back.")
app.add_typer(psbt, name="psbt")
Withdrawal = Annotated[str, typer.Argument(metavar="DIGEST|ID")]
HwiOption = Annotated[Path, typer.Option("--hwi", help="HWI's command; `python3 dev.py hwi` installs it.")]
HWI = Path("hwi")


@psbt.command("devices")
def list_devices(context: typer.Context) -> None:
    """List the signers whose dialect is known: what each takes."""
    from console.devices.dialects import DIALECTS

    found: list[Json] = []
    rows = []
    for name, one in DIALECTS.items():
        forms = sorted(template.form for template in one.templates)
        qr = [kind.value for kind in one.qr]
        found.append({"device": name, "maker": one.maker, "psbt_version": one.version, "max_bytes": one.max_bytes})
        rows.append(
            (name, one.maker, str(one.version), f"{one.max_bytes // 1024} KiB", ", ".join(qr), ", ".join(forms))
        )
    titles = ("device", "maker", "PSBT", "at most", "QR", "scripts")
    invocation(context).output.done({"devices": found}, Table(titles, rows))


@psbt.command("export")
def export_psbt(
    context: typer.Context,
    withdrawal: Withdrawal,
    out: Out = None,
    pictures: Pictures = None,
    gif: Gif = None,
    qr: Qr = False,
    frames: Frames = None,
    size: FrameSize = Size.MEDIUM,
    carrier: Carrier = "",
    base64: Annotated[bool, typer.Option("--base64", help="As text instead of binary.")] = False,
    device: Annotated[str | None, typer.Option(help="In this signer's dialect: see `psbt devices`.")] = None,
) -> None:
    """Hand out the PSBT of a released withdrawal, with the signatures collected so far, for a third-party signer."""
    from console.devices.dialects import Qr as DeviceQr
    from console.devices.dialects import dialect_named

    taken = dialect_named(device).qr[0] if device else DeviceQr.NONE
    kind = frames or (Kind.UR if taken is DeviceQr.UR else None)
    carriers = carriers_of(out, pictures, gif, show=qr, kind=kind, size=size)
    connected(context, lambda office: _export(office, withdrawal, carriers, base64, device, carrier))


async def _export(
    office: Office, name: str, carriers: Carriers, as_text: bool, device: str | None, carrier: str
) -> None:
    from base64 import b64encode
    from dataclasses import replace

    from console.devices.dialects import dialect_named
    from console.devices.outgoing import prepare
    from console.frames import hand_out
    from custody.frames import Parcel, ParcelKind

    dialect = dialect_named(device) if device else None
    view = await office.find(name)
    raw, found = await _fetched(office, view, carrier)
    binary = prepare(found, _wallet_of(office, view).wallet, replace(dialect, text=False)) if dialect else raw
    content = b64encode(binary) if as_text or (dialect and dialect.text) else binary
    written = hand_out(Parcel(ParcelKind.PSBT, binary), carriers, content)
    txid = found.transaction.txid[::-1].hex()
    value: dict[str, Json] = {"files": list(written), "bytes": len(content), "txid": txid, "digest": view.digest.hex()}
    office.output.done(value, f"{len(content):,} bytes in {', '.join(written) or 'frames'}, transaction {txid}")


@psbt.command("import")
def import_psbt(
    context: typer.Context,
    withdrawal: Withdrawal,
    file: Annotated[Path, typer.Argument(help="What came back: a PSBT, a transaction in hex, or pictures of frames.")],
    carrier: Carrier = "",
) -> None:
    """Hand in what a third-party signer signed; only its signatures are taken, each verified here first."""
    connected(context, lambda office: _import(office, withdrawal, file, carrier))


async def _import(office: Office, name: str, path: Path, carrier: str) -> None:
    from console.carried import read_returned_file

    raw = read_returned_file(path)
    await _hand_in(office, await office.find(name), raw, carrier)


@psbt.command("sign")
def sign(
    context: typer.Context,
    withdrawal: Withdrawal,
    device: Annotated[str, typer.Option(help="ledger, trezor, ...: see `psbt devices`.")],
    fingerprint: Annotated[str, typer.Option(help="Master fingerprint of the key on the device, 8 hex digits.")],
    hwi: HwiOption = HWI,
) -> None:
    """Have a signer on a USB cable sign a released withdrawal, by HWI, and hand its signatures in."""
    connected(context, lambda office: _sign(office, withdrawal, device, fingerprint, hwi))


async def _sign(office: Office, name: str, device: str, fingerprint: str, program: Path) -> None:
    import asyncio
    from dataclasses import replace

    from console.devices.dialects import dialect_named
    from console.devices.hwi import Hwi, fingerprint_of
    from console.devices.outgoing import prepare

    whose, dialect = fingerprint_of(fingerprint), dialect_named(device)
    view = await office.find(name)
    _, found = await _fetched(office, view)
    content = prepare(found, _wallet_of(office, view).wallet, replace(dialect, text=False))
    office.output.say(f"Read every output on the screen of the {dialect.maker}, then confirm there.")
    raw = await asyncio.to_thread(Hwi(program, office.genesis.network).sign, content, whose)
    await _hand_in(office, view, raw)


async def _hand_in(office: Office, view: WithdrawalView, raw: bytes, carrier: str = "") -> None:
    """Say whose signatures `raw` holds, hand them in, show how the withdrawal stands."""
    from console.devices.incoming import judge_returned
    from console.proving import proven_facts
    from console.showing import standing_lines, view_json
    from custody.signatures import without_signatures
    from custody.wallet import ScriptBook

    wallet = _wallet_of(office, view)
    _, ours = await _fetched(office, view)
    book = ScriptBook(wallet.wallet)
    facts = proven_facts(without_signatures(ours), book, (await office.followed()).state)
    returned = judge_returned(ours, facts, book, raw)
    said = _said(returned, wallet)
    office.output.warn(*said[1:])
    after = await office.client.import_psbt(view.digest, raw, carrier)
    value = view_json(after, office.policy, office.now) | {"said": said[0]}
    value |= {"new": _names(returned.new, wallet), "bad": [bad.code for bad in returned.bad]}
    office.output.done(value, said[0], *standing_lines(after, office.policy, office.now))


def _said(returned: Returned, wallet: GenesisWallet) -> list[str]:
    """Return one line for what is new, and one for each thing that is wrong."""
    new, missing = (_names(found, wallet) for found in (returned.new, returned.missing))
    first = f"{', '.join(new) or 'nobody new'} signed; not yet: {', '.join(missing) or 'nobody'}"
    lines = [f"{name} signed some inputs only" for name in _names(returned.partly, wallet)]
    for bad in returned.bad:
        whose = _names({bad.key_index}, wallet)[0] if bad.key_index is not None else "no key of this wallet"
        lines.append(f"{bad.code}: input {bad.signature.input_index}, {whose}")
    return [first, *lines]


def _names(places: frozenset[int] | set[int], wallet: GenesisWallet) -> list[str]:
    slots = wallet.slots
    return [slots[at].node or f"{slots[at].admin}'s device" for at in sorted(places)]


async def _fetched(office: Office, view: WithdrawalView, carrier: str = "") -> tuple[bytes, Psbt]:
    """Return the coordinator's PSBT of a withdrawal, as bytes and parsed."""
    from console.reading import believed
    from custody.psbt import parse

    raw = await office.client.export_psbt(view.digest, carrier)
    return raw, believed(lambda: parse(raw))


def _wallet_of(office: Office, view: WithdrawalView) -> GenesisWallet:
    """Return the pinned wallet that a withdrawal spends from."""
    from custody.errors import NotFoundError

    wallet_id = view.withdrawal.wallet_id
    found = next((one for one in office.genesis.wallets if one.wallet.wallet_id == wallet_id), None)
    if found is None:
        raise NotFoundError("WALLET_UNKNOWN", "expected a wallet of the pinned genesis")
    return found

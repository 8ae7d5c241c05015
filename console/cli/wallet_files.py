"""wallet export, import, sheet: a wallet for other programs and on paper, and what another program says ours is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import invocation, wallet_named
from console.cli.output import Table

if TYPE_CHECKING:
    from console.wallet_files.named import NamedWallet
    from custody.canonical import Json
    from custody.genesis import Genesis
    from custody.wallet import Wallet

Name = Annotated[str | None, typer.Option("--wallet", help="Its name.")]
Out = Annotated[Path, typer.Option(help="New file.")]
SHOWN_ADDRESSES = 3  # of each branch; more with `wallet address --index`


def export(
    context: typer.Context,
    out: Out,
    format_: Annotated[str, typer.Option("--format", help="See `wallet formats`.")] = "descriptor",
    wallet: Name = None,
) -> None:
    """Write a wallet of the pinned genesis for another program: public keys only."""
    from console.files import write_new
    from console.wallet_files import format_named

    called = invocation(context)
    found, chosen = _named(called.genesis(), wallet), format_named(format_)
    text = chosen.write(found)
    write_new(out, text.encode())
    value: dict[str, Json] = {"file": str(out), "format": format_, "wallet": found.name, "bytes": len(text.encode())}
    called.output.done(
        value, f"{found.name} in {out}, for {chosen.for_}; it holds no secret, and shows whoever has it every payment"
    )


def formats(context: typer.Context) -> None:
    """List the formats of wallet files."""
    from console.wallet_files import ALIASES, FORMATS

    found: list[Json] = [{"format": name, "suffix": one.suffix, "for": one.for_} for name, one in FORMATS.items()]
    rows = [(name, one.suffix, one.for_) for name, one in FORMATS.items()]
    rows += [(alias, FORMATS[name].suffix, f"the same as {name}") for alias, name in ALIASES.items()]
    invocation(context).output.done({"formats": found}, Table(("format", "suffix", "read by"), rows))


def sheet(context: typer.Context, out: Out, wallet: Name = None) -> None:
    """Write a wallet as a PDF to print: descriptor with a QR code, keys, first addresses; no secret."""
    from console.files import write_new
    from console.wallet_files.sheet import sheet as made

    called = invocation(context)
    found = _named(called.genesis(), wallet)
    raw = made(found)
    write_new(out, raw)
    called.output.done({"file": str(out), "wallet": found.name, "bytes": len(raw)}, f"{found.name} in {out}")


def read_back(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="A wallet file of another program.")]
) -> None:
    """Read a wallet file, and say whether it is a wallet of the pinned genesis; nothing is changed by it."""
    from console.files import read_file
    from console.wallet_files import MAX_WALLET_FILE_BYTES, read_wallet_file

    called = invocation(context)
    genesis = called.genesis()
    kind, found = read_wallet_file(read_file(file, MAX_WALLET_FILE_BYTES), genesis.network)
    ours = next((one.name for one in genesis.wallets if same_scripts(one.wallet, found.wallet)), None)
    wallet = found.wallet
    value: dict[str, Json] = {
        "format": kind,
        "name": found.name,
        "is": ours or "",
        "descriptor": wallet.descriptor,
        "threshold": wallet.threshold,
        "keys": [key.expression for key in wallet.keys],
        "addresses": [{"branch": at[0], "index": at[1], "address": at[2]} for at in _addresses(wallet)],
    }
    same = f"the same scripts as our wallet {ours}" if ours else "NOT a wallet of the pinned genesis"
    called.output.done(
        value,
        f"{kind} file, {wallet.threshold} of {len(wallet.keys)}, {wallet.template.form}: {same}",
        *(f"  key {key.expression}" for key in wallet.keys),
        *(f"  {'receive' if not branch else 'change'} {index}  {text}" for branch, index, text in _addresses(wallet)),
    )


def same_scripts(one: Wallet, other: Wallet) -> bool:
    """Return whether two wallets lock coins alike: where keys are sorted in the script, their order is nobody's."""
    if (one.network, one.template, one.threshold) != (other.network, other.template, other.threshold):
        return False
    ours, theirs = ([(key.fingerprint, key.path, key.xpub) for key in wallet.keys] for wallet in (one, other))
    return sorted(ours) == sorted(theirs) if one.template.sorts_keys else ours == theirs


def _named(genesis: Genesis, name: str | None) -> NamedWallet:
    from console.wallet_files.named import NamedWallet

    found = wallet_named(genesis, name)
    return NamedWallet(found.name, found.wallet)


def _addresses(wallet: Wallet) -> list[tuple[int, int, str]]:
    from custody.address import address_of
    from custody.wallet import CHANGE, RECEIVE

    return [
        (branch, index, address_of(wallet.script(branch, index).script, wallet.network))
        for branch in (RECEIVE, CHANGE)
        for index in range(SHOWN_ADDRESSES)
    ]

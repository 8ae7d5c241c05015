"""wallet: what is held, and where to pay in. An address is derived here from the pinned descriptor, or not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.cli import later_wallets, wallet_files
from console.cli.office import Office, connected, invocation, wallet_named
from console.cli.output import Output, Table

if TYPE_CHECKING:
    from custody.canonical import Json
    from custody.genesis import Genesis, GenesisWallet

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Balances, and addresses that are derived here.")
app.add_typer(group, name="wallet")
group.command("compose")(later_wallets.compose)
group.command("propose")(later_wallets.propose)
group.command("export")(wallet_files.export)
group.command("import")(wallet_files.read_back)
group.command("formats")(wallet_files.formats)
group.command("sheet")(wallet_files.sheet)
MAX_LEAP = 1_000  # protocol.md "Receiving": coins further out than this are not looked for


@group.command("list")
def list_wallets(
    context: typer.Context,
    later: Annotated[bool, typer.Option("--all", help="Ask the log for those that came later, too.")] = False,
) -> None:
    """List the wallets of the pinned genesis; with --all those that the log added."""
    if later:
        connected(context, _list_all)
    else:
        _say_wallets(invocation(context).output, invocation(context).genesis())


async def _list_all(office: Office) -> None:
    await office.followed()
    _say_wallets(office.output, office.genesis)


def _say_wallets(output: Output, genesis: Genesis) -> None:
    found: list[Json] = [
        {
            "name": w.name,
            "wallet_id": w.wallet.wallet_id.hex(),
            "threshold": w.wallet.threshold,
            "keys": [slot.node or f"{slot.admin} (declared)" for slot in w.slots],
            "descriptor": w.wallet.descriptor,
            "document": w.document.hex(),
        }
        for w in genesis.wallets
    ]
    rows = [
        (w.name, f"{w.wallet.threshold} of {len(w.slots)}", ", ".join(_holders(w)), w.wallet.wallet_id.hex()[:16])
        for w in genesis.wallets
    ]
    output.done({"wallets": found}, Table(("wallet", "keys", "held by", "id"), rows))


@group.command()
def balance(context: typer.Context, wallet: Annotated[str | None, typer.Option(help="Its name.")] = None) -> None:
    """Show what a wallet holds, as the coordinator's chain backend says."""
    connected(context, lambda office: _balance(office, wallet))


async def _balance(office: Office, name: str | None) -> None:
    from console.pages import btc

    wallet = await office.wallet(name)
    held = await office.client.balance(wallet.wallet.wallet_id)
    value: dict[str, Json] = {
        "wallet": wallet.name,
        "confirmed_sats": held.confirmed_sats,
        "reserved_sats": held.reserved_sats,
        "immature_sats": held.immature_sats,
        "height": held.height,
    }
    office.output.done(
        value,
        f"confirmed  {btc(held.confirmed_sats)} at height {held.height}, says the chain backend",
        f"reserved   {btc(held.reserved_sats)} of it in withdrawals on their way",
        f"immature   {btc(held.immature_sats)} of it in young coinbase outputs",
    )


@group.command()
def address(
    context: typer.Context,
    wallet: Annotated[str | None, typer.Option(help="Its name.")] = None,
    index: Annotated[int | None, typer.Option(min=0, help="Derive this one again, without asking anybody.")] = None,
) -> None:
    """Show the next deposit address, derived here: the coordinator only says which place is free."""
    if index is not None:
        _again(context, wallet, index)
    else:
        connected(context, lambda office: _next(office, wallet))


async def _next(office: Office, name: str | None) -> None:
    from console.memory import load_memory, save_memory
    from console.refusal import refuse
    from custody.wallet import RECEIVE

    wallet = await office.wallet(name)
    wallet_id = wallet.wallet.wallet_id
    memory = load_memory(office.config.memory, office.genesis.hash)
    last = memory.last_index(wallet_id)
    place = await office.client.next_place(wallet_id)
    if (place.wallet_id, place.branch) != (wallet_id, RECEIVE):
        refuse("PLACE_OTHER", f"a place on branch {RECEIVE} of this wallet", f"branch {place.branch}")
    if place.index > last + MAX_LEAP:
        refuse("INDEX_TOO_HIGH", f"an index up to {last + MAX_LEAP}", str(place.index))
    if place.index <= last:
        office.output.warn(f"Index {place.index} was handed out before: whoever pays there can see the other payment.")
    memory = load_memory(office.config.memory, office.genesis.hash)  # another command may have written meanwhile
    save_memory(office.config.memory, memory.with_index(wallet_id, place.index))
    _say_address(office.output, office.genesis, wallet, place.index)


def _again(context: typer.Context, name: str | None, index: int) -> None:
    called = invocation(context)
    genesis = called.genesis()
    _say_address(called.output, genesis, wallet_named(genesis, name), index)


def _say_address(output: Output, genesis: Genesis, wallet: GenesisWallet, index: int) -> None:
    from console.pages import address_groups
    from custody.address import address_of
    from custody.wallet import RECEIVE

    found = address_of(wallet.wallet.script(RECEIVE, index).script, genesis.network)
    value: dict[str, Json] = {"wallet": wallet.name, "branch": RECEIVE, "index": index, "address": found}
    output.done(
        value, found, f"  {address_groups(found)}", f"  {wallet.name} {RECEIVE}/{index}, derived here from the genesis"
    )


def _holders(wallet: GenesisWallet) -> list[str]:
    return [slot.node or f"{slot.admin}'s device" for slot in wallet.slots]

"""propose, show, list, cancel: withdrawals as their initiators and everybody who looks at them know them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected
from console.cli.output import Table

if TYPE_CHECKING:
    from console.views import Stage, WithdrawalView
    from custody.facts import Facts
    from custody.follow import State
    from custody.genesis import GenesisWallet
    from custody.withdrawal import Payment, Withdrawal

app = typer.Typer(rich_markup_mode=None)
MAX_FEE_SATS = 50_000  # 2-of-3 with three inputs (about 400 vB) at 125 sat/vB
EXPIRES_SECONDS = 86_400  # a working day and the night after it
MAX_LIST = 1_000


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of `propose`, as typed. relation: None for new unless it was paid before."""

    to: tuple[str, ...]
    wallet: str | None
    max_fee_sats: int | None
    expires_s: int
    withdrawal_id: str | None
    relation: str | None
    psbt: Path | None
    yes: bool


@app.command()
def propose(
    context: typer.Context,
    to: Annotated[list[str] | None, typer.Option(metavar="ADDRESS=SATS[:LABEL]", help="Once for each payee.")] = None,
    wallet: Annotated[str | None, typer.Option(help="Name of the wallet; not needed where there is one.")] = None,
    max_fee: Annotated[int | None, typer.Option(min=0, metavar="SATS", help=f"Default {MAX_FEE_SATS}.")] = None,
    expires: Annotated[int, typer.Option(min=60, metavar="SECONDS", help="How long it may be signed.")] = (
        EXPIRES_SECONDS
    ),
    id_: Annotated[str | None, typer.Option("--id", help="Your own name of it: the same twice is one.")] = None,
    relation: Annotated[
        str | None, typer.Option(help="new (default), additional (pays the same again), or supersedes:DIGEST.")
    ] = None,
    psbt: Annotated[Path | None, typer.Option(help="Your own PSBT, binary or base64: that transaction alone.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Sign a withdrawal with your key and hand it in. Without --to and --psbt it pays nobody: a self-transfer."""
    wish = Wish(tuple(to or ()), wallet, max_fee, expires, id_, relation, psbt, yes)
    connected(context, lambda office: _propose(office, wish))


async def _propose(office: Office, wish: Wish) -> None:
    # Plan: 1 the log is fresh · 2 what is asked, from these words alone · 3 read it · 4 sign · 5 send, compare.
    from console.drafts import already_paid, outputs_of
    from console.pages import withdrawal_lines
    from console.showing import standing_lines, view_json
    from custody.statements import Kind

    pen = await office.pen()
    state = await office.fresh_state()
    if (known := await _known(office, wish)) is not None:
        _say_known(office, known)
        return
    asked, raw_psbt = await _asked(office, wish, state)
    paid = already_paid(state, outputs_of(asked.payments, office.genesis.network), office.now)
    office.output.page(withdrawal_lines(asked, state.policy, office.genesis, paid, office.now))
    office.output.confirm(f"Sign this withdrawal as {office.config.me}?", wish.yes)
    signed = pen.sign(Kind.WITHDRAWAL, asked.to_json())
    view, created = await office.client.propose(signed, raw_psbt)
    value = view_json(view, state.policy, office.now) | {"created": created}
    office.output.done(value, "", *standing_lines(view, state.policy, office.now))


async def _asked(office: Office, wish: Wish, state: State) -> tuple[Withdrawal, bytes | None]:
    """Return the withdrawal that the command line asks for, and the client's own PSBT where it has one."""
    from console.drafts import already_paid, outputs_of, read_payment, read_relation
    from console.refusal import refuse, refuse_if
    from custody.facts import check_matches
    from custody.units import sats
    from custody.withdrawal import RelationKind, Withdrawal

    wallet = await office.wallet(wish.wallet)
    own = _own_psbt(office, wish, wallet, state) if wish.psbt is not None else None
    payments = tuple(read_payment(text, office.genesis.network) for text in wish.to)
    if own is not None and not payments:
        payments = own.payments(office)
    paid = already_paid(state, outputs_of(payments, office.genesis.network), office.now)
    relation = read_relation(wish.relation or RelationKind.NEW.value, paid)
    if paid and relation.kind is RelationKind.NEW:
        refuse("ALREADY_PAID", "--relation additional, to pay the same again", paid[-1].release.withdrawal_digest.hex())
    default_fee = MAX_FEE_SATS if own is None else own.fee_sats
    asked = Withdrawal(
        genesis=office.genesis.hash,
        withdrawal_id=_id(wish),
        wallet_id=wallet.wallet.wallet_id,
        network=office.genesis.network.value,
        payments=payments,
        max_fee_sats=sats(default_fee if wish.max_fee_sats is None else wish.max_fee_sats),
        relation=relation,
        initiator=office.config.me,
        created_at=office.now,
        expires_at=office.now + wish.expires_s,
        rules_floor=state.policy.version,
        pinned_txid=None if own is None else own.facts.txid,
    )
    if own is not None:
        refuse_if(check_matches(asked, own.facts, wallet.wallet))
    return asked, None if own is None else own.raw


def _id(wish: Wish) -> str:
    from custody.fields import check_name

    return f"w-{os.urandom(5).hex()}" if wish.withdrawal_id is None else check_name(wish.withdrawal_id, "--id")


async def _known(office: Office, wish: Wish) -> WithdrawalView | None:
    """Return the withdrawal that already has this id, if it asks for the same; refuse where it asks for more.

    Raises:
        RefusedHereError: WITHDRAWAL_ID_TAKEN.
    """
    from console.drafts import read_payment
    from console.refusal import refuse
    from custody.errors import NotFoundError

    if wish.withdrawal_id is None:
        return None
    try:
        view = await office.client.withdrawal_named(office.config.me, _id(wish))
    except NotFoundError:
        return None
    payments = tuple(read_payment(text, office.genesis.network) for text in wish.to)
    same_fee = wish.max_fee_sats in (None, view.withdrawal.max_fee_sats)
    if wish.psbt is None and view.withdrawal.payments == payments and same_fee:
        return view
    return refuse("WITHDRAWAL_ID_TAKEN", "the same payments under the same id", view.digest.hex())


def _say_known(office: Office, view: WithdrawalView) -> None:
    from console.showing import standing_lines, view_json

    value = view_json(view, office.policy, office.now) | {"created": False}
    digest = f"already handed in as {view.digest.hex()}"
    office.output.done(value, digest, *standing_lines(view, office.policy, office.now))


@dataclass(frozen=True, slots=True)
class OwnPsbt:
    """The initiator's own transaction, read here. raw: without signatures."""

    raw: bytes
    facts: Facts

    @property
    def fee_sats(self) -> int:
        """What it pays in fees, in sats."""
        return self.facts.fee_sats

    def payments(self, office: Office) -> tuple[Payment, ...]:
        """Return what it pays to others."""
        from custody.address import address_of
        from custody.withdrawal import Payment

        network = office.genesis.network
        return tuple(Payment(address_of(p.script, network), p.amount) for p in self.facts.payments)


def _own_psbt(office: Office, wish: Wish, wallet: GenesisWallet, state: State) -> OwnPsbt:
    """Read --psbt: every coin and change output is proven to be the wallet's own."""
    from console.carried import read_psbt_file
    from console.proving import proven_facts
    from custody.psbt import parse, serialize
    from custody.signatures import without_signatures
    from custody.wallet import ScriptBook

    assert wish.psbt is not None  # noqa: S101 - the caller looked
    psbt = without_signatures(parse(read_psbt_file(wish.psbt)))
    return OwnPsbt(serialize(psbt), proven_facts(psbt, ScriptBook(wallet.wallet), state))


@app.command()
def show(
    context: typer.Context,
    withdrawal: Annotated[str, typer.Argument(metavar="DIGEST|ID", help="Also INITIATOR/ID, or 8 digits of a digest.")],
    history: Annotated[bool, typer.Option("--history", help="Also what happened, from the event log.")] = False,
) -> None:
    """Show one withdrawal: what it asks, how it stands, who is missing."""
    connected(context, lambda office: _show(office, withdrawal, history))


async def _show(office: Office, name: str, with_history: bool) -> None:
    from console.history import history_of
    from console.memory import load_memory
    from console.pages import withdrawal_lines
    from console.showing import event_json, history_lines, standing_lines, stop_lines, view_json

    view, policy = await office.find(name), await office.shown_by()
    note = load_memory(office.config.memory, office.genesis.hash).note_of(view.digest)
    value = view_json(view, policy, office.now)
    if note:
        value["note"] = note
    if with_history:
        history = await history_of(office.client, view.digest, view.withdrawal.created_at)
        value |= {"history": [event_json(event) for event in history.events], "history_whole": history.is_whole}
    lines = withdrawal_lines(view.withdrawal, policy, office.genesis, (), office.now)
    lines += ["", *standing_lines(view, policy, office.now)]
    if office.latest is not None:
        lines += stop_lines(office.latest.state, view.withdrawal)
        value["vetoed"] = list(office.latest.state.vetoes_of(view.withdrawal))
    lines += [f"your note  {note}"] if note else []
    if with_history:
        lines += ["", *history_lines(history)]
    office.output.done(value, *lines)


@app.command("list")
def list_withdrawals(
    context: typer.Context,
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages: approving, signing, ...")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIST, help="At most so many.")] = 20,
) -> None:
    """List withdrawals, newest first."""
    connected(context, lambda office: _list(office, tuple(stage or ()), limit))


async def _list(office: Office, stages: tuple[str, ...], limit: int) -> None:
    from console.pages import btc, utc
    from console.showing import view_json

    policy = await office.shown_by()
    wanted = tuple(read_stage(text) for text in stages)
    views: list[WithdrawalView] = []
    token = ""
    while len(views) < limit:
        page, token = await office.client.withdrawals(wanted, token, min(50, limit - len(views)))
        views.extend(page)
        if not token:
            break
    rows = [
        (
            view.digest.hex()[:16],
            f"{view.withdrawal.initiator}/{view.withdrawal.withdrawal_id}",
            btc(sum(p.amount_sats for p in view.withdrawal.payments)),
            view.stage.value,
            f"{view.signed_count}/{view.threshold}",
            utc(view.updated_at).removesuffix(" UTC"),
        )
        for view in views
    ]
    value = [view_json(view, policy, office.now) for view in views]
    office.output.done({"withdrawals": value}, Table(("digest", "id", "pays", "stage", "signed", "changed UTC"), rows))


@app.command()
def cancel(
    context: typer.Context,
    withdrawal: Annotated[str, typer.Argument(metavar="DIGEST|ID")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take your own withdrawal back before its release; afterwards only a superseding one helps (NEEDS_SUPERSEDE)."""
    connected(context, lambda office: _cancel(office, withdrawal, yes))


async def _cancel(office: Office, name: str, yes: bool) -> None:
    from console.cli.delivering import deliver
    from console.pages import withdrawal_lines
    from console.refusal import refuse
    from console.showing import standing_lines, view_json
    from custody.entries import StopCause, StopStatement
    from custody.statements import Kind

    pen, view = await office.pen(), await office.find(name)
    if view.withdrawal.initiator != office.config.me:
        refuse("NOT_INITIATOR", f"a withdrawal of {office.config.me}", f"one of {view.withdrawal.initiator}")
    office.output.page(withdrawal_lines(view.withdrawal, office.policy, office.genesis, (), office.now))
    office.output.confirm("Take it back?", yes)
    stop = StopStatement(office.genesis.hash, view.digest, StopCause.CANCEL, office.config.me, office.now)
    signed = pen.sign(Kind.STOP, stop.to_json())
    sent = asyncio.ensure_future(office.client.cancel(signed, view.digest))
    await asyncio.wait({sent})
    # After a release no stop takes back what was signed. Only the log can say so: a coordinator could keep a cancel.
    if getattr(sent.exception(), "code", "") == "NEEDS_SUPERSEDE" and await _is_released(office, view.digest):
        sent.result()
    delivered = await deliver(office, signed, sent)
    after = delivered.answer
    value = view_json(after or view, office.policy, office.now)
    value |= {"delivery": delivered.to_json()}
    lines = standing_lines(after, office.policy, office.now) if after else []
    office.output.done(value, "", *lines, *(delivered.lines() if delivered.is_done else ()))


async def _is_released(office: Office, digest: bytes) -> bool:
    """Return whether the log that witnesses vouched for has a release of the withdrawal; False where none is there."""
    from custody.errors import CustodyError
    from custody.follow import settled

    try:
        state = (await office.followed()).state
        return bool(settled(state, office.now).releases_of(digest))
    except CustodyError:
        return False


def read_stage(text: str) -> Stage:
    """Return the stage called `text`. Raises MalformedError STAGE."""
    from console.views import Stage
    from custody.errors import MalformedError

    found = next((stage for stage in Stage if stage.value == text.lower()), None)
    if found is None:
        raise MalformedError("STAGE", f"expected one of {', '.join(stage.value for stage in Stage)}")
    return found

"""message: texts and proofs of funds that a wallet signs (BIP-322), asked for, approved and carried like payments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.carriers import Carrier, Frames, FrameSize, Gif, Out, Pictures, Qr, Size, carriers_of
from console.cli.office import Office, connected
from console.cli.output import Table

if TYPE_CHECKING:
    from console.frames import Carriers
    from console.message_views import MessageView
    from custody.canonical import Json
    from custody.follow import State
    from custody.message import Message
    from custody.policy.terms import MessageFormat

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Messages and proofs of funds (BIP-322).")
app.add_typer(group, name="message")
EXPIRES_SECONDS = 86_400
APPROVAL_SECONDS = 86_400
Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="Or the first 8 digits of it, or more.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@group.command()
def propose(
    context: typer.Context,
    text: Annotated[str, typer.Option(help="What the wallet is to sign.")],
    wallet: Annotated[str | None, typer.Option(help="Name of the wallet; not needed where there is one.")] = None,
    index: Annotated[int, typer.Option(min=0, help="Which deposit address signs: its index.")] = 0,
    form: Annotated[
        str, typer.Option("--format", help="simple, full, or funds: all coins of the wallet too.")
    ] = "simple",
    expires: Annotated[
        int, typer.Option(min=60, metavar="SECONDS", help="How long it may be signed.")
    ] = EXPIRES_SECONDS,
    id_: Annotated[str | None, typer.Option("--id", help="Your own name of it: the same twice is one.")] = None,
    yes: Yes = False,
) -> None:
    """Sign a request for a message with your key and hand it in; with --format funds it shows all coins."""

    async def work(office: Office) -> None:
        from custody.message import Message
        from custody.statements import Kind

        pen, found = await office.pen(), await office.wallet(wallet)
        await office.fresh_state()
        asked = Message(
            genesis=office.genesis.hash,
            message_id=id_ or f"m-{os.urandom(6).hex()}",
            wallet_id=found.wallet.wallet_id,
            index=index,
            text=text,
            initiator=office.config.me,
            created_at=office.now,
            expires_at=office.now + expires,
            format=_format(form),
            coins=await office.client.coins(found.name) if form == "funds" else (),
        )
        office.output.page(message_lines(office, asked))
        office.output.confirm(f"Ask for this as {office.config.me}?", yes)
        after, created = await office.client.propose_message(pen.sign(Kind.MESSAGE, asked.to_json()))
        office.output.done(_json(office, after) | {"created": created}, "", *_standing(office, after))

    connected(context, work)


@group.command()
def approve(context: typer.Context, message: Digest, yes: Yes = False) -> None:
    """Read a message whole, compare its words, and approve it with your key."""
    connected(context, lambda office: _vote(office, message, "approve", yes))


@group.command()
def reject(context: typer.Context, message: Digest, yes: Yes = False) -> None:
    """Reject a message: final, whatever others say."""
    connected(context, lambda office: _vote(office, message, "reject", yes))


@group.command()
def show(
    context: typer.Context,
    message: Digest,
    out: Annotated[Path | None, typer.Option(help="New file for the finished proof.")] = None,
) -> None:
    """Show a message, who is missing, and its proof once it is complete, verified here."""

    async def work(office: Office) -> None:
        from console.files import write_new
        from console.refusal import refuse

        view = await _find(office, message)
        if out is not None:
            if not _holds(office, view):
                refuse("PROOF_MISSING", "a complete proof that holds", view.stage)
            write_new(out, f"{view.proof}\n".encode())
        office.output.page(message_lines(office, view.message))
        office.output.done(_json(office, view), "", *_standing(office, view))

    connected(context, work)


@group.command("list")
def list_messages(context: typer.Context) -> None:
    """List messages, newest first."""

    async def work(office: Office) -> None:
        views = await office.client.messages()
        rows = [
            (
                view.digest.hex()[:16],
                f"{view.message.initiator}/{view.message.message_id}",
                view.message.format.value,
                view.stage,
            )
            for view in views
        ]
        told: list[Json] = [_json(office, view) for view in views]
        office.output.done({"messages": told}, Table(("digest", "id", "format", "stage"), rows))

    connected(context, work)


@group.command("export")
def export_message(
    context: typer.Context,
    message: Digest,
    node: Annotated[str, typer.Option(help="Name of the node.")],
    out: Out = None,
    pictures: Pictures = None,
    gif: Gif = None,
    qr: Qr = False,
    frames: Frames = None,
    size: FrameSize = Size.MEDIUM,
    carrier: Carrier = "",
) -> None:
    """Hand out the bundle of a message for an offline node: as a file, as pictures, on this terminal."""
    carriers = carriers_of(out, pictures, gif, show=qr, kind=frames, size=size)
    connected(context, lambda office: _export(office, message, node, carriers, carrier))


@group.command("import")
def import_answer(
    context: typer.Context,
    answer: Annotated[Path, typer.Argument(help="The node's answer: a file, a picture, a folder of pictures.")],
    carrier: Carrier = "",
) -> None:
    """Hand in an offline node's answer to a message."""

    async def work(office: Office) -> None:
        from console.carried import checked_answer
        from console.frames import read_carried
        from custody.frames import ParcelKind

        raw = read_carried(answer, ParcelKind.DOCUMENT)
        found = checked_answer(raw, office.genesis)
        after = await office.client.import_message_answer(raw, found.withdrawal_digest, carrier)
        said = f"{found.node}: {found.outcome}" if not isinstance(found.outcome, tuple) else f"{found.node} signed"
        office.output.done(_json(office, after), said, *_standing(office, after))

    connected(context, work)


def message_lines(office: Office, asked: Message) -> list[str]:
    """Return the page of a message, from its own statement and the pinned wallet."""
    from console.pages import address_groups, btc, utc, word_lines
    from custody.address import address_of
    from custody.wallet import RECEIVE

    found = office.genesis.wallet(asked.wallet_id)
    name = "a wallet that is not ours" if found is None else found.name
    lines = [f"Message {asked.initiator}/{asked.message_id}: {name} signs ({asked.format.value}, BIP-322)"]
    if found is not None:
        address = address_of(found.wallet.script(RECEIVE, asked.index).script, office.genesis.network)
        lines.append(f"  for our address {address_groups(address)}")
    lines += ["  it says:", *(f"    | {line}" for line in asked.text.split("\n"))]
    if asked.coins:
        lines.append(f"  and shows {len(asked.coins)} coins, {btc(sum(coin.sats for coin in asked.coins))} together")
    lines += ["  it spends nothing", f"  to be signed before {utc(asked.expires_at)}", *word_lines(asked.digest)]
    return lines


async def _vote(office: Office, name: str, how: str, yes: bool) -> None:
    # Plan: 1 the log is fresh · 2 the statement is its initiator's · 3 read · 4 sign · 5 send.
    from console.refusal import refuse, refuse_if
    from custody.approval import Approval, Decision
    from custody.message import check_message
    from custody.statements import Kind

    pen = await office.pen()
    state: State = await office.fresh_state()
    view = await _find(office, name)
    asked = view.message
    refuse_if(check_message(state.policy, asked, view.signed, office.genesis.hash, office.now))
    if how == "approve" and asked.initiator == office.config.me:
        refuse("APPROVAL_SELF", "an approver other than the initiator", office.config.me)
    office.output.page(message_lines(office, asked))
    office.output.confirm(f"{how.capitalize()} it as {office.config.me}, having compared the words?", yes)
    until = min(office.now + APPROVAL_SECONDS, asked.expires_at)
    said = Approval(office.genesis.hash, asked.digest, Decision(how), office.config.me, office.now, until)
    after = await office.client.approve_message(pen.sign(Kind.APPROVAL, said.to_json()), asked.digest)
    office.output.done(_json(office, after), "", *_standing(office, after))


async def _export(office: Office, name: str, node: str, carriers: Carriers, carrier: str) -> None:
    from console.carried import checked_bundle
    from console.frames import hand_out
    from console.pages import word_lines
    from custody.frames import Parcel, ParcelKind, digest_of

    view = await _find(office, name)
    raw = await office.client.export_message(view.digest, node, carrier)
    checked_bundle(raw, office.genesis, node, view.digest)
    written = hand_out(Parcel(ParcelKind.DOCUMENT, raw), carriers)
    value: dict[str, Json] = {"files": list(written), "bytes": len(raw), "node": node, "sha256": digest_of(raw).hex()}
    said = f"{len(raw):,} bytes for {node} in {', '.join(written)}; SHA-256 {digest_of(raw).hex()}"
    office.output.done(value, said, "the node's screen must show these words:", *word_lines(view.digest))


async def _find(office: Office, name: str) -> MessageView:
    """Return the message that `name` means: a digest, or the beginning of one."""
    from console.cli.office import MIN_PREFIX_CHARS
    from console.refusal import refuse
    from custody.errors import NotFoundError
    from custody.fields import parse_hex

    if len(name) == 64:
        return await office.client.message(parse_hex(name, "message", 32))
    found = [view for view in await office.client.messages() if view.digest.hex().startswith(name)]
    if len(name) < MIN_PREFIX_CHARS or not found:
        raise NotFoundError("MESSAGE_UNKNOWN", "expected a digest of a message, or its first 8 digits")
    if len(found) > 1:
        refuse("AMBIGUOUS", "one message", ", ".join(view.digest.hex()[:16] for view in found))
    return found[0]


def _holds(office: Office, view: MessageView) -> bool:
    """Return whether the proof is one of this very message by enough keys of the pinned wallet."""
    from custody.errors import MalformedError, Refused
    from custody.message_spend import spend_of
    from custody.wallet import ScriptBook

    wallet = office.genesis.wallet(view.message.wallet_id)
    if wallet is None or not view.proof:
        return False
    spend = spend_of(view.message, ScriptBook(wallet.wallet))
    try:
        return not isinstance(spend, Refused) and spend.proves(view.proof)
    except MalformedError:
        return False


def _standing(office: Office, view: MessageView) -> list[str]:
    lines = [f"stage {view.stage}"]
    lines += [f"  {lack.needed} more of {lack.of} by rule {lack.rule}" for lack in view.missing]
    if view.signed_by:
        lines.append(f"  signed by {', '.join(view.signed_by)}")
    if view.ended is not None:
        lines.append(f"  {view.ended.code}: expected {view.ended.expected}, found {view.ended.found}")
    if view.proof:
        lines.append("  the proof holds, as verified here:" if _holds(office, view) else "  THE PROOF DOES NOT HOLD:")
        lines.append(view.proof)
    return lines


def _json(office: Office, view: MessageView) -> dict[str, Json]:
    return {
        "digest": view.digest.hex(),
        "message": view.message.to_json(),
        "stage": view.stage,
        "missing": [{"rule": lack.rule, "of": lack.of, "needed": lack.needed} for lack in view.missing],
        "signed_by": list(view.signed_by),
        "proof": view.proof,
        "proof_holds": _holds(office, view),
        "ended": "" if view.ended is None else view.ended.code,
    }


def _format(text: str) -> MessageFormat:
    from custody.errors import MalformedError
    from custody.policy.terms import MessageFormat

    found = next((form for form in MessageFormat if form.value == text), None)
    if found is None:
        raise MalformedError("MESSAGE_FORMAT", f"expected {', '.join(form.value for form in MessageFormat)}")
    return found

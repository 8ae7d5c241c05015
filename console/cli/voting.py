"""approve, reject, veto, freeze: one person's key over what that person's own program showed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected

if TYPE_CHECKING:
    from console.cli.output import Part
    from console.pen import Pen
    from console.views import WithdrawalView
    from custody.canonical import Json
    from custody.errors import CustodyError
    from custody.statements import Signed

app = typer.Typer(rich_markup_mode=None)
APPROVAL_SECONDS = 86_400  # rules and withdrawal may end it earlier
Withdrawal = Annotated[str, typer.Argument(metavar="DIGEST|ID", help="Also INITIATOR/ID, or 8 digits of a digest.")]
Reason = Annotated[str, typer.Option(help="A note for yourself: it stays on this machine.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def approve(
    context: typer.Context,
    withdrawal: Withdrawal,
    expires: Annotated[int, typer.Option(min=60, metavar="SECONDS", help="How long your approval counts.")] = (
        APPROVAL_SECONDS
    ),
    yes: Yes = False,
) -> None:
    """Read a withdrawal whole, compare its words, and approve it with your key."""
    connected(context, lambda office: _approve(office, withdrawal, expires, yes))


async def _approve(office: Office, name: str, expires_s: int, yes: bool) -> None:
    # Plan: 1 the log is fresh · 2 the statement is our initiator's · 3 nothing ended it · 4 read · 5 sign · 6 send.
    from console.drafts import already_paid, earlier_approvals, outputs_of
    from console.pages import withdrawal_lines
    from console.refusal import refuse
    from console.showing import standing_lines, view_json
    from console.votes import approval_of, check_open
    from custody.errors import MalformedError
    from custody.statements import Kind

    pen = await office.pen()
    state = await office.fresh_state()
    view = await office.find(name)
    check_open(view, office.genesis, state, office.config.me, office.now)
    if state.is_frozen(office.now):
        office.output.warn("A FREEZE is in force: nothing is signed until it is lifted.")
    try:
        outputs = outputs_of(view.withdrawal.payments, office.genesis.network)
    except MalformedError as error:
        refuse(error.code, "addresses of this network", error.message)
    paid = already_paid(state, outputs, office.now)
    office.output.page(withdrawal_lines(view.withdrawal, state.policy, office.genesis, paid, office.now))
    earlier = earlier_approvals(state.policy, view.withdrawal, view.approvals, office.config.me, office.now)
    if earlier:
        office.output.page([f"behind approvals of {', '.join(sorted(approval.approver for approval in earlier))}"])
    office.output.confirm(f"Approve it as {office.config.me}, having compared the words?", yes)
    said = approval_of(view.withdrawal, earlier, office.config.me, office.now, expires_s)
    after, created = await office.client.approve(pen.sign(Kind.APPROVAL, said.to_json()), view.digest)
    value = view_json(after, state.policy, office.now) | {"created": created}
    office.output.done(value, "", *standing_lines(after, state.policy, office.now))


@app.command()
def reject(
    context: typer.Context,
    withdrawal: Withdrawal,
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """Reject a withdrawal: final, whatever others say."""
    connected(context, lambda office: _end(office, withdrawal, "reject", reason, yes))


@app.command()
def veto(context: typer.Context, withdrawal: Withdrawal, reason: Reason = "", yes: Yes = False) -> None:
    """Veto a withdrawal: once as many did as its rules say, it has ended for ever."""
    connected(context, lambda office: _end(office, withdrawal, "veto", reason, yes))


async def _end(office: Office, name: str, how: str, reason: str, yes: bool) -> None:
    """Stop a withdrawal; needs no fresh log: a stop can only protect."""
    from console.cli.delivering import deliver
    from console.memory import load_memory, save_memory
    from console.showing import standing_lines, view_json
    from console.views import Stage

    pen = await office.pen()
    digest, view = await _meant(office, name)
    meant = "Veto it" if how == "veto" else "End it for ever by a reject"
    office.output.confirm(f"{meant} as {office.config.me}?", yes)
    until = office.now + APPROVAL_SECONDS if view is None else view.withdrawal.expires_at
    stop = _stop(office, digest, how, until, pen)
    delivered = await deliver(office, stop, office.client.stop(stop, digest))
    if reason:
        memory = load_memory(office.config.memory, office.genesis.hash)
        save_memory(office.config.memory, memory.with_note(digest, reason))
    value: dict[str, Json] = {"digest": digest.hex()}
    lines: list[str] = []
    if (after := delivered.answer) is not None:
        value |= view_json(after, office.policy, office.now)
        lines = standing_lines(after, office.policy, office.now)
        if how == "veto" and after.stage is not Stage.REJECTED:
            lines.append("vetoed, but not ended: others of the group that its rules name must veto it too")
    value["delivery"] = delivered.to_json()
    office.output.done(value, "", *lines, *(delivered.lines() if delivered.is_done else ()))


async def _meant(office: Office, name: str) -> tuple[bytes, WithdrawalView | None]:
    """Show the withdrawal that is to end. A whole digest can be stopped unseen: a coordinator may hide what it is."""
    from console.pages import withdrawal_lines
    from custody.errors import IntegrityError, NotFoundError, UnavailableError

    try:
        view = await office.find(name)
    except (UnavailableError, NotFoundError, IntegrityError) as error:
        return _unseen(office, name, error), None
    office.output.page(withdrawal_lines(view.withdrawal, office.policy, office.genesis, (), office.now))
    return view.digest, view


def _unseen(office: Office, name: str, error: CustodyError) -> bytes:
    from custody.errors import MalformedError
    from custody.fields import parse_hex

    try:
        digest = parse_hex(name, "withdrawal", 32)
    except MalformedError:
        raise error from None
    if not office.config.witnesses:
        raise error
    office.output.page([f"The coordinator does not show withdrawal {name}: {error}", "Witnesses take the stop anyway."])
    return digest


def _stop(office: Office, digest: bytes, how: str, until: int, pen: Pen) -> Signed:
    from console.votes import reject_of
    from custody.entries import StopCause, StopStatement
    from custody.statements import Kind

    genesis, me, now = office.genesis.hash, office.config.me, office.now
    if how == "veto":
        return pen.sign(Kind.STOP, StopStatement(genesis, digest, StopCause.VETO, me, now).to_json())
    return pen.sign(Kind.APPROVAL, reject_of(genesis, digest, me, now, until).to_json())


@app.command()
def freeze(context: typer.Context, yes: Yes = False) -> None:
    """Stop every signature of every wallet, at once; one person's freeze lapses after 72 h unless a second joins."""
    connected(context, lambda office: _freeze(office, yes))


async def _freeze(office: Office, yes: bool) -> None:
    from console.cli.delivering import deliver
    from console.cli.policy import freezes_json, freezes_table
    from console.refusal import refuse
    from custody.entries import Freeze
    from custody.statements import Kind

    pen, me = await office.pen(), office.config.me
    groups = office.policy.admin.freeze.groups
    person = office.policy.principal(me)
    if person is None or not set(groups) & set(person.groups):
        refuse("MAY_NOT_FREEZE", f"somebody of {', '.join(groups)}", me)
    office.output.confirm(f"Freeze everything as {me}?", yes)
    statement = Freeze(office.genesis.hash, os.urandom(16), me, office.now)
    signed = pen.sign(Kind.FREEZE, statement.to_json())
    delivered = await deliver(office, signed, office.client.freeze(signed))
    value: dict[str, Json] = {"freeze_id": statement.freeze_id.hex(), "delivery": delivered.to_json()}
    parts: list[Part] = [f"frozen; its id is {statement.freeze_id.hex()}"]
    if delivered.answer is not None:
        value["freezes"] = freezes_json(delivered.answer)
        parts.append(freezes_table(delivered.answer))
    office.output.done(value, *parts, *(delivered.lines() if delivered.is_done else ()))

"""What people are shown of a withdrawal: session, facts, decision, who is missing. Readers recompute it."""

from __future__ import annotations

from coordinator.asking import standing_of
from coordinator.deciding import Judged, judge_now
from coordinator.drafting import facts_of
from coordinator.ending import end_of
from coordinator.parts import Parts
from coordinator.rpc.statements import write_signed
from coordinator.session import Session, Stage
from coordinator.store.port import Versioned
from custody.decide import Allow, Decided, Deny, Need
from custody.errors import CustodyError, Refused
from custody.facts import Facts
from custody.policy.match import Outcome, Reason
from custody.signatures import Accepted
from custody.v1 import statement_pb2, withdrawal_pb2
from custody.withdrawal import Withdrawal, read_withdrawal

COARSE = "DENIED"  # what callers who may not read reasons are told
_TRUTH = {
    Outcome.TRUE: withdrawal_pb2.TRUTH_TRUE,
    Outcome.FALSE: withdrawal_pb2.TRUTH_FALSE,
    Outcome.UNKNOWN: withdrawal_pb2.TRUTH_UNKNOWN,
}


async def view_of(parts: Parts, held: Versioned[Session]) -> withdrawal_pb2.Withdrawal:
    """Return everything about one withdrawal, judged anew where it still waits."""
    session, now = held.value, parts.clock.now()
    withdrawal = read_withdrawal(session.withdrawal)
    view = withdrawal_pb2.Withdrawal(
        digest=session.digest,
        statement=write_signed(session.withdrawal),
        stage=withdrawal_pb2.Stage.Value(f"STAGE_{session.stage.name}"),
        approvals=[write_signed(signed) for signed in session.approvals],
        threshold=parts.books[withdrawal.wallet_id].wallet.threshold,
        txid=session.txid or b"",
        transaction=session.transaction or b"",
        release_index=session.release_index,
        height=session.confirmed_height or 0,
        created_at=session.created_at,
        updated_at=session.updated_at,
        wallet=next(w.name for w in parts.wallets if w.wallet.wallet_id == withdrawal.wallet_id),
    )
    await _add_facts(parts, view, session, withdrawal, now)
    await _add_depth(parts, view, session)
    if session.stage is Stage.APPROVING:
        await add_decision(parts, view, session, now)
    elif session.is_ended and (ended := await end_of(parts, session.digest)) is not None:
        view.ended.CopyFrom(refusal(ended))
    await _add_signers(parts, view, session, withdrawal, now)
    return view


async def add_decision(parts: Parts, view: withdrawal_pb2.Withdrawal, session: Session, now: int) -> None:
    """Add what the rules say at `now`, and which approvals are missing."""
    judged = await judge_now(parts, session, now)
    if isinstance(judged, Refused):
        view.decision.outcome = withdrawal_pb2.OUTCOME_DENY
        view.decision.refusals.append(refusal(judged))
        return
    view.decision.CopyFrom(decision_of(judged, now))
    noticed = [t for digest, t in judged.state.notices if digest == session.digest]
    if noticed and isinstance(judged.decision, Allow | Need) and judged.decision.delay.seconds:
        view.delayed_until = min(noticed) + judged.decision.delay.seconds
    view.missing_approvals.extend(missing_of(judged.decision))


def for_role(parts: Parts, view: withdrawal_pb2.Withdrawal, role: str) -> withdrawal_pb2.Withdrawal:
    """Return `view` as callers with certificates of `role` may read it: whole, or with a coarse reason alone.

    What a requester learns of limits and approvers helps whoever stole his key; the event log has it all the same.
    """
    if role not in parts.coarse_for:
        return view
    outcome, is_denied = view.decision.outcome, bool(view.decision.refusals)
    view.ClearField("decision")
    view.ClearField("missing_approvals")
    view.decision.outcome = outcome
    if is_denied:
        view.decision.refusals.append(_coarse())
    if view.HasField("ended"):
        view.ended.CopyFrom(_coarse())
    for row in view.signers:
        row.ClearField("refusal")
    return view


def _coarse() -> statement_pb2.Refusal:
    """Return all that a coarse answer says of a refusal."""
    return statement_pb2.Refusal(code=COARSE)


def decision_of(judged: Judged, now: int) -> withdrawal_pb2.Decision:
    """Return the decision with its reasons as rows."""
    decided = judged.decision
    outcome = {Allow: "OUTCOME_ALLOW", Need: "OUTCOME_NEED", Deny: "OUTCOME_DENY"}[type(decided)]
    rows = []
    for reason in decided.reasons:
        rows.append(
            withdrawal_pb2.DecisionRow(
                depth=0,
                rule_id=reason.rule,
                rule_kind=reason.kind.value,
                shadow=reason.mode.value == "shadow",
                truth=_TRUTH[reason.tree.outcome],
                text=reason.said,
            )
        )
        rows.extend(_rows(reason.rule, reason.tree, 1))
    found = withdrawal_pb2.Decision(
        outcome=withdrawal_pb2.Outcome.Value(outcome),
        rows=rows,
        policy_hash=decided.policy_hash,
        policy_version=judged.state.policy.version,
        judged_at=now,
        refusals=[refusal(r) for r in decided.refusals] if isinstance(decided, Deny) else [],
    )
    if isinstance(decided, Allow | Need):
        signers = decided.signers
        found.signers.CopyFrom(
            withdrawal_pb2.SignersRequired(
                include=signers.include, exclude=signers.exclude, min_offline=signers.min_offline
            )
        )
    return found


def missing_of(decided: Decided) -> list[withdrawal_pb2.MissingApproval]:
    """Return which approvals are missing and who could give them."""
    if not isinstance(decided, Need):
        return []
    return [
        withdrawal_pb2.MissingApproval(
            rule_id=lack.rule,
            of=lack.of,
            needed=lack.needed,
            have=lack.have,
            could=lack.could,
            option=lack.option,
            stage=lack.stage,
        )
        for lack in decided.missing
    ]


def refusal(refused: Refused) -> statement_pb2.Refusal:
    """Return the message of a refusal."""
    return statement_pb2.Refusal(code=refused.code, expected=refused.expected, found=refused.found)


def _rows(rule: str, reason: Reason, depth: int) -> list[withdrawal_pb2.DecisionRow]:
    rows = []
    for part in reason.parts:
        rows.append(withdrawal_pb2.DecisionRow(depth=depth, rule_id=rule, truth=_TRUTH[part.outcome], text=part.what))
        rows.extend(_rows(rule, part, depth + 1))
    return rows


async def _add_facts(
    parts: Parts, view: withdrawal_pb2.Withdrawal, session: Session, withdrawal: Withdrawal, now: int
) -> None:
    state = await parts.followed.state(now)
    found = facts_of(session.psbt or b"", withdrawal, state, parts.books[withdrawal.wallet_id])
    if not isinstance(found, Refused):
        view.facts.CopyFrom(_facts(found[1]))


def _facts(facts: Facts) -> withdrawal_pb2.Facts:
    return withdrawal_pb2.Facts(
        txid=facts.txid,
        inputs=[
            withdrawal_pb2.InputFact(
                outpoint=statement_pb2.OutPoint(txid=fact.outpoint.txid, output=fact.outpoint.vout),
                amount_sats=fact.amount_sats,
                branch=fact.branch,
                index=fact.index,
            )
            for fact in facts.inputs
        ],
        payments=[withdrawal_pb2.PaymentFact(script=p.script, amount_sats=p.amount) for p in facts.payments],
        change=[
            withdrawal_pb2.ChangeFact(output=c.output, index=c.index, amount_sats=c.amount_sats) for c in facts.change
        ],
        fee_sats=facts.fee_sats,
        vsize_vb=facts.vsize_vb,
    )


async def _add_depth(parts: Parts, view: withdrawal_pb2.Withdrawal, session: Session) -> None:
    if session.confirmed_height is not None:
        view.depth_blocks = max(0, await parts.chain.height() - session.confirmed_height + 1)


async def _add_signers(
    parts: Parts, view: withdrawal_pb2.Withdrawal, session: Session, withdrawal: Withdrawal, now: int
) -> None:
    """Add one row per key: who signed, who refused, who is waited for."""
    try:
        standing, _, accepted = await standing_of(parts, session, withdrawal, now)
    except CustodyError:
        return  # no PSBT that still stands: nobody can sign it
    view.signed = len(accepted.signed)
    refusals = {r.node: Refused(r.code, r.expected, r.found) for r in session.refusals}
    offline = {s.name for s in standing if s.is_offline}
    asked = {s.name for s in standing if s.asked_at is not None}
    wallet = next(w for w in parts.wallets if w.wallet.wallet_id == withdrawal.wallet_id)
    for at, slot in enumerate(wallet.slots):
        name = slot.node or f"{slot.admin}'s device"
        row = withdrawal_pb2.SignerView(name=name, key_index=at, offline=slot.node is None or name in offline)
        row.progress = _progress(accepted, at, name in refusals, name in asked)
        if name in refusals:
            row.refusal.CopyFrom(refusal(refusals[name]))
        view.signers.append(row)


def _progress(accepted: Accepted, at: int, refused: bool, asked: bool) -> withdrawal_pb2.SignerProgress.ValueType:
    if at in accepted.signed:
        return withdrawal_pb2.SIGNER_PROGRESS_SIGNED
    if accepted.is_complete:
        return withdrawal_pb2.SIGNER_PROGRESS_NOT_NEEDED
    if refused:
        return withdrawal_pb2.SIGNER_PROGRESS_REFUSED
    return withdrawal_pb2.SIGNER_PROGRESS_ASKED if asked else withdrawal_pb2.SIGNER_PROGRESS_WAITING

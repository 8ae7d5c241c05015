"""How a withdrawal stands, for people and programs: what was verified here, apart from what is only told."""

from __future__ import annotations

from collections.abc import Sequence

from console.history import History
from console.pages import btc, utc
from console.views import DecisionView, Missing, SignerRow, WithdrawalView
from custody.approval import read_approval
from custody.canonical import Json, encode
from custody.errors import MalformedError, Refused
from custody.follow import State
from custody.people import check_approval, check_initiator
from custody.policy import Policy
from custody.statements import Signed
from custody.story import Happened
from custody.withdrawal import Withdrawal
from custody.words import words

_TRUTH = {"true": "yes", "false": "no", "unknown": "not known", "": "?"}


def view_json(view: WithdrawalView, policy: Policy, now: int) -> dict[str, Json]:
    """Return a withdrawal for programs. `initiator_verified` and each vote's `valid` are judged here."""
    withdrawal = view.withdrawal
    value: dict[str, Json] = {
        "digest": view.digest.hex(),
        "words": " ".join(words(view.digest)),
        "withdrawal_id": withdrawal.withdrawal_id,
        "initiator": withdrawal.initiator,
        "initiator_verified": check_initiator(policy, withdrawal, view.signed, now) is None,
        "stage": view.stage.value,
        "payments": [payment.to_json() for payment in withdrawal.payments],
        "max_fee_sats": withdrawal.max_fee_sats,
        "relation": withdrawal.relation.to_json(),
        "expires_at": withdrawal.expires_at,
        "approvals": [_vote_json(vote, view, policy, now) for vote in view.approvals],
        "missing": [_missing_json(missing) for missing in view.missing],
        "threshold": view.threshold,
        "signed": view.signed_count,
        "signers": [_signer_json(row) for row in view.signers],
        "decision": decision_json(view.decision),
        "height": view.height,
        "depth_blocks": view.depth_blocks,
        "updated_at": view.updated_at,
    }
    optional: dict[str, Json | None] = {
        "txid": view.txid[::-1].hex() if view.txid else None,
        "fee_sats": view.told.fee_sats if view.told is not None else None,
        "release_index": view.release_index,
        "delayed_until": view.delayed_until or None,
        "ended": _refused_json(view.ended) if view.ended is not None else None,
    }
    return value | {key: found for key, found in optional.items() if found is not None}


def decision_json(decision: DecisionView) -> Json:
    """Return what the coordinator says that the rules say."""
    return {
        "outcome": decision.outcome,
        "policy_version": decision.policy_version,
        "refusals": [_refused_json(refused) for refused in decision.refusals],
        "reasons": [
            {"depth": r.depth, "rule": r.rule, "kind": r.kind, "shadow": r.shadow, "truth": r.truth, "text": r.text}
            for r in decision.rows
        ],
    }


def standing_lines(view: WithdrawalView, policy: Policy, now: int) -> list[str]:
    """Return how a withdrawal stands: stage, votes, who is missing, who signed."""
    lines = [f"stage      {view.stage.value}{_where(view)}"]
    if view.ended is not None:
        lines.append(f"           {view.ended}")
    refused = check_initiator(policy, view.withdrawal, view.signed, now)
    lines.append(f"initiator  {'signature verified here' if refused is None else f'NOT VERIFIED: {refused}'}")
    lines += [f"vote       {vote_line(vote, view.withdrawal, policy, now)}" for vote in view.approvals]
    lines += [f"missing    {line}" for line in missing_lines(view.missing, policy, now)]
    if view.delayed_until > now:
        lines.append(f"waits      until {utc(view.delayed_until)}")
    lines += [f"refused    {found}" for found in view.decision.refusals if found != view.ended]
    if view.signers:
        lines.append(f"signers    {view.signed_count} of {view.threshold} signed")
        lines += [f"           {signer_line(row)}" for row in view.signers]
    if view.told is not None:
        lines.append(f"fee        {btc(view.told.fee_sats)} for at most {view.told.vsize_vb} vB, says the coordinator")
    if view.txid:
        lines.append(f"txid       {view.txid[::-1].hex()}")
    return lines


def missing_lines(missing: Sequence[Missing], policy: Policy, now: int) -> list[str]:
    """Return what is asked for and who could give it, one line for each; alternatives say so.

    The coordinator tells it; a name that the rules in force do not know at `now` (UTC seconds) is marked.
    """
    several = len({lack.option for lack in missing}) > 1
    return [
        f"{f'way {lack.option + 1}: ' if several else ''}{lack.needed} more of {lack.of} for rule {lack.rule}"
        f"{f', stage {lack.stage + 1}' if lack.stage else ''}: "
        f"{', '.join(_known(name, policy, now) for name in lack.could) or 'nobody in the rules'} could"
        for lack in missing
    ]


def _known(name: str, policy: Policy, now: int) -> str:
    person = policy.principal(name)
    return name if person is not None and now < person.valid_until else f"{name} (NOT IN THE RULES)"


def stop_lines(state: State, withdrawal: Withdrawal) -> list[str]:
    """Return what the log holds against a withdrawal, and the notice that its delay runs from; as followed here."""
    lines = []
    if (stop := state.is_stopped(withdrawal)) is not None:
        lines.append(f"stopped    {stop.cause.value} by {stop.by}, in the log")
    if vetoed := state.vetoes_of(withdrawal):
        lines.append(f"vetoed     by {', '.join(vetoed)}, in the log")
    noticed = [t for digest, t in state.notices if digest == withdrawal.digest]
    return lines + ([f"notice     {utc(min(noticed))}, in the log"] if noticed else [])


def signer_line(row: SignerRow) -> str:
    """Return one key of the wallet: "cold (offline): signed"."""
    where = " (offline)" if row.offline else ""
    why = f": {row.refused}" if row.refused is not None else ""
    return f"{row.name}{where} {row.progress.replace('_', ' ')}{why}"


def decision_lines(decision: DecisionView) -> list[str]:
    """Return the reasons as the coordinator gives them, rule by rule, with their matchers indented."""
    lines = [f"{(decision.outcome or 'not judged').upper()} under rules version {decision.policy_version}"]
    lines += [f"  {refused}" for refused in decision.refusals]
    if decision.min_offline:
        lines.append(f"  offline nodes that sign first: {decision.min_offline}")
    if decision.include:
        lines.append(f"  must sign: {', '.join(decision.include)}")
    if decision.exclude:
        lines.append(f"  must not sign: {', '.join(decision.exclude)}")
    for row in decision.rows:
        shadow = " (shadow: changes nothing)" if row.shadow else ""
        if row.depth == 0:
            lines.append(f"  {row.kind} {row.rule}: {row.text}{shadow}")
        else:
            lines.append(f"  {'  ' * row.depth}[{_TRUTH.get(row.truth, '?')}] {row.text}")
    return lines


def history_lines(history: History) -> list[str]:
    """Return what happened, one line for each event, in the order of time."""
    lines = ["history, as the coordinator tells it (keyturn audit verify proves it):"]
    lines += [] if history.is_whole else ["  earlier events were not looked for: there are too many in the log"]
    return [*lines, *(_event_line(event) for event in history.events)]


def event_json(event: Happened) -> Json:
    """Return one event of the log."""
    value: dict[str, Json] = {"index": event.index, "time": event.time, "kind": event.kind, "actor": event.actor}
    return value | {"fields": dict(_told_of(event))}


def _event_line(event: Happened) -> str:
    told = (f"{key}={found if isinstance(found, str) else encode(found).decode()}" for key, found in _told_of(event))
    return "  ".join([f"  {utc(event.time)}  {event.kind} by {event.actor}", *told])


def _told_of(event: Happened) -> list[tuple[str, Json]]:
    """Return an event's own fields: without the withdrawal, which is known, and the digests of its papers."""
    return [(key, found) for key, found in sorted(event.more.items()) if key not in ("withdrawal", "bodies")]


def vote_line(vote: Signed, withdrawal: Withdrawal, policy: Policy, now: int) -> str:
    """Return one approval as judged here."""
    try:
        said = read_approval(vote)
    except MalformedError as error:
        return f"NOT AN APPROVAL: {error}"
    worth = check_approval(policy, withdrawal, said, vote, now)
    if isinstance(worth, Refused):
        return f"{said.approver}: does not count: {worth}"
    return f"{worth.person} approved on {utc(worth.at)}{'' if worth.seen else ' (blind)'}"


def _vote_json(vote: Signed, view: WithdrawalView, policy: Policy, now: int) -> Json:
    try:
        said = read_approval(vote)
    except MalformedError as error:
        return {"valid": False, "code": error.code}
    worth = check_approval(policy, view.withdrawal, said, vote, now)
    value: dict[str, Json] = {"approver": said.approver, "at": said.at, "decision": said.decision.value}
    if isinstance(worth, Refused):
        return value | {"valid": False, "code": worth.code}
    return value | {"valid": True, "seen": worth.seen}


def _missing_json(missing: Missing) -> Json:
    return {
        "rule": missing.rule,
        "of": missing.of,
        "needed": missing.needed,
        "have": list(missing.have),
        "could": list(missing.could),
        "option": missing.option,
        "stage": missing.stage,
    }


def _signer_json(row: SignerRow) -> Json:
    value: dict[str, Json] = {"name": row.name, "progress": row.progress, "offline": row.offline}
    return value if row.refused is None else value | {"refused": _refused_json(row.refused)}


def _refused_json(refused: Refused) -> Json:
    return {"code": refused.code, "expected": refused.expected, "found": refused.found}


def _where(view: WithdrawalView) -> str:
    if view.height:
        return f" in block {view.height}, {view.depth_blocks} deep"
    return "" if view.release_index is None else f", release in entry {view.release_index}"

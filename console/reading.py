"""Protobuf ends here: each answer becomes a frozen value, and every digest that it claims is computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from console.statements import read_signed
from console.views import (
    DecisionView,
    FreezeView,
    Happening,
    Missing,
    NodeView,
    ProposedView,
    ReasonRow,
    RulesView,
    SignerRow,
    Stage,
    Told,
    WithdrawalView,
)
from custody.errors import IntegrityError, MalformedError, Refused
from custody.statements import Kind
from custody.transaction import parse_transaction
from custody.v1 import policy_pb2, signer_pb2, statement_pb2, withdrawal_pb2
from custody.withdrawal import read_withdrawal

T = TypeVar("T")


def believed(read: Callable[[], T]) -> T:
    """Return what `read` returns; what is malformed in an answer is the coordinator's fault, not the user's.

    Raises:
        IntegrityError: ANSWER_MALFORMED, or what `read` found.
    """
    try:
        return read()
    except MalformedError as error:
        raise IntegrityError("ANSWER_MALFORMED", f"the coordinator's answer is wrong: {error}") from error
    except ValueError as error:  # an enum value of a newer version
        raise IntegrityError("ANSWER_MALFORMED", "the coordinator's answer holds a value nobody knows") from error


def read_view(message: withdrawal_pb2.Withdrawal) -> WithdrawalView:
    """Return the withdrawal in `message`.

    Raises:
        IntegrityError: DIGEST_OTHER, TXID_OTHER or ANSWER_MALFORMED.
    """
    return believed(lambda: _view(message))


def read_decision(message: withdrawal_pb2.Decision) -> DecisionView:
    """Return what the coordinator says that the rules say."""
    return DecisionView(
        outcome=_word(withdrawal_pb2.Outcome.Name(message.outcome), "OUTCOME_"),
        rows=tuple(
            ReasonRow(
                depth=row.depth,
                rule=row.rule_id,
                kind=row.rule_kind,
                shadow=row.shadow,
                truth=_word(withdrawal_pb2.Truth.Name(row.truth), "TRUTH_"),
                text=row.text,
            )
            for row in message.rows
        ),
        policy_hash=message.policy_hash,
        policy_version=message.policy_version,
        refusals=tuple(_refused(r) for r in message.refusals),
        include=tuple(message.signers.include),
        exclude=tuple(message.signers.exclude),
        min_offline=message.signers.min_offline,
    )


def read_missing(message: withdrawal_pb2.MissingApproval) -> Missing:
    """Return one approval that is asked for."""
    return Missing(
        message.rule_id,
        message.of,
        message.needed,
        tuple(message.have),
        tuple(message.could),
        message.option,
        message.stage,
    )


def read_node(message: signer_pb2.NodeView) -> NodeView:
    """Return one signer node."""
    return NodeView(
        name=message.node,
        offline=message.offline,
        connected=message.connected,
        heard_at=message.heard_at,
        backend=_word(signer_pb2.BackendState.Name(message.backend), "BACKEND_STATE_"),
        money_size=message.money_size,
        alive=read_signed(message.alive) if message.HasField("alive") else None,
        drill=read_signed(message.drill) if message.HasField("drill") else None,
        code=message.backend_code,
    )


def read_rules(message: policy_pb2.GetRulesResponse) -> RulesView:
    """Return the rules as served."""
    freezes = tuple(read_freeze_view(found) for found in message.freezes)
    proposed = tuple(read_proposed(found) for found in message.pending)
    return RulesView(message.rules.document, message.rules.version, proposed, freezes)


def read_proposed(message: policy_pb2.Rules) -> ProposedView:
    """Return a rules document that waits; its hash is computed here."""
    statement = statement_pb2.SignedStatement(
        kind=message.kind or Kind.RULES.value, statement=message.document, endorsements=message.endorsements
    )
    return ProposedView(read_signed(statement), message.effective_at, tuple(message.missing))


def read_freeze_view(message: policy_pb2.FreezeView) -> FreezeView:
    """Return one freeze in force."""
    return FreezeView(message.freeze_id, message.by, message.since, message.lapses_at)


def _view(message: withdrawal_pb2.Withdrawal) -> WithdrawalView:
    signed = read_signed(message.statement)
    if signed.digest != message.digest:
        raise IntegrityError("DIGEST_OTHER", f"expected {signed.digest.hex()}, found {message.digest.hex()}")
    if message.transaction and parse_transaction(message.transaction).txid != message.txid:
        raise IntegrityError("TXID_OTHER", "expected the txid of the transaction that is shown")
    return WithdrawalView(
        signed=signed,
        withdrawal=read_withdrawal(signed),
        stage=Stage(_word(withdrawal_pb2.Stage.Name(message.stage), "STAGE_")),
        told=_told(message.facts) if message.HasField("facts") else None,
        decision=read_decision(message.decision),
        approvals=tuple(read_signed(found) for found in message.approvals),
        missing=tuple(read_missing(found) for found in message.missing_approvals),
        signers=tuple(_signer(found) for found in message.signers),
        threshold=message.threshold,
        signed_count=message.signed,
        txid=message.txid,
        release_index=message.release_index if message.HasField("release_index") else None,
        height=message.height,
        depth_blocks=message.depth_blocks,
        updated_at=message.updated_at,
        delayed_until=message.delayed_until,
        ended=_refused(message.ended) if message.HasField("ended") else None,
        history=tuple(Happening(found.time, found.kind, found.actor, found.text) for found in message.history),
    )


def _told(facts: withdrawal_pb2.Facts) -> Told:
    change = sum(found.amount_sats for found in facts.change)
    return Told(facts.txid, len(facts.inputs), change, facts.fee_sats, facts.vsize_vb)


def _signer(message: withdrawal_pb2.SignerView) -> SignerRow:
    progress = _word(withdrawal_pb2.SignerProgress.Name(message.progress), "SIGNER_PROGRESS_")
    refused = _refused(message.refusal) if message.HasField("refusal") else None
    return SignerRow(message.name, message.key_index, progress, message.offline, refused)


def _refused(message: statement_pb2.Refusal) -> Refused:
    return Refused(message.code, message.expected, message.found)


def _word(name: str, prefix: str) -> str:
    """Return "allow" for OUTCOME_ALLOW, and "" for the value that means nothing."""
    word = name.removeprefix(prefix).lower()
    return "" if word == "unspecified" else word

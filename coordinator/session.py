"""The state machine of one withdrawal: which stage it is in and what may happen to it there. Pure.

Each function returns a new `Session` or raises `ConflictError` with a stable code; none reads a clock or decides
whether something should happen, only whether it still can. Ends are ends: nothing leaves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from custody.errors import ConflictError, Refused
from custody.signatures import InputSignature
from custody.statements import Signed


class Stage(Enum):
    """Where a withdrawal stands; the value is how it is stored."""

    APPROVING = "approving"
    """Waits for approvals, or for a delay to run out."""
    RELEASED = "released"
    """Its RELEASE is in the money log and waits for the witnesses' cosignatures."""
    SIGNING = "signing"
    """Bundles may go to signers."""
    FINAL = "final"
    """Its transaction is complete, checked and stored; it is to be broadcast."""
    BROADCAST = "broadcast"
    """Handed to the network, not yet deep enough in a block."""
    CONFIRMED = "confirmed"
    """In a block, as deep as the rules ask."""
    DENIED = "denied"
    """The rules, the facts or too many signers say no."""
    REJECTED = "rejected"
    """A person rejected or vetoed it, for ever."""
    CANCELLED = "cancelled"
    """Its initiator took it back before its release."""
    EXPIRED = "expired"
    """Its time ran out before enough keys signed."""
    CONFLICTED = "conflicted"
    """Another transaction spent its coins in a block."""


_STOPS = frozenset({Stage.DENIED, Stage.REJECTED, Stage.EXPIRED})
MOVES: Mapping[Stage, frozenset[Stage]] = {
    Stage.APPROVING: _STOPS | {Stage.RELEASED, Stage.CANCELLED},
    # A reject after the release still ends it: signers that have not signed refuse, and we combine no more.
    # Back to APPROVING: witnesses saw the release too late for signers, so another one has to be written.
    Stage.RELEASED: _STOPS | {Stage.SIGNING, Stage.CONFLICTED, Stage.APPROVING},
    # Back to APPROVING here: a cold signer took longer than signers take a release for.
    Stage.SIGNING: _STOPS | {Stage.FINAL, Stage.CONFLICTED, Stage.APPROVING},
    # From here on the signatures are out: only the chain says how it ends.
    Stage.FINAL: frozenset({Stage.BROADCAST, Stage.CONFLICTED}),
    Stage.BROADCAST: frozenset({Stage.CONFIRMED, Stage.CONFLICTED}),
    Stage.CONFIRMED: frozenset({Stage.BROADCAST}),  # a reorganisation took its block away
    Stage.DENIED: frozenset(),
    Stage.REJECTED: frozenset(),
    Stage.CANCELLED: frozenset(),
    Stage.EXPIRED: frozenset(),
    Stage.CONFLICTED: frozenset(),
}
ENDS = frozenset(stage for stage, following in MOVES.items() if not following)
OPEN = frozenset(Stage) - ENDS - {Stage.CONFIRMED}
"""Stages in which a restarted coordinator has something to do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The last bundle that went to a node. at: UTC seconds."""

    node: str
    at: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node's last refusal, as it said it. at: UTC seconds of its arrival."""

    node: str
    code: str
    expected: str
    found: str
    at: int


@dataclass(frozen=True, slots=True)
class Session:
    """One withdrawal on its way.

    digest: 32 bytes, of the withdrawal statement.  approvals: distinct statements.  psbt: ours, without signatures.
    release_index: of its RELEASE in the money log; the store fills it in.  signatures: verified ones, at most one per
    (input, key).  asked, refusals: the last per node.  transaction: complete, network form.  txid: 32 bytes, wire
    order.  created_at, updated_at: UTC seconds.  confirmed_height: of the block that holds it.
    """

    digest: bytes
    withdrawal: Signed
    stage: Stage
    created_at: int
    updated_at: int
    approvals: tuple[Signed, ...] = ()
    psbt: bytes | None = None
    release_index: int | None = None
    signatures: tuple[InputSignature, ...] = ()
    asked: tuple[Asked, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    transaction: bytes | None = None
    txid: bytes | None = None
    confirmed_height: int | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.stage in ENDS


def propose(withdrawal: Signed, at: int) -> Session:
    """Return the session of a withdrawal just taken in."""
    return Session(withdrawal.digest, withdrawal, Stage.APPROVING, at, at)


def draft(session: Session, psbt: bytes, at: int) -> Session:
    """Return it with the PSBT that is to be released; a later draft replaces it. Raises STAGE_MOVE after release."""
    return _stay(session, Stage.APPROVING, "STAGE_MOVE", at, psbt=psbt)


def approve(session: Session, approval: Signed, at: int) -> Session:
    """Return it with one more approval; the same again changes nothing. Raises LATE_APPROVAL after release."""
    if any(known.digest == approval.digest for known in session.approvals):
        return session
    return _stay(session, Stage.APPROVING, "LATE_APPROVAL", at, approvals=(*session.approvals, approval))


def release(session: Session, at: int) -> Session:
    """Return it as released: to be committed together with its RELEASE entry. Raises STAGE_MOVE, or NO_PSBT."""
    released = _move(session, Stage.RELEASED, at)
    if released.psbt is None:
        raise ConflictError("NO_PSBT", "expected a PSBT to release, found none")
    return released


def reconsider(session: Session, at: int) -> Session:
    """Return it as not released: its RELEASE stays in the log and counts; what was signed under it stays valid.

    Whoever was asked under it, and refused, is asked again under the next.
    """
    return _move(session, Stage.APPROVING, at, release_index=None, asked=(), refusals=())


def cosigned(session: Session, at: int) -> Session:
    """Return it with its RELEASE vouched for: bundles may go out."""
    return _move(session, Stage.SIGNING, at)


def ask(session: Session, node: str, at: int) -> Session:
    """Return it with a bundle on its way to `node`; what that node said before is void. Raises STAGE_MOVE."""
    asked = (*(a for a in session.asked if a.node != node), Asked(node, at))
    refusals = tuple(r for r in session.refusals if r.node != node)
    return _stay(session, Stage.SIGNING, "STAGE_MOVE", at, asked=asked, refusals=refusals)


def refuse(session: Session, node: str, refused: Refused, at: int) -> Session:
    """Return it with what `node` answered instead of signatures. Raises LATE_REFUSAL outside SIGNING."""
    said = Refusal(node, refused.code, refused.expected, refused.found, at)
    refusals = (*(r for r in session.refusals if r.node != node), said)
    return _stay(session, Stage.SIGNING, "LATE_REFUSAL", at, refusals=refusals)


def add_signatures(session: Session, signatures: Iterable[InputSignature], at: int) -> Session:
    """Return it with more verified signatures; the first per (input, key) stays.

    Raises:
        ConflictError: LATE_SIGNATURE outside SIGNING: to be recorded by the caller, never combined.
    """
    by_place = {(s.input_index, s.pubkey): s for s in session.signatures}
    for signature in signatures:
        by_place.setdefault((signature.input_index, signature.pubkey), signature)
    return _stay(session, Stage.SIGNING, "LATE_SIGNATURE", at, signatures=tuple(by_place.values()))


def finalise(session: Session, transaction: bytes, txid: bytes, at: int) -> Session:
    """Return it with its complete, checked transaction. txid: 32 bytes, wire order."""
    return _move(session, Stage.FINAL, at, transaction=transaction, txid=txid)


def broadcast(session: Session, at: int) -> Session:
    """Return it as handed to the network, or as no longer in a block."""
    return _move(session, Stage.BROADCAST, at, confirmed_height=None)


def confirm(session: Session, height: int, at: int) -> Session:
    """Return it as confirmed in the block of `height`."""
    return _move(session, Stage.CONFIRMED, at, confirmed_height=height)


def deny(session: Session, at: int) -> Session:
    """Return it as denied by rules, facts or signers."""
    return _move(session, Stage.DENIED, at)


def reject(session: Session, at: int) -> Session:
    """Return it as rejected or vetoed by a person."""
    return _move(session, Stage.REJECTED, at)


def expire(session: Session, at: int) -> Session:
    """Return it as out of time."""
    return _move(session, Stage.EXPIRED, at)


def conflict(session: Session, at: int) -> Session:
    """Return it as impossible: another transaction took its coins."""
    return _move(session, Stage.CONFLICTED, at)


def cancel(session: Session, at: int) -> Session | Refused:
    """Return it as taken back by its initiator, or Refused NEEDS_SUPERSEDE once a release permits payment.

    Raises:
        ConflictError: STAGE_MOVE where it ended before.
    """
    if session.stage is not Stage.APPROVING and not session.is_ended:
        return Refused("NEEDS_SUPERSEDE", "a withdrawal that was not released", session.stage.value)
    return _move(session, Stage.CANCELLED, at)


def _move(session: Session, to: Stage, at: int, **changes: Any) -> Session:  # Any: each caller names Session's fields
    if to not in MOVES[session.stage]:
        allowed = " or ".join(sorted(stage.value for stage in MOVES[session.stage])) or "nothing more"
        raise ConflictError("STAGE_MOVE", f"expected {allowed} after {session.stage.value}, found {to.value}")
    return replace(session, stage=to, updated_at=max(session.updated_at, at), **changes)


def _stay(session: Session, stage: Stage, code: str, at: int, **changes: Any) -> Session:  # Any: as in _move
    if session.stage is not stage:
        raise ConflictError(code, f"expected the stage {stage.value}, found {session.stage.value}")
    return replace(session, updated_at=max(session.updated_at, at), **changes)

"""Withdrawals, sessions and releases for tests of the coordinator's state: well-formed, verified by nobody."""

from __future__ import annotations

from coordinator.session import Session, draft, propose, release
from coordinator.store import MoneyBody
from custody.approval import Approval, Decision
from custody.entries import EntryKind, Release
from custody.statements import Kind, Signed, sign
from custody.transaction import OutPoint
from custody.units import Sats
from custody.withdrawal import NEW, Payment, Withdrawal

NOW = 1_700_000_000
SEED = b"\x07" * 32
GENESIS = b"\x11" * 32
WALLET = b"\x22" * 32
PSBT = b"psbt\xff" + b"\x33" * 40


def withdrawal(name: str = "w-1", initiator: str = "payroll", sats: int = 1_000, wallet: bytes = WALLET) -> Signed:
    """Return a signed withdrawal called `name`."""
    asked = Withdrawal(
        genesis=GENESIS,
        withdrawal_id=name,
        wallet_id=wallet,
        network="regtest",
        payments=(Payment("bcrt1qexample", Sats(sats), "rent"),),
        max_fee_sats=Sats(500),
        relation=NEW,
        initiator=initiator,
        created_at=NOW,
        expires_at=NOW + 3_600,
        rules_floor=1,
    )
    return sign(Kind.WITHDRAWAL, asked.to_json(), SEED)


def approval(digest: bytes, approver: str = "alice", decision: Decision = Decision.APPROVE) -> Signed:
    """Return a signed word of `approver` on the withdrawal `digest`."""
    said = Approval(GENESIS, digest, decision, approver, NOW, NOW + 3_600)
    return sign(Kind.APPROVAL, said.to_json(), SEED)


def drafted(name: str = "w-1") -> Session:
    """Return a session that has a PSBT and waits for nothing but its release."""
    return draft(propose(withdrawal(name), NOW), PSBT, NOW)


def released(session: Session) -> Session:
    """Return it as released."""
    return release(session, NOW + 1)


def release_body(session: Session, outpoints: tuple[OutPoint, ...] = ()) -> MoneyBody:
    """Return the RELEASE that `session` needs."""
    entry = Release(
        withdrawal_digest=session.digest,
        withdrawal_id="w-1",
        wallet_id=WALLET,
        family=session.digest,
        approvals=tuple(approved.digest for approved in session.approvals),
        txid=b"\x44" * 32,
        outpoints=outpoints or (coin(1),),
        payments=(),
        change=((3, Sats(20_000)),),
        fee_sats=Sats(200),
        max_fee_sats=Sats(500),
        initiator="payroll",
        relation=NEW,
        time=NOW + 1,
    )
    return MoneyBody(EntryKind.RELEASE, entry)


def coin(number: int) -> OutPoint:
    """Return an outpoint of its own."""
    return OutPoint(number.to_bytes(32), number)

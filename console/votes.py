"""What a vote rests on and what it says; pure, and the same whichever program asks for the signature."""

from __future__ import annotations

from collections.abc import Sequence

from console.refusal import refuse, refuse_if
from console.views import WithdrawalView
from custody.approval import Approval, Decision
from custody.follow import State
from custody.genesis import Genesis
from custody.people import check_initiator
from custody.withdrawal import Withdrawal


def check_open(view: WithdrawalView, genesis: Genesis, state: State, me: str, now: int) -> None:
    """Refuse to approve what is not a living withdrawal of our initiator, or our own.

    Raises:
        RefusedHereError: GENESIS_OTHER, WALLET_OTHER, a code of `check_initiator`, APPROVAL_SELF, WITHDRAWAL_EXPIRED,
            STOPPED.
    """
    asked = view.withdrawal
    if asked.genesis != genesis.hash:
        refuse("GENESIS_OTHER", "a withdrawal under the pinned genesis", asked.genesis.hex())
    if genesis.wallet(asked.wallet_id) is None or asked.network != genesis.network.value:
        refuse("WALLET_OTHER", f"a wallet of the genesis on {genesis.network.value}", asked.wallet_id.hex())
    refuse_if(check_initiator(state.policy, asked, view.signed, now))
    if asked.initiator == me:
        refuse("APPROVAL_SELF", "an approver other than the initiator", me)
    if now >= asked.expires_at:
        refuse("WITHDRAWAL_EXPIRED", f"a withdrawal valid at {now}", f"one until {asked.expires_at}")
    if (stop := state.is_stopped(asked)) is not None:
        refuse("STOPPED", "a withdrawal that nobody stopped", f"a {stop.cause.value} by {stop.by}")


def approval_of(asked: Withdrawal, earlier: Sequence[Approval], me: str, now: int, expires_s: int) -> Approval:
    """Return what `me` says who approves `asked` at `now`, having seen the approvals `earlier`."""
    until = min(now + expires_s, asked.expires_at)
    after = tuple(approval.digest for approval in earlier)
    return Approval(asked.genesis, asked.digest, Decision.APPROVE, me, now, until, after)


def reject_of(genesis: bytes, digest: bytes, me: str, now: int, until: int) -> Approval:
    """Return what `me` says who rejects the withdrawal `digest` (32 bytes); no date ends a reject."""
    return Approval(genesis, digest, Decision.REJECT, me, now, max(now + 1, until))

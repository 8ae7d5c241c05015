"""Any bit of what people signed is changed: the coordinator takes none of it, and no signer signs for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from custody.approval import read_approval
from custody.bundle import Bundle
from custody.errors import CustodyError, Refused
from custody.follow import State
from custody.people import check_approval, check_initiator
from custody.statements import Kind, Signed
from custody.withdrawal import read_withdrawal
from signer_node.judge import Cleared, Moment, Pinned, judge
from tests.fakes.rules import NOW, PAY, rule
from tests.integration.harness import genesis_of
from tests.world import EXCHANGE, Spend, World

TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
GENESIS = genesis_of(PAY, TWO_EYES)


@pytest.fixture(scope="module")
def spend() -> Spend:
    """A withdrawal that two people approved."""
    world = World(GENESIS)
    return world.spend(world.withdrawal((EXCHANGE, 15_000_000))).approved_by("bob", "carol")


def flips(signed: Signed) -> Iterator[Signed]:
    """Yield `signed` with one bit of its statement, or of its signature, changed; each bit once."""
    raw, (endorsement,) = signed.raw, signed.endorsements
    for at in range(len(raw) * 8):
        yield replace(signed, raw=_flipped(raw, at))
    for at in range(len(endorsement.signature) * 8):
        changed = replace(endorsement, signature=_flipped(endorsement.signature, at))
        yield replace(signed, endorsements=(changed,))


def _flipped(raw: bytes, at: int) -> bytes:
    return raw[: at // 8] + bytes([raw[at // 8] ^ 1 << at % 8]) + raw[at // 8 + 1 :]


def is_taken(spend: Spend, signed: Signed) -> bool:
    """Return whether the coordinator would take in a withdrawal, or an approval of this one."""
    policy = GENESIS.policy
    try:
        if signed.kind is Kind.WITHDRAWAL:
            return check_initiator(policy, read_withdrawal(signed), signed, NOW) is None
        worth = check_approval(policy, spend.asked, read_approval(signed), signed, NOW)
    except CustodyError:
        return False
    return not isinstance(worth, Refused)


def is_signed(spend: Spend, state: State, bundle: Bundle) -> bool:
    """Return whether node alpha would sign; which backend it has makes no difference: none sees what is not cleared."""
    judged = judge(bundle, Pinned(GENESIS, "alpha"), state, Moment(NOW, 0), (), spend.world.book)
    return isinstance(judged.outcome, Cleared)


def test_atk_085_any_bit_of_a_withdrawal_changed_is_refused_by_coordinator_and_signer(spend: Spend) -> None:
    """Payee, amount, fee, rules floor, end: whatever the bit belongs to, the initiator did not sign it."""
    bundle, state = spend.bundle(), spend.world.state()
    assert is_taken(spend, bundle.withdrawal)
    assert is_signed(spend, state, bundle)

    for changed in flips(bundle.withdrawal):
        assert not is_taken(spend, changed)
        assert not is_signed(spend, state, replace(bundle, withdrawal=changed))


def test_atk_085_any_bit_of_an_approval_changed_is_refused_by_coordinator_and_signer(spend: Spend) -> None:
    """Decision, person, withdrawal, end: whatever the bit belongs to, the approver did not sign it."""
    bundle, state = spend.bundle(), spend.world.state()
    first, second = bundle.approvals
    assert is_taken(spend, first)

    for changed in flips(first):
        assert not is_taken(spend, changed)
        assert not is_signed(spend, state, replace(bundle, approvals=(changed, second)))

"""Any bit of what people signed is changed: the coordinator takes none of it, and no signer signs for it.

Here it is the judge that every signer runs; tests/contracts/test_refusals.py has nodes over every backend, and the
engine alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from custody.approval import read_approval
from custody.bundle import Bundle
from custody.errors import CustodyError, Refused
from custody.follow import State, start
from custody.governing import missing_signatures, successor_of
from custody.people import check_approval, check_initiator
from custody.statements import Kind, Signed
from custody.withdrawal import read_withdrawal
from signer_node.judge import Cleared, Moment, Pinned, judge
from tests.fakes.rules import NOW, PAY, rule
from tests.governing import CLOSED, after, document_of, log_rules, signed_rules, with_rule
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
    """Return whether node alpha would sign."""
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


RULES_STRIDE, LOGGED_STRIDE = 61, 1_201  # bits between two that are changed: a document has some 60,000


def with_a_bit_changed(signed: Signed, stride: int) -> Iterator[Signed]:
    """Yield a rules document with one bit of it, or of one of its signatures, changed; every `stride`-th bit."""
    for at in range(0, len(signed.raw) * 8, stride):
        yield replace(signed, raw=_flipped(signed.raw, at))
    for number, endorsement in enumerate(signed.endorsements):
        for at in range(0, len(endorsement.signature) * 8, stride):
            changed = list(signed.endorsements)
            changed[number] = replace(endorsement, signature=_flipped(endorsement.signature, at))
            yield replace(signed, endorsements=tuple(changed))


def takes_effect(signed: Signed) -> bool:
    """Return whether the coordinator would take the document in as the next version, with all signatures it needs."""
    rules = start(GENESIS).rules
    try:
        found = successor_of(rules, GENESIS, signed, NOW)
        return not isinstance(found, Refused) and not missing_signatures(rules.policy, signed, NOW)
    except CustodyError:
        return False


def test_atk_085_any_bit_of_a_rules_document_changed_takes_no_effect() -> None:
    """Version, end, people, rules or a signature under them: the quorum did not sign it, and followers keep the old."""
    signed = signed_rules(after(document_of(GENESIS), with_rule(CLOSED)))
    honest = World(GENESIS)
    log_rules(honest, signed)
    assert takes_effect(signed)
    assert honest.state().policy.version == 2

    assert not takes_effect(replace(signed, endorsements=signed.endorsements[:-1])), "expected no signature to spare"

    for changed in with_a_bit_changed(signed, RULES_STRIDE):
        assert not takes_effect(changed)
    for changed in with_a_bit_changed(signed, LOGGED_STRIDE):
        world = World(GENESIS)
        log_rules(world, changed)
        assert world.state().policy.version == 1

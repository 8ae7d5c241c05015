"""ATK-097: a crash between sign and persist. Journal, fsync, act; the matrix in tests/crash covers every effect."""

from __future__ import annotations

import pytest

from custody.audit import Log
from signer_node.effects import Effect, Side
from tests.crash.fuse import arm
from tests.crash.light_stack import Light

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("effect", "side", "signed"),
    [(Effect.JOURNAL, Side.AFTER, 1), (Effect.SIGN, Side.AFTER, 2), (Effect.ANSWER, Side.BEFORE, 2)],
    ids=["journalled", "signed", "unanswered"],
)
def test_atk_097_crash_between_sign_and_persist_gives_one_signature_and_one_payment(
    light: Light, effect: Effect, side: Side, signed: int
) -> None:
    """A node that dies after it journalled or signed signs the same again: the same bytes, one payment, one release."""
    made = len(light.signatures("alpha"))
    light.died.clear()
    arm(light.fuse("alpha"), effect, side)
    asked = light.withdrawal()

    light.propose(asked)
    light.settle(asked)

    assert light.died == ["alpha"]
    fresh = light.signatures("alpha")[made:]
    assert len(fresh) == signed
    assert len(set(fresh)) == 1
    assert light.payments(asked) == (1, 1)
    releases = [e for e in light.logs()[Log.MONEY] if e["kind"] == "RELEASE"]
    assert [e["body"]["withdrawal_digest"] for e in releases].count(asked.digest.hex()) == 1

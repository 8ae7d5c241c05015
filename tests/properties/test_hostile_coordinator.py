"""A hostile coordinator tells random lies over random histories; whatever it says, the money that leaves was allowed.

tests/hostile.py says what it can do and what must hold; here its signers have their keys in sealed files.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from signer_node import judge
from tests.hostile import HostileCoordinator

USUAL = settings(
    max_examples=200,  # 5,000 of 100 steps: `dev.py soak hostile`
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
STEPS = ("policy_allows", "is_paid_once")  # each other step takes more histories to show than CI has time for


@pytest.mark.slow
def test_hostile_coordinator_over_random_histories_then_gets_what_was_allowed() -> None:
    """200 histories of up to 50 steps; and they are no empty ones: signers signed, and refused for many reasons."""
    HostileCoordinator.said.clear()

    run_state_machine_as_test(HostileCoordinator, settings=USUAL)

    said = HostileCoordinator.said
    assert said["tuple"] > 500
    assert {"LIMIT_EXCEEDED", "FROZEN", "STOPPED", "SECOND_PAYMENT", "RELEASE_INADMISSIBLE", "CHANGE_INDEX"} <= set(
        said
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_hostile_coordinator_given_a_judge_that_leaves_out_a_step_then_is_found_out(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of the histories is not empty either: a missing step of the judge shows in one of them."""
    monkeypatch.setattr(judge, step, lambda *_: None)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(HostileCoordinator, settings=settings(USUAL, phases=[Phase.generate]))

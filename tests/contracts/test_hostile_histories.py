"""Random lies over random histories, one signer's key in a vault: the backend changes nothing of what may leave."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from signer_node.backends.port import Backend
from tests.contracts.conftest import Place
from tests.hostile import HostileCoordinator

SHORT = settings(
    max_examples=20,  # 200 of 50 steps over sealed files: tests/properties
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kv_place", "transit_place"])
def test_hostile_coordinator_over_random_histories_with_a_key_in_a_vault(
    name: str, request: pytest.FixtureRequest
) -> None:
    """20 histories of up to 20 steps; alpha's key is in the vault, and it signed there."""
    place: Place = request.getfixturevalue(name)
    assert place.server is not None

    class WithVault(HostileCoordinator):
        def backend_of(self, name: str) -> Backend | None:
            return place.open() if name == "alpha" else None

    before = place.server.audit_log.stat().st_size
    run_state_machine_as_test(WithVault, settings=SHORT)

    assert place.server.audit_log.stat().st_size > before

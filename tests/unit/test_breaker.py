"""The circuit breaker: when it opens, what it says meanwhile, and how it closes."""

from __future__ import annotations

import pytest

from custody.errors import UnavailableError
from signer_node.backends.breaker import FAILURES, OPEN_S, WITHIN_S, Breaker

DOWN = UnavailableError("VAULT_UNREACHABLE", "refused")


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """At 100 s."""
    return Clock()


def _opened(clock: Clock, error: UnavailableError = DOWN) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.admit()
        breaker.failed(error)
    return breaker


def _refusal(breaker: Breaker) -> str:
    with pytest.raises(UnavailableError) as refused:
        breaker.admit()
    return refused.value.code


@pytest.mark.parametrize("code", ["VAULT_UNREACHABLE", "VAULT_ENGINE_DOWN"])
def test_breaker_when_five_calls_fail_within_ten_seconds_opens_and_says_why(clock: Clock, code: str) -> None:
    """The sixth call is not made; its code is that of the fifth."""
    breaker = _opened(clock, UnavailableError(code, "x"))

    assert breaker.is_open
    assert _refusal(breaker) == code


def test_breaker_when_failures_are_spread_out_stays_closed(clock: Clock) -> None:
    """Five in just over ten seconds are no reason."""
    breaker = Breaker(clock)
    for _ in range(3 * FAILURES):
        breaker.admit()
        breaker.failed(DOWN)
        clock.now += WITHIN_S / (FAILURES - 1) + 0.01

    assert not breaker.is_open


def test_breaker_when_one_call_works_counts_anew(clock: Clock) -> None:
    """Four failures, an answer, four failures: closed."""
    breaker = Breaker(clock)
    for _ in range(2):
        for _ in range(FAILURES - 1):
            breaker.failed(DOWN)
        breaker.passed()

    assert not breaker.is_open


@pytest.mark.parametrize("code", ["VAULT_SEALED", "VAULT_AUDIT_BLOCKED", "VAULT_THROTTLED"])
def test_breaker_when_the_server_answers_that_it_cannot_stays_closed(clock: Clock, code: str) -> None:
    """A sealed server is asked on: it costs nothing, and it tells when it is unsealed."""
    assert not _opened(clock, UnavailableError(code, "x")).is_open


def test_breaker_when_half_open_lets_one_call_through(clock: Clock) -> None:
    """After five seconds one call finds out; all others still fail at once."""
    breaker = _opened(clock)
    clock.now += OPEN_S - 0.01
    assert _refusal(breaker) == "VAULT_UNREACHABLE"
    clock.now += 0.01

    breaker.admit()

    assert _refusal(breaker) == "VAULT_UNREACHABLE"


def test_breaker_when_the_half_open_call_fails_stays_open_for_another_five_seconds(clock: Clock) -> None:
    """One failure is enough then."""
    breaker = _opened(clock)
    clock.now += OPEN_S
    breaker.admit()
    breaker.failed(DOWN)
    clock.now += OPEN_S - 0.01

    assert _refusal(breaker) == "VAULT_UNREACHABLE"


def test_breaker_when_the_half_open_call_works_closes(clock: Clock) -> None:
    """And it takes five failures again to open it."""
    breaker = _opened(clock)
    clock.now += OPEN_S
    breaker.admit()
    breaker.passed()
    for _ in range(FAILURES - 1):
        breaker.admit()
        breaker.failed(DOWN)

    breaker.admit()


def test_breaker_when_the_half_open_call_never_comes_back_tries_another(clock: Clock) -> None:
    """A thread that dies in its call does not keep the node from its key for ever."""
    breaker = _opened(clock)
    clock.now += OPEN_S
    breaker.admit()
    clock.now += OPEN_S

    breaker.admit()

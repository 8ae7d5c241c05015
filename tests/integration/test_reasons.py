"""What a requester is told and what the log keeps: policy.md "Explain", with the border that bounds machine clients."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.config import CLIENT_CALLS_A_MINUTE, load_config
from coordinator.logging import make_logger
from coordinator.rpc.identity import Context, Identity, Role
from coordinator.rpc.interceptors import Border
from coordinator.rpc.policies import Policies
from coordinator.rpc.status import failure_of
from coordinator.rpc.views import COARSE
from coordinator.rpc.withdrawals import Approvals, Withdrawals
from coordinator.session import Stage
from custody.audit import Log
from custody.canonical import decode
from custody.errors import MalformedError, UnavailableError
from custody.v1 import approval_pb2, policy_pb2, withdrawal_pb2
from custody.withdrawal import Withdrawal
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY, rule
from tests.integration.harness import TWO_EYES, Organisation, close, genesis_of, organise

NEVER = rule("never", "deny", {"amount": {"min_sats": 90_000_000}}, reason_code="TOO_HUGE")
CAP = rule("cap", "limit", {}, {"window": "day", "max_sats": 80_000_000, "on_exceed": "deny"})
SLOW = rule("slow", "require", {"amount": {"min_sats": 40_000_000}}, {"delay": {"seconds": 3_600}})


class Caller:
    """The context of a call by a certificate of one role."""

    def __init__(self, role: str) -> None:
        self.role = role

    def auth_context(self) -> dict[str, list[bytes]]:
        """Return what gRPC says of the peer."""
        return {"peer_uri": [f"keyturn://{self.role}/olga".encode()]}

    def peer(self) -> str:
        """Return where it calls from."""
        return "ipv4:127.0.0.1:50001"


def call(role: str) -> Context:
    """Return the context of a call by `role`."""
    return cast("Context", Caller(role))


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation whose machine clients are told no reasons."""
    found = await organise(genesis_of(PAY, NEVER, CAP, SLOW, TWO_EYES), tmp_path)
    found.parts = replace(found.parts, coarse_for=frozenset({"client"}))
    yield found
    await close(found)


async def view(org: Organisation, asked: Withdrawal, role: str) -> withdrawal_pb2.Withdrawal:
    """Return the withdrawal as a caller of `role` reads it."""
    request = withdrawal_pb2.GetWithdrawalRequest(digest=asked.digest)
    return (await Withdrawals(org.parts).GetWithdrawal(request, call(role))).withdrawal


async def ended_events(org: Organisation) -> list[dict[str, Any]]:
    """Return the fields of each event that says why a withdrawal ended."""
    size = org.parts.store.head(Log.EVENT).size
    events = [decode(raw) for raw in await org.parts.store.entries(Log.EVENT, 0, size, 10_000_000)]
    return [event["fields"] for event in cast("list[dict[str, Any]]", events) if event["kind"] == "withdrawal.ended"]


async def test_denied_withdrawal_has_its_full_reason_in_the_log(org: Organisation) -> None:
    """Every ground, each rule that stood in the way, and the hash of the rules, whatever the requester may read."""
    asked = org.withdrawal(100_000_000)
    assert await org.propose(asked) is Stage.DENIED

    (fields,) = await ended_events(org)

    assert fields["code"] == "TOO_HUGE"
    assert fields["rules"] == ["cap", "never"]
    assert [ground.split(":")[0] for ground in fields["grounds"]] == ["TOO_HUGE", "LIMIT_EXCEEDED"]
    assert fields["policy"] == org.genesis.policy.hash.hex()


async def test_denied_withdrawal_is_shown_with_its_reason_to_who_may_read_it(org: Organisation) -> None:
    """An operator reads why; a client reads that it is denied."""
    asked = org.withdrawal(100_000_000)
    await org.propose(asked)

    whole, coarse = await view(org, asked, "operator"), await view(org, asked, "client")

    assert (whole.ended.code, whole.ended.expected) == ("TOO_HUGE", "what rule never permits")
    assert (coarse.ended.code, coarse.ended.expected, coarse.ended.found) == (COARSE, "", "")
    assert coarse.stage == whole.stage == withdrawal_pb2.STAGE_DENIED


async def test_waiting_withdrawal_is_shown_with_its_rules_to_who_may_read_them(org: Organisation) -> None:
    """Who could approve, which rules matched: nothing of it to a client, by whatever call."""
    asked = org.withdrawal(20_000_000)
    await org.propose(asked)

    whole, coarse = await view(org, asked, "operator"), await view(org, asked, "client")
    explain = policy_pb2.ExplainRequest(withdrawal_digest=asked.digest)
    explained = await Policies(org.parts).Explain(explain, call("client"))
    approvals = approval_pb2.ListApprovalsRequest(withdrawal_digest=asked.digest)
    listed = await Approvals(org.parts).ListApprovals(approvals, call("client"))
    page = await Withdrawals(org.parts).ListWithdrawals(withdrawal_pb2.ListWithdrawalsRequest(), call("client"))

    assert [list(lack.could) for lack in whole.missing_approvals] == [["bob", "carol"]]
    assert whole.decision.rows
    for told in (coarse, explained, page.withdrawals[0]):
        assert (len(told.decision.rows), len(told.missing_approvals)) == (0, 0)
        assert told.decision.outcome == withdrawal_pb2.OUTCOME_NEED
    assert not listed.missing


async def test_withdrawal_whose_delay_runs_is_shown_with_its_end(org: Organisation) -> None:
    """From T of its notice, as every signer counts it."""
    asked = org.withdrawal(40_000_000)
    await org.propose(asked)
    await org.approve(asked, "bob", "carol")
    await org.advance(asked)

    assert (await view(org, asked, "operator")).delayed_until == NOW + 3_600


def test_client_given_more_calls_than_its_minute_is_refused_until_the_next() -> None:
    """Each machine's certificate has a rate of its own; people and nodes have none."""
    clock = FakeClock(NOW)
    border = Border(make_logger(io.StringIO()), now=clock.now, client_calls_a_minute=3)
    payroll, other, person = (
        Identity(Role.CLIENT, "payroll"),
        Identity(Role.CLIENT, "shop"),
        Identity(Role.OPERATOR, "olga"),
    )
    for _ in range(3):
        border._rated(payroll)
    with pytest.raises(UnavailableError) as refused:
        border._rated(payroll)
    border._rated(other)
    for _ in range(10):
        border._rated(person)

    assert failure_of(refused.value).status.name == "RESOURCE_EXHAUSTED"
    clock.advance(59)
    with pytest.raises(UnavailableError):
        border._rated(payroll)
    clock.advance(1)
    border._rated(payroll)


CONFIG = """
listen = "127.0.0.1:0"
database = "sqlite:///db"
genesis = "genesis.json"
log_key = { file = "log.sealed", passphrase = "log.passphrase" }
witnesses = []
%s
[chain]
kind = "embedded"
directory = "chain"
confirmations = 1
[tls]
ca = "ca.pem"
certificate = "c.pem"
key = "c.key"
"""


def test_config_given_roles_and_a_rate_reads_them(tmp_path: Path) -> None:
    """Both are optional; a role that reads nothing is a mistake."""
    path = tmp_path / "coordinator.toml"
    for text, roles, rate in (
        ("", frozenset[str](), CLIENT_CALLS_A_MINUTE),
        ('coarse_for = ["client"]\ncalls_a_minute = 60', frozenset({"client"}), 60),
    ):
        path.write_text(CONFIG % text)
        config = load_config(path)
        assert (config.coarse_for, config.calls_a_minute) == (roles, rate)
    path.write_text(CONFIG % 'coarse_for = ["signer"]')
    with pytest.raises(MalformedError) as refused:
        load_config(path)
    assert refused.value.code == "CONFIG_ROLE"

"""Rules over what the coordinator alone can say: each fact is measured where a rule asks, what is not known denies.

Signers are never told and skip such rules by name: the last test shows it on a bundle that they answer.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator import flow, telling
from coordinator.rpc.identity import Context
from coordinator.rpc.statements import write_signed
from coordinator.rpc.withdrawals import Withdrawals
from coordinator.session import Stage
from coordinator.telling import CERTIFICATE, HandedIn
from custody.errors import Refused
from custody.policy.terms import ZoneTimeTerm
from custody.v1 import withdrawal_pb2
from tests.fakes.rules import NOW, PAY, rule
from tests.integration.harness import Organisation, close, genesis_of, organise
from tests.world import signed_by_initiator

pytestmark = pytest.mark.slow
OFFICE = HandedIn("10.1.2.3", "client")


async def proposed(org: Organisation, handed_in: HandedIn | None = OFFICE) -> Stage:
    """Return where a withdrawal of alice, handed in by that call, comes to stand."""
    asked = org.withdrawal()
    found = await flow.propose(org.parts, signed_by_initiator(asked), None, handed_in)
    assert not isinstance(found, Refused)
    return await org.advance(asked)


@pytest.mark.parametrize(
    ("match", "stage"),
    [
        ({"not": {"min_confirmations": 100}}, Stage.SIGNING),
        ({"not": {"min_confirmations": 10_000}}, Stage.DENIED),
        ({"not": {"pct_of_wallet": {"max_pct": 1}}}, Stage.SIGNING),
        ({"not": {"pct_of_wallet": {"max_pct": 0}}}, Stage.DENIED),
        ({"not": {"chain": {"max_lag_blocks": 0}}}, Stage.SIGNING),
        ({"not": {"session": {"factors": [CERTIFICATE]}}}, Stage.SIGNING),
        ({"not": {"session": {"factors": ["ed25519", "ssh"]}}}, Stage.SIGNING),
        ({"not": {"session": {"factors": ["passkey"]}}}, Stage.DENIED),
        ({"not": {"session": {"ip_cidrs": ["10.1.0.0/16"]}}}, Stage.SIGNING),
        ({"not": {"session": {"ip_cidrs": ["10.2.0.0/16", "fd00::/8"]}}}, Stage.DENIED),
        ({"not": {"session": {"cert_role": ["client"]}}}, Stage.SIGNING),
        ({"not": {"session": {"cert_role": ["operator"]}}}, Stage.DENIED),
        ({"not": {"session": {"cert_role": ["client"], "ip_cidrs": ["192.0.2.0/24"]}}}, Stage.DENIED),
        # NOW is 08:00 UTC, 17:00 in Tokyo, on a Friday in both
        ({"time": {"hours": [17], "zone": "Asia/Tokyo"}}, Stage.DENIED),
        ({"time": {"hours": [8], "zone": "Asia/Tokyo"}}, Stage.SIGNING),
        ({"time": {"days": ["fri"], "zone": "Pacific/Auckland"}}, Stage.DENIED),
        ({"time": {"hours": [8], "zone": "Nowhere/Atlantis"}}, Stage.DENIED),
        ({"not": {"time": {"hours": [8], "zone": "Nowhere/Atlantis"}}}, Stage.DENIED),
    ],
)
async def test_rule_of_the_coordinator_given_what_it_measures_decides(
    match: dict[str, Any], stage: Stage, tmp_path: Path
) -> None:
    """Four coins of 50 BTC, the newest 101 blocks deep; handed in from the office by a client, signed by a file key."""
    org = await organise(genesis_of(PAY, rule("told", "deny", match)), tmp_path)
    try:
        assert await proposed(org) is stage
    finally:
        await close(org)


@pytest.mark.parametrize(
    ("match", "handed_in"),
    [
        ({"session": {"ip_cidrs": ["192.0.2.0/24"]}}, None),
        ({"session": {"ip_cidrs": ["192.0.2.0/24"]}}, HandedIn("", "client")),
        ({"session": {"cert_role": ["operator"]}}, None),
        ({"session": {"factors": ["passkey"]}}, None),
        ({"chain": {"max_lag_blocks": 5}}, OFFICE),
    ],
)
async def test_rule_of_the_coordinator_given_a_fact_nobody_knows_denies(
    match: dict[str, Any], handed_in: HandedIn | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call without an address, one that was not kept, a chain that cannot tell: never "false", always no."""
    org = await organise(genesis_of(PAY, rule("told", "deny", match)), tmp_path)

    async def unknown() -> None:
        return None

    monkeypatch.setattr(org.chain, "lag_blocks", unknown)
    try:
        assert await proposed(org, handed_in) is Stage.DENIED
    finally:
        await close(org)


@pytest.mark.parametrize(("behind", "stage"), [(3, Stage.SIGNING), (4, Stage.DENIED)])
async def test_rule_of_the_chain_given_a_lag_denies_above_it(
    behind: int, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain that is further behind than the rule lets it be."""
    org = await organise(genesis_of(PAY, rule("told", "deny", {"not": {"chain": {"max_lag_blocks": 3}}})), tmp_path)

    async def lag() -> int:
        return behind

    monkeypatch.setattr(org.chain, "lag_blocks", lag)
    try:
        assert await proposed(org) is stage
    finally:
        await close(org)


async def test_session_when_handed_in_again_then_the_first_call_counts(tmp_path: Path) -> None:
    """Who carries the same statement again, from wherever, changes nothing of what was kept."""
    org = await organise(
        genesis_of(
            PAY,
            rule("office", "deny", {"not": {"session": {"ip_cidrs": ["10.0.0.0/8"]}}}),
            rule("two", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}),
        ),
        tmp_path,
    )
    try:
        asked = org.withdrawal()
        for ip in ("10.1.2.3", "192.0.2.9"):
            await flow.propose(org.parts, signed_by_initiator(asked), None, HandedIn(ip, "client"))
        assert await org.approve(asked, "bob") is Stage.SIGNING
    finally:
        await close(org)


async def test_session_when_no_rule_asks_then_is_not_kept(tmp_path: Path) -> None:
    """Addresses of people are not collected for nothing."""
    org = await organise(genesis_of(PAY), tmp_path)
    try:
        asked = org.withdrawal()
        await flow.propose(org.parts, signed_by_initiator(asked), None, OFFICE)
        assert await org.parts.store.recall(f"handed-in/{asked.digest.hex()}") is None
    finally:
        await close(org)


async def test_signers_when_a_rule_is_the_coordinators_alone_then_skip_it_and_sign(tmp_path: Path) -> None:
    """A rule that the coordinator finds fulfilled stands in nobody's way: nodes sign without the fact."""
    org = await organise(
        genesis_of(PAY, rule("told", "deny", {"not": {"session": {"cert_role": ["client"]}}})), tmp_path
    )
    try:
        asked = org.withdrawal()
        await flow.propose(org.parts, signed_by_initiator(asked), None, OFFICE)
        await org.advance(asked)
        assert await org.run(asked) is Stage.BROADCAST
    finally:
        await close(org)


@pytest.mark.parametrize(("role", "stage"), [("operator", "SIGNING"), ("client", "DENIED")])
async def test_session_when_proposed_by_a_call_then_is_of_its_certificate(
    role: str, stage: str, tmp_path: Path
) -> None:
    """The service reads role and address of the call itself, nothing that the caller says."""
    here = {"session": {"cert_role": ["operator"], "ip_cidrs": ["127.0.0.0/8"]}}
    org = await organise(genesis_of(PAY, rule("told", "deny", {"not": here})), tmp_path)

    class Call:
        def auth_context(self) -> dict[str, list[bytes]]:
            return {"peer_uri": [f"keyturn://{role}/olga".encode()]}

        def peer(self) -> str:
            return "ipv4:127.0.0.1:50001"

    try:
        signed = signed_by_initiator(org.withdrawal())
        request = withdrawal_pb2.ProposeRequest(withdrawal=write_signed(signed))
        found = await Withdrawals(org.parts).Propose(request, cast("Context", Call()))
        assert withdrawal_pb2.Stage.Name(found.withdrawal.stage) == f"STAGE_{stage}"
    finally:
        await close(org)


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        ("ipv4:10.1.2.3:50123", "10.1.2.3"),
        ("ipv6:%5B::1%5D:50123", "::1"),
        ("ipv6:[2001:db8::5]:443", "2001:db8::5"),
        ("ipv6:%5B::ffff:10.1.2.3%5D:443", "10.1.2.3"),
        ("unix:/run/socket", ""),
        ("", ""),
    ],
)
def test_handed_in_given_a_peer_reads_its_address(peer: str, ip: str) -> None:
    """As gRPC writes it; what is no address is not known."""
    assert HandedIn.over("client", peer) == HandedIn(ip, "client")


@pytest.mark.parametrize(
    ("zone", "at", "offset_s"),
    [
        ("Europe/Zurich", dt.datetime(2027, 3, 28, 0, 59, 59, tzinfo=dt.UTC), 3_600),
        ("Europe/Zurich", dt.datetime(2027, 3, 28, 1, 0, 0, tzinfo=dt.UTC), 7_200),
        ("Asia/Kathmandu", dt.datetime(2027, 1, 1, tzinfo=dt.UTC), 20_700),
        ("America/New_York", dt.datetime(2027, 1, 1, tzinfo=dt.UTC), -18_000),
    ],
)
def test_offsets_given_a_zone_are_of_that_second(zone: str, at: dt.datetime, offset_s: int) -> None:
    """Summer time begins at its second; halves of hours count."""
    assert telling.offsets_at((ZoneTimeTerm(zone),), int(at.timestamp())) == {zone: offset_s}


def test_offsets_given_no_such_zone_knows_nothing() -> None:
    """A name that this machine's tables do not have is not UTC."""
    assert telling.offsets_at((ZoneTimeTerm("Nowhere/Atlantis"), ZoneTimeTerm("../../etc/passwd")), NOW) == {}

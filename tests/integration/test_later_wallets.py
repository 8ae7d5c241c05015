"""A wallet that comes after the genesis, and a void, in a whole organisation: from the first signature to a payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import governing
from coordinator.exporting import export_lines
from coordinator.rpc.policies import Policies
from coordinator.rpc.statements import write_signed
from coordinator.rpc.wallets import Wallets
from coordinator.session import Stage
from custody.audit import VerdictKind, read_export
from custody.errors import Refused
from custody.evidence import make_evidence, verify_evidence
from custody.policy import policy_hash
from custody.replay import verify
from custody.statements import Signed
from custody.v1 import policy_pb2, wallet_pb2
from custody.withdrawal import Withdrawal
from tests.fakes.rules import DAY, PAY, rule
from tests.governing import after, document_of, signed_rules, without_rule
from tests.integration.harness import OPEN, OPERATOR, Organisation, close, genesis_of, open_node, organise
from tests.later import later_wallet, naming, void_of, wallet_in

pytestmark = pytest.mark.slow
PAY_VAULT = rule("pay-vault", "allow", {"wallet": {"names": ["vault"]}, "amount": {"max_sats": 500_000_000}})
GENESIS = genesis_of()
FIRST = document_of(GENESIS)
VAULT = later_wallet(GENESIS, nodes=("alpha", "beta"), threshold=2)
WALLET = wallet_in(VAULT, GENESIS).wallet


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that just started."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


async def send(org: Organisation, signed: Signed) -> policy_pb2.Rules:
    """Send a document as an admin's program does; return what became of it."""
    request = policy_pb2.ProposeRulesRequest(rules=write_signed(signed))
    return (await Policies(org.parts).ProposeRules(request, OPERATOR)).rules


async def pending(org: Organisation) -> list[policy_pb2.Rules]:
    """Return what waits, as anybody may read it."""
    return list((await Policies(org.parts).GetRules(policy_pb2.GetRulesRequest(), OPERATOR)).pending)


async def names(org: Organisation) -> list[str]:
    """Return the names of the wallets that the coordinator shows."""
    return [w.name for w in (await Wallets(org.parts).ListWallets(wallet_pb2.ListWalletsRequest(), OPERATOR)).wallets]


def only(signed: Signed, *people: str) -> Signed:
    """Return the document with the signatures of `people` alone."""
    kept = later_wallet(GENESIS, *people, nodes=("alpha", "beta"), threshold=2).endorsements
    return replace(signed, endorsements=kept)


async def add_vault(org: Organisation) -> None:
    """Add the vault, let rules name it, and wait their delay."""
    await send(org, VAULT)
    await send(org, signed_rules(after(FIRST, wallets=naming(VAULT, GENESIS), rules=[PAY, PAY_VAULT])))
    org.clock.advance(DAY)
    await governing.keep(org.parts)


def of_vault(org: Organisation) -> Withdrawal:
    """Return a withdrawal from the vault."""
    return org.withdrawal(wallet_id=WALLET.wallet_id, withdrawal_id="from-the-vault")


async def fund(org: Organisation) -> None:
    """Give the vault a coin of 50 BTC."""
    await org.chain.mine(1, org.parts.books[WALLET.wallet_id].script(0, 0).script)
    await org.chain.mine(101, OPEN)


def pin_at(org: Organisation, *nodes: str) -> None:
    """Let the operators of `nodes` pin the vault on their machines."""
    for name in nodes:
        pinned = frozenset({VAULT.digest})
        org.nodes[name] = open_node(GENESIS, name, org.directory, org.clock, wallets=pinned)


async def test_later_wallet_given_signatures_one_by_one_is_logged_by_the_last(org: Organisation) -> None:
    """Nodes' and admins' signatures add up outside the log; then it stands beside the genesis's own."""
    first = await send(org, only(VAULT, "erin"))
    assert (first.kind, first.effective_at, list(first.missing)) == (VAULT.kind.value, 0, ["frank", "grace"])
    assert [list(found.missing) for found in await pending(org)] == [["frank", "grace"]]
    assert await names(org) == ["treasury"]

    await send(org, only(VAULT, "frank"))
    last = await send(org, only(VAULT, "grace"))

    assert last.effective_at == org.clock.now()
    assert not await pending(org)
    assert await names(org) == ["treasury", "vault"]
    await org.restart()
    await governing.keep(org.parts)
    assert await names(org) == ["treasury", "vault"]


async def test_payment_from_a_later_wallet_by_nodes_that_pinned_it(org: Organisation) -> None:
    """Added, named, waited for, pinned: then it pays like any other, and an auditor can prove it."""
    await add_vault(org)
    await fund(org)
    pin_at(org, "alpha", "beta")
    asked = of_vault(org)

    assert await org.propose(asked) is Stage.SIGNING
    assert await org.run(asked) is Stage.BROADCAST

    await org.mine()
    assert await org.advance(asked) is Stage.CONFIRMED
    raw = b"".join([line async for line in export_lines(org.parts)])
    verdict = verify(raw, GENESIS.hash, full=True)
    assert (str(verdict), verdict.detail) == ("OK", "")
    evidence = verify_evidence(make_evidence(read_export(raw), asked.digest), GENESIS.hash)
    assert (evidence.kind, evidence.detail) == (VerdictKind.OK, "")


async def test_payment_from_a_later_wallet_by_a_node_that_did_not_pin_it_is_refused(org: Organisation) -> None:
    """One of two nodes was never told on its own machine: the coordinator can only wait in vain."""
    await add_vault(org)
    await fund(org)
    pin_at(org, "alpha")
    asked = of_vault(org)

    await org.propose(asked)
    assert await org.run(asked) is Stage.DENIED

    refusals = {refused.node: refused.code for refused in (await org.session(asked)).refusals}
    assert refusals["beta"] == "WALLET_UNPINNED"


async def test_payment_from_a_wallet_before_rules_name_it_is_denied(org: Organisation) -> None:
    """The entry alone lets nobody pay."""
    await send(org, VAULT)
    await fund(org)

    assert await org.propose(of_vault(org)) is Stage.DENIED


async def test_wallet_left_out_of_the_rules_is_retired_at_once(org: Organisation) -> None:
    """A document that names it no more tightens: what waits for people is denied, and nothing new begins."""
    await add_vault(org)
    await fund(org)
    second = after(FIRST, wallets=naming(VAULT, GENESIS), rules=[PAY, PAY_VAULT])

    await send(org, signed_rules(after(second, wallets=FIRST["wallets"], rules=[PAY])))

    assert await org.propose(of_vault(org)) is Stage.DENIED
    assert await org.propose(org.withdrawal()) is Stage.SIGNING


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (later_wallet(GENESIS, "alice", nodes=("alpha", "beta"), threshold=2), "RULES_SIGNER"),
        (later_wallet(GENESIS, "erin", "alice", nodes=("alpha", "beta"), threshold=2), "RULES_SIGNER"),
        (later_wallet(GENESIS, name="treasury", nodes=("alpha", "beta"), threshold=2), "WALLET_KNOWN"),
        (void_of(GENESIS, bytes(32)), "VOID_NOTHING"),
        (void_of(GENESIS, bytes(32), "alice"), "VOID_NOTHING"),
        (VAULT, ""),
    ],
)
async def test_propose_given_what_does_not_fit_refuses_by_code(org: Organisation, signed: Signed, code: str) -> None:
    """Nothing of it is remembered."""
    found = await governing.propose(org.parts, signed, "operator/olga")

    assert (found.code if isinstance(found, Refused) else "") == code


async def test_void_by_admins_takes_back_what_waits(org: Organisation) -> None:
    """Signed like a document, by one after the other; then the loosening never comes."""
    looser = after(FIRST, without_rule("two-eyes"))
    await send(org, signed_rules(looser))
    assert len(await pending(org)) == 1

    first = await send(org, void_of(GENESIS, policy_hash(looser), "erin"))
    assert (first.kind, list(first.missing)) == ("keyturn/void/v1", ["frank", "grace"])
    done = await send(org, void_of(GENESIS, policy_hash(looser)))

    assert done.effective_at == org.clock.now()
    assert not await pending(org)
    org.clock.advance(2 * DAY)
    asked = org.withdrawal(20_000_000)
    assert await org.propose(asked) is Stage.APPROVING
    refused = await governing.propose(org.parts, signed_rules(looser), "operator/olga")
    assert isinstance(refused, Refused)
    assert refused.code == "RULES_VOIDED"

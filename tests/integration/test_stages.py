"""Stages of approvals through a real coordinator and real nodes: each stage names what the one before it approved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator import flow
from coordinator.rpc.policies import Policies
from coordinator.session import Stage
from custody.approval import Approval, Decision
from custody.errors import Refused
from custody.follow import start
from custody.statements import Kind, Signed, sign
from custody.v1 import policy_pb2
from custody.withdrawal import Withdrawal
from signer_node.judge import Moment, Pinned, judge
from tests.fakes.rules import DAY, NOW, PAY, rule, seed_of
from tests.integration.harness import OPERATOR, Organisation, close, genesis_of, organise
from tests.world import Spend, World, make_genesis

pytestmark = pytest.mark.slow
THREE = {
    "stages": [
        {"group": "ops", "threshold": 2},
        {"group": "security", "threshold": 1},
        {"service": "screening"},
    ]
}
GENESIS = genesis_of(PAY, rule("review", "require", {"amount": {"min_sats": 1_000_000}}, {"approvals": THREE}))


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation that just started."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


def vote(asked: Withdrawal, person: str, *after: Signed, at: int = NOW) -> Signed:
    """Return the approval of `asked` by `person`, which names the approvals `after`."""
    named = tuple(sorted(signed.digest for signed in after))
    said = Approval(asked.genesis, asked.digest, Decision.APPROVE, person, at - 50, at + DAY, named)
    return sign(Kind.APPROVAL, said.to_json(), seed_of(person))


async def file(org: Organisation, asked: Withdrawal, signed: Signed) -> Stage:
    """File an approval and let the coordinator go on; return where the withdrawal stands."""
    assert not isinstance(await flow.approve(org.parts, signed, asked.digest), Refused)
    return await org.advance(asked)


async def asked_for(org: Organisation, asked: Withdrawal) -> list[tuple[str, int, int, list[str]]]:
    """Return who is asked now: of whom, how many, which stage, who could."""
    request = policy_pb2.ExplainRequest(withdrawal_digest=asked.digest)
    found = (await Policies(org.parts).Explain(request, OPERATOR)).missing_approvals
    return [(lack.of, lack.needed, lack.stage, list(lack.could)) for lack in found]


async def test_stages_one_behind_the_other_then_nodes_sign(org: Organisation) -> None:
    """Each stage is asked only once the one before it is filled; every signer counts them again from the statements."""
    asked = org.withdrawal(2_000_000)
    assert await org.propose(asked) is Stage.APPROVING
    assert await asked_for(org, asked) == [("group ops", 2, 0, ["bob", "carol"])]

    bob, carol = vote(asked, "bob"), vote(asked, "carol")
    await file(org, asked, bob)
    assert await asked_for(org, asked) == [("group ops", 1, 0, ["carol"])]
    await file(org, asked, carol)
    assert await asked_for(org, asked) == [("group security", 1, 1, ["bob", "dave"])]
    dave = vote(asked, "dave", bob, carol)
    assert await file(org, asked, dave) is Stage.APPROVING
    assert await asked_for(org, asked) == [("service screening", 1, 2, ["screening"])]
    assert await file(org, asked, vote(asked, "screening", bob, carol, dave)) is Stage.SIGNING

    assert await org.run(asked) is Stage.BROADCAST
    assert org.handed == ["alpha bundle", "beta bundle"]


async def test_stage_that_came_too_early_then_counts_nothing(org: Organisation) -> None:
    """Dave approves before ops did, or names one of two: nothing is released until he names both."""
    asked = org.withdrawal(2_000_000)
    await org.propose(asked)
    bob, carol = vote(asked, "bob"), vote(asked, "carol")
    early = vote(asked, "dave", at=NOW - 20)
    assert await file(org, asked, early) is Stage.APPROVING
    await file(org, asked, bob)
    await file(org, asked, carol)
    assert await asked_for(org, asked) == [("group security", 1, 1, ["bob", "dave"])]

    half = vote(asked, "dave", bob, at=NOW - 10)
    await file(org, asked, half)
    assert await asked_for(org, asked) == [("group security", 1, 1, ["bob", "dave"])]
    named = vote(asked, "dave", bob, carol)
    await file(org, asked, named)
    assert [of for of, *_ in await asked_for(org, asked)] == ["service screening"]


@dataclass(frozen=True)
class Reviewed(Spend):
    """A transaction with these approvals, whatever they name."""

    votes: tuple[Signed, ...] = ()

    @property
    def approvals(self) -> tuple[Signed, ...]:
        """The approvals, in order."""
        return self.votes


@pytest.mark.parametrize(
    ("stages", "code"),
    [
        (("bob", "carol", "dave", "screening"), ""),
        (("bob", "carol", "dave"), "APPROVALS_MISSING"),
        (("bob", "carol"), "APPROVALS_MISSING"),
        (("bob", "carol", "dave after bob", "screening"), "APPROVALS_MISSING"),
        (("bob", "carol", "dave", "screening after dave"), "APPROVALS_MISSING"),
    ],
)
def test_release_by_a_coordinator_that_skips_a_stage_then_nodes_refuse(stages: tuple[str, ...], code: str) -> None:
    """Logged, vouched for and handed out all the same: each node counts the stages itself."""
    world = World(make_genesis(PAY, rule("review", "require", {}, {"approvals": THREE})))
    asked, made = world.withdrawal(), dict[str, Signed]()
    for words in stages:
        person, _, named = words.partition(" after ")
        before = [
            found for name, found in made.items() if name not in ("bob", "carol") or person not in ("bob", "carol")
        ]
        made[person] = vote(asked, person, *([made[named]] if named else before))
    spend = world.spend(asked)
    bundle = Reviewed(world, asked, spend.psbt, votes=tuple(made.values())).bundle()

    found = judge(bundle, Pinned(world.genesis, "alpha"), start(world.genesis), Moment(NOW, NOW), (), world.book)

    assert (found.outcome.code if isinstance(found.outcome, Refused) else "") == code

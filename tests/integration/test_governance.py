"""Rule documents in a whole organisation: proposed, signed, logged, waited for, followed by every part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator import governing
from coordinator.bundles import make_delta
from coordinator.exporting import export_lines
from coordinator.log_key import SeedKey
from coordinator.logs import Logs
from coordinator.rpc.couriers import Couriers
from coordinator.rpc.policies import Policies
from coordinator.rpc.statements import write_signed
from coordinator.session import Stage
from custody.audit import Log, VerdictKind, open_signed, read_export, verify_export
from custody.bundle import Delta
from custody.errors import Refused, UnavailableError
from custody.evidence import make_evidence, verify_evidence
from custody.follow import in_force
from custody.genesis import Genesis
from custody.policy import policy_hash
from custody.replay import export_keys, verify
from custody.statements import Signed
from custody.v1 import courier_pb2, policy_pb2
from custody.withdrawal import Withdrawal
from signer_node.inbox import Inbox
from signer_node.witness import CosignRequest
from signer_node.witness_money import WitnessHome, open_pair
from signer_node.witness_store import make_key
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, Document, key_of, rule, seed_of
from tests.governing import (
    ADMINS,
    CLOSED,
    after,
    document_of,
    signed_rules,
    user_of,
    with_rule,
    without_rule,
    without_user,
)
from tests.integration.harness import OPERATOR, Organisation, close, genesis_of, organise
from tests.world import LOG_SEED

GENESIS = genesis_of()
FIRST = document_of(GENESIS)
NEW_LOG, NEW_WITNESS = seed_of("log2"), seed_of("witness2")


class FollowingHere:
    """A real witness of both logs, in this process: it follows the money log and turns to the keys of the rules."""

    def __init__(self, name: str, seed: bytes, genesis: Genesis, directory: Path, clock: FakeClock) -> None:
        home = WitnessHome(name, directory / f"{name}.key", directory / name)
        make_key(home.key)
        home.key.write_text(seed.hex() + "\n")
        self.pair = open_pair(home, genesis, Inbox(home.state), clock.now)
        self.is_away = False

    async def add_checkpoint(self, origin: str, old_size: int, proof: tuple[bytes, ...], note: str) -> str | Refused:
        """See the port."""
        if self.is_away:
            raise UnavailableError("WITNESS_AWAY", "expected the test to bring it back")
        return self.pair.answer(CosignRequest(origin, old_size, proof, note))[0]

    async def take_delta(self, delta: bytes) -> int | Refused:
        """See the port."""
        return self.pair.money.watched.take(delta)


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[Organisation]:
    """Return an organisation whose coordinator has the next log key, with real witnesses, the next one too."""
    organisation = await organise(GENESIS, tmp_path)
    witnesses = {
        name: FollowingHere(name, seed, GENESIS, tmp_path / "following", organisation.clock)
        for name, seed in (("witness", seed_of("witness")), ("witness2", NEW_WITNESS))
    }
    parts = organisation.parts
    logs = Logs(parts.store, parts.logs.pins, witnesses, organisation.clock, [SeedKey(LOG_SEED), SeedKey(NEW_LOG)])
    organisation.parts = replace(parts, logs=logs)
    yield organisation
    await close(organisation)


async def propose(org: Organisation, signed: Signed) -> policy_pb2.Rules:
    """Send a document as an admin's program does; return what became of it."""
    answer = await Policies(org.parts).ProposeRules(
        policy_pb2.ProposeRulesRequest(rules=write_signed(signed)), OPERATOR
    )
    return answer.rules


async def shown(org: Organisation) -> policy_pb2.GetRulesResponse:
    """Return what anybody may read."""
    return await Policies(org.parts).GetRules(policy_pb2.GetRulesRequest(), OPERATOR)


async def pass_time(org: Organisation, seconds: int) -> None:
    """Let time pass, and the coordinator do what it does every second."""
    org.clock.advance(seconds)
    await governing.keep(org.parts)


async def refused(org: Organisation, signed: Signed) -> str:
    """Return the code with which the coordinator refuses a document."""
    with pytest.raises(Exception, match=r"[A-Z_]+") as found:
        await propose(org, signed)
    return str(getattr(found.value, "code", "")) or str(found.value).split(":")[0]


async def test_propose_by_three_admins_one_by_one_then_logged_and_in_effect(org: Organisation) -> None:
    """Signatures add up outside the log; the last one logs a tightening, which judges the next release everywhere."""
    document = after(FIRST, with_rule(CLOSED))
    first = await propose(org, signed_rules(document, "erin"))
    assert (first.effective_at, list(first.missing)) == (0, ["frank", "grace"])
    await propose(org, signed_rules(document, "frank"))
    assert [list(p.missing) for p in (await shown(org)).pending] == [["grace"]]
    assert org.parts.store.head(Log.MONEY).size == 0

    last = await propose(org, signed_rules(document, "grace"))

    assert (last.version, list(last.missing), last.effective_at) == (2, [], org.clock.now())
    assert ((await shown(org)).rules.version, len((await shown(org)).pending)) == (2, 0)
    assert org.parts.store.head(Log.MONEY).size == 2  # the document, and the WITNESS entry that tells its T
    assert await org.propose(org.withdrawal()) is Stage.DENIED


async def test_loosening_waits_at_every_signer_and_then_counts(org: Organisation) -> None:
    """Large payments need two approvals until the delay has run out; then none, at coordinator and nodes alike."""
    await propose(org, signed_rules(after(FIRST, without_rule("two-eyes"))))
    (waiting,) = (await shown(org)).pending
    assert waiting.effective_at == org.clock.now() + DAY
    asked = org.withdrawal(20_000_000, expires_at=org.clock.now() + 5 * DAY)
    assert await org.propose(asked) is Stage.APPROVING

    await pass_time(org, DAY - 1)
    assert await org.run(asked) is Stage.APPROVING
    await pass_time(org, 1)

    assert await org.run(asked) is Stage.BROADCAST
    assert (await shown(org)).rules.version == 2
    assert [in_force(org.nodes[name].state, org.clock.now()).policy.version for name in ("alpha", "beta")] == [2, 2]


async def test_released_before_a_tightening_then_no_signer_signs_it(org: Organisation) -> None:
    """Nodes judge by the newest rules: what was released under version 1 is refused under version 2."""
    asked = org.withdrawal()
    assert await org.propose(asked) is Stage.SIGNING
    await propose(org, signed_rules(after(FIRST, with_rule(CLOSED))))
    org.lose()

    request = courier_pb2.ExportBundleRequest(withdrawal_digest=asked.digest, node="alpha")
    exported = await Couriers(org.parts).ExportBundle(request, OPERATOR)
    answer = await org.nodes["alpha"].answer(exported.bundle)

    assert isinstance(answer.outcome, Refused)
    assert answer.outcome.code == "CLOSED"


async def test_two_signed_second_versions_then_the_first_in_effect_wins(org: Organisation) -> None:
    """A pending loosening blocks no tightening, and dies with it."""
    await propose(org, signed_rules(after(FIRST, without_rule("two-eyes"))))
    await propose(org, signed_rules(after(FIRST, with_rule(CLOSED))))
    await pass_time(org, 2 * DAY)

    found = await shown(org)
    assert found.rules.version == 2
    assert found.rules.policy_hash == policy_hash(after(FIRST, with_rule(CLOSED)))
    assert not found.pending
    assert await refused(org, signed_rules(after(FIRST, without_rule("two-eyes")))) == "RULES_VERSION"


async def test_leaver_is_revoked_everywhere_by_one_document(org: Organisation) -> None:
    """At once by ending her validity; once she is gone, her key asks for nothing any more."""
    ended = after(FIRST, lambda f: user_of(f, "alice").update(valid_until=org.clock.now()))
    await propose(org, signed_rules(ended))
    found = await org.propose(org.withdrawal())
    assert isinstance(found, Refused)
    assert found.code == "INITIATOR_UNKNOWN"

    await propose(org, signed_rules(after(ended, without_user("alice"))))
    await pass_time(org, DAY)
    assert (await shown(org)).rules.version == 3
    assert isinstance(await org.propose(org.withdrawal()), Refused)


def rotated(old: Document) -> Document:
    """Return the version that turns to another log key and another witness."""
    witnesses = [{"name": "witness2", "key": key_of("witness2").hex()}]
    return after(old, roots={**old["roots"], "log_key": key_of("log2").hex(), "witnesses": witnesses})


async def test_log_key_and_witness_rotate_and_everybody_follows(org: Organisation) -> None:
    """Before: old keys. From the second of the change on: new ones, for both logs; the offline node follows."""
    before = org.withdrawal()
    await org.propose(before)
    assert await org.run(before) is Stage.BROADCAST
    await propose(org, signed_rules(rotated(FIRST)))
    note = (await org.parts.logs.collect(Log.MONEY)).note
    assert open_signed(note, key_of("log"), GENESIS.origin("money"))

    await pass_time(org, DAY)
    cosigned = await org.parts.logs.collect(Log.MONEY)
    assert open_signed(cosigned.note, key_of("log2"), GENESIS.origin("money"))
    assert [name for name, _ in cosigned.counted] == ["witness2"]
    assert [name for name, _ in (await org.parts.logs.collect(Log.EVENT)).counted] == ["witness2"]
    cold = org.withdrawal(150_000_000, payee=12)
    await org.propose(cold)
    await org.approve(cold, "bob", "carol")
    answer = await org.carry(cold)

    assert not isinstance(answer.outcome, Refused)
    assert await org.run(cold) is Stage.BROADCAST
    followed = in_force(org.nodes["cold"].state, org.clock.now())
    assert [policy.roots.log_key for policy in followed.rules.versions] == [key_of("log"), key_of("log2")]


async def test_log_key_that_the_coordinator_lacks_then_says_so(org: Organisation) -> None:
    """Rules that pin a key which was never given: checkpoints stop, nothing is signed by another key."""
    roots = {**FIRST["roots"], "log_key": key_of("log3").hex()}
    await propose(org, signed_rules(after(FIRST, roots=roots)))

    org.clock.advance(DAY)
    with pytest.raises(Exception, match="LOG_KEY_OTHER"):
        await governing.keep(org.parts)

    assert await org.parts.logs.fresh(Log.MONEY) is None


async def test_offline_node_hours_late_catches_up_over_a_change_of_keys_by_delta(org: Organisation) -> None:
    """A delta over several versions, each checkpoint under the keys of its time."""
    second = rotated(FIRST)
    await propose(org, signed_rules(second))
    await pass_time(org, DAY)
    await propose(org, signed_rules(after(second, with_rule(CLOSED))))
    await org.parts.logs.collect(Log.MONEY)

    node = org.nodes["cold"]
    while node.state.size < org.parts.store.head(Log.MONEY).size:
        delta = await make_delta(org.parts, node.state.size)
        assert isinstance(delta, Delta)
        await node.take_delta(delta.to_bytes())

    assert [policy.version for policy in node.state.rules.versions] == [1, 2, 3]
    assert node.state.policy.roots.log_key == key_of("log2")


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (signed_rules(after(FIRST, with_rule(CLOSED)), "alice"), "RULES_SIGNER"),
        (signed_rules(after(FIRST, with_rule(CLOSED)), "erin", "alice"), "RULES_SIGNER"),
        (signed_rules(after(FIRST, version=1, prev_hash="00" * 32)), "RULES_VERSION"),
        (signed_rules(after(FIRST, bypass=True), "erin"), "FIELD_UNKNOWN"),
    ],
)
async def test_propose_given_what_nobody_may_sign_refuses_by_code(org: Organisation, signed: Signed, code: str) -> None:
    """Nothing of it is remembered or logged."""
    assert await refused(org, signed) == code
    assert not (await shown(org)).pending


async def test_propose_forgets_after_a_week(org: Organisation) -> None:
    """A half signed document lives for seven days."""
    await propose(org, signed_rules(after(FIRST, with_rule(CLOSED)), "erin"))

    org.clock.advance(7 * DAY - 1)
    assert len((await shown(org)).pending) == 1
    org.clock.advance(1)
    assert not (await shown(org)).pending


async def test_propose_survives_a_restart(org: Organisation) -> None:
    """Signatures that were given are not asked for twice."""
    document = after(FIRST, with_rule(rule("x", "deny", {"payments": "none"})))
    await propose(org, signed_rules(document, "erin", "frank"))
    await org.restart()

    assert [list(p.missing) for p in (await shown(org)).pending] == [["grace"]]
    done = await propose(org, signed_rules(document, "grace"))
    assert done.version == 2
    assert {e.key for e in done.endorsements} == {key_of(name) for name in ADMINS}


async def pay(org: Organisation, asked: Withdrawal, *people: str) -> None:
    """Carry a withdrawal to its confirmation."""
    await org.propose(asked)
    if people:
        await org.approve(asked, *people)
    assert await org.run(asked) is Stage.BROADCAST
    await org.mine()
    assert await org.advance(asked) is Stage.CONFIRMED


async def governed(org: Organisation) -> tuple[Withdrawal, Withdrawal]:
    """Pay under three versions of the rules, over a change of log key and witness; return the first and last payment.

    The second version ends bob's office, who approved the first payment.
    """
    first, last = org.withdrawal(20_000_000), org.withdrawal(30_000_000, payee=13)
    await pay(org, first, "bob", "carol")
    second = after(FIRST, lambda f: user_of(f, "carol").update(valid_until=org.clock.now() + 60))
    await propose(org, signed_rules(second))
    third = rotated(second)
    await propose(org, signed_rules(third))
    await pass_time(org, DAY)
    await pay(org, org.withdrawal(payee=12))
    await propose(org, signed_rules(after(third, without_rule("two-eyes"))))
    await pass_time(org, DAY)
    asked = replace(last, created_at=org.clock.now() - 1, expires_at=org.clock.now() + DAY)
    await pay(org, asked)
    return first, asked


async def test_export_over_versions_and_keys_verifies_at_both_levels(org: Organisation) -> None:
    """Each checkpoint under the keys of its time, each release under the rules of its own T."""
    await governed(org)

    raw = b"".join([line async for line in export_lines(org.parts)])

    for full in (False, True):
        verdict = verify(raw, GENESIS.hash, full=full)
        assert (str(verdict), verdict.detail) == ("OK", "")


async def test_export_given_keys_of_the_genesis_alone_is_unsigned(org: Organisation) -> None:
    """Whoever does not read the rule documents in it cannot believe the checkpoints of today."""
    await governed(org)
    raw = b"".join([line async for line in export_lines(org.parts)])

    assert verify_export(raw, export_keys(GENESIS)).kind is VerdictKind.UNSIGNED


async def test_known_checkpoint_under_a_former_key_anchors_an_export(org: Organisation) -> None:
    """What an auditor kept from before the change still tells a fork or a cut."""
    await propose(org, signed_rules(rotated(FIRST)))
    known = (await org.parts.logs.collect(Log.MONEY)).note
    await pass_time(org, DAY)
    await org.parts.logs.collect(Log.MONEY)
    raw = b"".join([line async for line in export_lines(org.parts)])

    verdict = verify(raw, GENESIS.hash, known)
    assert (str(verdict), verdict.anchored) == ("OK", True)


async def test_evidence_of_payments_under_several_versions_verifies(org: Organisation) -> None:
    """The bundle carries the rule documents, so that each release is judged by those of its time."""
    payments = await governed(org)
    export = read_export(b"".join([line async for line in export_lines(org.parts)]))

    for asked in payments:
        verdict = verify_evidence(make_evidence(export, asked.digest), GENESIS.hash)
        assert (str(verdict), verdict.detail) == (f"OK({asked.digest.hex()})", "")


async def test_node_identity_rotates_and_the_former_key_signs_no_receipt(org: Organisation) -> None:
    """From the second of the change on the coordinator takes answers of the node under its new identity alone."""
    nodes = [{**node, "identity": key_of("alpha-2").hex()} if node["name"] == "alpha" else node for node in _nodes()]
    await propose(org, signed_rules(after(FIRST, roots={**FIRST["roots"], "nodes": nodes})))
    await pass_time(org, DAY)
    asked = org.withdrawal()
    await org.propose(asked)
    assert await org.run(asked) is Stage.SIGNING
    assert "alpha RECEIPT_SIGNATURE" in org.handed

    org.nodes["alpha"]._identity_seed = seed_of("alpha-2")
    org.clock.advance(120)
    assert await org.run(asked) is Stage.BROADCAST
    verdict = verify(b"".join([line async for line in export_lines(org.parts)]), GENESIS.hash)
    assert (str(verdict), verdict.detail) == ("OK", "")


def _nodes() -> list[Document]:
    found: list[Document] = FIRST["roots"]["nodes"]
    return found

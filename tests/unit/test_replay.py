"""Level full of the verifier: an honest log is well, and each way of leaving the rules is named by its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from custody.audit import Export, Log, VerdictKind, body_digest, leaf_hash
from custody.canonical import encode
from custody.entries import StopCause
from custody.facts import Facts, ShapeLimits, read_facts
from custody.finalise import finalize
from custody.genesis import Genesis
from custody.psbt import parse
from custody.replay import replay
from custody.signatures import accept
from custody.statements import Signed
from custody.transaction import Transaction
from custody.withdrawal import Withdrawal
from tests.fakes.rules import DAY, PAY, rule
from tests.world import Spend, World, make_genesis, supersedes

DUAL = rule("dual", "require", {"amount": {"min_sats": 1_000_000}}, {"approvals": {"group": "ops", "threshold": 1}})
DAILY = rule("daily", "limit", {}, {"window": "day", "max_sats": 10_000_000, "on_exceed": "deny"})
SLOW = rule("slow", "require", {"amount": {"min_sats": 3_000_000}}, {"delay": {"seconds": 3_600}})
HELD_BACK = rule(
    "held-back",
    "require",
    {"amount": {"min_sats": 900_000, "max_sats": 999_999}},
    {"delay": {"seconds": 60, "veto": {"group": "security", "threshold": 2}}},
)
GENESIS: Genesis = make_genesis(PAY, DUAL, DAILY, SLOW, HELD_BACK)


@dataclass
class Recorded:
    """A world whose coordinator writes events; `export` is what an auditor gets."""

    world: World = field(default_factory=lambda: World(GENESIS))
    events: list[bytes] = field(default_factory=list)
    raws: dict[bytes, bytes] = field(default_factory=dict)

    def event(self, kind: str, asked: Withdrawal, *bodies: bytes, **fields: Any) -> None:
        """Append one event that names `bodies`."""
        self.raws.update({body_digest(body): body for body in bodies})
        named = {"bodies": [body_digest(body).hex() for body in bodies]} if bodies else {}
        said = {"withdrawal": asked.digest.hex(), **named, **fields}
        self.events.append(encode({"kind": kind, "time": self.world.now, "actor": asked.initiator, "fields": said}))

    def pay(self, spend: Spend, *nodes: str, **lies: Any) -> None:
        """Propose, release and finish one withdrawal, ten seconds each."""
        self.propose(spend)
        self.release(spend, **lies)
        self.finish(spend, transaction_of(spend, *nodes or ("alpha", "beta")))

    def propose(self, spend: Spend) -> None:
        """Record its PSBT."""
        self.event("withdrawal.proposed", spend.asked, spend.psbt)

    def release(self, spend: Spend, **lies: Any) -> None:
        """Log the RELEASE over the event log as it is."""
        spend.release(**lies)
        self.world.now += 10

    def finish(self, spend: Spend, transaction: Transaction) -> None:
        """Record the complete transaction."""
        self.event("transaction.finalised", spend.asked, transaction.serialize(), txid=spend.facts().txid[::-1].hex())
        self.world.now += 10

    def export(self) -> Export:
        """Return the export, unsigned parts as they are."""
        entries = {Log.MONEY: tuple(self.world.entries), Log.EVENT: tuple(self.events)}
        leaves = {log: tuple(map(leaf_hash, found)) for log, found in entries.items()}
        checkpoints = {Log.MONEY: self.world.cosigned(), Log.EVENT: ""}
        return Export(self.world.genesis.signed, entries, leaves, {**self.world.statements, **self.raws}, checkpoints)


class FarSpend(Spend):
    """A transaction whose change is further away than signers accept."""

    def facts(self) -> Facts:
        """Return what it does, in a wider window."""
        found = read_facts(parse(self.psbt), self.world.book, ShapeLimits(highest_change_index=300))
        assert isinstance(found, Facts), found
        return found


def transaction_of(spend: Spend, *nodes: str) -> Transaction:
    """Return the complete transaction, signed by `nodes`."""
    psbt, facts = parse(spend.psbt), spend.facts()
    signatures = [s for node in nodes for s in spend.signatures(node)]
    return finalize(psbt, facts, spend.world.book, accept(psbt, facts, spend.world.book, signatures))


def spend_of(log: Recorded, *payments: tuple[int, int], coin: int = 0, **changes: Any) -> Spend:
    """Return a transaction for a withdrawal, from a coin of its own."""
    return log.world.spend(log.world.withdrawal(*payments, **changes), [log.world.coin(coin)])


def violation_of(log: Recorded, export: Export | None = None) -> str:
    """Return the code of the violation; it must name a withdrawal."""
    verdict = replay(export or log.export())
    assert verdict is not None
    assert (verdict.kind, len(verdict.withdrawal)) == (VerdictKind.POLICY_VIOLATION, 64), verdict
    return verdict.detail.partition(":")[0]


def honest() -> Recorded:
    """Return a log of a small payment, a dual one, a delayed one, and a superseded one."""
    log = Recorded()
    log.pay(spend_of(log, (11, 50_000)))
    log.pay(spend_of(log, (12, 2_000_000), coin=1, withdrawal_id="w-2").approved_by("bob"))
    slow = spend_of(log, (13, 3_000_000), coin=2, withdrawal_id="w-3").approved_by("carol")
    log.world.notice(slow.asked)
    log.world.now += 3_600
    log.pay(slow)
    first = spend_of(log, (14, 60_000), coin=3, withdrawal_id="w-4")
    log.propose(first)
    log.release(first)
    again = log.world.withdrawal((14, 60_000), withdrawal_id="w-5", relation=supersedes(first.asked))
    log.pay(log.world.spend(again, [log.world.coin(3)], fee=9_000))
    return log


def test_replay_given_honest_log_finds_nothing() -> None:
    """Small, dual, delayed and superseding payments that followed the rules are well."""
    assert replay(honest().export()) is None


@pytest.mark.parametrize("people", [("bob",), ("bob", "carol")])
def test_replay_given_fewer_vetoes_than_the_rules_say_finds_nothing(people: tuple[str, ...]) -> None:
    """One of security, or one and somebody of another group, end nothing."""
    log = Recorded()
    _vetoed(log, *people)

    assert replay(log.export()) is None


def test_replay_given_pruned_psbt_judges_by_the_entry() -> None:
    """A log whose event bodies were pruned is judged by its RELEASE entries."""
    export = honest().export()
    kept = {digest: body for digest, body in export.bodies.items() if isinstance(body, Signed)}

    assert replay(replace(export, bodies=kept)) is None


def without_approval(log: Recorded) -> None:
    """Release what needs an approval without one."""
    log.pay(spend_of(log, (12, 2_000_000)))


def by_a_stranger(log: Recorded) -> None:
    """Finish a withdrawal whose approval is by its own initiator: the release counts nothing."""
    log.pay(spend_of(log, (12, 2_000_000)).approved_by("alice"))


def above_the_budget(log: Recorded) -> None:
    """Spend more than a day's budget, in parts that each would be fine."""
    for number in range(6):
        spend = spend_of(log, (12 + number, 2_000_000), coin=number, withdrawal_id=f"w-{number}").approved_by("bob")
        log.pay(spend)


def before_the_delay(log: Recorded) -> None:
    """Release in the middle of a delay."""
    spend = spend_of(log, (13, 3_000_000)).approved_by("bob")
    log.world.notice(spend.asked)
    log.world.now += 1_800
    log.pay(spend)


def paid_twice(log: Recorded) -> None:
    """Release one withdrawal over two coins that do not conflict."""
    first = spend_of(log, (11, 50_000))
    log.pay(first)
    log.pay(log.world.spend(first.asked, [log.world.coin(1)]))


def paid_again(log: Recorded) -> None:
    """Pay the same again in another withdrawal that calls itself new."""
    log.pay(spend_of(log, (11, 50_000)))
    log.pay(spend_of(log, (11, 50_000), coin=1, withdrawal_id="w-2"))


def far_change(log: Recorded) -> None:
    """Send change beyond the window."""
    spend = log.world.spend(log.world.withdrawal(), change_index=300)
    log.pay(FarSpend(log.world, spend.asked, spend.psbt))


def above_max_fee(log: Recorded) -> None:
    """Pay a larger fee than was approved."""
    log.pay(log.world.spend(log.world.withdrawal(), fee=20_001))


def another_transaction(log: Recorded) -> None:
    """Log a fee that is not that of the PSBT."""
    log.pay(spend_of(log), fee_sats=2_001)


def never_released(log: Recorded) -> None:
    """Finish a transaction that no RELEASE permits."""
    spend = spend_of(log)
    log.propose(spend)
    log.finish(spend, transaction_of(spend, "alpha", "beta"))


def stopped(log: Recorded) -> None:
    """Finish a withdrawal that was rejected after its release."""
    spend = spend_of(log)
    log.propose(spend)
    log.release(spend)
    log.world.stop(spend.asked, "bob", StopCause.REJECT)
    log.finish(spend, transaction_of(spend, "alpha", "beta"))


def vetoed(log: Recorded) -> None:
    """Finish a withdrawal that as many vetoed as its rules say."""
    _vetoed(log, "bob", "dave")


def _vetoed(log: Recorded, *people: str) -> None:
    spend = spend_of(log, (11, 900_000), coin=5, withdrawal_id="vetoed")
    log.propose(spend)
    log.world.notice(spend.asked)
    log.world.now += 60
    log.release(spend)
    for person in people:
        log.world.stop(spend.asked, person, StopCause.VETO)
    log.finish(spend, transaction_of(spend, "alpha", "beta"))


def frozen(log: Recorded) -> None:
    """Release and finish under a freeze."""
    log.world.freeze()
    log.pay(spend_of(log))


def back_dated(log: Recorded) -> None:
    """Witnesses see a release an hour after the time it names."""
    spend = spend_of(log)
    log.propose(spend)
    spend.release()
    log.world.now += 3_600
    log.world.covering = log.world.cosigned()
    log.world.notice(spend_of(log, withdrawal_id="w-2").asked)
    log.finish(spend, transaction_of(spend, "alpha", "beta"))


def one_key_twice(log: Recorded) -> None:
    """Broadcast a transaction with one key's signature in both places."""
    spend = spend_of(log)
    log.propose(spend)
    log.release(spend)
    complete = transaction_of(spend, "alpha", "beta")
    empty, first, _, script = complete.inputs[0].witness
    forged = replace(complete.inputs[0], witness=(empty, first, first, script))
    log.finish(spend, replace(complete, inputs=(forged,)))


def other_transaction_broadcast(log: Recorded) -> None:
    """Record other bytes as the transaction of a release."""
    spend, other = spend_of(log), spend_of(log, coin=1)
    log.propose(spend)
    log.release(spend)
    log.finish(spend, transaction_of(other, "alpha", "beta"))


def expired(log: Recorded) -> None:
    """Release after the withdrawal's end."""
    spend = spend_of(log)
    log.world.now += DAY + 1
    log.pay(spend)


VIOLATIONS: dict[Callable[[Recorded], None], str] = {
    without_approval: "APPROVALS_MISSING",
    by_a_stranger: "APPROVAL_SELF",
    above_the_budget: "LIMIT_EXCEEDED",
    before_the_delay: "DELAY_RUNNING",
    paid_twice: "SECOND_PAYMENT",
    paid_again: "ALREADY_PAID",
    far_change: "CHANGE_INDEX",
    above_max_fee: "FEE_ABOVE_MAX",
    another_transaction: "RELEASE_MISMATCH",
    never_released: "RELEASE_MISSING",
    stopped: "STOPPED",
    vetoed: "STOPPED",
    frozen: "FROZEN",
    back_dated: "ENTRY_TIME",
    one_key_twice: "SIGNATURES",
    other_transaction_broadcast: "TRANSACTION_OTHER",
    expired: "WITHDRAWAL_EXPIRED",
}


@pytest.mark.parametrize("lie", VIOLATIONS, ids=lambda lie: lie.__name__)
def test_replay_given_one_violation_names_withdrawal_and_code(lie: Callable[[Recorded], None]) -> None:
    """A log that left the rules once gets that violation's code and its withdrawal."""
    log = Recorded()

    lie(log)

    assert violation_of(log) == VIOLATIONS[lie]


def test_replay_given_missing_psbt_and_nothing_pruned_names_it() -> None:
    """A coordinator that never names a PSBT hides what it released."""
    log = Recorded()
    log.release(spend_of(log))

    assert violation_of(log) == "PSBT_MISSING"


def test_replay_given_final_event_without_transaction_names_it() -> None:
    """A final event must name its transaction."""
    log = Recorded()
    spend = spend_of(log)
    log.propose(spend)
    log.release(spend)
    log.event("transaction.broadcast", spend.asked, txid=spend.facts().txid[::-1].hex())

    assert violation_of(log) == "TRANSACTION_MISSING"


def test_replay_given_inadmissible_release_that_nobody_signed_finds_nothing() -> None:
    """A release that counts nothing and became nothing is no violation: signers refused it."""
    log = Recorded()
    spend = spend_of(log, (12, 2_000_000)).approved_by("alice")
    log.propose(spend)
    log.release(spend)

    assert replay(log.export()) is None


def test_replay_given_freeze_lifted_before_the_signatures_finds_nothing() -> None:
    """A release under a freeze may be signed once the freeze is lifted."""
    log = Recorded()
    log.world.freeze()
    spend = spend_of(log)
    log.propose(spend)
    log.release(spend)
    log.world.unfreeze("erin", "frank")
    log.finish(spend, transaction_of(spend, "alpha", "beta"))

    assert replay(log.export()) is None


def test_replay_given_genesis_without_a_nodes_signature_names_line_one() -> None:
    """A genesis that not all signed is not one."""
    export = honest().export()
    fewer = replace(export.genesis, endorsements=export.genesis.endorsements[1:])

    verdict = replay(replace(export, genesis=fewer))

    assert verdict is not None
    assert (verdict.kind, verdict.line) == (VerdictKind.MODIFIED, 1)
    assert "GENESIS_UNSIGNED" in verdict.detail


def test_replay_given_entry_no_follower_takes_names_it() -> None:
    """Entries that a follower refuses are named by index: here a second WITNESS entry that covers nothing."""
    log = honest()
    log.world.entries.insert(2, log.world.entries[1])

    verdict = replay(log.export())

    assert verdict is not None
    assert str(verdict) == "MODIFIED(2)"

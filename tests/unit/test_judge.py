"""One valid bundle, one change, one exact code: every step of `judge`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from custody.bundle import Behind, Bundle, parse_bundle
from custody.entries import StopCause
from custody.errors import Refused
from custody.facts import CHANGE_GAP
from custody.follow import start
from custody.once import OwnSignature
from custody.transaction import OutPoint, TxOut
from custody.units import Sats
from custody.withdrawal import Relation, RelationKind
from signer_node.judge import Cleared, Judged, Moment, Pinned, judge
from tests.fakes.rules import DAY, NOW, PAY, rule
from tests.world import COIN_SATS, EXCHANGE, Spend, World, make_genesis, supersedes

TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
COLD = rule("cold", "require", {"amount": {"min_sats": 20_000_000}}, {"signers": {"min_offline": 1}})
DAILY = rule("daily", "limit", {}, {"window": "day", "max_sats": 40_000_000, "on_exceed": "deny"})
SLOW = rule("slow", "require", {"amount": {"min_sats": 30_000_000}}, {"delay": {"seconds": 3600}})
RULES = (PAY, TWO_EYES, COLD, DAILY, SLOW)
GENESIS = make_genesis(*RULES)


@pytest.fixture
def world() -> World:
    """A new log under the same genesis."""
    return World(GENESIS)


def judged(
    bundle: Bundle, world: World, node: str = "alpha", mine: tuple[OwnSignature, ...] = (), **moment: int
) -> Judged:
    """Judge the bundle as `node`, from an empty follower, after a trip through its bytes."""
    again = parse_bundle(bundle.to_bytes())
    me = Pinned(world.genesis, node)
    now = Moment(moment.get("now", world.now), moment.get("high_water", 0))
    return judge(again, me, start(world.genesis), now, mine, world.book)


def code(found: Judged) -> str:
    """Return the refusal's code, or what else came out."""
    return found.outcome.code if isinstance(found.outcome, Refused) else type(found.outcome).__name__


def test_judge_given_a_valid_bundle_clears_exactly_its_transaction(world: World) -> None:
    """A bundle that rules and log allow is cleared, for this transaction and this node's keys."""
    spend = world.spend(world.withdrawal())
    outcome = judged(spend.bundle(), world).outcome
    assert isinstance(outcome, Cleared)
    assert outcome.txid == spend.facts().txid
    assert outcome.pubkeys == (world.book.script(0, 0).pubkeys[0],)


def test_judge_given_the_same_bundle_twice_clears_the_same(world: World) -> None:
    """A repeat is judged again in full and gives the same digests, counted once."""
    bundle = world.spend(world.withdrawal((EXCHANGE, 9_000_000))).bundle()
    first, second = judged(bundle, world).outcome, judged(bundle, world).outcome
    assert isinstance(first, Cleared)
    assert first == second


LIES: dict[str, tuple[Callable[[World], Bundle], str]] = {
    "another_genesis": (lambda w: w.spend(w.withdrawal()).bundle(genesis=bytes(32)), "GENESIS_OTHER"),
    "another_node": (lambda w: w.spend(w.withdrawal()).bundle(node="beta"), "NODE_OTHER"),
    "checkpoint_by_nobody": (
        lambda w: _with_note(w.spend(w.withdrawal()).bundle(), lambda note: "\n".join(note.split("\n")[:-2]) + "\n"),
        "CHECKPOINT_UNDERSIGNED",
    ),
    "release_of_another_amount": (
        lambda w: _lying_release(w, payments=(TxOut(Sats(1), b"\x00\x14" + bytes(20)),)),
        "RELEASE_INADMISSIBLE",
    ),
    "release_of_another_transaction": (lambda w: _lying_release(w, txid=bytes(32)), "RELEASE_MISMATCH"),
    "release_of_other_coins": (lambda w: _lying_release(w, outpoints=(OutPoint(bytes(32), 1),)), "RELEASE_MISMATCH"),
    "release_of_a_smaller_fee": (lambda w: _lying_release(w, fee_sats=Sats(1)), "RELEASE_MISMATCH"),
    "release_by_another_initiator": (lambda w: _lying_release(w, initiator="bob"), "RELEASE_INADMISSIBLE"),
    "release_of_another_family": (lambda w: _lying_release(w, family=bytes(32)), "RELEASE_INADMISSIBLE"),
    "release_back_dated": (lambda w: _lying_release(w, time=NOW - 601), "RELEASE_MISMATCH"),
    "inclusion_of_another_entry": (
        lambda w: w.spend(w.withdrawal()).bundle(inclusion=(bytes(32),)),
        "INCLUSION",
    ),
    "fee_above_max": (lambda w: w.spend(w.withdrawal(max_fee_sats=Sats(1_999))).bundle(), "FEE_ABOVE_MAX"),
    "feerate_too_high": (
        lambda w: w.spend(w.withdrawal(max_fee_sats=Sats(200_000)), fee=150_000).bundle(),
        "FEERATE_ABOVE_MAX",
    ),
    "rules_floor_above_mine": (lambda w: w.spend(w.withdrawal(rules_floor=2)).bundle(), "RULES_FLOOR"),
    "withdrawal_expired": (
        lambda w: w.spend(w.withdrawal(created_at=NOW - DAY, expires_at=NOW)).bundle(),
        "WITHDRAWAL_EXPIRED",
    ),
    "initiator_unknown": (lambda w: w.spend(w.withdrawal(initiator="mallory")).bundle(), "RELEASE_INADMISSIBLE"),
    "needs_people": (lambda w: w.spend(w.withdrawal((EXCHANGE, 15_000_000))).bundle(), "APPROVALS_MISSING"),
    "approved_by_the_initiator": (
        lambda w: w.spend(w.withdrawal((EXCHANGE, 15_000_000))).approved_by("alice", "bob").bundle(),
        "RELEASE_INADMISSIBLE",
    ),
    "over_the_daily_limit": (
        lambda w: w.spend(w.withdrawal((EXCHANGE, 41_000_000))).approved_by("bob", "carol").bundle(),
        "LIMIT_EXCEEDED",
    ),
    "cold_has_not_signed": (
        lambda w: w.spend(w.withdrawal((EXCHANGE, 25_000_000))).approved_by("bob", "carol").bundle(),
        "COLD_FIRST",
    ),
    "delay_without_notice": (
        lambda w: w.spend(w.withdrawal((EXCHANGE, 35_000_000))).approved_by("bob", "carol").bundle(),
        "DELAY_NOT_STARTED",
    ),
    "missing_body": (lambda w: _without_statements(w.spend(w.withdrawal()).bundle()), "MISSING_BODY"),
    "missing_entry": (lambda w: _without_last_entry(w.spend(w.withdrawal()).bundle()), "LOG_SIZE"),
}


def _with_note(bundle: Bundle, change: Callable[[str], str]) -> Bundle:
    return replace(bundle, log=replace(bundle.log, note=change(bundle.log.note)))


def _lying_release(world: World, **changes: object) -> Bundle:
    spend = world.spend(world.withdrawal())
    return spend.bundle(spend.release(**changes))


def _without_statements(bundle: Bundle) -> Bundle:
    return replace(bundle, log=replace(bundle.log, statements=()))


def _without_last_entry(bundle: Bundle) -> Bundle:
    return replace(bundle, log=replace(bundle.log, entries=bundle.log.entries[:-1]))


@pytest.mark.parametrize("lie", LIES)
def test_judge_given_one_lie_refuses_with_its_code(lie: str, world: World) -> None:
    """A bundle that is valid but for one lie is refused with that lie's code."""
    tell, expected = LIES[lie]
    assert code(judged(tell(world), world)) == expected


def test_judge_given_cold_signatures_clears_the_online_node(world: World) -> None:
    """Behind the cold node's signatures on every input the online node signs."""
    spend = world.spend(world.withdrawal((EXCHANGE, 25_000_000))).approved_by("bob", "carol")
    index = spend.release()
    assert isinstance(judged(spend.bundle(index, signatures=spend.signatures("cold")), world).outcome, Cleared)
    assert isinstance(judged(spend.bundle(index, node="cold"), world, "cold").outcome, Cleared)


def test_judge_given_a_cold_signature_over_another_transaction_refuses(world: World) -> None:
    """A cold signature counts only over this transaction."""
    asked = world.withdrawal((EXCHANGE, 25_000_000))
    spend = world.spend(asked).approved_by("bob", "carol")
    other = world.spend(asked, fee=3_000).approved_by("bob", "carol")
    assert code(judged(spend.bundle(signatures=other.signatures("cold")), world)) == "COLD_FIRST"


def test_judge_given_a_delay_that_has_run_clears(world: World) -> None:
    """The wait runs from the NOTICE's T; one second too early is refused."""
    asked = world.withdrawal((EXCHANGE, 35_000_000), expires_at=NOW + 10 * DAY)
    world.notice(asked)
    world.now += 3599
    spend = world.spend(asked).approved_by("bob", "carol")
    index = spend.release()
    signed = spend.signatures("cold")
    assert code(judged(spend.bundle(index, signatures=signed), world)) == "DELAY_RUNNING"
    world.now += 1
    assert isinstance(judged(spend.bundle(index, signatures=signed), world).outcome, Cleared)


def test_judge_given_a_freeze_refuses_until_a_quorum_lifts_it(world: World) -> None:
    """One person freezes; only the unfreeze quorum lifts it, and a lifted id is dead."""
    spend = world.spend(world.withdrawal())
    index = spend.release()
    world.freeze()
    assert code(judged(spend.bundle(index), world)) == "FROZEN"
    world.unfreeze("erin")
    assert code(judged(spend.bundle(index), world)) == "FROZEN"
    world.now += 1  # another statement: one is logged with the signatures that it has
    world.unfreeze("erin", "frank")
    world.freeze()
    assert isinstance(judged(spend.bundle(index), world).outcome, Cleared)


def test_judge_given_a_lone_freeze_after_72_hours_clears(world: World) -> None:
    """One person's freeze lapses after 72 h; with a second person it stands."""
    world.freeze("dave")
    world.now += 72 * 3600
    spend = world.spend(world.withdrawal())
    index = spend.release()
    assert isinstance(judged(spend.bundle(index), world).outcome, Cleared)
    world.freeze("bob", b"\x02" * 16)
    assert code(judged(spend.bundle(index), world)) == "FROZEN"


@pytest.mark.parametrize(
    ("by", "cause"), [("alice", StopCause.CANCEL), ("dave", StopCause.VETO), ("bob", StopCause.REJECT)]
)
def test_judge_given_a_stop_in_the_log_refuses(world: World, by: str, cause: StopCause) -> None:
    """A cancel by the initiator, a veto and a reject each end the withdrawal."""
    asked = world.withdrawal()
    spend = world.spend(asked)
    index = spend.release()
    world.stop(asked, by, cause)
    assert code(judged(spend.bundle(index), world)) == "STOPPED"


@pytest.mark.parametrize(
    ("amount", "people", "said"),
    [
        (50_000, ("dave",), "Cleared"),  # no rule that matches names security; carol is of no group that may
        (40_000_000, ("dave",), "Cleared"),
        (40_000_000, ("dave", "carol"), "Cleared"),
        (40_000_000, ("dave", "bob"), "STOPPED"),
    ],
)
def test_judge_given_vetoes_below_their_threshold_clears(amount: int, people: tuple[str, ...], said: str) -> None:
    """Two of security end a large withdrawal; one, or one of them and somebody else, do not."""
    veto = {"delay": {"seconds": 60, "veto": {"group": "security", "threshold": 2}}}
    small = {"delay": {"seconds": 60, "veto": {"group": "admins", "threshold": 1}}}
    world = World(
        make_genesis(
            PAY,
            rule("large", "require", {"amount": {"min_sats": 1_000_000}}, veto),
            rule("small", "require", {"amount": {"max_sats": 999_999}}, small),
        )
    )
    asked = world.withdrawal((EXCHANGE, amount))
    world.notice(asked)
    world.now += 60
    spend = world.spend(asked)
    index = spend.release()
    for person in people:
        world.stop(asked, person, StopCause.VETO)

    assert code(judged(spend.bundle(index), world)) == said


def test_judge_given_a_cancel_by_somebody_else_clears(world: World) -> None:
    """Only the initiator cancels: another's cancel counts nothing."""
    asked = world.withdrawal()
    spend = world.spend(asked)
    index = spend.release()
    world.stop(asked, "bob", StopCause.CANCEL)
    assert isinstance(judged(spend.bundle(index), world).outcome, Cleared)


def test_judge_given_an_old_checkpoint_refuses(world: World) -> None:
    """An online node wants cosignatures of at most five minutes, a cold one of at most bundle_max_age."""
    spend = world.spend(world.withdrawal())
    index = spend.release()
    assert isinstance(judged(spend.bundle(index), world, now=NOW + 300).outcome, Cleared)
    assert code(judged(spend.bundle(index), world, now=NOW + 301)) == "CHECKPOINT_STALE"
    assert isinstance(judged(spend.bundle(index, node="cold"), world, "cold", now=NOW + 301).outcome, Cleared)
    assert code(judged(spend.bundle(index, node="cold"), world, "cold", now=NOW + DAY + 1)) == "CLOCK_AHEAD"


def test_judge_given_a_clock_stepped_back_uses_the_high_water_mark(world: World) -> None:
    """Expiry passes by the latest time ever accepted, whatever the clock says now."""
    spend = world.spend(world.withdrawal(expires_at=NOW + 50))
    bundle = spend.bundle()
    assert code(judged(bundle, world, now=NOW, high_water=NOW + 50)) == "WITHDRAWAL_EXPIRED"


def test_judge_given_an_old_release_refuses(world: World) -> None:
    """A release older than bundle_max_age is signed no more, however fresh the checkpoint."""
    spend = world.spend(world.withdrawal(expires_at=NOW + 10 * DAY))
    index = spend.release()
    world.now += DAY + 1
    assert code(judged(spend.bundle(index), world)) == "RELEASE_STALE"


def test_judge_given_a_second_transaction_of_one_withdrawal_demands_a_common_coin(world: World) -> None:
    """A fee bump spends a coin of the first; a transaction with none in common could be paid twice."""
    asked = world.withdrawal()
    world.spend(asked).release()
    bump = world.spend(asked, [world.coin(0), world.coin(1)], fee=4_000)
    assert isinstance(judged(bump.bundle(), world).outcome, Cleared)
    apart = world.spend(asked, [world.coin(2)], fee=4_000)
    assert code(judged(apart.bundle(), world)) == "SECOND_PAYMENT"


def test_judge_given_a_bump_inside_max_fee_needs_no_second_round_of_approvals(world: World) -> None:
    """The same withdrawal and approvals, the same coin, a higher fee: signed up to max_fee_sats, and no sat beyond."""
    asked = world.withdrawal((EXCHANGE, 15_000_000))
    for fee, said in ((2_000, "Cleared"), (20_000, "Cleared"), (20_001, "FEE_ABOVE_MAX")):
        spend = replace(world.spend(asked, fee=fee), people=("bob", "carol"), approved_at=NOW)
        assert code(judged(spend.bundle(), world)) == said
        world.now += 10


def test_judge_given_own_signature_without_common_coin_refuses(world: World) -> None:
    """What this node signed itself binds it even where the log shows nothing of it."""
    asked = world.withdrawal()
    own = OwnSignature(asked.digest, asked.digest, bytes(32), frozenset({OutPoint(bytes(32), 7)}))
    assert code(judged(world.spend(asked).bundle(), world, mine=(own,))) == "SECOND_PAYMENT"


@pytest.mark.parametrize("index", [CHANGE_GAP, 500])
def test_judge_given_a_release_that_vouches_for_its_own_change_refuses(world: World, index: int) -> None:
    """The log's writer names a change index as far out as he likes: only what stands before it moves the window."""
    assert code(judged(world.spend(world.withdrawal(), change_index=index).bundle(), world)) == "CHANGE_INDEX"


def test_judge_given_far_change_released_before_keeps_its_window(world: World) -> None:
    """A release that nobody signs does not move the window for the next one, nor stop it."""
    world.spend(world.withdrawal(), change_index=500).release()
    later = world.withdrawal((EXCHANGE, 60_000), withdrawal_id="w-2")
    assert code(judged(world.spend(later, change_index=510).bundle(), world)) == "CHANGE_INDEX"
    fresh = World(GENESIS)
    fresh.spend(fresh.withdrawal(), change_index=500).release()
    assert code(judged(fresh.spend(later, change_index=19).bundle(), fresh)) == "Cleared"


def test_judge_given_the_same_payment_again_wants_it_listed(world: World) -> None:
    """`new` may not pay what was released within 90 days; `additional` lists every such withdrawal."""
    first = world.withdrawal()
    world.spend(first).release()
    coins = [world.coin(3)]
    again = world.withdrawal(withdrawal_id="w-2")
    assert code(judged(world.spend(again, coins).bundle(), world)) == "ALREADY_PAID"
    listed = replace(again, withdrawal_id="w-3", relation=Relation(RelationKind.ADDITIONAL, (first.digest,)))
    world_of_two = World(GENESIS)
    world_of_two.spend(first).release()
    assert isinstance(judged(world_of_two.spend(listed, coins).bundle(), world_of_two).outcome, Cleared)


def test_judge_given_a_used_withdrawal_id_refuses(world: World) -> None:
    """One (initiator, id) has one digest for ever."""
    world.spend(world.withdrawal()).release()
    other = world.withdrawal((EXCHANGE, 60_000))
    assert code(judged(world.spend(other, [world.coin(4)]).bundle(), world)) == "WITHDRAWAL_ID_REUSED"


def test_judge_given_a_superseding_self_transfer_then_the_first_is_dead(world: World) -> None:
    """What supersedes shares a coin with every release of the family, and what it replaced is released no more."""
    housekeeping = rule("home", "allow", {"payments": "none", "fee": {"max_sats": 100_000}})
    family_world = World(make_genesis(*RULES, housekeeping))
    first = family_world.withdrawal()
    family_world.spend(first).release()
    cancel = family_world.withdrawal(withdrawal_id="w-2", payments=(), relation=supersedes(first))
    bundle = family_world.spend(cancel, fee=4_000).bundle()
    assert isinstance(judged(bundle, family_world).outcome, Cleared)
    revived = family_world.spend(first, fee=6_000).bundle()
    assert code(judged(revived, family_world)) == "SUPERSEDED"


def test_judge_given_budget_spent_over_other_signers_refuses(world: World) -> None:
    """Budgets are counted from the log, whoever signs: two releases of 9.9 million leave no room for three more."""
    for number in range(4):
        asked = world.withdrawal((EXCHANGE, 9_900_000 + number), withdrawal_id=f"w-{number}")
        last = world.spend(asked, [world.coin(number)])
        index = last.release()
        world.now += 1
    assert code(judged(last.bundle(index), world)) == "Cleared"
    fifth = world.withdrawal((EXCHANGE, 9_000_000), withdrawal_id="w-5")
    assert code(judged(world.spend(fifth, [world.coin(9)]).bundle(), world)) == "LIMIT_EXCEEDED"


def test_judge_given_a_bundle_beyond_its_log_answers_behind(world: World) -> None:
    """A node that misses entries says how many it has."""
    world.spend(world.withdrawal()).release()
    spend = world.spend(world.withdrawal((EXCHANGE, 70_000), withdrawal_id="w-2"), [world.coin(5)])
    bundle = spend.bundle()
    cut = replace(bundle, log=replace(bundle.log, first=1, entries=bundle.log.entries[1:]))
    assert judged(cut, world).outcome == Behind(0)


def test_judge_given_another_history_refuses_it_as_a_fork(world: World) -> None:
    """A node that followed one history refuses another of the same log key."""
    first = world.spend(world.withdrawal())
    seen = judged(first.bundle(), world).state
    other = World(GENESIS)
    other_bundle = other.spend(other.withdrawal((EXCHANGE, 70_000))).bundle()
    outcome = judge(other_bundle, Pinned(GENESIS, "alpha"), seen, Moment(NOW, 0), (), world.book).outcome
    assert isinstance(outcome, Refused)
    assert outcome.code == "LOG_FORK"


def test_judge_given_a_shorter_history_refuses_it_as_rolled_back(world: World) -> None:
    """A node that followed two releases refuses a checkpoint of the first alone."""
    first = world.spend(world.withdrawal())
    index = first.release()
    old = first.bundle(index)
    second = world.spend(world.withdrawal((EXCHANGE, 70_000), withdrawal_id="w-2"), [world.coin(6)])
    seen = judged(second.bundle(), world).state
    outcome = judge(old, Pinned(GENESIS, "alpha"), seen, Moment(NOW, 0), (), world.book).outcome
    assert isinstance(outcome, Refused)
    assert outcome.code == "ROLLED_BACK"


def test_world_coin_when_asked_then_holds_enough() -> None:
    """The tests' coins cover the largest payment that the tests make."""
    assert COIN_SATS > 41_000_000
    assert isinstance(World(GENESIS).spend(World(GENESIS).withdrawal()), Spend)


def test_judge_given_a_rule_with_local_conf_wants_this_withdrawal_confirmed_here() -> None:
    """Nothing that a coordinator carries stands in for somebody at the machine."""
    world = World(make_genesis(PAY, rule("here", "require", {}, {"local_conf": True})))
    asked = world.withdrawal()
    bundle = parse_bundle(world.spend(asked).bundle().to_bytes())

    def said(confirmed: frozenset[bytes]) -> Judged:
        me, now = Pinned(world.genesis, "alpha"), Moment(world.now, 0)
        return judge(bundle, me, start(world.genesis), now, (), world.book, (), confirmed)

    assert code(said(frozenset())) == "LOCAL_CONF_MISSING"
    assert code(said(frozenset({bytes(32)}))) == "LOCAL_CONF_MISSING"
    assert isinstance(said(frozenset({asked.digest})).outcome, Cleared)

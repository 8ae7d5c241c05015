"""Lies about the rules, freezes, delays and budgets (protocol.md "Rules, freeze"; steps 1 and 6)."""

from __future__ import annotations

from dataclasses import replace

from custody.bundle import Bundle
from custody.entries import Document, EntryKind, Freeze, Notice, Unfreeze
from custody.statements import Kind, Signed, endorse, sign
from custody.units import Sats
from tests.fakes.rules import DAY, NOW, PAY, rule, seed_of
from tests.governing import after, document_of, log_rules, signed_rules, with_rule, without_rule, without_user
from tests.lies.told import Lie, Story, by_coordinator, in_world
from tests.world import EXCHANGE, World, make_genesis, signed_by_initiator

LARGE, SLOW_SIZE = (EXCHANGE, 15_000_000), (EXCHANGE, 35_000_000)
REPLACES = "each version verified against the admin block of the version it REPLACES"
EXPIRED = "Expired rules sign nothing"
NOT_FROZEN = "Not frozen"
LISTS_IDS = "A freeze has a random id; an unfreeze lists ids; a lifted id is dead"
CURRENT = "Loosening waits the CURRENT delay; tightening is at once"
PREVIOUS = "A rule document names prev_hash = the document IN EFFECT at its index and version = that + 1"
FLOOR = "a signer refuses if its newest rules are lower, and judges under its newest"
ALLOW = "My rules say Allow, counting every admissible release in the money log"
SPREADING = "counted from it, so that spreading over signer pairs evades nothing"
NOTICES = "a whole withdrawal; starts a delay; admissible with the initiator's signature"
BY_LO = "Windows age, delays and cool-downs run out, not_before passes by lo"
HELD = "only statements that verify under the rules in force are held"
FAMILY = "A **family** can confirm once, so it counts once against budgets: its largest payments + max_fee_sats"


def frozen(world: World) -> Bundle:
    """Dave froze everything."""
    spend = world.spend(world.withdrawal())
    index = spend.release()
    world.freeze()
    return spend.bundle(index)


def frozen_since_the_signature(world: World) -> Story:
    """Signed once, frozen since: the repeat is judged again in full."""
    spend = world.spend(world.withdrawal())
    first = spend.bundle()
    world.freeze()
    return in_world(world, spend.bundle(first.release_index), first)


def freeze_hidden(world: World) -> Story:
    """The coordinator keeps the freeze out of the log; a witness holds it and the node took it over."""
    told = Freeze(world.genesis.hash, b"\x03" * 16, "dave", world.now)
    held = sign(Kind.FREEZE, told.to_json(), seed_of("dave"))
    return in_world(world, world.spend(world.withdrawal()).bundle(), held=(held,))


def freeze_lifted_by_one(world: World) -> Bundle:
    """One admin lifts it, where the rules ask for two."""
    return _thawed(world, _unfreeze(world, "erin"))


def freeze_lifted_by_the_coordinator(world: World) -> Bundle:
    """The unfreeze bears the coordinator's keys."""
    return _thawed(world, by_coordinator(_unfreeze(world, "erin")))


def freeze_lifted_under_another_id(world: World) -> Bundle:
    """Two admins lifted another freeze."""
    return _thawed(world, _unfreeze(world, "erin", "frank", freeze_id=b"\x09" * 16))


def freeze_lifted_in_another_genesis(world: World) -> Bundle:
    """Two admins lifted a freeze of the same id in another organisation."""
    told = Unfreeze(bytes(32), (b"\x01" * 16,), world.now)
    return _thawed(world, _by_two(sign(Kind.UNFREEZE, told.to_json(), seed_of("erin"))))


def freezes_by_two_waited_out(world: World) -> Bundle:
    """Two froze: 72 hours later it still stands."""
    world.freeze("dave")
    world.freeze("bob", b"\x02" * 16)
    world.now += 72 * 3_600 + 1
    return world.spend(world.withdrawal()).bundle()


def _thawed(world: World, unfreeze: Signed) -> Bundle:
    """Return the bundle of a frozen wallet behind an unfreeze."""
    world.freeze()
    world.append(EntryKind.UNFREEZE, Document(unfreeze.digest), unfreeze)
    return world.spend(world.withdrawal()).bundle()


def _unfreeze(world: World, first: str, second: str = "", freeze_id: bytes = b"\x01" * 16) -> Signed:
    signed = sign(Kind.UNFREEZE, Unfreeze(world.genesis.hash, (freeze_id,), world.now).to_json(), seed_of(first))
    return _by_two(signed) if second else signed


def _by_two(signed: Signed) -> Signed:
    return replace(signed, endorsements=(*signed.endorsements, endorse(signed.kind, signed.raw, seed_of("frank"))))


def rules_past_their_end(world: World) -> Bundle:
    """Nobody renewed the rules."""
    world.now = NOW + 30 * DAY
    return world.spend(world.withdrawal()).bundle()


def rules_of_tomorrow(world: World) -> Bundle:
    """What the withdrawal asks to be judged by is not in force yet."""
    return world.spend(world.withdrawal(rules_floor=2)).bundle()


def rules_made_up(world: World) -> Bundle:
    """A rule document under the coordinator's keys: no second pair of eyes."""
    return _loosened(world, by_coordinator(signed_rules(_open_document(world))))


def rules_by_one_admin(world: World) -> Bundle:
    """A rule document that one admin signed, where two and an author are asked for."""
    return _loosened(world, signed_rules(_open_document(world), "erin"))


def rules_by_people_who_are_no_admins(world: World) -> Bundle:
    """A rule document signed by everybody but the admins."""
    return _loosened(world, signed_rules(_open_document(world), "alice", "bob", "carol", "dave"))


def rules_before_their_delay(world: World) -> Bundle:
    """A true loosening, used a second before its wait is over."""
    log_rules(world, signed_rules(_open_document(world)))
    world.now += DAY - 1
    return world.spend(world.withdrawal(LARGE)).bundle()


def rules_dated_back(world: World) -> Bundle:
    """A true loosening that says it began yesterday."""
    begun = {**_open_document(world), "effective_from": NOW - DAY}
    return _loosened(world, signed_rules(begun))


def rules_on_another_version(world: World) -> Bundle:
    """A true loosening of rules that were never in force."""
    other = {**_open_document(world), "prev_hash": "11" * 32}
    log_rules(world, signed_rules(other))
    world.now += DAY
    return world.spend(world.withdrawal(LARGE)).bundle()


def rules_rolled_back(world: World) -> Bundle:
    """The rules were tightened; the coordinator goes on under the older ones."""
    tight = after(document_of(world.genesis), with_rule(rule("closed", "deny", {}, reason_code="CLOSED")))
    spend = world.spend(world.withdrawal())
    index = spend.release()
    log_rules(world, signed_rules(tight))
    return spend.bundle(index)


def rules_that_lost_an_approver(world: World) -> Bundle:
    """Carol left the rules before she said yes."""
    log_rules(world, signed_rules(after(document_of(world.genesis), without_user("carol"))))
    world.now += DAY
    return world.spend(world.withdrawal(LARGE)).approved_by("bob", "carol").bundle()


def _open_document(world: World) -> dict[str, object]:
    return after(document_of(world.genesis), without_rule("two-eyes"))


def _loosened(world: World, signed: Signed) -> Bundle:
    """Return the bundle of what only the rules of `signed` would allow."""
    log_rules(world, signed)
    return world.spend(world.withdrawal(LARGE)).bundle()


def delay_never_begun(world: World) -> Bundle:
    """What the rules delay, without a NOTICE."""
    return _slow(world)


def delay_of_another_withdrawal(world: World) -> Bundle:
    """The NOTICE was of a smaller withdrawal."""
    world.notice(world.withdrawal((EXCHANGE, 1_000), withdrawal_id="w-0"))
    world.now += 3_600
    return _slow(world)


def delay_begun_by_the_coordinator(world: World) -> Bundle:
    """The NOTICE is of a withdrawal in alice's name that alice never signed, and so is the rest."""
    asked = world.withdrawal(SLOW_SIZE, created_at=NOW - 100, expires_at=NOW + 9 * DAY)
    forged = by_coordinator(signed_by_initiator(asked))
    world.append(EntryKind.NOTICE, Notice(asked.digest), forged)
    world.now += 3_600
    spend = world.spend(asked).approved_by("bob", "carol")
    return spend.bundle(spend.release(forged), signatures=spend.signatures("cold"))


def delay_a_second_short(world: World) -> Bundle:
    """An hour less a second."""
    world.notice(world.withdrawal(SLOW_SIZE, created_at=NOW - 100, expires_at=NOW + 9 * DAY))
    world.now += 3_599
    return _slow(world)


def delay_over_by_the_nodes_clock_alone(world: World) -> Story:
    """The node's clock is ahead by minutes; the witnesses' is not, and by that the wait is not over."""
    world.notice(world.withdrawal(SLOW_SIZE, created_at=NOW - 100, expires_at=NOW + 9 * DAY))
    world.now += 3_500
    return replace(in_world(world, _slow(world)), now=world.now + 200)


def _slow(world: World) -> Bundle:
    """Return what the rules delay, approved and signed by the offline node."""
    asked = world.withdrawal(SLOW_SIZE, created_at=NOW - 100, expires_at=NOW + 9 * DAY)
    spend = world.spend(asked).approved_by("bob", "carol")
    return spend.bundle(signatures=spend.signatures("cold"))


def budget_exceeded(world: World) -> Bundle:
    """More than a day's budget at once."""
    return world.spend(world.withdrawal((EXCHANGE, 41_000_000))).approved_by("bob", "carol").bundle()


def budget_spread_over_other_signers(world: World) -> Bundle:
    """Four payments that other signers signed; the fifth is this one's first."""
    for number in range(4):
        asked = world.withdrawal((EXCHANGE, 9_900_000 + number), withdrawal_id=f"w-{number}")
        world.spend(asked, [world.coin(number)], change_index=number).release()
    fifth = world.withdrawal((EXCHANGE, 9_000_000), withdrawal_id="w-5")
    return world.spend(fifth, [world.coin(9)], change_index=5).bundle()


def budget_split_into_many(world: World) -> Bundle:
    """Many small payments in one withdrawal."""
    many = tuple((EXCHANGE + n % 2, 2_050_000 + n) for n in range(20))
    return world.spend(world.withdrawal(*many)).approved_by("bob", "carol").bundle()


def budget_spent_in_fees(world: World) -> Bundle:
    """A small payment with a bound on its fee that the budget does not hold."""
    return world.spend(world.withdrawal(max_fee_sats=Sats(41_000_000))).approved_by("bob", "carol").bundle()


def budget_emptied_by_the_nodes_clock_alone(world: World) -> Story:
    """The day's budget is spent; the node's clock is minutes ahead, so that by it the window would have moved."""
    asked = world.withdrawal((EXCHANGE, 9_900_000), withdrawal_id="w-0", expires_at=NOW + 9 * DAY)
    for number in range(4):
        payment = replace(asked.payments[0], amount_sats=Sats(9_900_000 + number))
        each = replace(asked, withdrawal_id=f"w-{number}", payments=(payment,))
        world.spend(each, [world.coin(number)], change_index=number).release()
    world.now += DAY - 100
    fifth = world.withdrawal((EXCHANGE, 9_000_000), withdrawal_id="w-5", created_at=NOW)
    return replace(in_world(world, world.spend(fifth, [world.coin(9)], change_index=5).bundle()), now=world.now + 200)


def payee_on_no_list(world: World) -> Story:
    """Where the rules allow listed payees alone, another one."""
    listed = rule("pay", "allow", {"wallet": {"names": ["treasury"]}, "destination": {"lists": ["exchanges"]}})
    own = World(make_genesis(listed))
    return in_world(own, own.spend(own.withdrawal((12, 50_000))).bundle())


def signer_that_rules_exclude(world: World) -> Story:
    """The rules say that this node never signs here."""
    own = World(make_genesis(PAY, rule("not-here", "require", {}, {"signers": {"exclude": ["alpha"]}})))
    return in_world(own, own.spend(own.withdrawal()).bundle())


def signer_in_front_of_an_included_one(world: World) -> Story:
    """The rules want beta's signature first."""
    own = World(make_genesis(PAY, rule("beta-too", "require", {}, {"signers": {"include": ["beta"]}})))
    return in_world(own, own.spend(own.withdrawal()).bundle())


def code_never_typed(world: World) -> Story:
    """The rules want a code typed at the signer; the coordinator can type nothing there."""
    own = World(make_genesis(PAY, rule("here", "require", {}, {"local_conf": True})))
    return in_world(own, own.spend(own.withdrawal()).bundle())


def matcher_of_the_coordinator(world: World) -> Story:
    """A rule whose fact only the coordinator knows allows nothing at a signer."""
    weekend = rule("pay", "allow", {"wallet": {"names": ["treasury"]}, "time": {"days": ["sun"]}})
    own = World(make_genesis(weekend))  # it is a Friday
    return in_world(own, own.spend(own.withdrawal()).bundle())


LIES = (
    Lie(frozen, NOT_FROZEN, "FROZEN", (98,)),
    Lie(frozen_since_the_signature, "A repeat is judged again in full", "FROZEN", (98, 117)),
    Lie(freeze_hidden, HELD, "FROZEN", (98, 122)),
    Lie(freeze_lifted_by_one, LISTS_IDS, "FROZEN", (91,)),
    Lie(freeze_lifted_by_the_coordinator, LISTS_IDS, "FROZEN", (91,)),
    Lie(freeze_lifted_under_another_id, LISTS_IDS, "FROZEN", (91,)),
    Lie(freeze_lifted_in_another_genesis, LISTS_IDS, "FROZEN", (86,)),
    Lie(freezes_by_two_waited_out, "One person's freeze lapses after 72 h unless a second joins", "FROZEN", (90,)),
    Lie(rules_past_their_end, EXPIRED, "RULES_EXPIRED", (91,)),
    Lie(rules_of_tomorrow, FLOOR, "RULES_FLOOR", (91,)),
    Lie(rules_made_up, REPLACES, "APPROVALS_MISSING", (91, 93)),
    Lie(rules_by_one_admin, REPLACES, "APPROVALS_MISSING", (91,)),
    Lie(rules_by_people_who_are_no_admins, REPLACES, "APPROVALS_MISSING", (91,)),
    Lie(rules_before_their_delay, CURRENT, "APPROVALS_MISSING", (91, 93)),
    Lie(rules_dated_back, CURRENT, "APPROVALS_MISSING", (90, 91)),
    Lie(rules_on_another_version, PREVIOUS, "APPROVALS_MISSING", (91,)),
    Lie(rules_rolled_back, "pending withdrawals are judged under the newest rules", "CLOSED", (91, 93)),
    Lie(rules_that_lost_an_approver, FLOOR, "RELEASE_INADMISSIBLE", (87, 93)),
    Lie(delay_never_begun, NOTICES, "DELAY_NOT_STARTED", (99,)),
    Lie(delay_of_another_withdrawal, NOTICES, "DELAY_NOT_STARTED", (99,)),
    Lie(delay_begun_by_the_coordinator, NOTICES, "RELEASE_INADMISSIBLE", (99,)),
    Lie(delay_a_second_short, BY_LO, "DELAY_RUNNING", (90, 99)),
    Lie(delay_over_by_the_nodes_clock_alone, BY_LO, "DELAY_RUNNING", (90,)),
    Lie(budget_exceeded, ALLOW, "LIMIT_EXCEEDED", (88,)),
    Lie(budget_spread_over_other_signers, SPREADING, "LIMIT_EXCEEDED", (88, 89)),
    Lie(budget_split_into_many, ALLOW, "LIMIT_EXCEEDED", (88,)),
    Lie(budget_spent_in_fees, FAMILY, "LIMIT_EXCEEDED", (33, 88)),
    Lie(budget_emptied_by_the_nodes_clock_alone, BY_LO, "LIMIT_EXCEEDED", (88, 90)),
    Lie(payee_on_no_list, ALLOW, "NO_RULE_ALLOWS", (42,)),
    Lie(signer_that_rules_exclude, "required signatures form a fixed order", "SIGNER_EXCLUDED", (69,)),
    Lie(signer_in_front_of_an_included_one, "then `include` by key, then the rest", "INCLUDED_FIRST", (69,)),
    Lie(code_never_typed, ALLOW, "LOCAL_CONF_MISSING", (100,)),
    Lie(matcher_of_the_coordinator, ALLOW, "NO_RULE_ALLOWS", (90,)),
)

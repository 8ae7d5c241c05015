"""Taking back a rule document that waits: docs/governance.md, sentence by sentence, over a real log."""

from __future__ import annotations

import pytest

from custody.errors import Refused
from custody.governing import successor_of
from custody.held import check_posted, is_moot
from custody.policy import policy_hash
from custody.rule_entry import rule_fits, standing_of
from custody.statements import Kind, Signed, sign
from custody.voiding import Void, void_stands
from tests.fakes.rules import DAY, NOW, PAY, rule, seed_of
from tests.governing import after, document_of, log_rules, signed_rules, with_rule, without_rule
from tests.later import log_document, void_of
from tests.unit.test_governing import at, versions
from tests.world import World, make_genesis

FEW = rule("few", "require", {}, {"approvals": {"group": "ops", "threshold": 1}})
OPEN = rule("open", "allow", {"amount": {"max_sats": 2_000_000_000}})
GENESIS = make_genesis(PAY, FEW)
FIRST = document_of(GENESIS)
LOOSER = after(FIRST, without_rule("few"))
LOOSER_HASH = policy_hash(LOOSER)


def waiting() -> World:
    """Return a log in which a loosening waits."""
    world = World(GENESIS)
    log_rules(world, signed_rules(LOOSER))
    assert versions(at(world, NOW)) == (1, [NOW + DAY])
    return world


def test_void_by_the_quorum_takes_the_document_back_at_once() -> None:
    """The rules stay as they are, for ever, and nothing waits any more."""
    world = waiting()

    log_document(world, void_of(GENESIS, LOOSER_HASH))

    assert versions(at(world, NOW)) == (1, [])
    assert versions(at(world, NOW + 30 * DAY - 1)) == (1, [])


def test_void_leaves_other_documents_that_wait() -> None:
    """It names one document."""
    world = waiting()
    log_rules(world, signed_rules(after(FIRST, with_rule(OPEN), effective_from=NOW + 2 * DAY)))

    log_document(world, void_of(GENESIS, LOOSER_HASH))

    assert versions(at(world, NOW)) == (1, [NOW + 2 * DAY])


def test_voided_document_logged_again_stays_dead() -> None:
    """Its signatures still hold; a coordinator that logs it again gains nothing, not even a new delay."""
    world = waiting()
    log_document(world, void_of(GENESIS, LOOSER_HASH))

    log_rules(world, signed_rules(LOOSER))

    found = successor_of(world.state().rules, GENESIS, signed_rules(LOOSER), NOW)
    assert isinstance(found, Refused)
    assert found.code == "RULES_VOIDED"
    assert versions(at(world, NOW + DAY)) == (1, [])


def test_void_names_the_version_alone_so_the_next_document_may_say_the_same() -> None:
    """Whoever wants it after all writes another document, with another date."""
    world = waiting()
    log_document(world, void_of(GENESIS, LOOSER_HASH))

    log_rules(world, signed_rules(after(FIRST, without_rule("few"), effective_from=NOW)))

    assert versions(at(world, NOW)) == (1, [NOW + DAY])


def test_void_that_comes_when_the_document_took_effect_changes_nothing() -> None:
    """From the second at which it is due it is the version in force: only another version ends it."""
    world = waiting()
    world.now = NOW + DAY

    log_document(world, void_of(GENESIS, LOOSER_HASH))

    assert versions(at(world, NOW + DAY)) == (2, [])


def test_void_one_second_before_it_is_due_still_counts() -> None:
    """T of the void decides."""
    world = waiting()
    world.now = NOW + DAY - 1

    log_document(world, void_of(GENESIS, LOOSER_HASH))

    assert versions(at(world, NOW + 2 * DAY)) == (1, [])


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (void_of(GENESIS, LOOSER_HASH, "erin", "frank"), "RULES_QUORUM"),
        (void_of(GENESIS, LOOSER_HASH, "alice", "bob", "carol", "dave"), "RULES_QUORUM"),
        (void_of(GENESIS, bytes(32)), "VOID_NOTHING"),
        (void_of(GENESIS, GENESIS.policy.hash), "VOID_NOTHING"),
        (void_of(make_genesis(PAY), LOOSER_HASH), "GENESIS_OTHER"),
        (sign(Kind.VOID, {"rules": LOOSER_HASH.hex()}, seed_of("erin")), "FIELD_MISSING"),
        (sign(Kind.MESSAGE, Void(GENESIS.hash, LOOSER_HASH, NOW).to_json(), seed_of("erin")), "STATEMENT_KIND"),
    ],
)
def test_void_that_may_not_changes_nothing(signed: Signed, code: str) -> None:
    """By too few, by others, of nothing, of the rules in force, under another genesis, of another form."""
    world = waiting()

    found = void_stands(world.state().rules, GENESIS.hash, signed, NOW)
    if signed.kind is Kind.VOID and code != "FIELD_MISSING":
        log_document(world, signed)

    assert isinstance(found, Refused)
    assert found.code == code
    assert versions(at(world, NOW)) == (1, [NOW + DAY])


def test_void_posted_is_held_until_the_log_has_it() -> None:
    """No coordinator can leave it out: witnesses hold it like a rule document."""
    world = waiting()
    void = void_of(GENESIS, LOOSER_HASH)
    assert check_posted(world.state(), void, NOW) is None
    assert not is_moot(world.state(), void, NOW)
    log_document(world, void)
    assert is_moot(world.state(), void, NOW)
    refused = rule_fits(world.state(), void)
    assert refused is not None
    assert refused.code == "VOID_NOTHING"


def test_standing_of_given_a_void_asks_the_change_quorum() -> None:
    """Lists and people may have quorums of their own; taking back is the admins'."""
    world = waiting()

    standing = standing_of(world.state(), void_of(GENESIS, LOOSER_HASH, "erin"), NOW)

    assert (standing.groups, standing.have, standing.missing) == (("admins",), ("erin",), ("frank", "grace"))


def test_state_given_malformed_void_in_the_log_is_followed_all_the_same() -> None:
    """What cannot be read counts nothing, and stops nobody from following."""
    world = waiting()

    log_document(world, sign(Kind.VOID, {"rules": "00"}, seed_of("erin")))

    assert versions(at(world, NOW)) == (1, [NOW + DAY])

"""Following rule documents: protocol.md "Rules, freeze", sentence by sentence, over a real log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from custody.audit import cosign, with_lines
from custody.entries import StopCause
from custody.errors import IntegrityError, Refused
from custody.follow import State, advance, governed, in_force, open_under, settled, start, time_of
from custody.governing import PENDING_EXPIRY_S, follows, missing_signatures, successor_of
from custody.policy import parse_policy
from custody.statements import Kind, sign
from signer_node.judge import Judged, Moment, Pinned, judge
from tests.fakes.rules import DAY, NOW, PAY, Document, key_of, principal, rule, seed_of
from tests.governing import (
    ADMINS,
    CLOSED,
    OPEN_ALL,
    Edit,
    after,
    document_of,
    log_rules,
    signed_rules,
    user_of,
    with_rule,
    without_rule,
    without_user,
)
from tests.watchers import genesis_with
from tests.world import World, book_of, make_genesis

FEW = rule("few", "require", {}, {"approvals": {"group": "ops", "threshold": 1}})
GENESIS = make_genesis(PAY, FEW)
FIRST = document_of(GENESIS)


def at(world: World, now: int) -> State:
    """Return the rules of the whole log as they are at `now`."""
    return in_force(world.state(), now)


def judged(world: World, bundle: Any, now: int) -> str:
    """Return the code with which node alpha refuses `bundle`, "" where it may sign."""
    found: Judged = judge(
        bundle, Pinned(world.genesis, "alpha"), start(world.genesis), Moment(now, now), (), book_of(world.wallet)
    )
    return found.outcome.code if isinstance(found.outcome, Refused) else ""


def versions(state: State) -> tuple[int, list[int]]:
    """Return the version in force, and when those that wait are due."""
    return state.policy.version, [waiting.due for waiting in state.rules.waiting]


def test_rule_that_tightens_takes_effect_at_its_index() -> None:
    """Tightening is at once: the very next release is judged by it."""
    world = World(GENESIS)
    before = world.spend(world.withdrawal()).approved_by("bob")
    assert judged(world, before.bundle(), NOW) == ""

    log_rules(world, signed_rules(after(FIRST, with_rule(CLOSED))))

    assert versions(at(world, NOW)) == (2, [])
    assert (
        judged(world, world.spend(world.withdrawal(withdrawal_id="w-2")).approved_by("bob").bundle(), NOW) == "CLOSED"
    )


def test_rule_that_loosens_waits_the_current_delay_from_its_t() -> None:
    """The delay of the version in effect counts, not that of the document, and runs from T."""
    world = World(GENESIS)
    eager = {**FIRST["admin"], "loosen_delay_s": 0}

    log_rules(world, signed_rules(after(FIRST, without_rule("few"), admin=eager)))

    assert versions(at(world, NOW + DAY - 1)) == (1, [NOW + DAY])
    assert versions(at(world, NOW + DAY)) == (2, [])


def test_rule_that_waits_changes_no_judgement_before_it_is_due() -> None:
    """One second before the end of the delay the old rules judge; then the new ones."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, without_rule("few"))))
    for now, code in ((NOW + DAY - 1, "APPROVALS_MISSING"), (NOW + DAY, "")):
        world.now = now
        bundle = world.spend(world.withdrawal((11, now % 9_999), withdrawal_id=f"w-{now}")).bundle()
        assert judged(world, bundle, now) == code


def test_rule_backdated_takes_effect_no_earlier() -> None:
    """effective_from of yesterday does not shorten the wait: an earlier start loosens by itself."""
    world = World(GENESIS)
    past = FIRST["effective_from"] - 1

    log_rules(world, signed_rules(after(FIRST, effective_from=past)))

    assert versions(at(world, NOW)) == (1, [NOW + DAY])


def test_rule_dated_ahead_waits_for_its_date() -> None:
    """effective_from can put off what loosens."""
    world = World(GENESIS)

    log_rules(world, signed_rules(after(FIRST, without_rule("few"), effective_from=NOW + 2 * DAY)))

    assert versions(at(world, NOW + DAY)) == (1, [NOW + 2 * DAY])


@pytest.mark.parametrize(
    ("effective_from", "counts"),
    [
        (NOW - PENDING_EXPIRY_S, False),
        (NOW - PENDING_EXPIRY_S + 1, True),
        (NOW + DAY + PENDING_EXPIRY_S - 1, True),
        (NOW + DAY + PENDING_EXPIRY_S, False),
    ],
)
def test_rule_that_loosens_dated_a_week_off_counts_nothing(effective_from: int, counts: bool) -> None:
    """A change that nobody carried through within seven days is dead, one that lies far ahead is not taken."""
    genesis = make_genesis(PAY, FEW, effective_from=NOW - 30 * DAY)
    world = World(genesis)

    log_rules(world, signed_rules(after(document_of(genesis), without_rule("few"), effective_from=effective_from)))

    assert bool(world.state().rules.waiting) is counts


def test_first_to_take_effect_kills_all_others_of_the_same_prev_hash() -> None:
    """Two signed version 2s: the one that is due first wins, whatever stands first in the log."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, with_rule(OPEN_ALL), effective_from=NOW + 2 * DAY)))
    log_rules(world, signed_rules(after(FIRST, without_rule("few"))))

    assert versions(at(world, NOW))[1] == [NOW + DAY, NOW + 2 * DAY]
    later = at(world, NOW + 5 * DAY)
    assert versions(later) == (2, [])
    assert [rule.id for rule in later.policy.rules] == ["pay"]


def test_pending_loosening_never_blocks_an_emergency_tightening() -> None:
    """A pending one holds no number: the tightening takes version 2 at once and kills it."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, without_rule("few"))))
    log_rules(world, signed_rules(after(FIRST, with_rule(CLOSED))))

    assert versions(at(world, NOW + 5 * DAY)) == (2, [])
    assert {rule.id for rule in at(world, NOW + 5 * DAY).policy.rules} == {"pay", "few", "closed"}


def test_follower_of_a_version_that_took_effect_by_time_continues_it() -> None:
    """prev_hash names the version in effect at its own T: a loosening that became due meanwhile is what it follows."""
    world = World(GENESIS)
    second = after(FIRST, without_rule("few"))
    log_rules(world, signed_rules(second))
    third = signed_rules(after(second, with_rule(CLOSED)))
    log_rules(world, third)
    assert versions(at(world, NOW)) == (1, [NOW + DAY])  # too early: nothing follows version 2 yet

    world.now = NOW + DAY
    log_rules(world, third)
    assert versions(at(world, NOW + DAY)) == (3, [])


REFUSED: dict[str, tuple[tuple[Edit, ...], dict[str, Any], tuple[str, ...], str]] = {
    "the same version": ((), {"version": 1, "prev_hash": "00" * 32}, ADMINS, "RULES_VERSION"),
    "a version left out": ((), {"version": 3}, ADMINS, "RULES_VERSION"),
    "another predecessor": ((), {"prev_hash": "11" * 32}, ADMINS, "RULES_PREV"),
    "another policy": ((), {"policy_id": "other"}, ADMINS, "RULES_OTHER"),
    "another network": ((), {"network": "signet", "lists": []}, ADMINS, "RULES_OTHER"),
    "one admin": ((), {}, ("erin",), "RULES_QUORUM"),
    "two admins, one of them its author": ((), {}, ("erin", "frank"), "RULES_QUORUM"),
    "people who are no admins": ((), {}, ("alice", "bob", "carol", "dave"), "RULES_QUORUM"),
    "keys that only the new document names": (
        (
            lambda f: f["principals"]["users"].extend(
                principal(n, "acme", ["admins"]) for n in ("new1", "new2", "new3")
            ),
        ),
        {},
        ("new1", "new2", "new3"),
        "RULES_QUORUM",
    ),
    "a quorum that it lowers for itself": (
        (lambda f: f["admin"]["change_quorum"].update(threshold=1, exclude_author=False),),
        {},
        ("erin",),
        "RULES_QUORUM",
    ),
    "a word it does not know": ((), {"bypass": True}, ADMINS, "FIELD_UNKNOWN"),
    "a longer life than rules may have": ((), {"not_after": NOW + 365 * DAY}, ADMINS, "POLICY_DATES"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rule_that_may_not_follow_counts_nothing(name: str) -> None:
    """It stays in the log, by code, and changes neither rules nor what waits."""
    edits, changes, people, code = REFUSED[name]
    signed = signed_rules(after(FIRST, *edits, **changes), *people)
    world = World(GENESIS)

    found = successor_of(world.state().rules, GENESIS, signed, NOW)
    log_rules(world, signed)

    assert isinstance(found, Refused)
    assert found.code == code
    assert versions(at(world, NOW + 30 * DAY - 1)) == (1, [])


def test_successor_given_another_kind_of_statement_refuses() -> None:
    """A rule document is of its own kind."""
    found = successor_of(start(GENESIS).rules, GENESIS, sign(Kind.MESSAGE, FIRST, seed_of("erin")), NOW)

    assert isinstance(found, Refused)
    assert found.code == "STATEMENT_KIND"


def test_signatures_are_verified_again_when_the_quorum_is_complete() -> None:
    """An admin who left office before the last one signed does not count."""
    leaving = make_genesis(PAY, principals=_ending(document_of(GENESIS), "grace", NOW + 100))
    signed = signed_rules(after(document_of(leaving), with_rule(CLOSED)))

    assert missing_signatures(leaving.policy, signed, NOW + 99) == 0
    assert missing_signatures(leaving.policy, signed, NOW + 100) == 1


def _ending(found: Document, name: str, valid_until: int) -> Document:
    user_of(found, name)["valid_until"] = valid_until
    principals: Document = found["principals"]
    return principals


def test_expired_rules_sign_nothing_but_their_admins_renew_them() -> None:
    """Past not_after everything is refused; a successor still verifies, and waits."""
    world = World(GENESIS)
    world.now = expired = FIRST["not_after"]
    log_rules(world, signed_rules(after(FIRST, effective_from=expired, not_after=expired + 80 * DAY)))

    assert versions(at(world, expired)) == (1, [expired + DAY])
    bundle = world.spend(world.withdrawal(expires_at=expired + 9 * DAY)).approved_by("bob").bundle()
    assert judged(world, bundle, expired) == "RULES_EXPIRED"
    world.now = expired + DAY
    bundle = world.spend(world.withdrawal((11, 60_000), withdrawal_id="w-2")).approved_by("bob").bundle()
    assert judged(world, bundle, world.now) == ""


def test_extending_not_after_alone_while_unexpired_waits_for_nothing() -> None:
    """Until the last second of the old rules."""
    for ends, waits in ((FIRST["not_after"] - 1, False), (FIRST["not_after"], True)):
        world = World(GENESIS)
        world.now = ends
        log_rules(world, signed_rules(after(FIRST, effective_from=ends, not_after=ends + 90 * DAY)))
        assert bool(world.state().rules.waiting) is waits
        assert at(world, ends).policy.version == (1 if waits else 2)


def test_old_approval_by_a_revoked_key_is_refused_under_the_newest_rules() -> None:
    """A release that counted under version 1 is judged again under version 2 before anything is signed."""
    world = World(GENESIS)
    bundle_of = world.spend(world.withdrawal()).approved_by("bob")
    index = bundle_of.release()
    assert judged(world, bundle_of.bundle(index), NOW) == ""

    log_rules(world, signed_rules(after(FIRST, lambda f: user_of(f, "bob")["groups"].remove("ops"))))

    assert judged(world, bundle_of.bundle(index), NOW) == "APPROVALS_MISSING"
    assert [released.index for released in world.state().releases] == [index]  # it was made: budgets still count it


def test_lost_key_counts_nothing_once_its_document_is_in_effect() -> None:
    """One document, and neither what it asks nor what it approves counts; the person's other key goes on."""
    world = World(GENESIS)
    spare = {"alg": "ed25519", "key": key_of("bob's spare").hex(), "seen": True}
    log_rules(world, signed_rules(after(FIRST, lambda f: user_of(f, "bob").update(credentials=[spare]))))
    lost = world.spend(world.withdrawal()).approved_by("bob")
    assert judged(world, lost.bundle(), NOW) == ""  # it waits, since whoever rejects with the key could lose it so

    world.now = NOW + DAY
    world.notice(world.withdrawal(withdrawal_id="w-0"))

    assert judged(world, world.spend(world.withdrawal((11, 70_000))).approved_by("bob").bundle(), world.now) == (
        "RELEASE_INADMISSIBLE"
    )
    named = world.state().policy.principal("bob")
    assert named is not None
    assert [credential.key for credential in named.credentials] == [key_of("bob's spare")]


def test_leaver_is_revoked_everywhere_in_one_document() -> None:
    """Once it is in effect his key neither asks nor approves nor stops anything."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, without_user("alice"))))
    world.now = NOW + DAY
    world.notice(world.withdrawal(withdrawal_id="w-0"))  # its T moves the rules on

    stopped = world.withdrawal(initiator="carol")
    world.stop(stopped, "alice")
    assert world.state().stops == ()
    asked = world.spend(world.withdrawal()).approved_by("bob").bundle()
    assert judged(world, asked, world.now) == "RELEASE_INADMISSIBLE"
    approved = world.spend(world.withdrawal(initiator="carol", withdrawal_id="w-2")).approved_by("alice").bundle()
    assert judged(world, approved, world.now) == "RELEASE_INADMISSIBLE"


def test_frozen_stays_frozen_when_the_rules_change() -> None:
    """A new version lifts no freeze, not even of one who is no longer listed."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, without_user("dave"))))
    world.freeze("dave")
    world.freeze("bob", freeze_id=b"\x02" * 16)
    world.now = NOW + DAY
    world.notice(world.withdrawal())

    assert world.state().policy.principal("dave") is None
    assert world.state().is_frozen(NOW + 30 * DAY)


def test_rules_floor_is_met_by_the_newest_version() -> None:
    """A withdrawal that asks for version 2 is refused until version 2 is in effect."""
    world = World(GENESIS)
    asked = world.spend(world.withdrawal(rules_floor=2)).approved_by("bob")
    assert judged(world, asked.bundle(), NOW) == "RULES_FLOOR"

    tight = rule("x", "deny", {"amount": {"min_sats": 900_000_000}})
    log_rules(world, signed_rules(after(FIRST, with_rule(tight))))

    again = world.spend(world.withdrawal((11, 60_000), rules_floor=2, withdrawal_id="w-2")).approved_by("bob")
    assert judged(world, again.bundle(), NOW) == ""


def rotated(world: World) -> Document:
    """Log a version 2 with another log key and witness, and return it."""
    roots = {
        **FIRST["roots"],
        "log_key": key_of("log2").hex(),
        "witnesses": [{"name": "witness2", "key": key_of("witness2").hex()}],
    }
    second = after(FIRST, roots=roots)
    log_rules(world, signed_rules(second))
    return second


def switch(world: World) -> None:
    """Let the log holder use the new log key and witness from here on."""
    world.log_seed, world.witness = seed_of("log2"), ("witness2", seed_of("witness2"))


def test_log_key_and_witness_rotate_by_a_rule_document() -> None:
    """Checkpoints before it is due verify under the old keys, from then on under the new ones; the origin stays."""
    world = World(GENESIS)
    rotated(world)
    world.notice(world.withdrawal())
    old_note = world.cosigned()
    world.now = NOW + DAY
    switch(world)
    bundle = world.spend(world.withdrawal(withdrawal_id="w-2")).approved_by("bob").bundle()

    assert judged(world, bundle, world.now) == ""
    part = world.entries[: len(world.entries) - 1]
    assert advance(start(GENESIS), part[:4], world.statements, world.cosigned(size=4)).policy.version == 1
    assert old_note.split("\n")[0] == world.cosigned().split("\n")[0]


@pytest.mark.parametrize(
    ("switched", "at_s", "code"),
    [(False, DAY - 1, ""), (False, DAY, "CHECKPOINT_RULES"), (True, DAY, ""), (True, DAY - 1, "CHECKPOINT_RULES")],
)
def test_checkpoint_of_another_time_than_its_keys_is_refused(switched: bool, at_s: int, code: str) -> None:
    """Old keys vouch for nothing from the second of the change on, new ones for nothing before it."""
    world = World(GENESIS)
    rotated(world)
    world.notice(world.withdrawal())
    state = advance(start(GENESIS), world.entries, world.statements, world.cosigned())
    if switched:
        switch(world)

    note = world.cosigned(at=NOW + at_s)
    if code:
        with pytest.raises(IntegrityError) as found:
            open_under(state, note)
        assert found.value.code == code
    else:
        vouched, cosigned = open_under(state, note)
        assert vouched.policy.version == (2 if switched else 1)
        assert settled(vouched, time_of(cosigned)).size == len(world.entries)


def test_governed_judges_by_a_document_in_the_tail_without_settling_it() -> None:
    """A witness judges what is posted under what its log holds already; the tail keeps waiting for its T."""
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, with_rule(CLOSED))))
    state = advance(start(GENESIS), world.entries, world.statements, world.cosigned())

    assert state.policy.version == 1
    assert governed(state, NOW).policy.version == 2
    assert len(governed(state, NOW).tail) == 1


def test_freeze_and_stop_by_who_came_with_rules_that_just_began_count() -> None:
    """On a quiet day nothing in the log moved the rules on yet: the freeze's own checkpoint does."""
    world = World(GENESIS)
    zoe = principal("zoe", "acme", ["security"])
    log_rules(world, signed_rules(after(FIRST, lambda f: f["principals"]["users"].append(zoe))))
    world.now = NOW + DAY
    world.freeze("zoe")
    asked = world.withdrawal()
    world.stop(asked, "zoe", StopCause.REJECT)

    assert [freeze.by for freeze in world.state().freezes] == ["zoe"]
    assert world.state().is_stopped(asked) is not None

    early = World(GENESIS)
    log_rules(early, signed_rules(after(FIRST, lambda f: f["principals"]["users"].append(zoe))))
    early.now = NOW + DAY - 1
    early.freeze("zoe")
    assert early.state().freezes == ()


class LyingWorld(World):
    """Two honest witnesses, and one whose clock says what it likes. ahead_s: by how much."""

    ahead_s = 0

    def cosigned(self, at: int | None = None, size: int | None = None) -> str:
        """Return the checkpoint with the lines of all three."""
        note = with_lines(super().cosigned(at, size), ())
        bare = "\n".join(line for line in note.split("\n") if not line.startswith("\u2014 w"))
        times = {"w1": self.now, "w2": self.now, "w3": self.now + self.ahead_s}
        return with_lines(bare, [cosign(bare, name, seed_of(name), when) for name, when in times.items()])


def test_one_lying_witness_ends_no_delay_early() -> None:
    """A loosening takes effect by the oldest counted time, so one witness that runs ahead moves nothing."""
    genesis = genesis_with(3, 2, 0, PAY, FEW)
    world = LyingWorld(genesis, witness=("w1", seed_of("w1")))
    log_rules(world, signed_rules(after(document_of(genesis), without_rule("few"))))
    world.notice(world.withdrawal())
    world.ahead_s = 2 * DAY
    world.notice(world.withdrawal(withdrawal_id="w-2"))
    world.notice(world.withdrawal(withdrawal_id="w-3"))

    assert versions(world.state()) == (1, [NOW + DAY])
    world.now = NOW + DAY
    world.notice(world.withdrawal(withdrawal_id="w-4"))
    world.notice(world.withdrawal(withdrawal_id="w-5"))
    assert versions(world.state()) == (2, [])


def test_admin_who_saw_nothing_does_not_count() -> None:
    """A blind credential never signs rules (protocol.md "Approval")."""
    genesis = make_genesis(PAY, principals=_blind(document_of(GENESIS), "grace"))

    assert missing_signatures(genesis.policy, signed_rules(after(document_of(genesis), with_rule(CLOSED))), NOW) == 1


def _blind(found: Document, name: str) -> Document:
    user_of(found, name)["credentials"][0]["seen"] = False
    principals: Document = found["principals"]
    return principals


def test_document_logged_twice_waits_from_its_first_entry() -> None:
    """Repeating a document does not put off when it takes effect."""
    world = World(GENESIS)
    signed = signed_rules(after(FIRST, without_rule("few")))
    log_rules(world, signed)
    world.now = NOW + 100
    log_rules(world, signed)

    assert versions(world.state()) == (1, [NOW + DAY])


def test_follows_given_the_next_version_has_nothing_to_say() -> None:
    """The one valid successor."""
    assert follows(GENESIS.policy, parse_policy(after(FIRST))) is None


def test_every_version_that_was_in_force_is_kept() -> None:
    """Auditors and consoles read what was in force before."""
    world = World(GENESIS)
    second = after(FIRST, with_rule(CLOSED))
    log_rules(world, signed_rules(second))
    log_rules(world, signed_rules(after(second, with_rule({**CLOSED, "id": "closed-2"}))))

    assert [policy.version for policy in world.state().rules.versions] == [1, 2, 3]
    assert replace(world.state().rules, past=()).versions == (world.state().policy,)

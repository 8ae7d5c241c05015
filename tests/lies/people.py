"""Lies about who asked, who agreed and who said no (protocol.md "Withdrawal", "Approval"; step 5)."""

from __future__ import annotations

from dataclasses import replace

from custody.approval import Approval, Decision
from custody.bundle import Bundle
from custody.entries import StopCause, StopStatement
from custody.statements import Kind, Signed, sign
from custody.units import Sats
from custody.withdrawal import Payment
from tests.fakes.rules import DAY, address, seed_of
from tests.lies.told import Lie, Story, by_coordinator, in_world
from tests.world import EXCHANGE, Spend, World, signed_by_initiator

LARGE, COLD_SIZE = (EXCHANGE, 15_000_000), (EXCHANGE, 25_000_000)
CARRIES = "The coordinator only carries it: it can neither mint nor copy one"
RIGHT = (
    "Initiator's signature; approvals: right digest, valid, distinct people, in date, seen or blind as the rule asks"
)
VOTE = "One human, one vote; the initiator never counts; reject is final"
DATES = "Valid until min(own, rules' lifetime, withdrawal's), judged at T(RELEASE)"
SEEN = "`approvals` defaults to seen >= 1"
EQUAL = "every field recomputed from the bytes before me and equal"
STOPPED = "no admissible STOP for this withdrawal"
FIRST = "A node signs only when the bundle holds valid signatures, over THIS transaction on every input, for everything"
HELD = "takes over what it holds"


def with_people(world: World, spend: Spend, *approvals: Signed, named: tuple[Signed, ...] | None = None) -> Bundle:
    """Return a bundle with these approvals, behind a RELEASE that names them, or `named`."""
    told = approvals if named is None else named
    index = replace(spend, people=()).release(*told, approvals=tuple(signed.digest for signed in told))
    return spend.bundle(index, approvals=approvals)


def said(spend: Spend, person: str, signer: str = "", **changes: object) -> Signed:
    """Return an approval of `spend` by `person`, with changes, made with the key of `signer`."""
    asked, now = spend.asked, spend.world.now
    base = Approval(asked.genesis, asked.digest, Decision.APPROVE, person, now - 50, now + DAY)
    return sign(Kind.APPROVAL, replace(base, **changes).to_json(), seed_of(signer or person))  # type: ignore[arg-type]


def withdrawal_made_up(world: World) -> Bundle:
    """A withdrawal in alice's name, under a key of the coordinator's own."""
    spend = world.spend(world.withdrawal())
    forged = by_coordinator(signed_by_initiator(spend.asked))
    index = spend.release(forged)
    return spend.bundle(index, withdrawal=forged)


def withdrawal_forged_behind_a_true_release(world: World) -> Bundle:
    """The log has alice's own statement, the bundle one with the same words under another signature."""
    spend = world.spend(world.withdrawal())
    return spend.bundle(withdrawal=by_coordinator(signed_by_initiator(spend.asked)))


def withdrawal_grown(world: World) -> Bundle:
    """The amount of a signed withdrawal raised, under its old signature."""
    asked = world.withdrawal()
    grown = replace(asked, payments=(Payment(address(EXCHANGE), Sats(9_000_000)),))
    signed = replace(signed_by_initiator(grown), endorsements=signed_by_initiator(asked).endorsements)
    spend = world.spend(grown)
    index = spend.release(signed)
    return spend.bundle(index, withdrawal=signed)


def withdrawal_copied(world: World) -> Bundle:
    """The same payment under a new id, with the signature of the old one."""
    asked = world.withdrawal()
    copy = replace(asked, withdrawal_id="w-copy")
    signed = replace(signed_by_initiator(copy), endorsements=signed_by_initiator(asked).endorsements)
    spend = world.spend(copy)
    index = spend.release(signed)
    return spend.bundle(index, withdrawal=signed)


def initiator_of_no_rules(world: World) -> Bundle:
    """Signed well, by somebody whom no rules know."""
    return world.spend(world.withdrawal(initiator="mallory")).bundle()


def initiator_renamed(world: World) -> Bundle:
    """Bob is named as the one who asks, so that alice may approve; the signature is alice's."""
    asked = replace(world.withdrawal(*(LARGE,)), initiator="bob")
    signed = sign(Kind.WITHDRAWAL, asked.to_json(), seed_of("alice"))
    spend = world.spend(asked)
    approvals = (said(spend, "alice"), said(spend, "carol"))
    index = spend.release(signed, *approvals, approvals=tuple(a.digest for a in approvals))
    return spend.bundle(index, withdrawal=signed, approvals=approvals)


def withdrawal_past_its_end(world: World) -> Bundle:
    """What alice asked for ended this second."""
    return world.spend(world.withdrawal(created_at=world.now - DAY, expires_at=world.now)).bundle()


def withdrawal_past_its_end_by_a_clock_set_back(world: World) -> Story:
    """The node's clock is set back behind the end that it has seen pass."""
    asked = world.withdrawal(expires_at=world.now + 50)
    spend = world.spend(asked)
    index = spend.release()
    late = World(world.genesis, world.now + 60, world.entries, world.statements, world.covering)
    other = late.spend(late.withdrawal((EXCHANGE, 60_000), withdrawal_id="w-2"), (late.coin(1),), change_index=1)
    first = other.bundle()
    again = Spend(late, asked, spend.psbt).bundle(index)
    return replace(in_world(late, again, first), now=world.now)


def approvals_missing(world: World) -> Bundle:
    """One of the two whom the rules ask for."""
    return world.spend(world.withdrawal(LARGE)).approved_by("bob").bundle()


def approvals_of_another_withdrawal(world: World) -> Bundle:
    """What people said of one withdrawal, used for the next."""
    first = world.spend(world.withdrawal(LARGE)).approved_by("bob", "carol")
    return with_people(world, world.spend(world.withdrawal(LARGE, withdrawal_id="w-2")), *first.approvals)


def approvals_made_up(world: World) -> Bundle:
    """Both approvals signed by a key of the coordinator's own."""
    spend = world.spend(world.withdrawal(LARGE)).approved_by("bob", "carol")
    return with_people(world, spend, *(by_coordinator(signed) for signed in spend.approvals))


def approvals_made_up_behind_a_true_release(world: World) -> Bundle:
    """The log has what people said, the bundle the same words under another key."""
    spend = world.spend(world.withdrawal(LARGE)).approved_by("bob", "carol")
    return spend.bundle(approvals=tuple(by_coordinator(signed) for signed in spend.approvals))


def approval_by_the_initiator(world: World) -> Bundle:
    """Alice asks and agrees with herself."""
    return world.spend(world.withdrawal(LARGE)).approved_by("alice", "bob").bundle()


def approval_counted_twice(world: World) -> Bundle:
    """Bob said yes twice, a second apart."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "bob", at=world.now - 49))


def approval_in_anothers_name(world: World) -> Bundle:
    """Bob's key under carol's name."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "carol", signer="bob"))


def approval_by_a_stranger(world: World) -> Bundle:
    """Somebody whom no rules know."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "mallory"))


def approval_of_another_group(world: World) -> Bundle:
    """An admin, where the rules ask for ops."""
    return world.spend(world.withdrawal(LARGE)).approved_by("bob", "erin").bundle()


def approval_past_its_end(world: World) -> Bundle:
    """An approval that ended before the release."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "carol", expires_at=world.now))


def approval_of_tomorrow(world: World) -> Bundle:
    """An approval that says it is made later than the release."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "carol", at=world.now + 100))


def approval_that_says_no(world: World) -> Bundle:
    """A reject counted as a yes."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "carol", decision=Decision.REJECT))


def approvals_that_saw_nothing(world: World) -> Bundle:
    """Two yeses, one of them by a key that shows its holder nothing."""
    return world.spend(world.withdrawal(LARGE)).approved_by("blind-ben").bundle()


def approval_behind_the_release(world: World) -> Bundle:
    """The bundle has one approval more than the RELEASE names: it came after the budget was counted."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "carol"), named=(said(spend, "bob"),))


def approval_left_out_of_the_bundle(world: World) -> Bundle:
    """The RELEASE names two, the bundle carries one."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), named=(said(spend, "bob"), said(spend, "carol")))


def approval_of_another_genesis(world: World) -> Bundle:
    """Carol's approval of the same withdrawal in another organisation."""
    spend = world.spend(world.withdrawal(LARGE))
    return with_people(world, spend, said(spend, "bob"), said(spend, "carol", genesis=bytes(32)))


def veto_logged(world: World) -> Bundle:
    """Dave vetoed it."""
    return _stopped(world, "dave", StopCause.VETO)


def cancel_logged(world: World) -> Bundle:
    """Alice took it back."""
    return _stopped(world, "alice", StopCause.CANCEL)


def reject_logged(world: World) -> Bundle:
    """Carol rejected it."""
    return _stopped(world, "carol", StopCause.REJECT)


def veto_after_the_signature(world: World) -> Story:
    """Signed once, vetoed since: the repeat is judged again in full."""
    spend = world.spend(world.withdrawal())
    first = spend.bundle()
    world.stop(spend.asked, "dave", StopCause.VETO)
    return in_world(world, spend.bundle(first.release_index), first)


def veto_hidden(world: World) -> Story:
    """The coordinator keeps the veto out of the log; a witness holds it and the node took it over."""
    spend = world.spend(world.withdrawal())
    told = StopStatement(world.genesis.hash, spend.asked.digest, StopCause.VETO, "dave", world.now)
    held = sign(Kind.STOP, told.to_json(), seed_of("dave"))
    return in_world(world, spend.bundle(), held=(held,))


def _stopped(world: World, by: str, cause: StopCause) -> Bundle:
    spend = world.spend(world.withdrawal())
    index = spend.release()
    world.stop(spend.asked, by, cause)
    return spend.bundle(index)


def cold_node_left_out(world: World) -> Bundle:
    """An online node is asked before the offline one signed."""
    return _cold(world).bundle()


def cold_signature_of_another_transaction(world: World) -> Bundle:
    """The offline node's signature of a transaction with another fee."""
    spend = _cold(world)
    other = world.spend(spend.asked, fee=3_000).approved_by("bob", "carol")
    return spend.bundle(signatures=other.signatures("cold"))


def cold_signature_by_an_online_node(world: World) -> Bundle:
    """Beta's signature in the place of the offline node's."""
    spend = _cold(world)
    return spend.bundle(signatures=spend.signatures("beta"))


def cold_signature_under_a_wrong_key(world: World) -> Bundle:
    """Beta's signature under the offline node's key."""
    spend = _cold(world)
    (cold,), (beta,) = spend.signatures("cold"), spend.signatures("beta")
    return spend.bundle(signatures=(replace(beta, pubkey=cold.pubkey),))


def cold_signature_on_one_input(world: World) -> Bundle:
    """The offline node signed one of two inputs."""
    asked = world.withdrawal(COLD_SIZE)
    spend = world.spend(asked, (world.coin(0), world.coin(1))).approved_by("bob", "carol")
    return spend.bundle(signatures=spend.signatures("cold")[:1])


def _cold(world: World) -> Spend:
    return world.spend(world.withdrawal(COLD_SIZE)).approved_by("bob", "carol")


LIES = (
    Lie(withdrawal_made_up, CARRIES, "RELEASE_INADMISSIBLE", (85, 100)),
    Lie(withdrawal_forged_behind_a_true_release, CARRIES, "INITIATOR_SIGNATURE", (85,)),
    Lie(withdrawal_grown, CARRIES, "RELEASE_INADMISSIBLE", (85, 94)),
    Lie(withdrawal_copied, CARRIES, "RELEASE_INADMISSIBLE", (86, 95)),
    Lie(initiator_of_no_rules, "signed with the initiator's key from the rules", "RELEASE_INADMISSIBLE", (87,)),
    Lie(initiator_renamed, "signed with the initiator's key from the rules", "RELEASE_INADMISSIBLE", (87,)),
    Lie(withdrawal_past_its_end, "`expires_at` bounds signing only", "WITHDRAWAL_EXPIRED", (90,)),
    Lie(withdrawal_past_its_end_by_a_clock_set_back, "expiry passes by hi", "WITHDRAWAL_EXPIRED", (90,)),
    Lie(approvals_missing, RIGHT, "APPROVALS_MISSING", (87,)),
    Lie(approvals_of_another_withdrawal, RIGHT, "RELEASE_INADMISSIBLE", (86,)),
    Lie(approvals_made_up, RIGHT, "RELEASE_INADMISSIBLE", (85,)),
    Lie(approvals_made_up_behind_a_true_release, RIGHT, "APPROVAL_SIGNATURE", (85,)),
    Lie(approval_by_the_initiator, VOTE, "RELEASE_INADMISSIBLE", (87,)),
    Lie(approval_counted_twice, VOTE, "RELEASE_INADMISSIBLE", (87,)),
    Lie(approval_in_anothers_name, RIGHT, "RELEASE_INADMISSIBLE", (87,)),
    Lie(approval_by_a_stranger, RIGHT, "RELEASE_INADMISSIBLE", (87,)),
    Lie(approval_of_another_group, RIGHT, "APPROVALS_MISSING", (87,)),
    Lie(approval_past_its_end, DATES, "RELEASE_INADMISSIBLE", (86, 90)),
    Lie(approval_of_tomorrow, DATES, "RELEASE_INADMISSIBLE", (90,)),
    Lie(approval_that_says_no, VOTE, "RELEASE_INADMISSIBLE", (96,)),
    Lie(approvals_that_saw_nothing, SEEN, "APPROVALS_MISSING", (100,)),
    Lie(approval_behind_the_release, EQUAL, "RELEASE_MISMATCH", (85, 86)),
    Lie(approval_left_out_of_the_bundle, EQUAL, "RELEASE_MISMATCH", (85,)),
    Lie(approval_of_another_genesis, "Every statement names the genesis hash", "RELEASE_INADMISSIBLE", (86,)),
    Lie(veto_logged, STOPPED, "STOPPED", (96,)),
    Lie(cancel_logged, STOPPED, "STOPPED", (96,)),
    Lie(reject_logged, STOPPED, "STOPPED", (96,)),
    Lie(veto_after_the_signature, "A repeat is judged again in full", "STOPPED", (96, 117)),
    Lie(veto_hidden, HELD, "STOPPED", (96, 98)),
    Lie(cold_node_left_out, FIRST, "COLD_FIRST", (69,)),
    Lie(cold_signature_of_another_transaction, FIRST, "COLD_FIRST", (61, 69)),
    Lie(cold_signature_by_an_online_node, FIRST, "COLD_FIRST", (69,)),
    Lie(cold_signature_under_a_wrong_key, FIRST, "COLD_FIRST", (61,)),
    Lie(cold_signature_on_one_input, FIRST, "COLD_FIRST"),
)

"""Lies that would pay one withdrawal twice (protocol.md "What a signer node proves", step 7; "Withdrawal")."""

from __future__ import annotations

from dataclasses import replace

from custody.bundle import Bundle
from custody.withdrawal import Relation, RelationKind
from tests.fakes.rules import DAY, NOW, PAY
from tests.lies.told import Lie, Story, in_world
from tests.world import EXCHANGE, World, make_genesis, supersedes

SHARES = "this PSBT shares an outpoint with EVERY release of its family in the log"
MINE = "(and every PSBT of it that I signed)"
DEAD = "a withdrawal that a released one supersedes gets no further release"
ONE_ID = "no release of another digest with the same (initiator, withdrawal_id) is in the log"
NEW = "`new`: refused when the log holds a release within 90 days that pays any of its (script, sats)"
EVERY = "`additional(digests)`: lists EVERY such released withdrawal; one not listed refuses it"
JOINS = "`supersedes(digest)`: joins the family of what it replaces"
MORE = (EXCHANGE, 70_000)


def second_payment_from_other_coins(world: World) -> Bundle:
    """One withdrawal, released twice, from coins that do not meet: both could confirm."""
    asked = world.withdrawal()
    world.spend(asked).release()
    return world.spend(asked, (world.coin(1),), change_index=1).bundle()


def second_payment_by_a_pair_of_others(world: World) -> Story:
    """This node signed the first; the second was to be signed by others, and then by it."""
    asked = world.withdrawal()
    first = world.spend(asked).bundle()
    return in_world(world, world.spend(asked, (world.coin(1),), change_index=1).bundle(), first)


def third_that_meets_only_the_second(world: World) -> Bundle:
    """The third transaction shares a coin with the second, and none with the first."""
    asked = world.withdrawal()
    world.spend(asked).release()
    world.spend(asked, (world.coin(0), world.coin(1)), fee=4_000).release()
    return world.spend(asked, (world.coin(1), world.coin(2)), fee=6_000).bundle()


def replacement_from_other_coins(world: World) -> Bundle:
    """What supersedes a payment does not conflict with it: both could confirm."""
    first = world.withdrawal()
    world.spend(first).release()
    second = world.withdrawal(MORE, withdrawal_id="w-2", relation=supersedes(first))
    return world.spend(second, (world.coin(1),), change_index=1).bundle()


def replaced_payment_revived(world: World) -> Bundle:
    """Cancelled by a self-transfer, then released again with a higher fee."""
    first = world.withdrawal()
    world.spend(first).release()
    cancel = world.withdrawal(withdrawal_id="w-2", payments=(), relation=supersedes(first))
    world.spend(cancel, fee=4_000).release()
    return world.spend(first, fee=6_000).bundle()


def replacement_of_nothing(world: World) -> Bundle:
    """It supersedes what was never released, so that it has no family to share coins with."""
    never = world.withdrawal()
    second = world.withdrawal(MORE, withdrawal_id="w-2", relation=supersedes(never))
    return world.spend(second).bundle()


def same_payment_again(world: World) -> Bundle:
    """Another withdrawal that says `new` and pays the same payee the same amount."""
    world.spend(world.withdrawal()).release()
    return world.spend(world.withdrawal(withdrawal_id="w-2"), (world.coin(3),), change_index=1).bundle()


def same_payment_in_a_batch(world: World) -> Bundle:
    """The same payment hidden among others."""
    world.spend(world.withdrawal()).release()
    batch = world.withdrawal((12, 1_000), (EXCHANGE, 50_000), withdrawal_id="w-2")
    return world.spend(batch, (world.coin(3),), change_index=1).bundle()


def same_payment_after_89_days(world: World) -> Story:
    """Almost long enough ago, under rules that live so long."""
    own = World(make_genesis(PAY, effective_from=NOW, not_after=NOW + 90 * DAY))
    own.spend(own.withdrawal()).release()
    own.now += 90 * DAY - 1
    return in_world(own, own.spend(own.withdrawal(withdrawal_id="w-2"), (own.coin(3),), change_index=1).bundle())


def same_payment_listed_in_part(world: World) -> Bundle:
    """It was paid twice; the third lists one of the two."""
    first = world.withdrawal()
    world.spend(first).release()
    second = world.withdrawal(withdrawal_id="w-2", relation=Relation(RelationKind.ADDITIONAL, (first.digest,)))
    world.spend(second, (world.coin(3),), change_index=1).release()
    third = replace(second, withdrawal_id="w-3")
    return world.spend(third, (world.coin(4),), change_index=2).bundle()


def id_used_again(world: World) -> Bundle:
    """Another payment under an id that was paid: whoever looks the id up finds the first."""
    world.spend(world.withdrawal()).release()
    return world.spend(world.withdrawal(MORE), (world.coin(4),), change_index=1).bundle()


def signature_of_mine_forgotten(world: World) -> Story:
    """A release that this node signed is made to count nothing: its own journal still holds it."""
    asked = world.withdrawal()
    first = world.spend(asked).bundle()
    fork = World(world.genesis)
    told = fork.spend(asked, (fork.coin(1),), change_index=1).bundle()
    return in_world(fork, told, first)


LIES = (
    Lie(second_payment_from_other_coins, SHARES, "SECOND_PAYMENT", (28, 55)),
    Lie(second_payment_by_a_pair_of_others, MINE, "SECOND_PAYMENT", (28, 98)),
    Lie(third_that_meets_only_the_second, SHARES, "SECOND_PAYMENT", (55, 56)),
    Lie(replacement_from_other_coins, SHARES, "SECOND_PAYMENT", (56,)),
    Lie(replaced_payment_revived, DEAD, "SUPERSEDED", (56, 96)),
    Lie(replacement_of_nothing, JOINS, "RELEASE_INADMISSIBLE", (56,)),
    Lie(same_payment_again, NEW, "ALREADY_PAID", (28, 95)),
    Lie(same_payment_in_a_batch, NEW, "ALREADY_PAID", (95,)),
    Lie(same_payment_after_89_days, NEW, "ALREADY_PAID", (90,)),
    Lie(same_payment_listed_in_part, EVERY, "ALREADY_PAID", (95,)),
    Lie(id_used_again, ONE_ID, "WITHDRAWAL_ID_REUSED", (95,)),
    Lie(signature_of_mine_forgotten, "consistent with my last", "LOG_FORK", (121, 123)),
)

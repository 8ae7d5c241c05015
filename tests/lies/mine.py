"""Lies about whose bundle it is, and how it is written (protocol.md "What a signer node proves", step 0)."""

from __future__ import annotations

from dataclasses import replace

from custody.bundle import MAX_BUNDLE_BYTES, Bundle
from custody.statements import Kind, sign
from tests.fakes.rules import seed_of
from tests.lies.told import Lie, Story, in_world, with_note
from tests.world import World

MINE = "Genesis, network, protocol version are mine"
SIZES = "sizes inside limits"
CANONICAL = "Canonical bytes: RFC 8785 JSON, ASCII keys, integers only"
STATEMENT = "Every statement names the genesis hash"


def bundle_of_another_genesis(world: World) -> Bundle:
    """A bundle of another organisation."""
    return world.spend(world.withdrawal()).bundle(genesis=bytes(32))


def bundle_for_another_node(world: World) -> Bundle:
    """The bundle of beta, handed to alpha."""
    return world.spend(world.withdrawal()).bundle(node="beta")


def withdrawal_of_another_genesis(world: World) -> Bundle:
    """What alice signed for another organisation that has the same wallet."""
    return world.spend(world.withdrawal(genesis=bytes(32))).bundle()


def withdrawal_of_another_network(world: World) -> Bundle:
    """What alice signed for another network."""
    return world.spend(world.withdrawal(network="signet")).bundle()


def withdrawal_of_another_wallet(world: World) -> Bundle:
    """What alice signed for another wallet, paid out of this one."""
    return world.spend(world.withdrawal(wallet_id=bytes(32))).bundle()


def withdrawal_of_another_kind(world: World) -> Bundle:
    """Alice's signature under the same words as a statement of another kind."""
    asked = world.withdrawal()
    return world.spend(asked).bundle(withdrawal=sign(Kind.APPROVAL, asked.to_json(), seed_of("alice")))


def protocol_of_the_future(world: World) -> Story:
    """A protocol version that this node does not speak."""
    return _rewritten(world, b'"protocol":1', b'"protocol":2')


def field_of_the_future(world: World) -> Story:
    """A field that this node does not know, for another reader to obey."""
    return _rewritten(world, b'"protocol":1', b'"priority":1,"protocol":1')


def node_named_twice(world: World) -> Story:
    """Two names for one field: which one a reader takes is chance."""
    return _rewritten(world, b'"node":"alpha"', b'"node":"beta","node":"alpha"')


def number_with_a_point(world: World) -> Story:
    """A number that readers round in two ways."""
    return _rewritten(world, b'"protocol":1', b'"protocol":1.0')


def words_with_spaces(world: World) -> Story:
    """The same document in other bytes, under another digest."""
    return _rewritten(world, b'"protocol":1', b'"protocol": 1')


def bundle_too_large(world: World) -> Story:
    """More bytes than a node reads."""
    told = in_world(world, world.spend(world.withdrawal()).bundle())
    return replace(told, raw=told.raw + bytes(MAX_BUNDLE_BYTES))


def checkpoint_beyond_limits(world: World) -> Bundle:
    """A checkpoint with more lines than anybody reads."""
    bundle = world.spend(world.withdrawal()).bundle()
    return with_note(bundle, bundle.log.note * 500)


def approvals_beyond_limits(world: World) -> Bundle:
    """More approvals than there are people."""
    spend = world.spend(world.withdrawal()).approved_by("bob")
    return spend.bundle(approvals=spend.approvals * 65)


def bundle_cut_off(world: World) -> Story:
    """Half of a bundle."""
    told = in_world(world, world.spend(world.withdrawal()).bundle())
    return replace(told, raw=told.raw[: len(told.raw) // 2])


def _rewritten(world: World, old: bytes, new: bytes) -> Story:
    told = in_world(world, world.spend(world.withdrawal()).bundle())
    assert told.raw.count(old) == 1
    return replace(told, raw=told.raw.replace(old, new))


LIES = (
    Lie(bundle_of_another_genesis, MINE, "GENESIS_OTHER", (86,)),
    Lie(bundle_for_another_node, "signed by the node's identity key", "NODE_OTHER", (69,)),
    Lie(withdrawal_of_another_genesis, STATEMENT, "RELEASE_INADMISSIBLE", (86,)),
    Lie(withdrawal_of_another_network, MINE, "WALLET_OTHER", (43, 86)),
    Lie(withdrawal_of_another_wallet, "from where", "WALLET_OTHER", (51, 86)),
    Lie(withdrawal_of_another_kind, "one tag per kind of statement", "STATEMENT_KIND", (86,)),
    Lie(protocol_of_the_future, MINE, "PROTOCOL"),
    Lie(field_of_the_future, CANONICAL, "FIELD_UNKNOWN", (92,)),
    Lie(node_named_twice, CANONICAL, "DUPLICATE_KEY", (92,)),
    Lie(number_with_a_point, CANONICAL, "NOT_CANONICAL_VALUE", (92, 94)),
    Lie(words_with_spaces, CANONICAL, "NOT_CANONICAL", (92,)),
    Lie(bundle_too_large, SIZES, "BUNDLE_TOO_LARGE"),
    Lie(checkpoint_beyond_limits, SIZES, "FIELD_TOO_LONG"),
    Lie(approvals_beyond_limits, SIZES, "FIELD_TOO_LONG"),
    Lie(bundle_cut_off, CANONICAL, "NOT_JSON", (115,)),
)

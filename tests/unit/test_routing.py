"""Routing asks the right nodes in the right order, and asks others when one is silent or refuses."""

from coordinator.routing import ANSWER_TIMEOUT_S, Standing, can_finish, next_to_ask
from custody.policy.duties import SignersRequired

NOW = 1_000_000
ONLINE_A = Standing("a", is_offline=False, is_ready=True)
ONLINE_B = Standing("b", is_offline=False, is_ready=True)
COLD_C = Standing("c", is_offline=True, is_ready=False)
NOTHING = SignersRequired()


def test_routing_when_rules_ask_nothing_then_asks_m_healthy_online_nodes() -> None:
    """Without obligations the online nodes are asked, as many as signatures lack."""
    assert next_to_ask((ONLINE_A, ONLINE_B, COLD_C), NOTHING, frozenset(), 2, NOW) == ("a", "b")


def test_routing_when_cold_is_required_then_asks_only_offline_nodes_first() -> None:
    """No online node is asked before the cold one signed."""
    required = SignersRequired(min_offline=1)
    assert next_to_ask((ONLINE_A, ONLINE_B, COLD_C), required, frozenset(), 2, NOW) == ("c",)


def test_routing_when_cold_has_signed_then_asks_one_online_node() -> None:
    """After the cold signature the rest is asked, as many as lack."""
    required = SignersRequired(min_offline=1)
    assert next_to_ask((ONLINE_A, ONLINE_B, COLD_C), required, frozenset({"c"}), 1, NOW) == ("a",)


def test_routing_when_a_node_is_silent_then_another_is_asked() -> None:
    """A node that did not answer in time is passed over for one that was never asked."""
    silent = Standing("a", is_offline=False, is_ready=True, asked_at=NOW - ANSWER_TIMEOUT_S)
    assert next_to_ask((silent, ONLINE_B), NOTHING, frozenset(), 1, NOW) == ("b",)


def test_routing_when_a_node_was_just_asked_then_waits() -> None:
    """While an answer may come nobody else is asked."""
    asked = Standing("a", is_offline=False, is_ready=True, asked_at=NOW - 1)
    assert next_to_ask((asked, ONLINE_B), NOTHING, frozenset(), 1, NOW) == ()


def test_routing_when_a_node_refused_for_good_then_asks_another() -> None:
    """A refusal that no later bundle cures takes the node out."""
    refused = Standing("a", is_offline=False, is_ready=True, asked_at=NOW, refused="SECOND_PAYMENT")
    assert next_to_ask((refused, ONLINE_B), NOTHING, frozenset(), 1, NOW) == ("b",)


def test_routing_when_included_node_is_first_by_key_then_only_it_is_asked() -> None:
    """Included nodes sign before the rest, in the order of their keys."""
    required = SignersRequired(include=("b",))
    assert next_to_ask((ONLINE_A, ONLINE_B), required, frozenset(), 2, NOW) == ("b",)


def test_routing_when_a_node_is_excluded_then_it_is_never_asked() -> None:
    """An excluded node is not asked even when it is the only healthy one."""
    required = SignersRequired(exclude=("a",))
    assert next_to_ask((ONLINE_A,), required, frozenset(), 1, NOW) == ()


def test_routing_when_nothing_lacks_then_asks_nobody() -> None:
    """A complete withdrawal needs no more signatures."""
    assert next_to_ask((ONLINE_A,), NOTHING, frozenset({"b"}), 0, NOW) == ()


def test_routing_when_the_stream_that_asked_is_gone_then_asks_at_once() -> None:
    """A node or a coordinator that started anew has lost the bundle: nobody waits for its answer."""
    lost = Standing("a", is_offline=False, is_ready=True, asked_at=NOW - 1, is_lost=True)
    assert next_to_ask((lost, COLD_C), SignersRequired(), frozenset({"b"}), 1, NOW) == ("a",)


def test_routing_when_one_node_keeps_losing_its_stream_then_another_goes_first() -> None:
    """A node that falls over every bundle does not keep the others from being asked."""
    lost = Standing("a", is_offline=False, is_ready=True, asked_at=NOW - 1, is_lost=True)
    assert next_to_ask((lost, ONLINE_B, COLD_C), SignersRequired(), frozenset(), 1, NOW) == ("b",)


REFUSED_A = Standing("a", is_offline=False, is_ready=True, asked_at=NOW, refused="OPERATOR_DECLINED")


def test_can_finish_when_enough_others_are_left_then_goes_on() -> None:
    """One no is not the end while the rest can still give what lacks: nodes, or keys without a judge."""
    assert can_finish((REFUSED_A, ONLINE_B, COLD_C), NOTHING, frozenset(), 0, 2)
    assert can_finish((REFUSED_A, ONLINE_B), NOTHING, frozenset(), 1, 2)
    assert not can_finish((REFUSED_A, ONLINE_B), NOTHING, frozenset(), 0, 2)


def test_can_finish_when_a_refusal_is_curable_then_goes_on() -> None:
    """What a later bundle cures is no final no."""
    stale = Standing("a", is_offline=False, is_ready=True, asked_at=NOW, refused="RELEASE_STALE")
    assert can_finish((stale, ONLINE_B), NOTHING, frozenset(), 0, 2)


def test_can_finish_when_a_required_signer_refused_then_is_over() -> None:
    """Others cannot stand in for an included node, nor online ones for a cold one."""
    assert not can_finish((REFUSED_A, ONLINE_B, COLD_C), SignersRequired(include=("a",)), frozenset(), 0, 1)
    cold = Standing("c", is_offline=True, is_ready=False, refused="ALREADY_PAID")
    assert not can_finish((ONLINE_A, ONLINE_B, cold), SignersRequired(min_offline=1), frozenset(), 0, 1)
    declined = Standing("c", is_offline=True, is_ready=False, refused="OPERATOR_DECLINED")
    assert can_finish((ONLINE_A, ONLINE_B, declined), SignersRequired(min_offline=1), frozenset(), 0, 1)
    assert can_finish((ONLINE_A, ONLINE_B, COLD_C), SignersRequired(min_offline=1), frozenset({"c"}), 0, 1)
    assert not can_finish((ONLINE_A, ONLINE_B), SignersRequired(exclude=("b",)), frozenset(), 0, 2)

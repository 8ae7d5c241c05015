"""What nodes said of their keys, verified here against the pinned genesis: the coordinator only carries it."""

from __future__ import annotations

from console.views import NodeView
from custody.alive import check_life
from custody.drill import read_drill
from custody.errors import MalformedError, Refused
from custody.genesis import Genesis
from custody.policy import Policy


def proven_at(genesis: Genesis, policy: Policy, node: NodeView | None) -> int:
    """Return when the key of `node` was proven last, UTC seconds; 0 where no proof holds."""
    if node is None or node.alive is None:
        return 0
    try:
        life = check_life(genesis, policy, node.alive)
    except MalformedError:
        return 0
    return 0 if isinstance(life, Refused) or life.node != node.name else life.at


def drilled_at(policy: Policy, node: NodeView | None) -> int:
    """Return when a backup of the key of `node` was drilled last, UTC seconds; 0 where no record holds."""
    pinned = None if node is None else policy.roots.node(node.name)
    if node is None or node.drill is None or pinned is None:
        return 0
    try:
        drill = read_drill(node.drill)
    except MalformedError:
        return 0
    return drill.at if drill.node == node.name and node.drill.signed_by(pinned.identity) else 0

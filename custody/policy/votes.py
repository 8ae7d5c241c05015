"""Count approvals against an approvals tree: one human, one vote, inside one tree.

A person in two groups can stand for either, never for both at once; between rules a person's approval counts in each.
In a tree with stages an approval counts in a later one only if the approvals that its statement names fill the earlier.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from custody.people import Ballot
from custody.policy.document import Policy, Principal
from custody.policy.duties import AllVotes, StagedVotes, Votes, VoteTree


@dataclass(frozen=True, slots=True)
class Missing:
    """What one part of an approvals tree still lacks.

    of: "group ops" or "service screening".  needed: how many more.  have: whose approvals count.
    could: who may still give one.  option: which alternative of an any_of this belongs to, from 0.
    stage: how many stages must be filled before, and named by whoever approves here.
    """

    rule: str
    of: str
    needed: int
    have: tuple[str, ...]
    could: tuple[str, ...]
    option: int = 0
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Electorate:
    """Whose votes are counted, and when. at: UTC seconds.  initiator: never counts."""

    policy: Policy
    initiator: str
    ballots: tuple[Ballot, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a tree that must be filled. before: the stages that an approval for it must name as filled."""

    votes: Votes
    before: tuple[VoteTree, ...] = ()


def missing_votes(rule: str, tree: VoteTree, electorate: Electorate) -> tuple[Missing, ...]:
    """Return what `tree` lacks: nothing where any of its alternatives is filled by different people.

    A later stage is asked only once the stages before it are filled: an approval given earlier could not name them.
    """
    found: list[Missing] = []
    for option, parts in enumerate(alternatives(tree)):
        filled = _assign(parts, electorate)
        short = [
            (part, people) for part, people in zip(parts, filled, strict=True) if len(people) < part.votes.threshold
        ]
        if not short:
            return ()
        asked = [(part, people) for part, people in short if _is_open(part, electorate)]
        found.extend(_missing(rule, part, people, electorate, option) for part, people in asked or short)
    return tuple(found)


def _is_open(part: Part, electorate: Electorate) -> bool:
    return not part.before or not missing_votes("", StagedVotes(part.before), electorate)


def alternatives(tree: VoteTree, before: tuple[VoteTree, ...] = ()) -> tuple[tuple[Part, ...], ...]:
    """Return the ways to satisfy `tree` behind the stages `before`: each a tuple of parts that must all be filled."""
    if isinstance(tree, Votes):
        return ((Part(tree, before),),)
    if isinstance(tree, StagedVotes):
        stages = tree.stages
        return _joined([alternatives(stage, (*before, *stages[:at])) for at, stage in enumerate(stages)])
    ways = [alternatives(part, before) for part in tree.parts]
    return _joined(ways) if isinstance(tree, AllVotes) else tuple(way for found in ways for way in found)


def _joined(ways: Iterable[tuple[tuple[Part, ...], ...]]) -> tuple[tuple[Part, ...], ...]:
    return tuple(tuple(part for way in chosen for part in way) for chosen in product(*ways))


def _assign(parts: Sequence[Part], electorate: Electorate) -> list[list[str]]:
    """Give each person to at most one part so that the most places are filled: a largest flow of ones.

    Person -> place; where orgs must differ, person -> org of that part -> place, and each org lets one through.
    """
    graph: dict[Hashable, dict[Hashable, None]] = {"source": {}, "sink": {}}

    def link(*path: Hashable) -> None:
        for here, there in pairwise(path):
            graph.setdefault(here, {})[there] = None
            graph.setdefault(there, {})

    for ballot in sorted(electorate.ballots, key=lambda ballot: ballot.person):
        for at, part in enumerate(parts):
            if not _counts(part, ballot, electorate):
                continue
            via = _org_gate(at, part.votes, ballot, electorate.policy)
            for place in range(part.votes.threshold):
                if ballot.seen or place >= part.votes.seen:
                    link("source", ("person", ballot.person), *via, ("place", at, place), "sink")
    while path := _path(graph):
        for here, there in pairwise(path):
            del graph[here][there]
            graph[there][here] = None
    return [
        [_who(graph, ("place", at, place)) for place in range(part.votes.threshold) if _is_taken(graph, at, place)]
        for at, part in enumerate(parts)
    ]


def _org_gate(at: int, votes: Votes, ballot: Ballot, policy: Policy) -> tuple[Hashable, ...]:
    person = policy.principal(ballot.person)
    if not votes.distinct_orgs or person is None:
        return ()
    return ("gate", at, person.org), ("through", at, person.org)


def _path(graph: dict[Hashable, dict[Hashable, None]]) -> list[Hashable]:
    """Return a path with room from source to sink, or nothing."""
    came_from: dict[Hashable, Hashable] = {"source": "source"}
    waiting: list[Hashable] = ["source"]
    for here in waiting:
        for there in graph[here]:
            if there not in came_from:
                came_from[there] = here
                waiting.append(there)
    path: list[Hashable] = ["sink"] if "sink" in came_from else []
    while path and path[-1] != "source":
        path.append(came_from[path[-1]])
    return path[::-1]


def _is_taken(graph: dict[Hashable, dict[Hashable, None]], at: int, place: int) -> bool:
    return ("place", at, place) in graph["sink"]


def _who(graph: dict[Hashable, dict[Hashable, None]], node: Hashable) -> str:
    """Return the person whose flow reached `node`: used edges point back."""
    while isinstance(node, tuple) and node[0] != "person":
        kinds = {"place": ("through", "person"), "through": ("gate",), "gate": ("person",)}[node[0]]
        node = next(back for back in graph[node] if isinstance(back, tuple) and back[0] in kinds)
    assert isinstance(node, tuple)  # noqa: S101 - every path begins at a person
    return str(node[1])


def _counts(part: Part, ballot: Ballot, electorate: Electorate) -> bool:
    votes = part.votes
    person = electorate.policy.principal(ballot.person)
    if person is None or person.name == electorate.initiator or not belongs(votes, person):
        return False
    if votes.lifetime_s is not None and electorate.at >= ballot.at + votes.lifetime_s:
        return False
    if votes.device_bound and not ballot.device_bound:
        return False
    return (ballot.seen or votes.blind) and _names_stages(part.before, ballot, electorate)


def _names_stages(before: tuple[VoteTree, ...], ballot: Ballot, electorate: Electorate) -> bool:
    """Return whether the approvals that `ballot` names fill every earlier stage by themselves."""
    if not before:
        return True
    named = tuple(other for other in electorate.ballots if other.digest in ballot.after)
    return not missing_votes("", StagedVotes(before), replace(electorate, ballots=named))


def belongs(leaf: Votes, person: Principal) -> bool:
    """Return whether `person` is one whose approval `leaf` asks for: services never count as people of a group."""
    if leaf.service is not None:
        return person.is_service and person.name == leaf.service
    return not person.is_service and leaf.group in person.groups


def _missing(rule: str, part: Part, people: list[str], electorate: Electorate, option: int) -> Missing:
    votes = part.votes
    counted = {ballot.person for ballot in electorate.ballots if _counts(part, ballot, electorate)}
    could = sorted(
        person.name
        for person in electorate.policy.principals
        if belongs(votes, person)
        and person.name not in counted | {electorate.initiator}
        and electorate.at < person.valid_until
        and can_vote(votes, person)
    )
    needed = votes.threshold - len(people)
    return Missing(rule, votes.of, needed, tuple(sorted(people)), tuple(could), option, len(part.before))


def can_vote(votes: Votes, person: Principal) -> bool:
    """Return whether a credential of `person` could make an approval that `votes` counts."""
    return any(
        (credential.seen or votes.blind) and (credential.device_bound or not votes.device_bound)
        for credential in person.credentials
    )

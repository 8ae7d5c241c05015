"""Count approvals against an approvals tree: one human, one vote, inside one tree.

A person in two groups can stand for either, never for both at once; between rules a person's approval counts in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from custody.people import Ballot
from custody.policy.document import Policy, Principal
from custody.policy.terms import AllVotes, Votes, VoteTree


@dataclass(frozen=True, slots=True)
class Missing:
    """What one part of an approvals tree still lacks.

    of: "group ops" or "service screening".  needed: how many more.  have: whose approvals count.
    could: who may still give one.  option: which alternative of an any_of this belongs to, from 0.
    """

    rule: str
    of: str
    needed: int
    have: tuple[str, ...]
    could: tuple[str, ...]
    option: int = 0


@dataclass(frozen=True, slots=True)
class Electorate:
    """Whose votes are counted, and when. at: UTC seconds.  initiator: never counts."""

    policy: Policy
    initiator: str
    ballots: tuple[Ballot, ...]
    at: int


def missing_votes(rule: str, tree: VoteTree, electorate: Electorate) -> tuple[Missing, ...]:
    """Return what `tree` lacks: nothing where any of its alternatives is filled by different people."""
    found: list[Missing] = []
    for option, leaves in enumerate(alternatives(tree)):
        filled = _assign(leaves, electorate)
        short = tuple(
            _missing(rule, leaf, people, electorate, option)
            for leaf, people in zip(leaves, filled, strict=True)
            if len(people) < leaf.threshold
        )
        if not short:
            return ()
        found.extend(short)
    return tuple(found)


def alternatives(tree: VoteTree) -> tuple[tuple[Votes, ...], ...]:
    """Return the ways to satisfy `tree`: each a tuple of parts that must all be filled."""
    if isinstance(tree, Votes):
        return ((tree,),)
    parts = [alternatives(part) for part in tree.parts]
    if isinstance(tree, AllVotes):
        return tuple(tuple(leaf for way in ways for leaf in way) for ways in product(*parts))
    return tuple(way for ways in parts for way in ways)


def _assign(leaves: Sequence[Votes], electorate: Electorate) -> list[list[str]]:
    """Give each person to at most one part so that the most places are filled (augmenting paths, Kuhn)."""
    places = [(at, place < leaf.seen) for at, leaf in enumerate(leaves) for place in range(leaf.threshold)]
    holder: dict[int, Ballot] = {}  # place -> who fills it

    def seat(ballot: Ballot, tried: set[int]) -> bool:
        for place, (at, must_be_seen) in enumerate(places):
            if place in tried or (must_be_seen and not ballot.seen) or not _counts(leaves[at], ballot, electorate):
                continue
            tried.add(place)
            if place not in holder or seat(holder[place], tried):
                holder[place] = ballot
                return True
        return False

    for ballot in sorted(electorate.ballots, key=lambda ballot: ballot.person):
        seat(ballot, set())
    filled: list[list[str]] = [[] for _ in leaves]
    for place in sorted(holder):
        filled[places[place][0]].append(holder[place].person)
    return filled


def _counts(leaf: Votes, ballot: Ballot, electorate: Electorate) -> bool:
    person = electorate.policy.principal(ballot.person)
    if person is None or person.name == electorate.initiator or not belongs(leaf, person):
        return False
    if leaf.lifetime_s is not None and electorate.at >= ballot.at + leaf.lifetime_s:
        return False
    return ballot.seen or leaf.blind


def belongs(leaf: Votes, person: Principal) -> bool:
    """Return whether `person` is one whose approval `leaf` asks for: services never count as people of a group."""
    if leaf.service is not None:
        return person.is_service and person.name == leaf.service
    return not person.is_service and leaf.group in person.groups


def _missing(rule: str, leaf: Votes, people: list[str], electorate: Electorate, option: int) -> Missing:
    counted = {ballot.person for ballot in electorate.ballots if _counts(leaf, ballot, electorate)}
    could = sorted(
        person.name
        for person in electorate.policy.principals
        if belongs(leaf, person)
        and person.name not in counted | {electorate.initiator}
        and electorate.at < person.valid_until
        and any(credential.seen or leaf.blind for credential in person.credentials)
    )
    return Missing(rule, leaf.of, leaf.threshold - len(people), tuple(sorted(people)), tuple(could), option)

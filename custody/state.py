"""What a follower of the money log knows: releases, stops, freezes and rules, as frozen values.

`custody.follow` makes it of entries, `custody.settle` says what each of them changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from custody.audit import Frontier
from custody.entries import MoneyEntry, Release, StopCause, StopStatement
from custody.facts import CHANGE_GAP
from custody.genesis import Genesis
from custody.governing import Rules
from custody.policy import Policy
from custody.policy.budgets import Spent
from custody.policy.duties import Veto
from custody.statements import Signed
from custody.withdrawal import RelationKind, Withdrawal

LONE_FREEZE_SECONDS = 72 * 3600  # protocol.md "Rules, freeze": one person's freeze lapses unless a second joins


@dataclass(frozen=True, slots=True)
class Released:
    """An admissible release. t: when witnesses first saw it, UTC seconds.  rules: the version that it counts under."""

    index: int
    release: Release
    t: int
    rules: int = 1


@dataclass(frozen=True, slots=True)
class Logged:
    """A MESSAGE entry that counts. digest: 32 bytes, of the message.  t: as of a release."""

    index: int
    digest: bytes
    t: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """A freeze that nobody lifted. t: None while it is in the tail."""

    freeze_id: bytes
    by: str
    t: int | None


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that no WITNESS entry covers yet, with the statements it names."""

    index: int
    entry: MoneyEntry
    statements: Mapping[bytes, Signed]


@dataclass(frozen=True, slots=True)
class State:
    """What a follower knows after `frontier.size` entries.

    spent: `releases` as the budgets of `policy` count them.  releases, notices (withdrawal digest, T) and
    messages: settled only.
    stops, freezes: from the moment they are in the log.  lifted: freeze ids that are dead.
    genesis: the pinned one, with the wallets that the log added behind its own.
    rules: as of the last settled entry; `in_force` moves them on.
    """

    genesis: Genesis
    frontier: Frontier
    rules: Rules
    spent: Spent = field(compare=False, repr=False)
    event_size: int = 0
    releases: tuple[Released, ...] = ()
    notices: tuple[tuple[bytes, int], ...] = ()
    messages: tuple[Logged, ...] = ()
    stops: tuple[StopStatement, ...] = ()
    freezes: tuple[Frozen, ...] = ()
    lifted: frozenset[bytes] = frozenset()
    tail: tuple[Pending, ...] = ()

    @property
    def policy(self) -> Policy:
        """The rules in force."""
        return self.rules.policy

    @property
    def size(self) -> int:
        """How many money-log entries this state has followed."""
        return self.frontier.size

    def releases_of(self, digest: bytes) -> tuple[Released, ...]:
        """Return the admissible releases of the withdrawal `digest`, oldest first."""
        return tuple(r for r in self.releases if r.release.withdrawal_digest == digest)

    def family(self, family: bytes) -> tuple[Released, ...]:
        """Return the admissible releases of `family` (32 bytes), oldest first."""
        return tuple(r for r in self.releases if r.release.family == family)

    def highest_change_index(self, wallet_id: bytes, before: int | None = None) -> int:
        """Return the highest change index in front of log entry `before` (in all where None), -1 where there is none.

        A release cannot vouch for its own change: judge it by what stands in front of it.
        """
        highest = -1
        for released in self.releases:
            if released.release.wallet_id == wallet_id and (before is None or released.index < before):
                highest = next_highest_change(highest, released.release)
        return highest

    def is_frozen(self, lo: int) -> bool:
        """Return whether a freeze stands at `lo`: two people's until lifted, one person's for 72 h."""
        if len({freeze.by for freeze in self.freezes}) > 1:
            return True
        return any(freeze.t is None or lo < freeze.t + LONE_FREEZE_SECONDS for freeze in self.freezes)

    def is_stopped(self, withdrawal: Withdrawal) -> StopStatement | None:
        """Return the stop that ends `withdrawal`: a cancel by its initiator, or a reject by anyone listed.

        Whether vetoes end it, the rules that match it say: `vetoed_by`.
        """
        for stop in self.stops:
            is_cancel = stop.cause is StopCause.CANCEL and stop.by == withdrawal.initiator
            if stop.withdrawal_digest == withdrawal.digest and (is_cancel or stop.cause is StopCause.REJECT):
                return stop
        return None

    def vetoes_of(self, withdrawal: Withdrawal) -> tuple[str, ...]:
        """Return who vetoed `withdrawal`, whatever that is worth; sorted."""
        told = (s for s in self.stops if s.withdrawal_digest == withdrawal.digest and s.cause is StopCause.VETO)
        return tuple(sorted({stop.by for stop in told}))

    def vetoed_by(self, withdrawal: Withdrawal, vetoes: Iterable[Veto]) -> tuple[str, ...]:
        """Return whose vetoes end `withdrawal`, or nobody.

        Args:
            withdrawal: what was asked.
            vetoes: who may veto by the rules that matched it; where they name nobody, anyone listed may.
        """
        people, told = set(self.vetoes_of(withdrawal)), tuple(vetoes)
        if not told:
            return tuple(sorted(people))
        for veto in told:
            found = people & {member.name for member in self.policy.members(veto.group)}
            if len(found) >= veto.threshold:
                return tuple(sorted(found))
        return ()


def start(genesis: Genesis) -> State:
    """Return the state of a follower that has seen nothing: a node starts its log at size 0."""
    return State(genesis, Frontier(), Rules(genesis.policy), Spent(genesis.policy))


def in_force(state: State, at: int) -> State:
    """Return `state` under the rules of `at` (UTC seconds): a loosening that is due by then has taken effect."""
    return under(state, state.rules.at(at))


def under_version(state: State, rules: Rules, version: int) -> State:
    """Return `state` under a version that is or was in force in `rules`, of the same log."""
    if state.policy.version == version:
        return state
    return under(state, Rules(rules.versions[version - 1], (), rules.versions[: version - 1]))


def under(state: State, rules: Rules) -> State:
    """Return `state` under `rules`, its past counted by their budgets."""
    if rules is state.rules:
        return state
    return replace(state, rules=rules, spent=state.spent.under(rules.policy))


def family_of(state: State, withdrawal: Withdrawal) -> bytes | None:
    """Return the family (32 bytes) that `withdrawal` belongs to: its own digest, or that of what it supersedes.

    None where it supersedes what was never released: there is nothing to replace, and no family to share coins with.
    """
    if withdrawal.relation.kind is not RelationKind.SUPERSEDES:
        return withdrawal.digest
    replaced = state.releases_of(withdrawal.relation.digests[0])
    return replaced[0].release.family if replaced else None


def next_highest_change(highest: int, release: Release) -> int:
    """Return the highest change index after `release`, before which it was `highest`.

    Change beyond what signers allow moves nothing: whoever writes the log says any number in it.
    """
    return max((highest, *(index for index, _ in release.change if index <= highest + CHANGE_GAP)))

"""What a RULE entry may carry: the next version of the rules, a later wallet, or the end of a document that waits.

Each is collected signature by signature, counts once it is complete, and is judged again by every follower at its T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.consent import CHANGE, Share, shares
from custody.errors import MalformedError, Refused
from custody.governing import may_follow, read_rules, signatures_of, successor_of
from custody.later_wallet import node_keys, read_later_wallet, signers_of, wallet_fits, wallet_stands
from custody.state import State
from custody.statements import Kind, Signed
from custody.voiding import void_fits, void_stands

RULE_KINDS = frozenset({Kind.RULES, Kind.WALLET, Kind.VOID})


@dataclass(frozen=True, slots=True)
class Standing:
    """Who must still sign. nodes: names of nodes whose signature is missing."""

    shares: tuple[Share, ...]
    nodes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nobody is missing."""
        return not self.nodes and not any(share.missing for share in self.shares)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups whose people may sign, sorted."""
        return tuple(sorted({group for share in self.shares for group in share.groups}))

    @property
    def have(self) -> tuple[str, ...]:
        """The people whose signatures count, sorted."""
        return tuple(sorted({name for share in self.shares for name in share.have}))

    @property
    def missing(self) -> tuple[str, ...]:
        """Who may still sign: nodes, then people of the quorums that are not complete."""
        could = {name for share in self.shares if share.missing for name in share.could}
        return (*(f"node {name}" for name in self.nodes), *sorted(could))


def rule_fits(state: State, signed: Signed) -> Refused | None:
    """Return why nobody should sign `signed` under the rules of `state`, or None."""
    if signed.kind is Kind.WALLET:
        wallet = wallet_fits(state.genesis, state.policy, signed)
        return wallet if isinstance(wallet, Refused) else None
    if signed.kind is Kind.VOID:
        void = void_fits(state.rules, state.genesis.hash, signed)
        return void if isinstance(void, Refused) else None
    try:
        return may_follow(state.rules, state.genesis, read_rules(signed))
    except MalformedError as error:
        return Refused(error.code, "a rules document", error.message)


def standing_of(state: State, signed: Signed, t: int) -> Standing:
    """Return who must still sign what `rule_fits`, at `t` (UTC seconds)."""
    if signed.kind is Kind.WALLET:
        lack = signers_of(state.policy, read_later_wallet(signed, state.genesis), signed, t)
        return Standing((lack.share,), lack.nodes)
    if signed.kind is Kind.VOID:
        return Standing(shares(state.policy, (CHANGE,), signed, t))
    return Standing(signatures_of(state.policy, signed, t))


def may_sign(state: State, signed: Signed, groups: Sequence[str]) -> frozenset[bytes]:
    """Return the keys whose signatures of `signed` can count: of people of `groups`, and of a wallet's nodes."""
    theirs = [c for user in state.policy.users if set(groups) & set(user.groups) for c in user.credentials]
    people = {key for credential in theirs for key in (credential.key, credential.desk_key) if key}
    nodes = node_keys(read_later_wallet(signed, state.genesis)) if signed.kind is Kind.WALLET else {}
    return frozenset({*people, *nodes.values()})


def rule_refused(state: State, signed: Signed, t: int) -> Refused | None:
    """Return why a RULE entry with `signed`, first seen at `t`, would change nothing; None where it would."""
    found: object
    if signed.kind is Kind.WALLET:
        found = wallet_stands(state.genesis, state.policy, signed, t)
    elif signed.kind is Kind.VOID:
        found = void_stands(state.rules, state.genesis.hash, signed, t)
    else:
        found = successor_of(state.rules, state.genesis, signed, t)
    return found if isinstance(found, Refused) else None

"""Which rules are in force, which wait, and what the next version must be: pure, a function of documents and times.

A document is judged by the quorums of the version IN EFFECT that it replaces (`custody.consent`). What only tightens
takes effect where it stands in the log; what loosens waits the delay of the version that it replaces, and dies when
another takes effect first. Times are T(e): when witnesses first saw the entry (protocol.md "Rules, freeze").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from custody.canonical import decode
from custody.consent import Share, quorums_for, shares
from custody.errors import MalformedError, Refused
from custody.genesis import Genesis, check_production
from custody.policy import Policy, parse_policy
from custody.policy.diff import Diff, Verdict, diff
from custody.statements import Kind, Signed

PENDING_EXPIRY_S = 7 * 86_400  # policy.md "Admin": a change that nobody carries through within a week is asked for anew


@dataclass(frozen=True, slots=True)
class Waiting:
    """A loosening that its admins signed. index: of its entry.  due: when it takes effect, UTC seconds."""

    index: int
    policy: Policy
    due: int


@dataclass(frozen=True, slots=True)
class Rules:
    """policy: in force.  waiting: the first to take effect first.  past: what was in force before, version 1 first.

    voided: hashes of documents that waited for the next version and were taken back; they wait never again.
    """

    policy: Policy
    waiting: tuple[Waiting, ...] = ()
    past: tuple[Policy, ...] = ()
    voided: frozenset[bytes] = frozenset()

    @property
    def versions(self) -> tuple[Policy, ...]:
        """Everything that is or was in force, version 1 first."""
        return (*self.past, self.policy)

    def at(self, t: int) -> Rules:
        """Return the rules at `t` (UTC seconds): a document that is due takes effect, and all others die with it."""
        if not self.waiting or t < self.waiting[0].due:
            return self
        return self.replaced_by(self.waiting[0].policy)

    def without(self, rules: bytes) -> Rules:
        """Return the rules with the waiting document `rules` (its hash) taken back for ever."""
        waiting = tuple(found for found in self.waiting if found.policy.hash != rules)
        return replace(self, waiting=waiting, voided=self.voided | {rules})

    def replaced_by(self, policy: Policy) -> Rules:
        """Return the rules once `policy` took effect: nothing waits any more."""
        return Rules(policy, (), self.versions)


@dataclass(frozen=True, slots=True)
class Successor:
    """A document that may follow. due: when it takes effect, UTC seconds; no later than its T: at once."""

    policy: Policy
    changes: Diff
    due: int


def successor_of(rules: Rules, genesis: Genesis, signed: Signed, t: int) -> Successor | Refused:
    """Return what `signed` does to `rules` when witnesses first see it at `t`, or why it does nothing.

    Args:
        rules: in force at `t`.
        genesis: whose rules they are.
        signed: a rules document with the signatures of its admins.
        t: UTC seconds.
    """
    # Plan: 1 it follows the version in effect · 2 enough of THAT version's admins, in office now · 3 safe numbers ·
    #       4 when it takes effect.
    try:
        policy = read_rules(signed)
        if refused := may_follow(rules, genesis, policy):
            return refused
        changes = diff(rules.policy, policy)
        for share in shares(rules.policy, quorums_for(rules.policy, policy, changes), signed, t):
            if share.missing:
                lack = f"{share.missing} more of the {share.quorum} of version {rules.policy.version}"
                return Refused("RULES_QUORUM", lack, ", ".join(share.have) or "none")
        check_production(genesis, policy)
    except MalformedError as error:
        return Refused(error.code, "a rules document", error.message)
    due = takes_effect(rules.policy, policy, changes, t)
    return due if isinstance(due, Refused) else Successor(policy, changes, due)


def may_follow(rules: Rules, genesis: Genesis, policy: Policy) -> Refused | None:
    """Return why `policy` is no next version that anybody should sign, or None.

    Args:
        rules: in force.
        genesis: with the wallets that the log added: rules name no other.
        policy: the next version, as it says.
    """
    if refused := follows(rules.policy, policy):
        return refused
    if policy.hash in rules.voided:
        return Refused("RULES_VOIDED", "a document that was not taken back", policy.hash.hex())
    known = {wallet.wallet.wallet_id for wallet in genesis.wallets}
    if unknown := sorted(name for name, found in policy.wallet_ids.items() if found not in known):
        return Refused("RULES_WALLET", "wallets of the genesis, or that the log added", ", ".join(unknown))
    return None


def follows(old: Policy, new: Policy) -> Refused | None:
    """Return why `new` is not the next version of `old`, or None."""
    if (new.policy_id, new.network) != (old.policy_id, old.network):
        found = f"{new.policy_id} on {new.network}"
        return Refused("RULES_OTHER", f"a version of {old.policy_id} on {old.network}", found)
    if new.version != old.version + 1:
        return Refused("RULES_VERSION", f"version {old.version + 1}", f"version {new.version}")
    if new.prev_hash != old.hash:
        return Refused("RULES_PREV", f"prev_hash {old.hash.hex()}, which is in effect", new.prev_hash.hex())
    if (locked := _unlocks(old, new)) is not None:
        return Refused("RULES_LOCKED", f"the locked rule {locked} as it is, and locked", "another, or none")
    return None


def _unlocks(old: Policy, new: Policy) -> str | None:
    """Return the first locked rule of `old` that `new` changes, leaves out or unlocks, or None."""
    for name in old.admin.locked_rules:
        before, after = old.rule(name), new.rule(name)
        if before != after or name not in new.admin.locked_rules:
            return name
        window = "" if before is None or before.budget is None else before.budget.window
        if old.window(window) != new.window(window):  # what it counts over is part of what it says
            return name
    return None


def signatures_of(policy: Policy, signed: Signed, t: int) -> tuple[Share, ...]:
    """Return how far each quorum is that the document `signed`, the next version of `policy`, needs at `t`.

    Raises:
        MalformedError: as `read_rules`.
    """
    new = read_rules(signed)
    return shares(policy, quorums_for(policy, new, diff(policy, new)), signed, t)


def missing_signatures(policy: Policy, signed: Signed, t: int) -> int:
    """Return how many more people of `policy` must sign at least, in office at `t`, each having seen the document.

    Raises:
        MalformedError: as `read_rules`.
    """
    return max(share.missing for share in signatures_of(policy, signed, t))


def takes_effect(old: Policy, new: Policy, changes: Diff, t: int) -> int | Refused:
    """Return when a document first seen at `t` takes effect: `t`, or after the delay of `old`; or that it is too late.

    `effective_from` can only put off: what is back-dated waits all the same.
    """
    if changes.verdict is not Verdict.LOOSENS or (changes.only_extends and t < old.not_after):
        return t
    waited = t + old.admin.loosen_delay_s
    if t >= new.effective_from + PENDING_EXPIRY_S or new.effective_from >= waited + PENDING_EXPIRY_S:
        within = f"effective_from within {PENDING_EXPIRY_S} s of {t} or of the end of its delay"
        return Refused("RULES_DATES", within, str(new.effective_from))
    return max(waited, new.effective_from)


def succeed(rules: Rules, genesis: Genesis, signed: Signed, index: int, t: int) -> Rules:
    """Return the rules after the RULE entry `index`; as they were where the document does nothing.

    Args:
        rules: in force at the entry.
        genesis: whose rules they are.
        signed: the document that the entry names.
        index: of the entry.
        t: its T.
    """
    if any(waiting.policy.hash == signed.digest for waiting in rules.waiting):
        return rules  # logged twice: its delay runs from the first
    found = successor_of(rules, genesis, signed, t)
    if isinstance(found, Refused):
        return rules
    waiting = sorted((*rules.waiting, Waiting(index, found.policy, found.due)), key=lambda w: (w.due, w.index))
    return rules.replaced_by(found.policy) if found.due <= t else replace(rules, waiting=tuple(waiting))


def read_rules(signed: Signed) -> Policy:
    """Return the rules inside `signed`; the signatures are not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, or what `parse_policy` says.
    """
    if signed.kind is not Kind.RULES:
        raise MalformedError("STATEMENT_KIND", f"expected a rules document, found {signed.kind.name}")
    return parse_policy(decode(signed.raw))

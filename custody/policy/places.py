"""Where the keys of a wallet stand: nobody, and no machine, may hold m; what rules ask of signers fits into m."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from custody.policy.document import Location, Policy
from custody.policy.finding import Finding


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where one key of a wallet stands. node: None for a key without a judge.

    org, host, vault: "" where nobody says; vault: the cluster of Vault servers that holds the key, or opens it.
    """

    node: str | None
    org: str
    host: str
    vault: str = ""


@dataclass(frozen=True, slots=True)
class WalletKeys:
    """A wallet's threshold m and the places of its n keys: what genesis says and rules do not."""

    wallet: str
    threshold: int
    places: tuple[KeyPlace, ...]


def wallet_keys(
    policy: Policy, wallet: str, threshold: int, holders: Sequence[tuple[str | None, str | None]]
) -> WalletKeys:
    """Return the places of a wallet's keys as the rules know them.

    Args:
        policy: the rules, whose roots say where each node stands.
        wallet: its name.
        threshold: m.
        holders: for each key the node that holds it, or None and the admin who answers for it.
    """
    places = []
    for name, admin in holders:
        node = None if name is None else policy.roots.node(name)
        answers = None if admin is None else policy.principal(admin)
        if node is None:
            places.append(KeyPlace(name, answers.org if answers else "", ""))
        else:
            places.append(KeyPlace(name, node.org, node.host, node.vault))
    return WalletKeys(wallet, threshold, tuple(places))


def lint_places(keys: WalletKeys) -> Iterator[Finding]:
    """Yield who or what holds m keys alone."""
    for what, held in (
        ("org", Counter(place.org for place in keys.places if place.org)),
        ("host", Counter(place.host for place in keys.places if place.host)),
        ("vault", Counter(place.vault for place in keys.places if place.vault)),
    ):
        for name, count in sorted(held.items()):
            if count >= keys.threshold:
                message = f"{what} {name} holds {count} keys where {keys.threshold} sign"
                yield Finding(f"{what.upper()}_ALONE", keys.wallet, message)
    unjudged = sum(1 for place in keys.places if place.node is None)
    if unjudged >= keys.threshold:
        yield Finding("KEYS_WITHOUT_JUDGE", keys.wallet, f"{unjudged} keys without a judge reach {keys.threshold}")


def lint_signers(policy: Policy, keys: WalletKeys) -> Iterator[Finding]:
    """Yield what rules ask of signers that m cannot hold: all rules may match at once."""
    asked = [
        r.obligations.signers for r in policy.rules if r.obligations is not None and r.obligations.signers is not None
    ]
    include = {name for signers in asked for name in signers.include}
    offline = {node.name for node in policy.roots.nodes if node.location is Location.OFFLINE}
    cold = max((signers.min_offline for signers in asked), default=0)
    needed = len(include - offline) + max(cold, len(include & offline))
    if needed > keys.threshold:
        yield Finding("SIGNERS_ABOVE_M", keys.wallet, f"rules ask {needed} signers of a wallet of {keys.threshold}")
    left = {place.node for place in keys.places} - {name for signers in asked for name in signers.exclude}
    if len(left - {None}) + sum(1 for p in keys.places if p.node is None) < keys.threshold:
        yield Finding("SIGNERS_TOO_FEW", keys.wallet, f"exclusions leave fewer than {keys.threshold} signers")

"""The rules document as frozen values: who may ask, approve, sign and administer, under which rules, until when.

It holds no signatures; they travel outside it. Whoever holds a `Policy` holds one whose shape was proven by `parse`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from custody.policy.duties import Budget, Obligations
from custody.policy.terms import AllTerm, Operation


class Location(Enum):
    """Where a node stands: only offline ones count as cold."""

    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness. key: 32 bytes, Ed25519, for cosignatures only."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """A signer node.

    identity: 32 bytes.  witness_key: 32 bytes where it also witnesses: then one of the roots' witnesses.
    org, vault: who runs it, and the cluster of Vault servers that its key depends on; "" where the document is silent.
    """

    name: str
    identity: bytes
    location: Location
    host: str
    witness_key: bytes | None = None
    org: str = ""
    vault: str = ""


@dataclass(frozen=True, slots=True)
class Roots:
    """What the log is believed by.

    log_key: 32 bytes.  witnesses: all W of them, nodes included.  w: how many must cosign.  f: how many may lie.
    """

    log_key: bytes
    witnesses: tuple[Witness, ...]
    w: int
    f: int
    nodes: tuple[Node, ...]
    rp_ids: tuple[str, ...]
    origins: tuple[str, ...]

    def node(self, name: str) -> Node | None:
        """Return the node called `name`, or None."""
        return next((node for node in self.nodes if node.name == name), None)


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard bounds that no rule can widen."""

    bundle_max_age_s: int
    feerate_min_sat_vb: int
    feerate_max_sat_vb: int
    change_floor_sats: int
    change_max_outputs: int


@dataclass(frozen=True, slots=True)
class Credential:
    """A key of one principal.

    alg, key: as `custody.statements.Endorsement` has them.  seen: its owner's own program shows what it signs.
    device_bound: it lives in a device that does not give it away, as the admins who enrolled it saw.
    rp_id, origins: of a passkey, where it may be asked for.  desk_key: 32 bytes, Ed25519: of the program that shows its
    owner what it signs; empty for a passkey that is not seen, and for other keys.
    """

    alg: str
    key: bytes
    seen: bool
    device_bound: bool = False
    rp_id: str = ""
    origins: tuple[str, ...] = ()
    desk_key: bytes = b""

    @property
    def is_passkey(self) -> bool:
        """Whether its signatures are assertions, which come with conditions."""
        return bool(self.rp_id)


@dataclass(frozen=True, slots=True)
class Principal:
    """One human (a user) or one program (a service).

    valid_until: UTC seconds; from then on its keys count for nothing.
    """

    name: str
    org: str
    groups: tuple[str, ...]
    credentials: tuple[Credential, ...]
    valid_until: int
    is_service: bool

    def credential(self, key: bytes) -> Credential | None:
        """Return the credential with the public key `key`, or None."""
        return next((credential for credential in self.credentials if credential.key == key), None)


@dataclass(frozen=True, slots=True)
class ListEntry:
    """A named destination. script: its scriptPubKey.  valid_from: end of its cool-down.  expires_at: UTC seconds.

    approved_by: who spoke for it, for people to read; signatures of the document are what counts.
    """

    address: str
    script: bytes
    label: str
    valid_from: int
    expires_at: int
    approved_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DestinationList:
    """A list of destinations; one script stands on it once."""

    name: str
    entries: tuple[ListEntry, ...]

    def live_scripts(self, lo: int, hi: int) -> frozenset[bytes]:
        """Return the scripts whose cool-down ran out by `lo` and which have not expired by `hi`."""
        return frozenset(e.script for e in self.entries if e.valid_from <= lo and hi < e.expires_at)


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a budget looks. seconds: None for ever (type lifetime)."""

    name: str
    seconds: int | None


@dataclass(frozen=True, slots=True)
class WalletName:
    """A wallet as rules speak of it. wallet_id: 32 bytes."""

    name: str
    wallet_id: bytes
    classes: tuple[str, ...]


class RuleKind(Enum):
    """What a rule does."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE = "require"
    LIMIT = "limit"


class Mode(Enum):
    """A shadow rule is judged and shown, and changes nothing."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. obligations: of a require.  budget: of a limit.  not_before, expires_at: UTC seconds, None for open.

    operations: what it speaks of; anything else it leaves alone.
    """

    id: str
    kind: RuleKind
    mode: Mode
    match: AllTerm
    obligations: Obligations | None = None
    budget: Budget | None = None
    reason_code: str = ""
    not_before: int | None = None
    expires_at: int | None = None
    description: str = ""
    operations: tuple[Operation, ...] = (Operation.WITHDRAWAL,)


@dataclass(frozen=True, slots=True)
class Quorum:
    """`threshold` different people, each in one of `groups`."""

    groups: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class ChangeQuorum:
    """Who may sign the next version; with `exclude_author` its author is not counted.

    distinct_orgs: each organisation counts once, however many of its people sign.
    """

    groups: tuple[str, ...]
    threshold: int
    exclude_author: bool
    distinct_orgs: bool = False


@dataclass(frozen=True, slots=True)
class Admin:
    """Who changes, freezes and unfreezes. loosen_delay_s: how long a loosening waits under THIS version.

    list_quorum, people_quorum: who signs what changes address lists, or people; None: as everything else.
    locked_rules: ids of rules that no later version may change or leave out, sorted.
    """

    change_quorum: ChangeQuorum
    loosen_delay_s: int
    freeze: Quorum
    unfreeze: Quorum
    list_quorum: ChangeQuorum | None = None
    people_quorum: ChangeQuorum | None = None
    locked_rules: tuple[str, ...] = ()

    @property
    def change_quorums(self) -> dict[str, ChangeQuorum]:
        """Every quorum that signs documents, by its name."""
        named = {"list_quorum": self.list_quorum, "people_quorum": self.people_quorum}
        return {"change_quorum": self.change_quorum, **{n: q for n, q in named.items() if q is not None}}


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of the rules. hash, prev_hash: 32 bytes.  Times: UTC seconds; from not_after on, all is denied."""

    hash: bytes
    policy_id: str
    version: int
    prev_hash: bytes
    network: str
    effective_from: int
    not_after: int
    roots: Roots
    limits: Limits
    users: tuple[Principal, ...]
    services: tuple[Principal, ...]
    groups: tuple[str, ...]
    lists: tuple[DestinationList, ...]
    windows: tuple[Window, ...]
    wallets: tuple[WalletName, ...]
    rules: tuple[Rule, ...]
    admin: Admin

    @property
    def principals(self) -> tuple[Principal, ...]:
        """Users, then services."""
        return self.users + self.services

    @property
    def wallet_ids(self) -> dict[str, bytes]:
        """The id (32 bytes) of each wallet by its name."""
        return {wallet.name: wallet.wallet_id for wallet in self.wallets}

    def principal(self, name: str) -> Principal | None:
        """Return the user or service called `name`, or None."""
        return next((p for p in self.principals if p.name == name), None)

    def rule(self, name: str) -> Rule | None:
        """Return the rule with the id `name`, or None."""
        return next((rule for rule in self.rules if rule.id == name), None)

    def wallet(self, wallet_id: bytes) -> WalletName | None:
        """Return the wallet with `wallet_id` (32 bytes), or None."""
        return next((wallet for wallet in self.wallets if wallet.wallet_id == wallet_id), None)

    def destination_list(self, name: str) -> DestinationList | None:
        """Return the destination list called `name`, or None."""
        return next((found for found in self.lists if found.name == name), None)

    def window(self, name: str) -> Window | None:
        """Return the window called `name`, or None."""
        return next((window for window in self.windows if window.name == name), None)

    def heads(self, quorum: ChangeQuorum, people: Collection[str]) -> int:
        """Return how many of `people` count towards `quorum`: with `distinct_orgs` each organisation once.

        With `exclude_author` the author does not count. Nobody can prove who that is, so it is as many as remain
        whichever of them it was.
        """
        orgs = {principal.name: principal.org for principal in self.principals if principal.name in people}
        authors: Iterable[str] = orgs if quorum.exclude_author else ("",)
        remaining = [[org for name, org in orgs.items() if name != author] for author in authors]
        return min((len(set(found) if quorum.distinct_orgs else found) for found in remaining), default=0)

    def members(self, group: str) -> tuple[Principal, ...]:
        """Return the people of `group`: services are in no head count."""
        return tuple(user for user in self.users if group in user.groups)

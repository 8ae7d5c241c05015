"""The demo's organisation: its people, its rules, its genesis. For regtest on one machine; production writes its own.

Rules: small withdrawals by operations are signed by policy alone; from 0.1 BTC two other people approve what their own
program showed them; from 1 BTC the offline node signs first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custody import ed25519
from custody.canonical import Json
from custody.genesis import GenesisWallet, Purpose, Slot, compose, read_key_record, with_endorsement
from custody.statements import Endorsement, Kind, Signed, endorse
from custody.wallet import Network, make_wallet, parse_key

WALLET = "treasury"
DAY = 86_400
SMALL_BELOW_SATS, COLD_FROM_SATS = 10_000_000, 100_000_000
PEOPLE: Mapping[str, tuple[str, ...]] = {
    "alice": ("ops",),
    "bob": ("ops", "security"),
    "carol": ("ops",),
    "dave": ("security",),
    "erin": ("admins",),
    "frank": ("admins",),
}


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Where a node stands. record: what it said of its keys."""

    name: str
    location: str
    host: str
    record: Signed


@dataclass(frozen=True, slots=True)
class Pins:
    """The public keys that rules name beside people and nodes: 32 bytes each.

    witnesses: by name; one that is called like a node is that node's.  w: how many of them must vouch.
    """

    log_key: bytes
    witnesses: Mapping[str, bytes]
    w: int


def make_person_key(path: Path) -> bytes:
    """Make a person's Ed25519 seed file (hex, 0600), once; return the public key: 32 bytes."""
    seed = os.urandom(32)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(seed.hex())
    return ed25519.public_key(seed)


def rules(
    people: Mapping[str, bytes],
    nodes: Sequence[NodePlace],
    pins: Pins,
    wallet_id: bytes,
    now: int,
    extra: Sequence[Json] = (),
) -> dict[str, Json]:
    """Return the rules document, version 1, in force from an hour before `now` (UTC seconds), with `extra` rules."""
    return {
        "schema": "custody-policy/1",
        "policy_id": WALLET,
        "version": 1,
        "prev_hash": "00" * 32,
        "network": "regtest",
        "effective_from": now - 3600,
        "not_after": now + 60 * DAY,
        "roots": {
            "log_key": pins.log_key.hex(),
            "witnesses": [{"name": name, "key": key.hex()} for name, key in pins.witnesses.items()],
            "w": pins.w,
            "f": 0,
            "nodes": [_node(place, pins.witnesses.get(place.name)) for place in nodes],
            "rp_ids": [],
            "origins": [],
        },
        "limits": {
            "bundle_max_age_s": DAY,
            "feerate_min_sat_vb": 1,
            "feerate_max_sat_vb": 200,
            "change_floor_sats": 10_000,
            "change_max_outputs": 1,
        },
        "principals": {
            "users": [_person(name, groups, people[name], now) for name, groups in PEOPLE.items()],
            "services": [],
            "groups": ["ops", "security", "admins"],
        },
        "lists": [],
        "windows": {"day": {"type": "sliding", "seconds": DAY}},
        "wallets": {WALLET: {"wallet_id": wallet_id.hex(), "classes": []}},
        "rules": [*_rules(), *extra],
        "admin": {
            "change_quorum": {"groups": ["admins"], "threshold": 2, "exclude_author": False},
            "loosen_delay_s": DAY,
            "freeze": {"groups": ["security", "admins"], "threshold": 1},
            "unfreeze": {"groups": ["admins"], "threshold": 2},
        },
    }


def genesis_of(
    people: Mapping[str, bytes],
    nodes: Sequence[NodePlace],
    pins: Pins,
    now: int,
    threshold: int = 2,
    declared: Mapping[str, str] | None = None,
    extra_rules: Sequence[Json] = (),
) -> Signed:
    """Return the genesis document of one wallet over `nodes`, then `declared` (key expression -> admin); unsigned."""
    slots = [Slot(read_key_record(place.record).key, place.name, record=place.record) for place in nodes] + [
        Slot(key, None, admin=admin) for key, admin in (declared or {}).items()
    ]
    keys = tuple(parse_key(slot.key, Network.REGTEST) for slot in slots)
    wallet = make_wallet(threshold, keys, Network.REGTEST)
    document = rules(people, nodes, pins, wallet.wallet_id, now, extra_rules)
    return compose(Purpose.DEMO, Network.REGTEST, (GenesisWallet(WALLET, wallet, tuple(slots)),), document)


def signed_by(genesis: Signed, endorsements: Sequence[Endorsement], admin_seeds: Sequence[bytes]) -> Signed:
    """Return the genesis with the nodes' endorsements and the admins' own."""
    admins = [endorse(Kind.GENESIS, genesis.raw, seed) for seed in admin_seeds]
    for endorsement in (*endorsements, *admins):
        genesis = with_endorsement(genesis, endorsement)
    return genesis


def _rules() -> list[Json]:
    by_ops: dict[str, Json] = {"wallet": {"names": [WALLET]}, "initiator": {"groups": ["ops"]}}
    return [
        {"id": "pay", "kind": "allow", "match": {**by_ops, "amount": {"max_sats": 500_000_000}}},
        {
            "id": "housekeeping",
            "kind": "allow",
            "match": {**by_ops, "payments": "none", "fee": {"max_sats": 200_000}},
        },
        {
            "id": "housekeeping-cap",
            "kind": "limit",
            "match": {"payments": "none"},
            "then": {"window": "day", "max_fee_sats": 500_000, "on_exceed": "deny"},
        },
        {
            "id": "daily-cap",
            "kind": "limit",
            "match": {"wallet": {"names": [WALLET]}},
            "then": {"window": "day", "max_sats": 1_000_000_000, "on_exceed": "deny"},
        },
        {
            "id": "two-eyes",
            "kind": "require",
            "match": {"amount": {"min_sats": SMALL_BELOW_SATS}},
            "then": {"approvals": {"group": "ops", "threshold": 2}},
        },
        {
            "id": "cold-for-large",
            "kind": "require",
            "match": {"amount": {"min_sats": COLD_FROM_SATS}},
            "then": {"signers": {"min_offline": 1}},
        },
    ]


def _person(name: str, groups: tuple[str, ...], key: bytes, now: int) -> Json:
    return {
        "name": name,
        "org": "acme",
        "groups": list(groups),
        "credentials": [{"alg": "ed25519", "key": key.hex(), "seen": True}],
        "valid_until": now + 365 * DAY,
    }


def _node(place: NodePlace, witness_key: bytes | None) -> Json:
    identity = read_key_record(place.record).identity
    listed = {"name": place.name, "identity": identity.hex(), "location": place.location, "host": place.host}
    return listed if witness_key is None else {**listed, "witness_key": witness_key.hex()}

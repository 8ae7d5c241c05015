"""A small organisation, its rules document, and one withdrawal under it: valid until a test changes one thing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from custody import ed25519
from custody.address import address_of, script_of
from custody.approval import Approval, Decision
from custody.decide import Case
from custody.entries import Release
from custody.interval import Interval
from custody.policy import Policy, parse_policy
from custody.policy.budgets import FamilySpend
from custody.statements import Kind, Signed, sign
from custody.transaction import OutPoint, TxOut
from custody.units import Sats
from custody.wallet import Network
from custody.withdrawal import NEW, Payment, Relation, Withdrawal

if TYPE_CHECKING:
    from custody.facts import Facts

NOW = 1_800_000_000  # Friday 2027-01-15 08:00:00 UTC
GENESIS = bytes([7]) * 32
TREASURY = bytes([1]) * 32
VAULT = bytes([2]) * 32
DAY = 86_400
Document = dict[str, Any]


def seed_of(name: str) -> bytes:
    """Return the secret key of `name` (32 bytes); the same on every call."""
    return hashlib.sha256(f"test seed of {name}".encode()).digest()


def key_of(name: str) -> bytes:
    """Return the public key of `name` (32 bytes)."""
    return ed25519.public_key(seed_of(name))


def script(tag: int) -> bytes:
    """Return a p2wsh scriptPubKey, another for each `tag`."""
    return b"\x00\x20" + bytes([tag]) * 32


def address(tag: int) -> str:
    """Return the regtest address of `script(tag)`."""
    return address_of(script(tag), Network.REGTEST)


EXCHANGE, SUPPLIER, STRANGER = 11, 12, 13


def principal(name: str, org: str, groups: Sequence[str], *, seen: bool = True) -> Document:
    """Return one user or service of the document."""
    return {
        "name": name,
        "org": org,
        "groups": list(groups),
        "credentials": [{"alg": "ed25519", "key": key_of(name).hex(), "seen": seen}],
        "valid_until": NOW + 365 * DAY,
    }


def node(name: str, location: str = "online") -> Document:
    """Return one node of the document, alone on its host."""
    return {"name": name, "identity": key_of(name).hex(), "location": location, "host": f"host-{name}"}


def rule(
    name: str, kind: str, match: Mapping[str, Any], then: Mapping[str, Any] | None = None, **more: Any
) -> Document:
    """Return one rule of the document."""
    return {
        "id": name,
        "kind": kind,
        "match": dict(match),
        **({"then": dict(then)} if then is not None else {}),
        **more,
    }


PAY = rule("pay", "allow", {"wallet": {"names": ["treasury"]}, "amount": {"max_sats": 500_000_000}})


def document(*rules: Mapping[str, Any], **changes: Any) -> Document:
    """Return the rules document with `rules` (PAY alone where none are given) and top-level `changes`."""
    found: Document = {
        "schema": "custody-policy/1",
        "policy_id": "treasury",
        "version": 1,
        "prev_hash": "00" * 32,
        "network": "regtest",
        "effective_from": NOW - DAY,
        "not_after": NOW + 30 * DAY,
        "roots": {
            "log_key": key_of("log").hex(),
            "witnesses": [{"name": "witness", "key": key_of("witness").hex()}],
            "w": 1,
            "f": 0,
            "nodes": [node("alpha"), node("beta"), node("cold", "offline")],
            "rp_ids": [],
            "origins": [],
        },
        "limits": {
            "bundle_max_age_s": DAY,
            "feerate_min_sat_vb": 1,
            "feerate_max_sat_vb": 500,
            "change_floor_sats": 10_000,
            "change_max_outputs": 1,
        },
        "principals": {
            "users": [
                principal("alice", "acme", ["ops"]),
                principal("bob", "acme", ["ops", "security"]),
                principal("carol", "acme", ["ops"]),
                principal("dave", "guard", ["security"]),
                principal("erin", "acme", ["admins"]),
                principal("frank", "acme", ["admins"]),
                principal("grace", "guard", ["admins"]),
                principal("blind-ben", "acme", ["ops"], seen=False),
            ],
            "services": [principal("screening", "guard", []), principal("payroll", "acme", ["bots"])],
            "groups": ["ops", "security", "admins", "bots"],
        },
        "lists": [{"name": "exchanges", "entries": [list_entry(EXCHANGE)]}],
        "windows": {"day": {"type": "sliding", "seconds": DAY}, "ever": {"type": "lifetime"}},
        "wallets": {
            "treasury": {"wallet_id": TREASURY.hex(), "classes": ["hot"]},
            "vault": {"wallet_id": VAULT.hex(), "classes": ["cold"]},
        },
        "rules": [dict(r) for r in rules] or [PAY],
        "admin": {
            "change_quorum": {"groups": ["admins"], "threshold": 2, "exclude_author": True},
            "loosen_delay_s": DAY,
            "freeze": {"groups": ["security", "admins"], "threshold": 1},
            "unfreeze": {"groups": ["admins"], "threshold": 2},
        },
    }
    found.update(changes)
    return found


def list_entry(tag: int, **changes: Any) -> Document:
    """Return a list entry for `address(tag)`, live for a year around NOW."""
    entry = {"address": address(tag), "label": f"payee {tag}", "valid_from": NOW - DAY, "expires_at": NOW + 365 * DAY}
    return {**entry, **changes}


def policy(*rules: Mapping[str, Any], **changes: Any) -> Policy:
    """Return `document(...)` parsed."""
    return parse_policy(document(*rules, **changes))


@dataclass(frozen=True)
class FakeInput:
    """An input as far as rules look at it."""

    outpoint: OutPoint
    script: bytes = b"\x00\x20" + bytes(32)


@dataclass(frozen=True)
class FakeFacts:
    """The attributes of `custody.facts.Facts` that rules look at."""

    payments: tuple[TxOut, ...]
    fee_sats: int = 1_000
    vsize_vb: int = 200
    inputs: tuple[FakeInput, ...] = (FakeInput(OutPoint(bytes([9]) * 32, 0)),)
    change: tuple[object, ...] = ()
    txid: bytes = bytes(32)

    @property
    def outpoints(self) -> frozenset[OutPoint]:
        """The coins it spends."""
        return frozenset(found.outpoint for found in self.inputs)


def fake_input(tag: int) -> FakeInput:
    """Return a coin, another for each `tag`."""
    return FakeInput(OutPoint(bytes([tag]) * 32, 0))


def withdrawal(*payments: tuple[int, int], **changes: Any) -> Withdrawal:
    """Return a withdrawal by alice that pays (tag, sats) each; the exchange 50,000 sats where none are given."""
    base = Withdrawal(
        genesis=GENESIS,
        withdrawal_id="w-1",
        wallet_id=TREASURY,
        network="regtest",
        payments=tuple(Payment(address(tag), Sats(amount)) for tag, amount in payments or [(EXCHANGE, 50_000)]),
        max_fee_sats=Sats(2_000),
        relation=NEW,
        initiator="alice",
        created_at=NOW - 100,
        expires_at=NOW + DAY,
        rules_floor=1,
    )
    return replace(base, **changes)


def self_transfer(**changes: Any) -> Withdrawal:
    """Return a withdrawal that pays nobody."""
    return withdrawal(payments=(), **changes)


def signed_by_initiator(asked: Withdrawal) -> Signed:
    """Return the statement of `asked`, signed by the one it names."""
    return sign(Kind.WITHDRAWAL, asked.to_json(), seed_of(asked.initiator))


def approval(asked: Withdrawal, person: str, *, signer: str | None = None, **changes: Any) -> tuple[Approval, Signed]:
    """Return the approval of `asked` by `person`, with one field changed or another's key where told."""
    base = Approval(asked.genesis, asked.digest, Decision.APPROVE, person, NOW - 50, NOW + DAY)
    said = replace(base, **changes)
    return said, sign(Kind.APPROVAL, said.to_json(), seed_of(signer or person))


def outputs(asked: Withdrawal) -> tuple[TxOut, ...]:
    """Return the outputs that `asked` asks for."""
    return tuple(TxOut(p.amount_sats, script_of(p.address, Network.REGTEST)) for p in asked.payments)


def case(asked: Withdrawal | None = None, *people: str, facts: Mapping[str, Any] | None = None, **changes: Any) -> Case:
    """Return the case of `asked` with approvals by `people`, judged at NOW, with nothing released before."""
    asked = asked or withdrawal()
    base = Case(
        withdrawal=asked,
        facts=cast("Facts", FakeFacts(outputs(asked), **(facts or {}))),
        approvals=tuple(approval(asked, person) for person in people),
        families=(),
        family=asked.digest,
        time=Interval(NOW, NOW),
        t_release=NOW,
    )
    return replace(base, **changes)


def release(asked: Withdrawal, family: bytes | None = None) -> Release:
    """Return a release of `asked`."""
    return Release(
        withdrawal_digest=asked.digest,
        withdrawal_id=asked.withdrawal_id,
        wallet_id=asked.wallet_id,
        family=family or asked.digest,
        approvals=(),
        txid=bytes(32),
        outpoints=(OutPoint(bytes([9]) * 32, 0),),
        payments=outputs(asked),
        change=(),
        fee_sats=Sats(1_000),
        max_fee_sats=asked.max_fee_sats,
        initiator=asked.initiator,
        relation=Relation(asked.relation.kind, asked.relation.digests),
        time=NOW,
    )


def family(*asked: Withdrawal, t: int = NOW) -> FamilySpend:
    """Return a family released with `asked`, the first of which names it, the latest at `t`."""
    return FamilySpend(asked[0].digest, tuple(release(w, asked[0].digest) for w in asked), t)

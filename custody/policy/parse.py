"""Read a rules document from canonical JSON, once, into a `Policy` that cannot be wrong in its shape.

Unknown fields are refused everywhere: a word that this version does not know may have been a restriction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from custody import webauthn
from custody.address import script_of
from custody.canonical import Json, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields, check_name
from custody.policy.document import (
    Admin,
    ChangeQuorum,
    Credential,
    DestinationList,
    Limits,
    ListEntry,
    Location,
    Node,
    Policy,
    Principal,
    Quorum,
    Roots,
    WalletName,
    Window,
    Witness,
)
from custody.policy.parse_rules import read_rule
from custody.statements import ALGORITHMS, MAX_STATEMENT_BYTES, Kind, read_key
from custody.units import MAX_MONEY_SATS
from custody.wallet import Network

SCHEMA = "custody-policy/1"
MAX_VALIDITY_S = 90 * 86_400  # policy.md: rules that nobody renews stop signing within a quarter
MAX_BUNDLE_AGE_S = 14 * 86_400  # an air gap that takes longer than two weeks is asked anew
MAX_LOOSEN_DELAY_S = 30 * 86_400  # a longer wait outlives the rules' own validity in practice
MAX_WINDOW_S = 400 * 86_400  # "a year" with room; budgets for ever are of type lifetime
MAX_FEERATE_SAT_VB = 100_000  # far above any block ever mined; keeps products small
MAX_PRINCIPALS = 1_000  # people and programs of one organisation; more belong to another document
MAX_RULES = 1_000  # decisions stay in milliseconds
MAX_CREDENTIALS = 16  # per principal: a laptop, a phone, a spare, and a margin

T = TypeVar("T")


def policy_hash(document: Json) -> bytes:
    """Return the hash of the rules `document` (32 bytes): the digest that its signers sign."""
    return tagged_hash(Kind.RULES.value, encode(document))


def parse_policy(document: Json) -> Policy:
    """Return the rules in `document`.

    Raises:
        MalformedError: POLICY_SCHEMA, POLICY_TOO_LARGE, POLICY_NETWORK, POLICY_DATES, POLICY_VERSION, POLICY_DUPLICATE,
            POLICY_GROUP_UNKNOWN, POLICY_LOCK_UNKNOWN, POLICY_KEY_REUSED, POLICY_NOT_SUPPORTED, POLICY_EMPTY_MATCHER,
            ROOTS_WITNESSES, ROOTS_NODE_WITNESS, an ADDRESS_ code or a FIELD_ code.
    """
    # Plan: 1 size and schema · 2 each part · 3 what parts say of each other (names once, keys once, groups known).
    raw = encode(document)
    if len(raw) > MAX_STATEMENT_BYTES:
        raise MalformedError("POLICY_TOO_LARGE", f"expected at most {MAX_STATEMENT_BYTES} bytes, found {len(raw)}")
    fields = Fields(document, "policy")
    if (schema := fields.text("schema")) != SCHEMA:
        raise MalformedError("POLICY_SCHEMA", f"policy.schema: expected {SCHEMA}, found {schema[:40]!r}")
    network = _network(fields.text("network"))
    principals = fields.fields("principals")
    policy = Policy(
        hash=tagged_hash(Kind.RULES.value, raw),
        policy_id=fields.name("policy_id"),
        version=fields.integer("version", 1),
        prev_hash=fields.hex("prev_hash", 32),
        network=network.value,
        effective_from=fields.time("effective_from"),
        not_after=fields.time("not_after"),
        roots=_read_roots(fields.fields("roots")),
        limits=_read_limits(fields.fields("limits")),
        users=_each(principals, "users", lambda item: _read_principal(item, is_service=False), MAX_PRINCIPALS),
        services=_each(principals, "services", lambda item: _read_principal(item, is_service=True), MAX_PRINCIPALS),
        groups=principals.names("groups"),
        lists=_each(fields, "lists", lambda item: _read_list(item, network)),
        windows=_named(fields, "windows", _read_window),
        wallets=_named(fields, "wallets", _read_wallet),
        rules=_each(fields, "rules", lambda item: read_rule(item, network), MAX_RULES),
        admin=_read_admin(fields.fields("admin")),
    )
    principals.done()
    fields.done()
    _check_versions(policy)
    _check_names(policy)
    _check_keys(policy)
    return policy


def _network(text: str) -> Network:
    network = next((n for n in Network if n.value == text), None)
    if network is None:
        raise MalformedError("POLICY_NETWORK", f"policy.network: expected a known network, found {text[:20]!r}")
    return network


def _each(fields: Fields, key: str, read: Callable[[Fields], T], max_items: int = 10_000) -> tuple[T, ...]:
    found = []
    for at, item in enumerate(fields.items(key, max_items)):
        inner = Fields(item, f"{fields.where}.{key}[{at}]")
        found.append(read(inner))
        inner.done()
    return tuple(found)


def _named(fields: Fields, key: str, read: Callable[[str, Fields], T]) -> tuple[T, ...]:
    """Read an object whose keys are names, in the order of the names."""
    value = fields.any(key)
    if not isinstance(value, Mapping):
        raise MalformedError("FIELD_TYPE", f"{fields.where}.{key}: expected an object, found {type(value).__name__}")
    found = []
    for name in sorted(value):
        where = f"{fields.where}.{key}"
        inner = Fields(value[name], f"{where}.{check_name(name, where)}")
        found.append(read(name, inner))
        inner.done()
    return tuple(found)


def _read_roots(fields: Fields) -> Roots:
    roots = Roots(
        log_key=fields.hex("log_key", 32),
        witnesses=_each(fields, "witnesses", lambda item: Witness(item.name("name"), item.hex("key", 32)), 63),
        w=fields.integer("w", 0, 63),
        f=fields.integer("f", 0, 63),
        nodes=_each(fields, "nodes", _read_node, 64),
        rp_ids=tuple(_texts(fields, "rp_ids")),
        origins=tuple(_texts(fields, "origins")),
    )
    fields.done()
    total = len(roots.witnesses)
    if not 1 <= roots.w <= total or not 2 * roots.w > total + roots.f:
        raise MalformedError(
            "ROOTS_WITNESSES",
            f"{fields.where}.w: expected 1 <= w <= W, 2w > W + f, found W={total} w={roots.w} f={roots.f}",
        )
    witness_keys = {witness.key for witness in roots.witnesses}
    for node in roots.nodes:
        if node.witness_key is None:
            continue
        if node.location is Location.OFFLINE or node.witness_key not in witness_keys:
            raise MalformedError(
                "ROOTS_NODE_WITNESS",
                f"{fields.where}.nodes: expected {node.name} online with a witness's key, or without one",
            )
    return roots


def _texts(fields: Fields, key: str) -> Iterable[str]:
    for item in fields.items(key, 32):
        yield Fields({key: item}, fields.where).text(key)


def _read_node(fields: Fields) -> Node:
    name, location_text = fields.name("name"), fields.text("location")
    location = next((place for place in Location if place.value == location_text), None)
    if location is None:
        raise MalformedError("FIELD_RANGE", f"{fields.where}.location: expected online or offline")
    return Node(
        name=name,
        identity=fields.hex("identity", 32),
        location=location,
        host=fields.name("host"),
        witness_key=fields.hex("witness_key", 32) if fields.has("witness_key") else None,
        org=fields.name("org") if fields.has("org") else "",
        vault=fields.name("vault") if fields.has("vault") else "",
    )


def _read_limits(fields: Fields) -> Limits:
    limits = Limits(
        bundle_max_age_s=fields.integer("bundle_max_age_s", 1, MAX_BUNDLE_AGE_S),
        feerate_min_sat_vb=fields.integer("feerate_min_sat_vb", 0, MAX_FEERATE_SAT_VB),
        feerate_max_sat_vb=fields.integer("feerate_max_sat_vb", 1, MAX_FEERATE_SAT_VB),
        change_floor_sats=fields.integer("change_floor_sats", 330, MAX_MONEY_SATS),  # 330: dust of a p2wsh output
        change_max_outputs=fields.integer("change_max_outputs", 0, 16),
    )
    fields.done()
    if limits.feerate_min_sat_vb > limits.feerate_max_sat_vb:
        raise MalformedError("FIELD_RANGE", f"{fields.where}.feerate_min_sat_vb: expected at most feerate_max_sat_vb")
    return limits


def _read_principal(fields: Fields, *, is_service: bool) -> Principal:
    return Principal(
        name=fields.name("name"),
        org=fields.name("org"),
        groups=fields.names("groups"),
        credentials=_each(fields, "credentials", _read_credential, MAX_CREDENTIALS),
        valid_until=fields.time("valid_until"),
        is_service=is_service,
    )


def _read_credential(fields: Fields) -> Credential:
    alg = fields.text("alg")
    if alg not in ALGORITHMS:
        expected = " or ".join(ALGORITHMS)
        raise MalformedError("POLICY_NOT_SUPPORTED", f"{fields.where}.alg: expected {expected}, found {alg[:20]!r}")
    device_bound = fields.boolean("device_bound") if fields.has("device_bound") else False
    credential = Credential(alg, read_key(alg, fields), fields.boolean("seen"), device_bound)
    return credential if alg not in webauthn.KEY_BYTES else _read_passkey(credential, fields)


def _read_passkey(credential: Credential, fields: Fields) -> Credential:
    """A passkey shows nothing: it is seen only beside the key of the program that does (protocol.md "Approval")."""
    rp_id, origins = fields.text("rp_id"), tuple(_texts(fields, "origins"))
    if not rp_id.isascii() or not rp_id or not origins:
        raise MalformedError("POLICY_PASSKEY", f"{fields.where}: expected an ASCII rp_id and at least one origin")
    if fields.has("desk_key") != credential.seen:
        raise MalformedError("POLICY_PASSKEY", f"{fields.where}: expected a desk_key if and only if it is seen")
    desk_key = fields.hex("desk_key", 32) if credential.seen else b""
    return replace(credential, rp_id=rp_id, origins=origins, desk_key=desk_key)


def _read_list(fields: Fields, network: Network) -> DestinationList:
    name = fields.name("name")
    entries = _each(fields, "entries", lambda item: _read_entry(item, network))
    _once(f"list {name}", (entry.script for entry in entries))
    return DestinationList(name, entries)


def _read_entry(fields: Fields, network: Network) -> ListEntry:
    address = fields.text("address", 120)
    entry = ListEntry(
        address=address,
        script=script_of(address, network),
        label=fields.text("label", 140),
        valid_from=fields.time("valid_from"),
        expires_at=fields.time("expires_at"),
        approved_by=fields.names("approved_by") if fields.has("approved_by") else (),
    )
    if not entry.label.isprintable():
        raise MalformedError("LABEL_UNPRINTABLE", f"{fields.where}.label: expected printable characters")
    return entry


def _read_window(name: str, fields: Fields) -> Window:
    kind = fields.text("type")
    if kind == "lifetime":
        return Window(name, None)
    if kind != "sliding":
        raise MalformedError("POLICY_NOT_SUPPORTED", f"{fields.where}.type: expected sliding or lifetime")
    return Window(name, fields.integer("seconds", 1, MAX_WINDOW_S))


def _read_wallet(name: str, fields: Fields) -> WalletName:
    return WalletName(name, fields.hex("wallet_id", 32), fields.names("classes"))


def _read_admin(fields: Fields) -> Admin:
    admin = Admin(
        change_quorum=_read_change_quorum(fields.fields("change_quorum")),
        loosen_delay_s=fields.integer("loosen_delay_s", 0, MAX_LOOSEN_DELAY_S),
        freeze=_read_quorum(fields.fields("freeze")),
        unfreeze=_read_quorum(fields.fields("unfreeze")),
        list_quorum=_read_change_quorum(fields.fields("list_quorum")) if fields.has("list_quorum") else None,
        people_quorum=_read_change_quorum(fields.fields("people_quorum")) if fields.has("people_quorum") else None,
        locked_rules=tuple(sorted(fields.names("locked_rules"))) if fields.has("locked_rules") else (),
    )
    fields.done()
    return admin


def _read_change_quorum(fields: Fields) -> ChangeQuorum:
    quorum = ChangeQuorum(
        groups=_some_groups(fields),
        threshold=fields.integer("threshold", 1, 64),
        exclude_author=fields.boolean("exclude_author"),
        distinct_orgs=fields.boolean("distinct_orgs") if fields.has("distinct_orgs") else False,
    )
    fields.done()
    return quorum


def _read_quorum(fields: Fields) -> Quorum:
    quorum = Quorum(_some_groups(fields), fields.integer("threshold", 1, 64))
    fields.done()
    return quorum


def _some_groups(fields: Fields) -> tuple[str, ...]:
    groups = fields.names("groups")
    if not groups:
        raise MalformedError("FIELD_RANGE", f"{fields.where}.groups: expected at least one group")
    return groups


def _check_versions(policy: Policy) -> None:
    if (policy.version == 1) != (policy.prev_hash == bytes(32)):
        raise MalformedError("POLICY_VERSION", "policy.prev_hash: expected 64 zeros in version 1 and there alone")
    if not policy.effective_from < policy.not_after <= policy.effective_from + MAX_VALIDITY_S:
        raise MalformedError("POLICY_DATES", "policy.not_after: expected within 90 days after effective_from")


def _check_names(policy: Policy) -> None:
    """One name is one thing: a second bearer could stand where the first was meant."""
    _once("principal", (p.name for p in policy.principals))
    _once("list", (found.name for found in policy.lists))
    _once("rule", (rule.id for rule in policy.rules))
    _once("node", (node.name for node in policy.roots.nodes))
    _once("witness", (witness.name for witness in policy.roots.witnesses))
    _once("wallet_id", (wallet.wallet_id for wallet in policy.wallets))
    if unknown := set(policy.admin.locked_rules) - {rule.id for rule in policy.rules}:
        raise MalformedError("POLICY_LOCK_UNKNOWN", f"admin.locked_rules: expected a listed rule, found {min(unknown)}")
    for principal in policy.principals:
        if unknown := set(principal.groups) - set(policy.groups):
            raise MalformedError(
                "POLICY_GROUP_UNKNOWN", f"{principal.name}: expected a listed group, found {min(unknown)}"
            )
        for passkey in (credential for credential in principal.credentials if credential.is_passkey):
            if passkey.rp_id not in policy.roots.rp_ids or not set(passkey.origins) <= set(policy.roots.origins):
                raise MalformedError(
                    "POLICY_PASSKEY", f"{principal.name}: expected an rp_id and origins that roots lists"
                )


def _check_keys(policy: Policy) -> None:
    """Every key has one owner and one use: the same key under two names would be one human with two votes."""
    keys = [policy.roots.log_key]
    keys.extend(witness.key for witness in policy.roots.witnesses)  # a node's witness_key is one of these
    keys.extend(node.identity for node in policy.roots.nodes)
    for principal in policy.principals:
        keys.extend(credential.key for credential in principal.credentials)
        keys.extend({credential.desk_key for credential in principal.credentials if credential.desk_key})
    key, uses = Counter(keys).most_common(1)[0]
    if uses > 1:
        raise MalformedError("POLICY_KEY_REUSED", f"expected each key once, found {key.hex()[:16]} {uses} times")
    witness_keys = [node.witness_key for node in policy.roots.nodes if node.witness_key is not None]
    if len(set(witness_keys)) != len(witness_keys):
        raise MalformedError("POLICY_KEY_REUSED", "expected a different witness_key for each node")


def _once(what: str, values: Iterable[str | bytes]) -> None:
    value, uses = max(Counter(values).items(), key=lambda item: item[1], default=("", 0))
    if uses > 1:
        shown = value.hex() if isinstance(value, bytes) else value
        raise MalformedError("POLICY_DUPLICATE", f"expected each {what} once, found {shown[:64]} {uses} times")

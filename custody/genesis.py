"""The root document: which wallets, which nodes, whose keys, which rules first. Every statement names its hash.

A node pins it only by a command given on the node itself, after people compared its twelve words between machines.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum

from custody.backups import Making, check_backups, check_places
from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields
from custody.policy import Policy, parse_policy
from custody.quorum import key_holders
from custody.statements import Endorsement, Kind, Signed
from custody.wallet import Network, Wallet, parse_wallet

SCHEMA = "keyturn-genesis/1"
MAX_WALLETS = 64  # one document must stay readable by the people who compare it


class Purpose(Enum):
    """A demo may run with fewer witnesses and hosts than safety needs, on regtest only."""

    DEMO = "demo"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What one node says of the key it made: signed by the node's identity key.

    identity: 32 bytes, Ed25519.  key: `[fingerprint/path]xpub` as it stands in the descriptor.
    making: the transcript of its ceremony; None where the node made its key alone and without a backup.
    """

    node: str
    identity: bytes
    network: Network
    key: str
    made_at: int
    making: Making | None = None

    def to_json(self) -> Json:
        """Return the statement that the node signs."""
        statement: dict[str, Json] = {
            "node": self.node,
            "identity": self.identity.hex(),
            "network": self.network.value,
            "key": self.key,
            "made_at": self.made_at,
        }
        return statement if self.making is None else {**statement, "making": self.making.to_json()}


@dataclass(frozen=True, slots=True)
class Slot:
    """One key of a wallet.

    node: who judges before it signs with this key, or None for a declared third-party key, answered for by `admin`.
    """

    key: str
    node: str | None
    admin: str | None = None
    record: Signed | None = None

    @property
    def making(self) -> Making | None:
        """How the key was made, where its record says so."""
        return None if self.record is None else read_key_record(self.record).making


@dataclass(frozen=True, slots=True)
class GenesisWallet:
    """A wallet and who holds its keys. slots: in the order of the descriptor's keys.

    document: of a wallet that came later, the digest (32 bytes) that each of its nodes pins; b"" for the genesis's own.
    """

    name: str
    wallet: Wallet
    slots: tuple[Slot, ...]
    document: bytes = b""

    def key_index(self, node: str) -> int | None:
        """Return which key of the descriptor `node` holds, or None."""
        return next((at for at, slot in enumerate(self.slots) if slot.node == node), None)


@dataclass(frozen=True, slots=True)
class Genesis:
    """The pinned root. hash: 32 bytes. signed: the document and its signatures as they travel.

    wallets: its own; a follower's has those behind them that came later (`custody.later_wallet`).
    """

    hash: bytes
    purpose: Purpose
    network: Network
    wallets: tuple[GenesisWallet, ...]
    policy: Policy
    signed: Signed

    @property
    def rules_document(self) -> bytes:
        """The canonical bytes of the rules, version 1."""
        return encode(Fields(decode(self.signed.raw), "genesis").any("rules"))

    def wallet(self, wallet_id: bytes) -> GenesisWallet | None:
        """Return the wallet with `wallet_id` (32 bytes), or None."""
        return next((w for w in self.wallets if w.wallet.wallet_id == wallet_id), None)

    def origin(self, log: str) -> str:
        """Return the origin line of the checkpoints of `log` ("money" or "event")."""
        return f"keyturn/{self.hash.hex()}/{log}"


def read_key_record(signed: Signed) -> KeyRecord:
    """Return the key record inside `signed`, whose own identity key must have signed it.

    Raises:
        MalformedError: STATEMENT_KIND, RECORD_SIGNATURE, NETWORK, or a FIELD_ code.
    """
    if signed.kind is not Kind.RECORD:
        raise MalformedError("STATEMENT_KIND", f"expected a key record, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "record")
    record = KeyRecord(
        node=fields.name("node"),
        identity=fields.hex("identity", 32),
        network=_network(fields.text("network")),
        key=fields.text("key", 300),
        made_at=fields.time("made_at"),
        making=Making.from_fields(fields.fields("making")) if fields.has("making") else None,
    )
    fields.done()
    if not signed.signed_by(record.identity):
        raise MalformedError("RECORD_SIGNATURE", f"expected a record signed by the identity key of {record.node}")
    return record


def compose(purpose: Purpose, network: Network, wallets: tuple[GenesisWallet, ...], rules: Json) -> Signed:
    """Return the genesis document without signatures. `rules`: the rules document, version 1."""
    document: Json = {
        "schema": SCHEMA,
        "purpose": purpose.value,
        "network": network.value,
        "wallets": [wallet_json(wallet) for wallet in wallets],
        "rules": rules,
    }
    return Signed(Kind.GENESIS, encode(document), ())


def wallet_json(wallet: GenesisWallet) -> Json:
    """Return a wallet as its document has it."""
    slots: list[Json] = [_slot_json(slot) for slot in wallet.slots]
    return {"name": wallet.name, "descriptor": wallet.wallet.descriptor, "slots": slots}


def parse_genesis(signed: Signed) -> Genesis:
    """Return the genesis document inside `signed`, proven in itself; `check_signed` says whether all signed it.

    Raises:
        MalformedError: what does not hold, by code (GENESIS_..., DESCRIPTOR_..., POLICY_..., FIELD_...).
    """
    # Plan: 1 shape · 2 wallets and who holds their keys · 3 rules · 4 all of them agree · 5 numbers that keep it safe.
    if signed.kind is not Kind.GENESIS:
        raise MalformedError("STATEMENT_KIND", f"expected a genesis, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "genesis")
    if (schema := fields.text("schema")) != SCHEMA:
        raise MalformedError("GENESIS_SCHEMA", f"expected {SCHEMA}, found {schema[:40]!r}")
    purpose_text = fields.text("purpose")
    purpose = next((p for p in Purpose if p.value == purpose_text), None)
    network = _network(fields.text("network"))
    if purpose is None or (purpose is Purpose.DEMO and network is not Network.REGTEST):
        raise MalformedError("GENESIS_PURPOSE", "expected production, or demo on regtest")
    wallets = tuple(read_wallet(Fields(item, "wallet"), network) for item in fields.items("wallets", MAX_WALLETS))
    rules = fields.any("rules")
    fields.done()
    genesis = Genesis(
        hash=tagged_hash(Kind.GENESIS.value, signed.raw),
        purpose=purpose,
        network=network,
        wallets=wallets,
        policy=parse_policy(rules),
        signed=signed,
    )
    _check_agreement(genesis)
    check_production(genesis, genesis.policy)
    return genesis


def check_signed(genesis: Genesis) -> None:
    """Prove that every node slot's identity and the admin quorum signed `genesis`.

    Raises:
        MalformedError: GENESIS_UNSIGNED names who is missing.
    """
    for name, identity in node_identities(genesis).items():
        if not genesis.signed.signed_by(identity):
            raise MalformedError("GENESIS_UNSIGNED", f"expected the signature of node {name}")
    quorum = genesis.policy.admin.change_quorum
    signers = key_holders(genesis.policy, genesis.signed, groups=quorum.groups, seen=True)
    counted = genesis.policy.heads(replace(quorum, exclude_author=False), signers)  # many hands made it together
    if counted < quorum.threshold:
        raise MalformedError("GENESIS_UNSIGNED", f"expected {quorum.threshold} admins, found {counted}")


def node_identities(genesis: Genesis) -> dict[str, bytes]:
    """Return the identity key (32 bytes) of each node that holds a key, by its name."""
    slots = [slot for wallet in genesis.wallets for slot in wallet.slots if slot.record is not None]
    records = [read_key_record(slot.record) for slot in slots if slot.record is not None]
    return {record.node: record.identity for record in records}


def with_endorsement(signed: Signed, endorsement: Endorsement) -> Signed:
    """Return the document with one more signature; the same key signs once."""
    kept = tuple(e for e in signed.endorsements if e.key != endorsement.key)
    return Signed(signed.kind, signed.raw, (*kept, endorsement))


def _network(text: str) -> Network:
    network = next((n for n in Network if n.value == text), None)
    if network is None:
        raise MalformedError("NETWORK", f"expected a known network, found {text[:20]!r}")
    return network


def _slot_json(slot: Slot) -> Json:
    if slot.record is not None and slot.node is not None:
        return {"node": slot.node, "record": slot.record.to_json()}
    return {"declared": slot.key, "admin": slot.admin or ""}


def _read_slot(fields: Fields, network: Network) -> Slot:
    if fields.has("declared"):
        slot = Slot(fields.text("declared", 300), None, admin=fields.name("admin"))
        fields.done()
        return slot
    signed = Signed.from_json(fields.any("record"))
    record = read_key_record(signed)
    node = fields.name("node")
    fields.done()
    if record.node != node or record.network is not network:
        raise MalformedError("GENESIS_SLOT", f"expected the record of {node} on {network.value}, found {record.node}")
    return Slot(record.key, node, record=signed)


def read_wallet(fields: Fields, network: Network) -> GenesisWallet:
    """Return one wallet of a document: its descriptor holds exactly the keys of its slots, in that order.

    Raises:
        MalformedError: GENESIS_SLOT, GENESIS_NODE_TWICE, GENESIS_TOO_MANY_DECLARED, DESCRIPTOR_ and FIELD_ codes.
    """
    name = fields.name("name")
    wallet = parse_wallet(fields.text("descriptor", 4096), network)
    slots = tuple(_read_slot(Fields(item, "slot"), network) for item in fields.items("slots", 15))
    fields.done()
    found = [key.expression for key in wallet.keys]
    if found != [slot.key for slot in slots]:
        raise MalformedError("GENESIS_SLOT", f"expected the keys of wallet {name}'s slots in its descriptor, in order")
    nodes = [slot.node for slot in slots if slot.node is not None]
    if len(set(nodes)) != len(nodes):
        raise MalformedError("GENESIS_NODE_TWICE", f"expected one key per node in wallet {name}")
    if len(slots) - len(nodes) > wallet.threshold - 1:
        most, found_count = wallet.threshold - 1, len(slots) - len(nodes)
        raise MalformedError(
            "GENESIS_TOO_MANY_DECLARED",
            f"expected at most {most} keys without a judge in wallet {name}, found {found_count}",
        )
    return GenesisWallet(name, wallet, slots)


def _check_agreement(genesis: Genesis) -> None:
    """Wallets, nodes and rules of one document must speak of the same things."""
    if not genesis.wallets:
        raise MalformedError("GENESIS_NO_WALLET", "expected at least one wallet")
    policy = genesis.policy
    if policy.version != 1 or policy.network != genesis.network.value:
        raise MalformedError("GENESIS_RULES", "expected rules version 1 of the same network")
    named = {w.name: w.wallet.wallet_id for w in genesis.wallets}
    if len(named) != len(genesis.wallets) or policy.wallet_ids != named:
        raise MalformedError("GENESIS_RULES", "expected the rules to name exactly the genesis wallets by their ids")
    rule_nodes = {node.name: node.identity for node in policy.roots.nodes}
    for name, identity in node_identities(genesis).items():
        if rule_nodes.get(name) != identity:
            raise MalformedError("GENESIS_NODE", f"expected node {name} in the rules' roots with its record's identity")
    identities = list(rule_nodes.values())
    if len(set(identities)) != len(identities):
        raise MalformedError("GENESIS_NODE", "expected a different identity key for each node")


def check_ceremony(genesis: Genesis) -> None:
    """Prove what whoever composes or signs a genesis asks beyond `parse_genesis`: each key in a place of its own.

    Raises:
        MalformedError: KEYS_ONE_PLACE, except in a demo.
    """
    if genesis.purpose is not Purpose.DEMO and (refused := check_places(genesis)):
        raise MalformedError(refused.code, f"expected {refused.expected}, found {refused.found}")


def check_production(genesis: Genesis, policy: Policy) -> None:
    """Prove the numbers that a demo may ignore: f against colluding nodes, no host and no holder with m keys.

    Args:
        genesis: whose wallets and purpose count.
        policy: its own rules, or a later version of them.

    Raises:
        MalformedError: GENESIS_F, GENESIS_HOST or BACKUPS_ONE_HOLDER.
    """
    if genesis.purpose is Purpose.DEMO:
        return
    if refused := check_backups(genesis):
        raise MalformedError(refused.code, f"expected {refused.expected}, found {refused.found}")
    roots = policy.roots
    witnessing = sum(1 for node in roots.nodes if node.witness_key is not None)
    for wallet in genesis.wallets:
        threshold = wallet.wallet.threshold
        least_f = min(threshold - 1, witnessing)
        if roots.f < least_f:
            raise MalformedError("GENESIS_F", f"expected f >= {least_f} for wallet {wallet.name}, found {roots.f}")
        hosts = Counter(node.host for node in roots.nodes if wallet.key_index(node.name) is not None)
        host, keys = max(hosts.items(), key=lambda item: item[1], default=("", 0))
        if keys >= threshold:
            raise MalformedError("GENESIS_HOST", f"expected fewer than {threshold} keys on host {host}, found {keys}")

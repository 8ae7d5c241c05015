"""A node's part in the ceremony, always by a command given on the node itself: make a key, sign the genesis, pin it.

Nothing here listens to a network. What people compare between machines are the twelve words.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from custody import ed25519
from custody.address import address_of
from custody.errors import CustodyError, IntegrityError
from custody.genesis import Genesis, KeyRecord, check_ceremony, check_signed, node_identities, parse_genesis
from custody.later_wallet import read_later_wallet
from custody.statements import Endorsement, Kind, Signed, endorse, sign
from signer_node.backends import make_key, open_backend, pin_document
from signer_node.backends.port import Access, VaultAccess, VaultCertificate
from signer_node.backends.private_file import passphrase_from_file, wrapped_from_file
from signer_node.config import NodeConfig, VaultCertConfig, VaultConfig
from signer_node.followed import followed_since
from signer_node.judge import Pinned
from signer_node.records import write_once

IDENTITY_FILE = "identity.key"
GENESIS_FILE = "genesis.json"
FOLLOWED_FILE = "followed.log"
WALLETS_DIRECTORY = "wallets"  # later wallets that were pinned here, each in a file named by its hash
_MAX_GENESIS_BYTES = 4 * 1024 * 1024  # 64 wallets with records and one rules document are under 1 MiB


def access_of(config: NodeConfig, vault: VaultConfig | VaultCertConfig | None) -> Access:
    """Return what the key backend needs; secrets are read when they are needed, never kept."""
    return Access(
        node=config.name,
        network=config.network,
        history=partial(followed_since, config.state / FOLLOWED_FILE),
        passphrase=None if config.passphrase is None else passphrase_from_file(config.passphrase),
        vault=None if vault is None else vault_access_of(vault),
    )


def vault_access_of(vault: VaultConfig | VaultCertConfig) -> VaultAccess | VaultCertificate:
    """Return how to get into Vault as `vault` says."""
    if isinstance(vault, VaultCertConfig):
        return VaultCertificate(vault.ca, vault.role, vault.certificate, vault.key)
    path = vault.wrapped_secret_id
    return VaultAccess(vault.ca, vault.role, vault.role_id, wrapped_from_file(path), path.exists)


async def make_record(config: NodeConfig, made_at: int) -> Signed:
    """Make this node's identity and bitcoin keys where they live, once, and return its signed key record.

    Raises:
        IntegrityError: FILE_EXISTS where the node has an identity already.
        ConflictError: SEED_EXISTS.
    """
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    seed = os.urandom(32)
    write_once(config.state / IDENTITY_FILE, seed.hex().encode())
    try:
        material = await make_key(config.backend, access_of(config, config.keysmith))
    except CustodyError:
        (config.state / IDENTITY_FILE).unlink()  # nobody knows it yet: the command can be given again
        raise
    record = KeyRecord(config.name, ed25519.public_key(seed), config.network, material.key, made_at)
    return sign(Kind.RECORD, record.to_json(), seed)


def identity_seed(config: NodeConfig) -> bytes:
    """Return this node's identity seed: 32 bytes."""
    return bytes.fromhex((config.state / IDENTITY_FILE).read_text())


def read_genesis_file(path: Path) -> Genesis:
    """Return the genesis in `path`, proven in itself; who signed it is another question."""
    with path.open("rb") as file:
        return parse_genesis(Signed.from_bytes(file.read(_MAX_GENESIS_BYTES)))


async def sign_genesis(config: NodeConfig, genesis: Genesis) -> Endorsement:
    """Return this node's signature of `genesis`, after it found its own key in its own slot.

    Raises:
        IntegrityError: GENESIS_NOT_MINE.
        MalformedError: KEYS_ONE_PLACE: two keys of one wallet on one machine or in one Vault.
    """
    check_ceremony(genesis)
    await check_mine(config, genesis)
    return endorse(Kind.GENESIS, genesis.signed.raw, identity_seed(config))


async def pin(config: NodeConfig, genesis: Genesis, typed_hash: bytes) -> None:
    """Make `genesis` this node's root for ever.

    Args:
        config: of this node.
        genesis: from the file that the operator brought.
        typed_hash: 32 bytes, as the operator gave it on this machine after comparing words.

    Raises:
        IntegrityError: GENESIS_HASH (other than typed), GENESIS_NOT_MINE, FILE_EXISTS (pinned already).
        MalformedError: GENESIS_UNSIGNED.
    """
    # Plan: 1 it is what people compared · 2 everybody signed it · 3 my own key is in it · 4 a backend that judges for
    #       itself pins it first: another genesis pinned there ends the ceremony here · 5 write once.
    if genesis.hash != typed_hash:
        raise IntegrityError("GENESIS_HASH", f"expected {typed_hash.hex()}, found {genesis.hash.hex()}")
    check_signed(genesis)
    await check_mine(config, genesis)
    await pin_document(config.backend, access_of(config, config.keysmith), genesis.signed)
    write_once(config.state / GENESIS_FILE, genesis.signed.to_bytes())


def pinned(config: NodeConfig) -> Pinned:
    """Return what this node pinned. Raises IntegrityError NOT_PINNED before `pin` was given."""
    path = config.state / GENESIS_FILE
    if not path.exists():
        raise IntegrityError("NOT_PINNED", f"expected a genesis pinned on node {config.name}: signer_node pin HASH")
    genesis = read_genesis_file(path)
    later = sorted((config.state / WALLETS_DIRECTORY).glob("*.json"))
    wallets = frozenset(read_later_wallet(read_wallet_file(found), genesis).document for found in later)
    return Pinned(genesis, config.name, wallets)


def read_wallet_file(path: Path) -> Signed:
    """Return the document of a later wallet in `path`, with whatever signatures it has."""
    with path.open("rb") as file:
        return Signed.from_bytes(file.read(_MAX_GENESIS_BYTES))


def first_addresses(genesis: Genesis) -> tuple[tuple[str, str], ...]:
    """Return (wallet name, first receiving address) as this node derives them itself."""
    return tuple((w.name, address_of(w.wallet.script(0, 0).script, genesis.network)) for w in genesis.wallets)


async def check_mine(config: NodeConfig, genesis: Genesis) -> None:
    """Prove that the key which this node's backend holds now stands in the slot that bears this node's name."""
    material = await open_backend(config.backend, access_of(config, config.vault)).public()
    keys = [slot.key for wallet in genesis.wallets for slot in wallet.slots if slot.node == config.name]
    identity = node_identities(genesis).get(config.name)
    own = (ed25519.public_key(identity_seed(config)), material.key, config.network)
    if not keys or {(identity, key, genesis.network) for key in keys} != {own}:
        raise IntegrityError("GENESIS_NOT_MINE", f"expected the identity and key of node {config.name} in its slot")

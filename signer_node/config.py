"""What a node is told by its operator: one TOML file, every key known, paths relative to the file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from custody.canonical import Json
from custody.errors import MalformedError
from custody.fields import Fields
from custody.wallet import Network

MAX_CONFIG_BYTES = 64 * 1024  # a node's configuration is one screen
MAX_WITNESSES = 63  # signature lines in a note


@dataclass(frozen=True, slots=True)
class VaultConfig:
    """How this node enters its Vault by AppRole. wrapped_secret_id: where wrapping tokens are put; taken at once."""

    ca: Path
    role: str
    role_id: str
    wrapped_secret_id: Path


@dataclass(frozen=True, slots=True)
class VaultCertConfig:
    """How this node enters its Vault by certificate: PEM files, read anew at each login."""

    ca: Path
    role: str
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files of one mTLS identity and of the authority that issued the other side's."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Where an online node dials: the coordinator, or a stand-alone witness. address: host:port."""

    address: str
    tls: TlsConfig


@dataclass(frozen=True, slots=True)
class OwnWitnessConfig:
    """An online node's own witness. name: as the rules pin it.  key: its key file.  state: a directory without it."""

    name: str
    key: Path
    state: Path


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node.

    state: directory of identity key, pinned genesis, followed log and journal.  backend: URI of the key.
    passphrase: file, for sealed-file.  vault: for vault-*.  keysmith: enters Vault once, to make the key.
    witness: where this node vouches for checkpoints.  witnesses: the stand-alone ones, each dialled for what it holds.
    """

    name: str
    network: Network
    state: Path
    backend: str
    passphrase: Path | None
    vault: VaultConfig | VaultCertConfig | None
    keysmith: VaultConfig | VaultCertConfig | None
    coordinator: CoordinatorConfig | None
    witness: OwnWitnessConfig | None = None
    witnesses: tuple[CoordinatorConfig, ...] = ()


def read_toml(path: Path) -> tuple[Fields, Path]:
    """Return the fields of a TOML file and the directory that its paths are relative to.

    Raises:
        MalformedError: CONFIG_UNREADABLE, with the parser's line.
    """
    try:
        with path.open("rb") as file:
            value: Mapping[str, Json] = tomllib.loads(file.read(MAX_CONFIG_BYTES).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MalformedError("CONFIG_UNREADABLE", f"{path.name}: {error}") from error
    return Fields(value, path.name), path.resolve().parent


def load_config(path: Path) -> NodeConfig:
    """Return the node's configuration. Raises MalformedError (CONFIG_UNREADABLE, FIELD_...): it does not start."""
    fields, base = read_toml(path)
    network_text = fields.text("network")
    network = next((n for n in Network if n.value == network_text), None)
    if network is None:
        raise MalformedError("NETWORK", f"expected a known network, found {network_text[:20]!r}")
    config = NodeConfig(
        name=fields.name("name"),
        network=network,
        state=base / fields.text("state"),
        backend=fields.text("backend", 1024),
        passphrase=base / fields.text("passphrase") if fields.has("passphrase") else None,
        vault=_vault(fields.fields("vault"), base) if fields.has("vault") else None,
        keysmith=_vault(fields.fields("keysmith"), base) if fields.has("keysmith") else None,
        coordinator=_coordinator(fields.fields("coordinator"), base) if fields.has("coordinator") else None,
        witness=_own_witness(fields.fields("witness"), base) if fields.has("witness") else None,
        witnesses=_witnesses(fields, base) if fields.has("witnesses") else (),
    )
    fields.done()
    return config


def read_tls(fields: Fields, base: Path) -> TlsConfig:
    """Read {ca, certificate, key}."""
    tls = TlsConfig(base / fields.text("ca"), base / fields.text("certificate"), base / fields.text("key"))
    fields.done()
    return tls


def _vault(fields: Fields, base: Path) -> VaultConfig | VaultCertConfig:
    ca, role = base / fields.text("ca"), fields.text("role")
    vault: VaultConfig | VaultCertConfig
    if fields.has("certificate"):
        vault = VaultCertConfig(ca, role, base / fields.text("certificate"), base / fields.text("key"))
    else:
        vault = VaultConfig(ca, role, fields.text("role_id"), base / fields.text("wrapped_secret_id"))
    fields.done()
    return vault


def _coordinator(fields: Fields, base: Path) -> CoordinatorConfig:
    coordinator = CoordinatorConfig(fields.text("address"), read_tls(fields.fields("tls"), base))
    fields.done()
    return coordinator


def _own_witness(fields: Fields, base: Path) -> OwnWitnessConfig:
    witness = OwnWitnessConfig(fields.name("name"), base / fields.text("key"), base / fields.text("state"))
    fields.done()
    return witness


def _witnesses(fields: Fields, base: Path) -> tuple[CoordinatorConfig, ...]:
    items = fields.items("witnesses", MAX_WITNESSES)
    return tuple(_coordinator(Fields(item, "witnesses"), base) for item in items)

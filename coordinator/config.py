"""What the coordinator is told by its operator: one TOML file, every key known, paths relative to the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.chain.places import ChainPlace, read_chain
from coordinator.vault_key import VaultPlace
from custody.canonical import Json
from custody.errors import MalformedError
from custody.fields import Fields

_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+:[0-9]{1,5}")
_HTTPS = re.compile(r"https://[A-Za-z0-9.-]+:(?P<port>[0-9]{1,5})/[A-Za-z0-9._~/-]*")
_SYSLOG = re.compile(r"[A-Za-z0-9.-]+:(?P<port>[0-9]{1,5})")
MAX_PORT = 65_535
CLIENT_CALLS_A_MINUTE = 600  # ten a second: above any payroll run, below what slows others down
_READING = frozenset({"client", "reader", "operator"})  # roles that may be told less than everything
MAX_CONFIG_BYTES = 64 * 1024  # a coordinator's configuration is one screen


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files of one mTLS identity and of the authority that issued the other side's."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """A stand-alone witness. address: host:port."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class SealedKey:
    """The log key sealed in a file, and the file that holds its passphrase; both 0600."""

    file: Path
    passphrase: Path


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Who gets a copy of every event. file: on another host or disk.  syslog: host:port.  https: URL, and its CA."""

    file: Path | None = None
    syslog: str = ""
    https: str = ""
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """One coordinator.

    listen: host:port.  database: SQLAlchemy URL.  genesis: the signed genesis file.  log_key: where it is.
    next_log_key: where the one is to which rules that wait turn, or None.
    chain: which view of the chain.
    tiles: loopback host:port of the read-only tiles of both logs, "" for none.
    stream: who gets a copy of every event.
    coarse_for: roles whose callers are not told why rules deny ("client", "reader", "operator").
    calls_a_minute: how many calls one client certificate may make.
    """

    listen: str
    database: str
    genesis: Path
    log_key: SealedKey | VaultPlace
    chain: ChainPlace
    tls: TlsConfig
    witnesses: tuple[WitnessConfig, ...]
    tiles: str = ""
    stream: StreamConfig = StreamConfig()
    next_log_key: SealedKey | VaultPlace | None = None
    coarse_for: frozenset[str] = frozenset()
    calls_a_minute: int = CLIENT_CALLS_A_MINUTE


def load_config(path: Path) -> Config:
    """Return the configuration in `path`.

    Raises:
        MalformedError: CONFIG_UNREADABLE or a FIELD_ code; the coordinator does not start.
    """
    try:
        with path.open("rb") as file:
            value: Mapping[str, Json] = tomllib.loads(file.read(MAX_CONFIG_BYTES).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MalformedError("CONFIG_UNREADABLE", f"{path.name}: {error}") from error
    fields, base = Fields(value, path.name), path.resolve().parent
    config = Config(
        listen=fields.text("listen"),
        database=fields.text("database", 1024).replace("{here}", str(base)),
        genesis=base / fields.text("genesis"),
        log_key=_log_key(fields.fields("log_key"), base),
        next_log_key=_log_key(fields.fields("next_log_key"), base) if fields.has("next_log_key") else None,
        chain=read_chain(fields.fields("chain"), base),
        tls=_tls(fields.fields("tls"), base),
        witnesses=tuple(_witness(Fields(item, "witness")) for item in fields.items("witnesses", 63)),
        tiles=_only(fields.fields("tiles"), "listen") if fields.has("tiles") else "",
        stream=_stream(fields.fields("stream"), base) if fields.has("stream") else StreamConfig(),
        coarse_for=frozenset(fields.names("coarse_for")) if fields.has("coarse_for") else frozenset(),
        calls_a_minute=fields.integer("calls_a_minute", 1, 1_000_000)
        if fields.has("calls_a_minute")
        else CLIENT_CALLS_A_MINUTE,
    )
    fields.done()
    if unknown := config.coarse_for - _READING:
        raise MalformedError("CONFIG_ROLE", f"expected roles of {', '.join(sorted(_READING))}, found {min(unknown)}")
    return config


def _tls(fields: Fields, base: Path) -> TlsConfig:
    tls = TlsConfig(base / fields.text("ca"), base / fields.text("certificate"), base / fields.text("key"))
    fields.done()
    return tls


def _log_key(fields: Fields, base: Path) -> SealedKey | VaultPlace:
    key: SealedKey | VaultPlace
    if fields.has("vault"):
        key = VaultPlace(
            address=_https(fields.text("vault")),
            key=fields.name("key"),
            ca=base / fields.text("ca"),
            role=fields.name("role"),
            role_id=fields.text("role_id"),
            wrapped_secret_id=base / fields.text("wrapped_secret_id"),
        )
    else:
        key = SealedKey(base / fields.text("file"), base / fields.text("passphrase"))
    fields.done()
    return key


def _https(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise MalformedError("CONFIG_VAULT", "expected https://HOST:PORT")
    return address


def _stream(fields: Fields, base: Path) -> StreamConfig:
    has_https = fields.has("https")
    stream = StreamConfig(
        file=base / fields.text("file", 1024) if fields.has("file") else None,
        syslog=fields.text("syslog") if fields.has("syslog") else "",
        https=fields.text("https", 1024) if has_https else "",
        ca=base / fields.text("ca", 1024) if has_https else None,
    )
    fields.done()
    for pattern, form, said in (
        (_SYSLOG, "HOST:PORT", stream.syslog),
        (_HTTPS, "https://HOST:PORT/PATH", stream.https),
    ):
        found = pattern.fullmatch(said)
        if said and (found is None or not 0 < int(found["port"]) <= MAX_PORT):
            raise MalformedError("CONFIG_STREAM", f"expected {form}")
    return stream


def _only(fields: Fields, key: str) -> str:
    value = fields.text(key, 1024)
    fields.done()
    return value


def _witness(fields: Fields) -> WitnessConfig:
    witness = WitnessConfig(fields.name("name"), fields.text("address"))
    fields.done()
    return witness

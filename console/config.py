"""What a person tells `keyturn` once: one TOML file, every key known, paths relative to the file.

coordinator = "custody.example:7443"
me = "alice"                  # as the rules name this person
key = "alice.ed25519"         # Ed25519 seed, hex, mode 0600; or id_ed25519_sk.pub: `ssh-keygen` signs
genesis = "genesis.json"      # written by `keyturn pin`, by nothing else
[tls]
ca = "ca.pem"
certificate = "alice.pem"
key = "alice.key"
[[witnesses]]                 # none or more: where freezes and stops are posted too
name = "witness-1"            # as the rules pin it
address = "witness-1.example:7443"
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console.files import read_file
from custody.canonical import Json
from custody.errors import IntegrityError, MalformedError
from custody.fields import Fields
from custody.genesis import Genesis, check_signed, parse_genesis
from custody.statements import Signed

MAX_CONFIG_BYTES = 64 * 1024  # one screen of settings
MAX_WITNESSES = 64  # more than any rules pin
MAX_GENESIS_BYTES = 4 * 1024 * 1024  # 64 wallets with records and one rules document are under 1 MiB


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files: the authority of the coordinator, own certificate, own key (0600)."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class WitnessPlace:
    """A stand-alone witness. name: as the rules pin it.  address: host:port."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Config:
    """One person's settings. path: the file itself.  coordinator: host:port.  me: a name in the rules."""

    path: Path
    coordinator: str
    me: str
    key: Path
    genesis: Path
    tls: TlsConfig
    witnesses: tuple[WitnessPlace, ...] = ()

    @property
    def memory(self) -> Path:
        """The file of what this person's programs have seen: last address index, last log size, notes."""
        return self.path.with_name(f"{self.path.stem}.memory.json")


def default_path() -> Path:
    """Return where the configuration is looked for: $XDG_CONFIG_HOME/keyturn/config.toml, else below ~/.config."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".config"
    return base / "keyturn" / "config.toml"


def load_config(path: Path) -> Config:
    """Return the settings in `path`.

    Raises:
        MalformedError: CONFIG_MISSING, CONFIG_UNREADABLE or a FIELD_ code (FIELD_UNKNOWN for a key nobody knows).
    """
    if not path.exists():
        raise MalformedError("CONFIG_MISSING", f"expected {path}: `keyturn init` makes one, --config names another")
    try:
        value: Mapping[str, Json] = tomllib.loads(read_file(path, MAX_CONFIG_BYTES).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MalformedError("CONFIG_UNREADABLE", f"{path.name}: {error}") from error
    fields, base = Fields(value, path.name), path.resolve().parent
    tls = fields.fields("tls")
    config = Config(
        path=path.resolve(),
        coordinator=fields.text("coordinator"),
        me=fields.name("me"),
        key=_below(base, fields.text("key", 1024)),
        genesis=_below(base, fields.text("genesis", 1024)),
        tls=TlsConfig(*(_below(base, tls.text(name, 1024)) for name in ("ca", "certificate", "key"))),
        witnesses=_witnesses(fields, path.name) if fields.has("witnesses") else (),
    )
    tls.done()
    fields.done()
    return config


def config_text(coordinator: str, me: str, key: str, tls: Mapping[str, str]) -> str:
    """Return the TOML of a new configuration; `tls` maps ca, certificate and key to their paths."""
    lines = [f"coordinator = {_toml(coordinator)}", f"me = {_toml(me)}", f"key = {_toml(key)}"]
    lines += ['genesis = "genesis.json"', "", "[tls]"]
    return "\n".join([*lines, *(f"{name} = {_toml(tls[name])}" for name in ("ca", "certificate", "key")), ""])


def read_genesis_file(path: Path) -> Genesis:
    """Return the genesis in `path`, proven in itself; who signed it is another question."""
    return parse_genesis(Signed.from_bytes(read_file(path, MAX_GENESIS_BYTES)))


def pinned_genesis(config: Config) -> Genesis:
    """Return the genesis that this person pinned.

    Raises:
        IntegrityError: NOT_PINNED.
        MalformedError: what is wrong with the file.
    """
    if not config.genesis.exists():
        raise IntegrityError("NOT_PINNED", "expected a pinned genesis: `keyturn pin WORDS FILE`")
    genesis = read_genesis_file(config.genesis)
    check_signed(genesis)
    return genesis


def _witnesses(fields: Fields, where: str) -> tuple[WitnessPlace, ...]:
    found = []
    for number, item in enumerate(fields.items("witnesses", MAX_WITNESSES), 1):
        each = Fields(item, f"{where}: witnesses {number}")
        found.append(WitnessPlace(each.text("name"), each.text("address")))
        each.done()
    return tuple(found)


def _below(base: Path, text: str) -> Path:
    return base / Path(text).expanduser()


def _toml(text: str) -> str:
    return json.dumps(text)  # a TOML basic string has the escapes of JSON

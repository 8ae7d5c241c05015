"""How a node's key was made and who can bring it back: what its key record says, and what no wallet may allow.

Backups are outside all rules: who holds m of them spends without any signer. So nobody may be able to bring back m keys
of one wallet alone, and the ceremony lets no two of its keys live in one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from custody.canonical import Json
from custody.errors import MalformedError, Refused
from custody.fields import Fields, check_name

if TYPE_CHECKING:
    from custody.genesis import Genesis, GenesisWallet

MAX_BACKUPS = 16  # of one key
MAX_PARTS = 16  # SLIP-39: shares of one group


class Form(Enum):
    """What a backup is. The value is what people type and what the record says."""

    WORDS = "words"
    SHARES = "shares"
    AGE = "age"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup of one key.

    holders: who keeps it: one name for each part, so somebody with two shares stands there twice.
    needed: how many parts bring the key back: 1, or a SLIP-39 threshold.
    """

    form: Form
    holders: tuple[str, ...]
    needed: int = 1

    def alone(self) -> frozenset[str]:
        """Return who can bring the key back with nobody else's part."""
        return frozenset(name for name, parts in Counter(self.holders).items() if parts >= self.needed)

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"form": self.form.value, "holders": list(self.holders), "needed": self.needed}


@dataclass(frozen=True, slots=True)
class Making:
    """How one key came to be: the transcript that its node signs in the key record.

    sources: "os", and "dice:N" or "coins:N" with the number of throws.  words: 12 or 24.
    passphrase_holders: who knows the BIP-39 passphrase; empty where there is none.  place: where the key lives.
    written_down_at, drilled_at: UTC seconds; the words were asked back, and typed whole again for the same key.
    """

    sources: tuple[str, ...]
    words: int
    passphrase_holders: tuple[str, ...]
    place: str
    written_down_at: int
    drilled_at: int
    backups: tuple[Backup, ...]

    def alone(self) -> frozenset[str]:
        """Return who can bring the key back alone: one backup, and the passphrase where there is one."""
        found = frozenset(name for backup in self.backups for name in backup.alone())
        return found & frozenset(self.passphrase_holders) if self.passphrase_holders else found

    def with_backup(self, backup: Backup) -> Making:
        """Return the transcript with one backup more. Raises MalformedError BACKUPS_MANY."""
        if len(self.backups) >= MAX_BACKUPS:
            raise MalformedError("BACKUPS_MANY", f"expected at most {MAX_BACKUPS} backups of one key")
        return replace(self, backups=(*self.backups, backup))

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "sources": list(self.sources),
            "words": self.words,
            "passphrase_holders": list(self.passphrase_holders),
            "place": self.place,
            "written_down_at": self.written_down_at,
            "drilled_at": self.drilled_at,
            "backups": [backup.to_json() for backup in self.backups],
        }

    @staticmethod
    def from_fields(fields: Fields) -> Making:
        """Read the JSON form. Raises MalformedError: BACKUP_FORM, BACKUP_PARTS, or a FIELD_ code."""
        making = Making(
            sources=tuple(_source(item, fields.where) for item in fields.items("sources", 3)),
            words=fields.integer("words", 12, 24),
            passphrase_holders=tuple(_name(item, fields.where) for item in fields.items("passphrase_holders", 64)),
            place=fields.text("place", 128),
            written_down_at=fields.time("written_down_at"),
            drilled_at=fields.time("drilled_at"),
            backups=tuple(_read_backup(Fields(item, "backup")) for item in fields.items("backups", MAX_BACKUPS)),
        )
        fields.done()
        return making


def make_backup(form: Form, holders: Iterable[str], needed: int = 1) -> Backup:
    """Return a backup whose parts and names can be.

    Raises:
        MalformedError: BACKUP_PARTS, FIELD_NAME.
    """
    found = tuple(_name(name, "holders") for name in holders)
    is_one_part = form is not Form.SHARES and needed == 1
    if not 1 <= needed <= len(found) <= MAX_PARTS or not (is_one_part or form is Form.SHARES):
        raise MalformedError("BACKUP_PARTS", f"expected 1..{MAX_PARTS} holders, and as many as are needed at least")
    return Backup(form, found, needed)


def check_backups(genesis: Genesis) -> Refused | None:
    """Return why somebody could bring back m keys of one wallet alone, or None.

    Counted are the backups that key records name; who answers for a declared key is taken to hold it.
    """
    for wallet in genesis.wallets:
        held = Counter(name for making in _makings(wallet) for name in making.alone())
        held.update(slot.admin for slot in wallet.slots if slot.admin is not None)
        name, keys = max(held.items(), key=lambda item: item[1], default=("", 0))
        if keys >= wallet.wallet.threshold:
            most = wallet.wallet.threshold - 1
            return Refused(
                "BACKUPS_ONE_HOLDER", f"at most {most} keys of {wallet.name} with one holder", f"{keys} with {name}"
            )
    return None


def check_places(genesis: Genesis) -> Refused | None:
    """Return which two keys of one wallet would live on one host or in one Vault cluster, or None.

    Places are those that the nodes measured (key records) and those that people wrote down (the rules' `host`).
    """
    hosts = {node.name: node.host for node in genesis.policy.roots.nodes}
    for wallet in genesis.wallets:
        places = [f"host {hosts[slot.node]}" for slot in wallet.slots if slot.node in hosts]
        places += [making.place for making in _makings(wallet)]
        place, keys = max(Counter(places).items(), key=lambda item: item[1], default=("", 0))
        if keys > 1:
            return Refused(
                "KEYS_ONE_PLACE", f"each key of {wallet.name} in a place of its own", f"{keys} keys at {place}"
            )
    return None


def _makings(wallet: GenesisWallet) -> tuple[Making, ...]:
    return tuple(slot.making for slot in wallet.slots if slot.making is not None)


def _read_backup(fields: Fields) -> Backup:
    form_text = fields.text("form")
    form = next((f for f in Form if f.value == form_text), None)
    if form is None:
        raise MalformedError("BACKUP_FORM", f"expected {', '.join(f.value for f in Form)}, found {form_text[:20]!r}")
    holders = tuple(_name(item, fields.where) for item in fields.items("holders", MAX_PARTS))
    backup = make_backup(form, holders, fields.integer("needed", 1, MAX_PARTS))
    fields.done()
    return backup


def _name(value: Json, where: str) -> str:
    return check_name(value, f"{where}.holders")


def _source(value: Json, where: str) -> str:
    name, colon, count = str(value).partition(":")
    if name not in ("os", "dice", "coins") or (bool(colon) is (name == "os")) or not (count.isdigit() or not colon):
        raise MalformedError("FIELD_NAME", f'{where}.sources: expected "os", "dice:N" or "coins:N"')
    return str(value)

"""Where a node's ceremony stands, kept beside its state so that it goes on after an interruption. Holds no secret."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from custody.backups import Making
from custody.canonical import decode, encode
from custody.errors import NotFoundError
from custody.fields import Fields
from signer_node.config import NodeConfig
from signer_node.records import replace_durably

PROGRESS_FILE = "ceremony.json"
MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done so far.

    fingerprint: 4 bytes, of the master key.  key: as it goes into the key record.  made_at: UTC seconds.
    is_kept: whether the seed is where it lives; before that, the words are written down and drilled.
    """

    fingerprint: bytes
    key: str
    made_at: int
    making: Making
    is_kept: bool = False

    def kept(self) -> Progress:
        """Return it with the seed where it lives."""
        return replace(self, is_kept=True)


def load_progress(state: Path) -> Progress | None:
    """Return where the ceremony of the node with this state directory stands, or None before its words were drilled."""
    path = state / PROGRESS_FILE
    if not path.exists():
        return None
    fields = Fields(decode(path.read_bytes()), PROGRESS_FILE)
    progress = Progress(
        fingerprint=fields.hex("fingerprint", 4),
        key=fields.text("key", 300),
        made_at=fields.time("made_at"),
        making=Making.from_fields(fields.fields("making")),
        is_kept=fields.boolean("is_kept"),
    )
    fields.done()
    return progress


def require_progress(state: Path) -> Progress:
    """Return `load_progress`. Raises NotFoundError CEREMONY_NONE where this node's key has no words."""
    found = load_progress(state)
    if found is None:
        raise NotFoundError("CEREMONY_NONE", "expected a key made from words by `signer_node ceremony` or `restore`")
    return found


def save_progress(state: Path, progress: Progress) -> None:
    """Keep where the ceremony stands: durable when this returns."""
    raw = encode(
        {
            "fingerprint": progress.fingerprint.hex(),
            "key": progress.key,
            "made_at": progress.made_at,
            "making": progress.making.to_json(),
            "is_kept": progress.is_kept,
        }
    )
    replace_durably(state / PROGRESS_FILE, raw)


def place_of(config: NodeConfig) -> str:
    """Return where this node's key lives, the same for all keys that live there: a Vault's address, or this machine.

    A machine is told by a hash of its id, so that the record names none that others could look up.
    """
    vault = urlsplit(config.backend).netloc
    if vault:
        return f"vault {vault}"
    try:
        machine = MACHINE_ID.read_bytes().strip()
    except OSError:
        machine = b""
    machine = machine or os.uname().nodename.encode()  # a live system may have no id yet
    return f"machine {hashlib.sha256(b'keyturn machine ' + machine).hexdigest()[:16]}"

"""Checkpoints (C2SP tlog-checkpoint) and cosignatures (tlog-cosignature): who vouches for which tree, and when.

The log signs {origin, size, root}; a witness signs the same text with its own time, and only when it is consistent with
all that it has seen. Signing keys may live elsewhere, so each signer here has a half that only formats.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from custody import ed25519
from custody.audit.note import (
    COSIGNATURE_TYPE,
    ED25519_TYPE,
    Note,
    SignatureLine,
    check_key_name,
    decode_base64,
    key_id,
    parse_line,
    parse_note,
)
from custody.audit.tree import EMPTY_ROOT
from custody.errors import IntegrityError, MalformedError
from custody.units import MAX_TIME_S

MAX_SIZE = 2**53 - 1  # sizes also stand in JSON
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


class Log(Enum):
    """The two logs; the value ends their origin line."""

    MONEY = "money"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. origin: names the log and its genesis.  root: 32 bytes."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that log and witnesses sign."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class PinnedWitness(Protocol):
    """Whatever names a witness and its key: a `WitnessKey`, or the rules' own entry."""

    @property
    def name(self) -> str:
        """The name in its signature lines."""

    @property
    def key(self) -> bytes:
        """32 bytes, Ed25519."""


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A pinned witness. name: as it signs.  key: 32 bytes, Ed25519."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that the log signed, and which pinned witnesses vouch for it.

    note: the text as received.  counted: (witness name, UTC seconds), newest first, each witness once.
    """

    checkpoint: Checkpoint
    note: str
    counted: tuple[tuple[str, int], ...]

    @property
    def newest(self) -> int:
        """The latest counted time in UTC seconds; IntegrityError CHECKPOINT_UNDERSIGNED when no witness vouches."""
        if not self.counted:
            raise IntegrityError("CHECKPOINT_UNDERSIGNED", "expected at least one cosignature, found none")
        return self.counted[0][1]

    def oldest_counted(self, w: int) -> int | None:
        """Return the w-th newest time in UTC seconds; None when fewer than w witnesses vouch.

        Of the w newest at least one is honest while fewer than w lie, so no set of liars can make this look younger.
        """
        if w < 1:
            raise MalformedError("WITNESS_THRESHOLD", f"expected at least one witness, found {w}")
        return self.counted[w - 1][1] if len(self.counted) >= w else None


def origin_of(genesis: bytes, log: Log) -> str:
    """Return the origin line (and the log's key name) of one log. genesis: 32 bytes."""
    return f"keyturn/{genesis.hex()}/{log.value}"


def sign_checkpoint(checkpoint: Checkpoint, log_seed: bytes) -> str:
    """Return the note of `checkpoint` signed by the log's Ed25519 seed (32 bytes)."""
    signature = ed25519.sign(log_seed, checkpoint.body.encode())
    return signed_checkpoint(checkpoint, ed25519.public_key(log_seed), signature)


def signed_checkpoint(checkpoint: Checkpoint, log_key: bytes, signature: bytes) -> str:
    """Return the note of `checkpoint` with a signature (64 bytes, over `body`) that was made elsewhere."""
    name = check_key_name(checkpoint.origin)
    line = SignatureLine(name, key_id(name, ED25519_TYPE, log_key), signature)
    return str(Note(checkpoint.body, (line,)))


def cosignature_message(body: str, timestamp: int) -> bytes:
    """Return what a witness signs at `timestamp` (UTC seconds) for a checkpoint's body."""
    return f"cosignature/v1\ntime {timestamp}\n{body}".encode()


def cosign(note: str, name: str, seed: bytes, timestamp: int) -> str:
    """Return one cosignature line (without newline) of the note's body by the witness `name` with `seed` (32 bytes)."""
    signature = ed25519.sign(seed, cosignature_message(parse_note(note).body, timestamp))
    own_id = key_id(name, COSIGNATURE_TYPE, ed25519.public_key(seed))
    return str(SignatureLine(check_key_name(name), own_id, timestamp.to_bytes(8) + signature))


def with_lines(note: str, lines: Sequence[str]) -> str:
    """Return the note with more signature lines, each given without newline."""
    return str(parse_note(note + "".join(f"{line}\n" for line in lines)))


def read_cosignature(note: str, line: str, witness: PinnedWitness) -> int:
    """Return the time (UTC seconds) at which `witness` vouched for the note's body in `line`.

    Raises:
        MalformedError: the note or line has no such form.
        IntegrityError: COSIGNATURE_INVALID: another key's line, or it does not verify.
    """
    found = parse_line(line)
    if (found.name, found.key_id) != (witness.name, key_id(witness.name, COSIGNATURE_TYPE, witness.key)):
        raise IntegrityError("COSIGNATURE_INVALID", f"expected a line by {witness.name}, found another key's")
    return _cosigned_at(parse_note(note).body, found, witness)


def parse_checkpoint(body: str) -> Checkpoint:
    """Return the checkpoint whose only spelling is `body`; extension lines, which our logs never write, are refused.

    Raises:
        MalformedError: CHECKPOINT_FORM.
    """
    lines = body.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise MalformedError("CHECKPOINT_FORM", "expected three lines: origin, size, root")
    origin, size_text, root_text, _ = lines
    if not _NUMBER.fullmatch(size_text) or int(size_text) > MAX_SIZE:
        raise MalformedError("CHECKPOINT_FORM", f"expected a size 0..{MAX_SIZE} without leading zeros")
    root = decode_base64(root_text, "CHECKPOINT_FORM")
    if len(root) != 32 or (size_text == "0" and root != EMPTY_ROOT):
        raise MalformedError("CHECKPOINT_FORM", "expected a root of 32 bytes, that of the empty tree at size 0")
    return Checkpoint(origin, int(size_text), root)


def open_signed(text: str, log_key: bytes, origin: str) -> tuple[Checkpoint, Note]:
    """Return the checkpoint that the log signed, and its note; cosignatures are not looked at.

    Args:
        text: the note as received.
        log_key: 32 bytes, pinned.
        origin: whose checkpoint it must be.

    Raises:
        MalformedError: the text has no such form.
        IntegrityError: CHECKPOINT_ORIGIN, or CHECKPOINT_UNSIGNED unless exactly one line by the log's key holds.
    """
    note = parse_note(text)
    checkpoint = parse_checkpoint(note.body)
    if checkpoint.origin != origin:
        raise IntegrityError("CHECKPOINT_ORIGIN", f"expected {origin}, found {checkpoint.origin[:200]!r}")
    lines = note.by(origin, key_id(origin, ED25519_TYPE, log_key))
    if len(lines) != 1:
        raise IntegrityError("CHECKPOINT_UNSIGNED", f"expected one signature by the log's key, found {len(lines)}")
    if not ed25519.verify(log_key, note.body.encode(), lines[0].blob):
        raise IntegrityError("CHECKPOINT_UNSIGNED", "expected a valid signature by the log's key, found a wrong one")
    return checkpoint, note


def open_checkpoint(text: str, log_key: bytes, origin: str, witnesses: Sequence[PinnedWitness]) -> Cosigned:
    """Return the checkpoint that the log signed, with the pinned witnesses that vouch for it.

    How many are enough is the caller's rule. Lines by unknown keys are ignored, a wrong one by a known key refuses the
    whole note (signed-note, "Signatures").

    Raises:
        MalformedError: the text has no such form, or WITNESS_KEYS_REPEAT in what was pinned.
        IntegrityError: CHECKPOINT_ORIGIN, CHECKPOINT_UNSIGNED or COSIGNATURE_INVALID.
    """
    if len({w.key for w in witnesses}) != len(witnesses) or len({w.name for w in witnesses}) != len(witnesses):
        raise MalformedError("WITNESS_KEYS_REPEAT", "expected each witness to have its own name and key")
    checkpoint, note = open_signed(text, log_key, origin)
    counted = []
    for witness in witnesses:
        lines = note.by(witness.name, key_id(witness.name, COSIGNATURE_TYPE, witness.key))
        times = [_cosigned_at(note.body, line, witness) for line in lines]
        if times:
            counted.append((witness.name, max(times)))
    return Cosigned(checkpoint, text, tuple(sorted(counted, key=lambda item: (-item[1], item[0]))))


def _cosigned_at(body: str, line: SignatureLine, witness: PinnedWitness) -> int:
    if len(line.blob) != 72:
        raise IntegrityError("COSIGNATURE_INVALID", f"expected 72 bytes by {witness.name}, found {len(line.blob)}")
    timestamp = int.from_bytes(line.blob[:8])
    if timestamp > MAX_TIME_S:
        raise IntegrityError("COSIGNATURE_INVALID", f"expected a time up to {MAX_TIME_S} by {witness.name}")
    if not ed25519.verify(witness.key, cosignature_message(body, timestamp), line.blob[8:]):
        raise IntegrityError("COSIGNATURE_INVALID", f"expected a valid cosignature by {witness.name}")
    return timestamp

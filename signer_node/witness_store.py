"""What a witness must not forget: one fsynced state file per log, and a mark of its size kept beside the key.

The state lives in the state directory, the mark beside the witness key: a directory restored from a backup is then
older than its mark, and the witness does not start. The mark is made with the key and only rises, so the one state that
may be missing is that of a key that never vouched. Nothing repairs a lost or rewound state: that key is done.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from custody import ed25519
from custody.audit import Log, with_lines
from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import IntegrityError, MalformedError, Refused, UnavailableError
from custody.fields import Fields, parse_hex
from signer_node.marks import held_mark_path, mark_bytes, read_mark, write_mark
from signer_node.records import replace_durably, write_once
from signer_node.witness import CosignRequest, WitnessPins, WitnessState, step

FORMAT = "keyturn-witness/1"
_MAX_STATE_BYTES = 64 * 1024  # a note is at most 16 KiB
_CONDEMNED = 2**53 - 1  # a mark that no state reaches: the witness does not start again


@dataclass(frozen=True, slots=True)
class WitnessPaths:
    """Where one log's state lives. state: in the state directory.  mark: beside the key, outside that directory."""

    state: Path
    mark: Path


class WitnessStore:
    """The state of one log, held by one process at a time.

    `save` is durable when it returns. Opening refuses what is missing, damaged, of another log, or older than its mark.
    """

    def __init__(self, paths: WitnessPaths, origin: str) -> None:
        self._paths, self._origin = paths, origin
        paths.state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _hold(paths.state.with_suffix(".lock"))
        try:
            self.state = self._load()
        except BaseException:
            self.close()
            raise

    def save(self, state: WitnessState) -> None:
        """Make `state` the one that survives power loss. State first, then the mark: a crash between is told apart.

        Raises:
            UnavailableError: WITNESS_STATE_WRITE: which of the two is on disk is not known; no cosignature may leave.
        """
        if state == self.state:
            return
        try:
            replace_durably(self._paths.state, _state_bytes(self._origin, state))
            self._write_mark(state.size)
        except OSError as error:
            raise UnavailableError("WITNESS_STATE_WRITE", f"expected to write the state: {error.strerror}") from error
        self.state = state

    def condemn(self) -> None:
        """End this key's service for good: its state was found to be older than what it vouched for."""
        self._write_mark(_CONDEMNED)

    def keep_evidence(self, note: str) -> None:
        """Keep the first checkpoint that contradicts ours, with ours: the log key signed two histories."""
        path = self._paths.state.with_suffix(".fork")
        if not path.exists():
            replace_durably(path, encode({"ours": self.state.note, "theirs": note}))

    def close(self) -> None:
        """Let another process hold the state."""
        os.close(self._lock)

    def _load(self) -> WitnessState:
        mark = self._read_mark()
        if mark == 0 and not self._paths.state.exists():
            return WitnessState()
        try:
            state = _read_state(self._paths.state.read_bytes()[: _MAX_STATE_BYTES + 1], self._origin)
        except OSError as error:
            raise IntegrityError("WITNESS_STATE_LOST", f"expected the state of {self._origin} at {mark}") from error
        if state.size < mark:
            raise IntegrityError("WITNESS_STATE_REWOUND", f"expected size {mark} or more, found {state.size}")
        if state.size > mark:  # the process died after the state and before the mark; no cosignature had left
            self._write_mark(state.size)
        return state

    def _read_mark(self) -> int:
        return read_mark(self._paths.mark, self._origin)

    def _write_mark(self, size: int) -> None:
        write_mark(self._paths.mark, size)


def make_key(path: Path) -> bytes:
    """Make a witness key (hex seed, 0600) with its marks (each log, what is held), once; return the public key.

    Raises:
        IntegrityError: FILE_EXISTS; nothing was changed.
    """
    seed = os.urandom(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for mark in (*(mark_path(path, log) for log in Log), held_mark_path(path)):
        if not path.exists():  # before the key: a key without marks would be taken for one that lost them
            replace_durably(mark, mark_bytes(0))
    write_once(path, seed.hex().encode() + b"\n")
    return ed25519.public_key(seed)


def read_key(path: Path) -> bytes:
    """Return the seed that `make_key` wrote: 32 bytes.

    Raises:
        IntegrityError: WITNESS_KEY: no such file, or open to others.  MalformedError: FIELD_HEX.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise IntegrityError("WITNESS_KEY", f"expected {path.name} to be readable by its owner alone")
            text = file.read(128).decode("ascii", "replace")
    except OSError as error:
        raise IntegrityError("WITNESS_KEY", f"expected a key file {path.name}: {error.strerror}") from error
    return parse_hex(text.strip(), "witness_key", 32)


def mark_path(key: Path, log: Log) -> Path:
    """Return where the mark of one log stands: beside the key."""
    return key.with_name(f"{key.name}.{log.value}.mark")


class Witness:
    """A witness of one log: judges, makes the result durable, and only then hands out the cosignature."""

    def __init__(self, pins: WitnessPins, store: WitnessStore, clock: Callable[[], int]) -> None:
        self.pins, self._store, self._clock = pins, store, clock
        self._ended: Refused | None = None
        self._line = ""

    @property
    def note(self) -> str:
        """The checkpoint vouched for, with the cosignature that this process gave; "" when there is none."""
        return with_lines(self.state.note, [self._line]) if self._line else self.state.note

    @property
    def has_ended(self) -> bool:
        """Whether this witness vouches for nothing any more."""
        return self._ended is not None

    @property
    def state(self) -> WitnessState:
        """What this witness vouched for so far."""
        return self._store.state

    def answer(self, request: CosignRequest) -> str | Refused:
        """Return the cosignature line for `request`, or why there is none. Blocks for fsync; one call at a time.

        Raises:
            UnavailableError: the state could not be made durable; this process signs no more, a restart decides.
        """
        if self._ended:
            return self._ended
        result = step(self._store.state, request, self.pins, self._clock())
        if isinstance(result, Refused):
            self._remember(result, request)
            return result
        state, line = result
        try:
            self._store.save(state)
        except UnavailableError as error:  # memory and disk may differ from here on
            self._ended = Refused(error.code, "a durable state", "a failed write; restart the witness")
            raise
        self._line = line
        return line

    def end(self, refused: Refused) -> None:
        """Vouch for nothing any more, in this process and after it, and answer every request with `refused`."""
        self._ended = refused
        try:
            self._store.condemn()
        except OSError as error:
            raise UnavailableError("WITNESS_STATE_WRITE", f"expected to write the end: {error.strerror}") from error

    def _remember(self, refused: Refused, request: CosignRequest) -> None:
        if refused.code == "WITNESS_REWOUND":
            self.end(refused)
        elif refused.code == "WITNESS_FORK":
            try:
                self._store.keep_evidence(request.note)
            except OSError as error:
                raise UnavailableError("WITNESS_STATE_WRITE", f"expected to keep a fork: {error.strerror}") from error


def _state_bytes(origin: str, state: WitnessState) -> bytes:
    value: dict[str, Json] = {
        "format": FORMAT,
        "origin": origin,
        "size": state.size,
        "root": state.root.hex(),
        "note": state.note,
    }
    return encode({**value, "check": tagged_hash(FORMAT, encode(value)).hex()})


def _read_state(raw: bytes, origin: str) -> WitnessState:
    try:
        fields = Fields(decode(raw), "witness state")
        state = WitnessState(fields.integer("size"), fields.hex("root", 32), fields.text("note", _MAX_STATE_BYTES))
        found = fields.text("origin")
    except MalformedError as error:
        raise IntegrityError("WITNESS_STATE_CORRUPT", f"expected the state of {origin}: {error.message}") from error
    if raw != _state_bytes(found, state):
        raise IntegrityError("WITNESS_STATE_CORRUPT", f"expected the state of {origin} as it was written")
    if found != origin:
        raise IntegrityError("WITNESS_STATE_ORIGIN", f"expected {origin}, found {found[:200]!r}")
    return state


def _hold(path: Path) -> int:
    """Take the lock: two processes with one key could vouch for two histories."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise UnavailableError("WITNESS_STATE_HELD", "expected to be the only process with this state") from error
    return handle

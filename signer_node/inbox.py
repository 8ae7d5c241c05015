"""What this machine holds outside the log: statements that were posted here, that witnesses hold, or that were dropped.

One durable file per statement. Only what verifies under the rules in force is held, and it stays until it counts in the
log or can count no more. Needs no network: an air-gapped node takes freezes from its inbox directory.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from custody.canonical import decode, encode
from custody.entries import read_stop
from custody.errors import IntegrityError, MalformedError, Refused, UnavailableError
from custody.fields import Fields
from custody.follow import State
from custody.held import HOLD_SECONDS, Held, check_posted, is_moot, with_held
from custody.statements import MAX_STATEMENT_BYTES, Kind, Signed
from signer_node.marks import HeldMark
from signer_node.records import replace_durably

MAX_HELD_OF_ONE = 256  # stops of one person not yet in the log: more is a flood, and nobody else is kept out by it
MAX_DROPPED = 64  # files looked at in one round
_MAX_FILE_BYTES = MAX_STATEMENT_BYTES + 64 * 1024  # with 64 endorsements


class Inbox:
    """The statements held here, oldest first. One process owns a directory; calls do not overlap.

    Args:
        directory: gets `held/` for what is held, and `inbox/`, where an operator drops statements as files.

    Raises:
        IntegrityError: HELD_DAMAGED: what somebody has a receipt for cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._drop = directory / "held", directory / "inbox"
        for each in (self._directory, self._drop):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = (_read_held(path) for path in sorted(self._directory.glob("*.json")))
        self.held: tuple[Held, ...] = tuple(sorted(found, key=lambda held: held.received_at))
        self._mark: HeldMark | None = None

    def guard(self, mark: Path) -> None:
        """Guard what is held by a witness's `mark` beside its key: a state restored from a backup is refused.

        Raises:
            IntegrityError: WITNESS_HELD_REWOUND, HELD_DAMAGED, WITNESS_STATE_LOST or WITNESS_STATE_CORRUPT.
        """
        self._mark = HeldMark(self._directory / "changes", mark, _digests(self.held))

    def take(self, signed: Signed, state: State, now: int) -> int | Refused:
        """Hold `signed` unless it changes nothing any more; return since when (UTC seconds), or why it is refused.

        Args:
            signed: as posted; its signatures are judged here.
            state: what is known of the log, rules included.
            now: this machine's clock, UTC seconds.

        Raises:
            UnavailableError: HELD_UNWRITABLE: it is not held.
        """
        if refused := check_posted(state, signed, now):
            return refused
        known = next((held for held in self.held if held.signed.digest == signed.digest), None)
        if known is not None:
            return known.received_at
        if is_moot(with_held(state, self.held), signed, now):
            return now
        if Counter(map(_owner, (held.signed for held in self.held)))[_owner(signed)] >= MAX_HELD_OF_ONE:
            return Refused("INBOX_FULL", f"at most {MAX_HELD_OF_ONE} that wait for the log", "more of the same person")
        held = Held(signed, now)
        try:
            replace_durably(self._path(signed), encode({"signed": signed.to_json(), "received_at": now}))
            self._note((*self.held, held))
        except OSError as error:
            raise UnavailableError("HELD_UNWRITABLE", f"expected to write: {error.strerror}") from error
        self.held = (*self.held, held)
        return now

    def take_dropped(self, state: State, now: int) -> tuple[Signed, ...]:
        """Take in the files of the inbox directory and return them; one that is refused is renamed `NAME.refused`.

        Raises:
            UnavailableError: HELD_UNWRITABLE.
        """
        taken = []
        for path in sorted(self._drop.glob("*.json"))[:MAX_DROPPED]:
            try:
                signed = Signed.from_bytes(_read_dropped(path))
                refused = self.take(signed, state, now)
            except MalformedError as error:
                refused = Refused(error.code, "a signed statement", error.message)
            try:
                if isinstance(refused, Refused):
                    path.replace(path.with_name(path.name + ".refused"))
                else:
                    taken.append(signed)
                    path.unlink()
            except OSError as error:
                raise UnavailableError("HELD_UNWRITABLE", f"expected to move {path.name}: {error.strerror}") from error
        return tuple(taken)

    def forget(self, state: State, now: int) -> None:
        """Let go of what counts in the log by now, a minute after it came: others have taken it over till then."""
        over = [h for h in self.held if now - h.received_at >= HOLD_SECONDS and is_moot(state, h.signed, now)]
        if not over:
            return
        kept = tuple(held for held in self.held if held not in over)
        try:
            self._note(kept)  # first: a statement without a place in the record is held on, the other way is damage
            for held in over:
                self._path(held.signed).unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError("HELD_UNWRITABLE", f"expected to remove it: {error.strerror}") from error
        self.held = kept

    def _note(self, held: tuple[Held, ...]) -> None:
        if self._mark is not None:
            self._mark.changed(_digests(held))

    def _path(self, signed: Signed) -> Path:
        return self._directory / f"{signed.digest.hex()}.json"


def _digests(held: tuple[Held, ...]) -> frozenset[bytes]:
    return frozenset(each.signed.digest for each in held)


def _owner(signed: Signed) -> tuple[Kind, str]:
    return signed.kind, read_stop(signed).by if signed.kind in (Kind.STOP, Kind.APPROVAL) else ""


def _read_held(path: Path) -> Held:
    try:
        fields = Fields(decode(path.read_bytes()), "held")
        held = Held(Signed.from_json(fields.any("signed")), fields.time("received_at"))
        fields.done()
    except (OSError, MalformedError) as error:
        raise IntegrityError("HELD_DAMAGED", f"expected a statement that was held in {path.name}") from error
    return held


def _read_dropped(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MalformedError("FILE_REFUSED", f"{path.name}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        try:
            raw = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise MalformedError("FILE_REFUSED", f"{path.name}: {error.strerror}") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise MalformedError("FILE_REFUSED", f"expected at most {_MAX_FILE_BYTES} bytes")
    return raw

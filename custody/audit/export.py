"""The export file: canonical JSON lines in one fixed order, so that an export has one spelling.

Line 1 names the format and carries the genesis. Then the entries of the money log and of the event log, each with its
index and leaf hash (which lets a verifier name the very entry that was changed), the bodies that entries name, by
digest in ascending order, and last the cosigned checkpoint of each log. A body is a statement (an object, under its own
digest) or other bytes, such as a PSBT or a transaction (a string in base64, under their SHA-256).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from custody.audit.checkpoint import Log
from custody.audit.tree import leaf_hash
from custody.canonical import Json, decode, encode
from custody.entries import MoneyEntry, read_entry
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Signed

FORMAT = "keyturn-export/1"
MAX_LINE_BYTES = 3 * 1024 * 1024  # the largest body is a PSBT of 2 MiB, in base64
_ENTRY_START = b'{"entry":'

Body: TypeAlias = Signed | bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an export something stands. line: from 1.  log and index: where the line is (or should be) an entry."""

    line: int
    log: Log | None = None
    index: int | None = None


class ExportError(MalformedError):
    """An export whose lines are not what an export has. place: where.  cut: whether it ends too early."""

    def __init__(self, place: Place, message: str, cut: bool = False) -> None:
        super().__init__("EXPORT_TRUNCATED" if cut else "EXPORT_LINE", message)
        self.place = place
        self.cut = cut


@dataclass(frozen=True, slots=True)
class Export:
    """What an export says; nothing in it is believed but its shape.

    entries: canonical bytes by log.  leaves: the leaf hash beside each.  bodies: by digest.  checkpoints: note by log.
    money: the money log's entries once more, as `read_export` parsed them.
    """

    genesis: Signed
    entries: Mapping[Log, tuple[bytes, ...]]
    leaves: Mapping[Log, tuple[bytes, ...]]
    bodies: Mapping[bytes, Body]
    checkpoints: Mapping[Log, str]
    money: tuple[MoneyEntry, ...] = ()

    def place(self, log: Log, index: int) -> Place:
        """Return where entry `index` of `log` stands."""
        before = 0 if log is Log.MONEY else len(self.entries[Log.MONEY])
        return Place(2 + before + index, log, index)


def body_digest(body: Body) -> bytes:
    """Return the name of a body: 32 bytes, a statement's own digest or the SHA-256 of other bytes."""
    return body.digest if isinstance(body, Signed) else hashlib.sha256(body).digest()


def write_export(
    genesis: Signed, entries: Mapping[Log, Iterable[bytes]], bodies: Iterable[Body], checkpoints: Mapping[Log, str]
) -> Iterator[bytes]:
    """Yield the lines of an export, newlines included.

    Args:
        genesis: the pinned document with its signatures.
        entries: canonical bytes of every entry of both logs up to its checkpoint.
        bodies: the statements and other bytes that those entries name.
        checkpoints: the cosigned note of each log.
    """
    yield encode({"format": FORMAT, "genesis": genesis.to_json()}) + b"\n"
    for log in Log:
        for index, entry in enumerate(entries[log]):
            yield entry_line(entry, index, log)
    for _, body in sorted({body_digest(body): body for body in bodies}.items(), key=lambda item: item[0]):
        yield body_line(body)
    for log in Log:
        yield encode({"checkpoint": checkpoints[log], "log": log.value}) + b"\n"


def entry_line(entry: bytes, index: int, log: Log) -> bytes:
    """Return the line of one entry (canonical bytes), newline included."""
    return _ENTRY_START + entry + _entry_end(index, leaf_hash(entry), log) + b"\n"


def body_line(body: Body) -> bytes:
    """Return the line of one body, newline included."""
    return encode({"body": body_digest(body).hex(), "value": _body_json(body)}) + b"\n"


def read_entry_line(line: bytes) -> tuple[Log, int, bytes] | None:
    """Return (log, index, entry) of one line without its newline, or None where it is no entry's.

    For files that hold some of an export's lines. Raises MalformedError where it is not what an entry's line must be.
    """
    if not line.startswith(_ENTRY_START):
        return None
    fields = Fields(decode(line), "line")
    index, text = fields.integer("index"), fields.text("log")
    log = next((each for each in Log if each.value == text), None)
    if log is None:
        raise ExportError(Place(-1), "expected an entry of the money or the event log")
    entry, leaf = _split_entry(line, index, log, Place(-1, log, index))
    if leaf_hash(entry) != leaf:
        raise ExportError(Place(-1, log, index), "expected the leaf of this entry")
    return log, index, entry


def read_body_line(line: bytes) -> Body | None:
    """Return the body of one line without its newline, or None where it is no body's. Raises MalformedError."""
    if not line.startswith(b'{"body":'):
        return None
    fields = Fields(decode(line), "line")
    digest, body = fields.hex("body", 32), _read_body(fields.any("value"), line)
    if body_digest(body) != digest:
        raise ExportError(Place(-1), f"expected a body of digest {digest.hex()}")
    return body


def read_export(raw: bytes) -> Export:
    """Return what the export says.

    Raises:
        ExportError: EXPORT_LINE or EXPORT_TRUNCATED, with the place.
    """
    lines = raw.split(b"\n")
    if lines.pop() or not lines:
        raise ExportError(Place(len(lines) + 1), "expected every line to end in a newline", cut=True)
    reader = _Lines(lines)
    genesis = reader.genesis()
    entries, leaves = {}, {}
    for log in Log:
        entries[log], leaves[log] = reader.entries(log)
    money = tuple(reader.money)
    bodies = reader.bodies()
    checkpoints = {log: reader.checkpoint(log) for log in Log}
    if reader.at != len(lines):
        raise ExportError(Place(reader.at + 1), "expected the end after the checkpoints")
    return Export(genesis, entries, leaves, bodies, checkpoints, money)


def genesis_of(raw: bytes) -> Signed:
    """Return the genesis in an export's first line, unverified: who knows its hash reads the pinned keys from it.

    Raises:
        ExportError: EXPORT_LINE or EXPORT_TRUNCATED.
    """
    line, newline, _ = raw.partition(b"\n")
    if not newline:
        raise ExportError(Place(1), "expected a first line", cut=True)
    return _Lines([line]).genesis()


class _Lines:
    """Reads the lines in their one order."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self.at = 0
        self.money: list[MoneyEntry] = []

    def genesis(self) -> Signed:
        place = Place(1)
        fields = self._fields(place)
        try:
            if fields.text("format") != FORMAT:
                raise ExportError(place, f"expected the format {FORMAT}")
            genesis = Signed.from_json(fields.any("genesis"))
            fields.done()
        except MalformedError as error:
            raise _as_export_error(place, error) from error
        return genesis

    def entries(self, log: Log) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        found: list[tuple[bytes, bytes]] = []
        # A line that is neither an entry of this log nor what may follow is blamed on the entry that should stand here.
        while self.at < len(self._lines) and not self._follows(log):
            place = Place(self.at + 1, log, len(found))
            line = self._lines[self.at]
            value = self._value(place)
            found.append(_split_entry(line, len(found), log, place))
            if log is Log.MONEY and isinstance(value, Mapping):
                self.money.append(_money_entry(value["entry"], found[-1][0], place))
        return tuple(entry for entry, _ in found), tuple(leaf for _, leaf in found)

    def _follows(self, log: Log) -> bool:
        line = self._lines[self.at]
        if log is Log.MONEY and line.startswith(_ENTRY_START) and line.endswith(b'"log":"event"}'):
            return True
        return line.startswith((b'{"body":', b'{"checkpoint":'))

    def bodies(self) -> dict[bytes, Body]:
        found: dict[bytes, Body] = {}
        last = b""
        while self.at < len(self._lines) and self._lines[self.at].startswith(b'{"body":'):
            place = Place(self.at + 1)
            fields = self._fields(place)
            try:
                digest = fields.hex("body", 32)
                body = _read_body(fields.any("value"), self._lines[place.line - 1])
                fields.done()
            except MalformedError as error:
                raise _as_export_error(place, error) from error
            if digest <= last or body_digest(body) != digest:
                raise ExportError(place, f"expected a body of digest {digest.hex()}, in ascending order")
            found[digest] = body
            last = digest
        return found

    def checkpoint(self, log: Log) -> str:
        place = Place(self.at + 1)
        if self.at == len(self._lines):
            raise ExportError(place, f"expected the checkpoint of the {log.value} log", cut=True)
        fields = self._fields(place)
        try:
            note = fields.text("checkpoint", MAX_LINE_BYTES)
            found = fields.text("log")
            fields.done()
        except MalformedError as error:
            raise _as_export_error(place, error) from error
        if found != log.value:
            raise ExportError(place, f"expected the checkpoint of the {log.value} log, found {found[:20]!r}")
        return note

    def _fields(self, place: Place) -> Fields:
        try:
            return Fields(self._value(place), "line")
        except MalformedError as error:
            raise _as_export_error(place, error) from error

    def _value(self, place: Place) -> Json:
        line = self._lines[self.at]
        if len(line) > MAX_LINE_BYTES:
            raise ExportError(place, f"expected at most {MAX_LINE_BYTES} bytes in a line, found {len(line)}")
        try:
            value = decode(line)
        except MalformedError as error:
            raise _as_export_error(place, error) from error
        self.at += 1
        return value


def _money_entry(value: Json, raw: bytes, place: Place) -> MoneyEntry:
    try:
        return read_entry(value, len(raw))
    except MalformedError as error:
        raise ExportError(place, str(error)) from error


def _split_entry(line: bytes, index: int, log: Log, place: Place) -> tuple[bytes, bytes]:
    """Return the entry's canonical bytes and the leaf beside it; the line is canonical, so its own ends fix both."""
    end = b'","log":"' + log.value.encode() + b'"}'
    leaf_at = len(line) - len(end) - 64
    middle = b',"index":%d,"leaf":"' % index
    leaf_hex = line[leaf_at : -len(end)]
    try:
        leaf = bytes.fromhex(leaf_hex.decode("ascii"))
    except ValueError as error:
        raise ExportError(place, "expected a leaf of 32 bytes") from error
    is_whole = line.startswith(_ENTRY_START) and line.endswith(end) and line.endswith(middle, 0, max(0, leaf_at))
    if not is_whole or leaf.hex().encode() != leaf_hex or len(leaf) != 32:
        raise ExportError(place, f"expected entry {index} of the {log.value} log")
    return line[len(_ENTRY_START) : leaf_at - len(middle)], leaf


def _entry_end(index: int, leaf: bytes, log: Log) -> bytes:
    return f',"index":{index},"leaf":"{leaf.hex()}","log":"{log.value}"}}'.encode()


def _body_json(body: Body) -> Json:
    return body.to_json() if isinstance(body, Signed) else base64.b64encode(body).decode()


def _read_body(value: Json, line: bytes) -> Body:
    """Return the body of a canonical line, {"body": digest, "value": value}."""
    if not isinstance(value, str):
        return Signed.from_canonical(value, line[len('{"body":"') + 64 + len('","value":') : -1])
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("BODY_BASE64", "expected strict base64") from error
    if base64.b64encode(raw).decode() != value:
        raise MalformedError("BODY_BASE64", "expected the one base64 spelling of these bytes")
    return raw


def _as_export_error(place: Place, error: MalformedError) -> ExportError:
    return error if isinstance(error, ExportError) else ExportError(place, str(error))

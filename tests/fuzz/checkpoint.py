"""Target: notes, checkpoints and cosignatures. One spelling each; nobody vouches for what he did not sign."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from random import Random

from custody.audit import Checkpoint, Log, WitnessKey, cosign, origin_of, sign_checkpoint, with_lines
from custody.audit.checkpoint import open_checkpoint, parse_checkpoint, read_cosignature
from custody.audit.note import Note, SignatureLine, parse_line, parse_note
from custody.audit.tree import EMPTY_ROOT
from custody.errors import IntegrityError
from tests.fakes.rules import key_of, seed_of
from tests.fuzz.psbts import VECTORS
from tests.fuzz.refusal import attempt
from tests.fuzz.target import ByteMutator

NOTE_CODES = frozenset({"NOTE_FORM", "NOTE_KEY_NAME", "NOTE_SIGNATURE_FORM", "NOTE_SIGNATURE_TWICE", "NOTE_TOO_LARGE"})
CODES = NOTE_CODES | {"CHECKPOINT_FORM"}
BROKEN = frozenset({"CHECKPOINT_ORIGIN", "CHECKPOINT_UNSIGNED", "COSIGNATURE_INVALID"})
NO_OFFSET = -1
ORIGIN = origin_of(bytes([7]) * 32, Log.MONEY)
LOG_SEED, LOG_KEY = seed_of("log"), key_of("log")
WITNESSES = tuple(WitnessKey(name, key_of(name)) for name in ("w-1", "w-2"))
TIMES = (1_800_000_000, 1_800_000_060)
HONEST = (Checkpoint(ORIGIN, 0, EMPTY_ROOT), Checkpoint(ORIGIN, 2**53 - 1, b"\x05" * 32))
BODIES = frozenset(made.body for made in HONEST)


def seeds() -> Iterator[bytes]:
    """Yield checkpoints by a log that two witnesses vouch for, bodies and lines alone, and the examples of C2SP."""
    for made in HONEST:
        note = sign_checkpoint(made, LOG_SEED)
        lines = [cosign(note, w.name, seed_of(w.name), time) for w in WITNESSES for time in TIMES]
        for count in range(len(lines) + 1):
            yield with_lines(note, lines[:count]).encode()
        yield made.body.encode()
        yield lines[0].encode()
    examples = json.loads((VECTORS / "c2sp/examples.json").read_text())["examples"]
    for found in examples.values():
        yield from ((text + "\n").encode() for text in (*found["fenced"], *found["indented"]))


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with a line changed, dropped, repeated or moved, or what a line holds in base64 changed."""
    if random.random() < 0.2:
        return mutate_bytes(raw)
    lines = raw.split(b"\n")
    at, kind = random.randrange(len(lines)), random.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(random.randint(0, len(lines)), lines[at])
    elif kind == 2:
        random.shuffle(lines)
    elif kind == 3:
        lines[at] = mutate_bytes(lines[at])
    else:
        head, space, encoded = lines[at].rpartition(b" ")
        try:
            lines[at] = head + space + base64.b64encode(mutate_bytes(base64.b64decode(encoded)))
        except ValueError:
            lines[at] = mutate_bytes(lines[at])
    return b"\n".join(lines)


def check(raw: bytes) -> None:
    """Read `raw` as a note, as a checkpoint's body and as a line; open it as the log's checkpoint."""
    text = raw.decode("utf-8", "surrogateescape")
    note = attempt(lambda: parse_note(text), NOTE_CODES, NO_OFFSET)
    if isinstance(note, Note):
        assert str(note) == text, "a note of two spellings"
        _check_body(note.body)
    else:
        _check_body(text)
    line = attempt(lambda: parse_line(text), NOTE_CODES, NO_OFFSET)
    assert not isinstance(line, SignatureLine) or str(line) == text
    _check_trust(text)


def _check_body(body: str) -> None:
    found = attempt(lambda: parse_checkpoint(body), CODES, NO_OFFSET)
    if isinstance(found, Checkpoint):
        assert found.body == body, "a checkpoint of two spellings"
        assert 0 <= found.size < 2**53
        assert len(found.root) == 32


def _check_trust(text: str) -> None:
    """Only the bodies that were signed are opened, and only at the times that were signed."""
    try:
        opened = attempt(lambda: open_checkpoint(text, LOG_KEY, ORIGIN, WITNESSES), CODES, NO_OFFSET)
        if isinstance(opened, Exception):
            return
        assert opened.checkpoint.body in BODIES, "a checkpoint that the log never signed"
        assert {time for _, time in opened.counted} <= set(TIMES), "a time that no witness signed"
        last = text[:-1].rpartition("\n")[2]
        assert read_cosignature(text, last, WITNESSES[0]) in TIMES
        return
    except IntegrityError as error:
        code = error.code
    assert code in BROKEN, f"unlisted code {code}"

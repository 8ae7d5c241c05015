"""Signed notes, checkpoints and cosignatures: the C2SP examples, and one change with one code each."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody import ed25519
from custody.audit import (
    EMPTY_ROOT,
    Checkpoint,
    Log,
    WitnessKey,
    cosign,
    leaf_hash,
    open_checkpoint,
    open_signed,
    origin_of,
    parse_checkpoint,
    parse_note,
    read_cosignature,
    sign_checkpoint,
    verifier_key,
    with_lines,
)
from custody.audit.note import ED25519_TYPE, MAX_NOTE_CHARS, key_id
from custody.errors import IntegrityError, MalformedError

EXAMPLES = json.loads((Path(__file__).parents[1] / "vectors" / "c2sp" / "examples.json").read_text())["examples"]
LOG_SEED = b"\x01" * 32
LOG_KEY = ed25519.public_key(LOG_SEED)
SEEDS = {name: bytes([number]) * 32 for number, name in enumerate(("w-1", "w-2", "w-3"), start=2)}
WITNESSES = tuple(WitnessKey(name, ed25519.public_key(seed)) for name, seed in SEEDS.items())
ORIGIN = origin_of(b"\x07" * 32, Log.MONEY)
CHECKPOINT = Checkpoint(ORIGIN, 5, leaf_hash(b"any root"))
NOTE = sign_checkpoint(CHECKPOINT, LOG_SEED)


@given(st.text(alphabet="— \n/aZ09+=\u2003\ud800", max_size=200) | st.text(max_size=100))
def test_note_given_any_text_is_read_or_malformed(text: str) -> None:
    """Reading never breaks, and what it accepts has no other spelling."""
    for candidate in (text, "x\n\n" + text, NOTE + text):
        try:
            note = parse_note(candidate)
        except MalformedError:
            continue
        assert str(note) == candidate


def cosigned(*times: tuple[str, int]) -> str:
    """Return NOTE cosigned by the named witnesses at the given times."""
    return with_lines(NOTE, [cosign(NOTE, name, SEEDS[name], at) for name, at in times])


def test_note_given_c2sp_example_verifies_with_its_verifier_key() -> None:
    """The specification's own note and verifier key agree with our key id, form and signature."""
    note = parse_note(EXAMPLES["signed-note"]["fenced"][1] + "\n")
    public = bytes.fromhex("e932791ae6e7a840a46164c904786426d5e7821dd8b29a00d61cae72afdd4da4")
    line = note.signatures[0]

    assert verifier_key(line.name, ED25519_TYPE, public) == EXAMPLES["signed-note"]["indented"][2]
    assert line.key_id == key_id(line.name, ED25519_TYPE, public)
    assert ed25519.verify(public, note.body.encode(), line.blob)


@pytest.mark.parametrize(
    "text",
    [
        *EXAMPLES["signed-note"]["fenced"],
        *EXAMPLES["tlog-checkpoint"]["fenced"],
        *EXAMPLES["tlog-cosignature"]["fenced"],
    ],
)
def test_note_given_c2sp_example_round_trips(text: str) -> None:
    """Reading and writing an example gives the same text, blank lines in the body included."""
    assert str(parse_note(text + "\n")) == text + "\n"


def test_note_given_shortest_signature_is_read() -> None:
    """A key id and one byte are a line; what they are worth is for whoever knows the key."""
    assert parse_note("x\n\n— w AAAAAAA=\n").signatures[0].blob == b"\0"


def test_checkpoint_given_c2sp_example_is_read() -> None:
    """The specification's checkpoint has the origin and size it shows, and its witness line the time in its text."""
    note = parse_note(EXAMPLES["tlog-cosignature"]["fenced"][0] + "\n")

    assert parse_checkpoint(note.body).size == 20852163
    assert note.signatures[1].name == "witness.example.com/w1"
    assert int.from_bytes(note.signatures[1].blob[:8]) == 1679315147  # the time its text shows


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda n: n + "x" * MAX_NOTE_CHARS, "NOTE_TOO_LARGE"),
        (lambda n: n[:-1], "NOTE_FORM"),
        (lambda n: n.replace("\n\n", "\n"), "NOTE_FORM"),
        (lambda n: n.replace("\n5\n", "\r\n5\n"), "NOTE_FORM"),
        (lambda n: n + "\ud800\n", "NOTE_FORM"),
        (lambda n: "\udfff" + n, "NOTE_FORM"),
        (lambda n: n + "\n", "NOTE_FORM"),
        (lambda n: n.replace("—", "-"), "NOTE_SIGNATURE_FORM"),
        (lambda n: n.replace("— keyturn/", "— keyturn+"), "NOTE_KEY_NAME"),
        (lambda n: n.replace("— keyturn/", "— key\u2003turn/"), "NOTE_KEY_NAME"),
        (lambda n: n + "— w AAAA\n", "NOTE_SIGNATURE_FORM"),
        (lambda n: n + "— w AAAAAAA\n", "NOTE_SIGNATURE_FORM"),
        (lambda n: n + "— w AAAAAAB=\n", "NOTE_SIGNATURE_FORM"),
        (lambda n: n + "— w AAAA AAAA\n", "NOTE_SIGNATURE_FORM"),
        (lambda n: n + n.split("\n\n")[1], "NOTE_SIGNATURE_TWICE"),
        (lambda n: n + "".join(f"— w{i} AAAAAAAA\n" for i in range(64)), "NOTE_TOO_LARGE"),
        (lambda n: n.replace("\n5\n", "\n05\n"), "CHECKPOINT_FORM"),
        (lambda n: n.replace("\n5\n", "\n+5\n"), "CHECKPOINT_FORM"),
        (lambda n: n.replace("\n5\n", "\n٥\n"), "CHECKPOINT_FORM"),
        (lambda n: n.replace("\n5\n", f"\n{2**53}\n"), "CHECKPOINT_FORM"),
        (lambda n: n.replace("\n5\n", "\n0\n"), "CHECKPOINT_FORM"),
        (lambda n: n.replace("\n\n", "\nextension\n\n"), "CHECKPOINT_FORM"),
        (lambda n: n.replace("=\n\n", "\n\n"), "CHECKPOINT_FORM"),
    ],
)
def test_checkpoint_given_another_form_is_malformed(change: Callable[[str], str], code: str) -> None:
    """Each text that is no checkpoint note is refused with the code of what is wrong with it."""
    with pytest.raises(MalformedError) as caught:
        open_signed(change(NOTE), LOG_KEY, ORIGIN)

    assert caught.value.code == code


def other_log_line() -> str:
    """Return a line that claims the log's key and signs another size."""
    return str(parse_note(sign_checkpoint(Checkpoint(ORIGIN, 6, CHECKPOINT.root), LOG_SEED)).signatures[0])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda n: n.replace("\n5\n", "\n6\n"), "CHECKPOINT_UNSIGNED"),
        (lambda n: n.split("\n\n")[0] + "\n\n— w AAAAAAAA\n", "CHECKPOINT_UNSIGNED"),
        (lambda n: n + other_log_line() + "\n", "CHECKPOINT_UNSIGNED"),
        (lambda n: sign_checkpoint(CHECKPOINT, SEEDS["w-1"]), "CHECKPOINT_UNSIGNED"),
        (
            lambda n: sign_checkpoint(Checkpoint(origin_of(b"\x08" * 32, Log.MONEY), 5, CHECKPOINT.root), LOG_SEED),
            "CHECKPOINT_ORIGIN",
        ),
        (
            lambda n: sign_checkpoint(Checkpoint(origin_of(b"\x07" * 32, Log.EVENT), 5, CHECKPOINT.root), LOG_SEED),
            "CHECKPOINT_ORIGIN",
        ),
    ],
)
def test_open_signed_given_what_the_log_did_not_sign_is_refused(change: Callable[[str], str], code: str) -> None:
    """Another size, key, genesis or log, no signature, or two by the log: none is a checkpoint of ours."""
    with pytest.raises(IntegrityError) as caught:
        open_signed(change(NOTE), LOG_KEY, ORIGIN)

    assert caught.value.code == code


def test_open_checkpoint_given_cosignatures_counts_each_witness_once_by_its_newest() -> None:
    """Older lines of the same witness and lines of strangers count nothing; times are sorted newest first."""
    stranger = cosign(NOTE, "w-1", b"\x66" * 32, 999)
    text = with_lines(cosigned(("w-1", 100), ("w-2", 120), ("w-1", 130)), [stranger])

    opened = open_checkpoint(text, LOG_KEY, ORIGIN, WITNESSES)

    assert opened.checkpoint == CHECKPOINT
    assert opened.counted == (("w-1", 130), ("w-2", 120))
    assert (opened.newest, opened.oldest_counted(1), opened.oldest_counted(2)) == (130, 130, 120)
    assert opened.oldest_counted(3) is None


def test_open_checkpoint_given_no_cosignature_has_no_time() -> None:
    """A checkpoint that only the log signed vouches for no time."""
    opened = open_checkpoint(NOTE, LOG_KEY, ORIGIN, WITNESSES)

    assert opened.oldest_counted(1) is None
    with pytest.raises(IntegrityError, match="CHECKPOINT_UNDERSIGNED"):
        _ = opened.newest


def test_oldest_counted_given_zero_witnesses_is_refused() -> None:
    """A rule that asks for no witness is not a rule."""
    with pytest.raises(MalformedError, match="WITNESS_THRESHOLD"):
        open_checkpoint(NOTE, LOG_KEY, ORIGIN, WITNESSES).oldest_counted(0)


def test_cosign_given_witness_makes_the_bytes_that_the_specification_says() -> None:
    """By hand: a key id over type 4, eight bytes of time, and a signature of header, time and body."""
    public = ed25519.public_key(SEEDS["w-1"])
    raw = base64.b64decode(cosign(NOTE, "w-1", SEEDS["w-1"], 1_679_315_147).removeprefix("— w-1 "))
    body = f"{ORIGIN}\n5\n{base64.b64encode(CHECKPOINT.root).decode()}\n"

    assert raw[:4] == hashlib.sha256(b"w-1\n\x04" + public).digest()[:4]
    assert raw[4:12] == bytes.fromhex("000000006418 50cb")
    assert ed25519.verify(public, f"cosignature/v1\ntime 1679315147\n{body}".encode(), raw[12:])


def test_note_given_values_at_their_bounds_is_read() -> None:
    """The largest size and the most signatures are still read."""
    assert parse_checkpoint(NOTE.split("\n\n")[0].replace("\n5\n", f"\n{2**53 - 1}\n") + "\n").size == 2**53 - 1
    assert len(parse_note(NOTE + "".join(f"— w{i} AAAAAAAA\n" for i in range(63))).signatures) == 64


def moved_in_time() -> str:
    """Return a cosignature line whose time was changed after signing."""
    line = parse_note(cosigned(("w-1", 100))).signatures[1]
    return str(type(line)(line.name, line.key_id, (200).to_bytes(8) + line.blob[8:]))


def cut_short() -> str:
    """Return a cosignature line that lost its last byte."""
    line = parse_note(cosigned(("w-1", 100))).signatures[1]
    return str(type(line)(line.name, line.key_id, line.blob[:-1]))


@pytest.mark.parametrize(
    "line",
    [
        moved_in_time(),
        cut_short(),
        cosign(NOTE.replace("\n5\n", "\n6\n"), "w-1", SEEDS["w-1"], 100),
        cosign(NOTE, "w-1", SEEDS["w-1"], 2**41),
    ],
)
def test_open_checkpoint_given_a_wrong_line_by_a_known_witness_is_refused(line: str) -> None:
    """A changed time, a cut, another body or an absurd time under a known key refuses the whole note."""
    with pytest.raises(IntegrityError, match="COSIGNATURE_INVALID"):
        open_checkpoint(with_lines(NOTE, [line]), LOG_KEY, ORIGIN, WITNESSES)
    with pytest.raises(IntegrityError, match="COSIGNATURE_INVALID"):
        read_cosignature(NOTE, line, WITNESSES[0])


def test_open_checkpoint_given_one_key_under_two_names_is_refused() -> None:
    """One witness cannot be pinned twice and so count as two."""
    twice = (*WITNESSES, WitnessKey("w-4", WITNESSES[0].key))

    with pytest.raises(MalformedError, match="WITNESS_KEYS_REPEAT"):
        open_checkpoint(NOTE, LOG_KEY, ORIGIN, twice)


def test_read_cosignature_given_its_witness_returns_its_time() -> None:
    """What one witness answers can be checked alone, and not under another witness's key."""
    line = cosign(NOTE, "w-1", SEEDS["w-1"], 100)

    assert read_cosignature(NOTE, line, WITNESSES[0]) == 100
    with pytest.raises(IntegrityError, match="COSIGNATURE_INVALID"):
        read_cosignature(NOTE, line, WITNESSES[1])


def test_checkpoint_given_empty_tree_is_valid() -> None:
    """A log can be shown to be empty."""
    note = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), LOG_SEED)

    assert open_signed(note, LOG_KEY, ORIGIN)[0] == Checkpoint(ORIGIN, 0, EMPTY_ROOT)

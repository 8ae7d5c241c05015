"""C2SP signed notes: a text and the lines that sign it, read strictly.

Nothing here is believed: `parse_note` says what stands there, and the openers of `custody.audit.checkpoint` say whose
signature holds. Lines by unknown keys are kept and ignored (signed-note, "Signatures").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from custody.errors import MalformedError

ED25519_TYPE = 0x01  # signed-note, "Signature types"
COSIGNATURE_TYPE = 0x04  # tlog-cosignature: timestamped Ed25519
MAX_NOTE_CHARS = 16_384  # three body lines and 64 signature lines of ours need under 12,000
MAX_SIGNATURES = 64  # the specification demands at least 16; a quorum of ours is under 10
MAX_KEY_NAME_CHARS = 256
_DASH = "\N{EM DASH} "
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # control characters but newline, lone surrogates


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One line "— name base64(key_id || blob)". key_id: 4 bytes. blob: what that kind of key makes."""

    name: str
    key_id: bytes
    blob: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.blob).decode()}"


@dataclass(frozen=True, slots=True)
class Note:
    """body: the signed text, its last newline included. signatures: in the order of the lines; none is verified."""

    body: str
    signatures: tuple[SignatureLine, ...]

    def __str__(self) -> str:
        return self.body + "\n" + "".join(f"{line}\n" for line in self.signatures)

    def by(self, name: str, key_id: bytes) -> tuple[SignatureLine, ...]:
        """Return the lines that claim this key, which only verification can confirm."""
        return tuple(line for line in self.signatures if line.name == name and line.key_id == key_id)


@lru_cache(maxsize=256)  # a log has a dozen keys, and each of its notes asks for them
def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Return the 4 bytes that name a key in a note: sha256(name || newline || kind || public)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def verifier_key(name: str, kind: int, public: bytes) -> str:
    """Return the key as other implementations take it: "name+hex(key id)+base64(kind || public)"."""
    encoded = base64.b64encode(bytes([kind]) + public).decode()
    return f"{check_key_name(name)}+{key_id(name, kind, public).hex()}+{encoded}"


@lru_cache(maxsize=64)  # a checkpoint is opened, compared and read for its lines in one go
def parse_note(text: str) -> Note:
    """Return the note whose only spelling is `text`.

    Raises:
        MalformedError: NOTE_TOO_LARGE, NOTE_FORM, NOTE_KEY_NAME, NOTE_SIGNATURE_FORM or NOTE_SIGNATURE_TWICE.
    """
    if len(text) > MAX_NOTE_CHARS:
        raise MalformedError("NOTE_TOO_LARGE", f"expected at most {MAX_NOTE_CHARS} characters, found {len(text)}")
    if _FORBIDDEN.search(text):
        raise MalformedError("NOTE_FORM", "expected valid Unicode without control characters")
    body, blank, signed = text.rpartition("\n\n")
    if not blank or not body or not signed.endswith("\n"):
        raise MalformedError("NOTE_FORM", "expected a text, a blank line and signature lines that end in a newline")
    lines = signed[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError("NOTE_TOO_LARGE", f"expected at most {MAX_SIGNATURES} signatures, found {len(lines)}")
    signatures = tuple(parse_line(line) for line in lines)
    if len(set(signatures)) != len(signatures):
        raise MalformedError("NOTE_SIGNATURE_TWICE", "expected each signature line once")
    return Note(body + "\n", signatures)


def parse_line(text: str) -> SignatureLine:
    """Return one signature line, given without its newline.

    Raises:
        MalformedError: NOTE_KEY_NAME or NOTE_SIGNATURE_FORM.
    """
    name, space, encoded = text.removeprefix(_DASH).partition(" ")
    if not text.startswith(_DASH) or not space:
        raise MalformedError("NOTE_SIGNATURE_FORM", "expected em dash, space, key name, space, base64")
    raw = decode_base64(encoded, "NOTE_SIGNATURE_FORM")
    if len(raw) < 5:
        raise MalformedError("NOTE_SIGNATURE_FORM", f"expected a key id and a signature, found {len(raw)} bytes")
    return SignatureLine(check_key_name(name), raw[:4], raw[4:])


def check_key_name(name: str) -> str:
    """Return `name` where it can stand in a signature line, or refuse it with NOTE_KEY_NAME."""
    if not 0 < len(name) <= MAX_KEY_NAME_CHARS or "+" in name or " " in name or not name.isprintable():
        raise MalformedError("NOTE_KEY_NAME", f"expected 1..{MAX_KEY_NAME_CHARS} printable characters, no space, no +")
    return name


def decode_base64(text: str, code: str) -> bytes:
    """Return the bytes whose only standard base64 (RFC 4648 section 4) is `text`, or refuse it with `code`."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError(code, "expected standard base64") from error
    if base64.b64encode(raw).decode() != text:  # stray bits after the last byte would make two spellings
        raise MalformedError(code, "expected canonical base64")
    return raw

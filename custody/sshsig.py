"""Signatures made by `ssh-keygen -Y sign`: Ed25519 keys, and keys inside FIDO hardware (OpenSSH PROTOCOL.sshsig, .u2f).

What is signed is the canonical statement itself, in a file, so people can read what their key is asked for. The
namespace is the statement's kind: a signature made for anything else counts nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256, sha512

from custody import ed25519, p256
from custody.errors import MalformedError
from custody.framed import framed, take_framed
from custody.reader import Reader

MAX_KEY_BYTES = 512  # the longest of the three kinds has a curve name, a point and an application: about 130
MAX_SIGNATURE_BYTES = 1024  # the key once more, the namespace and the signature: about 300
ED25519, SK_ED25519 = b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com"
SK_ECDSA = b"sk-ecdsa-sha2-nistp256@openssh.com"
TOUCHED, VERIFIED = 0x01, 0x04  # a finger on the device; a PIN or fingerprint checked by it
_MAGIC, _VERSION, _HASH = b"SSHSIG", 1, b"sha512"
_CURVE = b"nistp256"


@dataclass(frozen=True, slots=True)
class SshKey:
    """A public key. kind: its SSH name.  point: 32 bytes of Ed25519, or 65 of P-256.  application: of hardware keys."""

    kind: bytes
    point: bytes
    application: bytes = b""


def namespace_of(kind: str) -> bytes:
    """Return the `-n` of a statement's kind: `keyturn/approval/v1` is signed as `keyturn.approval.v1`."""
    return kind.replace("/", ".").encode("ascii")


def parse_key(blob: bytes) -> SshKey:
    """Return the key whose SSH wire form is `blob`: what stands in base64 in a `.pub` file.

    Raises:
        MalformedError: SSH_KEY.
    """
    if len(blob) > MAX_KEY_BYTES:
        raise MalformedError("SSH_KEY", f"expected at most {MAX_KEY_BYTES} bytes, found {len(blob)}")
    try:
        reader = Reader(blob)
        kind = take_framed(reader)
        if kind == SK_ECDSA and take_framed(reader) != _CURVE:
            raise MalformedError("SSH_KEY", "expected the curve nistp256")
        point = take_framed(reader)
        application = take_framed(reader) if kind in (SK_ED25519, SK_ECDSA) else b""
    except MalformedError as error:
        raise MalformedError("SSH_KEY", f"expected a public key of SSH: {error.message}") from error
    if kind not in (ED25519, SK_ED25519, SK_ECDSA):
        raise MalformedError("SSH_KEY", f"expected ssh-ed25519 or a FIDO key, found {kind[:40]!r}")
    if reader.left or len(point) != (65 if kind == SK_ECDSA else 32):
        raise MalformedError("SSH_KEY", f"expected a {kind.decode()} key and nothing behind it")
    return SshKey(kind, point, application)


def verify(key_blob: bytes, kind: str, message: bytes, blob: bytes) -> bool:
    """Return whether `blob` is a signature of `message` by the key `key_blob`, made for statements of `kind`.

    A hardware key must have been touched and have verified its owner (flags UP and UV).

    Args:
        key_blob: SSH wire form.
        kind: of the statement, such as `keyturn/approval/v1`.
        message: the canonical statement.
        blob: what stands in base64 between the armour's lines.
    """
    # Plan: 1 form · 2 by this key · 3 for this kind of statement · 4 over this message.
    if len(blob) > MAX_SIGNATURE_BYTES:
        return False
    try:
        key = parse_key(key_blob)
        reader = Reader(blob)
        is_form = reader.take(len(_MAGIC)) == _MAGIC and int.from_bytes(reader.take(4), "big") == _VERSION
        said_key, namespace, reserved, hash_name, signature = (take_framed(reader) for _ in range(5))
        if not is_form or reader.left or reserved or hash_name != _HASH:
            return False
        if said_key != key_blob or namespace != namespace_of(kind):
            return False
        return _holds(key, _MAGIC + framed(namespace, reserved, hash_name, sha512(message).digest()), signature)
    except MalformedError:
        return False


def _holds(key: SshKey, signed: bytes, signature: bytes) -> bool:
    reader = Reader(signature)
    if take_framed(reader) != key.kind:
        return False
    made = take_framed(reader)
    if key.kind == ED25519:
        return not reader.left and ed25519.verify(key.point, signed, made)
    flags_and_counter = reader.take(5)
    has_consent = flags_and_counter[0] & (TOUCHED | VERIFIED) == TOUCHED | VERIFIED
    if reader.left or not has_consent:
        return False
    signed = sha256(key.application).digest() + flags_and_counter + sha256(signed).digest()
    if key.kind == SK_ED25519:
        return ed25519.verify(key.point, signed, made)
    numbers = Reader(made)
    r, s = (int.from_bytes(take_framed(numbers), "big") for _ in range(2))
    return not numbers.left and p256.verify_numbers(key.point, signed, r, s)

"""What a person signs with: an Ed25519 key file, or an SSH key by `ssh-keygen`, whose private half may be in hardware.

The canonical statement goes to `ssh-keygen` whole, never a digest; which key it finds, and whether it asks for a finger
or a PIN, is its own affair. What comes back is verified here before it goes anywhere.
"""

from __future__ import annotations

import subprocess
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from console.files import read_file, read_seed
from custody import ed25519, sshsig, statements
from custody.canonical import Json, encode
from custody.errors import IntegrityError, MalformedError, UnavailableError
from custody.pasted import refuse_pasted
from custody.statements import ED25519, SSH, Endorsement, Kind, Signed

SSH_KEYGEN = "/usr/bin/ssh-keygen"
MAX_PUBLIC_KEY_BYTES = 2048  # kind, key and a comment
MAX_ARMOUR_BYTES = 4096
PATIENCE_S = 120  # a person looks for the hardware key, and touches it
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


class Pen(Protocol):
    """Signs statements as one person."""

    @property
    def alg(self) -> str:
        """As `custody.statements.Endorsement` has it."""

    @property
    def key(self) -> bytes:
        """The public key, as the rules list it."""

    def endorse(self, kind: Kind, raw: bytes) -> Endorsement:
        """Return a signature of the canonical bytes `raw`."""

    def sign(self, kind: Kind, statement: Json) -> Signed:
        """Return `statement`, signed. Raises MalformedError SECRET_PASTED: what is signed is read by many."""


@dataclass(frozen=True, slots=True)
class SeedPen:
    """Signs with an Ed25519 seed (32 bytes)."""

    seed: bytes = field(repr=False)
    alg: str = ED25519

    @property
    def key(self) -> bytes:
        """32 bytes."""
        return ed25519.public_key(self.seed)

    def endorse(self, kind: Kind, raw: bytes) -> Endorsement:
        """See the port."""
        return statements.endorse(kind, raw, self.seed)

    def sign(self, kind: Kind, statement: Json) -> Signed:
        """See the port."""
        refuse_pasted(statement, kind.name.lower())
        return statements.sign(kind, statement, self.seed)


@dataclass(frozen=True, slots=True)
class SshPen:
    """Signs with the private half of `path`, a `.pub` file; key: SSH's wire form."""

    path: Path
    key: bytes
    alg: str = SSH

    def endorse(self, kind: Kind, raw: bytes) -> Endorsement:
        """See the port.

        Raises:
            UnavailableError: SSH_KEYGEN: it is not there, refused, or nobody touched the key in time.
            IntegrityError: SSH_SIGNATURE: what it made is no signature of `raw` by this key.
        """
        namespace = sshsig.namespace_of(kind.value).decode()
        command = [SSH_KEYGEN, "-Y", "sign", "-q", "-f", str(self.path), "-n", namespace]
        try:
            made = subprocess.run(  # noqa: S603  # a fixed program, our own arguments, no shell
                command, input=raw, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError("SSH_KEYGEN", f"expected {SSH_KEYGEN} to sign: {type(error).__name__}") from error
        if made.returncode != 0:
            raise UnavailableError("SSH_KEYGEN", f"expected {SSH_KEYGEN} to sign, found exit code {made.returncode}")
        endorsement = Endorsement(SSH, self.key, unarmoured(made.stdout))
        if not endorsement.holds(kind, raw):
            raise IntegrityError("SSH_SIGNATURE", "expected it to hold; a FIDO key needs touch and PIN")
        return endorsement

    def sign(self, kind: Kind, statement: Json) -> Signed:
        """See the port."""
        refuse_pasted(statement, kind.name.lower())
        raw = encode(statement)
        return Signed(kind, raw, (self.endorse(kind, raw),))


def open_pen(path: Path) -> Pen:
    """Return the pen of a key file: `NAME.pub` is an SSH key, anything else an Ed25519 seed.

    Raises:
        MalformedError: KEY_FILE, SSH_KEY.
        IntegrityError: KEY_FILE_MODE where others could read a seed.
    """
    return SshPen(path, read_public_key(path)) if path.suffix == ".pub" else SeedPen(read_seed(path))


def read_public_key(path: Path) -> bytes:
    """Return the wire form of the key in a `.pub` file. Raises MalformedError SSH_KEY."""
    parts = read_file(path, MAX_PUBLIC_KEY_BYTES).split()
    try:
        blob = b64decode(parts[1], validate=True)
    except (IndexError, Base64Error) as error:
        raise MalformedError("SSH_KEY", f"expected {path.name} to hold one public key of SSH") from error
    sshsig.parse_key(blob)
    return blob


def unarmoured(text: bytes) -> bytes:
    """Return the signature between the armour's lines. Raises MalformedError SSH_SIGNATURE_FORM."""
    lines = text[: MAX_ARMOUR_BYTES + 1].decode("ascii", "replace").split()
    body = "".join(lines)
    begin, end = _BEGIN.replace(" ", ""), _END.replace(" ", "")
    try:
        if len(text) > MAX_ARMOUR_BYTES or not body.startswith(begin) or not body.endswith(end):
            raise ValueError("not between the armour's lines")
        return b64decode(body[len(begin) : -len(end)], validate=True)
    except ValueError as error:
        raise MalformedError("SSH_SIGNATURE_FORM", "expected an armoured signature of ssh-keygen") from error

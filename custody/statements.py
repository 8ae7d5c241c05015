"""What people, services and nodes sign: canonical bytes, one tag per kind, one signature over the tagged hash.

The signing program makes the canonical bytes itself and hashes them; it never signs a digest that somebody hands it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from custody import ed25519, sshsig, webauthn
from custody.canonical import Json, decode, encode, tagged_hash
from custody.errors import MalformedError
from custody.fields import Fields

ED25519, SSH = "ed25519", "ssh"
ALGORITHMS = (ED25519, SSH, webauthn.ES256, webauthn.EDDSA)
_SEAL = "keyturn/signed/v1"
MAX_SIGNATURE_BYTES = webauthn.MAX_ASSERTION_BYTES
MAX_STATEMENT_BYTES = 512 * 1024  # a rule document with its lists is the largest; a batch of 1,000 payments is 200 KiB


class Kind(Enum):
    """The kinds of statement; the value is the tag of its hash."""

    GENESIS = "keyturn/genesis/v1"
    RECORD = "keyturn/record/v1"
    WITHDRAWAL = "keyturn/withdrawal/v1"
    APPROVAL = "keyturn/approval/v1"
    STOP = "keyturn/stop/v1"
    RULES = "keyturn/rules/v1"
    WALLET = "keyturn/wallet/v1"
    VOID = "keyturn/void/v1"
    FREEZE = "keyturn/freeze/v1"
    UNFREEZE = "keyturn/unfreeze/v1"
    MESSAGE = "keyturn/message/v1"
    RECEIPT = "keyturn/receipt/v1"
    HELD = "keyturn/held/v1"
    POSSESSION = "keyturn/possession/v1"
    DRILL = "keyturn/drill/v1"
    ALIVE = "keyturn/alive/v1"


@dataclass(frozen=True, slots=True)
class Endorsement:
    """One party's signature of a statement.

    alg: "ed25519": key 32 bytes, signature 64 bytes over the statement's tagged hash.  "ssh": key in SSH's wire form, a
    signature of `ssh-keygen -Y sign` over the canonical bytes.  "webauthn-es256", "webauthn-ed25519": key 65 or 32
    bytes, an assertion whose challenge is the tagged hash.
    """

    alg: str
    key: bytes
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {"alg": self.alg, "key": self.key.hex(), "signature": self.signature.hex()}

    def holds(self, kind: Kind, raw: bytes) -> bool:
        """Return whether this is a signature by `key` of the statement `raw`; whose key that is, the rules say."""
        if self.alg == ED25519:
            return ed25519.verify(self.key, tagged_hash(kind.value, raw), self.signature)
        if self.alg == SSH:
            return sshsig.verify(self.key, kind.value, raw, self.signature)
        return webauthn.holds(self.alg, self.key, tagged_hash(kind.value, raw), self.signature)

    @staticmethod
    def from_fields(fields: Fields) -> Endorsement:
        """Read the JSON form; refuses an unknown algorithm with SIGNATURE_ALGORITHM."""
        alg = fields.text("alg")
        if alg not in ALGORITHMS:
            raise MalformedError("SIGNATURE_ALGORITHM", f"expected {' or '.join(ALGORITHMS)}, found {alg[:20]!r}")
        found = Endorsement(alg, read_key(alg, fields), _read_signature(alg, fields))
        fields.done()
        return found


def read_key(alg: str, fields: Fields) -> bytes:
    """Take the field "key" of an endorsement or a credential with the form that `alg` (one of ALGORITHMS) fixes."""
    if alg != SSH:
        return fields.hex("key", webauthn.KEY_BYTES.get(alg, 32))
    blob = fields.hex("key")
    sshsig.parse_key(blob)
    return blob


def _read_signature(alg: str, fields: Fields) -> bytes:
    if alg == ED25519:
        return fields.hex("signature", 64)
    blob = fields.hex("signature")
    if len(blob) > MAX_SIGNATURE_BYTES:
        raise MalformedError("SIGNATURE_TOO_LARGE", f"expected at most {MAX_SIGNATURE_BYTES} bytes, found {len(blob)}")
    return blob


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement as it travels: its canonical bytes and who signed them.

    Nothing in it is believed: `verified_by` says whether the signature holds, the reader says whose key it is.
    """

    kind: Kind
    raw: bytes
    endorsements: tuple[Endorsement, ...]

    @property
    def digest(self) -> bytes:
        """32 bytes: the tagged hash of the statement alone (signatures do not change it)."""
        return tagged_hash(self.kind.value, self.raw)

    @property
    def seal(self) -> bytes:
        """32 bytes: the tagged hash of the statement with its signatures, as it is now."""
        parts = [self.digest]
        for each in self.endorsements:
            parts += [len(part).to_bytes(4, "big") + part for part in (each.alg.encode(), each.key, each.signature)]
        return tagged_hash(_SEAL, b"".join(parts))

    def signed_by(self, key: bytes) -> bool:
        """Return whether one endorsement is a valid plain signature by `key` (32 bytes, Ed25519).

        Whether a person's credential signed is for `custody.credentials`: other kinds of key come with conditions.
        """
        return any(e.alg == ED25519 and e.key == key and e.holds(self.kind, self.raw) for e in self.endorsements)

    def to_json(self) -> Json:
        """Return {"endorsements", "kind", "statement"}: how it is stored, exported and sent as a file."""
        return {
            "kind": self.kind.value,
            "statement": decode(self.raw),
            "endorsements": [e.to_json() for e in self.endorsements],
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of `to_json`."""
        return encode(self.to_json())

    @staticmethod
    def from_json(value: Json) -> Signed:
        """Read `to_json` back. Raises MalformedError for any other shape."""
        return Signed._read(value, b"")

    @staticmethod
    def from_bytes(raw: bytes) -> Signed:
        """Read `to_bytes` back."""
        return Signed.from_canonical(decode(raw), raw)

    @staticmethod
    def from_canonical(value: Json, raw: bytes) -> Signed:
        """Read `to_json` back. raw: the canonical bytes of `value`, as `decode` took them or as part of what it took.

        The statement is not encoded again: it stands in `raw`, behind the last key.
        """
        return Signed._read(value, raw)

    @staticmethod
    def _read(value: Json, canonical: bytes) -> Signed:
        fields = Fields(value, "signed")
        kind_text = fields.text("kind")
        kind = next((k for k in Kind if k.value == kind_text), None)
        if kind is None:
            raise MalformedError("STATEMENT_KIND", f"expected a known kind, found {kind_text[:40]!r}")
        statement = fields.any("statement")
        endorsements = tuple(
            Endorsement.from_fields(Fields(item, "endorsement")) for item in fields.items("endorsements", 64)
        )
        fields.done()
        # Endorsements, which stand in front, hold hex and names of algorithms: these bytes cannot be earlier.
        _, _, behind = canonical.partition(b'"kind":"' + kind_text.encode() + b'","statement":')
        raw = behind[:-1] if canonical else encode(statement)
        if len(raw) > MAX_STATEMENT_BYTES:
            raise MalformedError("STATEMENT_TOO_LARGE", f"expected at most {MAX_STATEMENT_BYTES} bytes")
        return Signed(kind, raw, endorsements)


def sign(kind: Kind, statement: Json, seed: bytes) -> Signed:
    """Return `statement` signed by the Ed25519 `seed` (32 bytes)."""
    raw = encode(statement)
    return Signed(kind, raw, (endorse(kind, raw, seed),))


def endorse(kind: Kind, raw: bytes, seed: bytes) -> Endorsement:
    """Return one more signature of the canonical bytes `raw`."""
    return Endorsement(ED25519, ed25519.public_key(seed), ed25519.sign(seed, tagged_hash(kind.value, raw)))

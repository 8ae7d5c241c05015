"""Proof of possession: a key enters the rules only with a statement that its owner made with it.

protocol.md "Genesis": over {genesis, principal, public key}, made outside the coordinator's origin. It proves that the
key exists and is meant for this person of this organisation; whose hand made it, admins hear from that person.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody import ed25519
from custody.canonical import Json, decode
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed, sign


@dataclass(frozen=True, slots=True)
class Possession:
    """genesis: 32 bytes.  principal: who wants to be listed.  key: 32 bytes, Ed25519."""

    genesis: bytes
    principal: str
    key: bytes

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        return {"genesis": self.genesis.hex(), "principal": self.principal, "key": self.key.hex()}


def prove_possession(genesis: bytes, principal: str, seed: bytes) -> Signed:
    """Return the proof by the Ed25519 `seed` (32 bytes)."""
    return sign(Kind.POSSESSION, Possession(genesis, principal, ed25519.public_key(seed)).to_json(), seed)


def read_possession(signed: Signed, genesis: bytes) -> Possession:
    """Return what `signed` proves under `genesis` (32 bytes).

    Raises:
        MalformedError: STATEMENT_KIND, GENESIS_OTHER, POSSESSION_SIGNATURE, or a FIELD_ code.
    """
    if signed.kind is not Kind.POSSESSION:
        raise MalformedError("STATEMENT_KIND", f"expected a proof of possession, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "possession")
    found = Possession(fields.hex("genesis", 32), fields.name("principal"), fields.hex("key", 32))
    fields.done()
    if found.genesis != genesis:
        raise MalformedError("GENESIS_OTHER", f"expected a proof under {genesis.hex()[:16]}, found another's")
    if len(signed.endorsements) != 1 or not signed.signed_by(found.key):
        raise MalformedError("POSSESSION_SIGNATURE", f"expected a signature by the key of {found.principal} alone")
    return found

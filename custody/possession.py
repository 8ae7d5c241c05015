"""Proof of possession: a key enters the rules only with a statement that its owner made with it.

protocol.md "Genesis": over {genesis, principal, public key}, made outside the coordinator's origin. It proves that the
key exists and is meant for this person of this organisation; whose hand made it, admins hear from that person.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody.canonical import Json, decode
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import ED25519, SSH, Kind, Signed, read_key


@dataclass(frozen=True, slots=True)
class Possession:
    """genesis: 32 bytes.  principal: who wants to be listed.  alg, key: as an `Endorsement` has them."""

    genesis: bytes
    principal: str
    alg: str
    key: bytes

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        return {"genesis": self.genesis.hex(), "principal": self.principal, "alg": self.alg, "key": self.key.hex()}


def read_possession(signed: Signed, genesis: bytes) -> Possession:
    """Return what `signed` proves under `genesis` (32 bytes).

    Raises:
        MalformedError: STATEMENT_KIND, GENESIS_OTHER, POSSESSION_ALGORITHM, POSSESSION_SIGNATURE, or a FIELD_ code.
    """
    if signed.kind is not Kind.POSSESSION:
        raise MalformedError("STATEMENT_KIND", f"expected a proof of possession, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "possession")
    alg = fields.text("alg")
    if alg not in (ED25519, SSH):
        raise MalformedError("POSSESSION_ALGORITHM", f"expected {ED25519} or {SSH}, found {alg[:20]!r}")
    found = Possession(fields.hex("genesis", 32), fields.name("principal"), alg, read_key(alg, fields))
    fields.done()
    if found.genesis != genesis:
        raise MalformedError("GENESIS_OTHER", f"expected a proof under {genesis.hex()[:16]}, found another's")
    made = [(e.alg, e.key) for e in signed.endorsements]
    if made != [(found.alg, found.key)] or not signed.endorsements[0].holds(signed.kind, signed.raw):
        raise MalformedError("POSSESSION_SIGNATURE", f"expected a signature by the key of {found.principal} alone")
    return found

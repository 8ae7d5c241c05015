"""Proof of possession: a key enters the rules only with a statement that its owner made with it.

protocol.md "Genesis": over {genesis, principal, public key}, made outside the coordinator's origin. It proves that the
key exists and is meant for this person of this organisation; whose hand made it, admins hear from that person.
A passkey is proven together with where it may be asked for and with the key of its owner's desk, which signs as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from custody import webauthn
from custody.canonical import Json, decode
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import ALGORITHMS, ED25519, Kind, Signed, read_key

MAX_ORIGINS = 8  # a desk has one; more are for whoever moves it to another port


@dataclass(frozen=True, slots=True)
class Possession:
    """genesis: 32 bytes.  principal: who wants to be listed.  alg, key: as an `Endorsement` has them.

    rp_id, origins, desk_key: of a passkey, as a `Credential` has them; empty for other keys.
    """

    genesis: bytes
    principal: str
    alg: str
    key: bytes
    rp_id: str = ""
    origins: tuple[str, ...] = ()
    desk_key: bytes = b""

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        said = {"genesis": self.genesis.hex(), "principal": self.principal, "alg": self.alg, "key": self.key.hex()}
        if not self.is_passkey:
            return said
        return {**said, "rp_id": self.rp_id, "origins": list(self.origins), "desk_key": self.desk_key.hex()}

    @property
    def is_passkey(self) -> bool:
        """Whether it is about a passkey and its desk."""
        return self.alg in webauthn.KEY_BYTES


def read_possession(signed: Signed, genesis: bytes) -> Possession:
    """Return what `signed` proves under `genesis` (32 bytes).

    Raises:
        MalformedError: STATEMENT_KIND, GENESIS_OTHER, POSSESSION_ALGORITHM, POSSESSION_SIGNATURE, or a FIELD_ code.
    """
    if signed.kind is not Kind.POSSESSION:
        raise MalformedError("STATEMENT_KIND", f"expected a proof of possession, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "possession")
    alg = fields.text("alg")
    if alg not in ALGORITHMS:
        raise MalformedError("POSSESSION_ALGORITHM", f"expected {' or '.join(ALGORITHMS)}, found {alg[:20]!r}")
    found = Possession(fields.hex("genesis", 32), fields.name("principal"), alg, read_key(alg, fields))
    if found.is_passkey:
        origins = tuple(
            Fields({"o": item}, "possession.origins").text("o") for item in fields.items("origins", MAX_ORIGINS)
        )
        found = replace(found, rp_id=fields.text("rp_id"), origins=origins, desk_key=fields.hex("desk_key", 32))
    fields.done()
    if found.genesis != genesis:
        raise MalformedError("GENESIS_OTHER", f"expected a proof under {genesis.hex()[:16]}, found another's")
    if not _is_signed(found, signed):
        raise MalformedError("POSSESSION_SIGNATURE", f"expected a signature by the key of {found.principal} alone")
    return found


def _is_signed(found: Possession, signed: Signed) -> bool:
    """Return whether the key itself signed, a passkey under its own conditions and beside its desk, and nobody else."""
    wanted = [(found.alg, found.key), *([(ED25519, found.desk_key)] if found.is_passkey else [])]
    if [(e.alg, e.key) for e in signed.endorsements] != wanted:
        return False
    if not all(e.holds(signed.kind, signed.raw) for e in signed.endorsements):
        return False
    if not found.is_passkey:
        return True
    return webauthn.fits(signed.endorsements[0].signature, found.rp_id, found.origins, device_bound=False)

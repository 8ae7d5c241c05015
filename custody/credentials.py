"""Which credential of a person made a signature, and whether that person saw what was signed.

Three kinds of key: Ed25519 files, SSH keys (also inside FIDO hardware), passkeys. Seen is a property that the rules
give to a credential; a passkey has it only together with the key of its owner's desk, the program that showed the
statement (protocol.md "Approval").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from custody import webauthn
from custody.policy import Credential, Principal
from custody.statements import Endorsement, Signed


@dataclass(frozen=True, slots=True)
class Proof:
    """A credential that signed a statement. seen: its owner's own program showed what was signed."""

    credential: Credential
    seen: bool


def proofs_by(principal: Principal, signed: Signed) -> tuple[Proof, ...]:
    """Return the credentials of `principal` that made a valid signature of `signed`, under all their conditions."""
    return tuple(_proofs(principal, signed))


def may_ask(principal: Principal, signed: Signed) -> bool:
    """Return whether `principal` itself asked for what `signed` says.

    A passkey alone may have been asked for something else by the page that used it; a program signs what it made.
    """
    return any(proof.seen or not proof.credential.is_passkey for proof in proofs_by(principal, signed))


def _proofs(principal: Principal, signed: Signed) -> Iterator[Proof]:
    for credential in principal.credentials:
        for endorsement in signed.endorsements:
            if (endorsement.alg, endorsement.key) != (credential.alg, credential.key):
                continue
            if not endorsement.holds(signed.kind, signed.raw) or not _conditions_hold(credential, endorsement):
                continue
            by_desk = not credential.is_passkey or signed.signed_by(credential.desk_key)
            yield Proof(credential, credential.seen and by_desk)
            break


def _conditions_hold(credential: Credential, endorsement: Endorsement) -> bool:
    if not credential.is_passkey:
        return True
    return webauthn.fits(endorsement.signature, credential.rp_id, credential.origins, credential.device_bound)

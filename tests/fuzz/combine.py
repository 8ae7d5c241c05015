"""Target: a PSBT that comes back from a stranger. Only signatures that our cosigners made are ever filed.

Whatever else stands in it, nothing of it reaches our transaction: what is finalised is one of three byte strings. Each
template of a wallet has its own session; a PSBT belongs to the one whose coin it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from random import Random

from custody.errors import MalformedError
from custody.facts import Facts
from custody.finalise import finalize
from custody.psbt import Psbt, convert, parse, serialize
from custody.psbt_fields import (
    IN_DERIVATION,
    IN_FINAL_SCRIPT_SIG,
    IN_FINAL_WITNESS,
    IN_PARTIAL_SIGNATURE,
    IN_TAP_DERIVATION,
    IN_TAP_SIGNATURE,
)
from custody.reader import compact_size, sized
from custody.scripts import Template
from custody.signatures import Accepted, InputSignature, accept, from_foreign_psbt, with_signatures
from custody.transaction import Transaction
from custody.wallet import ScriptBook
from tests.fakes.psbts import (
    RawPsbt,
    drop,
    facts_of,
    kernel_accepts,
    put,
    signed_by,
    spend,
    spent_outputs,
    wallet_of,
)
from tests.fuzz import psbts
from tests.fuzz.parse import CODES
from tests.fuzz.refusal import attempt
from tests.fuzz.target import ByteMutator

FOREIGN_CODES = CODES | {"FOREIGN_TRANSACTION"}
PLACELESS = frozenset({"FOREIGN_TRANSACTION"})
REJECTIONS = frozenset({"SIGNATURE_DIFFERS", "SIGNATURE_INVALID", "SIGNATURE_KEY", "SIGNATURE_TYPE"})
COSIGNERS, THRESHOLD = 3, 2


@dataclass(frozen=True)
class Session:
    """One 2-of-3 withdrawal of a wallet. owners: every signature that is made for it, and whose it is."""

    ours: Psbt
    facts: Facts
    book: ScriptBook
    owners: dict[InputSignature, int]

    @staticmethod
    def of(template: Template) -> Session:
        """Return the session of a wallet of `template`."""
        book = ScriptBook(wallet_of(THRESHOLD, COSIGNERS, template=template))
        ours = spend(2, book=book)
        owners = {each: at for at in range(COSIGNERS) for each in signed_by(at, ours, book=book)}
        return Session(ours, facts_of(ours, book), book, owners)

    def by(self, signers: tuple[int, ...]) -> list[InputSignature]:
        """Return the signatures of `signers`."""
        return [each for each, owner in self.owners.items() if owner in signers]

    def filed(self, signatures: list[InputSignature] | tuple[InputSignature, ...]) -> Accepted:
        """Return what is filed of `signatures`."""
        return accept(self.ours, self.facts, self.book, signatures)

    def final(self, accepted: Accepted) -> Transaction:
        """Return the final transaction."""
        return finalize(self.ours, self.facts, self.book, accepted)

    @cached_property
    def finals(self) -> frozenset[bytes]:
        """The final transactions of each two cosigners, each taken by Bitcoin Core's script code."""
        found = [self.final(self.filed(self.by(signers))) for signers in combinations(range(COSIGNERS), THRESHOLD)]
        assert all(kernel_accepts(final, spent_outputs(self.ours)) for final in found)
        return frozenset(final.serialize() for final in found)


SESSIONS = {template: Session.of(template) for template in Template}
BY_COIN = {session.ours.transaction.inputs[0].outpoint.txid: session for session in SESSIONS.values()}


def seeds() -> Iterator[bytes]:
    """Yield our PSBTs with the signatures of none to three, in both versions; trimmed; and finalised."""
    for session in SESSIONS.values():
        for count in range(COSIGNERS + 1):
            signed = with_signatures(session.ours, session.by(tuple(range(count))))
            yield from (serialize(convert(signed, version)) for version in (0, 2))
            yield _trimmed(signed)
        yield _finalised(session)


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with its maps changed; the transaction is mostly left alone."""
    return psbts.mutate(raw, random, mutate_bytes)


def check(raw: bytes) -> None:
    """Take the signatures out of `raw`, file them, finalise where they suffice."""
    session = next((found for txid, found in BY_COIN.items() if txid in raw), SESSIONS[Template.WSH])
    found = attempt(lambda: from_foreign_psbt(session.ours, raw), FOREIGN_CODES, len(raw), PLACELESS)
    if isinstance(found, MalformedError):
        return
    _check_taken(session.ours, found, parse(raw))
    accepted = session.filed(found)
    assert {each.code for each in accepted.rejected} <= REJECTIONS
    filed = {(signature, owner) for by_owner in accepted.by_input for owner, signature in by_owner.items()}
    assert filed <= set(session.owners.items()), "a signature was filed that no cosigner made"
    assert {signature for signature, _ in filed} | {each.signature for each in accepted.rejected} == set(found)
    assert session.filed(found[::-1]).signed == accepted.signed
    if accepted.is_complete:
        assert session.final(accepted).serialize() in session.finals


def _check_taken(ours: Psbt, found: tuple[InputSignature, ...], theirs: Psbt) -> None:
    """What was taken stands there: as a partial signature, or, where an input has none, in its final witness."""
    assert theirs.transaction == ours.transaction
    for at, said in enumerate(theirs.inputs):
        taken = [(each.pubkey, each.signature) for each in found if each.input_index == at]
        partial = [*said.partial_signatures, *said.tap_signatures]
        assert taken == partial if partial else {signature for _, signature in taken} <= set(said.final_witness)


def _trimmed(psbt: Psbt) -> bytes:
    """Return what a device sends that gives back nothing but its signatures."""
    raw = RawPsbt.of(psbt)
    for pairs in raw.inputs:
        pairs[:] = [pair for pair in pairs if pair[0][0] in (IN_PARTIAL_SIGNATURE, IN_TAP_SIGNATURE)]
    raw.outputs = [[] for _ in raw.outputs]
    return raw.to_bytes()


def _finalised(session: Session) -> bytes:
    """Return what a wallet sends that finalises: witnesses, and no partial signatures."""
    raw = RawPsbt.of(session.ours)
    final = session.final(session.filed(session.by((0, 2))))
    for pairs, txin in zip(raw.inputs, final.inputs, strict=True):
        for kind in (IN_DERIVATION, IN_TAP_DERIVATION):
            drop(pairs, kind)
        if txin.script_sig:
            put(pairs, bytes([IN_FINAL_SCRIPT_SIG]), txin.script_sig)
        put(pairs, bytes([IN_FINAL_WITNESS]), compact_size(len(txin.witness)) + b"".join(map(sized, txin.witness)))
    return raw.to_bytes()

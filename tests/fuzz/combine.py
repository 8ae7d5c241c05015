"""Target: a PSBT that comes back from a stranger. Only signatures that our cosigners made are ever filed.

Whatever else stands in it, nothing of it reaches our transaction: what is finalised is one of three byte strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from random import Random

from custody.errors import MalformedError
from custody.psbt import Psbt, convert, parse, serialize
from custody.psbt_fields import IN_DERIVATION, IN_FINAL_WITNESS, IN_PARTIAL_SIGNATURE
from custody.reader import compact_size, sized
from custody.signatures import (
    InputSignature,
    accept,
    finalize,
    from_foreign_psbt,
    with_signatures,
)
from tests.fakes.psbts import BOOK, RawPsbt, drop, facts_of, kernel_accepts, put, signed_by, spent_outputs, valid
from tests.fuzz import psbts
from tests.fuzz.parse import CODES
from tests.fuzz.refusal import attempt
from tests.fuzz.target import ByteMutator

OURS = valid()
FACTS = facts_of(OURS)
OWNERS = {signature: cosigner for cosigner in range(3) for signature in signed_by(cosigner, OURS)}
FOREIGN_CODES = CODES | {"FOREIGN_TRANSACTION"}
PLACELESS = frozenset({"FOREIGN_TRANSACTION"})
REJECTIONS = frozenset({"SIGNATURE_DIFFERS", "SIGNATURE_INVALID", "SIGNATURE_KEY", "SIGNATURE_TYPE"})
TWO_OF_THREE = tuple(combinations(range(3), 2))


def seeds() -> Iterator[bytes]:
    """Yield our PSBT with the signatures of none, one, two and three, in both versions; trimmed; and finalised."""
    signed = [
        with_signatures(OURS, [signature for signature, owner in OWNERS.items() if owner in signers])
        for count in range(4)
        for signers in combinations(range(3), count)
    ]
    for psbt in signed:
        yield from (serialize(convert(psbt, version)) for version in (0, 2))
        yield _trimmed(psbt)
    yield from map(_finalised, TWO_OF_THREE)


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with its maps changed; the transaction is mostly left alone."""
    return psbts.mutate(raw, random, mutate_bytes)


def check(raw: bytes) -> None:
    """Take the signatures out of `raw`, file them, finalise where they suffice."""
    found = attempt(lambda: from_foreign_psbt(OURS, raw), FOREIGN_CODES, len(raw), PLACELESS)
    if isinstance(found, MalformedError):
        return
    _check_taken(found, parse(raw))
    accepted = accept(OURS, FACTS, BOOK, found)
    assert {each.code for each in accepted.rejected} <= REJECTIONS
    filed = {(signature, owner) for by_owner in accepted.by_input for owner, signature in by_owner.items()}
    assert filed <= set(OWNERS.items()), "a signature was filed that no cosigner made"
    assert {signature for signature, _ in filed} | {each.signature for each in accepted.rejected} == set(found)
    assert accept(OURS, FACTS, BOOK, found[::-1]).signed == accepted.signed
    if accepted.is_complete:
        assert finalize(OURS, FACTS, BOOK, accepted).serialize() in _finals()


def _check_taken(found: tuple[InputSignature, ...], theirs: Psbt) -> None:
    """What was taken stands there: as a partial signature, or, where an input has none, in its final witness."""
    assert theirs.transaction == OURS.transaction
    for at, said in enumerate(theirs.inputs):
        taken = [(each.pubkey, each.signature) for each in found if each.input_index == at]
        if said.partial_signatures:
            assert taken == list(said.partial_signatures)
        else:
            assert {signature for _, signature in taken} <= set(said.final_witness)


@cache
def _finals() -> frozenset[bytes]:
    """Return the final transactions of each two cosigners, each taken by Bitcoin Core's script code."""
    found = set()
    for signers in TWO_OF_THREE:
        accepted = accept(OURS, FACTS, BOOK, [each for each, owner in OWNERS.items() if owner in signers])
        final = finalize(OURS, FACTS, BOOK, accepted)
        assert kernel_accepts(final, spent_outputs(OURS))
        found.add(final.serialize())
    return frozenset(found)


def _trimmed(psbt: Psbt) -> bytes:
    """Return what a device sends that gives back nothing but its signatures."""
    raw = RawPsbt.of(psbt)
    for pairs in raw.inputs:
        pairs[:] = [pair for pair in pairs if pair[0][0] == IN_PARTIAL_SIGNATURE]
    raw.outputs = [[] for _ in raw.outputs]
    return raw.to_bytes()


def _finalised(signers: tuple[int, ...]) -> bytes:
    """Return what a wallet sends that finalises: witnesses, and no partial signatures."""
    accepted = accept(OURS, FACTS, BOOK, [each for each, owner in OWNERS.items() if owner in signers])
    raw = RawPsbt.of(OURS)
    for pairs, txin in zip(raw.inputs, finalize(OURS, FACTS, BOOK, accepted).inputs, strict=True):
        drop(pairs, IN_DERIVATION)
        stack = compact_size(len(txin.witness)) + b"".join(map(sized, txin.witness))
        put(pairs, bytes([IN_FINAL_WITNESS]), stack)
    return raw.to_bytes()

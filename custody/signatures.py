"""Signatures of inputs: verify each, file it under our own PSBT, say who signed and who is missing, finalise.

From others we take `(input, public key, signature)` and nothing else; a PSBT that comes back is read for its signatures
only. A cosigner counts once it has valid signatures on every input, however often it sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from custody import curve
from custody.errors import IntegrityError, MalformedError
from custody.facts import Facts
from custody.psbt import MAGIC, Psbt, PsbtInput, PsbtOutput, parse
from custody.psbt_fields import (
    IN_DERIVATION,
    IN_PARTIAL_SIGNATURE,
    IN_PREVIOUS,
    IN_SIGHASH,
    IN_WITNESS_SCRIPT,
    IN_WITNESS_UTXO,
    OUT_DERIVATION,
    OUT_WITNESS_SCRIPT,
    Field,
    FieldMap,
)
from custody.psbt_skim import Known
from custody.sighash import SIGHASH_ALL, segwit_digests
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.wallet import ScriptBook, WalletScript

_ALL = bytes([SIGHASH_ALL])
_DERIVATION = bytes([IN_DERIVATION])


@dataclass(frozen=True, slots=True, order=True)
class InputSignature:
    """One signature as it travels. pubkey: 33 bytes.  signature: DER with its sighash byte."""

    input_index: int
    pubkey: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A signature that was not filed, and why. key_index: whose it claims to be, None for nobody's key."""

    signature: InputSignature
    code: str
    key_index: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is known of one transaction's signatures.

    by_input: per input, cosigner index -> signature; the first valid one of each.
    signed: cosigners (index in wallet.keys) with a valid signature on every input.
    """

    threshold: int
    by_input: tuple[dict[int, InputSignature], ...]
    rejected: tuple[Rejected, ...]
    signed: frozenset[int]

    @property
    def is_complete(self) -> bool:
        """Whether enough different cosigners signed every input."""
        return len(self.signed) >= self.threshold

    @property
    def lacking(self) -> int:
        """How many more cosigners must sign."""
        return max(0, self.threshold - len(self.signed))

    def of(self, cosigners: Iterable[int]) -> tuple[InputSignature, ...]:
        """Return the filed signatures of `cosigners`, by input."""
        wanted = sorted(cosigners)
        return tuple(filed[at] for filed in self.by_input for at in wanted if at in filed)


@dataclass(frozen=True, slots=True)
class SpendableCoin:
    """A coin to spend. previous: the whole transaction that made it.  branch, index: of our script it pays."""

    outpoint: OutPoint
    previous: Transaction
    branch: int
    index: int


def build(
    book: ScriptBook, coins: Sequence[SpendableCoin], outputs: Sequence[TxOut], change: Sequence[tuple[int, int]] = ()
) -> Psbt:
    """Return our PSBT: version 2, locktime 0, every input replaceable, everything a signer needs to prove it.

    Args:
        book: the wallet's scripts.
        coins: in input order.
        outputs: in output order.
        change: (place among `outputs`, index on branch 1).
    """
    transaction = Transaction(2, tuple(TxIn(coin.outpoint) for coin in coins), tuple(outputs))
    places = dict(change)
    return Psbt(
        globals=FieldMap((Field(b"\0", transaction.serialize_stripped()),)),
        transaction=transaction,
        inputs=tuple(_build_input(coin, book) for coin in coins),
        outputs=tuple(
            PsbtOutput(_script_fields(book, book.script(1, places[at]), OUT_WITNESS_SCRIPT, OUT_DERIVATION))
            if at in places
            else PsbtOutput(())
            for at in range(len(outputs))
        ),
    )


def sighashes(psbt: Psbt, facts: Facts, book: ScriptBook) -> tuple[bytes, ...]:
    """Return what is signed for each input: 32 bytes each, BIP-143, SIGHASH_ALL."""
    script = book.script
    scripts = [(script(fact.branch, fact.index).witness_script, fact.amount_sats) for fact in facts.inputs]
    return segwit_digests(psbt.transaction, scripts)


def accept(psbt: Psbt, facts: Facts, book: ScriptBook, signatures: Iterable[InputSignature]) -> Accepted:
    """Return which of `signatures` are valid over exactly this transaction, and whose they are.

    Raises nothing for a bad signature: it is named in `rejected` (SIGNATURE_INPUT, SIGNATURE_KEY, SIGNATURE_TYPE,
    SIGNATURE_INVALID, or SIGNATURE_DIFFERS for a second valid one of the same key).
    """
    digests = sighashes(psbt, facts, book)
    scripts = [book.script(fact.branch, fact.index) for fact in facts.inputs]
    filed: list[dict[int, InputSignature]] = [{} for _ in scripts]
    rejected: list[Rejected] = []
    verify = curve.Verifier().verify
    for signature in signatures:
        at = signature.input_index
        if not 0 <= at < len(scripts):
            rejected.append(Rejected(signature, "SIGNATURE_INPUT", None))
            continue
        script = scripts[at]
        try:
            owner = script.pubkeys.index(signature.pubkey)
        except ValueError:
            rejected.append(Rejected(signature, "SIGNATURE_KEY", None))
            continue
        der = signature.signature
        if der[-1:] != _ALL:
            rejected.append(Rejected(signature, "SIGNATURE_TYPE", owner))
        elif not verify(script.points[owner], digests[at], der[:-1]):
            rejected.append(Rejected(signature, "SIGNATURE_INVALID", owner))
        elif (kept := filed[at].setdefault(owner, signature)) is not signature and kept != signature:
            rejected.append(Rejected(signature, "SIGNATURE_DIFFERS", owner))
    signed = frozenset(range(len(book.wallet.keys))).intersection(*filed)
    return Accepted(book.wallet.threshold, tuple(filed), tuple(rejected), signed)


def finalize(psbt: Psbt, facts: Facts, book: ScriptBook, accepted: Accepted) -> Transaction:
    """Return the signed transaction (P2WSH multisig: empty dummy, m signatures in script order, witness script).

    Raises:
        IntegrityError: NOT_COMPLETE.
    """
    if not accepted.is_complete:
        raise IntegrityError("NOT_COMPLETE", f"expected {accepted.threshold} cosigners, found {len(accepted.signed)}")
    signers = frozenset(sorted(accepted.signed)[: accepted.threshold])
    inputs = []
    for txin, fact, filed in zip(psbt.transaction.inputs, facts.inputs, accepted.by_input, strict=True):
        script = book.script(fact.branch, fact.index)
        stack = (b"", *[filed[at].signature for at in script.order if at in signers], script.witness_script)
        inputs.append(TxIn(txin.outpoint, b"", txin.sequence, stack))
    return replace(psbt.transaction, inputs=tuple(inputs))


def with_signatures(psbt: Psbt, signatures: Iterable[InputSignature]) -> Psbt:
    """Return `psbt` with partial signatures inside, one per key: for third-party signers, who expect them there."""
    added: list[dict[bytes, Field]] = [{} for _ in psbt.inputs]
    for signature in sorted(signatures):
        key = bytes([IN_PARTIAL_SIGNATURE]) + signature.pubkey
        added[signature.input_index].setdefault(key, Field(key, signature.signature))
    inputs = tuple(_with_fields(found, more.values()) for found, more in zip(psbt.inputs, added, strict=True))
    return replace(psbt, inputs=inputs)


def _with_fields(found: PsbtInput, more: Iterable[Field]) -> PsbtInput:
    """Return `found` with partial signatures where other software writes them: in the order of types."""
    fields = found.fields
    place = next((at for at, field in enumerate(fields) if field.type > IN_PARTIAL_SIGNATURE), len(fields))
    return PsbtInput((*fields[:place], *more, *fields[place:]))


def without_signatures(psbt: Psbt) -> Psbt:
    """Return `psbt` without partial signatures: what we keep of a client's own PSBT."""
    kept = tuple(
        PsbtInput(tuple(field for field in found.fields if field.type != IN_PARTIAL_SIGNATURE)) for found in psbt.inputs
    )
    return replace(psbt, inputs=kept)


def from_foreign_psbt(ours: Psbt, raw: bytes) -> tuple[InputSignature, ...]:
    """Return the signatures inside a PSBT that came back from a third-party signer; all else in it is ignored.

    Software that finds m signatures may finalise and drop the partial ones: then those that are valid over our
    transaction are picked out of its final witnesses. The witnesses themselves are never used.

    Args:
        ours: our own PSBT, with witness scripts and derivations as `build` writes them.
        raw: as it came back.

    Raises:
        MalformedError: FOREIGN_TRANSACTION where it is about another transaction, or a code of `parse`.
    """
    if (usual := _beside_ours(ours, raw)) is not None:
        return usual
    points = {key[1:] for said in (*ours.inputs, *ours.outputs) for key in said.values if len(key) == 34}
    theirs = parse(raw, Known(points))
    if theirs.transaction != ours.transaction:
        raise MalformedError("FOREIGN_TRANSACTION", f"expected transaction {ours.transaction.txid_hex}")
    found: list[InputSignature] = []
    digests: tuple[bytes, ...] = ()
    for at, said in enumerate(theirs.inputs):
        found.extend(InputSignature(at, pubkey, signature) for pubkey, signature in said.partial_signatures)
        stack = said.final_witness
        if stack and not said.partial_signatures:
            digests = digests or _own_digests(ours)
            found.extend(_picked(ours, at, stack, digests[at]))
    return tuple(found)


def _beside_ours(ours: Psbt, raw: bytes) -> tuple[InputSignature, ...] | None:
    """Return the partial signatures in `raw` if it is our PSBT byte for byte but for them, the usual case; else None.

    For speed alone: what is ours needs no second look, and `parse` judges whatever differs by one byte.
    """
    found: list[InputSignature] = []
    at = 0
    if not raw.startswith(start := MAGIC + ours.globals.serialize()):
        return None
    at = len(start)
    try:
        for place, said in enumerate(ours.inputs):
            before, behind = said.around_signatures
            if not raw.startswith(before, at):
                return None
            at += len(before)
            signers = set()
            while raw[at] == 34 and raw[at + 1] == IN_PARTIAL_SIGNATURE:
                pubkey, size = raw[at + 2 : at + 35], raw[at + 35]
                if pubkey in signers or _DERIVATION + pubkey not in said.values or not 9 <= size <= 73:
                    return None
                signers.add(pubkey)
                found.append(InputSignature(place, pubkey, raw[at + 36 : at + 36 + size]))
                at += 36 + size
            if not raw.startswith(behind, at):
                return None
            at += len(behind)
    except IndexError:
        return None
    return tuple(found) if raw[at:] == b"".join(said.serialize() for said in ours.outputs) else None


def _own_digests(ours: Psbt) -> tuple[bytes, ...]:
    spent = [said.spends(txin.outpoint) for said, txin in zip(ours.inputs, ours.transaction.inputs, strict=True)]
    scripts = [
        (said.witness_script or b"", 0 if output is None else output.amount)
        for said, output in zip(ours.inputs, spent, strict=True)
    ]
    return segwit_digests(ours.transaction, scripts)


def _picked(ours: Psbt, at: int, stack: tuple[bytes, ...], digest: bytes) -> list[InputSignature]:
    """Return the items of a witness that are signatures over `digest` by keys of our input: at most one per key."""
    pubkeys = [pubkey for pubkey, _ in ours.inputs[at].derivations]
    items = [item for item in stack[: len(pubkeys) + 2] if item[-1:] == _ALL]  # dummy, at most n signatures, script
    return [
        InputSignature(at, pubkey, item)
        for pubkey in pubkeys
        for item in items
        if curve.ecdsa_verify(pubkey, digest, item[:-1])
    ]


def _build_input(coin: SpendableCoin, book: ScriptBook) -> PsbtInput:
    spent = coin.previous.outputs[coin.outpoint.vout]
    script = book.script(coin.branch, coin.index)
    return PsbtInput(
        (
            Field(bytes([IN_PREVIOUS]), coin.previous.serialize()),
            Field(bytes([IN_WITNESS_UTXO]), spent.serialize()),
            Field(bytes([IN_SIGHASH]), SIGHASH_ALL.to_bytes(4, "little")),
            *_script_fields(book, script, IN_WITNESS_SCRIPT, IN_DERIVATION),
        )
    )


def _script_fields(book: ScriptBook, script: WalletScript, script_type: int, derivation_type: int) -> tuple[Field, ...]:
    pairs = sorted(zip(script.pubkeys, book.wallet.keys, strict=True), key=lambda pair: pair[0])
    place = script.branch.to_bytes(4, "little") + script.index.to_bytes(4, "little")
    return (
        Field(bytes([script_type]), script.witness_script),
        *(Field(bytes([derivation_type]) + pubkey, key.origin + place) for pubkey, key in pairs),
    )

"""Signatures of inputs: verify each, file it under our own PSBT, say who signed and who is missing, finalise.

From others we take `(input, public key, signature)` and nothing else; a PSBT that comes back is read for its signatures
only. A cosigner counts once it has valid signatures on every input, however often it sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from custody import curve
from custody.errors import MalformedError
from custody.facts import Facts
from custody.psbt import MAGIC, Psbt, PsbtInput, parse
from custody.psbt_fields import IN_DERIVATION, IN_PARTIAL_SIGNATURE, IN_TAP_LEAF, IN_TAP_SIGNATURE, Field
from custody.psbt_skim import Known
from custody.quick import quick
from custody.scripts import SCHNORR_BYTES, leaf_hash_of
from custody.sighash import SIGHASH_ALL, segwit_digests, taproot_digests
from custody.transaction import TxOut
from custody.units import Sats
from custody.wallet import ScriptBook

_ALL = bytes([SIGHASH_ALL])
_DERIVATION = bytes([IN_DERIVATION])
_PARTIAL_KEY = bytes([34, IN_PARTIAL_SIGNATURE])  # length of the key, type; the public key follows
_NOTHING = TxOut(Sats(0), b"")
_SIGNATURES = (IN_PARTIAL_SIGNATURE, IN_TAP_SIGNATURE)


@dataclass(frozen=True, slots=True, order=True)
class InputSignature:
    """One signature as it travels.

    pubkey: 33 bytes, or 32 (x-only) in taproot.  signature: DER with its sighash byte, or the 64 bytes of BIP-340.
    """

    input_index: int
    pubkey: bytes
    signature: bytes


input_signature = quick(InputSignature)


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


def sighashes(psbt: Psbt, facts: Facts, book: ScriptBook) -> tuple[bytes, ...]:
    """Return what is signed for each input: 32 bytes each, BIP-143 with SIGHASH_ALL or BIP-341 with SIGHASH_DEFAULT."""
    scripts = book.of(facts.inputs)
    if book.wallet.template.is_taproot:
        spent = [TxOut(fact.amount_sats, fact.script) for fact in facts.inputs]
        return taproot_digests(psbt.transaction, spent, [script.leaf_hash for script in scripts])
    codes = [(script.witness_script, fact.amount_sats) for script, fact in zip(scripts, facts.inputs, strict=True)]
    return segwit_digests(psbt.transaction, codes)


Verify = Callable[[bytes, bytes, bytes], bool]


def accept(
    psbt: Psbt, facts: Facts, book: ScriptBook, signatures: Iterable[InputSignature], verify: Verify | None = None
) -> Accepted:
    """Return which of `signatures` are valid over exactly this transaction, and whose they are.

    verify: (point, digest, signature) as `curve.Verifier` takes them, which it is unless the work is done elsewhere.

    Raises nothing for a bad signature: it is named in `rejected` (SIGNATURE_INPUT, SIGNATURE_KEY, SIGNATURE_TYPE,
    SIGNATURE_INVALID, or SIGNATURE_DIFFERS for a second valid one of the same key).
    """
    digests = sighashes(psbt, facts, book)
    scripts = book.of(facts.inputs)
    filed: list[dict[int, InputSignature]] = [{} for _ in scripts]
    rejected: list[Rejected] = []
    is_taproot, verifier = book.wallet.template.is_taproot, curve.Verifier()
    verify = verify or (verifier.verify_schnorr if is_taproot else verifier.verify)
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
        raw = signature.signature
        if len(raw) == SCHNORR_BYTES + 1 if is_taproot else raw[-1:] != _ALL:  # in taproot, a type makes 65 bytes
            rejected.append(Rejected(signature, "SIGNATURE_TYPE", owner))
        elif not verify(script.points[owner], digests[at], raw if is_taproot else raw[:-1]):
            rejected.append(Rejected(signature, "SIGNATURE_INVALID", owner))
        elif (kept := filed[at].setdefault(owner, signature)) is not signature and kept != signature:
            rejected.append(Rejected(signature, "SIGNATURE_DIFFERS", owner))
    signed = frozenset(range(len(book.wallet.keys))).intersection(*filed)
    return Accepted(book.wallet.threshold, tuple(filed), tuple(rejected), signed)


def with_signatures(psbt: Psbt, signatures: Iterable[InputSignature]) -> Psbt:
    """Return `psbt` with partial signatures inside, one per key: for third-party signers, who expect them there."""
    added: list[dict[bytes, Field]] = [{} for _ in psbt.inputs]
    for signature in sorted(signatures):
        at = signature.input_index
        if len(signature.pubkey) == 33:
            key = bytes([IN_PARTIAL_SIGNATURE]) + signature.pubkey
        else:
            key = bytes([IN_TAP_SIGNATURE]) + signature.pubkey + _said_leaf_hash(psbt.inputs[at])
        added[at].setdefault(key, Field(key, signature.signature))
    inputs = tuple(_with_fields(found, tuple(more.values())) for found, more in zip(psbt.inputs, added, strict=True))
    return replace(psbt, inputs=inputs)


def _with_fields(found: PsbtInput, more: tuple[Field, ...]) -> PsbtInput:
    """Return `found` with signatures, all of one type, where other software writes them: in the order of types."""
    if not more:
        return found
    fields = found.fields
    place = next((at for at, field in enumerate(fields) if field.type > more[0].type), len(fields))
    return PsbtInput((*fields[:place], *more, *fields[place:]))


def _said_leaf_hash(said: PsbtInput) -> bytes:
    """Return the hash of the one leaf that an input of ours shows (BIP-371), as `build` writes it."""
    leaf = next(iter(said.all(IN_TAP_LEAF)), None)
    if leaf is None:
        raise MalformedError("TAP_LEAF_MISSING", "expected the leaf script in each input of a taproot wallet")
    return leaf_hash_of(leaf.value[:-1])


def without_signatures(psbt: Psbt) -> Psbt:
    """Return `psbt` without partial signatures: what we keep of a client's own PSBT."""
    kept = tuple(
        PsbtInput(tuple(field for field in found.fields if field.type not in _SIGNATURES)) for found in psbt.inputs
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
        partial = (*said.partial_signatures, *said.tap_signatures)
        found.extend(InputSignature(at, pubkey, signature) for pubkey, signature in partial)
        stack = said.final_witness
        if stack and not partial:
            digests = digests or _own_digests(ours)
            found.extend(_picked(ours, at, stack, digests[at]))
    return tuple(found)


def _beside_ours(ours: Psbt, raw: bytes) -> tuple[InputSignature, ...] | None:
    """Return the partial signatures in `raw` if it is our PSBT byte for byte but for them, the usual case; else None.

    For speed alone: what is ours needs no second look, and `parse` judges whatever differs by one byte.
    """
    found: list[InputSignature] = []
    if not raw.startswith(head := MAGIC + ours.globals.serialize()):
        return None
    at = len(head)
    try:
        for place, said in enumerate(ours.inputs):
            before, behind = said.around_signatures
            if not raw.startswith(before, at):
                return None
            at += len(before)
            values, signers = said.values, set[bytes]()
            while raw.startswith(_PARTIAL_KEY, at):
                start = at + 36
                pubkey, at = raw[at + 2 : at + 35], start + raw[at + 35]
                if pubkey in signers or _DERIVATION + pubkey not in values or not 9 <= at - start <= 73:
                    return None
                signers.add(pubkey)
                found.append(input_signature(place, pubkey, raw[start:at]))
            if not raw.startswith(behind, at):
                return None
            at += len(behind)
    except IndexError:
        return None
    return tuple(found) if raw[at:] == b"".join(said.serialize() for said in ours.outputs) else None


def _own_digests(ours: Psbt) -> tuple[bytes, ...]:
    outpoints = [txin.outpoint for txin in ours.transaction.inputs]
    spent = [said.spends(at) or _NOTHING for said, at in zip(ours.inputs, outpoints, strict=True)]
    if ours.inputs[0].all(IN_TAP_LEAF):
        return taproot_digests(ours.transaction, spent, [_said_leaf_hash(said) for said in ours.inputs])
    scripts = [(said.witness_script or b"", output.amount) for said, output in zip(ours.inputs, spent, strict=True)]
    return segwit_digests(ours.transaction, scripts)


def _picked(ours: Psbt, at: int, stack: tuple[bytes, ...], digest: bytes) -> list[InputSignature]:
    """Return the items of a witness that are signatures over `digest` by keys of our input: at most one per key."""
    said = ours.inputs[at]
    pubkeys = [pubkey for pubkey, _ in (*said.derivations, *said.tap_derivations)]
    items = stack[: len(pubkeys) + 2]  # dummy, at most n signatures, script; n items, script, control block
    return [InputSignature(at, pubkey, item) for pubkey in pubkeys for item in items if is_signed(pubkey, digest, item)]


def is_signed(pubkey: bytes, digest: bytes, item: bytes) -> bool:
    """Return whether `item` is a signature over `digest`, with the one sighash type that its kind of key signs with."""
    if len(pubkey) == 32:
        return curve.schnorr_verify(pubkey, digest, item)
    return item[-1:] == _ALL and curve.ecdsa_verify(pubkey, digest, item[:-1])

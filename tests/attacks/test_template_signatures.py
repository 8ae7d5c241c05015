"""Attacks with signatures on wallets of the other templates: sh(wsh) and taproot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import wallycore as wally

from custody import curve
from custody.errors import IntegrityError, MalformedError
from custody.finalise import finalize
from custody.psbt import serialize
from custody.reader import sized
from custody.scripts import Template
from custody.signatures import InputSignature, accept, from_foreign_psbt, sighashes
from custody.units import Sats
from custody.wallet import Network
from signer_node.backends.signing import sign_and_drop
from tests.fakes.cleared import ClearedInputs
from tests.fakes.psbts import (
    COIN_SATS,
    RawPsbt,
    facts_of,
    kernel_accepts,
    put,
    secrets_of,
    seed_of,
    signed_by,
    spent_outputs,
    with_transaction,
)
from tests.fakes.templates import BOOKS, XONLY, each_other, each_taproot, spend_of

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELD = 2**256 - 2**32 - 977


def rejection(template: Template, pubkey: bytes | None = None, signature: bytes | None = None) -> list[str]:
    """Return the codes with which the first cosigner's signatures are rejected where the first one is another."""
    book, psbt = BOOKS[template], spend_of(template)
    first, *others = signed_by(0, psbt, book=book)
    lie = InputSignature(
        0, first.pubkey if pubkey is None else pubkey, first.signature if signature is None else signature
    )
    found = accept(psbt, facts_of(psbt, book), book, [lie, *others])
    assert 0 not in found.signed
    return [rejected.code for rejected in found.rejected]


@each_taproot
@pytest.mark.parametrize("kind", [0x00, 0x01, 0x02, 0x03, 0x81, 0x82, 0x83, 0xFF])
def test_atk_049_taproot_signature_with_a_type_is_rejected(template: Template, kind: int) -> None:
    """65 bytes say a type, even one that covers as much: it is not what was asked to be signed."""
    first = signed_by(0, spend_of(template), book=BOOKS[template])[0].signature

    assert rejection(template, signature=first + bytes([kind])) == ["SIGNATURE_TYPE"]


@each_taproot
def test_atk_059_garbage_taproot_signature_is_rejected_and_its_signer_named(template: Template) -> None:
    """Of any length and content; nothing raised."""
    for garbage in (b"", bytes(64), b"\xff" * 64, bytes(63), bytes(66), b"\x30" * 71):
        assert rejection(template, signature=garbage) == ["SIGNATURE_INVALID"]


@each_taproot
def test_atk_060_taproot_signature_under_another_key_is_rejected(template: Template) -> None:
    """Another cosigner's, the 33-byte spelling of the right one, a stranger's."""
    book, psbt = BOOKS[template], spend_of(template)
    other = book.script(0, 5).pubkeys[1]

    assert rejection(template, pubkey=other) == ["SIGNATURE_INVALID"]
    assert rejection(template, pubkey=b"\x02" + book.script(0, 5).pubkeys[0]) == ["SIGNATURE_KEY"]
    assert rejection(template, pubkey=XONLY) == ["SIGNATURE_KEY"]
    digest, secret = sighashes(psbt, facts_of(psbt, book), book)[0], secrets_of(0, psbt, book=book)[0]
    ecdsa = curve.ecdsa_sign(secret, digest) + b"\x01"
    assert rejection(template, signature=ecdsa) == ["SIGNATURE_INVALID"]


@each_taproot
def test_atk_061_taproot_signature_over_a_lie_about_any_coin_is_rejected(template: Template) -> None:
    """BIP-341: a signature of one input covers amount and script of every coin, outputs, sequences and its place."""
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    secret = secrets_of(0, psbt, book=book)[0]
    lied = (facts.inputs[0], replace(facts.inputs[1], amount_sats=Sats(COIN_SATS + 1)))
    other = replace(psbt, transaction=replace(psbt.transaction, locktime=1))
    digests = (
        sighashes(psbt, replace(facts, inputs=lied), book)[0],
        sighashes(other, facts, book)[0],
        sighashes(psbt, facts, book)[1],
    )
    for digest in digests:
        made = curve.schnorr_sign(secret, digest)
        assert rejection(template, signature=made) == ["SIGNATURE_INVALID"]


@each_taproot
def test_atk_062_second_spelling_of_a_schnorr_signature_is_rejected(template: Template) -> None:
    """BIP-340: r below the field's size, s below the order, s not negated; one signature has one spelling."""
    first = signed_by(0, spend_of(template), book=BOOKS[template])[0].signature
    r, s = int.from_bytes(first[:32], "big"), int.from_bytes(first[32:], "big")
    spellings = [(r, ORDER - s), (FIELD, s), (r, ORDER), (0, s), (r, 0)]
    spellings += [(r + FIELD, s)] if r + FIELD < 2**256 else []
    spellings += [(r, s + ORDER)] if s + ORDER < 2**256 else []
    for one_r, one_s in spellings:
        made = one_r.to_bytes(32, "big") + one_s.to_bytes(32, "big")
        assert rejection(template, signature=made) == ["SIGNATURE_INVALID"]


@each_taproot
def test_atk_063_second_valid_schnorr_signature_is_reported_and_the_first_stays(template: Template) -> None:
    """Other nonces give other valid signatures: a deterministic signer never does, so it is worth a word."""
    book, psbt = BOOKS[template], spend_of(template)
    facts, first = facts_of(psbt, book), signed_by(0, psbt, book=book)
    digest, secret = sighashes(psbt, facts, book)[0], secrets_of(0, psbt, book=book)[0]
    other = replace(first[0], signature=curve.schnorr_sign(secret, digest, b"\x01" * 32))

    found = accept(psbt, facts, book, (*first, other))

    assert [rejected.code for rejected in found.rejected] == ["SIGNATURE_DIFFERS"]
    assert found.by_input[0][0] == first[0]
    assert found.signed == {0}


@each_other
def test_atk_064_psbt_over_another_transaction_is_refused(template: Template) -> None:
    """Whatever signatures are inside."""
    ours = spend_of(template)
    other = with_transaction(ours, replace(ours.transaction, locktime=7))

    with pytest.raises(MalformedError, match="FOREIGN_TRANSACTION"):
        from_foreign_psbt(ours, serialize(other))


@each_other
def test_atk_065_final_fields_from_a_signer_are_ignored(template: Template) -> None:
    """A scriptSig, a witness of garbage, a key path signature: nothing of it is taken."""

    def change(raw: RawPsbt) -> None:
        put(raw.inputs[0], b"\x07", b"\x51")
        put(raw.inputs[0], b"\x08", b"\x03" + sized(bytes(64)) + sized(b"\x01" * 64) + sized(b"\x50"))
        put(raw.inputs[1], b"\x13", bytes(64))

    raw = RawPsbt.of(spend_of(template))
    change(raw)

    assert from_foreign_psbt(spend_of(template), raw.to_bytes()) == ()


@each_taproot
def test_atk_065_signature_for_another_leaf_is_named_and_does_not_count(template: Template) -> None:
    """A device that signs for another leaf signed something else."""
    book, psbt = BOOKS[template], spend_of(template)
    first = signed_by(0, psbt, book=book)[0]
    raw = RawPsbt.of(psbt)
    lie = curve.schnorr_sign(secrets_of(0, psbt, book=book)[0], bytes(32))
    put(raw.inputs[0], b"\x14" + first.pubkey + bytes(32), lie)

    found = accept(psbt, facts_of(psbt, book), book, from_foreign_psbt(psbt, raw.to_bytes()))

    assert [(rejected.code, rejected.key_index) for rejected in found.rejected] == [("SIGNATURE_INVALID", 0)]
    assert found.signed == frozenset()


@each_other
def test_atk_067_inputs_signed_unevenly_are_not_complete(template: Template) -> None:
    """A key counts once it signed every input; two keys on one input each are none."""
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    uneven = (*signed_by(0, psbt, book=book), signed_by(1, psbt, book=book)[0], signed_by(2, psbt, book=book)[1])

    found = accept(psbt, facts, book, (*uneven, *uneven))

    assert (set(found.signed), found.lacking, found.is_complete) == ({0}, 1, False)
    with pytest.raises(IntegrityError, match="NOT_COMPLETE"):
        finalize(psbt, facts, book, found)


def cleared_by_judge(template: Template) -> ClearedInputs:
    """Return what is cleared for the first cosigner."""
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    paths = tuple((fact.branch, fact.index) for fact in facts.inputs)
    return ClearedInputs(sighashes(psbt, facts, book), paths, tuple(book.script(*path).pubkeys[0] for path in paths))


@each_taproot
def test_atk_070_taproot_signatures_are_bip340_with_zero_aux(template: Template) -> None:
    """The bytes that libwally makes of the same key and digest: there is no freedom to leak a key through nonces."""
    psbt, cleared = spend_of(template), cleared_by_judge(template)
    signed = sign_and_drop(lambda: seed_of(0), Network.REGTEST, cleared)

    for secret, digest, one in zip(secrets_of(0, psbt, book=BOOKS[template]), cleared.digests, signed, strict=True):
        assert one.signature == bytes(wally.ec_sig_from_bytes(secret, digest, wally.EC_FLAG_SCHNORR))
    assert signed == signed_by(0, psbt, book=BOOKS[template])


@each_taproot
def test_atk_071_wrong_schnorr_signature_of_a_faulty_library_never_leaves(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glitch flips one bit of one digest: the second library sees it, and none of the others leaves either."""
    honest = curve.schnorr_sign
    calls: list[bytes] = []

    def glitch(secret: bytes, digest: bytes) -> bytes:
        """Sign the second digest with one bit of it flipped, as a fault would."""
        calls.append(digest)
        return honest(secret, digest if len(calls) == 1 else bytes([digest[0] ^ 1]) + digest[1:])

    monkeypatch.setattr(curve, "schnorr_sign", glitch)
    seed = seed_of(0)
    with pytest.raises(IntegrityError, match="SIGNATURE_WRONG"):
        sign_and_drop(lambda: seed, Network.REGTEST, cleared_by_judge(template))
    assert not any(seed)


@each_other
def test_atk_073_final_transaction_is_accepted_by_the_kernel_and_one_bit_less_is_not(template: Template) -> None:
    """Bitcoin Core's own script code with all flags: it takes ours, and no signature with a bit flipped."""
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    signatures = (*signed_by(0, psbt, book=book), *signed_by(2, psbt, book=book))
    final = finalize(psbt, facts, book, accept(psbt, facts, book, signatures))
    first = final.inputs[0]
    place = next(at for at, item in enumerate(first.witness) if item)
    item = first.witness[place]
    bent = (*first.witness[:place], item[:20] + bytes([item[20] ^ 1]) + item[21:], *first.witness[place + 1 :])

    assert kernel_accepts(final, spent_outputs(psbt))
    broken = replace(final, inputs=(replace(first, witness=bent), *final.inputs[1:]))
    assert not kernel_accepts(broken, spent_outputs(psbt))

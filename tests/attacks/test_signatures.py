"""Attacks with signatures: bad, misfiled, replayed, counted twice or uneven (attacks.md section C).

From others only (input, public key, signature) is taken; each is verified over our own transaction before it is filed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from embit.ec import PrivateKey

from custody import curve
from custody.errors import IntegrityError, MalformedError
from custody.finalise import finalize
from custody.psbt import parse, serialize
from custody.reader import sized
from custody.signatures import Accepted, InputSignature, accept, from_foreign_psbt, sighashes, with_signatures
from custody.transaction import TxOut
from custody.units import Sats
from tests.fakes.psbts import (
    BOOK,
    OTHER_BOOK,
    STRANGER,
    RawPsbt,
    changed,
    facts_of,
    kernel_accepts,
    put,
    secrets_of,
    signed_by,
    spend,
    spent_outputs,
    valid,
    with_output,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def accepted(*signatures: InputSignature) -> Accepted:
    """Return what our PSBT makes of `signatures`."""
    return accept(valid(), facts_of(valid()), BOOK, signatures)


def codes(found: Accepted) -> list[str]:
    """Return the code of each rejected signature."""
    return [rejected.code for rejected in found.rejected]


def der(r: int, s: int) -> bytes:
    """Return the shortest DER of two positive numbers; nothing is checked."""
    parts = b""
    for number in (r, s):
        raw = number.to_bytes(max(1, (number.bit_length() + 8) // 8), "big")
        parts += b"\x02" + bytes([len(raw)]) + raw
    return b"\x30" + bytes([len(parts)]) + parts


def numbers(signature: bytes) -> tuple[int, int]:
    """Return r and s of a DER signature with its sighash byte."""
    r_end = 4 + signature[3]
    return int.from_bytes(signature[4:r_end], "big"), int.from_bytes(signature[r_end + 2 : -1], "big")


GARBAGE = {
    "empty": b"",
    "type_only": b"\x01",
    "zeros": bytes(71),
    "ones": b"\xff" * 72,
    "text": b"signed, honestly\x01",
    "minimal_der": b"\x30\x06\x02\x01\x01\x02\x01\x01\x01",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_atk_059_garbage_signature_is_rejected_and_its_signer_named(garbage: str) -> None:
    """The good signatures of the same call are filed all the same."""
    first, second = signed_by(1, valid())
    bad = replace(first, signature=GARBAGE[garbage])

    found = accepted(bad, second, *signed_by(0, valid()))

    assert [(r.signature, r.key_index) for r in found.rejected] == [(bad, 1)]
    assert codes(found)[0] in ("SIGNATURE_TYPE", "SIGNATURE_INVALID")
    assert found.signed == {0}
    assert found.by_input[1][1] == second


def test_atk_060_valid_signature_filed_under_another_key_is_rejected() -> None:
    """Under another signer's key, under the same signer's key of another input, under a key of nobody."""
    mine, other = signed_by(0, valid()), signed_by(1, valid())
    stranger = signed_by(0, spend(book=OTHER_BOOK), tag="another", book=OTHER_BOOK)[0]

    found = accepted(
        replace(mine[0], pubkey=other[0].pubkey),
        replace(mine[0], pubkey=mine[1].pubkey),
        replace(mine[0], pubkey=stranger.pubkey),
        replace(mine[0], pubkey=bytes([mine[0].pubkey[0] ^ 1]) + mine[0].pubkey[1:]),
        replace(mine[0], pubkey=b""),
    )

    assert codes(found) == ["SIGNATURE_INVALID", *["SIGNATURE_KEY"] * 4]
    assert [r.key_index for r in found.rejected] == [1, None, None, None, None]
    assert found.signed == frozenset()


@pytest.mark.parametrize("at", [-1, 2, 2**32])
def test_atk_060_signature_for_an_input_that_is_not_there_is_rejected(at: int) -> None:
    """A negative index does not count from the end."""
    assert codes(accepted(replace(signed_by(0, valid())[1], input_index=at))) == ["SIGNATURE_INPUT"]


def test_atk_061_signature_over_another_transaction_or_input_is_rejected() -> None:
    """A replay from an older session, and a valid signature moved to another input."""
    older = with_output(valid(), 0, TxOut(Sats(1), STRANGER))
    first = signed_by(0, valid())[0]

    found = accepted(*signed_by(0, older), replace(first, input_index=1))

    assert codes(found) == ["SIGNATURE_INVALID", "SIGNATURE_INVALID", "SIGNATURE_KEY"]


def test_atk_061_signature_over_a_lying_amount_is_rejected() -> None:
    """BIP-143 signs the amount: what was signed with another is no signature of ours."""
    facts = facts_of(valid())
    lied = replace(facts, inputs=(replace(facts.inputs[0], amount_sats=Sats(1)), *facts.inputs[1:]))
    digest, secret = sighashes(valid(), lied, BOOK)[0], secrets_of(0, valid())[0]

    signature = InputSignature(0, curve.public_key(secret), curve.ecdsa_sign(secret, digest) + b"\x01")

    assert codes(accepted(signature)) == ["SIGNATURE_INVALID"]


def test_atk_062_second_spelling_of_a_valid_signature_is_rejected() -> None:
    """High S, padded or negative numbers, long lengths, trailing bytes, numbers outside 1..n-1."""
    good = signed_by(0, valid())[0]
    r, s = numbers(good.signature)
    assert der(r, s) == good.signature[:-1]
    strict = good.signature[:-1]
    spellings = {
        "high_s": der(r, ORDER - s),
        "r_zero": der(0, s),
        "s_zero": der(r, 0),
        "r_order": der(r + ORDER, s),
        "s_order": der(r, s + ORDER),
        "trailing": strict + b"\0",
        "trailing_inside": b"\x30" + bytes([len(strict) - 1]) + strict[2:] + b"\0",
        "long_length": b"\x30\x81" + bytes([len(strict) - 2]) + strict[2:],
        "padded_s": strict[:1] + bytes([strict[1] + 1]) + strict[2 : -len(sized_s(s))] + padded(s),
        "indefinite": b"\x30\x80" + strict[2:] + bytes(2),
        "73_bytes": strict.ljust(73, b"\0"),
        "compact_form": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
    }

    found = accepted(*(replace(good, signature=spelling + b"\x01") for spelling in spellings.values()))

    assert dict(zip(spellings, codes(found), strict=True)) == dict.fromkeys(spellings, "SIGNATURE_INVALID")


def sized_s(s: int) -> bytes:
    """Return the DER number `s` with its tag and length."""
    raw = s.to_bytes((s.bit_length() + 8) // 8, "big")
    return b"\x02" + sized(raw)


def padded(s: int) -> bytes:
    """Return the DER number `s` with one zero too many."""
    raw = b"\0" + s.to_bytes((s.bit_length() + 8) // 8, "big")
    return b"\x02" + sized(raw)


@pytest.mark.parametrize("sighash_byte", [0x00, 0x02, 0x03, 0x81, 0x82, 0x83, 0x04, 0x80])
def test_atk_049_sighash_byte_other_than_all_is_rejected(sighash_byte: int) -> None:
    """The byte at the end of a signature says ALL, whatever any field says."""
    good = signed_by(0, valid())[0]

    assert codes(accepted(replace(good, signature=good.signature[:-1] + bytes([sighash_byte])))) == ["SIGNATURE_TYPE"]


def other_signature(at: int = 0) -> InputSignature:
    """Return a second valid signature by the same key over the same digest: another nonce."""
    secret, digest = secrets_of(0, valid())[at], sighashes(valid(), facts_of(valid()), BOOK)[at]
    key, z, k = int.from_bytes(secret, "big"), int.from_bytes(digest, "big"), 12_345
    r = int.from_bytes(curve.public_key(k.to_bytes(32, "big"))[1:], "big") % ORDER
    s = pow(k, -1, ORDER) * (z + r * key) % ORDER
    return InputSignature(at, curve.public_key(secret), der(r, min(s, ORDER - s)) + b"\x01")


def test_atk_063_first_valid_signature_stays_whatever_comes_later() -> None:
    """A bad one does not replace it; a different valid one is reported: an honest signer is deterministic."""
    good, bad = signed_by(0, valid()), GARBAGE["minimal_der"]

    found = accepted(*good, replace(good[0], signature=bad), other_signature(), good[0])

    assert codes(found) == ["SIGNATURE_INVALID", "SIGNATURE_DIFFERS"]
    assert found.by_input[0][0] == good[0]
    assert found.signed == {0}


def test_atk_063_bad_signature_first_does_not_shut_out_the_good_one() -> None:
    """Bad and good of one signer in one call, in any order."""
    good = signed_by(0, valid())

    found = accepted(replace(good[0], signature=bytes(71)), *good)

    assert found.signed == {0}
    assert found.by_input[0][0] == good[0]


def test_atk_064_psbt_that_comes_back_gives_signatures_and_nothing_else() -> None:
    """Trimmed maps, other scripts, other types and unknown fields in it change nothing of ours."""
    signatures = signed_by(2, valid())

    def rewritten(raw: RawPsbt) -> None:
        for at, pairs in enumerate(raw.inputs):
            pairs[:] = [
                (b"\x02" + signatures[at].pubkey, signatures[at].signature),
                (b"\x77", b"x"),
                (b"\x05", b"\x51"),
            ]
        put(raw.inputs[0], b"\x03", b"\x03\0\0\0")
        raw.outputs[1].clear()

    assert from_foreign_psbt(valid(), changed(rewritten)) == signatures


def test_atk_064_psbt_over_another_transaction_is_refused() -> None:
    """Other outputs, amounts, sequences or locktime: nothing is taken of it."""
    transaction = valid().transaction
    lies = (
        replace(transaction, locktime=1),
        replace(transaction, version=1),
        replace(transaction, outputs=(TxOut(Sats(1), STRANGER), transaction.outputs[1])),
        replace(transaction, outputs=transaction.outputs[::-1]),
        replace(transaction, inputs=(replace(transaction.inputs[0], sequence=0), transaction.inputs[1])),
    )

    for lie in lies:
        theirs = changed(lambda raw, lie=lie: put(raw.globals, b"\0", lie.serialize_stripped()))  # type: ignore[misc]
        with pytest.raises(MalformedError, match="FOREIGN_TRANSACTION"):
            from_foreign_psbt(valid(), theirs)


def test_atk_065_final_fields_from_a_signer_are_ignored() -> None:
    """A final witness with a bad dummy or more items never reaches our transaction."""
    witness = b"\x03" + sized(b"x") + sized(bytes(71)) + sized(b"\x51")

    def finals(raw: RawPsbt) -> None:
        for pairs in raw.inputs:
            pairs.extend([(b"\x07", b"\x51"), (b"\x08", witness)])

    assert from_foreign_psbt(valid(), changed(finals)) == ()


def test_atk_065_signatures_hidden_in_a_final_witness_count_only_where_they_are_valid() -> None:
    """Of a witness with junk around one good signature, exactly that signature is taken, as if sent alone."""
    good, other = signed_by(0, valid())
    items = (b"\x01", bytes(71) + b"\x01", good.signature, other.signature, b"\x51")
    witness = bytes([len(items)]) + b"".join(map(sized, items))

    found = from_foreign_psbt(valid(), changed(lambda raw: put(raw.inputs[0], b"\x08", witness)))

    assert found == (good,)


def test_atk_065_final_witness_beside_partial_signatures_is_ignored() -> None:
    """Where a signer sends signatures as such, nothing is looked for elsewhere."""
    partial, other = signed_by(0, valid())[0], signed_by(1, valid())[0]
    witness = b"\x03" + sized(b"") + sized(partial.signature) + sized(other.signature)

    def both(raw: RawPsbt) -> None:
        put(raw.inputs[0], b"\x02" + partial.pubkey, partial.signature)
        put(raw.inputs[0], b"\x08", witness)

    assert from_foreign_psbt(valid(), changed(both)) == (partial,)


def test_atk_065_our_own_finalizer_makes_the_witness() -> None:
    """An empty dummy, m signatures, the script; nothing of what signers call final."""
    complete = accepted(*signed_by(0, valid()), *signed_by(1, valid()))
    final = finalize(valid(), facts_of(valid()), BOOK, complete)
    assert all(txin.witness[0] == b"" and len(txin.witness) == 4 and not txin.script_sig for txin in final.inputs)


def test_atk_066_one_signer_many_times_counts_once() -> None:
    """Resubmission, two spellings of the call, a second valid signature: still one cosigner."""
    found = accepted(*signed_by(0, valid()) * 5, other_signature(0), other_signature(1))

    assert found.signed == {0}
    assert found.lacking == 1
    assert not found.is_complete


def test_atk_067_inputs_signed_unevenly_are_not_complete() -> None:
    """Two signatures on one input and one on the other count one cosigner, and nothing is finalised."""
    first, second = signed_by(0, valid()), signed_by(1, valid())
    third = signed_by(2, valid())

    uneven = accepted(*first, second[0])
    scattered = accepted(first[0], second[1], third[0])  # each input has one or two, nobody has both

    assert uneven.signed == {0}
    assert scattered.signed == frozenset()
    for found in (uneven, scattered):
        with pytest.raises(IntegrityError, match="NOT_COMPLETE"):
            finalize(valid(), facts_of(valid()), BOOK, found)


def test_atk_070_signatures_are_plain_rfc_6979() -> None:
    """Nonces leave a signer no freedom: a second implementation gives the same bytes, so a leak would show."""
    digests = sighashes(valid(), facts_of(valid()), BOOK)
    for signature, secret, digest in zip(signed_by(0, valid()), secrets_of(0, valid()), digests, strict=True):
        assert PrivateKey(secret).sign(digest, grind=False).serialize() == signature.signature[:-1]


@pytest.mark.parametrize("signers", [(0, 1), (0, 2), (1, 2), (2, 1, 0)])
def test_atk_073_final_transaction_is_accepted_by_the_kernel(signers: tuple[int, ...]) -> None:
    """Any two of three, or all three of whom two are used: Bitcoin Core's own script code agrees, with all flags."""
    found = accepted(*(signature for signer in signers for signature in signed_by(signer, valid())))

    final = finalize(valid(), facts_of(valid()), BOOK, found)

    assert kernel_accepts(final, spent_outputs(valid()))
    assert final.txid == facts_of(valid()).txid
    assert final.vsize_vb <= facts_of(valid()).vsize_vb


def test_signatures_given_inside_an_export_come_back_the_same() -> None:
    """The .psbt for third parties holds what was collected, and reading it gives that again."""
    collected = (*signed_by(0, valid()), *signed_by(2, valid()))

    export = serialize(with_signatures(valid(), collected))

    assert sorted(from_foreign_psbt(valid(), export)) == sorted(collected)
    assert parse(export).transaction == valid().transaction

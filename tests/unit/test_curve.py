"""The door to secp256k1: deterministic, strict, and of one opinion with a second library."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest
import wallycore as wally
from hypothesis import given
from hypothesis import strategies as st

from custody import curve
from custody.errors import IntegrityError
from tests.fakes.spends import with_high_s

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECRETS = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
DIGESTS = st.binary(min_size=32, max_size=32)
SECRET = hashlib.sha256(b"secret").digest()
PUBKEY = curve.public_key(SECRET)
DIGEST = hashlib.sha256(b"digest").digest()
DER = curve.ecdsa_sign(SECRET, DIGEST)


def test_require_native_given_the_shipped_library_passes() -> None:
    """No pure-Python curve in this process."""
    curve.require_native()


def test_require_native_given_the_python_fallback_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow curve with secrets in its timing is no curve."""
    from embit.util import py_secp256k1

    monkeypatch.setattr(curve, "second", py_secp256k1)
    with pytest.raises(IntegrityError, match="CURVE_NOT_NATIVE"):
        curve.require_native()


@given(SECRETS, DIGESTS)
def test_ecdsa_sign_given_any_key_is_what_libwally_signs(secret: bytes, digest: bytes) -> None:
    """Plain RFC 6979, no grinding: a third implementation gives the same bytes; no freedom is left to leak by."""
    der = curve.ecdsa_sign(secret, digest)
    compact = wally.ec_sig_from_bytes(secret, digest, wally.EC_FLAG_ECDSA)

    assert der == bytes(wally.ec_sig_to_der(compact))
    assert len(der) <= 71
    pubkey = curve.public_key(secret)
    assert curve.ecdsa_verify(pubkey, digest, der)
    assert curve.ecdsa_verify_second(pubkey, digest, der)


def test_ecdsa_verify_given_another_key_or_digest_says_no() -> None:
    """A signature is of one key over one digest."""
    assert not curve.ecdsa_verify(curve.public_key(DIGEST), DIGEST, DER)
    assert not curve.ecdsa_verify(PUBKEY, SECRET, DER)
    assert not curve.ecdsa_verify_second(PUBKEY, SECRET, DER)


WRONG_DER = {
    "empty": b"",
    "high S": with_high_s(DER + b"\x01")[:-1],
    "a byte more": DER + b"\0",
    "a byte less": DER[:-1],
    "73 bytes": DER + bytes(73 - len(DER)),
    "long length": b"\x30\x81" + DER[1:],
    "padded r": b"\x30" + bytes([DER[1] + 1, 2, DER[3] + 1, 0]) + DER[4:],
    "r = 0": b"\x30\x06\x02\x01\x00\x02\x01\x01",
    "s = 0": b"\x30\x06\x02\x01\x01\x02\x01\x00",
    "r = n": b"\x30\x26\x02\x21\x00" + ORDER.to_bytes(32, "big") + b"\x02\x01\x01",
    "negative r": b"\x30\x06\x02\x01\x80\x02\x01\x01",
    "zeros": bytes(70),
}


@pytest.mark.parametrize("name", WRONG_DER)
def test_ecdsa_verify_given_another_spelling_says_no(name: str) -> None:
    """BIP-66 and BIP-146: one signature, one spelling."""
    assert not curve.ecdsa_verify(PUBKEY, DIGEST, WRONG_DER[name])


def test_ecdsa_verify_given_any_flipped_bit_says_no() -> None:
    """No byte of a signature can be written another way: the library reads DER alone."""
    verify, point = curve.Verifier().verify, curve.parse_point(PUBKEY)
    bent = [DER[:at] + bytes([DER[at] ^ 1 << bit]) + DER[at + 1 :] for at in range(len(DER)) for bit in range(8)]

    assert verify(point, DIGEST, DER)
    assert not any(verify(point, DIGEST, der) for der in bent)


def test_ecdsa_sign_children_given_tweaks_signs_with_the_sums() -> None:
    """One buffer for all of them: each signature is that of its own child's secret."""
    tweaks = [bytes(31) + bytes([at]) for at in range(4)]
    digests = [hashlib.sha256(tweak).digest() for tweak in tweaks]

    made = curve.ecdsa_sign_children((SECRET, tweak, digest) for tweak, digest in zip(tweaks, digests, strict=True))

    children = [curve.child_secret(SECRET, tweak) for tweak in tweaks]
    assert made == [curve.ecdsa_sign(child, digest) for child, digest in zip(children, digests, strict=True)]


WRONG_JOBS = {
    "no secret": (bytes(32), bytes(32), DIGEST),
    "short secret": (SECRET[1:], bytes(32), DIGEST),
    "short tweak": (SECRET, bytes(31), DIGEST),
    "tweak = n": (SECRET, ORDER.to_bytes(32, "big"), DIGEST),
    "sum = 0": (SECRET, (ORDER - int.from_bytes(SECRET, "big")).to_bytes(32, "big"), DIGEST),
    "long digest": (SECRET, bytes(32), DIGEST + b"\0"),
}


@pytest.mark.parametrize("name", WRONG_JOBS)
def test_ecdsa_sign_children_given_one_that_cannot_be_signs_none(name: str) -> None:
    """All or nothing: what is signed before the wrong one does not come back."""
    with pytest.raises(ValueError, match="expected a secret"):
        curve.ecdsa_sign_children([(SECRET, bytes(32), DIGEST), WRONG_JOBS[name]])


UNCOMPRESSED = bytes(wally.ec_public_key_decompress(PUBKEY))
WRONG_KEYS = {
    "empty": b"",
    "off the curve": b"\x02" + b"\xff" * 32,
    "uncompressed": UNCOMPRESSED,
    "hybrid": bytes([6 + (UNCOMPRESSED[-1] & 1)]) + UNCOMPRESSED[1:],
    "hybrid prefix": b"\x06" + PUBKEY[1:],
    "x only": PUBKEY[1:],
    "34 bytes": PUBKEY + b"\0",
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_is_public_key_given_what_is_none_says_no(name: str) -> None:
    """33 bytes, compressed, on the curve; nothing else, and nothing raised."""
    assert not curve.is_public_key(WRONG_KEYS[name])
    assert not curve.ecdsa_verify(WRONG_KEYS[name], DIGEST, DER)


@pytest.mark.parametrize("secret", [bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33])
def test_is_secret_given_what_is_none_says_no(secret: bytes) -> None:
    """32 bytes inside 1..n-1."""
    assert curve.is_secret(SECRET)
    assert not curve.is_secret(secret)


def test_schnorr_sign_given_a_digest_is_verified_and_deterministic() -> None:
    """BIP-340 with zero aux."""
    xonly, signature = PUBKEY[1:], curve.schnorr_sign(SECRET, DIGEST)

    assert signature == curve.schnorr_sign(SECRET, DIGEST)
    assert curve.schnorr_verify(xonly, DIGEST, signature)
    assert not curve.schnorr_verify(xonly, SECRET, signature)
    assert not curve.schnorr_verify(xonly, DIGEST, signature[:-1])
    assert not curve.schnorr_verify(xonly, DIGEST, bytes(64))
    assert not curve.schnorr_verify(b"\xff" * 32, DIGEST, signature)


def bip340_vectors() -> list[dict[str, str]]:
    """Return the BIP's vectors whose message has 32 bytes, as every digest of ours."""
    path = Path(__file__).resolve().parents[1] / "vectors/bip340/test-vectors.csv"
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if len(row["message"]) == 64]


def test_bip340_vectors_of_32_byte_messages_are_all_there() -> None:
    """15 of 19: the other four sign messages of other lengths."""
    assert len(bip340_vectors()) == 15


@pytest.mark.parametrize("row", bip340_vectors(), ids=lambda row: row["index"])
def test_schnorr_given_bip340_vectors_agrees_in_both_libraries(row: dict[str, str]) -> None:
    """The same verdict, and where the secret is given, the same signature byte for byte."""
    xonly, message, signature = (bytes.fromhex(row[name]) for name in ("public key", "message", "signature"))
    expected = row["verification result"] == "TRUE"

    assert curve.schnorr_verify(xonly, message, signature) is expected
    assert curve.schnorr_verify_second(xonly, message, signature) is expected
    if row["secret key"]:
        secret, aux = bytes.fromhex(row["secret key"]), bytes.fromhex(row["aux_rand"])
        assert curve.schnorr_sign(secret, message, aux) == signature


@given(SECRETS, DIGESTS)
def test_schnorr_sign_given_any_secret_is_of_one_opinion_with_libwally(secret: bytes, digest: bytes) -> None:
    """Byte for byte with zero aux, and the second library verifies it."""
    theirs = bytes(wally.ec_sig_from_bytes(secret, digest, wally.EC_FLAG_SCHNORR))
    ours = curve.schnorr_sign(secret, digest)

    assert ours == theirs
    assert curve.schnorr_verify_second(curve.public_key(secret)[1:], digest, ours)


@pytest.mark.parametrize("change", ["key", "digest", "signature", "short key", "short digest", "short signature"])
def test_schnorr_verify_second_given_one_change_says_no(change: str) -> None:
    """Nothing raised, whatever came in."""
    xonly, digest, signature = PUBKEY[1:], DIGEST, curve.schnorr_sign(SECRET, DIGEST)
    assert curve.schnorr_verify_second(xonly, digest, signature)
    lies = {
        "key": (b"\xff" * 32, digest, signature),
        "digest": (xonly, SECRET, signature),
        "signature": (xonly, digest, bytes(64)),
        "short key": (xonly[1:], digest, signature),
        "short digest": (xonly, digest[1:], signature),
        "short signature": (xonly, digest, signature[1:]),
    }

    assert not curve.schnorr_verify_second(*lies[change])
    assert not curve.schnorr_verify(*lies[change])


def test_add_tweak_is_the_public_half_of_adding_secrets() -> None:
    """P + t*G is the key of p + t."""
    tweak = (7).to_bytes(32, "big")
    total = (int.from_bytes(SECRET, "big") + 7) % ORDER

    assert curve.add_tweak(PUBKEY, tweak) == curve.public_key(total.to_bytes(32, "big"))

"""The least that a job can cost: bare calls of libsecp256k1 and SHA-256, all parsed and allocated before the clock."""

from __future__ import annotations

import ctypes
from hashlib import sha256

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from embit.util import ctypes_secp256k1 as second

from benchmarks._cases import Case
from custody.reader import sized
from custody.signatures import InputSignature, from_foreign_psbt, sighashes
from signer_node.seed import account_key


class Floors:
    """n signatures, m * n verifications, n verifications by the second library; over one case."""

    def __init__(self, case: Case) -> None:
        digests = sighashes(case.psbt, case.facts, case.book)
        account = account_key(bytearray(case.seeds[0]), case.wallet.network)
        secrets = [bytes(account.derive([fact.branch, fact.index]).secret) for fact in case.facts.inputs]
        by_cosigner = [from_foreign_psbt(case.psbt, raw) for raw in case.signed]
        self._signing = list(zip(digests, secrets, strict=True))
        self._verifying = [_parsed(found, digests[found.input_index]) for signed in by_cosigner for found in signed]
        self._second = [_parsed_second(found, digests[found.input_index]) for found in by_cosigner[0]]

        scripts = [script.witness_script for script in case.book.of(case.facts.inputs)]
        # BIP-143 hashes 4 + 32 + 32 + 36 + 8 + 4 + 32 + 4 + 4 bytes and the script with its length.
        self._messages = [bytes(156) + sized(script) for script in scripts]
        self._previous = [found.previous.serialize_stripped() for found in case.psbt.inputs if found.previous]

    def hash_digests(self) -> None:
        """Hash what each input signs, twice as Bitcoin does."""
        for message in self._messages:
            sha256(sha256(message).digest()).digest()

    def hash_all(self) -> None:
        """Hash what each input signs and its previous transaction."""
        self.hash_digests()
        for previous in self._previous:
            sha256(sha256(previous).digest()).digest()

    def sign(self) -> None:
        """Sign every digest."""
        context, made, call, null = GLOBAL_CONTEXT.ctx, ffi.new("secp256k1_ecdsa_signature *"), _SIGN, ffi.NULL
        for digest, secret in self._signing:
            call(context, made, digest, secret, null, null)

    def verify(self) -> None:
        """Verify every signature of m cosigners."""
        context, call = GLOBAL_CONTEXT.ctx, _VERIFY
        for signature, digest, key in self._verifying:
            if not call(context, signature, digest, key):
                raise ValueError("the floor refuses a signature")

    def verify_second(self) -> None:
        """Verify every signature of one cosigner with the second library."""
        call, context = second._secp.secp256k1_ecdsa_verify, ctypes.c_void_p(second._secp.ctx)
        for signature, digest, key in self._second:
            if not call(context, signature, digest, key):
                raise ValueError("the second floor refuses a signature")


_PARENT, _TWEAK = sha256(b"parent").digest(), sha256(b"tweak").digest()
_SIGN, _VERIFY = lib.secp256k1_ecdsa_sign, lib.secp256k1_ecdsa_verify


def _parsed(found: InputSignature, digest: bytes) -> tuple[object, bytes, object]:
    signature, key = ffi.new("secp256k1_ecdsa_signature *"), ffi.new("secp256k1_pubkey *")
    der = found.signature[:-1]
    lib.secp256k1_ecdsa_signature_parse_der(GLOBAL_CONTEXT.ctx, signature, der, len(der))
    lib.secp256k1_ec_pubkey_parse(GLOBAL_CONTEXT.ctx, key, found.pubkey, len(found.pubkey))
    return signature, digest, key


def _parsed_second(found: InputSignature, digest: bytes) -> tuple[bytes, bytes, bytes]:
    return second.ecdsa_signature_parse_der(found.signature[:-1]), digest, second.ec_pubkey_parse(found.pubkey)


def derive(count: int, key_count: int) -> None:
    """Derive `count` times `key_count` keys: a point from a tweak, added to another, written out; no HMAC."""
    context, keys, size = GLOBAL_CONTEXT.ctx, ffi.new("secp256k1_pubkey[3]"), ffi.new("size_t *", 33)
    pair, out = ffi.new("secp256k1_pubkey *[2]", [keys, keys + 1]), ffi.new("unsigned char[33]")
    lib.secp256k1_ec_pubkey_create(context, keys, _PARENT)
    for _ in range(count * key_count):
        lib.secp256k1_ec_pubkey_create(context, keys + 1, _TWEAK)
        lib.secp256k1_ec_pubkey_combine(context, keys + 2, pair, 2)
        lib.secp256k1_ec_pubkey_serialize(context, out, size, keys + 2, lib.SECP256K1_EC_COMPRESSED)

"""Fetch the seed, sign what was cleared, drop the seed: one function, shared by the backends that hold seeds."""

from __future__ import annotations

from collections.abc import Callable

from custody import curve
from custody.errors import IntegrityError
from custody.signatures import InputSignature, input_signature
from custody.wallet import Network
from signer_node.backends.port import Cleared
from signer_node.branch import branches
from signer_node.seed import KeyMaterial, key_material, wipe

SIGHASH_ALL = b"\x01"
XONLY_BYTES = 32  # a taproot key (BIP-340); a key of 33 bytes signs by ECDSA
BRANCHES = (0, 1)  # receive and change; the wallet has no others
HARDENED_INDEX = 2**31


def sign_and_drop(fetch: Callable[[], bytearray], network: Network, cleared: Cleared) -> tuple[InputSignature, ...]:
    """Return a signature for every input of `cleared`, in order, or none at all.

    Args:
        fetch: gives the seed in a new bytearray, wiped here whatever happens.
        network: fixes the account path.
        cleared: from the judge.

    Raises:
        IntegrityError: CLEARED_SHAPE, KEY_NOT_MINE (the seed gives another key than the wallet holds for this
            node: a swapped seed, or a wallet that is not ours), SIGNATURE_WRONG (the two libraries disagree).
        CustodyError: whatever `fetch` raises.
    """
    check_shape(cleared)
    seed = fetch()
    try:
        keys = branches(seed, network, BRANCHES)
        # 1. Every key first: a wrong one must not cost a signature on the inputs before it.
        children = [keys[branch].public.child(index) for branch, index in cleared.paths]
        for at, (child, pubkey) in enumerate(zip(children, cleared.pubkeys, strict=True)):
            if pubkey not in (child.pubkey, child.pubkey[1:]):
                raise IntegrityError("KEY_NOT_MINE", f"input {at}: expected key {pubkey.hex()}, found another")
        # 2. Sign all. 3. A second library verifies each before any leaves.
        is_taproot = len(cleared.pubkeys[0]) == XONLY_BYTES
        jobs = [
            (keys[branch].secret, child.tweak, digest)
            for (branch, _), child, digest in zip(cleared.paths, children, cleared.digests, strict=True)
        ]
        signed = (
            [curve.schnorr_sign(curve.child_secret(parent, tweak), digest) for parent, tweak, digest in jobs]
            if is_taproot
            else curve.ecdsa_sign_children(jobs)
        )
        verify = curve.SecondVerifier().verify
        for at, (child, digest, made) in enumerate(zip(children, cleared.digests, signed, strict=True)):
            if not (
                curve.schnorr_verify_second(child.pubkey[1:], digest, made)
                if is_taproot
                else verify(child.uncompressed, digest, made)
            ):
                raise IntegrityError("SIGNATURE_WRONG", f"input {at}: the second library refuses our signature")
    finally:
        wipe(seed)
    sighash = b"" if is_taproot else SIGHASH_ALL
    return tuple(
        input_signature(at, pubkey, made + sighash)
        for at, (pubkey, made) in enumerate(zip(cleared.pubkeys, signed, strict=True))
    )


def public_and_drop(fetch: Callable[[], bytearray], network: Network) -> KeyMaterial:
    """Return the public half of the key behind `fetch`, whose bytearray is wiped."""
    seed = fetch()
    try:
        return key_material(seed, network)
    finally:
        wipe(seed)


def check_shape(cleared: Cleared) -> None:
    """Refuse (CLEARED_SHAPE) what no judge makes."""
    count = len(cleared.digests)
    if not count or len(cleared.paths) != count or len(cleared.pubkeys) != count:
        found = f"{count} digests, {len(cleared.paths)} paths, {len(cleared.pubkeys)} keys"
        raise IntegrityError("CLEARED_SHAPE", f"expected one digest, path and key per input, found {found}")
    if len({len(pubkey) for pubkey in cleared.pubkeys}) != 1:
        raise IntegrityError("CLEARED_SHAPE", "expected keys of one kind")
    if any(len(digest) != 32 for digest in cleared.digests):
        raise IntegrityError("CLEARED_SHAPE", "expected digests of 32 bytes")
    if any(branch not in BRANCHES or not 0 <= index < HARDENED_INDEX for branch, index in cleared.paths):
        raise IntegrityError("CLEARED_SHAPE", "expected paths (0 or 1, unhardened index)")

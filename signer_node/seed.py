"""The seed of a node: made from the machine's own entropy, turned into one account key, wiped.

A seed is a `bytearray` so that it can be overwritten. Copies that Python and the libraries make on the way (integers,
`bytes`, key objects) cannot be; they live as long as the one call that needed them. Whoever can read this process
while it signs can read the seed: the engine backend is the answer to that, not this module.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass

from embit.bip32 import HARDENED_INDEX, HDKey
from embit.networks import NETWORKS

from custody.errors import IntegrityError
from custody.wallet import Network

SEED_BYTES = 32  # 256 bits, the strength of the curve's keys and of the hash that binds everything
SEED_SIZES = (SEED_BYTES, 64)  # made here, or from seed words (BIP-39)
PR_SET_DUMPABLE = 4  # prctl(2): also stops other processes of the same user from attaching

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The public half of a node's key, as it goes into its key record.

    fingerprint: 4 bytes, of the master key.  path: BIP-32 indices from the master key to `xpub`.
    xpub: base58, version bytes of the network (xpub or tpub).
    """

    fingerprint: bytes
    path: tuple[int, ...]
    xpub: str

    @property
    def key(self) -> str:
        """The key as it stands in a descriptor: `[fingerprint/48h/1h/0h/2h]tpub...` (BIP-380)."""
        steps = [f"{index - HARDENED_INDEX}h" if index >= HARDENED_INDEX else str(index) for index in self.path]
        return f"[{'/'.join([self.fingerprint.hex(), *steps])}]{self.xpub}"


def new_seed(entropy: Entropy = os.urandom) -> bytearray:
    """Return 32 new bytes of `entropy`; the caller wipes them.

    Raises:
        IntegrityError: ENTROPY where the source gave too little or one byte over and over.
    """
    seed = bytearray(entropy(SEED_BYTES))
    if len(seed) != SEED_BYTES or len(set(seed)) < 2:
        raise IntegrityError("ENTROPY", f"expected {SEED_BYTES} random bytes, found a constant or short answer")
    return seed


def wipe(secret: bytearray) -> None:
    """Overwrite `secret` with zeros."""
    secret[:] = bytes(len(secret))


def check_size(seed: bytearray) -> None:
    """Pass if `seed` has 32 or 64 bytes. Raises IntegrityError SEED_SIZE."""
    if len(seed) not in SEED_SIZES:
        raise IntegrityError("SEED_SIZE", f"expected a seed of 32 or 64 bytes, found {len(seed)}")


def account_path(network: Network) -> tuple[int, ...]:
    """Return m/48h/COINh/0h/2h, the P2WSH multisig account of BIP-48; coin 0 on mainnet, else 1 (SLIP-44)."""
    coin = 0 if network.is_mainnet else 1
    return tuple(HARDENED_INDEX + step for step in (48, coin, 0, 2))


def account_key(seed: bytearray, network: Network) -> HDKey:
    """Return the private account key: never kept, printed or logged (its repr is the key itself)."""
    return _master(seed, network).derive(account_path(network))


def key_material(seed: bytearray, network: Network) -> KeyMaterial:
    """Return what may be known of the key made from `seed` (32 or 64 bytes)."""
    xpub = account_key(seed, network).to_public().to_base58()
    return KeyMaterial(_master(seed, network).my_fingerprint, account_path(network), xpub)


def forbid_core_dumps() -> None:
    """Make this process leave no memory image behind and refuse debuggers of its own user; call first in `main`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _master(seed: bytearray, network: Network) -> HDKey:
    check_size(seed)
    versions = NETWORKS["main" if network.is_mainnet else "test"]
    return HDKey.from_seed(bytes(seed), version=versions["xprv"])

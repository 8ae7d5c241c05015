"""The keys of one call: from a seed to the key of each input.

Secrets live as long as the call that derives them. What is kept between calls is public and follows from the node's
extended key alone: which key each index has, and what is added to get there. It is what lets a signer compare every key
of a transaction before it signs, for less than deriving them all again.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import NamedTuple

from custody import curve
from custody.bip32 import Tweaks
from custody.wallet import MAX_KEPT_SCRIPTS, Network
from signer_node.seed import account_path, check_size

_MASTER = b"Bitcoin seed"  # BIP-32
KEPT_ACCOUNTS = 8  # a node has one key; tests have more


class PublicChild(NamedTuple):
    """A child's public key, 33 bytes and 65 uncompressed, and its tweak (the first 32 bytes), which is public too."""

    pubkey: bytes
    uncompressed: bytes
    tweak: bytes


class PublicBranch:
    """The public children of one branch, each derived once."""

    def __init__(self, pubkey: bytes, chain_code: bytes) -> None:
        self._point, self._tweaks = curve.parse_point(pubkey), Tweaks(chain_code, pubkey)
        self._children: dict[int, PublicChild] = {}

    def child(self, index: int) -> PublicChild:
        """Return what is public of the key at `index`.

        Raises:
            MalformedError: KEY_CHILD for a hardened index.
            ValueError: there is no such key (one index in 2^127).
        """
        found = self._children.get(index)
        if found is None:
            tweak = self._tweaks.at(index)
            pubkey, point = curve.child_points([self._point], [tweak])[0]
            found = PublicChild(pubkey, curve.uncompressed(point), tweak)
            if len(self._children) >= MAX_KEPT_SCRIPTS:
                self._children.clear()
            self._children[index] = found
        return found


class PublicAccount:
    """What is public of one account, its branches derived once each. A node has one; tests have more."""

    def __init__(self, pubkey: bytes, chain_code: bytes) -> None:
        self._pubkey, self._tweaks = pubkey, Tweaks(chain_code, pubkey)
        self._branches: dict[int, PublicBranch] = {}

    def tweak(self, number: int) -> bytes:
        """Return what is added to the account's secret for a branch: the first 32 bytes; then its chain code."""
        return self._tweaks.at(number)

    def branch(self, number: int) -> PublicBranch:
        """Return the public half of a branch. Raises as `PublicBranch.child`."""
        found = self._branches.get(number)
        if found is None:
            tweak = self.tweak(number)
            found = self._branches[number] = PublicBranch(curve.add_tweak(self._pubkey, tweak), tweak[32:])
        return found


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch of an account, private. secret: 32 bytes, never kept, printed or logged."""

    secret: bytes = field(repr=False)
    public: PublicBranch


def branches(seed: bytearray, network: Network, numbers: tuple[int, ...]) -> tuple[Branch, ...]:
    """Return the branches `numbers` of the account that `seed` (32 or 64 bytes) gives on `network`.

    Raises:
        IntegrityError: SEED_SIZE.
    """
    check_size(seed)
    digest = hmac.digest(_MASTER, seed, "sha512")
    secret, chain_code = digest[:32], digest[32:]
    for step in account_path(network):  # hardened, all of them
        digest = hmac.digest(chain_code, b"\0" + secret + step.to_bytes(4, "big"), "sha512")
        secret, chain_code = curve.child_secret(secret, digest), digest[32:]
    account = _kept.get(chain_code)
    if account is None:
        account = PublicAccount(curve.public_key(secret), chain_code)
        if len(_kept) >= KEPT_ACCOUNTS:
            _kept.clear()
        _kept[chain_code] = account
    return tuple(
        Branch(curve.child_secret(secret, account.tweak(number)), account.branch(number)) for number in numbers
    )


# By chain code, which the extended public key holds and which only this seed gives: what stands here for another key
# would make signatures that the second library refuses.
_kept: dict[bytes, PublicAccount] = {}

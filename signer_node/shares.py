"""SLIP-39: the entropy of a node's words as shares, any `needed` of which bring it back, fewer of which say nothing.

One group, extendable (the `ext` flag of SLIP-0039: the identifier does not enter the encryption, so that a second set
of shares under the same passphrase gives the same secret). What is shared is the entropy of the BIP-39 words: this
program and others that say "BIP-39 from SLIP-39" bring the words back; a device that takes the shared secret for a
BIP-32 seed opens another wallet. A wrong SLIP-39 passphrase gives another secret and no error: that is why whoever
brings a key back compares the fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence

from shamir_mnemonic import combine_mnemonics, generate_mnemonics
from shamir_mnemonic.share import Share
from shamir_mnemonic.utils import MnemonicError

from custody.backups import MAX_PARTS
from custody.errors import IntegrityError, MalformedError
from custody.throws import SECRET_BYTES
from signer_node.secret import read_text

ITERATION_EXPONENT = 1  # SLIP-0039's own default: 20,000 rounds of PBKDF2


def split(entropy: bytearray, needed: int, count: int, passphrase: bytearray) -> tuple[str, ...]:
    """Return `count` shares of `entropy`, of which `needed` bring it back.

    Args:
        entropy: 16 or 32 bytes; stays the caller's.
        needed: 2..count.
        count: at most 16.
        passphrase: printable ASCII, may be empty; stays the caller's.

    Raises:
        MalformedError: SHARES_COUNT, SHARES_PASSPHRASE.
    """
    if not 2 <= needed <= count <= MAX_PARTS:
        raise MalformedError("SHARES_COUNT", f"expected 2..{MAX_PARTS} shares, of which at least 2 are needed")
    made = generate_mnemonics(
        1, [(needed, count)], bytes(entropy), _ascii(passphrase), extendable=True, iteration_exponent=ITERATION_EXPONENT
    )
    return tuple(made[0])


def needed_of(share: str) -> int:
    """Return how many shares bring the secret back, as `share` says. Raises MalformedError SHARE_WRONG."""
    return int(_read(share, 1).member_threshold)


def join(shares: Sequence[str], passphrase: bytearray) -> bytearray:
    """Return the entropy (16 or 32 bytes) that `shares` give under `passphrase`, which stays the caller's.

    Raises:
        MalformedError: SHARE_WRONG (a word or the checksum of one share), SHARES_TWICE, SHARES_FEW, SHARES_PASSPHRASE.
        IntegrityError: SHARES_MIXED (of different secrets), SHARES_BROKEN. No message repeats a word.
    """
    read = [_read(share, place) for place, share in enumerate(shares, 1)]
    if len({share.index for share in read}) < len(read):
        raise MalformedError("SHARES_TWICE", "expected each share once")
    if len({share.common_parameters() for share in read}) > 1:
        raise IntegrityError("SHARES_MIXED", "expected shares of one set, found several")
    if not read or len(read) < read[0].member_threshold:
        needed = read[0].member_threshold if read else 2
        raise MalformedError("SHARES_FEW", f"expected {needed} shares, found {len(read)}")
    try:
        entropy = combine_mnemonics(list(shares)[: read[0].member_threshold], _ascii(passphrase))
    except MnemonicError:  # not `from`: the library's messages repeat words
        raise IntegrityError("SHARES_BROKEN", "expected shares that belong together") from None
    if len(entropy) not in SECRET_BYTES.values():
        raise IntegrityError("SHARES_BROKEN", "expected the entropy of 12 or 24 words")
    return bytearray(entropy)


def _read(share: str, place: int) -> Share:
    try:
        return Share.from_mnemonic(share)
    except MnemonicError:  # not `from`: the library's messages repeat words
        raise MalformedError("SHARE_WRONG", f"expected share {place} as it was written down: a word is wrong") from None


def _ascii(passphrase: bytearray) -> bytes:
    text = read_text(passphrase)
    if not (text.isascii() and text.isprintable()):
        raise MalformedError("SHARES_PASSPHRASE", "expected printable ASCII: SLIP-0039 knows nothing else")
    return bytes(passphrase)

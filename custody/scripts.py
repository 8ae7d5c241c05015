"""The scripts that a wallet may have: four templates, each byte of them derived, nothing else is known here.

`wsh` and `sh(wsh)` of sortedmulti (BIP-383, 67), `tr` of multi_a or sortedmulti_a (BIP-387) under an internal key that
nobody has, so that the one leaf is the only way to spend (BIP-341, 342).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum

from embit.hashes import hash160  # has RIPEMD-160 where OpenSSL was built without it

from custody import curve
from custody.canonical import tagged_hash
from custody.quick import quick
from custody.reader import compact_size, sized

# BIP-341: a point whose discrete logarithm is unknown, lift_x of the hash of the generator.
NUMS = bytes.fromhex("50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0")
MAX_ECDSA_BYTES = 72  # low S without grinding: 71 of DER and the sighash byte
SCHNORR_BYTES = 64  # SIGHASH_DEFAULT: no sighash byte (BIP-341)
LEAF_VERSION = 0xC0  # BIP-342
_OP_1, _OP_NUMEQUAL, _OP_CHECKMULTISIG = 0x51, 0x9C, 0xAE
_OP_CHECKSIG, _OP_CHECKSIGADD = b"\xac", b"\xba"


class Template(Enum):
    """The form of a wallet's descriptor; the value is what stands in front of `m,keys`."""

    WSH = "wsh(sortedmulti("
    SH_WSH = "sh(wsh(sortedmulti("
    TR = f"tr({NUMS.hex()},multi_a("
    TR_SORTED = f"tr({NUMS.hex()},sortedmulti_a("

    def fill(self, inside: str) -> str:
        """Return the descriptor with `inside` (`m,key,...`) and without a checksum."""
        return self.value + inside + ")" * self.value.count("(")

    @property
    def form(self) -> str:
        """How people name it: `wsh(sortedmulti)`, `tr(multi_a)`; the internal key goes without saying."""
        opened = self.value.replace(f"{NUMS.hex()},", "").removesuffix("(")
        return opened + ")" * opened.count("(")

    @property
    def is_taproot(self) -> bool:
        """Whether its keys are x-only and its signatures Schnorr's (BIP-340)."""
        return self is Template.TR or self is Template.TR_SORTED

    @property
    def sorts_keys(self) -> bool:
        """Whether the script lists keys by their bytes (BIP-67), not as the descriptor does."""
        return self is not Template.TR

    @property
    def script_bytes(self) -> int:
        """How long its scriptPubKeys are."""
        return 23 if self is Template.SH_WSH else 34


@dataclass(frozen=True, slots=True)
class SpendScripts:
    """What a coin is locked with and what spending it shows.

    script: scriptPubKey.  witness_script: what it commits to: of BIP-141, or the one tapleaf (BIP-342).
    redeem_script: of P2SH, else empty.  control_block: 33 bytes, leaf_hash: 32 bytes, of taproot (BIP-341), else empty.
    """

    script: bytes
    witness_script: bytes
    redeem_script: bytes = b""
    control_block: bytes = b""
    leaf_hash: bytes = b""


_spend_scripts = quick(SpendScripts)


def make_scripts(template: Template, threshold: int, pubkeys: tuple[bytes, ...]) -> SpendScripts:
    """Return the scripts of m-of-n.

    Args:
        template: fixes the form.
        threshold: m, 1 <= m <= n <= 16.
        pubkeys: in script order; 33 bytes each, 32 in taproot.
    """
    if template.is_taproot:
        return _taproot(multi_a_script(threshold, pubkeys))
    witness_script = multisig_script(threshold, pubkeys)
    program = b"\x00\x20" + hashlib.sha256(witness_script).digest()
    if template is Template.WSH:
        return _spend_scripts(program, witness_script)
    return _spend_scripts(b"\xa9\x14" + hash160(program) + b"\x87", witness_script, redeem_script=program)


def multisig_script(threshold: int, pubkeys: tuple[bytes, ...]) -> bytes:
    """Return `m <keys> n OP_CHECKMULTISIG`; pubkeys: 33 bytes each, in script order; 1 <= m <= n <= 16."""
    keys = b"\x21" + b"\x21".join(pubkeys)
    return bytes([0x50 + threshold]) + keys + bytes([0x50 + len(pubkeys), _OP_CHECKMULTISIG])


def multi_a_script(threshold: int, pubkeys: tuple[bytes, ...]) -> bytes:
    """Return `<key> OP_CHECKSIG <key> OP_CHECKSIGADD ... m OP_NUMEQUAL` (BIP-387); pubkeys: 32 bytes; 1 <= m <= 16."""
    first, *others = (b"\x20" + pubkey for pubkey in pubkeys)
    checks = first + _OP_CHECKSIG + b"".join(key + _OP_CHECKSIGADD for key in others)
    return checks + bytes([_OP_1 - 1 + threshold, _OP_NUMEQUAL])


def leaf_hash_of(script: bytes) -> bytes:
    """Return what a tapleaf is named by: 32 bytes (BIP-341)."""
    return tagged_hash("TapLeaf", bytes([LEAF_VERSION]) + sized(script))


def output_key(internal_key: bytes, root: bytes) -> bytes:
    """Return `internal_key` (32 bytes, a point) tweaked by a tree's root (32 bytes, or none): 33 bytes (BIP-341)."""
    return curve.add_tweak(b"\x02" + internal_key, tagged_hash("TapTweak", internal_key + root))


def spend_weight(template: Template, threshold: int, key_count: int) -> int:
    """Return the weight that signing adds to an input, at most: scriptSig without its length byte, and witness."""
    if template.is_taproot:  # a signature or an empty item per key, exactly `threshold` signatures
        script_bytes = 34 * key_count + 2
        items = threshold * (1 + SCHNORR_BYTES) + (key_count - threshold)
        return 1 + items + len(compact_size(script_bytes)) + script_bytes + 1 + 33
    script_bytes = 3 + 34 * key_count
    witness = 1 + 1 + threshold * (1 + MAX_ECDSA_BYTES) + len(compact_size(script_bytes)) + script_bytes
    return witness + (4 * 35 if template is Template.SH_WSH else 0)


def _taproot(leaf: bytes) -> SpendScripts:
    """Return the output of NUMS tweaked by one leaf, and the control block that opens it (BIP-341)."""
    root = leaf_hash_of(leaf)  # of one leaf it is the root too
    key = output_key(NUMS, root)
    control_block = bytes([LEAF_VERSION | key[0] & 1]) + NUMS
    return SpendScripts(b"\x51\x20" + key[1:], leaf, control_block=control_block, leaf_hash=root)

"""What a PSBT says of the scripts of one input or output, held against the script that we derived ourselves.

A claim may be absent: nothing rests on it here. One that is there and differs is refused, because another program that
signs or shows this PSBT would believe it.
"""

from __future__ import annotations

from custody.errors import Refused
from custody.psbt import PsbtInput, PsbtOutput
from custody.psbt_fields import (
    IN_REDEEM_SCRIPT,
    IN_TAP_INTERNAL_KEY,
    IN_TAP_LEAF,
    IN_TAP_ROOT,
    IN_WITNESS_SCRIPT,
    OUT_REDEEM_SCRIPT,
    OUT_TAP_INTERNAL_KEY,
    OUT_TAP_TREE,
    OUT_WITNESS_SCRIPT,
)
from custody.reader import sized
from custody.scripts import LEAF_VERSION, NUMS
from custody.wallet import WalletScript

_WITNESS_SCRIPT, _REDEEM_SCRIPT = bytes([IN_WITNESS_SCRIPT]), bytes([IN_REDEEM_SCRIPT])
LEAF_VERSION_BYTE = bytes([LEAF_VERSION])
ONLY_LEAF = b"\x00" + LEAF_VERSION_BYTE  # a tree of one leaf: depth 0 (BIP-371)


def check_input_scripts(found: PsbtInput, ours: WalletScript) -> Refused | None:
    """Return None if every script that `found` claims is that of `ours`, else the code of the first that is not."""
    if found.values.get(_WITNESS_SCRIPT, ours.witness_script) != ours.witness_script:
        return _other("WITNESS_SCRIPT", ours)
    if ours.redeem_script and found.values.get(_REDEEM_SCRIPT, ours.redeem_script) != ours.redeem_script:
        return _other("REDEEM_SCRIPT", ours)
    if not ours.leaf_hash:
        return None
    leaf = (bytes([IN_TAP_LEAF]) + ours.control_block, ours.witness_script + LEAF_VERSION_BYTE)
    if any((field.key, field.value) != leaf for field in found.all(IN_TAP_LEAF)):
        return _other("TAP_LEAF", ours)
    if found.value(IN_TAP_INTERNAL_KEY) not in (None, NUMS):
        return _other("TAP_INTERNAL_KEY", ours)
    return None if found.value(IN_TAP_ROOT) in (None, ours.leaf_hash) else _other("TAP_ROOT", ours)


def check_output_scripts(found: PsbtOutput, ours: WalletScript) -> Refused | None:
    """Return None if every script that `found` claims is that of `ours`, else the code of the first that is not."""
    if found.value(OUT_WITNESS_SCRIPT) not in (None, ours.witness_script):
        return _other("WITNESS_SCRIPT", ours)
    if ours.redeem_script and found.value(OUT_REDEEM_SCRIPT) not in (None, ours.redeem_script):
        return _other("REDEEM_SCRIPT", ours)
    if not ours.leaf_hash:
        return None
    if found.value(OUT_TAP_INTERNAL_KEY) not in (None, NUMS):
        return _other("TAP_INTERNAL_KEY", ours)
    tree = ONLY_LEAF + sized(ours.witness_script)
    return None if found.value(OUT_TAP_TREE) in (None, tree) else _other("TAP_TREE_OTHER", ours)


def _other(code: str, ours: WalletScript) -> Refused:
    return Refused(code, f"what {ours.branch}/{ours.index} of this wallet has", "another")

"""What a well-formed PSBT may hold that others refuse at once: each predicate is the condition of a reviewed row.

Our codec proves shape. Signatures are judged when they are filed, everything else that our wallets do not use is
refused by `read_facts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain

import wallycore

from custody import curve
from custody.psbt import Psbt
from custody.psbt_fields import GLOBAL_MODIFIABLE, GLOBAL_XPUB, Field
from custody.transaction import hash256

_SIGHASH_TYPES = (1, 2, 3, 0x81, 0x82, 0x83)
_FLAGS = 0b111  # BIP-370: inputs, outputs, SIGHASH_SINGLE
_LARGEST_INDEX = 2**30 - 1  # libwally keeps flags of Elements above it
_HASHES: dict[int, Callable[[bytes], bytes]] = {
    0x0A: lambda data: hashlib.new("ripemd160", data).digest(),
    0x0B: lambda data: hashlib.sha256(data).digest(),
    0x0C: lambda data: hashlib.new("ripemd160", hashlib.sha256(data).digest()).digest(),
    0x0D: hash256,
}


def is_version_2(psbt: Psbt) -> bool:
    """Return whether it is of BIP-370."""
    return psbt.version == 2


def odd_flags(psbt: Psbt) -> bool:
    """Return whether it has modifiable flags that BIP-370 does not define."""
    value = psbt.globals.value(GLOBAL_MODIFIABLE)
    return value is not None and value[0] & ~_FLAGS != 0


def odd_version(psbt: Psbt) -> bool:
    """Return whether its transaction has a version that BIP-370 does not let be built; `read_facts` refuses it too."""
    return psbt.version == 2 and psbt.transaction.version < 2


def odd_index(psbt: Psbt) -> bool:
    """Return whether an input names an output that no block has room for."""
    return any(txin.outpoint.vout > _LARGEST_INDEX for txin in psbt.transaction.inputs)


def odd_signature(psbt: Psbt) -> bool:
    """Return whether a partial signature is no DER, or of another sighash type than its input."""
    for said in psbt.inputs:
        for _, signature in said.partial_signatures:
            if signature[-1] not in _SIGHASH_TYPES or said.sighash_type not in (None, 0, signature[-1]):
                return True
            if not _is_der(signature[:-1]):
                return True
    return False


def odd_taproot(psbt: Psbt) -> bool:
    """Return whether an x-only key, a control block or a signature of taproot is not on the curve or not a leaf's."""
    keys: list[bytes] = []
    for field in _inputs(psbt):
        keys += [field.key[1:33]] if field.type in (0x14, 0x16) else []
        keys += [field.key[2:34]] if field.type == 0x15 else []
        keys += [field.value] if field.type == 0x17 else []
        if field.type == 0x15 and field.value[-1] != field.key[1] & 0xFE:
            return True
        if field.type in (0x13, 0x14) and len(field.value) == 65 and field.value[-1] not in _SIGHASH_TYPES:
            return True
    for field in _outputs(psbt):
        keys += [field.key[1:33]] if field.type == 0x07 else []
        keys += [field.value] if field.type == 0x05 else []
    return any(not curve.is_public_key(b"\x02" + key) for key in keys)


def odd_preimage(psbt: Psbt) -> bool:
    """Return whether a preimage does not hash to its key."""
    return any(f.type in _HASHES and _HASHES[f.type](f.value) != f.key[1:] for f in _inputs(psbt))


def odd_xpub(psbt: Psbt) -> bool:
    """Return whether a global extended key is none that libwally reads."""
    return any(f.type == GLOBAL_XPUB and not _is_extended_key(f.key[1:]) for f in psbt.globals.fields)


def empty_part(psbt: Psbt) -> bool:
    """Return whether a field has no value, or an output that is spent no script."""
    if any(said.witness_utxo is not None and not said.witness_utxo.script for said in psbt.inputs):
        return True
    return any(not field.value for field in chain(psbt.globals.fields, _inputs(psbt), _outputs(psbt)))


def _inputs(psbt: Psbt) -> Iterator[Field]:
    return (field for said in psbt.inputs for field in said.fields)


def _outputs(psbt: Psbt) -> Iterator[Field]:
    return (field for said in psbt.outputs for field in said.fields)


def _is_der(signature: bytes) -> bool:
    try:
        wallycore.ec_sig_from_der(signature)
    except ValueError:
        return False
    return True


def _is_extended_key(raw: bytes) -> bool:
    try:
        wallycore.bip32_key_unserialize(raw)
    except ValueError:
        return False
    return True

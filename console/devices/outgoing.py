"""Our PSBT as one signer takes it. What it needs to check us stays in: previous transactions are never left out."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

from console.devices.dialects import Dialect
from custody.base58 import decode_check
from custody.errors import MalformedError
from custody.psbt import Psbt, convert, serialize
from custody.psbt_fields import GLOBAL_XPUB, Field, FieldMap
from custody.signatures import without_signatures
from custody.wallet import Wallet


def prepare(psbt: Psbt, wallet: Wallet, dialect: Dialect) -> bytes:
    """Return what is carried to the signer: the PSBT in its version, with what it looks for, binary or base64.

    Raises:
        MalformedError: DEVICE_TEMPLATE, DEVICE_INPUTS, DEVICE_PSBT_TOO_LARGE, CONVERT_LOSSY.
    """
    # Plan: 1 the wallet's scripts · 2 number of inputs · 3 signatures, version, xpubs · 4 size · 5 text.
    if wallet.template not in dialect.templates:
        raise MalformedError("DEVICE_TEMPLATE", f"{dialect.maker} signs no {wallet.template.form}")
    if dialect.max_inputs and len(psbt.inputs) > dialect.max_inputs:
        raise MalformedError(
            "DEVICE_INPUTS", f"{dialect.maker} takes {dialect.max_inputs} inputs, found {len(psbt.inputs)}"
        )
    found = convert(without_signatures(psbt) if dialect.alone else psbt, dialect.version)
    if dialect.xpubs:
        found = _with_xpubs(found, wallet)
    raw = serialize(found)
    if len(raw) > dialect.max_bytes:
        raise MalformedError(
            "DEVICE_PSBT_TOO_LARGE", f"{dialect.maker} takes {dialect.max_bytes} bytes, found {len(raw)}"
        )
    return b64encode(raw) if dialect.text else raw


def _with_xpubs(psbt: Psbt, wallet: Wallet) -> Psbt:
    """Return `psbt` with the wallet's account keys (BIP-174, PSBT_GLOBAL_XPUB)."""
    added = {bytes([GLOBAL_XPUB]) + decode_check(key.xpub): key.origin for key in wallet.keys}
    fields = (*psbt.globals.fields, *(Field(key, value) for key, value in added.items()))
    return replace(psbt, globals=FieldMap(tuple(sorted(fields, key=lambda field: field.key))))

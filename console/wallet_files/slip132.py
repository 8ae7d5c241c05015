"""Extended keys whose version bytes tell the script (SLIP-132): read where they fit, written for Electrum."""

from __future__ import annotations

from custody.base58 import decode_check, encode_check
from custody.errors import MalformedError
from custody.scripts import Template

_PLAIN = {True: bytes.fromhex("0488b21e"), False: bytes.fromhex("043587cf")}  # xpub, tpub (BIP-32)
_MULTISIG = {
    (Template.WSH, True): bytes.fromhex("02aa7ed3"),  # Zpub
    (Template.WSH, False): bytes.fromhex("02575483"),  # Vpub
    (Template.SH_WSH, True): bytes.fromhex("0295b43f"),  # Ypub
    (Template.SH_WSH, False): bytes.fromhex("024289ef"),  # Upub
}
_FOUND = {version: key for key, version in _MULTISIG.items()}


def to_plain(text: str, template: Template) -> str:
    """Return `text` as an xpub or tpub; what is one already stays as it is.

    Raises:
        MalformedError: WALLET_FILE_SCRIPT for a version that stands for another script than `template`; BASE58 codes.
    """
    raw = decode_check(text)
    found = _FOUND.get(raw[:4])
    if found is None:
        return text
    if found[0] is not template:
        raise MalformedError("WALLET_FILE_SCRIPT", f"expected a key for {template.form}, found one for {found[0].form}")
    return encode_check(_PLAIN[found[1]] + raw[4:])


def to_multisig(xpub: str, template: Template) -> str:
    """Return `xpub` with the version of `template`. Raises MalformedError WALLET_FILE_TEMPLATE: taproot has none."""
    raw = decode_check(xpub)
    version = _MULTISIG.get((template, raw[:4] == _PLAIN[True]))
    if version is None:
        raise MalformedError("WALLET_FILE_TEMPLATE", "expected wsh(sortedmulti) or sh(wsh(sortedmulti))")
    return encode_check(version + raw[4:])

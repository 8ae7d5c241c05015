"""The multisig file that Coldcard began and most QR signers read: policy, format, one line per key."""

from __future__ import annotations

import re

from console.wallet_files.named import MAX_NAME_CHARS, UNNAMED, NamedWallet, path_text, wallet_of_keys
from console.wallet_files.slip132 import to_plain
from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import KeyOrigin, Network, parse_key

MAX_COLDCARD_NAME_CHARS = 20  # its own limit
_FORMATS = {"P2WSH": Template.WSH, "P2SH-P2WSH": Template.SH_WSH, "P2WSH-P2SH": Template.SH_WSH}
_POLICY = re.compile(r"([1-9][0-9]?) *(?:of|/) *([1-9][0-9]?)")
_PATH = re.compile(r"m((?:/(?:0|[1-9][0-9]{0,9})['hH]?)*)")
_KEY = re.compile(r"[0-9a-fA-F]{8}")


def write(named: NamedWallet) -> str:
    """Return the file. Raises MalformedError WALLET_FILE_TEMPLATE for a taproot wallet, which it has no word for."""
    wallet = named.wallet
    form = {template: name for name, template in reversed(_FORMATS.items())}.get(wallet.template)
    if form is None:
        raise MalformedError("WALLET_FILE_TEMPLATE", "expected wsh(sortedmulti) or sh(wsh(sortedmulti))")
    name = "".join(char for char in named.name if char.isascii() and char.isprintable())[:MAX_COLDCARD_NAME_CHARS]
    lines = [f"Name: {name or UNNAMED}", f"Policy: {wallet.threshold} of {len(wallet.keys)}", f"Format: {form}"]
    for key in wallet.keys:
        lines += ["", f"Derivation: {path_text(key)}", f"{key.fingerprint.hex().upper()}: {key.xpub}"]
    return "\n".join(lines) + "\n"


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet; its keys stand in the order of the file.

    Raises:
        MalformedError: WALLET_FILE_LINE, WALLET_FILE_DERIVATION, WALLET_FILE_POLICY, WALLET_FILE_TEMPLATE, or a code of
            `parse_wallet`.
    """
    name, threshold, count, template, path = UNNAMED, 0, 0, Template.WSH, ""
    keys: list[KeyOrigin] = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        label, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            raise MalformedError("WALLET_FILE_LINE", "expected `name: value` on each line")
        match label.lower():
            case "name":
                name = value[:MAX_NAME_CHARS] or UNNAMED
            case "policy":
                threshold, count = _read_policy(value)
            case "format":
                template = _read_format(value)
            case "derivation":
                path = _read_path(value)
            case _:
                keys.append(_read_key(label, path, value, network, template))
    if len(keys) != count:
        raise MalformedError("WALLET_FILE_POLICY", f"expected {count} keys as the policy says, found {len(keys)}")
    return NamedWallet(name, wallet_of_keys(threshold, keys, network, template))


def _read_policy(value: str) -> tuple[int, int]:
    found = _POLICY.fullmatch(value.lower())
    if found is None or int(found[1]) > int(found[2]):
        raise MalformedError("WALLET_FILE_POLICY", "expected `M of N`")
    return int(found[1]), int(found[2])


def _read_format(value: str) -> Template:
    if value.upper() not in _FORMATS:
        raise MalformedError("WALLET_FILE_TEMPLATE", f"expected one of {', '.join(_FORMATS)}")
    return _FORMATS[value.upper()]


def _read_path(value: str) -> str:
    found = _PATH.fullmatch(value)
    if found is None:
        raise MalformedError("WALLET_FILE_DERIVATION", "expected a path as m/48'/0'/0'/2'")
    return found[1].replace("'", "h").replace("H", "h")


def _read_key(label: str, path: str, value: str, network: Network, template: Template) -> KeyOrigin:
    if _KEY.fullmatch(label) is None:
        raise MalformedError("WALLET_FILE_LINE", "expected Name, Policy, Format, Derivation or a fingerprint")
    if not path:
        raise MalformedError("WALLET_FILE_DERIVATION", "expected the derivation of each key in front of it")
    return parse_key(f"[{label.lower()}{path}]{to_plain(value, template)}", network)

"""Electrum's wallet file, watching only: one keystore per cosigner, the script told by the keys' version bytes."""

from __future__ import annotations

import json
import re
from typing import Any

from console.wallet_files.named import UNNAMED, NamedWallet, load_json, path_text, text_field, wallet_of_keys
from console.wallet_files.slip132 import to_multisig, to_plain
from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import KeyOrigin, Network, parse_key

SEED_VERSION = 50  # of files written by Electrum 4.3; later versions upgrade them on opening
_KIND = re.compile(r"([1-9][0-9]?)of([1-9][0-9]?)")


def write(named: NamedWallet) -> str:
    """Return the file. Raises MalformedError WALLET_FILE_TEMPLATE for a taproot wallet, which it cannot hold."""
    wallet = named.wallet
    keystores = {
        f"x{at}/": {
            "type": "bip32",
            "pw_hash_version": 1,
            "derivation": path_text(key),
            "root_fingerprint": key.fingerprint.hex(),
            "xpub": to_multisig(key.xpub, wallet.template),
            "xprv": None,
        }
        for at, key in enumerate(wallet.keys, 1)
    }
    kind = f"{wallet.threshold}of{len(wallet.keys)}"
    found = {"seed_version": SEED_VERSION, "wallet_type": kind, "use_encryption": False, **keystores}
    return json.dumps(found, indent=2) + "\n"


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet of an unencrypted file without private keys.

    Raises:
        MalformedError: WALLET_FILE_JSON, WALLET_FILE_FIELD, WALLET_FILE_POLICY, WALLET_FILE_SECRET, or a code of
            `parse_wallet`.
    """
    found = load_json(text)
    kind = _KIND.fullmatch(text_field(found, "wallet_type"))
    if kind is None:
        raise MalformedError("WALLET_FILE_POLICY", "expected the wallet_type of a multisig wallet, as 2of3")
    threshold, count = int(kind[1]), int(kind[2])
    keystores = [found.get(f"x{at}/") for at in range(1, count + 1)]
    if threshold > count or not all(isinstance(one, dict) for one in keystores):
        raise MalformedError("WALLET_FILE_POLICY", f"expected the {count} keystores that {kind[0]} stands for")
    template = _template_of(keystores)
    keys = [_read_key(one, network, template) for one in keystores if isinstance(one, dict)]
    return NamedWallet(UNNAMED, wallet_of_keys(threshold, keys, network, template))


def _template_of(keystores: list[Any]) -> Template:
    """Return the script that the first key's version stands for; each key is held to it when it is read."""
    first = text_field(keystores[0], "xpub")
    for template in (Template.WSH, Template.SH_WSH):
        if first[:1] in {Template.WSH: "ZV", Template.SH_WSH: "YU"}[template]:
            return template
    raise MalformedError("WALLET_FILE_SCRIPT", "expected Zpub, Vpub, Ypub or Upub keys: a segwit multisig wallet")


def _read_key(one: dict[str, Any], network: Network, template: Template) -> KeyOrigin:
    if any(one.get(name) for name in ("xprv", "seed", "passphrase")):
        raise MalformedError("WALLET_FILE_SECRET", "expected public keys only; this file holds a private key or a seed")
    path = text_field(one, "derivation").removeprefix("m")
    xpub = to_plain(text_field(one, "xpub"), template)
    return parse_key(f"[{text_field(one, 'root_fingerprint').lower()}{path}]{xpub}", network)

"""Caravan's wallet configuration: quorum, address type, one object per key."""

from __future__ import annotations

import json
from typing import Any

from console.wallet_files.named import NamedWallet, load_json, name_field, path_text, text_field, wallet_of_keys
from console.wallet_files.slip132 import to_plain
from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import KeyOrigin, Network, parse_key

_TYPES = {"P2WSH": Template.WSH, "P2SH-P2WSH": Template.SH_WSH}
_NETWORKS = {  # it has one word for both test networks
    Network.MAINNET: "mainnet",
    Network.TESTNET4: "testnet",
    Network.SIGNET: "signet",
    Network.REGTEST: "regtest",
}


def write(named: NamedWallet) -> str:
    """Return the file. Raises MalformedError WALLET_FILE_TEMPLATE for a taproot wallet."""
    wallet = named.wallet
    kind = next((name for name, template in _TYPES.items() if template is wallet.template), None)
    if kind is None:
        raise MalformedError("WALLET_FILE_TEMPLATE", "expected wsh(sortedmulti) or sh(wsh(sortedmulti))")
    found = {
        "name": named.name,
        "addressType": kind,
        "network": _NETWORKS[wallet.network],
        "client": {"type": "public"},
        "quorum": {"requiredSigners": wallet.threshold, "totalSigners": len(wallet.keys)},
        "extendedPublicKeys": [
            {
                "name": f"key {at}",
                "bip32Path": path_text(key),
                "xpub": key.xpub,
                "xfp": key.fingerprint.hex(),
                "method": "text",
            }
            for at, key in enumerate(wallet.keys, 1)
        ],
        "startingAddressIndex": 0,
    }
    return json.dumps(found, indent=2) + "\n"


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet.

    Raises:
        MalformedError: WALLET_FILE_JSON, WALLET_FILE_FIELD, WALLET_FILE_TEMPLATE, WALLET_FILE_NETWORK,
            WALLET_FILE_POLICY, or a code of `parse_wallet`.
    """
    found = load_json(text)
    template = _TYPES.get(text_field(found, "addressType"))
    if template is None:
        raise MalformedError("WALLET_FILE_TEMPLATE", f"expected one of {', '.join(_TYPES)}")
    if text_field(found, "network") != _NETWORKS[network]:
        raise MalformedError("WALLET_FILE_NETWORK", f"expected {_NETWORKS[network]}")
    quorum, listed = found.get("quorum"), found.get("extendedPublicKeys")
    if not isinstance(quorum, dict) or not isinstance(listed, list):
        raise MalformedError("WALLET_FILE_FIELD", "expected quorum and extendedPublicKeys")
    keys = [_read_key(one, network, template) for one in listed]
    threshold, total = quorum.get("requiredSigners"), quorum.get("totalSigners")
    if type(threshold) is not int or not 1 <= threshold <= len(keys) or total != len(keys):
        raise MalformedError("WALLET_FILE_POLICY", f"expected a quorum of the {len(keys)} keys that are listed")
    return NamedWallet(name_field(found, "name"), wallet_of_keys(threshold, keys, network, template))


def _read_key(one: Any, network: Network, template: Template) -> KeyOrigin:
    if not isinstance(one, dict):
        raise MalformedError("WALLET_FILE_FIELD", "expected an object for each key")
    path = text_field(one, "bip32Path").removeprefix("m")
    return parse_key(f"[{text_field(one, 'xfp').lower()}{path}]{to_plain(text_field(one, 'xpub'), template)}", network)

"""Specter Desktop's wallet file: the receiving descriptor in JSON, and a name for each device."""

from __future__ import annotations

import json

from console.wallet_files.named import (
    NamedWallet,
    branch_descriptor,
    load_json,
    name_field,
    text_field,
    wallet_of_descriptor,
)
from custody.wallet import RECEIVE, Network


def write(named: NamedWallet) -> str:
    """Return the file. blockheight 0: whoever imports it wants the history too."""
    devices = [{"type": "other", "label": f"key {key.fingerprint.hex()}"} for key in named.wallet.keys]
    found = {
        "label": named.name,
        "blockheight": 0,
        "descriptor": branch_descriptor(named.wallet, RECEIVE),
        "devices": devices,
    }
    return json.dumps(found, indent=2) + "\n"


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet. Raises MalformedError WALLET_FILE_JSON, WALLET_FILE_FIELD, or a code of `parse_wallet`."""
    found = load_json(text)
    return NamedWallet(name_field(found, "label"), wallet_of_descriptor(text_field(found, "descriptor"), network))

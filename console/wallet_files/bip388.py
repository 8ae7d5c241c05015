"""A wallet policy and its keys as one JSON object, the way policy signers' own programs keep it (BIP-388)."""

from __future__ import annotations

import json

from console.wallet_files.named import NamedWallet, load_json, name_field, text_field
from custody.errors import MalformedError
from custody.wallet import Network
from custody.wallet_policy import WalletPolicy, from_policy, to_policy


def write(named: NamedWallet) -> str:
    """Return name, template and keys. Raises MalformedError POLICY_TEMPLATE for a taproot wallet."""
    policy = to_policy(named.wallet)
    found = {"name": named.name, "description_template": policy.template, "keys_info": list(policy.keys)}
    return json.dumps(found, indent=2) + "\n"


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet. Raises MalformedError WALLET_FILE_JSON, WALLET_FILE_FIELD, or a code of `from_policy`."""
    found = load_json(text)
    keys = found.get("keys_info")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise MalformedError("WALLET_FILE_FIELD", "expected a list of keys in keys_info")
    policy = WalletPolicy(text_field(found, "description_template"), tuple(keys))
    return NamedWallet(name_field(found, "name"), from_policy(policy, network))

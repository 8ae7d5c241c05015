"""What every wallet file says: a name and a wallet, whose descriptor others write in ways of their own."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import CHANGE, RECEIVE, KeyOrigin, Network, Wallet, descriptor_checksum, make_wallet, parse_wallet

MAX_NAME_CHARS = 64  # what a screen shows on one line
UNNAMED = "imported"
_BRANCHES = re.compile(r"/(?:\*\*|<0;1>/\*|\{0,1\}/\*|0/\*)(?=[,)])")  # BIP-389, BIP-129, Specter, receive alone


@dataclass(frozen=True, slots=True)
class NamedWallet:
    """A wallet and how its owner calls it; the name has no weight in any check."""

    name: str
    wallet: Wallet


def wallet_of_descriptor(text: str, network: Network) -> Wallet:
    """Return the wallet of a descriptor that names both branches, or the receiving one alone.

    A checksum that is there must be right; the descriptor of the wallet has its own.

    Raises:
        MalformedError: as `custody.wallet.parse_wallet`.
    """
    body, _, checksum = text.strip().partition("#")
    if checksum and checksum != descriptor_checksum(body):
        raise MalformedError("DESCRIPTOR_CHECKSUM", "expected the BIP-380 checksum of this descriptor")
    both = _BRANCHES.sub("/<0;1>/*", body)
    return parse_wallet(f"{both}#{descriptor_checksum(both)}", network)


def branch_descriptor(wallet: Wallet, branch: int) -> str:
    """Return the descriptor of one branch with its checksum, for programs that know no BIP-389."""
    body = wallet.descriptor.partition("#")[0].replace("/<0;1>/*", f"/{branch}/*")
    return f"{body}#{descriptor_checksum(body)}"


def branch_of(text: str, wallet: Wallet) -> int | None:
    """Return which branch of `wallet` the descriptor `text` is, with or without checksum, or None."""
    body = text.strip().partition("#")[0].replace("'", "h")
    for branch in (RECEIVE, CHANGE):
        if body == branch_descriptor(wallet, branch).partition("#")[0]:
            return branch
    return None


def wallet_of_keys(threshold: int, keys: list[KeyOrigin], network: Network, template: Template) -> Wallet:
    """Return the wallet of these keys, proven as every other one. Raises as `custody.wallet.parse_wallet`."""
    return parse_wallet(make_wallet(threshold, tuple(keys), network, template).descriptor, network)


def load_json(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`. Raises MalformedError WALLET_FILE_JSON."""
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedError("WALLET_FILE_JSON", "expected JSON without duplicate keys") from error
    if not isinstance(found, dict):
        raise MalformedError("WALLET_FILE_JSON", "expected one JSON object")
    return found


def text_field(found: dict[str, Any], name: str) -> str:
    """Return a text of a JSON object. Raises MalformedError WALLET_FILE_FIELD."""
    value = found.get(name)
    if not isinstance(value, str):
        raise MalformedError("WALLET_FILE_FIELD", f"expected text in {name}")
    return value


def name_field(found: dict[str, Any], name: str) -> str:
    """Return the name that a file gives its wallet, cut to what is shown, or UNNAMED."""
    value = found.get(name)
    return value[:MAX_NAME_CHARS] if isinstance(value, str) and value else UNNAMED


def path_text(key: KeyOrigin, mark: str = "'") -> str:
    """Return the path of a key as `m/48'/0'/0'/2'`."""
    return "m" + "".join(f"/{step - 2**31}{mark}" if step >= 2**31 else f"/{step}" for step in key.path)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found

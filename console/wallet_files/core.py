"""What Bitcoin Core's `importdescriptors` takes: one descriptor per branch."""

from __future__ import annotations

import json

from console.wallet_files.named import UNNAMED, NamedWallet, branch_descriptor, branch_of, wallet_of_descriptor
from custody.errors import MalformedError
from custody.wallet import CHANGE, RECEIVE, Network

LOOK_AHEAD = 1_000  # Core's own keypool


def write(named: NamedWallet) -> str:
    """Return the two requests. timestamp 0: whoever imports them wants the history too."""
    requests = [
        {
            "desc": branch_descriptor(named.wallet, branch),
            "active": True,
            "internal": branch == CHANGE,
            "range": [0, LOOK_AHEAD - 1],
            "timestamp": 0,
        }
        for branch in (RECEIVE, CHANGE)
    ]
    return json.dumps(requests, indent=2) + "\n"


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet of two requests, or of one whose descriptor names both branches.

    Raises:
        MalformedError: WALLET_FILE_JSON, WALLET_FILE_SEVERAL, or a code of `parse_wallet`.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError("WALLET_FILE_JSON", "expected JSON") from error
    requests = [one for one in found if isinstance(one, dict) and isinstance(one.get("desc"), str)]
    if not requests or len(requests) != len(found):
        raise MalformedError("WALLET_FILE_JSON", "expected a list of requests, each with a desc")
    receiving = [one["desc"] for one in requests if not one.get("internal")]
    wallet = wallet_of_descriptor(receiving[0] if receiving else "", network)
    branches = {branch_of(one["desc"], wallet) for one in requests} - {None}
    if len(requests) > 1 and (len(requests), branches) != (2, {RECEIVE, CHANGE}):
        raise MalformedError("WALLET_FILE_SEVERAL", "expected the two branches of one wallet")
    return NamedWallet(UNNAMED, wallet)

"""What nodes call a transaction that they do not take, in our codes; one list for every kind of server."""

from __future__ import annotations

from custody.errors import Refused

# first match wins: the words of Bitcoin Core's validation.cpp and of servers that pass them on
_WORDS = (
    ("txn-already-in-mempool", ""),
    ("txn-already-known", ""),
    ("already in utxo set", ""),
    ("already in block chain", ""),
    ("missingorspent", "TX_INPUT_MISSING"),
    ("missing inputs", "TX_INPUT_MISSING"),
    ("txn-mempool-conflict", "TX_CONFLICT"),
    ("bad-txns-spends-conflicting-tx", "TX_CONFLICT"),
    ("insufficient fee", "TX_REPLACEMENT_FEE"),
    ("too many potential replacements", "TX_CONFLICT"),
    ("premature-spend-of-coinbase", "TX_IMMATURE"),
    ("non-final", "TX_NOT_FINAL"),
    ("non-bip68-final", "TX_NOT_FINAL"),
    ("dust", "TX_DUST"),
    ("min relay fee not met", "TX_FEE_RATE"),
    ("mempool min fee not met", "TX_FEE_RATE"),
    ("max-fee-exceeded", "TX_FEE_EXCESSIVE"),
    ("too-long-mempool-chain", "TX_CHAIN_TOO_LONG"),
    ("script-verify-flag-failed", "TX_CONSENSUS"),
)
MAX_SHOWN_CHARS = 200


def rejection(words: str) -> Refused | None:
    """Return what a server's refusal means, None where it says that the transaction is there already."""
    lower = words.lower()
    for known, code in _WORDS:
        if known in lower:
            return Refused(code, "a transaction that the network takes", words[:MAX_SHOWN_CHARS]) if code else None
    own = next((word for word in words.replace(":", " ").split() if word.startswith("TX_")), "TX_REJECTED")
    return Refused(own, "a transaction that the network takes", words[:MAX_SHOWN_CHARS])

"""A wallet as hardware signers register it: a template with placeholders and the list of its keys (BIP-388).

`wsh(sortedmulti(2,@0/**,@1/**,@2/**))` and `sh(wsh(...))` are read and written. A taproot wallet of ours has no such
form: its internal key belongs to nobody, and a policy may hold nothing but placeholders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import MAX_KEYS, Network, Wallet, descriptor_checksum, parse_wallet

MAX_TEMPLATE_CHARS = 512  # 15 placeholders in their long form are about 200
_WRITTEN = (Template.WSH, Template.SH_WSH)
_PATHS = ("/**", "/<0;1>/*")  # one meaning, two spellings
_PLACEHOLDER = re.compile(r"@([0-9]{1,9})([^,(){}@]*)")
_FORMS = tuple(re.compile(re.escape(one.fill("#")).replace(r"\#", "([1-9][0-9]?)((?:,@)+)")) for one in _WRITTEN)


@dataclass(frozen=True, slots=True)
class WalletPolicy:
    """A policy. template: with `@0/**`, `@1/**`, ... for the keys.  keys: `[fingerprint/path]xpub`, in that order."""

    template: str
    keys: tuple[str, ...]


def to_policy(wallet: Wallet) -> WalletPolicy:
    """Return the policy of `wallet`. Raises MalformedError POLICY_TEMPLATE for a taproot wallet."""
    if wallet.template not in _WRITTEN:
        raise MalformedError("POLICY_TEMPLATE", "expected a wallet in which every key has an owner")
    placeholders = ",".join(f"@{at}/**" for at in range(len(wallet.keys)))
    template = wallet.template.fill(f"{wallet.threshold},{placeholders}")
    return WalletPolicy(
        template, tuple(key.expression.replace("h", "'", _steps(key.expression)) for key in wallet.keys)
    )


def from_policy(policy: WalletPolicy, network: Network) -> Wallet:
    """Return the wallet that `policy` describes.

    Raises:
        MalformedError: POLICY_TOO_LONG, POLICY_PLACEHOLDER, POLICY_ORDER, POLICY_TEMPLATE, POLICY_KEYS, or of a key as
            `parse_wallet`.
    """
    # Plan: 1 size · 2 each placeholder's path · 3 @0, @1, ... once each in order · 4 the template · 5 the keys.
    if len(policy.template) > MAX_TEMPLATE_CHARS or len(policy.keys) > MAX_KEYS:
        raise MalformedError("POLICY_TOO_LONG", f"expected {MAX_TEMPLATE_CHARS} characters and {MAX_KEYS} keys at most")
    placeholders = _PLACEHOLDER.findall(policy.template)
    if any(path not in _PATHS for _, path in placeholders):
        raise MalformedError("POLICY_PLACEHOLDER", "expected /** or /<0;1>/* behind each placeholder")
    if [number for number, _ in placeholders] != [str(at) for at in range(len(placeholders))]:
        raise MalformedError("POLICY_ORDER", "expected @0, @1, ... once each, in this order")
    bare = _PLACEHOLDER.sub("@", policy.template)
    found = next((form.fullmatch(bare) for form in _FORMS if form.fullmatch(bare)), None)
    if found is None:
        raise MalformedError("POLICY_TEMPLATE", f"expected {' or '.join(one.fill('m,@0/**,...') for one in _WRITTEN)}")
    if len(policy.keys) != len(placeholders):
        raise MalformedError("POLICY_KEYS", f"expected {len(placeholders)} keys, found {len(policy.keys)}")
    if any("/<" in key or "," in key for key in policy.keys):
        raise MalformedError("POLICY_KEYS", "expected [fingerprint/path]xpub without a path behind it")
    listed = iter(policy.keys)
    body = re.sub("@", lambda _: f"{next(listed)}/<0;1>/*", bare)
    return parse_wallet(f"{body}#{descriptor_checksum(body)}", network)


def _steps(expression: str) -> int:
    """Return how many hardened steps stand in front of the xpub, whose characters may hold an h as well."""
    return expression.partition("]")[0].count("h")

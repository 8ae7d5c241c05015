"""Pin what our code says to the official vectors, and count it in docs/vectors.md.

`.venv/bin/python -m tests.vectors_doc` writes tests/vectors/outcomes.json and the document anew, for a reviewer to
read; tests/unit/test_official.py holds both to the code. A pin excuses nothing: see `wrong`.
"""

from __future__ import annotations

import json
from collections import Counter

from tests.official import MUST_BE_REFUSED, OK, ROOT, VECTORS, WRONG, outcomes

PINNED = VECTORS / "outcomes.json"
DOCUMENT = ROOT / "docs" / "vectors.md"

# Why a vector that is valid for its authors is refused by us, per set. No other set may refuse a valid one.
REASONS = {
    "BIP-129": "a wallet's keys have children, and its script sorts them: no bare public keys, no multi",
    "BIP-143": "signatures of SIGHASH_NONE, SINGLE and ANYONECANPAY are never made: they leave open who is paid",
    "BIP-173": "later witness versions under the old checksum, which BIP-350 forbids",
    "BIP-174": "without inputs it cannot be told from a transaction with a witness",
    "BIP-340": "digests of ours have 32 bytes; messages of other lengths are never signed",
    "BIP-370": "a locktime that cannot be determined, as the list itself says",
    "BIP-373": "MuSig2 is not supported",
    "BIP-380": "an account key has its whole origin, is public and of depth as its path says",
    "BIP-381": "wallets are the four templates of m-of-n account keys; nothing else is derived",
    "BIP-382": "as BIP-381",
    "BIP-383": "as BIP-381",
    "BIP-384": "as BIP-381",
    "BIP-385": "as BIP-381",
    "BIP-386": "as BIP-381; a key path somebody can sign for is no m-of-n",
    "BIP-387": "as BIP-381; the internal key must be the point that nobody has the secret of",
    "BIP-388": "as BIP-381",
    "BIP-389": "as BIP-381; the two branches are <0;1>",
    "BIP-390": "as BIP-381; MuSig2 is not supported",
    "Core rpc_psbt": "MuSig2 is not supported; without inputs as BIP-174; a version 0 with version 2 fields",
    "Core key_io": "private keys are no address",
    "Core tx, bytes": "no outputs, or more money than there is",
    "Core tx": "the script check of libbitcoinkernel has no flag for the rule that the vector is about",
}


def wrong(found: dict[str, list[str]]) -> list[str]:
    """Return the lists that say what no list may: a broken vector taken, a valid one misread or refused unexplained."""
    bad = []
    for name, said_of in found.items():
        group, _, part = name.rpartition(", ")
        refused = set(said_of) - {OK}
        if part in MUST_BE_REFUSED and group != "Core tx, bytes":
            bad += [name] if OK in said_of or WRONG in said_of else []
        elif WRONG in refused or (refused and group not in REASONS):
            bad.append(name)
    return bad


def document(found: dict[str, list[str]]) -> str:
    """Return docs/vectors.md for these outcomes."""
    total = sum(map(len, found.values()))
    lines = [HEAD.format(total=total, lists=len(found), as_asked=sum(map(as_asked, found, found.values())))]
    for name, said_of in found.items():
        group, _, part = name.rpartition(", ")
        codes = ", ".join(f"{code} {count}" for code, count in sorted(Counter(said_of).items()) if code != OK)
        lines.append(f"| {group} | {part} | {len(said_of)} | {as_asked(name, said_of)} | {codes} |")
    lines += ["", "## Why a valid vector is refused", ""]
    lines += [f"- {group}: {reason}." for group, reason in REASONS.items()]
    return "\n".join([*lines, ""])


def as_asked(name: str, said_of: list[str]) -> int:
    """Return for how many vectors of a list we do what it asks: take the valid ones, refuse the others."""
    taken = said_of.count(OK)
    if name.rpartition(", ")[2] not in MUST_BE_REFUSED or name.startswith("Core tx, bytes"):
        return taken + said_of.count("LOCKTIME_CONFLICT")  # of BIP-370: the locktime that cannot be determined
    return len(said_of) - taken - said_of.count("NO_KERNEL_FLAG")


HEAD = """# Official test vectors

What Keyturn's code says to the official vectors, {total} in {lists} lists: {as_asked} as they ask. The files are in
`tests/vectors/`, each folder's README names its source. Which outcome each single vector has is pinned in
`tests/vectors/outcomes.json`; `tests/unit/test_official.py` runs them all and holds this page to it. After a change:
`.venv/bin/python -m tests.vectors_doc`, and read the difference.

"As asked" counts valid vectors that are taken exactly (for a PSBT or a transaction: written back byte for byte) and
broken ones that are refused. "Refused by code" lists every refusal: in a list of broken vectors it is what is asked, in
one of valid vectors it is on purpose, for the reason below. Descriptors without a checksum get theirs first, so
that it is not what they are refused for. The 518 vectors of RFC 6962, of which 196 concern us, are tested in
`tests/unit/test_audit_tree.py`, the sighashes of BIP-341 in `tests/unit/test_scripts.py`.

| set | list | vectors | as asked | refused by code |
|---|---|---|---|---|"""


if __name__ == "__main__":
    now = outcomes()
    PINNED.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(document(now), encoding="utf-8")

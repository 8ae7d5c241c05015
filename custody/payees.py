"""Which scripts a payment may go to, and how much at least: kinds that have an owner today, amounts that travel.

Left out on purpose: data outputs, bare scripts, pay-to-anchor and witness versions of the future, which anybody can
spend until a soft fork says otherwise. An address may spell them; no signer pays to them.
"""

from __future__ import annotations

P2PKH, P2SH, P2WPKH, P2WSH, P2TR = "p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr"
# Dust by kind: 3 sat per byte of the output and of what spends it (GetDustThreshold in Bitcoin Core's policy.cpp).
LEAST_SATS = {P2PKH: 546, P2SH: 540, P2WPKH: 294, P2WSH: 330, P2TR: 330}


def kind_of(script: bytes) -> str | None:
    """Return the kind of a scriptPubKey that may be paid to, or None."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return P2PKH
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return P2SH
    return {(22, b"\x00\x14"): P2WPKH, (34, b"\x00\x20"): P2WSH, (34, b"\x51\x20"): P2TR}.get((len(script), script[:2]))

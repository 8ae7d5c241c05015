"""What each maker's signer takes: PSBT version, size, script forms, extra fields, text or binary, kind of QR code.

The figures are the makers' own (their documentation, autumn 2026), but for what our tests run: `run` says which. Where
a maker names no limit, ours stands. A figure that turns out wrong costs a refusal here or there, never money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from custody.errors import MalformedError
from custody.psbt_fields import MAX_PSBT_BYTES
from custody.scripts import Template

SEGWIT = frozenset((Template.WSH, Template.SH_WSH))
KIB = 1_024


class Qr(Enum):
    """How a signer's camera takes long messages."""

    BBQR = "bbqr"
    UR = "ur"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One signer.

    version: of the PSBT (0: BIP-174, 2: BIP-370).  max_bytes: of the binary PSBT.  max_inputs: 0 where none is named.
    xpubs: whether it finds the wallet by PSBT_GLOBAL_XPUB.  alone: whether signatures of others are left out, because
    it would finalise and drop what it was given.  text: base64 instead of binary.  run: by which test, or "".
    """

    maker: str
    version: int = 0
    max_bytes: int = MAX_PSBT_BYTES
    max_inputs: int = 0
    templates: frozenset[Template] = SEGWIT
    xpubs: bool = False
    alone: bool = False
    text: bool = False
    qr: tuple[Qr, ...] = (Qr.NONE,)
    run: str = ""


DIALECTS: Mapping[str, Dialect] = {
    "coldcard": Dialect("Coldcard Mk4, Q", xpubs=True, qr=(Qr.BBQR,)),
    "coldcard-mk3": Dialect("Coldcard Mk3", max_bytes=384 * KIB, max_inputs=20, xpubs=True),
    "jade": Dialect("Blockstream Jade", max_bytes=400 * KIB, qr=(Qr.UR, Qr.BBQR)),
    "seedsigner": Dialect("SeedSigner", max_bytes=256 * KIB, text=True, qr=(Qr.UR,)),
    "passport": Dialect("Foundation Passport", max_bytes=384 * KIB, qr=(Qr.UR,)),
    "krux": Dialect("Krux", max_bytes=128 * KIB, qr=(Qr.BBQR, Qr.UR)),
    "specter-diy": Dialect("Specter-DIY", max_bytes=256 * KIB, text=True, qr=(Qr.UR,)),
    "ledger": Dialect("Ledger, by HWI", xpubs=True, text=True),
    "trezor": Dialect("Trezor, by HWI", xpubs=True, text=True),
    "sparrow": Dialect("Sparrow", qr=(Qr.BBQR, Qr.UR)),
    "electrum": Dialect("Electrum", text=True, alone=True, run="tests/interop/test_electrum.py"),
    "nunchuk": Dialect("Nunchuk", qr=(Qr.UR, Qr.BBQR)),
    "core": Dialect("Bitcoin Core", text=True, templates=frozenset(Template)),
    "bdk": Dialect(
        "bdk", templates=frozenset((*SEGWIT, Template.TR)), run="tests/interop/test_third_party_cosigners.py"
    ),
    "libwally": Dialect("libwally", version=2, run="tests/interop/test_third_party_cosigners.py"),
    "embit": Dialect(
        "embit", version=2, templates=frozenset(Template), run="tests/interop/test_third_party_cosigners.py"
    ),
}


def dialect_named(name: str) -> Dialect:
    """Return one dialect. Raises MalformedError DEVICE_UNKNOWN."""
    if name not in DIALECTS:
        raise MalformedError("DEVICE_UNKNOWN", f"expected one of {', '.join(DIALECTS)}")
    return DIALECTS[name]

"""Wallets as other programs write them down: each format out, and whichever of them it is back in.

Nothing private is in these files, and a file that holds something private is refused without being echoed. Whoever
reads one still compares: `keyturn wallet import` says whether it is a wallet of the pinned genesis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from console.wallet_files import bip388, bsms, caravan, coldcard, core, descriptors, electrum, specter
from console.wallet_files.named import NamedWallet, load_json
from custody.errors import MalformedError
from custody.pasted import find_secret
from custody.wallet import Network

MAX_WALLET_FILE_BYTES = 64 * 1024  # 15 keys in the longest format are about 8 KiB
Writer = Callable[[NamedWallet], str]
Reader = Callable[[str, Network], NamedWallet]


@dataclass(frozen=True, slots=True)
class WalletFormat:
    """One format. suffix: of its files.  for_: the programs that take it."""

    suffix: str
    for_: str
    write: Writer
    read: Reader


FORMATS: Mapping[str, WalletFormat] = {
    "descriptor": WalletFormat(
        ".txt", "whatever reads descriptors (BIP-380, 389)", descriptors.write, descriptors.read
    ),
    "sparrow": WalletFormat(".txt", "Sparrow", descriptors.write_sparrow, descriptors.read),
    "core": WalletFormat(".json", "Bitcoin Core, importdescriptors", core.write, core.read),
    "bip388": WalletFormat(
        ".json", "signers that register a wallet policy: Ledger, Jade, BitBox", bip388.write, bip388.read
    ),
    "bsms": WalletFormat(".bsms", "Nunchuk, Coldcard and whatever speaks BSMS (BIP-129)", bsms.write, bsms.read),
    "coldcard": WalletFormat(".txt", "Coldcard, Passport, SeedSigner, Krux, Keystone", coldcard.write, coldcard.read),
    "specter": WalletFormat(".json", "Specter Desktop and Specter-DIY", specter.write, specter.read),
    "caravan": WalletFormat(".json", "Caravan", caravan.write, caravan.read),
    "electrum": WalletFormat(".json", "Electrum, watching only", electrum.write, electrum.read),
}
ALIASES: Mapping[str, str] = {"nunchuk": "bsms"}  # Nunchuk exports and recovers wallets as BSMS
_JSON_MARKS = {"quorum": "caravan", "wallet_type": "electrum", "keys_info": "bip388", "descriptor": "specter"}


def format_named(name: str) -> WalletFormat:
    """Return one format. Raises MalformedError WALLET_FORMAT."""
    found = FORMATS.get(ALIASES.get(name, name))
    if found is None:
        known = ", ".join([*FORMATS, *ALIASES])
        raise MalformedError("WALLET_FORMAT", f"expected one of {known}")
    return found


def read_wallet_file(raw: bytes, network: Network) -> tuple[str, NamedWallet]:
    """Return which format `raw` has, and the wallet in it.

    Raises:
        MalformedError: WALLET_FILE_TEXT, WALLET_FILE_SECRET, WALLET_FILE_KIND, what the format's reader says, or a code
            of `custody.wallet.parse_wallet`.
    """
    # Plan: 1 text of a sane size · 2 nothing private · 3 which format · 4 its reader, which proves the wallet.
    if len(raw) > MAX_WALLET_FILE_BYTES:
        raise MalformedError("WALLET_FILE_TEXT", f"expected at most {MAX_WALLET_FILE_BYTES} bytes")
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")  # some write files as Windows does
    except UnicodeDecodeError as error:
        raise MalformedError("WALLET_FILE_TEXT", "expected UTF-8 text") from error
    if find_secret([text]) is not None:
        raise MalformedError("WALLET_FILE_SECRET", "expected public keys only; this file holds a private key or a seed")
    name = _format_of(text)
    return name, FORMATS[name].read(text, network)


def _format_of(text: str) -> str:
    """Return the format that `text` looks like."""
    start = text.lstrip()
    if start.startswith("BSMS"):
        return "bsms"
    if start.startswith("["):
        return "core" if "\n" in start or '"desc"' in start else "descriptor"
    if start.startswith("{"):
        found = load_json(text)
        for mark, name in _JSON_MARKS.items():
            if mark in found:
                return name
        raise MalformedError("WALLET_FILE_KIND", f"expected one of the fields {', '.join(_JSON_MARKS)}")
    return "coldcard" if any(line.lower().startswith("policy:") for line in text.split("\n")) else "descriptor"

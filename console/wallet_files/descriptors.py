"""A descriptor as text: alone, or as Sparrow writes it, with one descriptor per branch below."""

from __future__ import annotations

from console.wallet_files.named import UNNAMED, NamedWallet, branch_descriptor, branch_of, wallet_of_descriptor
from custody.errors import MalformedError
from custody.wallet import CHANGE, RECEIVE, Network


def write(named: NamedWallet) -> str:
    """Return one line: both branches in one descriptor (BIP-389), with its checksum."""
    return named.wallet.descriptor + "\n"


def write_sparrow(named: NamedWallet) -> str:
    """Return Sparrow's output descriptor file."""
    parts = (
        ("Receive and change descriptor (BIP389):", named.wallet.descriptor),
        ("Receive descriptor (Bitcoin Core):", branch_descriptor(named.wallet, RECEIVE)),
        ("Change descriptor (Bitcoin Core):", branch_descriptor(named.wallet, CHANGE)),
    )
    return "\n".join(f"# {title}\n{descriptor}\n" for title, descriptor in parts)


def read(text: str, network: Network) -> NamedWallet:
    """Return the wallet of the first descriptor; every further one must be a branch of the same.

    Raises:
        MalformedError: WALLET_FILE_EMPTY, WALLET_FILE_SEVERAL, or a code of `parse_wallet`.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise MalformedError("WALLET_FILE_EMPTY", "expected a descriptor")
    wallet = wallet_of_descriptor(lines[0], network)
    for line in lines[1:]:
        if branch_of(line, wallet) is None:
            raise MalformedError("WALLET_FILE_SEVERAL", "expected descriptors of one wallet")
    return NamedWallet(UNNAMED, wallet)

"""A seed becomes the account key that wallets, libwally and the network's rules expect, and leaves no core dump."""

from __future__ import annotations

import subprocess
import sys

import pytest

from custody.bip32 import parse_extended_key
from custody.wallet import Network, descriptor_checksum, parse_wallet
from signer_node.seed import key_material, new_seed
from tests.fakes.cleared import descriptor_key, pubkey

SEED = bytes(range(32))


@pytest.mark.parametrize("network", [Network.REGTEST, Network.SIGNET, Network.TESTNET4])
def test_key_material_on_a_test_network_is_libwallys(network: Network) -> None:
    """BIP-48 account of coin 1, tpub, in the spelling of a descriptor."""
    assert key_material(bytearray(SEED), network).key == descriptor_key(SEED)


def test_key_material_on_mainnet_has_coin_0_and_xpub() -> None:
    """Mainnet keys are others than test keys, of the same master."""
    real, test = (key_material(bytearray(SEED), network) for network in (Network.MAINNET, Network.REGTEST))

    assert real.key.startswith(f"[{test.fingerprint.hex()}/48h/0h/0h/2h]xpub")
    assert real.fingerprint == test.fingerprint
    assert real.path[1] == 2**31


@pytest.mark.parametrize("path", [(0, 0), (1, 0), (0, 2**31 - 1)])
def test_key_material_when_derived_publicly_meets_the_private_side(path: tuple[int, int]) -> None:
    """What a wallet derives from the xpub is what the seed signs with."""
    account = parse_extended_key(key_material(bytearray(SEED), Network.REGTEST).xpub)

    assert account.child(path[0]).child(path[1]).pubkey == pubkey(SEED, path)


def test_key_material_when_put_into_a_wallet_owns_its_slot() -> None:
    """The key as we spell it is one the descriptor accepts, and the wallet's keys are those we sign with."""
    seeds = [bytes([number]) * 31 + b"x" for number in range(3)]
    keys = [key_material(bytearray(seed), Network.REGTEST).key for seed in seeds]
    body = f"wsh(sortedmulti(2,{','.join(f'{key}/<0;1>/*' for key in keys)}))"
    wallet = parse_wallet(f"{body}#{descriptor_checksum(body)}", Network.REGTEST)

    assert [key.expression for key in wallet.keys] == keys
    assert wallet.script(1, 9).pubkeys == tuple(pubkey(seed, (1, 9)) for seed in seeds)


def test_new_seed_when_called_twice_differs() -> None:
    """32 bytes from the operating system, new each time."""
    first, second = new_seed(), new_seed()

    assert len(first) == len(second) == 32
    assert first != second


def test_forbid_core_dumps_when_called_holds_for_the_process() -> None:
    """The limit is 0 for good, and the kernel marks the process as not dumpable."""
    program = (
        "import ctypes, resource; from signer_node.seed import forbid_core_dumps; forbid_core_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert shown.stdout.split("\n")[0] == "(0, 0) 0"

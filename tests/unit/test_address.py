"""Addresses: BIP-173, BIP-350 and Bitcoin Core's key_io vectors, and what our own decoder must never do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from embit import bech32
from hypothesis import given
from hypothesis import strategies as st

from custody.address import address_of, script_of
from custody.base58 import decode_check, encode_check
from custody.errors import MalformedError
from custody.wallet import Network

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
CHAINS = {"main": "mainnet", "testnet4": "testnet4", "signet": "signet", "regtest": "regtest"}


def code_of(address: str, network: Network) -> str:
    """Return the code with which `address` is refused, or OK."""
    try:
        script_of(address, network)
    except MalformedError as error:
        return error.code
    return "OK"


def sections(number: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the valid (address, script hex) and the invalid addresses of the BIP's text."""
    (path,) = (VECTORS / f"bip{number}").glob("*.txt")
    valid, invalid = (
        path.read_text(encoding="utf-8")
        .split("The following list gives valid segwit addresses")[1]
        .split("The following list gives invalid segwit addresses")
    )
    pairs = re.findall(r"\* <tt>(\w+)</tt>: <tt>([0-9a-f]+)</tt>", valid)
    return pairs, re.findall(r"\* <tt>(\w+)</tt>", invalid)


def network_of(address: str) -> Network:
    """Return the network whose human-readable part `address` bears."""
    return Network.MAINNET if address.lower().startswith("bc1") else Network.TESTNET4


def test_script_of_given_bip350_vectors_reads_valid_and_refuses_invalid() -> None:
    """8 of 8 valid, 15 of 15 invalid."""
    valid, invalid = sections(350)
    assert (len(valid), len(invalid)) == (8, 15)
    for address, script in valid:
        assert script_of(address, network_of(address)).hex() == script
        assert address_of(bytes.fromhex(script), network_of(address)) == address.lower()
    for address in invalid:
        assert code_of(address, network_of(address)) == "ADDRESS_INVALID", address


def test_script_of_given_bip173_vectors_follows_bip350_where_they_differ() -> None:
    """3 of 6 valid are version 0; the 3 of later versions have the old checksum, which BIP-350 forbids; 10 invalid."""
    valid, invalid = sections(173)
    assert (len(valid), len(invalid)) == (6, 10)
    for address, script in valid:
        if script.startswith("00"):
            assert script_of(address, network_of(address)).hex() == script
        else:
            assert code_of(address, network_of(address)) == "ADDRESS_INVALID"
    for address in invalid:
        assert code_of(address, network_of(address)) == "ADDRESS_INVALID", address


def test_script_of_given_core_valid_keys_reads_every_address() -> None:
    """Core key_io_valid: 54 of 54 addresses, and back; its 16 private keys are no address anywhere."""
    counted = 0
    for text, script, meta in json.loads((VECTORS / "core/key_io_valid.json").read_text()):
        if meta["isPrivkey"]:
            assert {code_of(text, network) for network in Network} == {"ADDRESS_INVALID"}
            continue
        counted += 1
        network = Network(CHAINS[meta["chain"]])
        assert script_of(text, network).hex() == script
        assert address_of(bytes.fromhex(script), network) == text
        assert code_of(text.swapcase(), network) == ("OK" if meta.get("tryCaseFlip") else "ADDRESS_INVALID")
    assert counted == 54


def test_script_of_given_core_invalid_keys_refuses_each_on_every_network() -> None:
    """Core key_io_invalid: 70 of 70, of which embit accepts 11."""
    rows = json.loads((VECTORS / "core/key_io_invalid.json").read_text())
    assert len(rows) == 70
    for (text,) in rows:
        assert all(code_of(text, network) != "OK" for network in Network), text


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("", "ADDRESS_INVALID"),
        ("3QJmnh", "ADDRESS_INVALID"),  # base58 of nothing, with its checksum
        ("BCRT1QRP33G0Q5C5TXSP9ARYSRX4\u212a6ZDKFS4NCE4XJ0GDCCCEFVPYSXF3QZF4JRY", "ADDRESS_INVALID"),  # a Kelvin sign
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "ADDRESS_NETWORK"),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", "ADDRESS_NETWORK"),
        ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", "ADDRESS_NETWORK"),
        ("a" * 100_000, "ADDRESS_INVALID"),
        ("1" * 100_000, "ADDRESS_INVALID"),
    ],
)
def test_script_of_given_what_is_no_regtest_address_refuses(address: str, code: str) -> None:
    """Each kind of wrong address has its code, and none another exception."""
    assert code_of(address, Network.REGTEST) == code


@given(st.text(max_size=100))
def test_script_of_given_any_text_raises_nothing_foreign(text: str) -> None:
    """Any text is an address or is refused."""
    assert code_of(text, Network.REGTEST) in {"OK", "ADDRESS_INVALID", "ADDRESS_NETWORK"}


@given(st.sampled_from([*Network]), st.integers(0, 16), st.binary(min_size=2, max_size=40))
def test_address_of_given_any_witness_program_is_read_back(network: Network, version: int, program: bytes) -> None:
    """Text and script are two forms of one thing."""
    script = bytes([0x50 + version if version else 0, len(program)]) + program
    if version == 0 and len(program) not in (20, 32):
        with pytest.raises(MalformedError, match="ADDRESS_NONE"):
            address_of(script, network)
    else:
        assert script_of(address_of(script, network), network) == script


@given(st.binary(min_size=2, max_size=80))
def test_decode_check_given_what_was_encoded_returns_it(payload: bytes) -> None:
    """Leading zeros included."""
    assert decode_check(encode_check(payload)) == payload


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "BASE58"),
        ("0OIl00", "BASE58"),
        ("1" * 129, "BASE58"),
        ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMJ", "BASE58_CHECKSUM"),
    ],
)
def test_decode_check_given_what_is_not_base58_refuses(text: str, code: str) -> None:
    """Length, characters and checksum."""
    with pytest.raises(MalformedError) as raised:
        decode_check(text)
    assert raised.value.code == code


@pytest.mark.parametrize(("tail", "code"), [([], "OK"), ([0], "ADDRESS_INVALID"), ([1], "ADDRESS_INVALID")])
def test_script_of_given_one_padding_character_more_refuses_though_the_checksum_holds(
    tail: list[int], code: str
) -> None:
    """Five bits of padding are one character too many: one script has one address (BIP-173 "Segwit addresses")."""
    program = [1, *bech32.convertbits(bytes(range(10)), 8, 5)]  # 10 bytes fill 16 characters with no bit left over

    address = bech32.bech32_encode(bech32.Encoding.BECH32M, "bcrt", program + tail)

    assert code_of(address, Network.REGTEST) == code

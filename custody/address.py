"""Addresses of one network, strictly: bech32 (BIP-173), bech32m (BIP-350), base58; script to text and back."""

from __future__ import annotations

from functools import lru_cache

from custody.base58 import decode_check, encode_check
from custody.errors import MalformedError
from custody.wallet import Network

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {char: value for value, char in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32, _BECH32M = 1, 0x2BC830A3
_MAX_BECH32_CHARS = 90  # BIP-173
_CHECKSUM_CHARS = 6
_BASE58_KINDS = {0x00: (True, "p2pkh"), 0x05: (True, "p2sh"), 0x6F: (False, "p2pkh"), 0xC4: (False, "p2sh")}


@lru_cache(maxsize=1_024)  # a payee is compared by followers, by judges and by whoever shows it
def script_of(address: str, network: Network) -> bytes:
    """Return the scriptPubKey that `address` stands for on `network`.

    Raises:
        MalformedError: ADDRESS_NETWORK (of another network) or ADDRESS_INVALID.
    """
    if len(address) > _MAX_BECH32_CHARS or not address.isascii():  # lower() would fold the Kelvin sign into a k
        raise MalformedError("ADDRESS_INVALID", f"expected at most {_MAX_BECH32_CHARS} ASCII characters")
    prefix = address.lower().rpartition("1")[0]
    if prefix in ("bc", "tb", "bcrt"):
        if prefix != network.hrp:
            raise MalformedError("ADDRESS_NETWORK", f"expected an address of {network.value} ({network.hrp}1...)")
        return _segwit_script(address)
    return _base58_script(address, network)


def address_of(script: bytes, network: Network) -> str:
    """Return the address of `script` on `network`. Raises MalformedError ADDRESS_NONE for a script without one."""
    p2pkh, p2sh = (0x00, 0x05) if network.is_mainnet else (0x6F, 0xC4)
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return encode_check(bytes([p2pkh]) + script[3:23])
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return encode_check(bytes([p2sh]) + script[2:22])
    version = _witness_version(script)
    if version is None or (version == 0 and len(script) not in (22, 34)):
        raise MalformedError("ADDRESS_NONE", "expected a script that an address can stand for")
    data = [version, *_regroup(script[2:], 8, 5)]
    constant = _BECH32 if version == 0 else _BECH32M
    checksum = _polymod([*_expand(network.hrp), *data, *[0] * _CHECKSUM_CHARS]) ^ constant
    tail = [checksum >> 5 * (5 - at) & 31 for at in range(_CHECKSUM_CHARS)]
    return network.hrp + "1" + "".join(_CHARSET[value] for value in data + tail)


def _witness_version(script: bytes) -> int | None:
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == 0:
        return 0
    return script[0] - 0x50 if 0x51 <= script[0] <= 0x60 else None


def _segwit_script(address: str) -> bytes:
    text = address.lower()
    prefix, _, data_text = text.rpartition("1")
    mixed_case = address not in (text, address.upper())
    if mixed_case or any(char not in _VALUES for char in data_text):
        raise MalformedError("ADDRESS_INVALID", "expected a bech32 address in one case")
    data = [_VALUES[char] for char in data_text]
    if len(data) < _CHECKSUM_CHARS + 1:
        raise MalformedError("ADDRESS_INVALID", "expected a longer bech32 address")
    constant = _polymod([*_expand(prefix), *data])
    version, program = data[0], bytes(_regroup(data[1:-_CHECKSUM_CHARS], 5, 8))
    if constant != (_BECH32 if version == 0 else _BECH32M):
        raise MalformedError("ADDRESS_INVALID", "expected the checksum of this address")
    if version > 16 or not 2 <= len(program) <= 40 or (version == 0 and len(program) not in (20, 32)):
        raise MalformedError("ADDRESS_INVALID", "expected a witness version 0..16 with a program that fits it")
    return bytes([0x50 + version if version else 0, len(program)]) + program


def _base58_script(address: str, network: Network) -> bytes:
    try:
        payload = decode_check(address)
    except MalformedError as error:
        raise MalformedError("ADDRESS_INVALID", f"expected an address of {network.value}") from error
    is_mainnet, kind = _BASE58_KINDS[payload[0]] if payload and payload[0] in _BASE58_KINDS else (None, "")
    if is_mainnet is None or len(payload) != 21:
        raise MalformedError("ADDRESS_INVALID", f"expected an address of {network.value}")
    if is_mainnet is not network.is_mainnet:
        raise MalformedError("ADDRESS_NETWORK", f"expected an address of {network.value}")
    hash160 = payload[1:]
    return b"\x76\xa9\x14" + hash160 + b"\x88\xac" if kind == "p2pkh" else b"\xa9\x14" + hash160 + b"\x87"


def _regroup(values: bytes | list[int], source_bits: int, target_bits: int) -> list[int]:
    """Return `values` regrouped; padding only where bytes become characters, and only zeros (BIP-173)."""
    pending, bits, found = 0, 0, []
    for value in values:
        pending, bits = pending << source_bits | value, bits + source_bits
        while bits >= target_bits:
            bits -= target_bits
            found.append(pending >> bits & (1 << target_bits) - 1)
        pending &= (1 << bits) - 1
    if source_bits > target_bits:
        return [*found, pending << target_bits - bits] if bits else found
    if bits >= source_bits or pending:
        raise MalformedError("ADDRESS_INVALID", "expected zero padding of under 5 bits")
    return found


def _expand(prefix: str) -> list[int]:
    return [*(ord(char) >> 5 for char in prefix), 0, *(ord(char) & 31 for char in prefix)]


def _polymod(values: list[int]) -> int:
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                state ^= generator
    return state

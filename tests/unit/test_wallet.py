"""Descriptors: one template, its checksum, public keys of one network; BIP-67, 380 and 383 vectors; the script book."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import wallycore as wally
from embit.descriptor.checksum import checksum as checksum_by_embit

from custody.errors import MalformedError
from custody.scripts import multisig_script
from custody.wallet import (
    MAX_INDEX,
    Network,
    ScriptBook,
    descriptor_checksum,
    make_wallet,
    parse_key,
    parse_wallet,
)
from tests.fakes.cleared import descriptor_key
from tests.fakes.rules import seed_of

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
KEYS = tuple(descriptor_key(seed_of(f"wallet {at}")) for at in range(3))
WALLET = make_wallet(2, tuple(parse_key(key, Network.REGTEST) for key in KEYS), Network.REGTEST)
BODY = WALLET.descriptor.partition("#")[0]


def load(path: str) -> Any:
    """Return a vector file."""
    return json.loads((VECTORS / path).read_text())


def code_of(descriptor: str, network: Network = Network.REGTEST) -> str:
    """Return the code with which `descriptor` is refused, or OK."""
    try:
        parse_wallet(descriptor, network)
    except MalformedError as error:
        return error.code
    return "OK"


def summed(body: str) -> str:
    """Return `body` with its checksum."""
    return f"{body}#{descriptor_checksum(body)}"


def test_parse_wallet_given_its_own_descriptor_returns_the_same_wallet() -> None:
    """The normal form is a fixed point, and names the wallet."""
    assert parse_wallet(WALLET.descriptor, Network.REGTEST) == WALLET


def test_parse_wallet_given_apostrophes_returns_the_normal_form() -> None:
    """Both hardened marks are one path, one descriptor, one wallet_id."""
    assert parse_wallet(summed(BODY.replace("48h", "48'")), Network.REGTEST) == WALLET


def test_wallet_id_binds_network_order_and_threshold() -> None:
    """Nothing that changes a script or its meaning leaves the id alone."""
    keys = WALLET.keys
    others = [
        make_wallet(2, keys, Network.SIGNET),
        make_wallet(1, keys, Network.REGTEST),
        make_wallet(2, keys[::-1], Network.REGTEST),
        make_wallet(2, keys[:2], Network.REGTEST),
    ]
    assert len({WALLET.wallet_id, *(other.wallet_id for other in others)}) == 5


def test_script_given_any_place_is_what_libwally_derives() -> None:
    """Both branches, small and largest index, by a second implementation of descriptors."""
    parsed = wally.descriptor_parse(WALLET.descriptor, None, wally.WALLY_NETWORK_BITCOIN_REGTEST, 0)
    for branch, index in ((0, 0), (0, 1), (1, 0), (1, 19), (0, MAX_INDEX)):
        script = WALLET.script(branch, index)
        assert script.script == bytes(wally.descriptor_to_script(parsed, 0, 0, 0, branch, index, 0))
        assert script.script == b"\x00\x20" + hashlib.sha256(script.witness_script).digest()


def test_parse_wallet_given_hardened_steps_keeps_them_as_numbers_of_bip32() -> None:
    """48h is 48 + 2^31, in the path and in the origin that PSBT fields write."""
    key = WALLET.keys[0]

    assert key.path == (2**31 + 48, 2**31 + 1, 2**31, 2**31 + 2)
    assert key.origin == key.fingerprint + b"".join(step.to_bytes(4, "little") for step in key.path)
    assert parse_key(KEYS[0].replace("/1h", "/1"), Network.REGTEST).path[1] == 1


def test_descriptor_checksum_given_any_length_is_what_embit_computes() -> None:
    """Three characters share a symbol, so lengths of every remainder are asked."""
    for size in range(1, len(BODY)):
        assert descriptor_checksum(BODY[:size]) == checksum_by_embit(BODY[:size])


def test_multisig_script_given_bip67_vectors_is_theirs() -> None:
    """4 of 4, in the BIP and in Core."""
    for vector in load("bip67/vectors.json")["vectors"]:
        keys = tuple(sorted(bytes.fromhex(key) for key in vector["list"]))
        assert [key.hex() for key in keys] == vector["sorted"]
        assert multisig_script(vector["m"], keys).hex() == vector["script"]
    for vector in load("core/rpc_bip67.json"):
        keys = tuple(sorted(bytes.fromhex(key) for key in vector["keys"]))
        assert multisig_script(2, keys).hex() == vector["script"]


BIP380_CODES = {
    "Missing checksum": "DESCRIPTOR_CHECKSUM",
    "Too long checksum (9 chars)": "DESCRIPTOR_CHECKSUM",
    "Too short checksum (7 chars)": "DESCRIPTOR_CHECKSUM",
    "Error in payload": "DESCRIPTOR_CHECKSUM",
    "Error in checksum": "DESCRIPTOR_CHECKSUM",
    "Invalid characters in payload": "DESCRIPTOR_CHARACTER",
}


def test_descriptor_checksum_given_bip380_vectors_agrees() -> None:
    """The valid checksum is ours; the 6 invalid ones are refused."""
    vectors = load("bip380-390/bip380.json")
    assert summed("raw(deadbeef)") == vectors["valid"][0]["descriptor"]
    found = {v["label"]: code_of(v["descriptor"]) for v in vectors["invalid"] if v["label"] in BIP380_CODES}
    assert found == BIP380_CODES


def test_parse_wallet_given_bip380_key_expressions_takes_public_keys_with_origin_alone() -> None:
    """The 39 key expressions, valid or not: none is an account key with its whole origin on regtest."""
    for vector in (*load("bip380-390/bip380.json")["valid"][2:], *load("bip380-390/bip380.json")["invalid"][6:]):
        expression = vector["descriptor"]
        with pytest.raises(MalformedError) as raised:
            parse_key(expression, Network.REGTEST)
        is_private = "xprv" in expression or expression[:1] in "5L"
        assert raised.value.code == ("DESCRIPTOR_PRIVATE_KEY" if is_private else raised.value.code)
        assert raised.value.code in {"DESCRIPTOR_PRIVATE_KEY", "DESCRIPTOR_KEY", "DESCRIPTOR_NETWORK"}
        assert expression not in str(raised.value)


def test_parse_wallet_given_bip383_vectors_refuses_each_template() -> None:
    """13 of 13: top-level and P2SH multisig, private keys, plain multi; none is wsh(sortedmulti) of account keys."""
    vectors = load("bip380-390/bip383.json")
    codes = [code_of(summed(v["descriptor"].partition("#")[0])) for v in (*vectors["valid"], *vectors["invalid"])]
    assert len(codes) == 13
    assert set(codes) <= {"DESCRIPTOR_PRIVATE_KEY", "DESCRIPTOR_TEMPLATE"}


REFUSED = {
    "no checksum": (BODY, "DESCRIPTOR_CHECKSUM"),
    "two checksums": (WALLET.descriptor + WALLET.descriptor[-9:], "DESCRIPTOR_CHECKSUM"),
    "a space": (summed(BODY.replace(",", ", ", 1)), "DESCRIPTOR_KEY"),
    "threshold 0": (summed(BODY.replace("(2,", "(0,")), "DESCRIPTOR_TEMPLATE"),
    "threshold 02": (summed(BODY.replace("(2,", "(02,")), "DESCRIPTOR_TEMPLATE"),
    "threshold 4": (summed(BODY.replace("(2,", "(4,")), "DESCRIPTOR_THRESHOLD"),
    "one key twice": (summed(BODY.replace(KEYS[1], KEYS[0])), "DESCRIPTOR_DUPLICATE_KEY"),
    "a key under another origin": (
        summed(BODY.replace(KEYS[1], KEYS[0].replace("[", "[00000000/", 1).replace(KEYS[0][1:10], "", 1))),
        "DESCRIPTOR_DUPLICATE_KEY",
    ),
    "one branch": (summed(BODY.replace("<0;1>", "0")), "DESCRIPTOR_KEY"),
    "branches swapped": (summed(BODY.replace("<0;1>", "<1;0>")), "DESCRIPTOR_KEY"),
    "hardened children": (summed(BODY.replace("/*", "/*h")), "DESCRIPTOR_KEY"),
    "no origin": (summed(BODY.replace(KEYS[0], KEYS[0].split("]")[1])), "DESCRIPTOR_KEY"),
    "an upper-case fingerprint": (summed(BODY.replace(KEYS[0][1:9], "ABCDEF01")), "DESCRIPTOR_KEY"),
    "a path too short": (summed(BODY.replace("/48h/1h/0h/2h", "/48h/1h/0h", 1)), "DESCRIPTOR_KEY"),
    "a step of 2^31": (summed(BODY.replace("/48h", "/2147483648", 1)), "DESCRIPTOR_KEY"),
    "a step with a leading zero": (summed(BODY.replace("/48h", "/048h", 1)), "DESCRIPTOR_KEY"),
    "a broken key": (summed(BODY.replace(KEYS[0][-4:], "1111", 1)), "BASE58_CHECKSUM"),
    "too long": ("w" * 4097, "DESCRIPTOR_TOO_LONG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_parse_wallet_given_one_change_refuses(name: str) -> None:
    """One valid descriptor, one change, one code."""
    descriptor, code = REFUSED[name]
    assert code_of(descriptor) == code


def test_parse_wallet_given_a_key_that_spells_xprv_inside_takes_it() -> None:
    """Four letters in the middle of an xpub are chance, not a secret: only where a key begins do they mean one."""
    with pytest.raises(MalformedError, match="DESCRIPTOR_CHECKSUM"):
        parse_wallet("wsh(pk([00000000]xpubAAAAxprvAAAA))#aaaaaaaa", Network.REGTEST)
    assert code_of("wsh(pk([00000000]xprvAAAA))") == "DESCRIPTOR_PRIVATE_KEY"
    assert code_of("wsh(pk(xprvAAAA))") == "DESCRIPTOR_PRIVATE_KEY"


def test_find_given_the_windows_edge_sees_what_is_below_it() -> None:
    """The bound is exclusive and holds per branch, also for what was derived before."""
    book = ScriptBook(WALLET)
    script = book.script(1, 20).script

    assert book.find(script, 1, 20) is None
    assert book.find(script, 0, 21) is None
    assert book.find(script, 1, 21) == (1, 20)
    assert book.find(script, 1, 20) is None


@pytest.mark.parametrize(("branch", "index"), [(2, 0), (-1, 0), (0, -1), (0, MAX_INDEX + 1)])
def test_script_given_a_place_that_cannot_be_refuses(branch: int, index: int) -> None:
    """Two branches, 2^31 indices."""
    with pytest.raises(MalformedError, match="SCRIPT_INDEX"):
        ScriptBook(WALLET).script(branch, index)

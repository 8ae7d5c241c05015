"""The scripts of the templates, and taproot's hashes, against the BIPs' own examples."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embit.bip32 import HDKey

from custody import curve
from custody.address import script_of
from custody.errors import MalformedError
from custody.scripts import LEAF_VERSION, NUMS, Template, leaf_hash_of, make_scripts, multi_a_script, output_key
from custody.sighash import SIGHASH_DEFAULT, shared_message
from custody.transaction import TxOut, parse_transaction
from custody.units import Sats
from custody.wallet import Network, descriptor_checksum, parse_wallet

BIP341: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors/bip341/wallet-test-vectors.json").read_text()
)
GENERATOR = bytes.fromhex(
    "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)


def leaves_of(tree: Any) -> Iterator[Any]:
    """Return the leaves of a tree as the vectors write it, from left to right."""
    for part in tree if isinstance(tree, list) else [tree]:
        yield from leaves_of(part) if isinstance(part, list) else [part]


def test_nums_is_the_point_that_bip341_names() -> None:
    """The x that SHA-256 gives of the generator, uncompressed: nobody chose it, so nobody has its secret."""
    assert hashlib.sha256(GENERATOR).digest() == NUMS
    assert curve.is_public_key(b"\x02" + NUMS)


@pytest.mark.parametrize("vector", BIP341["scriptPubKey"], ids=range(7))
def test_output_key_given_bip341_vectors_is_theirs(vector: Any) -> None:
    """7 of 7: the tweaked key, its script and address, from internal key and root."""
    root = bytes.fromhex(vector["intermediary"]["merkleRoot"] or "")

    key = output_key(bytes.fromhex(vector["given"]["internalPubkey"]), root)

    assert key[1:].hex() == vector["intermediary"]["tweakedPubkey"]
    assert "5120" + key[1:].hex() == vector["expected"]["scriptPubKey"]
    assert script_of(vector["expected"]["bip350Address"], Network.MAINNET).hex() == vector["expected"]["scriptPubKey"]


def test_leaf_hash_given_bip341_vectors_is_theirs() -> None:
    """11 of the 12 leaves: one has another leaf version, which no script of ours has."""
    found = 0
    for vector in BIP341["scriptPubKey"]:
        if vector["given"]["scriptTree"] is None:
            continue
        hashes = vector["intermediary"]["leafHashes"]
        for leaf, expected in zip(leaves_of(vector["given"]["scriptTree"]), hashes, strict=True):
            if leaf["leafVersion"] == LEAF_VERSION:
                assert leaf_hash_of(bytes.fromhex(leaf["script"])).hex() == expected
                found += 1
    assert found == 11


def test_control_block_given_bip341_vectors_of_one_leaf_has_their_parity() -> None:
    """2 of 2: leaf version and parity of the output key, then the internal key."""
    single = [v for v in BIP341["scriptPubKey"] if isinstance(v["given"]["scriptTree"], dict)]
    for vector in single:
        internal = bytes.fromhex(vector["given"]["internalPubkey"])
        key = output_key(internal, bytes.fromhex(vector["intermediary"]["merkleRoot"]))
        expected = vector["expected"]["scriptPathControlBlocks"][0]
        assert (bytes([LEAF_VERSION | key[0] & 1]) + internal).hex() == expected
    assert len(single) == 2


def test_shared_message_given_the_bip341_transaction_is_theirs() -> None:
    """All that inputs sign alike under DEFAULT, byte for byte; the other types of the vectors are never made."""
    case = BIP341["keyPathSpending"][0]
    transaction = parse_transaction(bytes.fromhex(case["given"]["rawUnsignedTx"]))
    spent = [TxOut(Sats(u["amountSats"]), bytes.fromhex(u["scriptPubKey"])) for u in case["given"]["utxosSpent"]]
    (default,) = [one for one in case["inputSpending"] if one["given"]["hashType"] == SIGHASH_DEFAULT]
    by_key, index = b"\x00", default["given"]["txinIndex"].to_bytes(4, "little")

    found = b"\x00" + shared_message(transaction, spent) + by_key + index

    assert found.hex() == default["intermediary"]["sigMsg"]


def test_form_names_each_template_without_its_internal_key() -> None:
    """What people read when they confirm a wallet."""
    assert [template.form for template in Template] == [
        "wsh(sortedmulti)",
        "sh(wsh(sortedmulti))",
        "tr(multi_a)",
        "tr(sortedmulti_a)",
    ]


def test_multi_a_script_is_the_form_of_bip387() -> None:
    """Key by key, the count of valid signatures compared with m."""
    keys = (b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
    expected = b"".join(b"\x20" + key + (b"\xba" if at else b"\xac") for at, key in enumerate(keys)) + b"\x52\x9c"

    assert multi_a_script(2, keys) == expected


@pytest.mark.parametrize("template", Template)
def test_make_scripts_given_a_template_makes_scripts_of_its_length(template: Template) -> None:
    """And what only some templates have is empty in the others."""
    keys = tuple(curve.public_key(bytes([at]) * 32) for at in (1, 2, 3))
    if template.is_taproot:
        keys = tuple(key[1:] for key in keys)

    made = make_scripts(template, 2, keys)

    assert len(made.script) == template.script_bytes
    assert bool(made.redeem_script) == (template is Template.SH_WSH)
    assert len(made.control_block) == (33 if template.is_taproot else 0)
    assert len(made.leaf_hash) == (32 if template.is_taproot else 0)


BIP387: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors/bip380-390/bip387.json").read_text()
)
UNDER_NUMS = re.compile(rf"tr\({NUMS.hex()},(sorted)?multi_a\(([0-9]+),(.+)\)\)")
OURS = [v for v in BIP387["valid"] if UNDER_NUMS.fullmatch(v["descriptor"])]


def key_at(expression: str, index: int) -> bytes:
    """Return the x-only key of an extended key expression of the vectors; `*` means `index`."""
    text, *steps = expression.rpartition("]")[2].split("/")
    path = [step.replace("*", str(index)) for step in steps]
    key = HDKey.from_base58(text)
    return bytes(key.derive("m/" + "/".join(path)).xonly() if path else key.xonly())


@pytest.mark.parametrize("vector", OURS, ids=range(len(OURS)))
def test_make_scripts_given_bip387_vectors_is_theirs(vector: Any) -> None:
    """All valid ones under the internal key of ours, multi_a and sortedmulti_a, at each index that they expand."""
    found = UNDER_NUMS.fullmatch(vector["descriptor"])
    assert found is not None
    for index, expected in enumerate(vector["expands"]):
        keys = [key_at(expression, index) for expression in found[3].split(",")]
        template = Template.TR_SORTED if found[1] else Template.TR
        ordered = tuple(sorted(keys) if template.sorts_keys else keys)
        assert make_scripts(template, int(found[2]), ordered).script.hex() == expected


def test_bip387_vectors_are_all_accounted_for() -> None:
    """Of 6 valid ones 4 are under our internal key; `parse_wallet` takes none of 13: their keys are no accounts."""
    assert (len(BIP387["valid"]), len(OURS), len(BIP387["invalid"])) == (6, 4, 7)
    for vector in (*BIP387["valid"], *BIP387["invalid"]):
        body = vector["descriptor"].partition("#")[0]
        with pytest.raises(MalformedError) as refused:
            parse_wallet(f"{body}#{descriptor_checksum(body)}", Network.REGTEST)
        assert refused.value.code in {"DESCRIPTOR_PRIVATE_KEY", "DESCRIPTOR_TEMPLATE", "DESCRIPTOR_KEY"}

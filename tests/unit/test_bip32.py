"""Public derivation against BIP-32's vectors; private keys and broken ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custody.bip32 import HARDENED, parse_extended_key
from custody.errors import MalformedError
from tests.fakes.cleared import pubkey as pubkey_by_libwally
from tests.world import bitcoin_seed, book_of, make_genesis

VECTORS = json.loads((Path(__file__).resolve().parents[1] / "vectors/bip32/vectors.json").read_text())


def test_parse_extended_key_given_bip32_vectors_reads_public_and_refuses_private() -> None:
    """17 of 17 xpubs; their 17 xprvs are no public keys."""
    for vector in VECTORS["valid"]:
        assert parse_extended_key(vector["xpub"]).depth == vector["path"].count("/")
        with pytest.raises(MalformedError, match="EXTENDED_KEY"):
            parse_extended_key(vector["xprv"])
    assert len(VECTORS["valid"]) == 17


def test_parse_extended_key_given_bip32_invalid_vectors_refuses_each() -> None:
    """16 of 16."""
    codes = []
    for vector in VECTORS["invalid"]:
        with pytest.raises(MalformedError) as raised:
            parse_extended_key(vector["key"])
        codes.append(raised.value.code)
    assert len(codes) == 16
    assert set(codes) <= {"EXTENDED_KEY", "BASE58_CHECKSUM"}


def test_child_given_bip32_vectors_derives_each_unhardened_child() -> None:
    """Every step of the vectors that a public key can make."""
    by_path = {(v["seed"], v["path"]): parse_extended_key(v["xpub"]) for v in VECTORS["valid"]}
    steps = 0
    for (seed, path), found in by_path.items():
        parent, _, step = path.rpartition("/")
        if step.isdigit():
            steps += 1
            assert by_path[seed, parent].child(int(step)) == found
    assert steps == 6


def test_child_given_two_steps_is_what_libwally_derives_privately() -> None:
    """Branch and index of the account, by a third implementation from the seed."""
    book = book_of(make_genesis().wallets[0].wallet)

    assert book.script(1, 77).pubkeys[0] == pubkey_by_libwally(bytes(bitcoin_seed("alpha")), (1, 77))


@pytest.mark.parametrize("index", [-1, HARDENED, 2**32])
def test_child_given_a_hardened_index_refuses(index: int) -> None:
    """A public key has no hardened children."""
    key = parse_extended_key(VECTORS["valid"][0]["xpub"])

    with pytest.raises(MalformedError, match="KEY_CHILD"):
        key.child(index)

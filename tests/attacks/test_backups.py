"""Attacks on ceremony and backups: weak entropy, foreign spellings, secrets typed into the wrong line."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from custody.errors import CustodyError, IntegrityError
from custody.mnemonic import to_seed
from custody.wallet import Network
from signer_node import guided
from signer_node.backends import sealed_file
from signer_node.ceremony import IDENTITY_FILE
from signer_node.secret import Secret, secret_of_words
from signer_node.terminal import RealTerminal
from tests.fakes.holder import Holder, making
from tests.fakes.rules import NOW
from tests.integration.harness import CHEAP
from tests.unit.test_ceremony import config_of

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
TPRV = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK"
AGE = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"


@pytest.mark.parametrize("stuck", [bytes(32), b"\x42" * 32, b"\x01" * 31, b""])
async def test_atk_084_dice_do_not_excuse_a_machine_without_entropy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: bytes
) -> None:
    """A source that is stuck or short ends the ceremony before a word is shown; nothing is kept."""
    monkeypatch.setattr(sealed_file.keep_seed, "__defaults__", (CHEAP,))
    config = config_of("cold", tmp_path)
    holder = Holder(making(24, throws="dice", more=[("99 throws", "162534" * 17)]))
    with pytest.raises(IntegrityError) as refused:
        await guided.hold(config, holder, lambda: NOW, lambda size: stuck)
    assert refused.value.code == "ENTROPY"
    assert holder.sheets == []
    assert not (config.state / IDENTITY_FILE).exists()


@pytest.mark.parametrize("passphrase", ["ünïcödé", "u\u0308ni\u0308co\u0308de\u0301"])
def test_atk_084_passphrase_beyond_ascii_gives_the_wallet_that_bip_39_says(passphrase: str) -> None:
    """NFKD before anything else: typed composed or decomposed, it is one key here and in every other program."""
    secret = secret_of_words(bytearray(WORDS.encode()), bytearray(passphrase.encode()))
    assert secret.seed() == to_seed(tuple(WORDS.split()), "ünïcödé")
    expected = Secret(bytearray(16), bytearray("ünïcödé".encode())).material(Network.REGTEST)
    assert secret.material(Network.REGTEST) == expected


def test_atk_084_passphrase_that_is_no_text_is_refused_and_not_repeated() -> None:
    """Bytes that are no UTF-8 have no normal form."""
    with pytest.raises(CustodyError) as refused:
        secret_of_words(bytearray(WORDS.encode()), bytearray(b"\xff\xfepass")).seed()
    assert refused.value.code == "TEXT_UTF8"
    assert "pass" not in refused.value.message


@pytest.mark.parametrize("secret", [WORDS, TPRV, AGE])
def test_atk_082_secret_typed_into_an_open_question_is_refused_and_not_repeated(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is asked, the words are typed: the answer is thrown away and asked for again."""
    reading, writing = os.pipe()
    os.write(writing, f"{secret}\nanna\n".encode())
    shown = io.StringIO()
    with os.fdopen(reading) as typed, os.fdopen(writing, "w"):
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "stderr", shown)
        assert RealTerminal().ask("Who keeps the words? ") == "anna"
    assert "SECRET_PASTED" in shown.getvalue()
    assert secret[:12] not in shown.getvalue()


def test_atk_082_secret_shows_itself_in_no_repr_and_is_wiped() -> None:
    """Neither a traceback's repr nor what is left in its memory holds it."""
    entropy, passphrase = bytearray(range(16)), bytearray(b"hunter22")
    with Secret(entropy, passphrase) as secret:
        word = secret.words[5]
        assert word not in repr(secret)
        assert "hunter22" not in f"{secret}{secret!r}"
    assert not any(entropy)
    assert not any(passphrase)

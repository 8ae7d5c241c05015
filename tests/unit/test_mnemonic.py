"""Seed words: BIP-39's rules and what a passphrase may look like; the vectors are in test_official."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.errors import MalformedError
from custody.mnemonic import ENTROPY_BYTES, to_entropy, to_seed, to_words

WORDS = to_words(bytes(16))


def code_of(words: tuple[str, ...], passphrase: str = "") -> str:
    """Return the code with which words and passphrase are refused, or OK."""
    try:
        to_seed(words, passphrase)
    except MalformedError as error:
        return error.code
    return "OK"


@given(st.sampled_from(ENTROPY_BYTES).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_to_entropy_given_the_words_of_any_entropy_returns_it(entropy: bytes) -> None:
    """12 to 24 words and back."""
    assert to_entropy(to_words(entropy)) == entropy


@pytest.mark.parametrize("size", [0, 15, 17, 33, 64])
def test_to_words_given_another_size_refuses(size: int) -> None:
    """Five sizes are of BIP-39."""
    with pytest.raises(MalformedError, match="MNEMONIC_ENTROPY"):
        to_words(bytes(size))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (WORDS, "OK"),
        ((), "MNEMONIC_LENGTH"),
        (WORDS[1:], "MNEMONIC_LENGTH"),
        (WORDS * 3, "MNEMONIC_LENGTH"),
        ((*WORDS[1:], "abandon"), "MNEMONIC_CHECKSUM"),
        (("Abandon", *WORDS[1:]), "MNEMONIC_WORD"),
        (("secretive", *WORDS[1:]), "MNEMONIC_WORD"),
    ],
)
def test_to_seed_given_one_change_of_the_words_refuses(words: tuple[str, ...], code: str) -> None:
    """Count, list, checksum."""
    assert code_of(words) == code


def test_to_entropy_given_a_wrong_word_does_not_repeat_it() -> None:
    """A mistyped seed word in a message or a log is most of a secret."""
    with pytest.raises(MalformedError) as raised:
        to_entropy(("secretive", *WORDS[1:]))
    assert "secretive" not in str(raised.value)
    assert "place 1" in str(raised.value)


@pytest.mark.parametrize("text", ["caf\u00e9", "\u212bngstr\u00f6m", "\ufb01n", "\u30d7\u30ed"])
def test_to_seed_given_any_form_of_a_passphrase_makes_one_seed(text: str) -> None:
    """Composed, decomposed or compatible: NFKD makes them one wallet, here and in other programs."""
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKD")}

    assert len(forms) > 1
    assert len({to_seed(WORDS, form) for form in forms}) == 1
    assert to_seed(WORDS, text) != to_seed(WORDS)


@pytest.mark.parametrize("text", ["x" * 257, "\ud800"])
def test_to_seed_given_what_is_no_passphrase_refuses(text: str) -> None:
    """Too long, or half a character; the message says nothing of it."""
    with pytest.raises(MalformedError) as raised:
        to_seed(WORDS, text)
    assert raised.value.code == "MNEMONIC_PASSPHRASE"
    assert raised.value.__cause__ is None

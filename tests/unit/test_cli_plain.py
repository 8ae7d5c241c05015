"""Text of others on a terminal, and secrets among the arguments."""

import pytest

from console.plain import MAX_TEXT_CHARS, find_secret, plain

WORDS = "abandon ability able about above absent absorb abstract absurd abuse access accident"
TPRV = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK"
WIF = "5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss"


def test_plain_of_printable_text_changes_nothing() -> None:
    """Letters of any script stay as they are."""
    assert plain("Überweisung 付款 [red]x[/red]") == "Überweisung 付款 [red]x[/red]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\u202eevil", "\\u202eevil"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x9b31m", "\\x9b31m"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u00a0b", "a\\xa0b"),
    ],
)
def test_plain_of_what_steers_or_hides_is_its_number(text: str, shown: str) -> None:
    """Escapes, line ends, bidi marks, invisible letters and tags are shown by number."""
    assert plain(text) == shown


def test_plain_of_a_flood_is_cut() -> None:
    """One field cannot push the rest off the screen."""
    assert len(plain("x" * 10 * MAX_TEXT_CHARS)) < MAX_TEXT_CHARS + 10


@pytest.mark.parametrize(
    "arguments",
    [
        ["propose", "--to", TPRV],
        ["propose", "--to", f"x={TPRV}"],
        ["show", WIF],
        ["show", WORDS],
        ["show", *WORDS.split()],
        ["show", WORDS.upper().replace(" ", ", ")],
        ["show", " ".join(word[:4] for word in WORDS.split())],
        ["show", "ms12namea320zyxwvutsrqpnmlkjhgfedcaxrpp870hkkqrm"],
    ],
)
def test_find_secret_given_a_secret_names_its_place(arguments: list[str]) -> None:
    """Private keys and seed words are found in one argument or over several."""
    assert find_secret(arguments) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["propose", "--to", "bcrt1qpv9skzctpv9skzctpv9skzctpv9skzctpv9skzctpv9skzctpv9s4up008=25000:invoice 7"],
        ["show", "3c26ff84b5343b65e9c021cc782a98fdc8228924e3a49a30815d8c32c3ba7f1d"],
        ["genesis", "compose", "--declared", "[49d9fd9d/48h/1h/0h/2h]tpubDEdKK1bzrHxJfr4maacGvr8s59HVJu3aks=erin"],
        ["reject", "w-1", "--reason", "this is not the account that they named on the phone, ask them again please"],
        WORDS.split()[:11],
    ],
)
def test_find_secret_given_none_is_none(arguments: list[str]) -> None:
    """Addresses, digests, public keys and sentences are no secrets."""
    assert find_secret(arguments) is None


def test_find_secret_for_pin_leaves_its_words_alone() -> None:
    """`pin` is given twelve words of the same list; a private key is refused there too."""
    assert find_secret(["pin", WORDS, "genesis.json"], may_hold_words=True) is None
    assert find_secret(["pin", WIF, "genesis.json"], may_hold_words=True) == 2

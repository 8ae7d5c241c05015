"""Secrets in texts that are no place for them: found in arguments and statements, repeated nowhere."""

import pytest

from custody.canonical import Json
from custody.errors import MalformedError
from custody.pasted import find_secret, refuse_pasted

WORDS = "abandon ability able about above absent absorb abstract absurd abuse access accident"
TPRV = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK"
AGE = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
SHARE = (
    "wildlife evoke academic acid biology news tadpole solution recover lawsuit "
    "bedroom satisfy roster render python prevent deny benefit prune fawn"
)
WIF = "5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss"


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


@pytest.mark.parametrize(
    "value",
    [
        f"for the auditor: {WORDS}",
        {"payments": [{"label": WORDS.replace(" ", "\n")}]},
        {"note": ["fine", f"key={TPRV}"]},
        {WIF: 1},
        f"key file: {AGE}",
        {"note": SHARE},
        " ".join(word[:4] for word in SHARE.split()),
    ],
)
def test_refuse_pasted_given_a_secret_anywhere_repeats_nothing_of_it(value: Json) -> None:
    """A label, a line of a list, and even the name of a field."""
    with pytest.raises(MalformedError) as raised:
        refuse_pasted(value, "withdrawal")
    assert raised.value.code == "SECRET_PASTED"
    hidden = (*WORDS.split()[:3], *SHARE.split()[4:7], TPRV[:8], WIF[:8], AGE[:16])
    assert not any(part in str(raised.value).split() for part in hidden)


def test_refuse_pasted_given_what_people_write_passes() -> None:
    """Sentences, eleven words of the list, numbers and digests."""
    refuse_pasted(
        {
            "share": " ".join(SHARE.split()[:19]),
            "label": " ".join(WORDS.split()[:11]),
            "n": [1, True],
            "d": "3c26ff84" * 8,
        },
        "withdrawal",
    )

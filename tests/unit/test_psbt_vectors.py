"""The official PSBT vectors: what we support passes, the rest stands here as a refusal with its code.

Sources are named in tests/vectors/*/README. Numbers count the vectors of a list from 0.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from custody.errors import MalformedError, Refused
from custody.facts import ShapeLimits, read_facts
from custody.psbt import from_base64, parse, serialize
from tests.world import book_of, make_genesis

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
CORE: dict[str, Any] = json.loads((VECTORS / "core/rpc_psbt.json").read_text())
BOOK = book_of(make_genesis().wallets[0].wallet)


def bip(number: int, *sections: str) -> list[tuple[str, str]]:
    """Return (case, base64) of the PSBTs of a BIP's `sections`, in order."""
    vectors = json.loads((VECTORS / f"bip{number}/vectors.json").read_text())["vectors"]
    return [(v["case"], v["base64"]) for v in vectors if v["section"] in sections and v["base64"]]


def outcome(text: str) -> str:
    """Return OK for a PSBT that is accepted and written back byte for byte, else the code of its refusal."""
    try:
        raw = from_base64(text)
        return "OK" if serialize(parse(raw)) == raw else "OTHER BYTES"
    except MalformedError as error:
        return error.code


def outcomes(texts: list[str]) -> list[str]:
    """Return the outcome of each."""
    return [outcome(text) for text in texts]


BIP174_INVALID = """
    PSBT_MAGIC TRUNCATED TX_NOT_UNSIGNED TX_MISSING DUPLICATE_KEY KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH
    KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH WITNESS_EMPTY
    NO_INPUTS
"""
BIP371_INVALID = """
    VALUE_LENGTH VALUE_LENGTH VALUE_LENGTH KEY_LENGTH VALUE_LENGTH KEY_LENGTH KEY_LENGTH VALUE_LENGTH VALUE_LENGTH
    KEY_LENGTH KEY_LENGTH
"""
CORE_INVALID = """
    PSBT_MAGIC TRUNCATED TX_NOT_UNSIGNED TX_MISSING DUPLICATE_KEY KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH
    KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH KEY_LENGTH TRUNCATED PSBT_BASE64
    PSBT_VERSION COUNT_TOO_LARGE COUNT_TOO_LARGE NO_OUTPUTS NO_OUTPUTS NO_OUTPUTS NO_OUTPUTS NO_OUTPUTS NO_OUTPUTS
    VALUE_LENGTH VALUE_LENGTH VALUE_LENGTH KEY_LENGTH VALUE_LENGTH KEY_LENGTH KEY_LENGTH VALUE_LENGTH VALUE_LENGTH
    KEY_LENGTH KEY_LENGTH PREVIOUS_MISMATCH PREVIOUS_MISMATCH
"""
CORE_INVALID_WITH_MESSAGE = """
    AMOUNT_OUT_OF_RANGE VALUE_LENGTH MUSIG2_FIELD NO_OUTPUTS MUSIG2_FIELD AMOUNT_OUT_OF_RANGE MUSIG2_FIELD
    MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD
    MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD MUSIG2_FIELD
"""
# Valid for their authors, refused by us, each for a reason that stays:
BIP174_VALID_REFUSED = {8: "WITNESS_FLAG", 9: "WITNESS_FLAG"}  # no inputs: 00 could as well be a witness marker
CORE_VALID_REFUSED = {
    5: "COUNT_TOO_LARGE",  # no inputs, as above
    **dict.fromkeys(range(20, 34), "MUSIG2_FIELD"),  # BIP-373: MuSig2 is not supported
}


def test_parse_given_bip174_invalid_vectors_refuses_each_by_its_code() -> None:
    """20 of 20."""
    assert outcomes([text for _, text in bip(174, "invalid")]) == BIP174_INVALID.split()


def test_parse_given_bip174_valid_vectors_keeps_each_byte_for_byte() -> None:
    """8 of 10; two without inputs are refused."""
    found = outcomes([text for _, text in bip(174, "valid")])

    assert found == [BIP174_VALID_REFUSED.get(at, "OK") for at in range(10)]


def test_parse_given_bip174_workflow_vectors_keeps_each_byte_for_byte() -> None:
    """10 of 10 PSBTs on the way from creator to finalizer."""
    assert outcomes([text for _, text in bip(174, "workflow")]) == ["OK"] * 10


@pytest.mark.parametrize(("case", "text"), bip(174, "fails_signer"))
def test_read_facts_given_bip174_vectors_that_signers_must_fail_refuses(case: str, text: str) -> None:
    """4 of 4 are well-formed and proven by nothing: no signature comes of them."""
    assert isinstance(read_facts(parse(from_base64(text)), BOOK, ShapeLimits()), Refused), case


def test_parse_given_bip371_vectors_knows_every_taproot_field() -> None:
    """11 of 11 invalid, 6 of 6 valid."""
    assert outcomes([text for _, text in bip(371, "invalid")]) == BIP371_INVALID.split()
    assert outcomes([text for _, text in bip(371, "valid")]) == ["OK"] * 6


def test_parse_given_bip370_invalid_vectors_refuses_each_by_its_code() -> None:
    """24 of 24, of which embit accepts 14."""
    found = [outcome(text) for _, text in bip(370, "invalid")]

    assert found[:13] == ["V0_FIELD", *["V2_FIELD"] * 12]
    assert found[13:] == ["V0_FIELD", *["FIELD_REQUIRED"] * 7, *["LOCKTIME_KIND"] * 3]


def test_parse_given_bip370_valid_vectors_keeps_each_byte_for_byte() -> None:
    """14 of 14, undefined modifiable flags among them: what they allow is refused by `read_facts`."""
    assert [outcome(text) for _, text in bip(370, "valid")] == ["OK"] * 14


def test_parse_given_bip370_locktime_vectors_determines_each_as_the_bip_says() -> None:
    """10 of 10, of which embit gets 2 right; the indeterminate one is refused."""
    texts = [text for _, text in bip(370, "locktime")]

    found = [parse(from_base64(text)).transaction.locktime for text in texts[:9]]
    assert found == [0, 0, *[10_000] * 4, *[1_657_048_460] * 3]
    assert outcome(texts[9]) == "LOCKTIME_CONFLICT"


def test_parse_given_core_invalid_vectors_refuses_each_by_its_code() -> None:
    """61 of 61, of which embit accepts 28."""
    assert outcomes(CORE["invalid"]) == CORE_INVALID.split()
    assert outcomes([text for text, _ in CORE["invalid_with_msg"]]) == CORE_INVALID_WITH_MESSAGE.split()


def test_parse_given_core_valid_vectors_keeps_each_byte_for_byte() -> None:
    """19 of 34; one without inputs and 14 with MuSig2 fields are refused."""
    found = outcomes(CORE["valid"])

    assert found == [CORE_VALID_REFUSED.get(at, "OK") for at in range(34)]
    assert Counter(found)["OK"] == 19


def test_parse_given_core_role_vectors_keeps_each_byte_for_byte() -> None:
    """Signer, combiner, finalizer, extractor: 18 of 21; a combiner of version 0 with version 2 fields is refused."""
    roles = [
        *(v[key] for v in CORE["signer"] for key in ("psbt", "result")),
        *(text for v in CORE["combiner"] for text in (*v["combine"], v["result"])),
        *(v[key] for v in CORE["finalizer"] for key in ("finalize", "result")),
        *(v["extract"] for v in CORE["extractor"]),
    ]

    assert Counter(outcomes(roles)) == {"OK": 18, "V2_FIELD": 3}

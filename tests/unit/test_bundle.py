"""What couriers carry: each document comes back byte for byte, and every other shape is refused by code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from custody.bundle import (
    MAX_BUNDLE_BYTES,
    MAX_DELTA_BYTES,
    Answer,
    Behind,
    Bundle,
    Delta,
    LogPart,
    check_receipt,
    parse_answer,
    parse_bundle,
    parse_delta,
    read_receipt,
    receipt_statement,
    summary_of,
)
from custody.canonical import decode, encode
from custody.errors import MalformedError, Refused
from custody.signatures import InputSignature
from custody.statements import Kind, sign
from tests.fakes.rules import NOW, key_of, seed_of
from tests.world import World, make_genesis

WORLD = World(make_genesis())
SPEND = WORLD.spend(WORLD.withdrawal()).approved_by("bob", "carol")
BUNDLE = replace(SPEND.bundle(), signatures=SPEND.signatures("cold"))
RAW = BUNDLE.to_bytes()
SIGNATURES = (InputSignature(0, b"\x02" * 33, b"\x30" * 71), InputSignature(1, b"\x03" * 33, b"\x30" * 71))
ANSWER = Answer(WORLD.genesis.hash, "alpha", SPEND.asked.digest, SPEND.facts().txid, SIGNATURES)
REFUSAL = Refused("FEE_ABOVE_MAX", "at most 10 sats", "11 sats")
Change = Callable[[dict[str, Any]], object]


def code_of(parse: Callable[[bytes], object], raw: bytes, change: Change = lambda _: None) -> str:
    """Return the code with which `raw` is refused after `change`, or OK."""
    document: Any = decode(raw)
    change(document)
    try:
        parse(encode(document))
    except MalformedError as error:
        return error.code
    return "OK"


def test_parse_bundle_given_to_bytes_returns_the_same_bundle() -> None:
    """With its log, statements, proofs and signatures; and it keeps the bytes it came in."""
    again = parse_bundle(RAW)

    assert again == replace(BUNDLE, raw=RAW)
    assert again.to_bytes() == RAW
    assert isinstance(again, Bundle)


BUNDLE_CHANGES: dict[str, tuple[Change, str]] = {
    "another format": (lambda d: d.update(format="keyturn-delta"), "PROTOCOL"),
    "another protocol": (lambda d: d.update(protocol=2), "PROTOCOL"),
    "an unknown field": (lambda d: d.update(more=1), "FIELD_UNKNOWN"),
    "no PSBT": (lambda d: d.pop("psbt"), "FIELD_MISSING"),
    "loose base64": (lambda d: d.update(psbt=d["psbt"] + "\n"), "BASE64"),
    "base64 of another spelling": (lambda d: d.update(psbt="QQ="), "BASE64"),
    "base64 with loose bits": (lambda d: d.update(psbt="QR=="), "BASE64"),
    "base64 that is not ASCII": (lambda d: d.update(psbt="\u0410AAA"), "BASE64"),
    "a short genesis": (lambda d: d.update(genesis="00"), "FIELD_HEX"),
    "a negative index": (lambda d: d.update(release_index=-1), "FIELD_RANGE"),
    "a short proof hash": (lambda d: d.update(inclusion=["00"]), "FIELD_HEX"),
    "a proof too long": (lambda d: d.update(inclusion=["00" * 32] * 65), "FIELD_TOO_LONG"),
    "a signature of two parts": (lambda d: d.update(signatures=[[0, "00"]]), "SIGNATURE_SHAPE"),
    "a signature that is no list": (lambda d: d.update(signatures=["abc"]), "SIGNATURE_SHAPE"),
    "a signature by a short key": (lambda d: d.update(signatures=[[0, "00", "00"]]), "FIELD_HEX"),
    "a signature by a key of 34 bytes": (lambda d: d.update(signatures=[[0, "02" * 34, "00"]]), "FIELD_HEX"),
    "a signature by a key of 31 bytes": (lambda d: d.update(signatures=[[0, "02" * 31, "00"]]), "FIELD_HEX"),
    "a signature of input -1": (lambda d: d.update(signatures=[[-1, "02" * 33, "00"]]), "FIELD_RANGE"),
    "a log that is no object": (lambda d: d.update(log=[]), "FIELD_TYPE"),
    "an unknown field of the log": (lambda d: d["log"].update(more=1), "FIELD_UNKNOWN"),
    "65 approvals": (lambda d: d.update(approvals=d["approvals"] * 65), "FIELD_TOO_LONG"),
    "a statement of no kind": (lambda d: d["withdrawal"].update(kind="x"), "STATEMENT_KIND"),
}


@pytest.mark.parametrize("name", BUNDLE_CHANGES)
def test_parse_bundle_given_one_change_refuses(name: str) -> None:
    """One valid bundle, one change, one code."""
    change, code = BUNDLE_CHANGES[name]
    assert code_of(parse_bundle, RAW, change) == code


def test_parse_bundle_given_another_spelling_or_too_much_refuses() -> None:
    """Only the canonical bytes, and only so many."""
    for raw, code in ((RAW + b" ", "NOT_CANONICAL"), (b" " * (MAX_BUNDLE_BYTES + 1), "BUNDLE_TOO_LARGE")):
        with pytest.raises(MalformedError, match=code):
            parse_bundle(raw)


def test_parse_bundle_given_truncations_raises_nothing_foreign() -> None:
    """A file cut anywhere is no bundle."""
    for size in range(0, len(RAW), 101):
        with pytest.raises(MalformedError, match="NOT_JSON"):
            parse_bundle(RAW[:size])


def test_parse_delta_given_to_bytes_returns_the_same_delta() -> None:
    """Entries and statements of any age."""
    delta = Delta(WORLD.genesis.hash, BUNDLE.log)

    assert parse_delta(delta.to_bytes()) == delta
    assert code_of(parse_delta, delta.to_bytes(), lambda d: d.update(node="alpha")) == "FIELD_UNKNOWN"
    assert code_of(parse_delta, RAW) == "PROTOCOL"
    with pytest.raises(MalformedError, match="DELTA_TOO_LARGE"):
        parse_delta(b" " * (MAX_DELTA_BYTES + 1))


def test_log_part_given_a_size_returns_what_is_new_or_names_the_gap() -> None:
    """A signer takes entries from its own size on; what lies between is missed, not guessed."""
    part = LogPart(5, (b"five", b"six", b"seven"), (), "")

    assert part.from_size(5) == (b"five", b"six", b"seven")
    assert part.from_size(7) == (b"seven",)
    assert part.from_size(8) == part.from_size(80) == ()
    with pytest.raises(MalformedError, match="LOG_GAP"):
        part.from_size(4)
    assert set(BUNDLE.log.by_digest()) >= {SPEND.asked.digest}


@pytest.mark.parametrize("outcome", [SIGNATURES, REFUSAL, Behind(17)])
def test_parse_answer_given_to_bytes_returns_the_same_answer(outcome: Any) -> None:
    """Signatures, a refusal, or that the signer is behind."""
    answer = replace(ANSWER, outcome=outcome)

    assert parse_answer(answer.to_bytes()) == answer


ANSWER_CHANGES: dict[str, tuple[Change, str]] = {
    "nothing said": (lambda d: d.pop("signatures"), "FIELD_MISSING"),
    "two things said": (lambda d: d.update(behind=1), "FIELD_UNKNOWN"),
    "no signatures": (lambda d: d.update(signatures=[]), "ANSWER_OUTCOME"),
    "a refusal without a code": (lambda d: d.update(refused={"expected": "", "found": ""}), "FIELD_MISSING"),
    "a receipt of no kind": (lambda d: d.update(receipt={"kind": "x"}), "STATEMENT_KIND"),
    "another format": (lambda d: d.update(format="keyturn-bundle"), "PROTOCOL"),
}


@pytest.mark.parametrize("name", ANSWER_CHANGES)
def test_parse_answer_given_one_change_refuses(name: str) -> None:
    """One valid answer, one change, one code."""
    change, code = ANSWER_CHANGES[name]
    assert code_of(parse_answer, ANSWER.to_bytes()) == "OK"
    assert code_of(parse_answer, ANSWER.to_bytes(), change) == code


def test_bundle_given_signatures_by_x_only_keys_is_read_back() -> None:
    """Taproot's keys have 32 bytes; the two kinds are told apart by their length alone."""
    found = (InputSignature(0, b"\x05" * 32, bytes(64)), InputSignature(0, b"\x02" * 33, b"\x30" * 71))

    assert parse_bundle(replace(BUNDLE, signatures=found).to_bytes()).signatures == found


def test_check_receipt_given_a_receipt_of_this_answer_passes_and_of_any_other_refuses() -> None:
    """Node, key, release, transaction and signatures are all bound."""
    statement = receipt_statement(ANSWER, 3, NOW)
    answer = replace(ANSWER, receipt=sign(Kind.RECEIPT, statement, seed_of("alpha")))

    check_receipt(parse_answer(answer.to_bytes()), 3, key_of("alpha"))
    for lie, index, identity, code in (
        (ANSWER, 3, "alpha", "RECEIPT_MISSING"),
        (replace(ANSWER, receipt=sign(Kind.STOP, statement, seed_of("alpha"))), 3, "alpha", "RECEIPT_MISSING"),
        (answer, 3, "beta", "RECEIPT_SIGNATURE"),
        (answer, 4, "alpha", "RECEIPT_MISMATCH"),
        (replace(answer, outcome=SIGNATURES[:1]), 3, "alpha", "RECEIPT_MISMATCH"),
        (replace(answer, txid=bytes(32)), 3, "alpha", "RECEIPT_MISMATCH"),
        (replace(answer, node="beta"), 3, "alpha", "RECEIPT_MISMATCH"),
        (replace(answer, genesis=bytes(32)), 3, "alpha", "RECEIPT_MISMATCH"),
    ):
        with pytest.raises(MalformedError) as raised:
            check_receipt(lie, index, key_of(identity))
        assert raised.value.code == code


def test_receipt_statement_given_a_node_that_is_behind_refuses() -> None:
    """It neither signed nor refused, so there is nothing to receipt."""
    with pytest.raises(MalformedError, match="ANSWER_OUTCOME"):
        receipt_statement(replace(ANSWER, outcome=Behind(1)), 3, NOW)


def test_check_receipt_given_a_refusal_binds_its_code_too() -> None:
    """A no is a node's own word like a yes: read back whole, and no other no."""
    said = replace(ANSWER, outcome=REFUSAL)
    answer = replace(said, receipt=sign(Kind.RECEIPT, receipt_statement(said, 3, NOW), seed_of("alpha")))

    check_receipt(parse_answer(answer.to_bytes()), 3, key_of("alpha"))
    assert answer.receipt is not None
    assert read_receipt(answer.receipt) == (answer, 3)
    other = Refused("OTHER", REFUSAL.expected, REFUSAL.found)
    with pytest.raises(MalformedError, match="RECEIPT_MISMATCH"):
        check_receipt(replace(answer, outcome=other), 3, key_of("alpha"))


def test_summary_of_given_signatures_never_shows_them() -> None:
    """People and logs see how many, not which bytes."""
    assert summary_of(ANSWER)["signed_inputs"] == 2
    assert SIGNATURES[0].signature.hex() not in str(summary_of(ANSWER))
    assert summary_of(replace(ANSWER, outcome=REFUSAL))["refused"] == "FEE_ABOVE_MAX"
    assert summary_of(replace(ANSWER, outcome=Behind(9)))["behind"] == 9

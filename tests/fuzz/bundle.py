"""Target: bundle, delta and answer. One document has one spelling; what is read is written back byte for byte."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from custody.bundle import (
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
from custody.errors import MalformedError, Refused
from custody.signatures import InputSignature
from custody.statements import Kind, sign
from tests.fakes.rules import key_of, seed_of
from tests.fuzz.refusal import attempt, listed
from tests.fuzz.target import ByteMutator

CODES = listed(
    """
    ANSWER_OUTCOME ANSWER_TOO_LARGE BASE64 BUNDLE_TOO_LARGE DELTA_TOO_LARGE DUPLICATE_KEY FIELD_HEX FIELD_MISSING
    FIELD_NAME FIELD_RANGE FIELD_TOO_LONG FIELD_TYPE FIELD_UNKNOWN NOT_CANONICAL NOT_CANONICAL_VALUE NOT_JSON PROTOCOL
    SIGNATURE_ALGORITHM SIGNATURE_SHAPE STATEMENT_KIND STATEMENT_TOO_LARGE
    """
)
RECEIPT_CODES = CODES | {"RECEIPT_MISSING", "RECEIPT_MISMATCH", "RECEIPT_SIGNATURE", "TIME_OUT_OF_RANGE"}
NO_OFFSET = -1
GENESIS, DIGEST, TXID = (bytes([byte]) * 32 for byte in (7, 8, 9))
SIGNATURES = tuple(InputSignature(at, b"\x02" * 33, b"\x30" * 9) for at in range(2))
STATEMENT = sign(Kind.APPROVAL, {"text": "yes \u0416", "limit_sats": 2**53 - 1, "blind": False}, seed_of("bob"))
LOG = LogPart(3, (b'{"kind":"RELEASE","time":1}', b"[true,[]]"), (STATEMENT,), "a note\n")
BUNDLE = Bundle(
    GENESIS, "alpha", STATEMENT, (STATEMENT, STATEMENT), b"psbt\xff", 4, (DIGEST,), "covering\n", LOG, SIGNATURES
)
OUTCOMES = (SIGNATURES, Refused("FEE_ABOVE_MAX", "at most 10", "11"))
ANSWERS = tuple(
    replace(answer, receipt=sign(Kind.RECEIPT, receipt_statement(answer, 4, 1_800_000_000), seed_of("alpha")))
    for answer in (Answer(GENESIS, "alpha", DIGEST, TXID, outcome) for outcome in OUTCOMES)
)
BEHIND = Answer(GENESIS, "alpha", DIGEST, TXID, Behind(2))
IDENTITY = key_of("alpha")
ODD_VALUES: tuple[Any, ...] = (
    *(-1, 0, 2**31, 2**53, 2**64, 1.5, None, True, "", "00", "0x", "A", "=", "\u0410", "\ud800", "a" * 65, [], {}),
    *([[]], {"a": 1}, {"\u0410": 1}, [0, "02" * 33, "30"], 10**400),
)


def seeds() -> Iterator[bytes]:
    """Yield one of each document, small: what is in them is for others to judge."""
    yield BUNDLE.to_bytes()
    yield Delta(GENESIS, LOG).to_bytes()
    yield from (answer.to_bytes() for answer in (*ANSWERS, BEHIND))
    yield from (replace(answer, receipt=None).to_bytes() for answer in ANSWERS)


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with one to three values changed and written canonically again, mostly; else its bytes changed."""
    try:
        document = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return mutate_bytes(raw)
    if random.random() < 0.2:
        return mutate_bytes(raw)
    holder = [document]
    for _ in range(random.choice((1, 1, 2, 3))):
        _change(holder, random, mutate_bytes)
    text = json.dumps(holder[0], sort_keys=True, separators=(",", ":"), ensure_ascii=random.random() < 0.05)
    return text.encode("utf-8", "surrogatepass")


def check(raw: bytes) -> None:
    """Read `raw` as the document that it names; a bundle where it names none."""
    if b'"keyturn-delta"' in raw:
        delta = attempt(lambda: parse_delta(raw), CODES, NO_OFFSET)
        if isinstance(delta, Delta):
            assert delta.to_bytes() == raw
            _check_log(delta.log)
    elif b'"keyturn-answer"' in raw:
        answer = attempt(lambda: parse_answer(raw), CODES, NO_OFFSET)
        if isinstance(answer, Answer):
            _check_answer(answer, raw)
    else:
        bundle = attempt(lambda: parse_bundle(raw), CODES, NO_OFFSET)
        if isinstance(bundle, Bundle):
            assert (bundle.to_bytes(), bundle.raw) == (raw, raw)
            _check_log(bundle.log)


def _check_log(log: LogPart) -> None:
    assert len(log.from_size(log.first)) == len(log.entries)
    assert all(signed.digest == digest for digest, signed in log.by_digest().items())
    assert all(len(signed.digest) == 32 for signed in log.statements)


def _check_answer(answer: Answer, raw: bytes) -> None:
    """A receipt of another answer never passes: the one that was made speaks of this outcome alone."""
    assert answer.to_bytes() == raw
    assert summary_of(answer)["node"] == answer.node
    if (receipt := answer.receipt) is not None:
        spoken_of = attempt(lambda: read_receipt(receipt), RECEIPT_CODES, NO_OFFSET)
        assert isinstance(spoken_of, MalformedError) or spoken_of[0].receipt is receipt
    if isinstance(answer.outcome, Behind):
        return
    refused = attempt(lambda: check_receipt(answer, 4, IDENTITY), RECEIPT_CODES, NO_OFFSET)
    assert isinstance(refused, MalformedError) or answer in ANSWERS


def _change(document: list[Any], random: Random, mutate_bytes: ByteMutator) -> None:
    """Change one value somewhere below `document`: replace, drop, repeat, rename, or change its text or number."""
    inner: Any = document
    at: Any = 0
    while isinstance(inner[at], dict | list) and inner[at] and random.random() < 0.85:
        inner = inner[at]
        at = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
    value, kind = inner[at], random.randrange(6)
    if kind == 0:
        inner[at] = copy.deepcopy(random.choice(ODD_VALUES))
    elif kind == 1 and inner is not document:
        del inner[at]
    elif kind == 2 and isinstance(inner, list) and inner is not document:
        inner.insert(at, copy.deepcopy(value))
    elif kind == 3 and isinstance(inner, dict):
        inner[mutate_bytes(at.encode("utf-8", "replace")).decode("utf-8", "replace")] = copy.deepcopy(value)
    elif isinstance(value, str):
        inner[at] = _changed_text(value, random, mutate_bytes)
    elif isinstance(value, int):
        inner[at] = value + random.choice((-1, 1, 2**31, -(2**53)))


def _changed_text(text: str, random: Random, mutate_bytes: ByteMutator) -> str:
    if len(text) % 2 == 0 and random.random() < 0.5:
        try:
            return mutate_bytes(bytes.fromhex(text)).hex()
        except ValueError:
            pass
    return mutate_bytes(text.encode("utf-8", "replace")).decode("utf-8", "replace")

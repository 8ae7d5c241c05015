"""Signers of other makers: what is carried to each, and what is read of what comes back."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from console.devices.dialects import DIALECTS, Dialect, dialect_named
from console.devices.hwi import Hwi, fingerprint_of
from console.devices.incoming import judge_returned, read_returned
from console.devices.outgoing import prepare
from custody.errors import CustodyError, MalformedError, UnavailableError
from custody.finalise import finalize
from custody.psbt import Psbt, PsbtInput, PsbtOutput, convert, from_base64, parse, serialize
from custody.psbt_fields import GLOBAL_XPUB, IN_PARTIAL_SIGNATURE, IN_TAP_SIGNATURE, FieldMap
from custody.scripts import Template
from custody.signatures import InputSignature, accept, with_signatures
from custody.wallet import Network, ScriptBook
from tests.fakes.psbts import BOOK, WALLET, facts_of, signed_by, spend, valid, wallet_of

BOOKS = {template: ScriptBook(wallet_of(template=template)) for template in Template}
KINDS = (IN_PARTIAL_SIGNATURE, IN_TAP_SIGNATURE)


def code_of(psbt: Psbt, dialect: Dialect) -> str:
    """Return the code with which a PSBT is not carried to a signer, or OK."""
    try:
        prepare(psbt, WALLET, dialect)
    except MalformedError as error:
        return error.code
    return "OK"


def opened(content: bytes, dialect: Dialect) -> Psbt:
    """Return what a signer reads."""
    return parse(from_base64(content.decode()) if dialect.text else content)


def trimmed(psbt: Psbt) -> bytes:
    """Return a PSBT as small signers give it back: the transaction and the signatures, nothing else."""
    inputs = tuple(PsbtInput(tuple(f for f in found.fields if f.type in KINDS)) for found in psbt.inputs)
    outputs = tuple(PsbtOutput(()) for _ in psbt.outputs)
    return serialize(replace(psbt, globals=FieldMap(psbt.globals.fields[:1]), inputs=inputs, outputs=outputs))


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("template", Template)
def test_prepare_given_a_dialect_says_the_same_in_its_words(name: str, template: Template) -> None:
    """The same transaction with its previous transactions, in the signer's version; or a refusal by template."""
    dialect, book = DIALECTS[name], BOOKS[template]
    ours = spend(2, book=book)
    if template not in dialect.templates:
        with pytest.raises(MalformedError, match="DEVICE_TEMPLATE"):
            prepare(ours, book.wallet, dialect)
        return

    theirs = opened(prepare(ours, book.wallet, dialect), dialect)

    assert (theirs.version, theirs.transaction) == (dialect.version, ours.transaction)
    assert [found.previous for found in theirs.inputs] == [found.previous for found in ours.inputs]
    assert len(theirs.globals.all(GLOBAL_XPUB)) == (len(book.wallet.keys) if dialect.xpubs else 0)


def test_prepare_given_a_signer_that_finalises_leaves_the_signatures_of_others_out() -> None:
    """Electrum answers a complete PSBT with a transaction; alone it answers with its own signatures."""
    ours = with_signatures(valid(), signed_by(0, valid()))

    alone, beside = (opened(prepare(ours, WALLET, DIALECTS[n]), DIALECTS[n]) for n in ("electrum", "coldcard"))

    assert not any(found.partial_signatures for found in alone.inputs)
    assert all(found.partial_signatures for found in beside.inputs)


@pytest.mark.parametrize(
    ("dialect", "code"),
    [
        (Dialect("small", max_bytes=100), "DEVICE_PSBT_TOO_LARGE"),
        (Dialect("few", max_inputs=1), "DEVICE_INPUTS"),
        (Dialect("exact", max_bytes=len(serialize(valid())), max_inputs=2), "OK"),
        (Dialect("taproot", templates=frozenset((Template.TR,))), "DEVICE_TEMPLATE"),
    ],
)
def test_prepare_given_more_than_a_signer_takes_refuses(dialect: Dialect, code: str) -> None:
    """Before anybody carries it there; at the limit it goes."""
    assert code_of(valid(), dialect) == code


def test_dialect_named_given_a_stranger_lists_the_known() -> None:
    """A device is one of a list."""
    with pytest.raises(MalformedError, match="DEVICE_UNKNOWN: expected one of coldcard"):
        dialect_named("abacus")


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize("version", [0, 2])
def test_judge_given_a_trimmed_answer_names_who_signed(template: Template, version: int) -> None:
    """What a small signer threw away is in our own PSBT; version 0 answers serve a session of version 2."""
    book = BOOKS[template]
    bare = convert(spend(2, book=book), version)
    ours = with_signatures(bare, signed_by(0, bare, book=book))
    answer = trimmed(convert(with_signatures(ours, signed_by(2, bare, book=book)), 0))

    returned = judge_returned(ours, facts_of(bare, book), book, answer)

    assert [set(found) for found in (returned.new, returned.known, returned.missing)] == [{2}, {0}, {1}]
    assert (returned.partly, returned.bad, returned.threshold) == (frozenset(), (), 2)


def test_judge_given_a_bad_signature_names_whose_and_where() -> None:
    """And a key that signed one of two inputs does not count."""
    first, second = signed_by(1, valid())
    bad = InputSignature(1, second.pubkey, first.signature)
    answer = serialize(with_signatures(valid(), (first, bad)))

    returned = judge_returned(valid(), facts_of(valid(), BOOK), BOOK, answer)

    assert [set(found) for found in (returned.new, returned.partly, returned.missing)] == [set(), {1}, {0, 1, 2}]
    assert [(found.code, found.key_index, found.signature.input_index) for found in returned.bad] == [
        ("SIGNATURE_INVALID", 1, 1)
    ]


def test_judge_given_another_transaction_refuses() -> None:
    """A file that was mixed up on a desk."""
    with pytest.raises(MalformedError, match="FOREIGN_TRANSACTION"):
        judge_returned(valid(), facts_of(valid(), BOOK), BOOK, serialize(spend(1)))


@pytest.mark.parametrize("template", Template)
def test_read_returned_given_a_finished_transaction_finds_the_signatures_in_it(template: Template) -> None:
    """Some signers finish what they can; the transaction in hex is read for its signatures alone."""
    book = BOOKS[template]
    ours = spend(2, book=book)
    facts = facts_of(ours, book)
    both = (*signed_by(0, ours, book=book), *signed_by(2, ours, book=book))
    finished = finalize(ours, facts, book, accept(ours, facts, book, both))

    returned = judge_returned(ours, facts, book, read_returned(finished.serialize().hex().encode() + b"\n"))

    assert (set(returned.new), returned.bad) == ({0, 2}, ())


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "PSBT_BASE64"),
        (b"\xff\xfe", "PSBT_MAGIC"),
        (b"abc", "TX_TRUNCATED"),
        (b"not base64 at all", "PSBT_BASE64"),
    ],
)
def test_read_returned_given_something_else_refuses(content: bytes, code: str) -> None:
    """Neither a PSBT nor a transaction: one code, nothing guessed."""
    with pytest.raises(CustodyError) as refused:
        parse(read_returned(content))
    assert refused.value.code in {code, "PSBT_MAGIC", "TRUNCATED"}


def program(folder: Path, answer: str) -> Path:
    """Return a program that stands for HWI: it notes what it was given and prints `answer`."""
    path = folder / "hwi"
    note = folder / "given"
    path.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(note)!r}, 'w').write(json.dumps([sys.argv[1:], sys.stdin.read()]))\nprint({answer!r})\n"
    )
    path.chmod(0o700)
    return path


def test_hwi_given_a_psbt_hands_it_over_on_standard_input(tmp_path: Path) -> None:
    """Two MiB are no argument of a program, and arguments are seen by everybody on the machine."""
    raw = serialize(valid())
    answer = json.dumps({"psbt": base64.b64encode(raw).decode(), "signed": True})

    assert Hwi(program(tmp_path, answer), Network.REGTEST).sign(raw, bytes.fromhex("46c59499")) == raw

    arguments, typed = json.loads((tmp_path / "given").read_text())
    assert arguments == ["--chain", "regtest", "--stdin"]
    assert typed == f"--fingerprint 46c59499 signtx {base64.b64encode(raw).decode()}\n\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"error": "cancelled on the device", "code": -14}', "HWI_REFUSED"),
        ("[]", "HWI_REFUSED"),
        ("{}", "HWI_REFUSED"),
        ('{"psbt": 7}', "HWI_REFUSED"),
        ("not json", "HWI_ANSWER"),
    ],
)
def test_hwi_given_another_answer_says_why(answer: str, code: str, tmp_path: Path) -> None:
    """What the device said is in the message; nothing else of the answer is used."""
    with pytest.raises(UnavailableError, match=code):
        Hwi(program(tmp_path, answer), Network.REGTEST).sign(b"psbt\xff", bytes(4))


def test_hwi_given_no_program_or_one_that_hangs_says_so(tmp_path: Path) -> None:
    """Missing is told from slow."""
    with pytest.raises(UnavailableError, match="HWI_MISSING"):
        Hwi(tmp_path / "none", Network.REGTEST).devices()
    slow = program(tmp_path, "[]")
    slow.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    with pytest.raises(UnavailableError, match="HWI_TIMEOUT"):
        Hwi(slow, Network.REGTEST, timeout_s=0.2).devices()


@pytest.mark.parametrize("text", ["", "46c594", "46c5949900", "46c5949x"])
def test_fingerprint_of_given_anything_but_eight_hex_digits_refuses(text: str) -> None:
    """Four bytes."""
    with pytest.raises(MalformedError, match="FINGERPRINT"):
        fingerprint_of(text)

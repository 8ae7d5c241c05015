"""Proofs from anywhere: whatever comes in is a proof or refused by code, and never an exception of another kind."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from custody.bip322 import Coin, Form, read_proof, spent_outputs, to_sign, write_proof
from custody.errors import MalformedError
from custody.transaction import OutPoint, TxOut
from custody.units import Sats

SCRIPT, MESSAGE = b"\x00\x20" + b"\x11" * 32, b"text"
COIN = Coin(OutPoint(b"\x01" * 32, 3), TxOut(Sats(5_000), b"\x00\x20" + b"\x22" * 32))
SIGNED = to_sign(SCRIPT, MESSAGE, (COIN,)).with_witnesses([(b"", b"sig", b"script")] * 2)
FUNDS = base64.b64decode(write_proof(Form.FUNDS, SIGNED, spent_outputs(SCRIPT, (COIN,)))[3:])
PREFIXES = st.sampled_from([form.value for form in Form] + [""])


def read(text: str) -> bool:
    """Return whether `text` is taken as a proof; anything but a refusal by code fails the test."""
    try:
        read_proof(text, SCRIPT, MESSAGE)
    except MalformedError:
        return False
    return True


@given(PREFIXES, st.binary(max_size=300))
def test_read_proof_of_any_bytes_is_a_proof_or_refused(prefix: str, raw: bytes) -> None:
    """Base64 of anything at all."""
    read(prefix + base64.b64encode(raw).decode())


@given(st.text(max_size=200))
def test_read_proof_of_any_text_is_a_proof_or_refused(text: str) -> None:
    """Letters that no base64 has."""
    read(text)


@given(st.integers(0, len(FUNDS) - 1), st.integers(0, 255))
def test_read_proof_of_funds_with_one_byte_changed_is_a_proof_or_refused(at: int, byte: int) -> None:
    """A finished PSBT in which anything may lie."""
    read("pof" + base64.b64encode(FUNDS[:at] + bytes([byte]) + FUNDS[at + 1 :]).decode())


@given(st.integers(0, len(FUNDS)))
def test_read_proof_of_funds_cut_anywhere_is_refused(at: int) -> None:
    """Only the whole is a proof."""
    assert read("pof" + base64.b64encode(FUNDS[:at]).decode()) is (at == len(FUNDS))

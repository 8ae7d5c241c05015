"""Messages: one valid statement, one change, one exact code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.errors import MalformedError
from custody.message import Message, check_message, read_message
from custody.statements import Kind, Signed, sign
from tests.fakes.rules import DAY, GENESIS, NOW, TREASURY, policy, seed_of

POLICY = policy()
MESSAGE = Message(GENESIS, "m-1", TREASURY, 0, "We hold these coins.\nKeyturn", "alice", NOW, NOW + DAY)


def signed(message: Message, by: str = "alice") -> Signed:
    """Return the statement of `message` signed by `by`."""
    return sign(Kind.MESSAGE, message.to_json(), seed_of(by))


def test_message_when_signed_by_its_initiator_then_reads_back_and_holds() -> None:
    """A message travels as its canonical bytes and is by whom it says."""
    found = read_message(Signed.from_bytes(signed(MESSAGE).to_bytes()))
    assert found == MESSAGE
    assert check_message(POLICY, found, signed(MESSAGE), GENESIS, NOW) is None


@pytest.mark.parametrize(
    ("message", "by", "at", "code"),
    [
        (replace(MESSAGE, genesis=bytes(32)), "alice", NOW, "GENESIS_OTHER"),
        (MESSAGE, "bob", NOW, "MESSAGE_SIGNATURE"),
        (replace(MESSAGE, initiator="mallory"), "alice", NOW, "MESSAGE_SIGNATURE"),
        (MESSAGE, "alice", NOW + DAY, "MESSAGE_EXPIRED"),
    ],
)
def test_check_message_given_one_lie_refuses_with_its_code(message: Message, by: str, at: int, code: str) -> None:
    """Another genesis, another signer, an unlisted initiator and a late message are refused."""
    refused = check_message(POLICY, message, signed(message, by), GENESIS, at)
    assert refused is not None
    assert refused.code == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (replace(MESSAGE, text="pay \x1b[31m"), "MESSAGE_TEXT"),
        (replace(MESSAGE, text="x" * 2_001), "FIELD_TOO_LONG"),
        (replace(MESSAGE, expires_at=NOW), "MESSAGE_DATES"),
    ],
)
def test_read_message_given_unfit_content_refuses(message: Message, code: str) -> None:
    """Hidden characters, too much text and dates that are over before they begin are refused."""
    with pytest.raises(MalformedError) as caught:
        read_message(signed(message))
    assert caught.value.code == code


def test_read_message_given_another_kind_refuses() -> None:
    """A statement of another kind is no message."""
    with pytest.raises(MalformedError) as caught:
        read_message(replace(signed(MESSAGE), kind=Kind.FREEZE))
    assert caught.value.code == "STATEMENT_KIND"

"""What never stands in the log."""

import io
import json

import pytest

from coordinator.logging import REDACTED, make_logger, redact

SECRETS: dict[str, tuple[str, object]] = {
    "psbt_by_key": ("psbt", "anything"),
    "statement_by_key": ("signed_statement", {"genesis": "00"}),
    "token_by_key": ("vault_token", "anything"),
    "psbt_base64": ("note", "see cHNidP8BAHEC"),
    "psbt_hex": ("note", "70736274FF0100"),
    "vault_token": ("note", "got hvs.CAESIJ12345678"),
    "pem_key": ("note", "-----BEGIN PRIVATE KEY-----"),
    "extended_private_key": (
        "note",
        "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK",
    ),
}


@pytest.mark.parametrize("case", SECRETS)
def test_redact_given_a_secret_takes_it_out(case: str) -> None:
    """By its key or by its own look, at any depth."""
    key, value = SECRETS[case]

    assert redact(None, "", {key: value}) == {key: REDACTED}
    assert redact(None, "", {"outer": [{key: value}]}) == {"outer": [{key: REDACTED}]}


def test_redact_given_bytes_and_long_texts_keeps_their_size() -> None:
    """Content is not an event: bytes become a count, texts are cut."""
    found = redact(None, "", {"digest": b"\0" * 32, "text": "x" * 5_000, "method": "/a/B", "duration_ms": 1.5})

    assert found == {"digest": "[32 bytes]", "text": "x" * 1_000 + "…", "method": "/a/B", "duration_ms": 1.5}


def test_traceback_shows_where_and_not_what() -> None:
    """A logged exception has files and lines, and no value of a variable."""
    output = io.StringIO()

    def breaks() -> None:
        word = "abandon" * 2  # what a traceback with locals would show
        raise ValueError(len(word))

    try:
        breaks()
    except ValueError as error:
        make_logger(output).error("call.break", exc_info=error)

    line = json.loads(output.getvalue())
    assert line["exception"][0]["frames"][-1]["name"] == "breaks"
    assert "abandon" not in output.getvalue()

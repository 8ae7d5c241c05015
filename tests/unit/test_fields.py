"""Reading a decoded object once: each type, each bound, nothing left over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from custody.canonical import Json
from custody.errors import MalformedError
from custody.fields import MAX_NAME_CHARS, Fields, check_name, parse_hex
from custody.units import MAX_MONEY_SATS, MAX_TIME_S

Take = Callable[[Fields], object]


def code_of(value: Json, take: Take) -> str:
    """Return the code with which taking field "f" of `value` is refused, or OK."""
    try:
        take(Fields({"f": value}, "test"))
    except MalformedError as error:
        return error.code
    return "OK"


TAKEN: list[tuple[Json, Take, object]] = [
    ("x", lambda f: f.text("f"), "x"),
    ("alice-1", lambda f: f.name("f"), "alice-1"),
    (["a", "b"], lambda f: f.names("f"), ("a", "b")),
    (7, lambda f: f.integer("f"), 7),
    (True, lambda f: f.boolean("f"), True),
    (MAX_MONEY_SATS, lambda f: f.sats("f"), MAX_MONEY_SATS),
    (MAX_TIME_S, lambda f: f.time("f"), MAX_TIME_S),
    ("00ff", lambda f: f.hex("f"), b"\x00\xff"),
    ("00ff", lambda f: f.hex("f", 2), b"\x00\xff"),
    ([1, "a"], lambda f: f.items("f"), (1, "a")),
]


@pytest.mark.parametrize(("value", "take", "expected"), TAKEN)
def test_fields_given_a_right_value_return_it(value: Json, take: Take, expected: object) -> None:
    """Each reader returns its type, and then nothing is left."""
    fields = Fields({"f": value}, "test")

    assert fields.has("f")
    assert take(fields) == expected
    assert not fields.has("f")
    fields.done()


REFUSED: list[tuple[Json, Take, str]] = [
    (1, lambda f: f.text("f"), "FIELD_TYPE"),
    ("x" * 257, lambda f: f.text("f"), "FIELD_TOO_LONG"),
    ("", lambda f: f.name("f"), "FIELD_NAME"),
    ("Alice", lambda f: f.name("f"), "FIELD_NAME"),
    ("al ice", lambda f: f.name("f"), "FIELD_NAME"),
    ("-alice", lambda f: f.name("f"), "FIELD_NAME"),
    ("alice\n", lambda f: f.name("f"), "FIELD_NAME"),
    ("\u0430lice", lambda f: f.name("f"), "FIELD_NAME"),
    ("a" * (MAX_NAME_CHARS + 1), lambda f: f.name("f"), "FIELD_TOO_LONG"),
    (["a", "a"], lambda f: f.names("f"), "FIELD_DUPLICATE"),
    (["a", 1], lambda f: f.names("f"), "FIELD_NAME"),
    (True, lambda f: f.integer("f"), "FIELD_TYPE"),
    ("7", lambda f: f.integer("f"), "FIELD_TYPE"),
    (-1, lambda f: f.integer("f"), "FIELD_RANGE"),
    (11, lambda f: f.integer("f", 0, 10), "FIELD_RANGE"),
    (1, lambda f: f.boolean("f"), "FIELD_TYPE"),
    ("1", lambda f: f.sats("f"), "AMOUNT_NOT_WHOLE"),
    (True, lambda f: f.sats("f"), "AMOUNT_NOT_WHOLE"),
    (-1, lambda f: f.sats("f"), "AMOUNT_OUT_OF_RANGE"),
    (MAX_MONEY_SATS + 1, lambda f: f.sats("f"), "AMOUNT_OUT_OF_RANGE"),
    (MAX_TIME_S + 1, lambda f: f.time("f"), "TIME_OUT_OF_RANGE"),
    (True, lambda f: f.time("f"), "TIME_OUT_OF_RANGE"),
    ("0", lambda f: f.hex("f"), "FIELD_HEX"),
    ("0G", lambda f: f.hex("f"), "FIELD_HEX"),
    ("FF", lambda f: f.hex("f"), "FIELD_HEX"),
    ("ff\n", lambda f: f.hex("f"), "FIELD_HEX"),
    ("00", lambda f: f.hex("f", 2), "FIELD_HEX"),
    ("ab", lambda f: f.items("f"), "FIELD_TYPE"),
    ([1] * 3, lambda f: f.items("f", 2), "FIELD_TOO_LONG"),
    ([], lambda f: f.fields("f"), "FIELD_TYPE"),
    (1, lambda f: f.any("g"), "FIELD_MISSING"),
    (1, lambda f: f.done(), "FIELD_UNKNOWN"),
]


@pytest.mark.parametrize(("value", "take", "code"), REFUSED)
def test_fields_given_a_wrong_value_refuse(value: Json, take: Take, code: str) -> None:
    """One wrong value, one code."""
    assert code_of(value, take) == code


@pytest.mark.parametrize("value", [[], "x", 1, True])
def test_fields_given_no_object_refuse(value: Json) -> None:
    """Only objects have fields."""
    with pytest.raises(MalformedError, match="FIELD_TYPE"):
        Fields(value, "test")


def test_fields_taken_twice_refuse() -> None:
    """A field is read once, by one reader."""
    fields = Fields({"f": 1}, "test")
    fields.any("f")
    with pytest.raises(MalformedError, match="FIELD_MISSING"):
        fields.any("f")


def test_check_name_and_parse_hex_name_the_place() -> None:
    """The message says where, and never echoes what it refused."""
    for refuse in (lambda: check_name("SECRET", "here"), lambda: parse_hex("SECRET", "here")):
        with pytest.raises(MalformedError, match="here") as raised:
            refuse()
        assert "SECRET" not in str(raised.value)

"""Backups at the terminal: what is asked for again, and what counts nothing; and where a key is said to live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from custody.backups import Form
from custody.errors import CustodyError
from signer_node.copies import make_copy, names_of, new_passphrase, numbered, read_copy
from signer_node.making import place_of
from signer_node.secret import Secret
from tests.fakes.holder import Answer, Holder, last_back
from tests.unit.test_ceremony import config_of

SHARES: dict[str, Answer] = {
    "How many shares": "2 of 3",
    "Who keeps them?": "bert carl dora",
    "SLIP-39 passphrase": "",
    "Share ": last_back,
}


def secret() -> Secret:
    """Return a secret of 12 words."""
    return Secret(bytearray(range(16)), bytearray())


@pytest.mark.parametrize(
    ("form", "change", "code"),
    [
        (Form.SHARES, {}, "OK"),
        (Form.SHARES, {"Share ": "academic"}, "SHARE_NOT_WRITTEN"),
        (Form.SHARES, {"How many shares": "two of three"}, "SHARES_COUNT"),
        (Form.SHARES, {"How many shares": "1 of 3"}, "SHARES_COUNT"),
        (Form.SHARES, {"Who keeps them?": "bert carl"}, "BACKUP_PARTS"),
        (Form.SHARES, {"Who keeps them?": "bert carl Dora!"}, "FIELD_NAME"),
        (Form.SHARES, {"SLIP-39 passphrase": "one", "The same again": "two"}, "PASSPHRASE_TWICE"),
        (Form.WORDS, {}, "BACKUP_FORM"),
    ],
)
def test_make_copy_given_one_change_refuses_with_its_code(
    tmp_path: Path, form: Form, change: dict[str, Answer], code: str
) -> None:
    """One mistake each; what was made then is no backup of the record."""
    holder = Holder(list({**SHARES, **change}.items()))
    try:
        made = make_copy(form, config_of("cold", tmp_path), secret(), holder)
    except CustodyError as error:
        assert error.code == code  # noqa: PT017 - both outcomes are of one table
    else:
        assert (code, made.form, made.needed) == ("OK", Form.SHARES, 2)


def test_make_copy_onto_a_file_that_is_there_refuses_and_leaves_it(tmp_path: Path) -> None:
    """A backup never overwrites another one."""
    (tmp_path / "old").write_text("another backup")
    script: list[tuple[str, Answer]] = [
        ("Passphrase of the file", "twelve bytes or more"),
        ("The same again", "twelve bytes or more"),
        ("Who can open it?", "bert"),
        ("New file for it", str(tmp_path / "old")),
    ]
    with pytest.raises(CustodyError, match="FILE_EXISTS"):
        make_copy(Form.SEALED, config_of("cold", tmp_path), secret(), Holder(script))
    assert (tmp_path / "old").read_text() == "another backup"


@pytest.mark.parametrize("form", [Form.AGE, Form.SEALED])
def test_read_copy_of_a_file_without_one_refuses(form: Form) -> None:
    """Which file is said on the command line."""
    with pytest.raises(CustodyError, match="BACKUP_FILE"):
        read_copy(form, Holder([]), has_passphrase=False)


def test_new_passphrase_that_is_empty_is_not_asked_twice() -> None:
    """Empty means none."""
    assert new_passphrase(Holder([("Passphrase", "")]), "Passphrase: ") == bytearray()


def test_names_of_takes_blanks_and_commas() -> None:
    """As people type them."""
    assert names_of(" anna, bert  carl,") == ("anna", "bert", "carl")


def test_numbered_words_stand_four_in_a_row() -> None:
    """Nobody writes 24 words in one line."""
    assert numbered(("abandon", "ability", "able", "about", "above")).splitlines() == [
        " 1 abandon      2 ability      3 able         4 about",
        " 5 above",
    ]


def test_place_of_tells_one_vault_from_another_and_this_machine_from_both(tmp_path: Path) -> None:
    """Two keys in one Vault, or in two files of one machine, live in one place."""
    config = config_of("cold", tmp_path)
    other = replace(config, backend="sealed-file:///elsewhere/seed")
    vault = replace(config, backend="vault-kv://vault-1:8200/kv/cold")
    transit = replace(config, backend="vault-transit://vault-1:8200/cold?blob=/x")
    assert place_of(config) == place_of(other)
    assert place_of(config).startswith("machine ")
    assert (place_of(vault), place_of(transit)) == ("vault vault-1:8200", "vault vault-1:8200")

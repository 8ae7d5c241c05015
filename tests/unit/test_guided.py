"""The ceremony of one key: what is asked, what is kept and when, and how it goes on after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from custody import ed25519
from custody.backups import Backup, Form
from custody.errors import CustodyError, IntegrityError, UnavailableError
from custody.genesis import KeyRecord, read_key_record
from custody.mnemonic import to_entropy
from custody.statements import Signed
from signer_node import guided
from signer_node.backends import open_backend, sealed_file
from signer_node.ceremony import IDENTITY_FILE, access_of, identity_seed
from signer_node.config import NodeConfig
from signer_node.making import PROGRESS_FILE, load_progress
from tests.fakes.holder import Holder, all_back, last_back, making, word_back
from tests.fakes.rules import NOW
from tests.integration.harness import CHEAP
from tests.unit.test_ceremony import config_of


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeConfig:
    """A node that made nothing yet; sealing is cheap."""
    monkeypatch.setattr(sealed_file.keep_seed, "__defaults__", (CHEAP,))
    return config_of("cold", tmp_path)


async def hold(config: NodeConfig, holder: Holder) -> KeyRecord:
    """Hold the ceremony and return what its record says."""
    signed = await guided.hold(config, holder, lambda: NOW, lambda size: bytes(range(7, 7 + size)))  # always one key
    return read_key_record(Signed.from_bytes(signed.to_bytes()))


@pytest.mark.parametrize("words", [12, 24])
async def test_hold_when_all_goes_well_records_how_the_key_was_made(config: NodeConfig, words: int) -> None:
    """The words on the sheet are the key; the record says of what it was made, and who keeps it."""
    holder = Holder(making(words))
    record = await hold(config, holder)

    assert len(holder.sheets) == 1
    assert len(holder.sheets[0]) == words
    material = await open_backend(config.backend, access_of(config, None)).public()
    assert material.key == record.key
    assert record.identity == ed25519.public_key(identity_seed(config))
    assert record.making is not None
    assert (record.making.sources, record.making.words) == (("os",), words)
    assert record.making.backups == (Backup(Form.WORDS, ("anna",)),)
    assert record.making.place.startswith("machine ")


async def test_hold_leaves_no_word_on_the_screen_or_in_a_file(config: NodeConfig) -> None:
    """What was typed is wiped; what was said and what lies beside the node holds no word of the sheet."""
    holder = Holder(making(24))
    await hold(config, holder)

    entropy = to_entropy(holder.sheets[0])
    files = b"".join(path.read_bytes() for path in config.state.parent.rglob("*") if path.is_file())
    assert not any(any(typed) for typed in holder.given)
    assert not any(f" {word} " in f" {line} " for line in holder.said for word in holder.sheets[0] if len(word) > 4)
    assert entropy not in files
    assert " ".join(holder.sheets[0][:2]).encode() not in files
    assert entropy.hex().encode() not in files


async def test_hold_given_a_word_that_was_written_wrong_shows_the_words_again(config: NodeConfig) -> None:
    """One wrong answer, and the sheet is shown once more."""
    holder = Holder(making(more=[("Word ", "zebra-is-no-word")]))
    await hold(config, holder)

    assert len(holder.sheets) == 2
    assert holder.sheets[0] == holder.sheets[1]


async def test_hold_given_words_that_are_typed_wrong_three_times_keeps_nothing(config: NodeConfig) -> None:
    """A key that nobody could bring back is not used; the next attempt begins anew."""
    answers = [
        (q, (lambda holder, _: " ".join(holder.sheets[0][::-1])) if q == "All words" else a) for q, a in making()
    ]
    with pytest.raises(IntegrityError) as refused:
        await hold(config, Holder(answers))
    assert refused.value.code == "DRILL_FAILED"
    assert not (config.state / IDENTITY_FILE).exists()
    assert not (config.state / PROGRESS_FILE).exists()

    assert (await hold(config, Holder(making()))).node == "cold"


async def test_hold_given_a_passphrase_asks_it_again_and_names_who_knows_it(config: NodeConfig) -> None:
    """The words alone are another key: the drill needs both, and so does whoever could bring the key back."""
    phrase = [
        ("BIP-39 passphrase, empty for none", "über"),
        ("The same again", "über"),
        ("BIP-39 passphrase: ", "über"),
    ]
    holder = Holder(making(12, more=[*phrase, ("Who knows the passphrase?", "bert")]))
    record = await hold(config, holder)

    assert record.making is not None
    assert record.making.passphrase_holders == ("bert",)
    assert record.making.alone() == frozenset()


async def test_hold_when_the_key_could_not_be_kept_goes_on_from_the_words(config: NodeConfig) -> None:
    """The sheet is written, then the machine's disk is full: the same command asks for the words and keeps the key."""
    away = replace(config, backend=f"sealed-file://{config.state.parent}/nowhere/seed")
    first = Holder(making())
    with pytest.raises(UnavailableError):
        await hold(away, first)
    progress = load_progress(config.state)
    assert progress is not None
    assert not progress.is_kept

    second = Holder([("All words", " ".join(first.sheets[0])), ("Another backup?", "no")])
    record = await hold(config, second)

    assert (await open_backend(config.backend, access_of(config, None)).public()).key == record.key == progress.key
    assert second.sheets == []


async def test_hold_given_again_adds_a_backup_and_changes_no_key(config: NodeConfig) -> None:
    """Shares made a day later are in the next record, of the same key and the same time."""
    first = Holder(making(12))
    before = await hold(config, first)
    second = Holder(
        [
            ("Another backup? yes", "yes"),
            ("All words", " ".join(first.sheets[0])),
            ("Another backup? age", "shares"),
            ("Another backup? age", "no"),
            ("How many shares", "2 of 3"),
            ("Who keeps them?", "bert, carl, dora"),
            ("SLIP-39 passphrase", ""),
            ("Share ", last_back),
        ]
    )
    after = await hold(config, second)

    assert before.making is not None
    assert after.making is not None
    assert (after.key, after.identity, after.made_at) == (before.key, before.identity, before.made_at)
    assert after.making.backups[1:] == (Backup(Form.SHARES, ("bert", "carl", "dora"), 2),)
    assert [len(sheet) for sheet in second.sheets] == [20, 20, 20]
    third = Holder([("Another backup?", "no")])
    assert (await hold(config, third)) == after


async def test_hold_on_a_node_with_a_key_without_words_is_refused(config: NodeConfig) -> None:
    """Its key has no words; making another would leave two."""
    config.state.mkdir(mode=0o700)
    (config.state / IDENTITY_FILE).write_text("11" * 32)
    with pytest.raises(CustodyError) as refused:
        await hold(config, Holder(making()))
    assert refused.value.code == "FILE_EXISTS"


async def test_hold_with_dice_mixes_them_in_and_counts_them(config: NodeConfig) -> None:
    """Too few are asked for again; 99 throws are named by their number alone."""
    few, enough = "123456" * 3, "162534" * 16 + "123"
    holder = Holder(making(throws="dice", more=[("99 throws", few), ("99 throws", enough)]))
    record = await hold(config, holder)

    assert record.making is not None
    assert record.making.sources == ("os", "dice:99")
    assert any("THROWS_FEW" in line for line in holder.said)
    assert enough not in str(record)


async def test_hold_where_keys_are_made_inside_keeps_nothing_and_says_so(config: NodeConfig) -> None:
    """An engine makes its own key: seed words cannot be put into it."""
    engine = replace(config, backend="vault-engine://127.0.0.1:1/engine")
    with pytest.raises(CustodyError) as refused:
        await hold(engine, Holder([]))  # not one question is asked
    assert refused.value.code == "BACKEND_KEEPS_NONE"


def test_asked_back_helpers_read_the_sheet() -> None:
    """The person of these tests writes down what a person would."""
    holder = Holder([], sheets=[("one", "two")])
    assert (word_back(holder, "Word 2: "), all_back(holder, ""), last_back(holder, "")) == ("two", "one two", "two")

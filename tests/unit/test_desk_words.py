"""Everything that the desk says is said in both languages, with the same values in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from console.desk.languages import LANGUAGES, language_of, words_in
from console.desk.pages import SENTENCES
from console.views import Stage

DESK = Path("console/desk")
OTHERS = [language for language in LANGUAGES if language != "en"]


def said() -> set[str]:
    """Return every sentence of the templates, and the codes and stages that pages put into words."""
    found = extract_from_dir(DESK, [("templates/**.html", "jinja2")], keywords={"_": None, "ngettext": (1, 2)})
    texts = {message if isinstance(message, str) else message[0] for _, _, message, _, _ in found}
    return texts | {f"code:{code}" for code in SENTENCES} | {f"stage:{stage.value}" for stage in Stage}


@pytest.mark.parametrize("language", OTHERS)
def test_catalogue_when_compared_with_the_pages_then_lacks_nothing_and_keeps_nothing_old(language: str) -> None:
    """No sentence is missing, fuzzy or left over, and each keeps its placeholders."""
    with (DESK / "locale" / language / "LC_MESSAGES" / "desk.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    entries = {m.id if isinstance(m.id, str) else m.id[0]: m for m in catalogue if m.id}

    assert entries.keys() == said()
    for key, entry in entries.items():
        assert not entry.fuzzy, key
        told = entry.string if isinstance(entry.string, str) else (entry.string or ("",))[0]
        assert told, key
        assert sorted(re.findall(r"%\(\w+\)s", told)) == sorted(re.findall(r"%\(\w+\)s", key)), key


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh_Hans"),
        ("zh-Hans", "zh_Hans"),
        ("en-GB,zh;q=0.5", "en"),
        ("fr", "en"),
        ("", "en"),
    ],
)
def test_language_when_a_browser_names_several_then_is_the_first_that_we_have(accepted: str, language: str) -> None:
    """English where none fits."""
    assert language_of(accepted) == language
    assert words_in(language).gettext("Queue") == {"en": "Queue", "zh_Hans": "队列"}[language]

"""The words around statements, in two languages. What is signed is never translated: it is the same for everybody."""

from __future__ import annotations

from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from babel import negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES = {"en": "English", "zh_Hans": "简体中文"}
_HERE = Path(__file__).with_name("locale")


@cache
def words_in(language: str) -> NullTranslations:
    """Return the catalogue of `language`, one of LANGUAGES; English is what the pages are written in."""
    if language == "en":
        return NullTranslations()
    with (_HERE / language / "LC_MESSAGES" / "desk.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return GNUTranslations(compiled)


def language_of(accepted: str) -> str:
    """Return the language for a browser that accepts `accepted`, an Accept-Language header; English where none fits."""
    wanted = [part.split(";")[0].strip().replace("-", "_") for part in accepted.split(",")]
    chinese = {"zh", "zh_CN", "zh_SG", "zh_Hans_CN"}
    named = ["zh_Hans" if tag in chinese else tag for tag in wanted if tag]
    return negotiate_locale(named, LANGUAGES) or "en"


def tag_of(language: str) -> str:
    """Return `language` as HTML writes it."""
    return language.replace("_", "-")

"""Somebody who holds a ceremony: writes down what is shown once, and types it back when asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Answer = str | Callable[["Holder", str], str]
_CELL = re.compile(r"\d+ ([a-z]+)")


@dataclass
class Holder:
    """A terminal with a person at it.

    script: (beginning of a question, answer) in any order; the first that fits is used up, the last of its kind stays.
    sheets: the words of each `show_once`, in order.  said: everything that was shown and was no secret.
    """

    script: list[tuple[str, Answer]]
    sheets: list[tuple[str, ...]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    given: list[bytearray] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """See the port."""
        self.said.append(text)

    def ask(self, question: str) -> str:
        """See the port."""
        self.said.append(question)
        return self._answer(question)

    def ask_secret(self, question: str) -> bytearray:
        """See the port."""
        self.said.append(question)
        self.given.append(bytearray(self._answer(question).encode()))
        return self.given[-1]

    def show_once(self, text: str, question: str) -> None:
        """See the port."""
        self.sheets.append(tuple(_CELL.findall(text.partition(":\n")[2] or text)))
        self.said.append(question)

    def _answer(self, question: str) -> str:
        fits = [at for at, (beginning, _) in enumerate(self.script) if question.startswith(beginning)]
        assert fits, f"nobody knows what to answer to {question!r}"
        answer = self.script[fits[0]][1] if len(fits) == 1 else self.script.pop(fits[0])[1]
        return answer if isinstance(answer, str) else answer(self, question)


def word_back(holder: Holder, question: str) -> str:
    """Answer "Word 7: " from the last sheet."""
    return holder.sheets[-1][int(question.removeprefix("Word ").rstrip(": ")) - 1]


def all_back(holder: Holder, question: str) -> str:
    """Type the first sheet again."""
    return " ".join(holder.sheets[0])


def last_back(holder: Holder, question: str) -> str:
    """Answer "Share 2, word 20: " from the last sheet."""
    return holder.sheets[-1][-1]


def making(
    words: int = 24, *, more: Iterable[tuple[str, Answer]] = (), throws: str = "none"
) -> list[tuple[str, Answer]]:
    """Return the answers of a ceremony in which nothing goes wrong; `more` come before them."""
    return [
        *more,
        ("How many words?", str(words)),
        ("Thrown besides?", throws),
        ("BIP-39 passphrase, empty for none", ""),
        ("Word ", word_back),
        ("Who keeps the words?", "anna"),
        ("All words", all_back),
        ("Another backup?", "no"),
    ]

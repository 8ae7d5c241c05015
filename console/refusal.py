"""A "no" that this person's own program says, before anything is sent."""

from __future__ import annotations

from typing import NoReturn

from custody.errors import CustodyError, Refused


class RefusedHereError(CustodyError):
    """What was asked is understood and not done. refused: its code, what was expected and found."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code, f"expected {refused.expected}, found {refused.found}")
        self.refused = refused


def refuse(code: str, expected: str, found: str) -> NoReturn:
    """Refuse with `code`."""
    raise RefusedHereError(Refused(code, expected, found))


def refuse_if(refused: Refused | None) -> None:
    """Refuse where a check of custody did."""
    if refused is not None:
        raise RefusedHereError(refused)

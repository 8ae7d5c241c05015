"""The one way in which reading foreign bytes may fail: `MalformedError`, with a code that is listed and a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from custody.errors import MalformedError

Found = TypeVar("Found")


def attempt(
    read: Callable[[], Found], codes: frozenset[str], end: int, placeless: frozenset[str] = frozenset()
) -> Found | MalformedError:
    """Return what `read` returns, or its refusal; any other exception, code or place escapes.

    Args:
        read: reads foreign bytes.
        codes: the stable codes it may refuse with.
        end: the size of the input; -1 where refusals have no offset.
        placeless: codes among `codes` that say nothing of one place.
    """
    try:
        return read()
    except MalformedError as error:
        refusal = error
    code, offset = refusal.code, refusal.offset
    assert code in codes, f"unlisted code {code}"
    if end < 0 or code in placeless:
        assert offset == -1, f"{code}: offset {offset} of an input without offsets"
    else:
        assert 0 <= offset <= end, f"{code}: offset {offset} outside 0..{end}"
    return refusal


def listed(codes: str) -> frozenset[str]:
    """Return the codes in a text."""
    return frozenset(codes.split())

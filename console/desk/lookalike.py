"""Addresses that an eye takes for known ones: poisoned histories show the same first and last characters. Pure."""

from __future__ import annotations

from collections.abc import Iterable

SAME_ENDS = 4  # as many as a person compares; a chance meeting of 8 characters of bech32 is one in 10^12
MAX_EDITS = 3  # mistyped, or made to look so: checksums make a real one differ in more


def lookalike_of(address: str, known: Iterable[str]) -> str | None:
    """Return the known address that `address` looks like without being it, or None."""
    return next((other for other in known if other != address and _alike(address, other)), None)


def _alike(one: str, other: str) -> bool:
    a, b = _body(one), _body(other)
    if a == b:
        return False
    same_ends = a[:SAME_ENDS] == b[:SAME_ENDS] and a[-SAME_ENDS:] == b[-SAME_ENDS:]
    few_edits = len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= MAX_EDITS
    return same_ends or few_edits


def _body(address: str) -> str:
    """Return what differs between addresses of one kind: behind "bc1q", "bcrt1p", or behind the first character."""
    lowered = address.lower()
    for prefix in ("bcrt1", "bc1", "tb1"):
        if lowered.startswith(prefix):
            return lowered[len(prefix) + 1 :]
    return address[1:]

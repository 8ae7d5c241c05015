"""What chain servers say, and how: hashes in display order, and answers that are whole or none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from decimal import DecimalException
from typing import Any, ParamSpec, TypeVar

from custody.errors import MalformedError, UnavailableError

_Given = ParamSpec("_Given")
_Told = TypeVar("_Told")
_Question = Callable[_Given, Coroutine[Any, Any, _Told]]
# what reading fields that are missing, of another kind or out of range raises
_UNREADABLE = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    DecimalException,
    MalformedError,
)


def display(digest: bytes) -> str:
    """Return a hash as people and servers write it: hex, reversed."""
    return digest[::-1].hex()


def wire(text: str) -> bytes:
    """Return a hash (32 bytes) in wire order. Raises ValueError for anything but 64 hex digits."""
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise ValueError("hash")
    return found[::-1]


def warily(whose: str) -> Callable[[_Question[_Given, _Told]], _Question[_Given, _Told]]:
    """Return a decorator for a question to a server: an answer that does not fit in any part is no answer.

    The question reads its answer as if it were right; what that raises becomes UnavailableError CHAIN_ANSWER.
    """

    def decorated(question: _Question[_Given, _Told]) -> _Question[_Given, _Told]:
        @functools.wraps(question)
        async def asked(*args: _Given.args, **kwargs: _Given.kwargs) -> _Told:
            try:
                return await question(*args, **kwargs)
            except _UNREADABLE as error:
                found = type(error).__name__
                raise UnavailableError("CHAIN_ANSWER", f"expected {whose} fields, found {found}") from error

        return asked

    return decorated

"""Breakage is raised, refusal is returned; both carry a stable code.

Messages say what was expected and what was found, never a secret. A code is part of the contract:
machines act on it, tests name it, and it does not change once released.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A judged "no": the input was understood and is not allowed.

    code: stable, for machines ("FEE_ABOVE_MAX").  expected, found: for people; never a secret.
    """

    code: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.code}: expected {self.expected}, found {self.found}"


class CustodyError(Exception):
    """Something is broken: the call has no answer.

    Attributes:
        code: stable, upper case with underscores.
    """

    code: str

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class MalformedError(CustodyError):
    """Bytes or values that cannot be what they claim to be.

    Attributes:
        offset: where in the input, in bytes, or -1 where the input has no offsets.
    """

    def __init__(self, code: str, message: str, offset: int = -1) -> None:
        super().__init__(code, message if offset < 0 else f"{message} (at byte {offset})")
        self.offset = offset


class IntegrityError(CustodyError):
    """Stored or received state contradicts itself: a proof, a digest or a history does not hold."""


class ConflictError(CustodyError):
    """The same name already stands for something else, or the state moved on; nothing was changed."""


class NotFoundError(CustodyError):
    """No such thing."""


class UnavailableError(CustodyError):
    """A part this call needs cannot be reached or cannot write; trying again later may work."""


class DeniedError(CustodyError):
    """The caller is known and may not do this."""

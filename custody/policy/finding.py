"""One thing that lint has to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """code: stable.  where: a rule id, principal, wallet or block of the document.  message: for people."""

    code: str
    where: str
    message: str

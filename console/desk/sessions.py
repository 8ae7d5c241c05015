"""Who sits at this desk: a token that opens it once, and a session in a cookie. All is gone when the desk stops."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest

SECRET_BYTES = 32
MAX_SESSIONS = 16  # one person with a few browsers; the oldest goes
SESSION_SECONDS = 12 * 3_600  # a working day


@dataclass(slots=True)
class Session:
    """One browser. csrf: what its pages send in a header.  since: UTC seconds.  language: "" follows the browser."""

    csrf: str
    since: int
    language: str = ""


@dataclass(slots=True)
class Sessions:
    """The token of the next entry, and the sessions that are open. Only hashes of what opens them are kept."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(SECRET_BYTES))
    _open: dict[bytes, Session] = field(default_factory=dict)

    def enter(self, token: str, now: int) -> str | None:
        """Return the secret of a new session if `token` is that of the next entry; it opens nothing a second time."""
        if not compare_digest(token.encode(), self.token.encode()):
            return None
        self.token = secrets.token_urlsafe(SECRET_BYTES)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        while len(self._open) >= MAX_SESSIONS:
            self._open.pop(next(iter(self._open)))
        self._open[_hash(secret)] = Session(secrets.token_urlsafe(SECRET_BYTES), now)
        return secret

    def find(self, secret: str, now: int) -> Session | None:
        """Return the session that `secret` opens at `now` (UTC seconds), or None."""
        found = self._open.get(_hash(secret))
        if found is not None and now - found.since >= SESSION_SECONDS:
            del self._open[_hash(secret)]
            return None
        return found

    def leave(self) -> None:
        """Close every session of this desk."""
        self._open.clear()


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()

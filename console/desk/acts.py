"""What a person is about to sign: the canonical statement, made here, kept until the passkey answers or it grows old.

A browser gets the digest alone, under a name that works once. What comes back is judged over the statement that was
kept, never over anything that the browser returns.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from console.desk.passkeys import DeskKeys, Passkey, read_asserted
from console.pen import Pen
from console.refusal import refuse
from custody.policy import Policy
from custody.statements import Kind, Signed
from custody.withdrawal import Withdrawal

MAX_OPEN = 64  # acts begun and not finished, and pages looked at; the oldest goes
ACT_SECONDS = 300  # a person looks for the key and touches it
LOOK_SECONDS = 3_600  # a page left open over lunch is loaded again


@dataclass(frozen=True, slots=True)
class Act:
    """A statement before its signature. finish: sends it and returns the page that shows what became of it.

    passkey: who is asked to sign; None for the person's key file.  made_at: UTC seconds.
    """

    kind: Kind
    raw: bytes
    finish: Callable[[Signed], Awaitable[str]]
    passkey: Passkey | None
    made_at: int

    @property
    def digest(self) -> bytes:
        """32 bytes: the challenge."""
        return Signed(self.kind, self.raw, ()).digest


@dataclass(frozen=True, slots=True)
class Look:
    """What a page showed. about: which withdrawal, 32 bytes.  shown: what could change, by name."""

    about: bytes
    shown: Mapping[str, str]
    made_at: int


@dataclass(slots=True)
class Acts:
    """The acts and looks of one desk, by names that nobody guesses."""

    _acts: dict[str, Act] = field(default_factory=dict)
    _looks: dict[str, Look] = field(default_factory=dict)
    _drafts: dict[str, Withdrawal] = field(default_factory=dict)
    _challenges: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    def begin(self, act: Act) -> str:
        """Keep `act`; return its name."""
        return _keep(self._acts, act)

    def take(self, name: str, now: int) -> Act:
        """Return the act called `name`, once.

        Raises:
            RefusedHereError: ACT_EXPIRED.
        """
        act = self._acts.pop(name, None)
        if act is None or now - act.made_at > ACT_SECONDS:
            refuse("ACT_EXPIRED", "a question that was asked just now, and once", "an old one; load the page again")
        return act

    def ask(self, challenge: bytes, now: int) -> str:
        """Keep the challenge under which a passkey is to be made; return its name."""
        return _keep(self._challenges, (challenge, now))

    def asked(self, name: str, now: int) -> bytes:
        """Return the challenge called `name`, once. Raises RefusedHereError ACT_EXPIRED."""
        challenge, made_at = self._challenges.pop(name, (b"", 0))
        if not challenge or now - made_at > ACT_SECONDS:
            refuse("ACT_EXPIRED", "a question that was asked just now, and once", "an old one; load the page again")
        return challenge

    def draft(self, asked: Withdrawal) -> str:
        """Keep a withdrawal that is to be read before it is signed; return its name."""
        return _keep(self._drafts, asked)

    def drafted(self, name: str) -> Withdrawal:
        """Return the draft called `name`. Raises RefusedHereError PAGE_EXPIRED."""
        if name not in self._drafts:
            refuse("PAGE_EXPIRED", "a draft of this desk", "none by that name; write it again")
        return self._drafts[name]

    def look(self, look: Look) -> str:
        """Keep what a page shows; return the name under which the page refers to it."""
        return _keep(self._looks, look)

    def looked(self, name: str, about: bytes, now: int) -> Look:
        """Return what the page showed that now asks about `about` (32 bytes).

        Raises:
            RefusedHereError: PAGE_EXPIRED; PAGE_OTHER where that page showed another withdrawal.
        """
        look = self._looks.get(name)
        if look is None or now - look.made_at > LOOK_SECONDS:
            refuse("PAGE_EXPIRED", "a page that was loaded within the hour", "an old one; load it again")
        if look.about != about:
            refuse("PAGE_OTHER", f"a question about {look.about.hex()[:16]}, which was shown", about.hex()[:16])
        return look


T = TypeVar("T")


def _keep(held: dict[str, T], value: T) -> str:
    while len(held) >= MAX_OPEN:
        held.pop(next(iter(held)))
    name = secrets.token_urlsafe(24)
    held[name] = value
    return name


def changes_of(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return (name, shown before, found now) of everything that is not as it was shown."""
    names = sorted(before.keys() | after.keys())
    return tuple(
        (name, before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name)
    )


def usable_passkey(policy: Policy, me: str, keys: DeskKeys, now: int) -> Passkey | None:
    """Return the newest passkey of this desk that the rules in force list for `me`, beside this desk's own key."""
    person = policy.principal(me)
    if person is None or now >= person.valid_until:
        return None
    for passkey in reversed(keys.passkeys()):
        listed = person.credential(passkey.key)
        if listed is not None and listed.desk_key == keys.public_key and keys.origin in listed.origins:
            return passkey
    return None


def signed_of(act: Act, answer: Mapping[str, object], keys: DeskKeys, pen: Callable[[], Pen]) -> Signed:
    """Return the act's statement with the signatures that make it a seen one.

    Raises:
        MalformedError: ASSERTION: the browser's answer is not the passkey's over this statement.
    """
    if act.passkey is None:
        return Signed(act.kind, act.raw, (pen().endorse(act.kind, act.raw),))
    asserted = read_asserted(answer, act.passkey, act.digest, keys.origin)
    return Signed(act.kind, act.raw, (asserted, keys.endorse(act.kind, act.raw)))

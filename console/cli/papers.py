"""What an auditor takes out of an export: a table of withdrawals, the evidence of one. Offline, pinned keys alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from console.cli.office import Invocation, wallet_named

if TYPE_CHECKING:
    from custody.audit import Export, Verdict
    from custody.story import Story, Wanted

MAX_EXPORT_FILE_BYTES = 2 * 1024 * 1024 * 1024  # both logs whole; read at once
MIN_PREFIX_CHARS = 8  # of a digest, as in every other command


@dataclass(frozen=True, slots=True)
class Filters:
    """The options of `audit csv`, as typed. since is included, until is not."""

    wallet: str | None
    person: str | None
    since: str | None
    until: str | None


def trusted_hash(called: Invocation, typed: str | None) -> bytes:
    """Return the genesis hash (32 bytes) to judge by: the one typed, else the pinned one."""
    from custody.fields import parse_hex

    return called.genesis().hash if typed is None else parse_hex(typed, "--genesis", 32)


def read_verified(file: Path, trusted: bytes) -> tuple[Export | None, Verdict]:
    """Return the export in `file` at level full; None where it is not what w witnesses vouched for.

    An export that holds a POLICY_VIOLATION is genuine, so it is returned: its papers are what is wanted most then.
    """
    from console.files import read_file
    from custody.audit import VerdictKind, read_export
    from custody.replay import verify

    raw = read_file(file, MAX_EXPORT_FILE_BYTES)
    verdict = verify(raw, trusted, None, True)
    is_genuine = verdict.kind in (VerdictKind.OK, VerdictKind.POLICY_VIOLATION)
    return read_export(raw) if is_genuine else None, verdict


def wanted_of(filters: Filters, export: Export) -> Wanted:
    """Return which withdrawals are asked for.

    Raises:
        NotFoundError: WALLET_UNKNOWN.
        MalformedError: FIELD_NAME for a person that no rules could name.
    """
    from custody.fields import check_name
    from custody.genesis import parse_genesis
    from custody.story import Wanted

    if filters.wallet is not None:
        wallet_named(parse_genesis(export.genesis), filters.wallet)
    person = None if filters.person is None else check_name(filters.person, "--person")
    return Wanted(filters.wallet, person, _seconds(filters.since, "--from"), _seconds(filters.until, "--to"))


def story_named(export: Export, name: str) -> Story:
    """Return the withdrawal that `name` means: a digest, its first 8 digits or more, ID, or INITIATOR/ID.

    Raises:
        NotFoundError: WITHDRAWAL_UNKNOWN.
        RefusedHereError: AMBIGUOUS.
    """
    from console.refusal import refuse
    from custody.errors import NotFoundError
    from custody.story import stories_of

    found = [story for story in stories_of(export) if _is_named(story, name)]
    if not found:
        raise NotFoundError("WITHDRAWAL_UNKNOWN", f"expected a withdrawal called {name} in the export")
    if len(found) > 1:
        refuse("AMBIGUOUS", "one withdrawal: INITIATOR/ID or a digest", _digests(found))
    return found[0]


def _is_named(story: Story, name: str) -> bool:
    if len(name) >= MIN_PREFIX_CHARS and story.digest.hex().startswith(name):
        return True
    asked = story.asked
    return asked is not None and name in (asked.withdrawal_id, f"{asked.initiator}/{asked.withdrawal_id}")


def _digests(found: Sequence[Story]) -> str:
    return ", ".join(story.digest.hex()[:16] for story in found)


def _seconds(text: str | None, option: str) -> int | None:
    """Return UTC seconds of "2026-11-25" or "2026-11-25T14:00:00Z"; a time without zone is UTC."""
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("expected 2026-11-25 or 2026-11-25T14:00:00Z", param_hint=option) from None
    return int((found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)).timestamp())

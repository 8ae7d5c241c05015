"""Level full of an audit: what the verified entries mean, judged under the pinned rules by the code that signers use.

A RELEASE in the log that no signer may have counted (its withdrawal, its approvals or its payments do not hold), one
that pays a second time, one of a stopped withdrawal or one during a freeze is a POLICY_VIOLATION.
"""

from __future__ import annotations

from custody.audit import Export, Log, Verdict, VerdictKind
from custody.entries import EntryKind, Release, parse_entry
from custody.errors import CustodyError
from custody.follow import State, append, open_money_checkpoint, settled, start, time_of
from custody.genesis import parse_genesis
from custody.statements import Signed
from custody.withdrawal import Withdrawal, read_withdrawal


def replay(export: Export) -> Verdict | None:
    """Return the first violation in `export`, or None. Entries and signatures were proven by `verify_export`."""
    genesis = parse_genesis(export.genesis)
    statements = {digest: body for digest, body in export.bodies.items() if isinstance(body, Signed)}
    state, releases = start(genesis), dict[int, Release]()
    entries = export.entries[Log.MONEY]
    for index, raw in enumerate(entries):
        entry = parse_entry(raw)
        if entry.kind is EntryKind.RELEASE and isinstance(entry.body, Release):
            why = _forbidden(state, entry.body, read_withdrawal(statements[entry.body.withdrawal_digest]), entry.time)
            if why:
                return _violation(export, index, entry.body, why)
            releases[index] = entry.body
        try:
            state = append(state, raw, statements)
        except CustodyError as error:
            return Verdict(VerdictKind.MODIFIED, error.message, Log.MONEY, index, export.place(Log.MONEY, index).line)
    if entries:
        state = settled(state, time_of(open_money_checkpoint(start(genesis), export.checkpoints[Log.MONEY])))
    counted = {released.index for released in state.releases}
    for index, release in releases.items():
        if index not in counted:
            return _violation(export, index, release, "expected people and payments that the rules accept")
    return None


def _forbidden(state: State, release: Release, withdrawal: Withdrawal, time: int) -> str:
    """Return why the log in front of `release` forbids it, or ""."""
    if (stop := state.is_stopped(withdrawal)) is not None:
        return f"expected no {stop.cause.value} by {stop.by} in front of the release"
    if state.is_frozen(time):
        return "expected no freeze in front of the release"
    for earlier in state.releases:
        same_family = earlier.release.family == release.family
        if same_family and not set(earlier.release.outpoints) & set(release.outpoints):
            return f"expected a coin of release {earlier.index}, found a second payment"
        same_name = (earlier.release.initiator, earlier.release.withdrawal_id) == (
            release.initiator,
            release.withdrawal_id,
        )
        if same_name and earlier.release.withdrawal_digest != release.withdrawal_digest:
            return f"expected another withdrawal_id than release {earlier.index}"
    return ""


def _violation(export: Export, index: int, release: Release, detail: str) -> Verdict:
    return Verdict(
        VerdictKind.POLICY_VIOLATION,
        detail,
        Log.MONEY,
        index,
        export.place(Log.MONEY, index).line,
        withdrawal=release.withdrawal_digest.hex(),
    )

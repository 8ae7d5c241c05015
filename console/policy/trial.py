"""Try a draft on what the log holds: a follower's releases with their statements, for `custody.policy.simulate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from console.follower import Followed
from custody.approval import read_approval
from custody.canonical import Json
from custody.genesis import Genesis
from custody.policy.simulate import Change, Compared, PastRelease
from custody.statements import Signed
from custody.wallet import ScriptBook
from custody.withdrawal import read_withdrawal


def past_releases(followed: Followed) -> Iterator[PastRelease]:
    """Yield every admissible release of the log with the statements it rests on, oldest first."""
    statements: Mapping[bytes, Signed] = followed.statements
    for released in followed.state.releases:
        signed = [statements[digest] for digest in released.release.approvals]
        yield PastRelease(
            release=released.release,
            t=released.t,
            withdrawal=read_withdrawal(statements[released.release.withdrawal_digest]),
            approvals=tuple((read_approval(each), each) for each in signed),
        )


def books_of(genesis: Genesis) -> dict[bytes, ScriptBook]:
    """Return the scripts of every wallet of `genesis`, by its id."""
    return {found.wallet.wallet_id: ScriptBook(found.wallet) for found in genesis.wallets}


def compared_json(each: Compared) -> Json:
    """Return one release under both versions, for programs."""
    return {
        "withdrawal": each.withdrawal_digest.hex(),
        "withdrawal_id": each.withdrawal_id,
        "initiator": each.initiator,
        "t": each.t,
        "amount_sats": each.amount_sats,
        "now": {"verdict": each.now.verdict.value, "because": list(each.now.because), "also": each.now.also},
        "draft": {"verdict": each.draft.verdict.value, "because": list(each.draft.because), "also": each.draft.also},
    }


def change_json(change: Change) -> Json:
    """Return one row of the table, for programs."""
    return {
        "before": change.before,
        "after": change.after,
        "by": change.by,
        "count": change.count,
        "amount_sats": change.amount_sats,
    }

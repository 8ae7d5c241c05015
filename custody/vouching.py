"""Checkpoints as witnesses vouch for them: whose keys count at which time, and what T is.

From the moment a waiting rule document is due, its log key and witnesses count, and the former ones no more.
"""

from __future__ import annotations

from custody.audit import Cosigned, Log, WitnessKey, open_checkpoint
from custody.errors import CustodyError, IntegrityError, MalformedError
from custody.policy import Policy
from custody.state import State, in_force


def open_under(state: State, note: str, log: Log = Log.MONEY) -> tuple[State, Cosigned]:
    """Return `note` of `log` opened, and `state` under the rules whose keys must vouch at the time that it bears.

    From the moment a waiting document is due, its log key and witnesses count, and the former ones no more. Which
    moment a checkpoint is of, its oldest counted cosignature says.

    Raises:
        MalformedError, IntegrityError: what the note lacks, by code; CHECKPOINT_UNDERSIGNED for too few witnesses,
            CHECKPOINT_RULES where only keys of another time vouch.
    """
    if not state.rules.waiting:
        return state, _open(state, note, log)[0]
    due = state.rules.waiting[0].due
    failures: list[CustodyError] = []
    for candidate, is_later in ((state, False), (in_force(state, due), True)):
        try:
            cosigned, vouched_at = _open(candidate, note, log)
        except (MalformedError, IntegrityError) as error:
            failures.append(error)
            continue
        if (vouched_at >= due) == is_later:
            return candidate, cosigned
    if len(failures) < 2:
        raise IntegrityError("CHECKPOINT_RULES", "expected the log key and witnesses of its time, found others")
    raise failures[0]


def open_money_checkpoint(state: State, note: str) -> Cosigned:
    """Return `note` opened as `open_under` does."""
    return open_under(state, note)[1]


def _open(state: State, note: str, log: Log) -> tuple[Cosigned, int]:
    """Return `note` under the keys of `state`, and by when w of them vouched."""
    roots = state.policy.roots
    cosigned = open_checkpoint(note, roots.log_key, state.genesis.origin(log.value), witness_keys(state.policy))
    oldest = cosigned.oldest_counted(roots.w)
    if oldest is None:
        raise IntegrityError(
            "CHECKPOINT_UNDERSIGNED", f"expected {roots.w} witnesses' cosignatures, found {len(cosigned.counted)}"
        )
    return cosigned, oldest


def witness_keys(policy: Policy) -> tuple[WitnessKey, ...]:
    """Return the pinned witnesses as the log's notes name them."""
    return tuple(WitnessKey(witness.name, witness.key) for witness in policy.roots.witnesses)


def time_of(cosigned: Cosigned) -> int:
    """Return T of what `cosigned` is the first to cover: its latest counted timestamp, UTC seconds."""
    if cosigned.newest is None:
        raise IntegrityError("CHECKPOINT_UNDERSIGNED", "expected a cosignature, found none")
    return cosigned.newest

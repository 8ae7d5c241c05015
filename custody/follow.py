"""A follower's state: a pure function of (genesis, money log), shared by signers, engine, desk, CLI and verifier.

Releases, stops and freezes are counted from here and from nowhere else, so spreading requests over signers evades
nothing. An entry's T (when it happened, as witnesses saw it) is fixed by the WITNESS entry behind it; entries of the
tail, which no WITNESS entry covers yet, get theirs from the checkpoint at hand by `settled`. What cannot be verified
counts nothing; what is missing or contradicts itself is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from custody.audit import leaf_hash, parse_checkpoint, parse_note
from custody.entries import EntryKind, MoneyEntry, Witnessed, parse_entry, seal_of, statements_of
from custody.errors import IntegrityError
from custody.settle import count_at_once, may_freeze, may_stop, payments_of, settle, succeed_by
from custody.state import (
    LONE_FREEZE_SECONDS,
    Frozen,
    Pending,
    Released,
    State,
    family_of,
    in_force,
    start,
    under,
    under_version,
)
from custody.statements import Signed
from custody.vouching import open_money_checkpoint, open_under, time_of, witness_keys

__all__ = [
    "LONE_FREEZE_SECONDS",
    "Frozen",
    "Pending",
    "Released",
    "State",
    "advance",
    "append",
    "append_parsed",
    "family_of",
    "governed",
    "in_force",
    "may_freeze",
    "may_stop",
    "open_money_checkpoint",
    "open_under",
    "payments_of",
    "settled",
    "start",
    "time_of",
    "under_version",
    "witness_keys",
]


def governed(state: State, at: int) -> State:
    """Return `state` under the rules of `at`, the tail's rule documents taken as first seen then; only to judge by.

    Whoever follows on goes on from `state`: the tail gets its true T from a WITNESS entry.
    """
    found = under(state, state.rules.at(at))
    for pending in state.tail:
        if pending.entry.kind is EntryKind.RULE:
            found = succeed_by(found, pending, at)
    return under(found, found.rules.at(at))


def advance(state: State, entries: Sequence[bytes], statements: Mapping[bytes, Signed], note: str) -> State:
    """Return the state after `entries`, which must end exactly at the cosigned checkpoint `note`.

    Args:
        state: where the follower stands.
        entries: canonical money-log entries from index `state.size` on.
        statements: by digest, what the entries name.
        note: a cosigned money checkpoint of any age.

    Raises:
        IntegrityError: ROLLED_BACK, LOG_FORK, CHECKPOINT_UNDERSIGNED, MISSING_BODY, ...
        MalformedError: an entry, note or statement is not what it claims to be.
    """
    claimed = parse_checkpoint(parse_note(note).body).size
    if claimed < state.size:
        raise IntegrityError("ROLLED_BACK", f"expected size >= {state.size}, found {claimed}")
    for raw in entries:  # first: they tell whose keys vouch for the checkpoint behind them
        state = append(state, raw, statements)
    checkpoint = open_money_checkpoint(state, note).checkpoint
    if checkpoint.size != state.size:
        raise IntegrityError("LOG_SIZE", f"expected entries up to {checkpoint.size}, found {state.size}")
    if state.size and checkpoint.root != state.frontier.root:
        raise IntegrityError("LOG_FORK", f"expected the root of my {state.size} entries, found another")
    return state


def settled(state: State, t: int) -> State:
    """Return `state` with the tail's T set to `t`: the latest counted timestamp of the checkpoint that covers it.

    The rules are those that `open_under` gives for that checkpoint: delays run out by the oldest counted timestamp, so
    that no single witness can end one early.
    """
    settled_state = state
    for pending in state.tail:
        settled_state = settle(settled_state, pending, t)
    return replace(settled_state, tail=())


def append(state: State, raw: bytes, statements: Mapping[bytes, Signed]) -> State:
    """Return the state after one more entry, for whoever keeps the log himself; a follower calls `advance`."""
    return append_parsed(state, parse_entry(raw), leaf_hash(raw), statements)


def append_parsed(state: State, entry: MoneyEntry, leaf: bytes, statements: Mapping[bytes, Signed]) -> State:
    """Return the state after `entry`, whose leaf hash (32 bytes) the caller has at hand."""
    index = state.size
    if entry.event_size < state.event_size:
        raise IntegrityError("EVENT_SIZE", f"expected event_size >= {state.event_size}, found {entry.event_size}")
    named: dict[bytes, Signed] = {}
    for digest in statements_of(entry):
        if digest not in statements or statements[digest].digest != digest:
            raise IntegrityError("MISSING_BODY", f"expected the statement {digest.hex()[:16]} of entry {index}")
        named[digest] = statements[digest]
    if seal_of(named[digest] for digest in statements_of(entry)) != entry.signed:
        raise IntegrityError("BODY_OTHER", f"expected the statements of entry {index} as signed when they were logged")
    if entry.kind is EntryKind.WITNESS:
        state = _settle_all(state, entry)
    else:
        pending = Pending(index, entry, named)
        state = replace(count_at_once(state, pending), tail=(*state.tail, pending))
    return replace(state, frontier=state.frontier.append(leaf), event_size=entry.event_size)


def _settle_all(state: State, entry: MoneyEntry) -> State:
    """Take a WITNESS entry: it covers every entry in front of it, or it is refused."""
    assert isinstance(entry.body, Witnessed)  # noqa: S101 - parse_entry pairs kind and body
    if not state.tail:
        raise IntegrityError("WITNESS_ENTRY", "expected a WITNESS entry only behind an entry that it covers")
    vouched, cosigned = open_under(state, entry.body.note)
    if (cosigned.checkpoint.size, cosigned.checkpoint.root) != (state.size, state.frontier.root):
        raise IntegrityError("WITNESS_ENTRY", f"expected the checkpoint of the {state.size} entries in front of it")
    return settled(vouched, time_of(cosigned))

"""Whose keys vouch for the logs from when on: read from the rule documents of an export, without judging the rest.

Cheap on purpose: only RULE entries, and the WITNESS entries that date them, are read. Nothing here is believed:
`custody.replay` follows the whole log, under the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from custody.audit import Export, ExportKeys, Log
from custody.entries import Document, EntryKind, Witnessed, parse_entry
from custody.errors import CustodyError
from custody.follow import State, open_under, start, time_of, witness_keys
from custody.genesis import Genesis, parse_genesis
from custody.governing import Rules, succeed
from custody.policy import Policy
from custody.statements import Signed

_RULE = b'"kind":"RULE"'  # as canonical JSON has it; inside a string the quotes would be escaped


def keys_under(genesis: Genesis, policy: Policy, since: int = 0) -> ExportKeys:
    """Return whose signatures an export must carry under `policy`, from `since` (UTC seconds) on."""
    roots = policy.roots
    return ExportKeys(genesis.hash, roots.log_key, witness_keys(policy), roots.w, since)


def later_keys(export: Export) -> tuple[ExportKeys, ...]:
    """Return the keys of each later version of the rules; those found so far where the export cannot be read on."""
    if not any(_RULE in raw for raw in export.entries[Log.MONEY]):
        return ()
    found: list[ExportKeys] = []
    try:
        genesis = parse_genesis(export.genesis)
        found.extend(keys_under(genesis, policy, since) for policy, since in _versions(genesis, export))
    except CustodyError:
        pass
    return tuple(found)


def _versions(genesis: Genesis, export: Export) -> Iterator[tuple[Policy, int]]:
    """Yield each later version with the second from which on it holds."""
    state, tail = start(genesis), list[tuple[int, Signed]]()
    for index, raw in enumerate(export.entries[Log.MONEY]):
        if _RULE not in raw and not tail and not state.rules.waiting:
            continue
        entry = parse_entry(raw)
        if entry.kind is EntryKind.RULE and isinstance(entry.body, Document):
            signed = export.bodies.get(entry.body.statement)
            tail += [(index, signed)] if isinstance(signed, Signed) else []
        elif isinstance(entry.body, Witnessed):
            before, (vouched, cosigned) = state.rules, open_under(state, entry.body.note)
            state = _settled(vouched, tail, time_of(cosigned))
            tail = []
            yield from _taken(before, state.rules, time_of(cosigned))
    if state.rules.waiting:
        yield state.rules.waiting[0].policy, state.rules.waiting[0].due


def _settled(state: State, tail: list[tuple[int, Signed]], t: int) -> State:
    rules = state.rules
    for index, signed in tail:
        rules = succeed(rules, state.genesis, signed, index, t)
    return replace(state, rules=rules)


def _taken(before: Rules, after: Rules, t: int) -> Iterator[tuple[Policy, int]]:
    """Yield what took effect: a document that waited when it was due, any other at `t`, with the keys it found."""
    due = {waiting.policy.hash: waiting.due for waiting in before.waiting}
    for policy in after.versions[len(before.versions) :]:
        yield policy, due.get(policy.hash, t)

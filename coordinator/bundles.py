"""Make what goes to a signer: its bundle, or before it the delta when it is far behind. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.parts import Parts
from coordinator.session import Session
from custody.audit import Log
from custody.bundle import MAX_DELTA_BYTES, MAX_ENTRIES_IN_BUNDLE_BYTES, Bundle, Delta, LogPart
from custody.errors import ConflictError, UnavailableError
from custody.signatures import InputSignature
from custody.statements import Signed

_DELTA_ENTRY_BYTES = MAX_DELTA_BYTES // 3  # the statements that entries name travel too and may be as large again


@dataclass(frozen=True, slots=True)
class Asked:
    """What signers are asked for: a withdrawal with its PSBT, or a message without one. index: of its log entry."""

    signed: Signed
    approvals: tuple[Signed, ...]
    psbt: bytes
    index: int
    signatures: tuple[InputSignature, ...]


async def make_bundle(parts: Parts, session: Session, node: str, node_size: int) -> Bundle | None:
    """Return the bundle of a released session for `node`, or None where a delta must go first.

    Args:
        parts: of this coordinator.
        session: released and vouched for.
        node: for whom.
        node_size: money-log entries that it has.

    Raises:
        UnavailableError: NOT_VOUCHED: too few fresh cosignatures to be had now.
        ConflictError: NOT_RELEASED.
    """
    if session.release_index is None or session.psbt is None:
        raise ConflictError("NOT_RELEASED", "expected a released withdrawal")
    asked = Asked(session.withdrawal, session.approvals, session.psbt, session.release_index, session.signatures)
    return await bundle_of(parts, asked, node, node_size)


async def bundle_of(parts: Parts, asked: Asked, node: str, node_size: int) -> Bundle | None:
    """Return the bundle of what is asked and logged for `node`, or None where a delta must go first.

    Raises:
        UnavailableError: NOT_VOUCHED: too few fresh cosignatures to be had now.
    """
    notes = await parts.logs.fresh(Log.MONEY)
    if notes is None or notes.size <= asked.index:
        raise UnavailableError("NOT_VOUCHED", "expected enough witnesses' cosignatures over the release")
    # With its entry where that fits; else, to a node that followed it already, only what it lacks.
    for first in sorted({min(node_size, asked.index), min(node_size, notes.size)}):
        entries = await parts.store.entries(Log.MONEY, first, notes.size, MAX_ENTRIES_IN_BUNDLE_BYTES)
        if len(entries) == notes.size - first:
            break
    else:
        return None
    statements = await parts.followed.statements(entries)
    return Bundle(
        genesis=parts.genesis.hash,
        node=node,
        withdrawal=asked.signed,
        approvals=asked.approvals,
        psbt=asked.psbt,
        release_index=asked.index,
        inclusion=await parts.logs.inclusion(Log.MONEY, asked.index, notes.size),
        covering=notes.first,
        log=LogPart(first, entries, tuple(statements.values()), notes.newest),
        signatures=asked.signatures,
    )


async def make_delta(parts: Parts, node_size: int) -> Delta | None:
    """Return the next entries for a node that has `node_size`, up to a cosigned checkpoint; None for none."""
    head = parts.store.head(Log.MONEY).size
    entries = await parts.store.entries(Log.MONEY, node_size, head, _DELTA_ENTRY_BYTES) if node_size < head else ()
    sizes = await parts.store.cosigned_sizes(Log.MONEY, node_size, 10_000)
    reachable = [size for size in sizes if size <= node_size + len(entries)]
    if not reachable:
        return None
    notes = await parts.store.cosigned(Log.MONEY, max(reachable))
    if notes is None:
        return None
    kept = entries[: notes.size - node_size]
    statements = await parts.followed.statements(kept)
    return Delta(parts.genesis.hash, LogPart(node_size, kept, tuple(statements.values()), notes.newest))

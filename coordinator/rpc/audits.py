"""AuditService: the logs for whoever checks them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from coordinator.exporting import export_lines
from coordinator.parts import Parts
from coordinator.rpc.identity import Context, identity_of
from coordinator.rpc.limits import page_size
from coordinator.rpc.statements import write_signed
from coordinator.store.port import Change, Event
from custody.audit import Log
from custody.canonical import Json
from custody.errors import NotFoundError, UnavailableError
from custody.v1 import audit_pb2, audit_pb2_grpc

_READ_BYTES = 2 * 1024 * 1024  # one answer
MAX_CHUNK_BYTES = 1024 * 1024  # protos: one piece of an export
_LOGS = {audit_pb2.LOG_MONEY: Log.MONEY, audit_pb2.LOG_EVENT: Log.EVENT}


class Audits(audit_pb2_grpc.AuditServiceServicer):
    """See protos/custody/v1/audit.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def GetCheckpoint(
        self, request: audit_pb2.GetCheckpointRequest, context: Context
    ) -> audit_pb2.GetCheckpointResponse:
        """Give a fresh cosigned checkpoint."""
        notes = await self._parts.logs.fresh(_log(request.log))
        if notes is None:
            raise UnavailableError("WITNESSES_MISSING", "expected enough witnesses' cosignatures")
        return audit_pb2.GetCheckpointResponse(note=notes.newest, size=notes.size)

    async def ListEntries(
        self, request: audit_pb2.ListEntriesRequest, context: Context
    ) -> audit_pb2.ListEntriesResponse:
        """Give entries with the statements they name."""
        log = _log(request.log)
        size = self._parts.store.head(log).size
        end = min(size, request.first + page_size(request.limit, 100))
        entries = await self._parts.store.entries(log, min(request.first, end), end, _READ_BYTES) if end else ()
        statements = await self._parts.followed.statements(entries) if log is Log.MONEY else {}
        return audit_pb2.ListEntriesResponse(
            entries=[audit_pb2.Entry(index=request.first + at, entry=raw) for at, raw in enumerate(entries)],
            statements=[write_signed(signed) for signed in statements.values()],
            size=size,
        )

    async def GetInclusionProof(
        self, request: audit_pb2.GetInclusionProofRequest, context: Context
    ) -> audit_pb2.GetInclusionProofResponse:
        """Prove an entry."""
        proof = await self._parts.logs.inclusion(_log(request.log), request.index, request.size)
        return audit_pb2.GetInclusionProofResponse(proof=proof)

    async def GetConsistencyProof(
        self, request: audit_pb2.GetConsistencyProofRequest, context: Context
    ) -> audit_pb2.GetConsistencyProofResponse:
        """Prove that the log only grew."""
        proof = await self._parts.logs.consistency(_log(request.log), request.old_size, request.size)
        return audit_pb2.GetConsistencyProofResponse(proof=proof)

    async def GetCosignatures(
        self, request: audit_pb2.GetCosignaturesRequest, context: Context
    ) -> audit_pb2.GetCosignaturesResponse:
        """Give the newest note of a size."""
        notes = await self._parts.store.cosigned(_log(request.log), request.size)
        if notes is None:
            raise NotFoundError("NOTE_UNKNOWN", f"expected a size that witnesses vouched for, found {request.size}")
        return audit_pb2.GetCosignaturesResponse(note=notes.newest)

    async def Export(
        self, request: audit_pb2.ExportRequest, context: Context
    ) -> AsyncIterator[audit_pb2.ExportResponse]:
        """Give the whole log as one file that verifies on its own."""
        await _record(self._parts, "log.exported", context)
        async for line in export_lines(self._parts):
            for start in range(0, len(line), MAX_CHUNK_BYTES):
                yield audit_pb2.ExportResponse(chunk=line[start : start + MAX_CHUNK_BYTES])


async def _record(parts: Parts, kind: str, context: Context, **fields: Json) -> None:
    """Write the event of a read that somebody made; what cannot be logged is not answered."""
    event = Event(kind, str(identity_of(context)), fields)
    await parts.store.record(Change(parts.clock.now(), events=(event,)))


def _log(value: audit_pb2.Log.ValueType) -> Log:
    found = _LOGS.get(value)
    if found is None:
        raise NotFoundError("LOG_UNKNOWN", "expected the money or the event log")
    return found

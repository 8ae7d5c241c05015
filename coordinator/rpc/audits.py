"""AuditService and PolicyService: the logs and the rules for whoever checks them, and freezes that must not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator

from coordinator.exporting import export_lines
from coordinator.parts import Parts
from coordinator.posted import take_in
from coordinator.rpc.identity import Context, identity_of
from coordinator.rpc.limits import exactly, page_size
from coordinator.rpc.statements import read_signed, write_signed
from coordinator.rpc.status import refuse
from coordinator.rpc.views import add_decision
from coordinator.rpc.withdrawals import shielded
from coordinator.store.port import Change, Event
from custody.audit import Log
from custody.canonical import Json
from custody.entries import read_freeze, read_unfreeze
from custody.errors import NotFoundError, Refused, UnavailableError
from custody.follow import LONE_FREEZE_SECONDS, State, may_freeze
from custody.quorum import key_holders
from custody.statements import Signed
from custody.v1 import audit_pb2, audit_pb2_grpc, policy_pb2, policy_pb2_grpc, withdrawal_pb2

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


class Policies(policy_pb2_grpc.PolicyServiceServicer):
    """See protos/custody/v1/policy.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def GetRules(self, request: policy_pb2.GetRulesRequest, context: Context) -> policy_pb2.GetRulesResponse:
        """Give the rules in force and the freezes that stand."""
        policy = self._parts.genesis.policy
        document = self._parts.genesis.rules_document
        rules = policy_pb2.Rules(
            document=document, policy_hash=policy.hash, version=policy.version, effective_at=policy.effective_from
        )
        return policy_pb2.GetRulesResponse(rules=rules, freezes=await self._freezes())

    async def ProposeRules(
        self, request: policy_pb2.ProposeRulesRequest, context: Context
    ) -> policy_pb2.ProposeRulesResponse:
        """Refuse: signers of this version follow the rules of the genesis only, and would stop."""
        refuse(Refused("RULES_NOT_FOLLOWED", "the rules of the genesis", "a new rules document"))

    async def Explain(self, request: policy_pb2.ExplainRequest, context: Context) -> policy_pb2.ExplainResponse:
        """Say why a withdrawal may, may not yet, or may not be released."""
        held = await self._parts.store.load(exactly(request.withdrawal_digest, 32, "withdrawal_digest"))
        if held is None:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", "expected a withdrawal that was proposed here")
        view = withdrawal_pb2.Withdrawal()
        await add_decision(self._parts, view, held.value, self._parts.clock.now())
        return policy_pb2.ExplainResponse(decision=view.decision, missing_approvals=view.missing_approvals)

    async def Freeze(self, request: policy_pb2.FreezeRequest, context: Context) -> policy_pb2.FreezeResponse:
        """Log a freeze, so that every signer stops."""
        await shielded(self._freeze(read_signed(request.freeze)))
        return policy_pb2.FreezeResponse(freezes=await self._freezes())

    async def Unfreeze(self, request: policy_pb2.UnfreezeRequest, context: Context) -> policy_pb2.UnfreezeResponse:
        """Log an unfreeze that enough people signed."""
        await shielded(self._unfreeze(read_signed(request.unfreeze)))
        return policy_pb2.UnfreezeResponse(freezes=await self._freezes())

    async def _freeze(self, signed: Signed) -> None:
        freeze = read_freeze(signed)
        policy = (await self._state()).policy
        if freeze.genesis != self._parts.genesis.hash or not may_freeze(policy, freeze.by, signed):
            refuse(Refused("FREEZE_SIGNATURE", f"a signature by {freeze.by}, who may freeze", "none"))
        await self._log(signed, freeze.by)

    async def _unfreeze(self, signed: Signed) -> None:
        unfreeze = read_unfreeze(signed)
        quorum = (await self._state()).policy.admin.unfreeze
        people = key_holders((await self._state()).policy, signed, groups=quorum.groups, at=self._parts.clock.now())
        if unfreeze.genesis != self._parts.genesis.hash or len(people) < quorum.threshold:
            refuse(Refused("UNFREEZE_QUORUM", f"{quorum.threshold} people of {quorum.groups}", str(len(people))))
        await self._log(signed, ",".join(sorted(people)))

    async def _log(self, signed: Signed, actor: str) -> None:
        """Log what was posted, once, as what witnesses hold is logged."""
        if refused := await take_in(self._parts, signed, actor):
            refuse(refused)

    async def _freezes(self) -> list[policy_pb2.FreezeView]:
        return [
            policy_pb2.FreezeView(
                freeze_id=f.freeze_id.hex(), by=f.by, since=f.t or 0, lapses_at=(f.t or 0) + LONE_FREEZE_SECONDS
            )
            for f in (await self._state()).freezes
        ]

    async def _state(self) -> State:
        return await self._parts.followed.state(self._parts.clock.now())


def _log(value: audit_pb2.Log.ValueType) -> Log:
    found = _LOGS.get(value)
    if found is None:
        raise NotFoundError("LOG_UNKNOWN", "expected the money or the event log")
    return found

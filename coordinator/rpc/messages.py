"""MessageService: messages that a wallet signs, carried to its quorum and back."""

from __future__ import annotations

from coordinator import messages
from coordinator.message_store import Kept, listed, load
from coordinator.parts import Parts
from coordinator.rpc.identity import Context, identity_of
from coordinator.rpc.limits import exactly
from coordinator.rpc.statements import read_signed, write_signed
from coordinator.rpc.status import refuse
from coordinator.rpc.views import missing_of, refusal
from coordinator.rpc.withdrawals import shielded
from coordinator.store.port import Change, Event
from custody.bundle import Behind, parse_answer
from custody.canonical import Json
from custody.errors import ConflictError, Refused
from custody.fields import check_name
from custody.frames.parcel import digest_of
from custody.v1 import message_pb2 as wire
from custody.v1 import message_pb2_grpc

_KNOWN_SIZE = "node-size/"  # as the couriers of withdrawals remember it


class Messages(message_pb2_grpc.MessageServiceServicer):
    """See protos/custody/v1/message.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ProposeMessage(
        self, request: wire.ProposeMessageRequest, context: Context
    ) -> wire.ProposeMessageResponse:
        """Take in a signed message."""
        actor = str(identity_of(context))
        found = await shielded(messages.propose(self._parts, read_signed(request.message), actor))
        if isinstance(found, Refused):
            refuse(found)
        kept = await shielded(messages.advance(self._parts, found[0].digest))
        return wire.ProposeMessageResponse(message=await self._view(kept), created=found[1])

    async def ApproveMessage(
        self, request: wire.ApproveMessageRequest, context: Context
    ) -> wire.ApproveMessageResponse:
        """Take in one approval or reject."""
        actor = str(identity_of(context))
        found = await shielded(messages.approve(self._parts, read_signed(request.approval), actor))
        if isinstance(found, Refused):
            refuse(found)
        kept = await shielded(messages.advance(self._parts, found.digest))
        return wire.ApproveMessageResponse(message=await self._view(kept))

    async def GetMessage(self, request: wire.GetMessageRequest, context: Context) -> wire.GetMessageResponse:
        """Show one message."""
        kept = await load(self._parts, exactly(request.digest, 32, "digest"))
        return wire.GetMessageResponse(message=await self._view(kept))

    async def ListMessages(self, request: wire.ListMessagesRequest, context: Context) -> wire.ListMessagesResponse:
        """Show messages, newest first."""
        views = [await self._view(kept) for kept in await listed(self._parts)]
        return wire.ListMessagesResponse(messages=views)

    async def ExportMessage(self, request: wire.ExportMessageRequest, context: Context) -> wire.ExportMessageResponse:
        """Give the operator the bundle of a node."""
        kept, node = await load(self._parts, exactly(request.digest, 32, "digest")), check_name(request.node, "node")
        size = int(await self._parts.store.recall(_KNOWN_SIZE + node) or b"0")
        bundle = await messages.bundle_for(self._parts, kept, node, size)
        if bundle is None:
            raise ConflictError("NODE_BEHIND", f"expected node {node} to follow a delta first: ExportDelta")
        raw = bundle.to_bytes()
        await self._handed(
            "bundle.exported", raw, request.carrier, context, {"message": kept.digest.hex(), "node": node}
        )
        return wire.ExportMessageResponse(bundle=raw)

    async def ImportMessageAnswer(
        self, request: wire.ImportMessageAnswerRequest, context: Context
    ) -> wire.ImportMessageAnswerResponse:
        """File what a node answered."""
        answer = parse_answer(request.answer)
        about: dict[str, Json] = {"message": answer.withdrawal_digest.hex(), "node": answer.node}
        await self._handed("answer.imported", request.answer, request.carrier, context, about)
        if isinstance(answer.outcome, Behind):
            await self._parts.store.remember(_KNOWN_SIZE + answer.node, str(answer.outcome.size).encode())
        await shielded(messages.take_answer(self._parts, answer, f"{answer.node} by {identity_of(context)}"))
        kept = await shielded(messages.advance(self._parts, answer.withdrawal_digest))
        return wire.ImportMessageAnswerResponse(message=await self._view(kept))

    async def _handed(self, kind: str, raw: bytes, carrier: str, context: Context, about: dict[str, Json]) -> None:
        """Record a hand-over: what, by which digest, at whose call, in whose hands."""
        actor = str(identity_of(context))
        carried_by = check_name(carrier, "carrier") if carrier else actor
        fields = {**about, "sha256": digest_of(raw).hex(), "bytes": len(raw), "carried_by": carried_by}
        await self._parts.store.record(Change(self._parts.clock.now(), events=(Event(kind, actor, fields),)))

    async def _view(self, kept: Kept) -> wire.MessageView:
        view = wire.MessageView(
            statement=write_signed(kept.signed),
            approvals=[write_signed(signed) for signed in kept.approvals],
            proof=kept.proof,
            ended=None if kept.ended is None else refusal(kept.ended),
            stage=wire.MESSAGE_STAGE_SIGNED if kept.proof else wire.MESSAGE_STAGE_ENDED,
        )
        standing = await messages.stand(self._parts, kept, self._parts.clock.now()) if kept.is_open else None
        if isinstance(standing, messages.Footing):
            waits = standing.index is None
            view.stage = wire.MESSAGE_STAGE_APPROVING if waits else wire.MESSAGE_STAGE_SIGNING
            view.missing.extend(missing_of(standing.decided))
            signed = standing.spend.accept(kept.signatures).signed
            view.signed_by.extend(standing.wallet.slots[at].node or "" for at in sorted(signed))
        return view

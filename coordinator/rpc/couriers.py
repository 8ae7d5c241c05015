"""CourierService: bundles, answers and PSBTs that people carry to air-gapped nodes and third-party devices."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator import flow
from coordinator.asking import file_signatures, take_answer
from coordinator.bundles import make_bundle, make_delta
from coordinator.effects import Effect, around
from coordinator.parts import Parts
from coordinator.rpc.identity import Context, identity_of
from coordinator.rpc.limits import exactly
from coordinator.rpc.views import view_of
from coordinator.rpc.withdrawals import shielded
from coordinator.session import Session, Stage
from coordinator.store.port import Change, Event, Versioned
from custody.bundle import Answer, Behind, parse_answer, read_receipt
from custody.canonical import Json
from custody.errors import ConflictError, NotFoundError, Refused
from custody.fields import check_name
from custody.frames.parcel import digest_of
from custody.psbt import parse, serialize
from custody.signatures import InputSignature, from_foreign_psbt, with_signatures
from custody.v1 import courier_pb2, courier_pb2_grpc, withdrawal_pb2

_KNOWN_SIZE = "node-size/"  # what a node had when its courier last came back: a hint, its answer may say BEHIND


class Couriers(courier_pb2_grpc.CourierServiceServicer):
    """See protos/custody/v1/courier.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ExportBundle(
        self, request: courier_pb2.ExportBundleRequest, context: Context
    ) -> courier_pb2.ExportBundleResponse:
        """Give the operator the bundle of a node."""
        held = await self._signing(request.withdrawal_digest)
        node = check_name(request.node, "node")
        bundle = await make_bundle(self._parts, held.value, node, await self._size_of(node))
        if bundle is None:
            raise ConflictError("NODE_BEHIND", f"expected node {node} to follow a delta first: ExportDelta")
        raw = bundle.to_bytes()
        about = {"withdrawal": held.value.digest.hex(), "node": node}
        await self._export("bundle", raw, request.carrier, context, about)
        return courier_pb2.ExportBundleResponse(bundle=raw)

    async def ImportAnswer(
        self, request: courier_pb2.ImportAnswerRequest, context: Context
    ) -> courier_pb2.ImportAnswerResponse:
        """File what a node answered."""
        answer = parse_answer(request.answer)
        about = {"withdrawal": answer.withdrawal_digest.hex(), "node": answer.node}
        await self._import("answer", request.answer, request.carrier, context, about)
        await shielded(take_answer(self._parts, answer, str(identity_of(context))))
        await self._learn_size(answer)
        held = await shielded(flow.advance(self._parts, answer.withdrawal_digest))
        return courier_pb2.ImportAnswerResponse(withdrawal=await view_of(self._parts, held))

    async def ExportDelta(
        self, request: courier_pb2.ExportDeltaRequest, context: Context
    ) -> courier_pb2.ExportDeltaResponse:
        """Give the operator the log entries that a node misses."""
        node = check_name(request.node, "node")
        size = await self._size_of(node) if request.from_known else request.from_size
        delta = await make_delta(self._parts, size)
        if delta is None:
            raise NotFoundError("NO_DELTA", f"expected entries beyond {size} for node {node}")
        to_size, raw = delta.log.first + len(delta.log.entries), delta.to_bytes()
        await self._export("delta", raw, request.carrier, context, {"node": node, "to_size": to_size})
        await self._parts.store.remember(_KNOWN_SIZE + node, str(to_size).encode())
        more = await make_delta(self._parts, to_size) is not None
        return courier_pb2.ExportDeltaResponse(delta=raw, to_size=to_size, more=more)

    async def ExportPsbt(
        self, request: courier_pb2.ExportPsbtRequest, context: Context
    ) -> courier_pb2.ExportPsbtResponse:
        """Give the operator our PSBT with the signatures collected so far, for a third-party device."""
        held = await self._signing(request.withdrawal_digest)
        psbt = with_signatures(parse(held.value.psbt or b""), held.value.signatures)
        raw = serialize(psbt)
        await self._export("psbt", raw, request.carrier, context, {"withdrawal": held.value.digest.hex()})
        return courier_pb2.ExportPsbtResponse(psbt=raw)

    async def ImportPsbt(
        self, request: courier_pb2.ImportPsbtRequest, context: Context
    ) -> courier_pb2.ImportPsbtResponse:
        """Take the signatures, and nothing else, out of a PSBT that came back; late ones are recorded and refused."""
        held = await self._known(request.withdrawal_digest)
        about = {"withdrawal": held.value.digest.hex()}
        await self._import("psbt", request.psbt, request.carrier, context, about)
        signatures = from_foreign_psbt(parse(held.value.psbt or b""), request.psbt)
        view = await shielded(self._file(held.value.digest, signatures, str(identity_of(context))))
        return courier_pb2.ImportPsbtResponse(withdrawal=view)

    async def _export(self, what: str, raw: bytes, carrier: str, context: Context, about: Mapping[str, Json]) -> None:
        """Record that `raw` is handed out, before it is."""
        with around(self._parts.hook, Effect.EXPORT):
            await self._record(_handed(f"{what}.exported", raw, carrier, context, about))

    async def _import(self, what: str, raw: bytes, carrier: str, context: Context, about: Mapping[str, Json]) -> None:
        """Record that `raw` was brought, before it is judged."""
        with around(self._parts.hook, Effect.IMPORT):
            await self._record(_handed(f"{what}.imported", raw, carrier, context, about))

    async def _record(self, event: Event) -> None:
        await self._parts.store.record(Change(self._parts.clock.now(), events=(event,)))

    async def _file(
        self, digest: bytes, signatures: tuple[InputSignature, ...], actor: str
    ) -> withdrawal_pb2.Withdrawal:
        async with self._parts.turns[digest]:
            held = await self._known(digest)
            await file_signatures(self._parts, held, signatures, None, actor)
        return await view_of(self._parts, await flow.advance(self._parts, digest))

    async def _known(self, digest: bytes) -> Versioned[Session]:
        held = await self._parts.store.load(exactly(digest, 32, "withdrawal_digest"))
        if held is None:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", "expected a withdrawal that was proposed here")
        return held

    async def _signing(self, digest: bytes) -> Versioned[Session]:
        held = await self._known(digest)
        if held.value.stage is not Stage.SIGNING:
            raise ConflictError("NOT_SIGNING", f"expected the stage signing, found {held.value.stage.value}")
        return held

    async def _learn_size(self, answer: Answer) -> None:
        """Remember where the node stands: the next bundle for it starts there. Who signed has followed the release."""
        if isinstance(answer.outcome, Behind):
            size = answer.outcome.size
        elif isinstance(answer.outcome, Refused) or answer.receipt is None:
            return
        else:
            size = max(await self._size_of(answer.node), read_receipt(answer.receipt)[1] + 1)
        await self._parts.store.remember(_KNOWN_SIZE + answer.node, str(size).encode())

    async def _size_of(self, node: str) -> int:
        known = await self._parts.store.recall(_KNOWN_SIZE + node)
        return int(known or b"0")


def _handed(kind: str, raw: bytes, carrier: str, context: Context, about: Mapping[str, Json]) -> Event:
    """Return the event of one hand-over: what, by which digest, at whose call, in whose hands."""
    actor = str(identity_of(context))
    carried_by = check_name(carrier, "carrier") if carrier else actor
    return Event(kind, actor, {**about, "sha256": digest_of(raw).hex(), "bytes": len(raw), "carried_by": carried_by})

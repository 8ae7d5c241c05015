"""WithdrawalService and ApprovalService: carry what people signed into the flow, and show how it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from coordinator import flow
from coordinator.parts import Parts
from coordinator.rpc.identity import Context, identity_of
from coordinator.rpc.limits import exactly, page_size
from coordinator.rpc.statements import read_signed, write_signed
from coordinator.rpc.status import refuse
from coordinator.rpc.views import add_decision, for_role, view_of
from coordinator.session import Session, Stage
from coordinator.store.port import Page, Versioned
from coordinator.telling import HandedIn
from custody.approval import read_approval
from custody.errors import MalformedError, NotFoundError, Refused
from custody.fields import check_name
from custody.statements import Signed
from custody.v1 import approval_pb2, approval_pb2_grpc, withdrawal_pb2, withdrawal_pb2_grpc

_WATCH_SECONDS = 0.25  # how often a watcher's withdrawals are read again
T = TypeVar("T")


async def shielded(work: Awaitable[T]) -> T:
    """Return what `work` returns; a client that leaves does not stop a commit half way."""
    return await asyncio.shield(asyncio.ensure_future(work))


class Withdrawals(withdrawal_pb2_grpc.WithdrawalServiceServicer):
    """See protos/custody/v1/withdrawal.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def Propose(self, request: withdrawal_pb2.ProposeRequest, context: Context) -> withdrawal_pb2.ProposeResponse:
        """Take in a signed withdrawal."""
        view, created = await shielded(self._propose(read_signed(request.withdrawal), None, context))
        return withdrawal_pb2.ProposeResponse(withdrawal=view, created=created)

    async def ProposePsbt(
        self, request: withdrawal_pb2.ProposePsbtRequest, context: Context
    ) -> withdrawal_pb2.ProposePsbtResponse:
        """Take in a signed withdrawal with the client's own PSBT."""
        view, created = await shielded(self._propose(read_signed(request.withdrawal), request.psbt, context))
        return withdrawal_pb2.ProposePsbtResponse(withdrawal=view, created=created)

    async def GetWithdrawal(
        self, request: withdrawal_pb2.GetWithdrawalRequest, context: Context
    ) -> withdrawal_pb2.GetWithdrawalResponse:
        """Show one withdrawal."""
        return withdrawal_pb2.GetWithdrawalResponse(
            withdrawal=shown(self._parts, await view_of(self._parts, await self._find(request)), context)
        )

    async def ListWithdrawals(
        self, request: withdrawal_pb2.ListWithdrawalsRequest, context: Context
    ) -> withdrawal_pb2.ListWithdrawalsResponse:
        """Show withdrawals, newest first."""
        stages = frozenset(Stage[withdrawal_pb2.Stage.Name(s).removeprefix("STAGE_")] for s in request.stages if s)
        limit = page_size(request.page_size, 50)
        page = Page(limit, _token(request.page_token), request.wallet_id or None)
        found = await self._parts.store.list(stages or frozenset(Stage), page)
        token = found[-1].value.digest.hex() if len(found) == limit else ""
        views = [shown(self._parts, await view_of(self._parts, held), context) for held in found]
        return withdrawal_pb2.ListWithdrawalsResponse(withdrawals=views, next_page_token=token)

    async def WatchWithdrawals(
        self, request: withdrawal_pb2.WatchWithdrawalsRequest, context: Context
    ) -> AsyncIterator[withdrawal_pb2.WatchWithdrawalsResponse]:
        """Show a withdrawal (or all) now and at each change, until the caller leaves."""
        seen: dict[bytes, int] = {}
        while True:
            if request.digest:
                one = await self._parts.store.load(exactly(request.digest, 32, "digest"))
                held: tuple[Versioned[Session], ...] = () if one is None else (one,)
            else:
                held = await self._parts.store.list(frozenset(Stage), Page(100))
            for found in held:
                if seen.get(found.value.digest) != found.version:
                    seen[found.value.digest] = found.version
                    view = shown(self._parts, await view_of(self._parts, found), context)
                    yield withdrawal_pb2.WatchWithdrawalsResponse(withdrawal=view)
            await asyncio.sleep(_WATCH_SECONDS)

    async def CancelWithdrawal(
        self, request: withdrawal_pb2.CancelWithdrawalRequest, context: Context
    ) -> withdrawal_pb2.CancelWithdrawalResponse:
        """Cancel before the release."""
        view = await shielded(stopped(self._parts, read_signed(request.stop)))
        return withdrawal_pb2.CancelWithdrawalResponse(withdrawal=shown(self._parts, view, context))

    async def _propose(
        self, signed: Signed, psbt: bytes | None, context: Context
    ) -> tuple[withdrawal_pb2.Withdrawal, bool]:
        handed_in = HandedIn.over(identity_of(context).role.value, context.peer())
        proposed = await flow.propose(self._parts, signed, psbt, handed_in)
        if isinstance(proposed, Refused):
            refuse(proposed)
        held, created = proposed
        view = await view_of(self._parts, await flow.advance(self._parts, held.value.digest))
        return shown(self._parts, view, context), created

    async def _find(self, request: withdrawal_pb2.GetWithdrawalRequest) -> Versioned[Session]:
        store = self._parts.store
        if request.WhichOneof("key") == "name":
            initiator = check_name(request.name.initiator, "name.initiator")
            held = await store.by_initiator(initiator, check_name(request.name.withdrawal_id, "name.withdrawal_id"))
        else:
            held = await store.load(exactly(request.digest, 32, "digest"))
        if held is None:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", "expected a withdrawal that was proposed here")
        return held


class Approvals(approval_pb2_grpc.ApprovalServiceServicer):
    """See protos/custody/v1/approval.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def SubmitApproval(
        self, request: approval_pb2.SubmitApprovalRequest, context: Context
    ) -> approval_pb2.SubmitApprovalResponse:
        """File an approval; a reject goes where stops go."""
        signed = read_signed(request.approval)
        digest = read_approval(signed).withdrawal_digest
        before = await self._parts.store.load(digest)
        known = before is not None and any(a.digest == signed.digest for a in before.value.approvals)
        view = await shielded(self._approve(signed, digest))
        return approval_pb2.SubmitApprovalResponse(withdrawal=shown(self._parts, view, context), created=not known)

    async def SubmitStop(
        self, request: approval_pb2.SubmitStopRequest, context: Context
    ) -> approval_pb2.SubmitStopResponse:
        """Log a reject, veto or cancel."""
        view = await shielded(stopped(self._parts, read_signed(request.stop)))
        return approval_pb2.SubmitStopResponse(withdrawal=shown(self._parts, view, context))

    async def ListApprovals(
        self, request: approval_pb2.ListApprovalsRequest, context: Context
    ) -> approval_pb2.ListApprovalsResponse:
        """Show the approvals of one withdrawal and what is missing."""
        held = await self._parts.store.load(exactly(request.withdrawal_digest, 32, "withdrawal_digest"))
        if held is None:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", "expected a withdrawal that was proposed here")
        view = withdrawal_pb2.Withdrawal()
        await add_decision(self._parts, view, held.value, self._parts.clock.now())
        view = shown(self._parts, view, context)
        return approval_pb2.ListApprovalsResponse(
            approvals=[write_signed(signed) for signed in held.value.approvals], missing=view.missing_approvals
        )

    async def _approve(self, signed: Signed, digest: bytes) -> withdrawal_pb2.Withdrawal:
        filed = await flow.approve(self._parts, signed, digest)
        if isinstance(filed, Refused):
            refuse(filed)
        return await view_of(self._parts, await flow.advance(self._parts, digest))


def shown(parts: Parts, view: withdrawal_pb2.Withdrawal, context: Context) -> withdrawal_pb2.Withdrawal:
    """Return `view` as the caller may read it."""
    return for_role(parts, view, identity_of(context).role.value) if parts.coarse_for else view


async def stopped(parts: Parts, signed: Signed) -> withdrawal_pb2.Withdrawal:
    """Log a stop and show the withdrawal then."""
    held = await flow.stop(parts, signed)
    if isinstance(held, Refused):
        refuse(held)
    return await view_of(parts, held)


def _token(text: str) -> bytes | None:
    if not text:
        return None
    try:
        return exactly(bytes.fromhex(text), 32, "page_token")
    except ValueError as error:
        raise MalformedError("PAGE_TOKEN", "expected a token that this service gave") from error

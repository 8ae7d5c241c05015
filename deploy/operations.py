"""What people and operators of the demo do, over gRPC with their own certificates and keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from console.channel import Address, call, open_channel
from console.statements import write_signed
from console.tls import TlsFiles
from custody.approval import Approval, Decision
from custody.statements import Kind, Signed, sign
from custody.units import Sats
from custody.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    chain_pb2,
    chain_pb2_grpc,
    courier_pb2,
    courier_pb2_grpc,
    withdrawal_pb2,
    withdrawal_pb2_grpc,
)
from custody.wallet import Wallet
from custody.withdrawal import NEW, Payment, Withdrawal
from deploy.stack import Stack, seed_of

DEADLINE_S = 30.0
UNTIL_SECONDS = 30.0
HOUR = 3600


class Operations:
    """A channel to a stack's coordinator; `async with` it."""

    def __init__(self, stack: Stack, person: str = "alice") -> None:
        self.stack = stack
        self.say = stack.say
        home = stack.person(person)
        files = TlsFiles(home / f"{person}.pem", home / f"{person}.key", stack.ca.certificate_path)
        self._channel = open_channel(Address(stack.address, files))
        self._withdrawals = withdrawal_pb2_grpc.WithdrawalServiceStub(self._channel)
        self._approvals = approval_pb2_grpc.ApprovalServiceStub(self._channel)
        self._couriers = courier_pb2_grpc.CourierServiceStub(self._channel)
        self._audits = audit_pb2_grpc.AuditServiceStub(self._channel)
        self._chain = chain_pb2_grpc.ChainServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    @property
    def wallet(self) -> Wallet:
        """The one wallet of the genesis."""
        return self.stack.genesis.wallets[0].wallet

    async def mine(self, blocks: int, script: bytes) -> None:
        """Mine blocks that pay `script`."""
        await call(self._chain.Mine, chain_pb2.MineRequest(blocks=blocks, script=script), DEADLINE_S)

    async def propose(self, withdrawal_id: str, payments: Sequence[tuple[str, Sats]]) -> bytes:
        """Sign a withdrawal as alice and propose it; return its digest (32 bytes)."""
        genesis, now = self.stack.genesis, int(time.time())
        asked = Withdrawal(
            genesis=genesis.hash,
            withdrawal_id=withdrawal_id,
            wallet_id=self.wallet.wallet_id,
            network="regtest",
            payments=tuple(Payment(address, amount, f"invoice {withdrawal_id}") for address, amount in payments),
            max_fee_sats=Sats(50_000),
            relation=NEW,
            initiator="alice",
            created_at=now,
            expires_at=now + HOUR,
            rules_floor=1,
        )
        signed = sign(Kind.WITHDRAWAL, asked.to_json(), self._seed("alice"))
        request = withdrawal_pb2.ProposeRequest(withdrawal=write_signed(signed))
        await call(self._withdrawals.Propose, request, DEADLINE_S)
        return asked.digest

    async def approve(self, digest: bytes, person: str) -> None:
        """Approve as `person`."""
        request = approval_pb2.SubmitApprovalRequest(
            approval=write_signed(self._vote(digest, person, Decision.APPROVE))
        )
        await call(self._approvals.SubmitApproval, request, DEADLINE_S)

    async def reject(self, digest: bytes, person: str) -> None:
        """Reject as `person`."""
        request = approval_pb2.SubmitStopRequest(stop=write_signed(self._vote(digest, person, Decision.REJECT)))
        await call(self._approvals.SubmitStop, request, DEADLINE_S)

    async def show(self, digest: bytes) -> withdrawal_pb2.Withdrawal:
        """Return the withdrawal as the coordinator shows it."""
        request = withdrawal_pb2.GetWithdrawalRequest(digest=digest)
        return (await call(self._withdrawals.GetWithdrawal, request, DEADLINE_S)).withdrawal

    async def until(self, digest: bytes, stage: str) -> withdrawal_pb2.Withdrawal:
        """Return the withdrawal once it is in `stage`. Raises TimeoutError."""
        deadline = time.monotonic() + UNTIL_SECONDS
        while time.monotonic() < deadline:
            view = await self.show(digest)
            if withdrawal_pb2.Stage.Name(view.stage) == f"STAGE_{stage}":
                return view
            await asyncio.sleep(0.05)
        raise TimeoutError(f"expected stage {stage}, found {withdrawal_pb2.Stage.Name(view.stage)}")

    async def export_bundle(self, digest: bytes, node: str) -> bytes:
        """Return the bundle for an offline node once its release is vouched for."""
        await self.until(digest, "SIGNING")
        request = courier_pb2.ExportBundleRequest(withdrawal_digest=digest, node=node)
        return (await call(self._couriers.ExportBundle, request, DEADLINE_S)).bundle

    async def import_answer(self, answer: bytes) -> None:
        """Bring an offline node's answer back."""
        await call(self._couriers.ImportAnswer, courier_pb2.ImportAnswerRequest(answer=answer), DEADLINE_S)

    async def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of a money-log entry."""
        request = audit_pb2.GetInclusionProofRequest(log=audit_pb2.LOG_MONEY, index=index, size=size)
        return tuple((await call(self._audits.GetInclusionProof, request, DEADLINE_S)).proof)

    async def checkpoint(self) -> str:
        """Return a fresh cosigned money checkpoint."""
        request = audit_pb2.GetCheckpointRequest(log=audit_pb2.LOG_MONEY)
        return (await call(self._audits.GetCheckpoint, request, DEADLINE_S)).note

    async def export(self) -> bytes:
        """Return the export of both logs."""
        stream = self._audits.Export(audit_pb2.ExportRequest(), timeout=DEADLINE_S)
        return b"".join([answer.chunk async for answer in stream])

    def _vote(self, digest: bytes, person: str, decision: Decision) -> Signed:
        now = int(time.time())
        said = Approval(self.stack.genesis.hash, digest, decision, person, now, now + HOUR)
        return sign(Kind.APPROVAL, said.to_json(), self._seed(person))

    def _seed(self, person: str) -> bytes:
        return seed_of(self.stack.person(person) / f"{person}.ed25519")

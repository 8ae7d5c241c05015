"""The coordinator as a client sees it: typed calls, frozen answers, nothing believed that can be computed.

One channel over mutual TLS 1.3. Refusals and failures come out as the errors of `custody.errors` and
`console.channel.CallRefusedError`, each with its stable code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from console.channel import Address, call, open_channel, stream
from console.message_views import MessageView, read_message_view
from console.reading import (
    believed,
    read_decision,
    read_freeze_view,
    read_missing,
    read_node,
    read_proposed,
    read_rules,
    read_view,
)
from console.statements import read_signed, write_signed
from console.views import (
    Balance,
    DecisionView,
    DeltaPage,
    FreezeView,
    LogPage,
    Missing,
    NodeView,
    Place,
    ProposedView,
    RulesView,
    Stage,
    WithdrawalView,
)
from custody.audit import Log
from custody.errors import IntegrityError
from custody.message import FundCoin
from custody.statements import Signed
from custody.transaction import OutPoint
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
    message_pb2,
    message_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    signer_pb2,
    signer_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
    withdrawal_pb2,
    withdrawal_pb2_grpc,
)

PAGE = 50  # withdrawals of one page
ENTRIES_PAGE = 1_000  # the most that the coordinator gives at once
MAX_EXPORT_BYTES = 2 * 1024 * 1024 * 1024  # both logs whole; an endless stream must not fill the disk
_LOGS = {Log.MONEY: audit_pb2.LOG_MONEY, Log.EVENT: audit_pb2.LOG_EVENT}


class Client:
    """One connection to one coordinator; use it with `async with`."""

    def __init__(self, address: Address) -> None:
        self._channel = open_channel(address)
        self._withdrawals = withdrawal_pb2_grpc.WithdrawalServiceStub(self._channel)
        self._approvals = approval_pb2_grpc.ApprovalServiceStub(self._channel)
        self._signers = signer_pb2_grpc.SignerServiceStub(self._channel)
        self._couriers = courier_pb2_grpc.CourierServiceStub(self._channel)
        self._wallets = wallet_pb2_grpc.WalletServiceStub(self._channel)
        self._policy = policy_pb2_grpc.PolicyServiceStub(self._channel)
        self._audit = audit_pb2_grpc.AuditServiceStub(self._channel)
        self._messages = message_pb2_grpc.MessageServiceStub(self._channel)
        self._chain = chain_pb2_grpc.ChainServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    # Withdrawals

    async def propose(self, signed: Signed, psbt: bytes | None = None) -> tuple[WithdrawalView, bool]:
        """Carry a signed withdrawal; return it as it then stands, and whether it is new.

        Raises:
            IntegrityError: DIGEST_OTHER where the coordinator answers about another withdrawal.
        """
        carried = write_signed(signed)
        if psbt is None:
            answer = await call(self._withdrawals.Propose, withdrawal_pb2.ProposeRequest(withdrawal=carried))
            return _of(signed.digest, read_view(answer.withdrawal)), answer.created
        request = withdrawal_pb2.ProposePsbtRequest(withdrawal=carried, psbt=psbt)
        with_psbt = await call(self._withdrawals.ProposePsbt, request)
        return _of(signed.digest, read_view(with_psbt.withdrawal)), with_psbt.created

    async def withdrawal(self, digest: bytes) -> WithdrawalView:
        """Return the withdrawal with `digest` (32 bytes), with its history."""
        answer = await call(self._withdrawals.GetWithdrawal, withdrawal_pb2.GetWithdrawalRequest(digest=digest))
        return _of(digest, read_view(answer.withdrawal))

    async def withdrawal_named(self, initiator: str, withdrawal_id: str) -> WithdrawalView:
        """Return the withdrawal that `initiator` called `withdrawal_id`, with its history."""
        name = withdrawal_pb2.WithdrawalName(initiator=initiator, withdrawal_id=withdrawal_id)
        answer = await call(self._withdrawals.GetWithdrawal, withdrawal_pb2.GetWithdrawalRequest(name=name))
        view = read_view(answer.withdrawal)
        if (view.withdrawal.initiator, view.withdrawal.withdrawal_id) != (initiator, withdrawal_id):
            raise IntegrityError("WITHDRAWAL_OTHER", f"expected {initiator}/{withdrawal_id}, found another")
        return view

    async def withdrawals(
        self, stages: tuple[Stage, ...] = (), token: str = "", page_size: int = PAGE
    ) -> tuple[tuple[WithdrawalView, ...], str]:
        """Return one page of withdrawals, newest first, and the token of the next ("" on the last)."""
        wanted = [withdrawal_pb2.Stage.Value(f"STAGE_{stage.name}") for stage in stages]
        request = withdrawal_pb2.ListWithdrawalsRequest(page_size=page_size, page_token=token, stages=wanted)
        answer = await call(self._withdrawals.ListWithdrawals, request)
        return tuple(read_view(found) for found in answer.withdrawals), answer.next_page_token

    async def watch(self, digest: bytes | None, deadline_s: float) -> AsyncIterator[WithdrawalView]:
        """Yield a withdrawal (all of them where None) now and at each change, for at most `deadline_s`."""
        request = withdrawal_pb2.WatchWithdrawalsRequest(digest=digest or b"")
        async for answer in stream(self._withdrawals.WatchWithdrawals, request, deadline_s):
            view = read_view(answer.withdrawal)
            yield view if digest is None else _of(digest, view)

    async def cancel(self, stop: Signed, digest: bytes) -> WithdrawalView:
        """Carry a signed cancel of `digest`."""
        answer = await call(
            self._withdrawals.CancelWithdrawal, withdrawal_pb2.CancelWithdrawalRequest(stop=write_signed(stop))
        )
        return _of(digest, read_view(answer.withdrawal))

    # People

    async def approve(self, approval: Signed, digest: bytes) -> tuple[WithdrawalView, bool]:
        """Carry a signed approval of `digest`; return the withdrawal then, and whether the approval is new."""
        request = approval_pb2.SubmitApprovalRequest(approval=write_signed(approval))
        answer = await call(self._approvals.SubmitApproval, request)
        return _of(digest, read_view(answer.withdrawal)), answer.created

    async def stop(self, stop: Signed, digest: bytes) -> WithdrawalView:
        """Carry a signed reject or veto of `digest`."""
        answer = await call(self._approvals.SubmitStop, approval_pb2.SubmitStopRequest(stop=write_signed(stop)))
        return _of(digest, read_view(answer.withdrawal))

    async def freeze(self, freeze: Signed) -> tuple[FreezeView, ...]:
        """Carry a signed freeze; return the freezes in force."""
        answer = await call(self._policy.Freeze, policy_pb2.FreezeRequest(freeze=write_signed(freeze)))
        return tuple(read_freeze_view(found) for found in answer.freezes)

    async def unfreeze(self, unfreeze: Signed) -> tuple[FreezeView, ...]:
        """Carry an unfreeze with its signatures; return the freezes still in force."""
        answer = await call(self._policy.Unfreeze, policy_pb2.UnfreezeRequest(unfreeze=write_signed(unfreeze)))
        return tuple(read_freeze_view(found) for found in answer.freezes)

    async def rules(self) -> RulesView:
        """Return the rules and freezes as served."""
        answer = await call(self._policy.GetRules, policy_pb2.GetRulesRequest())
        return believed(lambda: read_rules(answer))

    async def propose_rules(self, rules: Signed) -> ProposedView:
        """Carry a rules document with its signatures; return what became of it."""
        request = policy_pb2.ProposeRulesRequest(rules=write_signed(rules))
        answer = await call(self._policy.ProposeRules, request)
        return believed(lambda: read_proposed(answer.rules))

    async def explain(self, digest: bytes) -> tuple[DecisionView, tuple[Missing, ...]]:
        """Return what the coordinator says that the rules say of `digest`."""
        answer = await call(self._policy.Explain, policy_pb2.ExplainRequest(withdrawal_digest=digest))
        missing = tuple(read_missing(found) for found in answer.missing_approvals)
        return believed(lambda: read_decision(answer.decision)), missing

    # Wallets, signers, chain

    async def next_place(self, wallet_id: bytes) -> Place:
        """Return where the next deposit address stands; the caller derives it himself."""
        key = wallet_pb2.WalletKey(wallet_id=wallet_id)
        answer = await call(self._wallets.NextAddress, wallet_pb2.NextAddressRequest(wallet=key))
        return Place(answer.wallet_id, answer.branch, answer.index)

    async def balance(self, wallet_id: bytes) -> Balance:
        """Return what the chain backend says that a wallet holds."""
        key = wallet_pb2.WalletKey(wallet_id=wallet_id)
        answer = await call(self._wallets.GetBalance, wallet_pb2.GetBalanceRequest(wallet=key))
        return Balance(answer.confirmed_sats, answer.reserved_sats, answer.immature_sats, answer.height)

    async def genesis(self) -> Signed:
        """Return the genesis as served; nobody pins it from here."""
        answer = await call(self._wallets.GetGenesis, wallet_pb2.GetGenesisRequest())
        return believed(lambda: read_signed(answer.genesis))

    async def signers(self) -> tuple[tuple[NodeView, ...], int]:
        """Return every node of the rules, and the size of the money log."""
        answer = await call(self._signers.ListSigners, signer_pb2.ListSignersRequest())
        return believed(lambda: tuple(read_node(found) for found in answer.nodes)), answer.money_size

    async def propose_message(self, signed: Signed) -> tuple[MessageView, bool]:
        """Carry a signed message; return it as it then stands, and whether it is new."""
        answer = await call(
            self._messages.ProposeMessage, message_pb2.ProposeMessageRequest(message=write_signed(signed))
        )
        return _message_of(signed.digest, answer.message), answer.created

    async def approve_message(self, signed: Signed, digest: bytes) -> MessageView:
        """Carry an approval or a reject of the message `digest` (32 bytes)."""
        request = message_pb2.ApproveMessageRequest(approval=write_signed(signed))
        return _message_of(digest, (await call(self._messages.ApproveMessage, request)).message)

    async def message(self, digest: bytes) -> MessageView:
        """Return one message."""
        answer = await call(self._messages.GetMessage, message_pb2.GetMessageRequest(digest=digest))
        return _message_of(digest, answer.message)

    async def messages(self) -> tuple[MessageView, ...]:
        """Return the messages that are kept, newest first."""
        answer = await call(self._messages.ListMessages, message_pb2.ListMessagesRequest())
        return believed(lambda: tuple(read_message_view(found) for found in answer.messages))

    async def export_message(self, digest: bytes, node: str, carrier: str = "") -> bytes:
        """Return the bundle of a message for `node`."""
        request = message_pb2.ExportMessageRequest(digest=digest, node=node, carrier=carrier)
        return (await call(self._messages.ExportMessage, request)).bundle

    async def import_message_answer(self, raw: bytes, digest: bytes, carrier: str = "") -> MessageView:
        """Carry a node's answer back."""
        request = message_pb2.ImportMessageAnswerRequest(answer=raw, carrier=carrier)
        return _message_of(digest, (await call(self._messages.ImportMessageAnswer, request)).message)

    async def coins(self, wallet: str) -> tuple[FundCoin, ...]:
        """Return the coins of `wallet`, as the coordinator's chain has them: at most 1,000, oldest first."""
        key = wallet_pb2.WalletKey(name=wallet)
        answer = await call(self._wallets.ListCoins, wallet_pb2.ListCoinsRequest(wallet=key, page_size=1_000))
        return tuple(
            FundCoin(OutPoint(c.outpoint.txid, c.outpoint.output), Sats(c.amount_sats), c.branch, c.index)
            for c in answer.coins
        )

    async def report_health(self, signed: Signed) -> bool:
        """Carry a node's proof of life or drill; return whether it is newer than the last."""
        request = signer_pb2.ReportHealthRequest(report=write_signed(signed))
        return (await call(self._signers.ReportHealth, request)).created

    async def mine(self, blocks: int, script: bytes) -> tuple[int, bytes]:
        """Mine on the embedded regtest; return height and hash (32 bytes, wire order) of the last block."""
        answer = await call(self._chain.Mine, chain_pb2.MineRequest(blocks=blocks, script=script))
        return answer.height, answer.block_hash

    # Couriers

    async def export_bundle(self, digest: bytes, node: str, carrier: str = "") -> bytes:
        """Return the bundle document of a withdrawal for a node. carrier: who takes it there; "" is the caller."""
        request = courier_pb2.ExportBundleRequest(withdrawal_digest=digest, node=node, carrier=carrier)
        return (await call(self._couriers.ExportBundle, request)).bundle

    async def import_answer(self, answer: bytes, digest: bytes, carrier: str = "") -> WithdrawalView:
        """Carry a node's answer about `digest`."""
        request = courier_pb2.ImportAnswerRequest(answer=answer, carrier=carrier)
        return _of(digest, read_view((await call(self._couriers.ImportAnswer, request)).withdrawal))

    async def export_delta(self, node: str, from_size: int | None, carrier: str = "") -> DeltaPage:
        """Return the next money-log entries for a node that has `from_size`; None: what the coordinator believes."""
        request = courier_pb2.ExportDeltaRequest(
            node=node, from_size=from_size or 0, from_known=from_size is None, carrier=carrier
        )
        answer = await call(self._couriers.ExportDelta, request)
        return DeltaPage(answer.delta, answer.to_size, answer.more)

    async def export_psbt(self, digest: bytes, carrier: str = "") -> bytes:
        """Return the PSBT of a withdrawal with the signatures collected so far."""
        request = courier_pb2.ExportPsbtRequest(withdrawal_digest=digest, carrier=carrier)
        return (await call(self._couriers.ExportPsbt, request)).psbt

    async def import_psbt(self, digest: bytes, psbt: bytes, carrier: str = "") -> WithdrawalView:
        """Carry a PSBT back; only its signatures are taken."""
        request = courier_pb2.ImportPsbtRequest(withdrawal_digest=digest, psbt=psbt, carrier=carrier)
        return _of(digest, read_view((await call(self._couriers.ImportPsbt, request)).withdrawal))

    # Logs

    async def checkpoint(self, log: Log) -> str:
        """Return a fresh cosigned checkpoint of `log`, unverified."""
        return (await call(self._audit.GetCheckpoint, audit_pb2.GetCheckpointRequest(log=_LOGS[log]))).note

    async def entries(self, log: Log, first: int, limit: int = ENTRIES_PAGE) -> LogPage:
        """Return consecutive entries from index `first` on with the statements they name, unverified."""
        request = audit_pb2.ListEntriesRequest(log=_LOGS[log], first=first, limit=min(limit, ENTRIES_PAGE))
        answer = await call(self._audit.ListEntries, request)
        if [entry.index for entry in answer.entries] != list(range(first, first + len(answer.entries))):
            raise IntegrityError("ANSWER_MALFORMED", f"expected consecutive entries from {first} on")
        statements = believed(lambda: tuple(read_signed(found) for found in answer.statements))
        return LogPage(tuple(entry.entry for entry in answer.entries), statements, answer.size)

    async def export(self, write: Callable[[bytes], object]) -> int:
        """Hand the export file to `write` piece by piece; return its size in bytes.

        Raises:
            IntegrityError: EXPORT_TOO_LARGE.
        """
        size = 0
        async for answer in stream(self._audit.Export, audit_pb2.ExportRequest()):
            size += len(answer.chunk)
            if size > MAX_EXPORT_BYTES:
                raise IntegrityError("EXPORT_TOO_LARGE", f"expected at most {MAX_EXPORT_BYTES} bytes")
            write(answer.chunk)
        return size


def _message_of(digest: bytes, message: message_pb2.MessageView) -> MessageView:
    """Return the view, which must be of the message that was asked for."""
    view = believed(lambda: read_message_view(message))
    if view.digest != digest:
        raise IntegrityError("DIGEST_OTHER", f"expected message {digest.hex()}, found {view.digest.hex()}")
    return view


def _of(digest: bytes, view: WithdrawalView) -> WithdrawalView:
    """Return `view` if it is about `digest`: an answer about another withdrawal is none."""
    if view.digest != digest:
        raise IntegrityError("DIGEST_OTHER", f"expected {digest.hex()}, found {view.digest.hex()}")
    return view

"""PolicyService: the rules in force and those that wait, changes that admins signed, and freezes that must not wait."""

from __future__ import annotations

from coordinator import governing
from coordinator.parts import Parts
from coordinator.posted import take_in
from coordinator.rpc.identity import Context, identity_of
from coordinator.rpc.limits import exactly
from coordinator.rpc.statements import read_signed, write_signed
from coordinator.rpc.status import refuse
from coordinator.rpc.views import add_decision
from coordinator.rpc.withdrawals import shielded, shown
from custody.entries import read_freeze, read_unfreeze
from custody.errors import NotFoundError, Refused
from custody.follow import LONE_FREEZE_SECONDS, State, may_freeze
from custody.policy import Policy
from custody.quorum import key_holders
from custody.rule_entry import standing_of
from custody.statements import Kind, Signed
from custody.v1 import policy_pb2, policy_pb2_grpc, withdrawal_pb2
from custody.voiding import read_void


class Policies(policy_pb2_grpc.PolicyServiceServicer):
    """See protos/custody/v1/policy.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def GetRules(self, request: policy_pb2.GetRulesRequest, context: Context) -> policy_pb2.GetRulesResponse:
        """Give the rules in force or an earlier version, what waits, and the freezes that stand."""
        state = await self._state()
        rules = state.rules
        wanted = next((p for p in rules.versions if p.version == request.version), None)
        if request.version == 0:
            wanted = rules.policy
        if wanted is None:
            raise NotFoundError("RULES_UNKNOWN", f"expected a version of 1..{rules.policy.version}")
        pending = [await self._view(waiting.policy, waiting.due) for waiting in rules.waiting]
        proposals = await governing.proposals(self._parts, state, self._parts.clock.now())
        pending += [self._proposed(proposal.signed, state) for proposal in proposals]
        return policy_pb2.GetRulesResponse(
            rules=await self._view(wanted, wanted.effective_from), pending=pending, freezes=await self._freezes()
        )

    async def ProposeRules(
        self, request: policy_pb2.ProposeRulesRequest, context: Context
    ) -> policy_pb2.ProposeRulesResponse:
        """Take in a signed rules document; the last signature of its quorum puts it into the log."""
        signed = read_signed(request.rules)
        proposal = await shielded(governing.propose(self._parts, signed, str(identity_of(context))))
        if isinstance(proposal, Refused):
            refuse(proposal)
        state = await self._state()
        return policy_pb2.ProposeRulesResponse(rules=self._became(proposal.signed, state))

    async def Explain(self, request: policy_pb2.ExplainRequest, context: Context) -> policy_pb2.ExplainResponse:
        """Say why a withdrawal may, may not yet, or may not be released."""
        held = await self._parts.store.load(exactly(request.withdrawal_digest, 32, "withdrawal_digest"))
        if held is None:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", "expected a withdrawal that was proposed here")
        view = withdrawal_pb2.Withdrawal()
        await add_decision(self._parts, view, held.value, self._parts.clock.now())
        view = shown(self._parts, view, context)
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
        people = key_holders(
            (await self._state()).policy, signed, groups=quorum.groups, at=self._parts.clock.now(), seen=True
        )
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

    async def _view(self, policy: Policy, effective_at: int) -> policy_pb2.Rules:
        signed = await governing.document_of(self._parts, policy)
        return _rules(signed, policy.hash, policy.version, effective_at=effective_at)

    def _proposed(self, signed: Signed, state: State) -> policy_pb2.Rules:
        """Return what is half signed, with the names of those who may still sign."""
        standing = standing_of(state, signed, self._parts.clock.now())
        version = state.policy.version + 1 if signed.kind is Kind.RULES else 0
        return _rules(signed, signed.digest, version, missing=list(standing.missing))

    def _became(self, signed: Signed, state: State) -> policy_pb2.Rules:
        """Return what became of a document that was taken in."""
        rules = state.rules
        waiting = next((w for w in rules.waiting if w.policy.hash == signed.digest), None)
        if waiting is not None:
            return _rules(signed, signed.digest, waiting.policy.version, effective_at=waiting.due)
        if any(policy.hash == signed.digest for policy in rules.versions):
            return _rules(signed, signed.digest, rules.policy.version, effective_at=self._parts.clock.now())
        if any(wallet.document == signed.digest for wallet in state.genesis.wallets) or _is_void(state, signed):
            return _rules(signed, signed.digest, 0, effective_at=self._parts.clock.now())
        return self._proposed(signed, state)


def _is_void(state: State, signed: Signed) -> bool:
    """Return whether `signed` took back what it names."""
    return signed.kind is Kind.VOID and read_void(signed).rules in state.rules.voided


def _rules(
    signed: Signed, digest: bytes, version: int, effective_at: int = 0, missing: list[str] | None = None
) -> policy_pb2.Rules:
    return policy_pb2.Rules(
        document=signed.raw,
        policy_hash=digest,
        version=version,
        endorsements=write_signed(signed).endorsements,
        effective_at=effective_at,
        missing=missing or [],
        kind=signed.kind.value,
    )

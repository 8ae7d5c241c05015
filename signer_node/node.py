"""One signer node, whatever its courier: judge, journal, sign, verify, answer, in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from custody.alive import Life, breath_of, check_life, proof_of
from custody.bundle import Answer, Behind, Bundle, Outcome, parse_bundle, parse_delta, receipt_statement
from custody.errors import IntegrityError, Refused
from custody.follow import State, advance
from custody.held import Held
from custody.signatures import InputSignature
from custody.statements import Kind, Signed, sign
from signer_node.backends.port import Backend, BackendRefused
from signer_node.books import book_for, books_of
from signer_node.breath import breath_to_sign
from signer_node.checking import Checking
from signer_node.clock import Clock
from signer_node.effects import Effect, Hook, around, no_hook
from signer_node.followed import Followed
from signer_node.inbox import Inbox
from signer_node.journal import Journal
from signer_node.judge import Cleared, Judged, Moment, Pinned, judge
from signer_node.judge_message import ClearedMessage, JudgedMessage, judge_message
from signer_node.typed import Typed

_NO_TXID = bytes(32)


Permission: TypeAlias = Cleared | ClearedMessage
Confirm = Callable[[Bundle, Permission], bool]


def cleared_is_enough(bundle: Bundle, cleared: Permission) -> bool:
    """Return True: an online node signs what its rules allow."""
    return True


class Node:
    """Judges bundles and answers them. One bundle at a time: journal and followed log move in one order.

    Args:
        pinned: genesis and this node's name in it.
        identity_seed: 32 bytes, Ed25519; signs receipts.
        followed, journal: this node's own files.
        backend: where the key lives.
        clock: this machine's time.
        confirm: asked with what was cleared before anything is signed; an air-gapped node asks its operator.
        hook: called around each effect; tests stop the process there.
        inbox: freezes and stops that reached this machine beside the log; None where nothing can.
        typed: codes that its operator typed; None where nobody can.
    """

    def __init__(
        self,
        pinned: Pinned,
        identity_seed: bytes,
        followed: Followed,
        journal: Journal,
        backend: Backend,
        clock: Clock,
        confirm: Confirm = cleared_is_enough,
        hook: Hook = no_hook,
        inbox: Inbox | None = None,
        typed: Typed | None = None,
    ) -> None:
        self._pinned = pinned
        self._identity_seed = identity_seed
        self._followed = followed
        self._journal = journal
        self._backend = backend
        self._clock = clock
        self._confirm = confirm
        self._hook = hook
        self._inbox = inbox
        self._typed = typed
        self._books = books_of(pinned.genesis)
        self._turn = asyncio.Lock()
        self._checking = Checking()

    async def close(self) -> None:
        """End what runs beside this process. The node can still be asked afterwards."""
        await self._checking.close()

    @property
    def state(self) -> State:
        """What this node has followed so far."""
        return self._followed.state

    @property
    def pinned(self) -> Pinned:
        """Genesis and name."""
        return self._pinned

    @property
    def held(self) -> tuple[Held, ...]:
        """What reached this node beside the log and does not count there yet, dropped files included; oldest first."""
        if self._inbox is None:
            return ()
        now = self._clock.now()
        self._inbox.take_dropped(self.state, now)
        self._inbox.forget(self.state, now)
        return self._inbox.held

    def hold(self, signed: Signed) -> int | Refused:
        """Take over what a witness holds: it counts here at once. Returns since when, UTC seconds, or why not."""
        if self._inbox is None:
            return Refused("INBOX_NONE", "an inbox on this node", "none")
        return self._inbox.take(signed, self.state, self._clock.now())

    async def answer(self, raw: bytes) -> Answer:
        """Return this node's answer to the bundle `raw`: signatures with a receipt, a refusal by code, or BEHIND.

        Raises:
            CustodyError: the node itself is broken (disk, key backend); nothing was signed, or it can be asked again.
        """
        async with self._turn:
            bundle = parse_bundle(raw)
            outcome = self._judge(bundle)
            if isinstance(outcome, Permission) and self._confirm is not cleared_is_enough:
                if not self._confirm(bundle, outcome):
                    outcome = Refused("OPERATOR_DECLINED", "the operator's confirmation", "a no")
                else:  # people take their time: meanwhile a freeze may have come, or an end passed
                    outcome = self._judge(bundle)
            if isinstance(outcome, Permission):
                return await self._sign(bundle, outcome)
            return self._answer(bundle, _NO_TXID, outcome)

    def _judge(self, bundle: Bundle) -> Permission | Refused | Behind:
        """Judge at this moment, and keep what the log part of `bundle` proved, whatever the outcome."""
        moment = Moment(self._clock.now(), self._journal.high_water)
        state, book, held = self._followed.state, book_for(bundle, self._followed.state, self._books), self.held
        typed = frozenset() if self._typed is None else self._typed.digests
        judged: Judged | JudgedMessage
        if bundle.withdrawal.kind is Kind.MESSAGE:
            judged = judge_message(bundle, self._pinned, state, moment, book, held, typed)
        else:
            judged = judge(bundle, self._pinned, state, moment, self._journal.signed, book, held, typed)
        if judged.state is not self._followed.state:
            with around(self._hook, Effect.FOLLOW):
                self._followed.take(bundle.log, judged.state)
        return judged.outcome

    async def take_delta(self, raw: bytes) -> int:
        """Follow the log entries of the delta `raw`; return how many entries this node has now.

        Raises:
            MalformedError, IntegrityError: the delta does not continue this node's log; nothing changed.
        """
        async with self._turn:
            delta = parse_delta(raw)
            if delta.genesis != self._pinned.genesis.hash:
                raise IntegrityError("GENESIS_OTHER", "expected a delta of my genesis")
            state = self._followed.state
            log = delta.log
            with around(self._hook, Effect.FOLLOW):
                self._followed.take(log, advance(state, log.from_size(state.size), log.by_digest(), log.note))
            return self._followed.state.size

    async def prove_alive(self, nonce: bytes) -> Signed:
        """Return this node's proof of life, with a new nonce (16 bytes): the one sentence it signs unasked.

        Raises:
            CustodyError: the key backend's, or BACKEND_LIED; nothing leaves.
        """
        async with self._turn:
            genesis = self._pinned.genesis
            life = Life(genesis.hash, self._pinned.node, self._clock.now(), nonce)
            breath, cleared = breath_of(genesis, life), breath_to_sign(genesis, life)
            if breath is None or cleared is None:
                raise IntegrityError("GENESIS_NOT_MINE", f"expected a key of node {life.node} in the genesis")
            (made,) = await self._backend.sign(cleared)
            life = replace(life, proof=proof_of(breath, life, made.signature))
            signed = sign(Kind.ALIVE, life.to_json(), self._identity_seed)
            if isinstance(check_life(genesis, self.state.policy, signed), Refused):
                raise IntegrityError("BACKEND_LIED", "expected a signature of the sentence by this node's key")
            return signed

    async def _sign(self, bundle: Bundle, cleared: Permission) -> Answer:
        with around(self._hook, Effect.JOURNAL):
            if isinstance(cleared, ClearedMessage):  # spends nothing: only the time that it was judged at is kept
                self._journal.reach(cleared.lo)
            else:
                self._journal.record(cleared)
        try:
            with around(self._hook, Effect.SIGN):
                signatures = await self._backend.sign(cleared)
        except BackendRefused as said:
            return self._answer(bundle, _NO_TXID, said.refused)
        await self._check_own(cleared, signatures)
        return self._answer(bundle, cleared.txid, signatures)

    async def _check_own(self, cleared: Permission, signatures: tuple[InputSignature, ...]) -> None:
        """Prove that the backend signed exactly what was cleared, by the keys that were cleared.

        Raises:
            IntegrityError: BACKEND_LIED; nothing leaves.
            UnavailableError: WORKER_DIED; nothing leaves either.
        """
        are_expected = [(s.input_index, s.pubkey) for s in signatures] == list(enumerate(cleared.pubkeys))
        if not are_expected or not await self._checking.all_signed(
            [(s.pubkey, digest, s.signature) for s, digest in zip(signatures, cleared.digests, strict=True)]
        ):
            raise IntegrityError("BACKEND_LIED", "expected one valid signature per input by this node's keys")

    def _answer(self, bundle: Bundle, txid: bytes, outcome: Outcome) -> Answer:
        """Return `outcome` as this node's word, signed by its identity key unless it is only BEHIND."""
        answer = Answer(self._pinned.genesis.hash, self._pinned.node, bundle.withdrawal.digest, txid, outcome)
        if isinstance(outcome, Behind):
            return answer
        statement = receipt_statement(answer, bundle.release_index, self._clock.now())
        return replace(answer, receipt=sign(Kind.RECEIPT, statement, self._identity_seed))

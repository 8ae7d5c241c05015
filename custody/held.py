"""What witnesses and nodes hold outside the log, so that a log holder cannot keep it from signers.

Freezes, unfreezes, stops and rule documents may be posted to any witness. Held is only what verifies under the rules in
force, until it counts in the log or nothing of it is left to count. Pure: no clock, file or network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from custody.audit import PinnedWitness
from custody.canonical import Json, decode
from custody.entries import (
    Body,
    Document,
    EntryKind,
    MoneyEntry,
    Stop,
    StopCause,
    read_freeze,
    read_stop,
    read_unfreeze,
    seal_of,
)
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.follow import State, append, governed, may_stop, settled
from custody.quorum import key_holders
from custody.rule_entry import RULE_KINDS, rule_refused
from custody.statements import Kind, Signed, sign

HOLD_SECONDS = 60  # protocol.md "Nothing important can be withheld": how long an honest log holder may take to log it
_STOPS = frozenset({Kind.STOP, Kind.APPROVAL})
_ENTRY_KINDS = {
    Kind.FREEZE: EntryKind.FREEZE,
    Kind.UNFREEZE: EntryKind.UNFREEZE,
    **dict.fromkeys(RULE_KINDS, EntryKind.RULE),
}


@dataclass(frozen=True, slots=True)
class Held:
    """A statement that was posted here. received_at: UTC seconds, the holder's own clock."""

    signed: Signed
    received_at: int


def check_posted(state: State, signed: Signed, now: int) -> Refused | None:
    """Return why `signed` is not worth holding under the rules in force at `now`, or None.

    Codes: POSTED_KIND, POSTED_SIGNATURE, a RULES_ code, or what the statement's fields say.
    """
    state = governed(state, now)
    if signed.kind not in _ENTRY_KINDS and signed.kind not in _STOPS:
        return Refused("POSTED_KIND", "a freeze, unfreeze, stop, reject or rule document", signed.kind.name)
    if signed.kind in RULE_KINDS:
        return rule_refused(state, signed, now)
    try:
        stands = _stands(state, signed, now)
    except MalformedError as error:
        return Refused(error.code, "a statement of its kind", error.message)
    return None if stands else Refused("POSTED_SIGNATURE", "signatures of those who may", "too few, or another genesis")


def _stands(state: State, signed: Signed, now: int) -> bool:
    admin, genesis = state.policy.admin, state.genesis.hash
    if signed.kind is Kind.FREEZE:
        freeze = read_freeze(signed)
        people = key_holders(state.policy, signed, groups=admin.freeze.groups, at=now)
        return freeze.genesis == genesis and freeze.by in people
    if signed.kind is Kind.UNFREEZE:
        people = key_holders(state.policy, signed, groups=admin.unfreeze.groups, at=now, seen=True)
        return read_unfreeze(signed).genesis == genesis and len(people) >= admin.unfreeze.threshold
    return may_stop(state, read_stop(signed), signed)


def entry_of(signed: Signed) -> tuple[EntryKind, Body]:
    """Return what the log is to say of a posted statement. Raises MalformedError for kinds that are not posted."""
    if signed.kind in _STOPS:
        said = read_stop(signed)
        return EntryKind.STOP, Stop(said.withdrawal_digest, said.cause, said.by, signed.digest)
    if signed.kind not in _ENTRY_KINDS:
        raise MalformedError("POSTED_KIND", f"expected a kind that is posted, found {signed.kind.name}")
    return _ENTRY_KINDS[signed.kind], Document(signed.digest)


def is_moot(state: State, signed: Signed, now: int) -> bool:
    """Return whether logging `signed` would change nothing any more: it counts in the log, or what it says is dead."""
    if signed.kind in RULE_KINDS:
        ruled = governed(state, now)
        waits = any(waiting.policy.hash == signed.digest for waiting in ruled.rules.waiting)
        return waits or rule_refused(ruled, signed, now) is not None
    if signed.kind in _STOPS:
        said = read_stop(signed)
        told = [stop for stop in state.stops if stop.withdrawal_digest == said.withdrawal_digest]
        return any(s.cause is StopCause.REJECT or (s.cause, s.by) == (said.cause, said.by) for s in told)
    before = settled(state, now)
    after = settled(_logged(before, signed, now), now)
    return _frozen_ids(before) == _frozen_ids(after) and before.lifted == after.lifted


def withheld(state: State, held: Iterable[Held], now: int) -> Held | None:
    """Return the first statement that a log which stands at `state` had to hold by `now`, and does not."""
    for each in held:
        late = now - each.received_at >= HOLD_SECONDS
        if late and check_posted(state, each.signed, now) is None and not is_moot(state, each.signed, now):
            return each
    return None


def with_held(state: State, held: Iterable[Held]) -> State:
    """Return `state` with the held freezes and stops counted as if they were in the log. Nothing held ever loosens."""
    for each in held:
        signed = each.signed
        if signed.kind not in (Kind.FREEZE, *_STOPS) or check_posted(state, signed, each.received_at) is not None:
            continue
        after = _logged(state, signed, each.received_at)
        # One person's freeze lapses after 72 h: an unlogged one runs from when it came here.
        fresh = (f if f in state.freezes else replace(f, t=each.received_at) for f in after.freezes)
        state = replace(state, freezes=tuple(fresh), stops=after.stops)
    return state


def _logged(state: State, signed: Signed, at: int) -> State:
    kind, body = entry_of(signed)
    entry = MoneyEntry(kind, at, state.event_size, bytes(32), body, seal_of((signed,)))
    return append(state, entry.to_bytes(), {signed.digest: signed})


def _frozen_ids(state: State) -> frozenset[bytes]:
    return frozenset(freeze.freeze_id for freeze in state.freezes)


@dataclass(frozen=True, slots=True)
class HeldReceipt:
    """A witness's word that it holds a statement, or that its log does. genesis, digest: 32 bytes each."""

    genesis: bytes
    digest: bytes
    witness: str
    received_at: int

    def to_json(self) -> Json:
        """Return the statement that the witness signs."""
        return {
            "genesis": self.genesis.hex(),
            "digest": self.digest.hex(),
            "witness": self.witness,
            "received_at": self.received_at,
        }


def sign_receipt(receipt: HeldReceipt, seed: bytes) -> Signed:
    """Return `receipt` signed by the witness's key (seed: 32 bytes)."""
    return sign(Kind.HELD, receipt.to_json(), seed)


def read_receipt(signed: Signed) -> HeldReceipt:
    """Return the receipt inside `signed`; the signature is not judged here."""
    if signed.kind is not Kind.HELD:
        raise MalformedError("STATEMENT_KIND", f"expected a witness's receipt, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "receipt")
    receipt = HeldReceipt(
        genesis=fields.hex("genesis", 32),
        digest=fields.hex("digest", 32),
        witness=fields.text("witness"),
        received_at=fields.time("received_at"),
    )
    fields.done()
    return receipt


@dataclass(frozen=True, slots=True)
class Posted:
    """How far a statement got. needed: W - w + 1.  by: names of the witnesses whose receipts hold, sorted."""

    needed: int
    by: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many receipts are missing; 0 when no w fresh cosignatures can exist without the statement."""
        return max(0, self.needed - len(self.by))


def count_receipts(
    witnesses: Sequence[PinnedWitness], w: int, genesis: bytes, digest: bytes, receipts: Iterable[Signed]
) -> Posted:
    """Return whose receipts for `digest` hold under the pinned keys; what does not verify counts nothing.

    Args:
        witnesses: all W that the rules pin.
        w: how many must vouch for a checkpoint.
        genesis: 32 bytes.
        digest: 32 bytes, of the statement that was posted.
        receipts: as they came.
    """
    keys = {witness.name: witness.key for witness in witnesses}
    found = set()
    for signed in receipts:
        try:
            receipt = read_receipt(signed)
        except MalformedError:
            continue
        key = keys.get(receipt.witness)
        if key is not None and (receipt.genesis, receipt.digest) == (genesis, digest) and signed.signed_by(key):
            found.add(receipt.witness)
    return Posted(len(keys) - w + 1, tuple(sorted(found)))

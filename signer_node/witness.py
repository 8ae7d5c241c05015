"""What a witness signs: only trees that hold every earlier tree it vouched for. Pure: no clock, file or network.

`step` is the whole judgement. It remembers nothing and signs for nobody but the pinned log; `signer_node.witness_store`
makes its answer durable before the cosignature leaves, and a witness that lost or rewound its state never signs again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from custody import ed25519
from custody.audit import (
    EMPTY_ROOT,
    Checkpoint,
    Note,
    WitnessKey,
    cosign,
    open_checkpoint,
    open_signed,
    verify_consistency,
)
from custody.errors import IntegrityError, MalformedError, Refused


@dataclass(frozen=True, slots=True)
class WitnessState:
    """The largest tree of one log that this witness vouched for. root: 32 bytes.  note: as the log signed it, or ""."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""


@dataclass(frozen=True, slots=True)
class WitnessPins:
    """What was pinned on this machine for one log. log_key: 32 bytes.  name, seed (32 bytes): the witness's own key."""

    origin: str
    log_key: bytes
    name: str
    seed: bytes = field(repr=False)

    @property
    def key(self) -> WitnessKey:
        """The public half, as others pin it."""
        return WitnessKey(self.name, ed25519.public_key(self.seed))


@dataclass(frozen=True, slots=True)
class CosignRequest:
    """A checkpoint to vouch for. old_size: where the asker believes this witness is.  proof: from there (32 bytes)."""

    origin: str
    old_size: int
    proof: tuple[bytes, ...]
    note: str


def step(
    state: WitnessState, request: CosignRequest, keys: WitnessPins, now: int
) -> tuple[WitnessState, str] | Refused:
    """Return the next state and the cosignature line (no newline) over the request's checkpoint, or the first refusal.

    An unchanged checkpoint is cosigned again with the new time. The line may leave only after the state is durable.

    Args:
        state: what this witness vouched for so far.
        request: as received; nothing in it has been believed yet.
        keys: pinned origin and log key, own name and seed.
        now: UTC seconds, this witness's own clock: the time that the cosignature bears.
    """
    # Plan: the log's own checkpoint · my own past · not older · from where I am · same size, same tree · proof.
    if request.origin != keys.origin:
        return Refused("CHECKPOINT_ORIGIN", keys.origin, request.origin[:200])
    try:
        checkpoint, note = open_signed(request.note, keys.log_key, keys.origin)
        own = open_checkpoint(request.note, keys.log_key, keys.origin, (keys.key,)).counted
    except (MalformedError, IntegrityError) as error:
        return Refused(error.code, "a checkpoint signed by the pinned log key", error.message)
    if refused := _keeps_history(state, request, checkpoint, vouched_before=bool(own)):
        return refused
    only_log = str(Note(note.body, tuple(line for line in note.signatures if line.name == keys.origin)))
    line = cosign(only_log, keys.name, keys.seed, now)
    return replace(state, size=checkpoint.size, root=checkpoint.root, note=only_log), line


def _keeps_history(
    state: WitnessState, request: CosignRequest, checkpoint: Checkpoint, vouched_before: bool
) -> Refused | None:
    mine, theirs = f"size {state.size} root {state.root.hex()}", f"size {checkpoint.size} root {checkpoint.root.hex()}"
    same_size = checkpoint.size == state.size
    if vouched_before and checkpoint.size >= state.size and not (same_size and checkpoint.root == state.root):
        return Refused("WITNESS_REWOUND", mine, f"{theirs}, which this key vouched for before")
    if checkpoint.size < state.size:
        return Refused("WITNESS_ROLLED_BACK", mine, theirs)
    if request.old_size != state.size:
        return Refused("WITNESS_STALE_SIZE", f"old_size {request.old_size} to be this witness's size", str(state.size))
    if same_size and checkpoint.root != state.root:
        return Refused("WITNESS_FORK", mine, theirs)
    if not _proven(state, request.proof, checkpoint):
        return Refused("WITNESS_BAD_PROOF", f"a consistency proof from {mine}", theirs)
    return None


def _proven(state: WitnessState, proof: tuple[bytes, ...], checkpoint: Checkpoint) -> bool:
    if state.size == 0:  # every tree holds the empty one: nothing to prove, so nothing may be sent
        return not proof
    return verify_consistency(state.size, checkpoint.size, proof, state.root, checkpoint.root)

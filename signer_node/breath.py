"""What a node may sign unasked: the one fixed sentence of a proof of life, made here and in the engine alike."""

from __future__ import annotations

from dataclasses import dataclass

from custody.alive import PATH, Life, breath_of
from custody.canonical import encode
from custody.genesis import Genesis


@dataclass(frozen=True, slots=True)
class ClearedBreath:
    """What a proof of life signs: made from the fixed sentence, and from nothing that came from outside.

    raw_bundle: the proof without its signature, for a backend that makes the sentence again.
    """

    digests: tuple[bytes, ...]
    paths: tuple[tuple[int, int], ...]
    pubkeys: tuple[bytes, ...]
    raw_bundle: bytes
    withdrawal_digest: bytes = bytes(32)


def breath_to_sign(genesis: Genesis, life: Life) -> ClearedBreath | None:
    """Return what the key of the node that `life` names has to sign, or None where `genesis` has no such node."""
    breath = breath_of(genesis, life)
    return (
        None if breath is None else ClearedBreath((breath.digest,), (PATH,), (breath.pubkey,), encode(life.to_json()))
    )

"""The reviewed list: where libwally 1.5.6 and rust-bitcoin (bdk 3.1.1) differ from us, and why we stay as we are.

A row names who differs, how, and in which field: a code alone would excuse too much. None stands for anywhere. There
is no row for another transaction or another amount: what all of them accept must pay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import wallycore

from custody.errors import MalformedError
from custody.psbt import MAGIC, Psbt
from custody.psbt_fields import GLOBAL, GLOBAL_INPUT_COUNT, GLOBAL_TRANSACTION, INPUT, OUTPUT, PROPRIETARY
from custody.reader import Reader
from custody.transaction import parse_transaction
from tests.fuzz.oddities import (
    empty_part,
    is_version_2,
    odd_flags,
    odd_preimage,
    odd_signature,
    odd_taproot,
    odd_version,
    odd_xpub,
)

WALLY, BDK = "wally", "bdk"
BOTH = (WALLY, BDK)
TRANSACTION, PREVIOUS, WITNESS_UTXO, TAP_TREE = (GLOBAL, 0x00), (INPUT, 0x00), (INPUT, 0x01), (OUTPUT, 0x06)
Place = tuple[str, int]
BEHIND_REASON = "they ignore what stands behind the last map"
TWO_WAYS_REASON = "no inputs, or the marker of a witness (BIP-144): read in two ways, so not at all"
NOWHERE, BEHIND = ("nowhere", -1), ("behind a map", -1)


@dataclass(frozen=True, slots=True)
class Stricter:
    """We refuse what `peers` accept. places: (kind of map, type of field), all where it is None."""

    peers: Collection[str]
    codes: Collection[str]
    places: Collection[Place] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Looser:
    """We accept what `peer` refuses with a message that begins with `message`, where `holds` for our PSBT."""

    peer: str
    message: str
    holds: Callable[[Psbt], bool]
    reason: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One of `peers` writes another value of one field than it read, from `before` to `after` (None: no field)."""

    peers: Collection[str]
    place: Place
    holds: Callable[[bytes | None, bytes | None], bool]
    reason: str


def _of(where: str, *kinds: int) -> tuple[Place, ...]:
    return tuple((where, kind) for kind in kinds)


def _without_witness(before: bytes | None, after: bytes | None) -> bool:
    return before is not None and parse_transaction(before).serialize_stripped() == after


def _without_flags(before: bytes | None, after: bytes | None) -> bool:
    return before is not None and after == before[:3] + bytes([before[3] & 0x3F])


def _out_of_range(before: bytes | None, after: bytes | None) -> bool:
    if before is None or after is None or before[-1] != after[-1]:
        return False
    return after[:-1] == bytes(wallycore.ec_sig_to_der(wallycore.ec_sig_from_der(before[:-1])))


def _same_leaves(before: bytes | None, after: bytes | None) -> bool:
    return None not in (before, after) and sorted(before or b"") == sorted(after or b"")


STRICTER = (
    Stricter(BOTH, {"MUSIG2_FIELD"}, None, "no wallet of ours uses MuSig2 (BIP-373): its fields are refused"),
    Stricter(
        BOTH, {"PREVIOUS_MISMATCH"}, None, "they compare previous transactions when they sign, we before anything else"
    ),
    Stricter(
        {BDK},
        {"V2_FIELD", "KEY_LENGTH", "VALUE_LENGTH", "LOCKTIME_KIND"},
        (*_of(GLOBAL, 2, 3, 4, 5, 6), *_of(INPUT, 0x0E, 0x0F, 0x10, 0x11, 0x12), *_of(OUTPUT, 3, 4)),
        "fields of version 2 in version 0 are unknown to rust-bitcoin; another reader may obey them",
    ),
    Stricter(
        BOTH,
        {"NO_INPUTS", "NO_OUTPUTS"},
        {TRANSACTION, PREVIOUS, *_of(GLOBAL, 4, 5)},
        "a transaction without inputs or outputs pays nobody",
    ),
    Stricter(BOTH, {"AMOUNT_OUT_OF_RANGE"}, None, "they do not compare amounts with 21 million coins"),
    Stricter({WALLY}, {"LOCKTIME_CONFLICT"}, None, "libwally finds it when it is asked for the locktime"),
    Stricter({WALLY}, {"TRUNCATED", "TAP_TREE"}, {TAP_TREE}, "libwally keeps taproot trees without reading them"),
    Stricter({WALLY}, {"TRAILING_BYTES"}, {TRANSACTION, PREVIOUS}, "libwally drops what follows a transaction"),
    Stricter(
        {WALLY},
        {"TRUNCATED"},
        tuple((where, PROPRIETARY) for where in (GLOBAL, INPUT, OUTPUT)),
        "libwally does not read the identifier of proprietary fields (BIP-174)",
    ),
    Stricter(
        {WALLY}, {"NOT_MINIMAL"}, None, "libwally takes longer spellings of a size; of one PSBT there are then many"
    ),
    Stricter(
        {BDK},
        {"TRUNCATED", "NOT_MINIMAL"},
        tuple((where, kind) for where in (GLOBAL, INPUT, OUTPUT) for kind in range(PROPRIETARY, 0x100)),
        "rust-bitcoin does not read the sizes in long and proprietary keys (BIP-174)",
    ),
    Stricter({WALLY}, {"PUBKEY"}, _of(INPUT, 0x14), "libwally does not ask whether x-only keys are points here"),
    Stricter({BDK}, {"VALUE_LENGTH"}, {(GLOBAL, 0x01)}, "rust-bitcoin does not compare path and depth (BIP-174)"),
    Stricter({BDK}, {"KEY_LENGTH"}, {(INPUT, 0x09)}, "rust-bitcoin does not know proofs of reserves (BIP-127)"),
)
_OF_KEYS = frozenset({"KEY_LENGTH", "V2_FIELD", "MUSIG2_FIELD", "PUBKEY", "DUPLICATE_KEY"})  # offset: of the key
_JUDGED_LATER = (
    "shape only is for the codec: `accept` judges signatures, `read_facts` refuses what no wallet of ours has"
)
LOOSER = (
    Looser(BDK, "error_message='version error PSBT versions greater than 0", is_version_2, "it has no version 2"),
    *(
        Looser(BDK, f"error_message={message}", odd, _JUDGED_LATER)
        for message, odd in (
            ("'non-standard sighash type", odd_signature),
            ("'non-standard sighash type", odd_taproot),
            ("'invalid ECDSA signature", odd_signature),
            ("'invalid xonly public key", odd_taproot),
            ("'invalid control block", odd_taproot),
            ("'invalid leaf version", odd_taproot),
            ("'Preimage", odd_preimage),
            ('"xpub key error', odd_xpub),
        )
    ),
    *(
        Looser(WALLY, "Invalid argument", odd, _JUDGED_LATER)
        for odd in (odd_signature, odd_taproot, odd_preimage, odd_xpub, odd_flags, odd_version)
    ),
    Looser(WALLY, "Invalid argument", empty_part, "an empty value, an empty script are ones (BIP-174)"),
)
REWRITES = (
    Rewrite(
        BOTH, (GLOBAL, 0xFB), lambda before, after: (before, after) == (bytes(4), None), "version 0 is the default"
    ),
    Rewrite({WALLY}, (GLOBAL, 0x06), lambda before, after: (before, after) == (b"\0", None), "no flag is the default"),
    Rewrite({WALLY}, (INPUT, 0x03), lambda before, after: (before, after) == (bytes(4), None), "it takes 0 for none"),
    Rewrite(
        {WALLY}, (INPUT, 0x10), lambda before, after: (before, after) == (b"\xff" * 4, None), "final is the default"
    ),
    Rewrite({WALLY}, PREVIOUS, _without_witness, "it drops witnesses of previous transactions, which no hash covers"),
    Rewrite({BDK}, TAP_TREE, _same_leaves, "it sorts the leaves of a taproot tree"),
    Rewrite({BDK}, (INPUT, 0x02), _out_of_range, "it writes a signature's number that is out of range as 0"),
    Rewrite({WALLY}, (INPUT, 0x0F), _without_flags, "it keeps flags of Elements in the two highest bits of an index"),
)


def our_refusal_reason(name: str, error: MalformedError, raw: bytes) -> str:
    """Return why we refuse what `name` accepts, or ""."""
    place, value = field_of(raw, error)
    if error.code == "TRAILING_BYTES" and place == BEHIND:
        return BEHIND_REASON
    if place in (TRANSACTION, PREVIOUS) and value[4:5] == b"\0":
        return TWO_WAYS_REASON
    for row in STRICTER:
        if name in row.peers and error.code in row.codes and (row.places is None or place in row.places):
            return row.reason
    return ""


def their_refusal_reason(name: str, message: str, ours: Psbt) -> str:
    """Return why `name` refuses what we accept, or ""."""
    for row in LOOSER:
        if name == row.peer and message.startswith(row.message) and row.holds(ours):
            return row.reason
    return ""


def rewrite_reason(name: str, place: Place, before: bytes | None, after: bytes | None) -> str:
    """Return why `name` writes another value than it read, or ""."""
    for row in REWRITES:
        if name in row.peers and place == row.place and row.holds(before, after):
            return row.reason
    return ""


def place_of(raw: bytes, error: MalformedError) -> Place:
    """Return the kind of map and the type of the field that `error` speaks of; BEHIND where it is a map's end."""
    return field_of(raw, error)[0]


def field_of(raw: bytes, error: MalformedError) -> tuple[Place, bytes]:
    """Return `place_of` and the value of that field, empty where it is none."""
    wanted = error.offset - (error.code not in _OF_KEYS)  # a reader stands behind what it did not like
    reader, number, inputs = Reader(raw), 0, 0
    reader.take(len(MAGIC))
    try:
        while reader.left:
            at = reader.offset
            if not (key := reader.sized()):
                number += 1
                if error.offset == reader.offset and error.code == "TRAILING_BYTES":
                    return BEHIND, b""
                continue
            value = reader.sized()
            if number == 0:
                inputs = inputs or _count(key, value)
            if at <= wanted < reader.offset:
                return (GLOBAL if number == 0 else INPUT if number <= inputs else OUTPUT, key[0]), value
    except MalformedError:
        pass
    return NOWHERE, b""


def _count(key: bytes, value: bytes) -> int:
    """Return how many inputs a global field says there are, 0 where it says nothing of them."""
    if key == bytes([GLOBAL_TRANSACTION]):
        try:
            return len(parse_transaction(value).inputs)
        except MalformedError:
            return 0
    return value[0] if key == bytes([GLOBAL_INPUT_COUNT]) and value else 0

"""Files that people carry: PSBTs, bundles, deltas, answers; checked on the way for what and whose they are."""

from __future__ import annotations

from pathlib import Path

from console.devices.incoming import read_returned
from console.files import read_file
from console.frames import read_carried
from custody.bundle import (
    MAX_PSBT_BYTES,
    Answer,
    Bundle,
    Delta,
    parse_answer,
    parse_bundle,
    parse_delta,
)
from custody.errors import IntegrityError, MalformedError
from custody.frames import ParcelKind
from custody.genesis import Genesis
from custody.psbt import from_base64

PSBT_MAGIC = b"psbt\xff"
_MAX_PSBT_FILE_BYTES = MAX_PSBT_BYTES * 4 // 3 + 16


def read_psbt_file(path: Path) -> bytes:
    """Return the binary PSBT in `path`, which may be base64. Its meaning is for `custody.psbt.parse`."""
    content = read_file(path, _MAX_PSBT_FILE_BYTES)
    if content.startswith(PSBT_MAGIC):
        return content
    try:
        return from_base64(content.decode("ascii").strip())
    except UnicodeDecodeError as error:
        raise MalformedError("PSBT_MAGIC", f"expected a PSBT, binary or base64, in {path}") from error


def read_returned_file(path: Path) -> bytes:
    """Return what a signer of others gave back, a file or pictures, as a binary PSBT; it may be a final transaction."""
    return read_returned(read_carried(path, ParcelKind.PSBT, _MAX_PSBT_FILE_BYTES))


def checked_answer(raw: bytes, genesis: Genesis) -> Answer:
    """Return a node's answer, which must be about our genesis."""
    answer = parse_answer(raw)
    if answer.genesis != genesis.hash:
        raise MalformedError("GENESIS_OTHER", "expected an answer about the pinned genesis, found another's")
    return answer


def checked_bundle(raw: bytes, genesis: Genesis, node: str, digest: bytes) -> Bundle:
    """Return the bundle in `raw`, if it is for `node` and about the withdrawal `digest` (32 bytes).

    Raises:
        IntegrityError: BUNDLE_OTHER, ANSWER_MALFORMED: the coordinator handed out something else.
    """
    try:
        bundle = parse_bundle(raw)
    except MalformedError as error:
        raise IntegrityError("ANSWER_MALFORMED", f"the coordinator's bundle is wrong: {error}") from error
    if (bundle.genesis, bundle.node, bundle.withdrawal.digest) != (genesis.hash, node, digest):
        raise IntegrityError("BUNDLE_OTHER", f"expected the bundle of {digest.hex()[:16]} for {node}, found another")
    return bundle


def checked_delta(raw: bytes, genesis: Genesis, from_size: int | None) -> Delta:
    """Return the delta in `raw`, if it continues a log of `from_size` entries (None: of any) under our genesis.

    Raises:
        IntegrityError: DELTA_OTHER, ANSWER_MALFORMED.
    """
    try:
        delta = parse_delta(raw)
    except MalformedError as error:
        raise IntegrityError("ANSWER_MALFORMED", f"the coordinator's delta is wrong: {error}") from error
    if delta.genesis != genesis.hash or (from_size is not None and delta.log.first > from_size):
        raise IntegrityError("DELTA_OTHER", f"expected our entries from {from_size} on, found from {delta.log.first}")
    return delta

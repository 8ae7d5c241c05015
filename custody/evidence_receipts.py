"""The receipts in an evidence bundle: nodes' for what they signed, witnesses' for statements they held.

They are in the bundle where the export has them; one that is left out is not missed, one that is there must hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from custody import held
from custody.audit import Export
from custody.bundle import check_receipt, read_receipt
from custody.entries import Release, statements_of
from custody.errors import MalformedError
from custody.policy import Policy
from custody.statements import Kind, Signed
from custody.story import Story


def receipts_of(story: Story, export: Export) -> tuple[Signed, ...]:
    """Return the receipts in `export` that speak of the withdrawal of `story`, in the order of their digests."""
    named = {digest for event in story.events for digest in event.bodies}
    posted = {digest for told in story.money for digest in statements_of(told.entry)}
    return tuple(
        body
        for digest, body in sorted(export.bodies.items())
        if isinstance(body, Signed)
        and (
            (body.kind is Kind.RECEIPT and digest in named)
            or (body.kind is Kind.HELD and held.read_receipt(body).digest in posted)
        )
    )


def check_receipts(
    receipts: Iterable[Signed],
    genesis: bytes,
    versions: Iterable[Policy],
    releases: Mapping[int, Release],
    statements: frozenset[bytes],
) -> None:
    """Prove that each receipt is by a node or witness of the rules, and of what the bundle holds.

    Args:
        receipts: of either kind.
        genesis: 32 bytes.
        versions: all rules that the bundle shows; a key of any of them will do.
        releases: by their index in the money log.
        statements: digests (32 bytes each) that money entries in the bundle name.

    Raises:
        MalformedError: RECEIPT_OTHER, RECEIPT_RELEASE, RECEIPT_STATEMENT, RECEIPT_SIGNATURE, RECEIPT_MISMATCH, ...
    """
    known = tuple(versions)
    for receipt in receipts:
        if receipt.kind is Kind.HELD:
            _check_held(receipt, genesis, known, statements)
        else:
            _check_signed(receipt, genesis, known, releases)


def _check_held(receipt: Signed, genesis: bytes, versions: tuple[Policy, ...], statements: frozenset[bytes]) -> None:
    said = held.read_receipt(receipt)
    if said.genesis != genesis:
        raise MalformedError("RECEIPT_OTHER", "expected a receipt under this genesis")
    if said.digest not in statements:
        raise MalformedError("RECEIPT_STATEMENT", "expected the bundle to hold what a witness held")
    keys = [w.key for policy in versions for w in policy.roots.witnesses if w.name == said.witness]
    if len(receipt.endorsements) != 1 or not any(receipt.signed_by(key) for key in keys):
        raise MalformedError("RECEIPT_SIGNATURE", f"expected the pinned key of {said.witness[:64]!r} alone")


def _check_signed(
    receipt: Signed, genesis: bytes, versions: tuple[Policy, ...], releases: Mapping[int, Release]
) -> None:
    answer, index = read_receipt(receipt)
    release = releases.get(index)
    if answer.genesis != genesis:
        raise MalformedError("RECEIPT_OTHER", "expected a receipt under this genesis")
    if release is None or (release.withdrawal_digest, release.txid) != (answer.withdrawal_digest, answer.txid):
        raise MalformedError("RECEIPT_RELEASE", f"expected money entry {index} to release what the node signed")
    nodes = [policy.roots.node(answer.node) for policy in versions]
    keys = [node.identity for node in nodes if node is not None]
    check_receipt(answer, index, next((key for key in keys if receipt.signed_by(key)), b""))

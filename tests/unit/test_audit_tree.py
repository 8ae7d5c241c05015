"""The Merkle tree against the shared RFC 6962 vectors, a second implementation, and its own proofs."""

import base64
import json
from pathlib import Path
from typing import Any

import pymerkle  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.audit import (
    EMPTY_ROOT,
    Frontier,
    Subtrees,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from custody.errors import IntegrityError

VECTORS = Path(__file__).parents[1] / "vectors" / "rfc6962" / "testdata"


def vectors(kind: str) -> list[Any]:
    """Return every vector of one kind, named by its path."""
    root = VECTORS / kind
    return [pytest.param(json.loads(p.read_text()), id=str(p.relative_to(root))) for p in sorted(root.rglob("*.json"))]


def unpack(vector: dict[str, Any], key: str) -> bytes:
    """Return the bytes of a base64 field that may be null."""
    return base64.b64decode(vector[key] or "")


def proof_of(vector: dict[str, Any]) -> list[bytes]:
    """Return the proof of a vector."""
    return [base64.b64decode(node) for node in vector["proof"] or []]


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_verify_inclusion_given_shared_vector_agrees(vector: dict[str, Any]) -> None:
    """Each of the 98 inclusion vectors is accepted or refused as it says."""
    holds = verify_inclusion(
        unpack(vector, "leafHash"), vector["leafIdx"], vector["treeSize"], proof_of(vector), unpack(vector, "root")
    )

    assert holds is not vector.get("wantErr", False)


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_verify_consistency_given_shared_vector_agrees(vector: dict[str, Any]) -> None:
    """Each of the 98 consistency vectors is accepted or refused as it says."""
    holds = verify_consistency(
        vector["size1"], vector["size2"], proof_of(vector), unpack(vector, "root1"), unpack(vector, "root2")
    )

    assert holds is not vector.get("wantErr", False)


def test_vectors_are_complete() -> None:
    """All 196 vectors are there, so that a lost file cannot pass for a pass."""
    assert (len(vectors("inclusion")), len(vectors("consistency"))) == (98, 98)


def leaves_of(size: int) -> list[bytes]:
    """Return distinct leaf hashes."""
    return [leaf_hash(b"entry %d" % index) for index in range(size)]


@pytest.mark.parametrize("size", [*range(20), 31, 32, 33, 100])
def test_root_given_any_size_equals_pymerkle(size: int) -> None:
    """Roots agree with an independent implementation of RFC 6962."""
    other = pymerkle.InmemoryTree(algorithm="sha256")
    for index in range(size):
        other.append_entry(b"entry %d" % index)

    assert root_of(leaves_of(size)) == (other.get_root() if size else EMPTY_ROOT)


def test_proofs_given_every_index_and_size_to_33_verify() -> None:
    """Every inclusion and consistency proof that we make is one that we accept."""
    leaves = leaves_of(33)
    tree = Subtrees(leaves)
    for size in range(1, 34):
        root = tree.root_at(size)
        assert root == root_of(leaves[:size])
        for at in range(size):
            assert verify_inclusion(leaves[at], at, size, inclusion_proof(tree, at, size), root)
            old = at + 1
            assert verify_consistency(old, size, consistency_proof(tree, old, size), tree.root_at(old), root)


@given(st.data())
def test_proof_given_one_flipped_bit_is_refused(data: st.DataObject) -> None:
    """No bit of an inclusion proof, leaf or root is free."""
    size = data.draw(st.integers(2, 70))
    at = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    parts = [leaves[at], root_of(leaves), *inclusion_proof(leaves, at, size)]
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[which] = (int.from_bytes(parts[which]) ^ 1 << bit).to_bytes(32)

    assert not verify_inclusion(parts[0], at, size, parts[2:], parts[1])


def test_frontier_given_leaves_one_by_one_stores_what_proofs_read() -> None:
    """The subtrees that growing completes are exactly those a reader is asked for."""
    frontier, made = Frontier(), {}
    for leaf in leaves_of(13):
        frontier, nodes = frontier.grow(leaf)
        made.update({(node.level, node.index): node.digest for node in nodes})

    class Stored:
        def hashes(self, level: int, index: int) -> bytes:
            return made[level, index]

    assert frontier.root == root_of(leaves_of(13))
    assert inclusion_proof(Stored(), 5, 13) == inclusion_proof(leaves_of(13), 5, 13)
    assert consistency_proof(Stored(), 5, 13) == consistency_proof(leaves_of(13), 5, 13)


def test_frontier_given_wrong_shape_is_refused() -> None:
    """A stored frontier with a node too few is damage, not a tree."""
    with pytest.raises(IntegrityError, match="FRONTIER_SHAPE"):
        Frontier(3, (b"\0" * 32,))


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0)])
def test_inclusion_proof_given_index_outside_is_refused(index: int, size: int) -> None:
    """Nothing is proven of a leaf that the tree does not hold."""
    with pytest.raises(IntegrityError, match="PROOF_RANGE"):
        inclusion_proof(leaves_of(4), index, size)


@pytest.mark.parametrize(("old", "size"), [(5, 4), (-1, 4)])
def test_consistency_proof_given_larger_old_size_is_refused(old: int, size: int) -> None:
    """A log cannot be shown to have shrunk consistently."""
    with pytest.raises(IntegrityError, match="PROOF_RANGE"):
        consistency_proof(leaves_of(4), old, size)

"""The RFC 6962 Merkle tree: what makes a log append-only and its proofs short.

leaf = sha256(0x00 || entry), node = sha256(0x01 || left || right), so that no leaf can pass for a node. Nothing here
keeps entries: a `Frontier` is all that an appender or a follower needs, and proofs read subtree hashes through a
`HashReader`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from custody.errors import IntegrityError

EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962 section 2.1: MTH({}) = SHA-256()
_HASH_SIZES = frozenset({32})
MAX_PROOF_NODES = 63  # C2SP tlog-witness: trees are smaller than 2^63


class HashReader(Protocol):
    """Where the hashes of complete subtrees are stored."""

    def hashes(self, level: int, index: int) -> bytes:
        """Return the root (32 bytes) of leaves index * 2^level .. (index + 1) * 2^level - 1."""


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A complete subtree: its place in `HashReader` terms and its root (32 bytes)."""

    level: int
    index: int
    digest: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return the leaf of the entry's canonical bytes: 32 bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the node over two subtrees: 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree as its appender needs it: the roots of its complete subtrees, largest (leftmost) first.

    size: leaves.  nodes: one per bit set in size, 32 bytes each.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if (
            self.size < 0
            or len(self.nodes) != self.size.bit_count()
            or not _HASH_SIZES.issuperset(map(len, self.nodes))
        ):
            raise IntegrityError("FRONTIER_SHAPE", f"expected one hash per complete subtree of {self.size} leaves")

    @property
    def root(self) -> bytes:
        """32 bytes: the tree head's root hash."""
        return _fold(self.nodes)

    def append(self, leaf: bytes) -> Frontier:
        """Return the tree with one more leaf hash."""
        nodes, size = list(self.nodes), self.size
        while size & 1:
            leaf = node_hash(nodes.pop(), leaf)
            size >>= 1
        return Frontier(self.size + 1, (*nodes, leaf))

    def grow(self, leaf: bytes) -> tuple[Frontier, tuple[StoredNode, ...]]:
        """Return the tree with one more leaf hash, and every subtree that it completed, the leaf itself first.

        Whoever stores these (about two per leaf) can serve every later proof through `HashReader`.
        """
        nodes, size = list(self.nodes), self.size
        made = [StoredNode(0, size, leaf)]
        while size & 1:
            leaf = node_hash(nodes.pop(), leaf)
            size >>= 1
            made.append(StoredNode(made[-1].level + 1, size, leaf))
        return Frontier(self.size + 1, (*nodes, leaf)), tuple(made)


class Subtrees:
    """A `HashReader` in memory, grown leaf by leaf: for tests, verifiers and small logs."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = []
        self.frontier = Frontier()
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.frontier, made = self.frontier.grow(leaf)
        for node in made:
            if node.level == len(self._levels):
                self._levels.append([])
            self._levels[node.level].append(node.digest)

    def hashes(self, level: int, index: int) -> bytes:
        """Return the root of a complete subtree: 32 bytes."""
        return self._levels[level][index]

    def root_at(self, size: int) -> bytes:
        """Return the root (32 bytes) that the tree had when it held `size` leaves."""
        return range_root(self, 0, size)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes: 32 bytes."""
    tree = Frontier()
    for leaf in leaves:
        tree = tree.append(leaf)
    return tree.root


def range_root(reader: HashReader, start: int, end: int) -> bytes:
    """Return the root over leaves start..end-1, where start is where a subtree of that size may begin."""
    return _fold([reader.hashes(level, index) for level, index in subtrees_of(start, end)])


def subtrees_of(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (level, index) of the complete subtrees that make up leaves start..end-1, left to right."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def inclusion_ranges(index: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return the leaf ranges whose roots prove leaf `index` in a tree of `size`, in proof order (RFC 6962 2.1.1).

    A store that reads asynchronously fetches `subtrees_of` each of them first.
    """
    if not 0 <= index < size:
        raise IntegrityError("PROOF_RANGE", f"expected an index below {size}, found {index}")
    low, high, ranges = 0, size, []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return tuple(reversed(ranges))


def consistency_ranges(old_size: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return the leaf ranges whose roots prove that `old_size` is a prefix of `size` (RFC 6962 section 2.1.2)."""
    if not 0 < old_size <= size:
        raise IntegrityError("PROOF_RANGE", f"expected an old size in 1..{size}, found {old_size}")
    low, high, ranges = 0, size, []
    while high != old_size:
        middle = low + _split(high - low)
        if old_size <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    if low:  # the old tree's own last subtree is not its root, so the verifier needs it
        ranges.append((low, high))
    return tuple(reversed(ranges))


def inclusion_proof(leaves: Sequence[bytes] | HashReader, index: int, size: int) -> tuple[bytes, ...]:
    """Return the audit path of leaf `index` in the tree of `size`: 32 bytes each, O(log size) reads.

    Args:
        leaves: the leaf hashes, or where subtree hashes are stored.
        index: the leaf's place, below `size`.
        size: the tree's size when its checkpoint was made.
    """
    reader = _reader(leaves)
    return tuple(range_root(reader, start, end) for start, end in inclusion_ranges(index, size))


def consistency_proof(leaves: Sequence[bytes] | HashReader, old_size: int, size: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of `old_size` is a prefix of that of `size`; empty from 0 or to itself."""
    if old_size == 0:
        return ()
    reader = _reader(leaves)
    return tuple(range_root(reader, start, end) for start, end in consistency_ranges(old_size, size))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether `proof` shows the leaf hash at `index` in the tree of `size` and `root` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size or len(proof) > MAX_PROOF_NODES or len(leaf) != 32:
        return False
    at, last, found = index, size - 1, leaf
    for node in proof:
        if last == 0 or len(node) != 32:
            return False
        if at & 1 or at == last:
            found = node_hash(node, found)
            while not at & 1 and at:  # a right edge without sibling on these levels
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, node)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """Return whether `proof` shows that the old tree is a prefix of the new one (RFC 9162 section 2.1.4.2).

    An old size of 0 proves nothing and is refused: who starts from the empty tree compares with `EMPTY_ROOT` himself.
    """
    if not 0 < old_size <= size or len(proof) > MAX_PROOF_NODES or any(len(node) != 32 for node in proof):
        return False
    if old_size == size:
        return not proof and old_root == root
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        return False
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old, new = path[0], path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and old == old_root and new == root


def _fold(nodes: Sequence[bytes]) -> bytes:
    if not nodes:
        return EMPTY_ROOT
    root = nodes[-1]
    for node in reversed(nodes[:-1]):
        root = node_hash(node, root)
    return root


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 6962 section 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _reader(leaves: Sequence[bytes] | HashReader) -> HashReader:
    return Subtrees(leaves) if isinstance(leaves, Sequence) else leaves

"""The fountain code of UR (BCR-2024-001): any frames, a few more than the message has fragments, give the message.

The first `count` parts are the fragments themselves. Each later one is the XOR of fragments that its number and the
message's checksum choose, by the generator and the sampling that every implementation of UR shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count as numbers_from
from zlib import crc32

from custody.errors import MalformedError

MAX_FRAGMENTS = 2_000  # ten minutes of pictures; solving for more would take seconds
_MIN_FRAGMENT_BYTES = 10  # as in the reference implementation
_WORD = 2**64
_MASK = _WORD - 1


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    number: from 1 on.  count: fragments of the message.  message_bytes: its length.  checksum: its CRC-32.
    data: XOR of the chosen fragments.
    """

    number: int
    count: int
    message_bytes: int
    checksum: int
    data: bytes

    @property
    def session(self) -> tuple[int, int, int]:
        """What all parts of one message share."""
        return self.count, self.message_bytes, self.checksum


def fragment_bytes(message_bytes: int, max_fragment_bytes: int) -> int:
    """Return the length of each fragment: as equal as can be, at most `max_fragment_bytes`."""
    for pieces in range(1, -(-message_bytes // _MIN_FRAGMENT_BYTES) + 1):
        if (size := -(-message_bytes // pieces)) <= max_fragment_bytes:
            return size
    return _MIN_FRAGMENT_BYTES


def parts(message: bytes, max_fragment_bytes: int) -> Iterator[Part]:
    """Yield the parts of `message` without end: first its fragments in order, then mixtures of them.

    Raises:
        MalformedError: FRAMES_TOO_LARGE.
    """
    size = fragment_bytes(len(message), max_fragment_bytes)
    fragments = [
        int.from_bytes(message[at : at + size].ljust(size, b"\x00"), "big") for at in range(0, len(message), size)
    ]
    if len(fragments) > MAX_FRAGMENTS:
        raise MalformedError("FRAMES_TOO_LARGE", f"expected at most {MAX_FRAGMENTS} fragments, found {len(fragments)}")
    checksum = crc32(message)
    for number in numbers_from(1):
        mixed = 0
        for index in chosen(number, len(fragments), checksum):
            mixed ^= fragments[index]
        yield Part(number, len(fragments), len(message), checksum, mixed.to_bytes(size, "big"))


def chosen(number: int, count: int, checksum: int) -> tuple[int, ...]:
    """Return which fragments, from 0 on, part `number` of a message with this `checksum` is the XOR of."""
    if number <= count:
        return (number - 1,)
    random = _Xoshiro(number.to_bytes(4, "big") + checksum.to_bytes(4, "big"))
    degree = _degree(count, random)
    left = list(range(count))
    return tuple(left.pop(random.below(len(left))) for _ in range(degree))


class Solver:
    """Collects parts of one message until they determine it. Which and in what order does not matter.

    Args:
        first: a part of the message; all others must agree with it.

    Raises:
        MalformedError: FRAME_HEADER for numbers that no encoder writes, FRAMES_TOO_LARGE.
    """

    def __init__(self, first: Part, max_bytes: int) -> None:
        size = len(first.data)
        if first.count > MAX_FRAGMENTS or first.message_bytes > max_bytes:
            raise MalformedError("FRAMES_TOO_LARGE", f"expected at most {MAX_FRAGMENTS} frames and {max_bytes} bytes")
        if size == 0 or first.message_bytes == 0 or first.count != -(-first.message_bytes // size):
            raise MalformedError("FRAME_HEADER", f"expected {first.count} fragments of one length, found {size} bytes")
        self._first, self._bits = first, 8 * size
        self._rows: dict[int, int] = {}  # highest fragment of a row -> (fragments that it mixes, their XOR) as one int

    @property
    def count(self) -> int:
        """How many fragments the message has."""
        return self._first.count

    @property
    def have(self) -> int:
        """How many fragments' worth is known."""
        return len(self._rows)

    @property
    def is_complete(self) -> bool:
        """Whether the message is determined."""
        return self.have == self._first.count

    def add(self, part: Part) -> None:
        """Take in `part`.

        Raises:
            MalformedError: FRAME_OTHER_SESSION (of another message), FRAME_CONFLICT (contradicts what was taken in);
                nothing changed.
        """
        if part.session != self._first.session or len(part.data) != len(self._first.data) or part.number < 1:
            raise MalformedError("FRAME_OTHER_SESSION", "expected a frame of the same message, found another's")
        row = int.from_bytes(part.data, "big")
        for index in chosen(part.number, part.count, part.checksum):
            row |= 1 << self._bits + index
        while (highest := row.bit_length() - 1 - self._bits) >= 0:
            known = self._rows.get(highest)
            if known is None:
                self._rows[highest] = row
                break
            row ^= known
        if highest < 0 and row:
            raise MalformedError("FRAME_CONFLICT", "expected the same content, found another under the same number")

    def message(self) -> bytes:
        """Return the message. Raises MalformedError FRAME_CHECKSUM, or FRAMES_INCOMPLETE while parts are missing."""
        if not self.is_complete:
            raise MalformedError("FRAMES_INCOMPLETE", f"expected {self._first.count} fragments, have {self.have}")
        fragments: list[int] = []
        for highest in range(self._first.count):  # each row mixes its own fragment with lower ones, known by now
            row = self._rows[highest]
            others = row >> self._bits ^ 1 << highest
            data = row & (1 << self._bits) - 1
            while others:
                lowest = (others & -others).bit_length() - 1
                data ^= fragments[lowest]
                others &= others - 1
            fragments.append(data)
        message = b"".join(data.to_bytes(self._bits // 8, "big") for data in fragments)[: self._first.message_bytes]
        if crc32(message) != self._first.checksum:
            raise MalformedError("FRAME_CHECKSUM", "expected the checksum of the message, found another")
        return message


class _Xoshiro:
    """xoshiro256** seeded by SHA-256: every implementation of UR draws the same numbers. No source of secrets."""

    def __init__(self, seed: bytes) -> None:
        digest = hashlib.sha256(seed).digest()
        self._state = [int.from_bytes(digest[at : at + 8], "big") for at in range(0, 32, 8)]

    def _next(self) -> int:
        s = self._state
        drawn = _rotated(s[1] * 5 & _MASK, 7) * 9 & _MASK
        shifted = s[1] << 17 & _MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = _rotated(s[3], 45)
        return drawn

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return self._next() / _WORD

    def below(self, bound: int) -> int:
        """Return a number in [0, bound)."""
        return int(self.fraction() * bound)


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> 64 - by) & _MASK


def _degree(count: int, random: _Xoshiro) -> int:
    """Return how many fragments are mixed: d with a probability in proportion to 1/d."""
    kept, alias = _alias_table(count)
    at = random.below(count)
    return 1 + (at if random.fraction() < kept[at] else alias[at])


@lru_cache(maxsize=16)
def _alias_table(count: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return Vose's alias table of the degrees 1..count. The order of each addition is that of the reference."""
    weights = [1 / degree for degree in range(1, count + 1)]
    total = 0.0
    for weight in weights:
        total += weight  # not sum(): from Python 3.12 on it rounds differently
    scaled = [weight * count / total for weight in weights]
    kept, alias = [1.0] * count, [0] * count
    small = [at for at in reversed(range(count)) if scaled[at] < 1]
    large = [at for at in reversed(range(count)) if scaled[at] >= 1]
    while small and large:
        less, more = small.pop(), large.pop()
        kept[less], alias[less] = scaled[less], more
        scaled[more] = scaled[more] + scaled[less] - 1
        (small if scaled[more] < 1 else large).append(more)
    return tuple(kept), tuple(alias)

"""What looks right to a person and is not: an address with the ends of a known one, seed words that are no secret."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from custody.address import address_of
from custody.errors import IntegrityError, Refused
from custody.mnemonic import to_seed, to_words
from custody.units import Sats
from custody.wallet import Network
from custody.withdrawal import Payment
from signer_node.review import address_groups
from signer_node.seed import new_seed
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, address, rule, script
from tests.integration.harness import genesis_of, open_node
from tests.world import EXCHANGE, World

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
KNOWN = address(EXCHANGE)
ONLY_KNOWN = rule(
    "pay",
    "allow",
    {"wallet": {"names": ["treasury"]}, "destination": {"addresses": [KNOWN]}, "amount": {"max_sats": 1_000_000}},
)


def look_alike(known: bytes) -> bytes:
    """Return another p2wsh script whose address has the first 25 and the last 25 characters of that of `known`.

    The checksum of bech32 is linear: among 64 bits in the middle, some can be flipped together without changing it.
    """

    def checksum(program: int) -> int:
        text = address_of(known[:2] + program.to_bytes(32, "big"), Network.REGTEST)[-6:]
        return sum(CHARSET.index(char) << 5 * at for at, char in enumerate(text))

    program = int.from_bytes(known[2:], "big")
    reduced: dict[int, tuple[int, int]] = {}  # highest bit -> change of the checksum, bits that make it
    for bit in range(96, 160):
        flips = 1 << bit
        change = checksum(program ^ flips) ^ checksum(program)
        while change and change.bit_length() in reduced:
            other = reduced[change.bit_length()]
            change, flips = change ^ other[0], flips ^ other[1]
        if not change:
            return known[:2] + (program ^ flips).to_bytes(32, "big")
        reduced[change.bit_length()] = change, flips
    raise AssertionError("64 flips of 30 checksum bits depend on each other")


@pytest.mark.parametrize(("is_known", "answer"), [(True, "SIGNED"), (False, "NO_RULE_ALLOWS")])
async def test_atk_042_address_with_the_ends_of_a_known_one_is_not_the_known_one(
    is_known: bool, answer: str, tmp_path: Path
) -> None:
    """The list of payees is looked up by whole scripts, and what an operator reads shows every character."""
    genesis = genesis_of(ONLY_KNOWN)
    world = World(genesis)
    poisoned = address_of(look_alike(script(EXCHANGE)), Network.REGTEST)
    assert (poisoned[:25], poisoned[-25:]) == (KNOWN[:25], KNOWN[-25:])
    assert address_groups(poisoned).replace(" ", "") == poisoned != KNOWN
    asked = world.withdrawal(payments=(Payment(KNOWN if is_known else poisoned, Sats(50_000)),))

    outcome = (
        await open_node(genesis, "alpha", tmp_path, FakeClock(NOW)).answer(world.spend(asked).bundle().to_bytes())
    ).outcome

    assert (outcome.code if isinstance(outcome, Refused) else "SIGNED") == answer


@pytest.mark.parametrize("source", [bytes(32), b"\xff" * 32, b"short", b"\x01" * 32 + b"\x02", b""])
def test_atk_084_source_of_entropy_that_is_stuck_or_short_makes_no_seed(source: bytes) -> None:
    """A dead generator gives one byte over and over; what it gave is never used."""
    with pytest.raises(IntegrityError, match="ENTROPY"):
        new_seed(lambda _: source)


@pytest.mark.parametrize("passphrase", ["caf\u00e9", "\u00c5ngstr\u00f6m", "\ud55c\uad6d"])
def test_atk_084_passphrase_is_one_wallet_however_it_was_typed(passphrase: str) -> None:
    """BIP-39 asks for NFKD; a library that leaves it out opens an empty wallet on another machine."""
    words = to_words(bytes(range(16)))
    decomposed = unicodedata.normalize("NFD", passphrase)

    assert decomposed != passphrase
    assert to_seed(words, passphrase) == to_seed(words, decomposed)

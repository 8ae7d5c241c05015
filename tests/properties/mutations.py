"""Valid PSBTs of many shapes, every small change of their bytes, and what must be true of each change.

A mutation passes where the field is a hint by which nothing is decided (derivations), or where it makes another
transaction that says so: txid, amounts, scripts and sighashes never differ unseen. Used by the tests, on a sample of
places, and by `python3 dev.py soak psbt`, on all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from custody.errors import MalformedError, Refused
from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import Psbt, convert, parse, serialize
from custody.scripts import Template
from custody.signatures import sighashes
from custody.transaction import TxOut
from custody.units import Sats
from custody.updater import build
from custody.wallet import ScriptBook
from tests.fakes.psbts import COIN_SATS, FEE_SATS, PAID_SATS, STRANGER, RawPsbt, coin, valid, wallet_of

VERSIONS = (0, 2)
QUORUMS = ((2, 3), (1, 1), (2, 2), (3, 5), (1, 2))
TEMPLATES = tuple(Template)
SAME, OTHER = "same", "other transaction"
Meaning = tuple[Facts, tuple[TxOut, ...], tuple[bytes, ...]]
Places = slice


@dataclass(frozen=True, slots=True)
class Case:
    """One valid PSBT. raw: its bytes.  original: what they say."""

    book: ScriptBook
    raw: bytes
    original: Meaning

    def meaning(self, raw: bytes) -> Meaning | str:
        """Return what `raw` does: facts, outputs, sighashes; or the code of its refusal. Anything else escapes."""
        try:
            psbt = parse(raw)
        except MalformedError as error:
            return error.code if 0 <= error.offset <= len(raw) else f"NO OFFSET {error}"
        assert serialize(psbt) == raw
        facts = read_facts(psbt, self.book, ShapeLimits())
        if isinstance(facts, Refused):
            return facts.code
        return facts, psbt.transaction.outputs, sighashes(psbt, facts, self.book)

    def outcome(self, raw: bytes) -> str:
        """Return SAME, OTHER or the code with which `raw` is refused; fail where it says something else unseen."""
        found = self.meaning(raw)
        if isinstance(found, str):
            assert " " not in found, found
            return found
        (facts, _, digests), (original, _, original_digests) = found, self.original
        if facts.txid == original.txid:
            assert found == self.original
            return SAME
        assert facts.inputs == original.inputs
        seen, expected = ((f.payments, f.fee_sats, f.locktime) for f in (facts, original))
        assert seen != expected
        assert not set(digests) & set(original_digests)
        return OTHER


@cache
def case_of(seed: int, version: int) -> Case:
    """Return the case of a seed: quorum, template, coins, payments and change all follow from its number."""
    if seed == 0:
        psbt, book = valid(), ScriptBook(wallet_of())
    else:
        threshold, count = QUORUMS[seed % len(QUORUMS)]
        book = ScriptBook(wallet_of(threshold, count, f"seed {seed}", TEMPLATES[seed % len(TEMPLATES)]))
        psbt = _spend(book, coins=1 + seed % 3, payments=1 + seed // 3 % 3, has_change=seed % 4 != 1)
    raw = serialize(convert(psbt, version))
    facts = read_facts(parse(raw), book, ShapeLimits())
    assert isinstance(facts, Facts), facts
    return Case(book, raw, (facts, psbt.transaction.outputs, sighashes(psbt, facts, book)))


def bit_flips(raw: bytes, places: Places = slice(None)) -> Iterator[bytes]:
    """Yield `raw` with each single bit flipped: 8 per byte."""
    for at in range(len(raw))[places]:
        for bit in range(8):
            yield raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def truncations(raw: bytes, places: Places = slice(None)) -> Iterator[bytes]:
    """Yield every shorter beginning of `raw`."""
    return (raw[:size] for size in range(len(raw))[places])


def insertions(raw: bytes, places: Places = slice(None)) -> Iterator[bytes]:
    """Yield `raw` with 00 or ff put in at every offset, the end included."""
    return (raw[:at] + byte + raw[at:] for at in range(len(raw) + 1)[places] for byte in (b"\x00", b"\xff"))


def swaps(raw: bytes, places: Places = slice(None)) -> Iterator[bytes]:
    """Yield `raw` with each map entry put first in each map, its own among them."""
    pairs = RawPsbt.of(parse(raw))
    maps = [pairs.globals, *pairs.inputs, *pairs.outputs]
    every = [(source, at, target) for source in maps for at in range(len(source)) for target in maps]
    for source, at, target in every[places]:
        target.insert(0, source.pop(at))
        yield pairs.to_bytes()
        source.insert(at, target.pop(0))


MUTATIONS: dict[str, Callable[[bytes, Places], Iterator[bytes]]] = {
    "bit flips": bit_flips,
    "truncations": truncations,
    "insertions": insertions,
    "swaps": swaps,
}


def outcomes(case: Case, kind: str, places: Places = slice(None)) -> Counter[str]:
    """Return how many mutants of one kind had each outcome; fail at the first that says something else unseen."""
    return Counter(case.outcome(mutant) for mutant in MUTATIONS[kind](case.raw, places))


def _spend(book: ScriptBook, coins: int, payments: int, *, has_change: bool) -> Psbt:
    """Return our PSBT over `coins` to one or more strangers; what is left over is change, or goes to the last."""
    spent = [coin(at, at % 2, 3 + 2 * at, COIN_SATS + at, book) for at in range(coins)]
    strangers = [TxOut(Sats(PAID_SATS + at), STRANGER[:-1] + bytes([at])) for at in range(payments)]
    left = sum(COIN_SATS + at for at in range(coins)) - sum(out.amount for out in strangers) - FEE_SATS
    if not has_change:
        last = strangers.pop()
        return build(book, spent, [*strangers, TxOut(Sats(last.amount + left), last.script)])
    return build(book, spent, [TxOut(Sats(left), book.script(1, 2).script), *strangers], [(0, 2)])

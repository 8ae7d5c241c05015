"""The PSBTs that all contestants get: m-of-n P2WSH, each input with its whole previous transaction and all origins."""

from __future__ import annotations

from dataclasses import dataclass

from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import Psbt, parse, serialize
from custody.signatures import InputSignature, sighashes, with_signatures
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import Network, ScriptBook, Wallet, make_wallet, parse_key
from signer_node.backends.signing import sign_and_drop
from signer_node.seed import key_material

COIN_SATS, PAID_SATS, FEE_SATS = 5_000_000, 2_000, 400_000
WITNESS = (bytes(range(1, 73)), b"\x02" + bytes(32))  # of the size a P2WPKH spend has; it does not enter the txid
LIMITS = ShapeLimits()
CHANGE_AT, CHANGE_INDEX = 0, 7
WHOLE_PREVIOUS_OUTPUTS = 200


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """One size. one_previous: all inputs spend outputs of the same transaction, which each of them carries."""

    threshold: int
    keys: int
    inputs: int
    outputs: int
    one_previous: bool = False

    def __str__(self) -> str:
        return f"{self.threshold}-of-{self.keys} {self.inputs}x{self.outputs}{' same' if self.one_previous else ''}"


@dataclass(frozen=True, slots=True)
class Cleared:
    """What the judge would hand to the backend; signing here needs no bundle."""

    digests: tuple[bytes, ...]
    paths: tuple[tuple[int, int], ...]
    pubkeys: tuple[bytes, ...]
    withdrawal_digest: bytes = bytes(32)
    raw_bundle: bytes = b""


@dataclass(frozen=True, slots=True)
class Case:
    """One PSBT. seeds: of every cosigner.  raw: unsigned.  signed: the same by the first m cosigners, each alone."""

    shape: Shape
    book: ScriptBook
    seeds: tuple[bytes, ...]
    psbt: Psbt
    facts: Facts
    raw: bytes
    signed: tuple[bytes, ...]

    @property
    def wallet(self) -> Wallet:
        """The wallet that is spent from."""
        return self.book.wallet


def make_book(threshold: int, keys: int) -> tuple[ScriptBook, tuple[bytes, ...]]:
    """Return a regtest wallet's book, cold, and the seeds of its cosigners."""
    seeds = tuple(f"cosigner {at} of {keys}".encode().ljust(32, b".") for at in range(keys))
    origins = tuple(parse_key(key_material(bytearray(seed), Network.REGTEST).key, Network.REGTEST) for seed in seeds)
    return ScriptBook(make_wallet(threshold, origins, Network.REGTEST)), seeds


def make_case(shape: Shape) -> Case:
    """Return the case of a shape; the same bytes on every call."""
    book, seeds = make_book(shape.threshold, shape.keys)
    coins = _one_previous(book, shape.inputs) if shape.one_previous else _own_previous(book, shape.inputs)
    psbt = parse(serialize(build(book, coins, _outputs(book, shape), [(CHANGE_AT, CHANGE_INDEX)])))
    facts = read_facts(psbt, book, LIMITS)
    if not isinstance(facts, Facts):
        raise TypeError(f"{shape}: {facts}")
    signed = tuple(
        serialize(with_signatures(psbt, sign(psbt, facts, book, at, seeds[at]))) for at in range(shape.threshold)
    )
    return Case(shape, book, seeds, psbt, facts, serialize(psbt), signed)


def sign(psbt: Psbt, facts: Facts, book: ScriptBook, cosigner: int, seed: bytes) -> tuple[InputSignature, ...]:
    """Return the signatures of one cosigner, made as a node makes them."""
    return sign_and_drop(lambda: bytearray(seed), Network.REGTEST, clear(psbt, facts, book, cosigner))


def clear(psbt: Psbt, facts: Facts, book: ScriptBook, cosigner: int) -> Cleared:
    """Return what one cosigner may sign, as the judge makes it out of proven facts."""
    return Cleared(
        digests=sighashes(psbt, facts, book),
        paths=tuple((fact.branch, fact.index) for fact in facts.inputs),
        pubkeys=tuple(script.pubkeys[cosigner] for script in book.of(facts.inputs)),
    )


def _own_previous(book: ScriptBook, count: int) -> list[SpendableCoin]:
    coins = []
    for at in range(count):
        mine = TxOut(Sats(COIN_SATS), book.script(at % 2, at // 2).script)
        other = TxOut(Sats(1_000), b"\x00\x14" + at.to_bytes(20, "big"))
        spent = TxIn(OutPoint(at.to_bytes(32, "big"), 1), witness=WITNESS)
        previous = Transaction(2, (spent,), (other, mine))
        coins.append(SpendableCoin(OutPoint(previous.txid, 1), previous, at % 2, at // 2))
    return coins


def _one_previous(book: ScriptBook, count: int) -> list[SpendableCoin]:
    outputs = tuple(TxOut(Sats(COIN_SATS), book.script(at % 2, at // 2).script) for at in range(count))
    previous = Transaction(2, (TxIn(OutPoint(bytes(31) + b"\1", 1), witness=WITNESS),), outputs)
    txid = previous.txid
    return [SpendableCoin(OutPoint(txid, at), previous, at % 2, at // 2) for at in range(count)]


def _outputs(book: ScriptBook, shape: Shape) -> list[TxOut]:
    paid = [
        TxOut(Sats(PAID_SATS), b"\x00\x14" + bytes([9]) + at.to_bytes(19, "big")) for at in range(shape.outputs - 1)
    ]
    left = shape.inputs * COIN_SATS - PAID_SATS * len(paid) - FEE_SATS
    return [TxOut(Sats(left), book.script(1, CHANGE_INDEX).script), *paid]

"""One valid 2-of-3 spend as a PSBT, and the means to change one thing of its bytes.

Nothing is mocked: keys come from seeds, coins are outputs of real transactions, signatures are real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pbk
from pbk.script import PrecomputedTransactionData

from custody import curve
from custody.errors import MalformedError, Refused
from custody.facts import Facts, ShapeLimits, read_facts
from custody.psbt import MAGIC, Psbt, parse, serialize
from custody.reader import sized
from custody.scripts import Template
from custody.signatures import InputSignature, sighashes
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import Network, ScriptBook, Wallet, make_wallet, parse_key
from signer_node.seed import account_key, key_material

COIN_SATS, PAID_SATS, FEE_SATS = 5_000_000, 700_000, 3_000
STRANGER = b"\x00\x14" + bytes([9]) * 20
Pair = tuple[bytes, bytes]
Change = Callable[["RawPsbt"], object]


def seed_of(cosigner: int, tag: str = "cosigner") -> bytearray:
    """Return the seed of cosigner 0, 1, 2...: 32 bytes; the same on every call."""
    return bytearray(f"{tag} {cosigner}".encode().ljust(32, b"."))


def wallet_of(threshold: int = 2, count: int = 3, tag: str = "cosigner", template: Template = Template.WSH) -> Wallet:
    """Return an m-of-n regtest wallet; another one for each `tag`."""
    keys = tuple(key_material(seed_of(at, tag), Network.REGTEST).key for at in range(count))
    return make_wallet(threshold, tuple(parse_key(key, Network.REGTEST) for key in keys), Network.REGTEST, template)


WALLET = wallet_of()
BOOK = ScriptBook(WALLET)
OTHER_BOOK = ScriptBook(wallet_of(tag="another"))


def coin(
    number: int, branch: int = 0, index: int = 0, amount: int = COIN_SATS, book: ScriptBook = BOOK
) -> SpendableCoin:
    """Return a coin of the wallet at output 1 of its own previous transaction; another one for each `number`."""
    outputs = (TxOut(Sats(1_000), STRANGER), TxOut(Sats(amount), book.script(branch, index).script))
    previous = Transaction(2, (TxIn(OutPoint(bytes([7]) * 28 + number.to_bytes(4, "little"), 0), b"\x51"),), outputs)
    return SpendableCoin(OutPoint(previous.txid, 1), previous, branch, index)


def spend(inputs: int = 2, change_index: int = 3, book: ScriptBook = BOOK) -> Psbt:
    """Return a PSBT of `inputs` coins that pays a stranger, with change."""
    coins = [coin(at, at % 2, 5 + at, book=book) for at in range(inputs)]
    left = inputs * COIN_SATS - PAID_SATS - FEE_SATS
    outputs = [TxOut(Sats(PAID_SATS), STRANGER), TxOut(Sats(left), book.script(1, change_index).script)]
    return build(book, coins, outputs, [(1, change_index)])


@cache
def valid() -> Psbt:
    """Return the spend of two coins that most tests change."""
    return spend()


@dataclass
class RawPsbt:
    """A PSBT as lists of pairs, to be changed at will: nothing here is checked."""

    globals: list[Pair]
    inputs: list[list[Pair]]
    outputs: list[list[Pair]]

    @staticmethod
    def of(psbt: Psbt) -> RawPsbt:
        """Return the pairs of `psbt`."""
        maps = [[(f.key, f.value) for f in found.fields] for found in (psbt.globals, *psbt.inputs, *psbt.outputs)]
        return RawPsbt(maps[0], maps[1 : 1 + len(psbt.inputs)], maps[1 + len(psbt.inputs) :])

    def to_bytes(self) -> bytes:
        """Return the PSBT's bytes, whatever they say."""
        maps = (self.globals, *self.inputs, *self.outputs)
        return MAGIC + b"".join(b"".join(sized(k) + sized(v) for k, v in pairs) + b"\0" for pairs in maps)


def changed(change: Change, psbt: Psbt | None = None) -> bytes:
    """Return the bytes of the valid PSBT after `change`, which may add to, remove from or replace its pairs."""
    raw = RawPsbt.of(psbt or valid())
    change(raw)
    return raw.to_bytes()


def put(pairs: list[Pair], key: bytes, value: bytes) -> None:
    """Set `key` to `value` where it stands, or add it at the end."""
    place = next((at for at, pair in enumerate(pairs) if pair[0] == key), len(pairs))
    pairs[place : place + 1] = [(key, value)]


def drop(pairs: list[Pair], kind: int) -> None:
    """Remove every pair of a type."""
    pairs[:] = [pair for pair in pairs if pair[0][0] != kind]


def with_transaction(psbt: Psbt, transaction: Transaction) -> Psbt:
    """Return `psbt` over another unsigned transaction with as many inputs and outputs."""
    raw = RawPsbt.of(psbt)
    put(raw.globals, b"\0", transaction.serialize_stripped())
    return parse(raw.to_bytes())


def with_output(psbt: Psbt, at: int, output: TxOut) -> Psbt:
    """Return `psbt` with another output at one place."""
    outputs = list(psbt.transaction.outputs)
    outputs[at] = output
    return with_transaction(psbt, replace(psbt.transaction, outputs=tuple(outputs)))


def code(raw: bytes, limits: ShapeLimits | None = None) -> str:
    """Return the code with which `raw` is refused by the codec or by read_facts, or OK."""
    try:
        found = read_facts(parse(raw), BOOK, limits or ShapeLimits())
    except MalformedError as error:
        return error.code
    return found.code if isinstance(found, Refused) else "OK"


def facts_of(psbt: Psbt, book: ScriptBook = BOOK, limits: ShapeLimits | None = None) -> Facts:
    """Return the facts of a PSBT that must have them."""
    found = read_facts(psbt, book, limits or ShapeLimits())
    assert isinstance(found, Facts), found
    return found


def secrets_of(cosigner: int, psbt: Psbt, tag: str = "cosigner", book: ScriptBook = BOOK) -> tuple[bytes, ...]:
    """Return the private key of `cosigner` for each input: test keys, made from words in this file."""
    account = account_key(seed_of(cosigner, tag), Network.REGTEST)
    return tuple(bytes(account.derive([fact.branch, fact.index]).secret) for fact in facts_of(psbt, book).inputs)


def signed_by(cosigner: int, psbt: Psbt, tag: str = "cosigner", book: ScriptBook = BOOK) -> tuple[InputSignature, ...]:
    """Return the signatures of `cosigner` on every input."""
    digests = sighashes(psbt, facts_of(psbt, book), book)
    pairs = enumerate(zip(secrets_of(cosigner, psbt, tag, book), digests, strict=True))
    if book.wallet.template.is_taproot:
        return tuple(
            InputSignature(at, curve.public_key(secret)[1:], curve.schnorr_sign(secret, digest))
            for at, (secret, digest) in pairs
        )
    return tuple(
        InputSignature(at, curve.public_key(secret), curve.ecdsa_sign(secret, digest) + b"\x01")
        for at, (secret, digest) in pairs
    )


def kernel_accepts(transaction: Transaction, spent: Sequence[TxOut]) -> bool:
    """Return whether Bitcoin Core's own script code takes every input, with all flags."""
    kernel_tx = pbk.Transaction(transaction.serialize())
    scripts = [pbk.ScriptPubkey(output.script) for output in spent]
    outputs = [pbk.TransactionOutput(script, o.amount) for script, o in zip(scripts, spent, strict=True)]
    shared = PrecomputedTransactionData(kernel_tx, outputs)
    return all(
        script.verify(output.amount, kernel_tx, shared, at, pbk.ScriptVerificationFlags.ALL)
        for at, (script, output) in enumerate(zip(scripts, spent, strict=True))
    )


def spent_outputs(psbt: Psbt) -> tuple[TxOut, ...]:
    """Return the output behind each input."""
    found = [said.spends(txin.outpoint) for said, txin in zip(psbt.inputs, psbt.transaction.inputs, strict=True)]
    return tuple(output for output in found if output is not None)


def again(psbt: Psbt) -> Psbt:
    """Return what a reader of the bytes of `psbt` sees."""
    return parse(serialize(psbt))

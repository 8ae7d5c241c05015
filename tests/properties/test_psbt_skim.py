"""The fast reader against the strict one: on mutations of a PSBT both see the same, or refuse with the same words.

`parse` without known points judges every key anew and `_no_skim` switches the fast reader off altogether; what it
then says of some bytes is the truth that the fast reader must tell too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, pairwise

import pytest

from custody import psbt as codec
from custody import signatures
from custody.errors import MalformedError
from custody.psbt import NOTHING, Psbt, convert, parse, serialize
from custody.psbt_fields import Field
from custody.psbt_skim import Known, skim_transaction
from custody.reader import Reader
from custody.scripts import Template
from custody.signatures import from_foreign_psbt, with_signatures
from custody.transaction import Transaction, TxIn, TxOut, parse_transaction
from custody.units import Sats
from tests.fakes.psbts import BOOK, coin, signed_by, valid
from tests.fakes.templates import BOOKS, spend_of
from tests.properties.mutations import bit_flips, insertions, truncations

SIGNED = with_signatures(valid(), (*signed_by(0, valid()), *signed_by(2, valid())))
KNOWN = {
    "nothing": NOTHING,
    "points": Known({pubkey for found in valid().inputs for pubkey, _ in found.derivations}),
    "book": BOOK.known,
    "sh_wsh_book": BOOKS[Template.SH_WSH].known,
}
RAWS = {
    "v0": serialize(valid()),
    "v2": serialize(convert(valid(), 2)),
    "signed": serialize(SIGNED),
    "sh_wsh": serialize(spend_of(Template.SH_WSH)),
    "sh_wsh_v2": serialize(convert(spend_of(Template.SH_WSH), 2)),
    "taproot": serialize(spend_of(Template.TR)),
}
Seen = tuple[object, ...]


def mutants(raw: bytes) -> Iterator[bytes]:
    """Yield `raw` and one in seven of its single bit flips, truncations and insertions: of every kind."""
    return islice(chain((raw,), bit_flips(raw), truncations(raw), insertions(raw)), 0, None, 7)


def seen(raw: bytes, known: Known) -> Seen:
    """Return all that a reader is told of `raw`: every field with its offset, or the refusal with its words."""
    try:
        psbt = parse(raw, known)
    except MalformedError as error:
        return error.code, error.message, error.offset
    assert serialize(psbt) == raw
    return (
        psbt,
        [(list(found.values.items()), found.kinds) for found in (psbt.globals, *psbt.inputs, *psbt.outputs)],
        [found.spent(txin.outpoint) for found, txin in zip(psbt.inputs, psbt.transaction.inputs, strict=True)],
    )


def _no_skim(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skim_map", "skim_own", "spent_output"):
        monkeypatch.setattr(codec, name, lambda *_: None)
    monkeypatch.setattr(signatures, "_beside_ours", lambda *_: None)


@pytest.mark.parametrize("raw", RAWS.values(), ids=RAWS)
@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_parse_given_mutations_sees_what_the_strict_reader_sees(
    raw: bytes, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields, offsets, spent outputs, refusals: the fast reader adds speed and nothing else."""
    fast = [seen(mutant, known) for mutant in mutants(raw)]
    _no_skim(monkeypatch)
    strict = [seen(mutant, known) for mutant in mutants(raw)]

    assert fast == strict


def test_parse_given_the_usual_form_never_needs_the_strict_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the comparison above would compare the strict reader with itself."""
    strict = codec._read_map
    read: list[str] = []

    def spy(reader: Reader, where: str, version: int = 0) -> tuple[Field, ...]:
        read.append(where)
        return strict(reader, where, version)

    monkeypatch.setattr(codec, "_read_map", spy)
    usual = {name: raw for name, raw in RAWS.items() if name != "taproot"}  # its inputs are read strictly
    for name, raw in usual.items():
        parse(raw, KNOWN["sh_wsh_book" if "sh_wsh" in name else "book"])

    assert read == ["global"] * sum("v2" in name for name in usual)  # where it says more than the transaction


@pytest.mark.parametrize("template", [Template.WSH, Template.SH_WSH, Template.TR], ids=lambda one: one.name)
def test_from_foreign_psbt_given_mutations_takes_what_the_strict_reader_takes(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes back byte for byte as ours but for signatures is not read twice, and nothing else passes that way."""
    book = BOOKS[template]
    ours: Psbt = parse(serialize(spend_of(template)), book.known)
    signers = [signed_by(at, ours, book=book) for at in (0, 2)]
    signed = serialize(with_signatures(ours, (*signers[0], *signers[1])))

    def taken(raw: bytes) -> Seen:
        try:
            return from_foreign_psbt(ours, raw)
        except MalformedError as error:
            return error.code, error.message, error.offset

    fast = [taken(mutant) for mutant in mutants(signed)]
    assert len(fast[0]) == 4
    _no_skim(monkeypatch)
    assert fast == [taken(mutant) for mutant in mutants(signed)]


def test_skim_transaction_given_mutations_says_what_the_strict_reader_says() -> None:
    """A txid and outputs, exactly where the strict reader finds the same; it may abstain, never differ."""
    spent = TxIn(coin(1).outpoint, b"\x51", witness=(bytes(72), b"", bytes(33)))
    plain = coin(1).previous
    whole = Transaction(2, (spent, *plain.inputs), (*plain.outputs, TxOut(Sats(21_000_000 * 100_000_000), b"")))
    for raw in (plain.serialize(), whole.serialize()):
        assert skim_transaction(raw, 0, len(raw)) is not None
        for mutant in mutants(raw):
            skimmed = skim_transaction(mutant, 0, len(mutant))
            if skimmed is not None:
                strict = parse_transaction(mutant)
                outputs = [mutant[at:end] for at, end in pairwise(skimmed[1])]
                assert (skimmed[0], outputs) == (strict.txid, [output.serialize() for output in strict.outputs])
                assert strict.serialize() == mutant
                rebuilt = Transaction(strict.version, strict.inputs, strict.outputs, strict.locktime)
                assert rebuilt.serialize() == mutant
                assert rebuilt.txid == strict.txid

"""The verifier on wallets of the other templates: an honest log is well, and a final transaction that lies is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from custody.audit import VerdictKind
from custody.finalise import finalize
from custody.psbt import parse
from custody.replay import replay
from custody.scripts import Template
from custody.signatures import accept
from custody.transaction import Transaction, TxIn
from tests.fakes.rules import PAY
from tests.unit.test_replay import Recorded
from tests.world import Spend, World, make_genesis

GENESES = {template: make_genesis(PAY, template=template) for template in Template}
each_template = pytest.mark.parametrize("template", Template, ids=lambda one: one.name)


def complete_of(spend: Spend) -> Transaction:
    """Return the complete transaction, signed by two nodes."""
    psbt, facts, book = parse(spend.psbt), spend.facts(), spend.world.book
    signatures = (*spend.signatures("alpha"), *spend.signatures("cold"))
    return finalize(psbt, facts, book, accept(psbt, facts, book, signatures))


def recorded(template: Template, change: Callable[[TxIn], TxIn] | None = None, **named: str) -> Recorded:
    """Return the log of one payment, as the coordinator writes it; `change` of the final input makes it lie."""
    log = Recorded(World(GENESES[template]))
    spend = log.world.spend(log.world.withdrawal((11, 50_000)))
    log.propose(spend)
    log.release(spend)
    final = complete_of(spend)
    if change is not None:
        final = replace(final, inputs=(change(final.inputs[0]),))
    said = {"txid": final.txid_hex}
    if final.txid != spend.facts().txid:
        said["unsigned_txid"] = spend.facts().txid[::-1].hex()
    log.event("transaction.finalised", spend.asked, final.serialize(), **{**said, **named})
    log.world.now += 10
    return log


def violation(log: Recorded) -> str:
    """Return the code of the violation."""
    verdict = replay(log.export())
    assert verdict is not None
    assert verdict.kind is VerdictKind.POLICY_VIOLATION
    return verdict.detail.partition(":")[0]


def first_signature(txin: TxIn) -> int:
    """Return the place of the first signature in a witness."""
    return next(at for at, item in enumerate(txin.witness) if item)


def with_item(txin: TxIn, at: int, item: bytes) -> TxIn:
    """Return the input with another item in its witness."""
    return replace(txin, witness=(*txin.witness[:at], item, *txin.witness[at + 1 :]))


def bent(txin: TxIn) -> TxIn:
    """Flip a bit of the first signature."""
    at = first_signature(txin)
    item = txin.witness[at]
    return with_item(txin, at, item[:20] + bytes([item[20] ^ 1]) + item[21:])


def one_key_twice(txin: TxIn) -> TxIn:
    """Put the first signature in both places."""
    at = first_signature(txin)
    other = next(place for place in range(at + 1, len(txin.witness)) if len(txin.witness[place]) >= 64)
    return with_item(txin, other, txin.witness[at])


@each_template
def test_replay_given_an_honest_payment_finds_nothing(template: Template) -> None:
    """Releases name the transaction without scriptSigs; the event names it with them, and both where they differ."""
    assert replay(recorded(template).export()) is None


@each_template
@pytest.mark.parametrize("change", [bent, one_key_twice], ids=["bent", "one_key_twice"])
def test_replay_given_signatures_that_are_not_of_two_keys_names_it(
    template: Template, change: Callable[[TxIn], TxIn]
) -> None:
    """Each of m signatures is verified, by a key of its own."""
    assert violation(recorded(template, change)) == "SIGNATURES"


@each_template
def test_replay_given_another_form_of_witness_names_it(template: Template) -> None:
    """One item more; another script at the end; an item that is no signature in front."""
    for change in (
        lambda txin: replace(txin, witness=(*txin.witness, b"\x50")),
        lambda txin: with_item(txin, len(txin.witness) - 1, b"\x51"),
        lambda txin: replace(txin, witness=(b"\x01", *txin.witness)),
    ):
        assert violation(recorded(template, change)) == "WITNESS_FORM"


def test_replay_given_p2sh_under_a_name_that_is_not_its_own_names_it() -> None:
    """The event's txid is of the bytes it names, and the one it was released under is of a release."""
    template = Template.SH_WSH
    other = "11" * 32

    assert violation(recorded(template, txid=other)) == "TRANSACTION_OTHER"
    assert violation(recorded(template, unsigned_txid=other)) == "RELEASE_MISSING"
    assert violation(recorded(template, lambda txin: replace(txin, script_sig=b"\x51"))) == "WITNESS_FORM"
    assert violation(recorded(Template.TR, unsigned_txid=other)) == "RELEASE_MISSING"

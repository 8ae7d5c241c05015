"""Attacks on wallets of the other templates: sh(wsh) and taproot. Those on wsh have files of their own, by subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from custody.address import address_of
from custody.errors import MalformedError, Refused
from custody.facts import ShapeLimits, check_matches, read_facts
from custody.finalise import finalize, signatures_in
from custody.psbt import Psbt, parse, serialize
from custody.scripts import NUMS, Template, leaf_hash_of, make_scripts, multi_a_script, output_key
from custody.signatures import accept
from custody.transaction import TxOut
from custody.units import Sats
from custody.updater import build
from custody.wallet import Network, descriptor_checksum, parse_wallet
from tests.fakes.psbts import (
    COIN_SATS,
    FEE_SATS,
    PAID_SATS,
    STRANGER,
    RawPsbt,
    again,
    coin,
    drop,
    facts_of,
    put,
    signed_by,
    spent_outputs,
    with_output,
)
from tests.fakes.templates import BOOKS, CHANGE_AT, TAPROOT, XONLY, each_other, each_taproot, spend_of
from tests.world import World, make_genesis

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELD = 2**256 - 2**32 - 977


def code(template: Template, change: Callable[[RawPsbt], object]) -> str:
    """Return the code with which the spend is refused after `change`, or OK."""
    raw = RawPsbt.of(spend_of(template))
    change(raw)
    return code_of(raw.to_bytes(), template)


def code_of(raw: bytes, template: Template) -> str:
    """Return the code with which the bytes are refused, or OK."""
    try:
        found = read_facts(parse(raw), BOOKS[template], ShapeLimits())
    except MalformedError as error:
        return error.code
    return found.code if isinstance(found, Refused) else "OK"


def verdict(psbt: Psbt, template: Template) -> str:
    """Return the code with which a transaction is refused for a withdrawal that pays the stranger, or OK."""
    book = BOOKS[template]
    facts = read_facts(again(psbt), book, ShapeLimits())
    if isinstance(facts, Refused):
        return facts.code
    asked = replace(
        World(make_genesis()).withdrawal((1, PAID_SATS)), wallet_id=book.wallet.wallet_id, max_fee_sats=Sats(FEE_SATS)
    )
    paid = replace(asked.payments[0], address=address_of(STRANGER, Network.REGTEST))
    refused = check_matches(replace(asked, payments=(paid,)), facts, book.wallet)
    return "OK" if refused is None else refused.code


@each_other
@pytest.mark.parametrize("by", [-1, 1, 1_000])
def test_atk_027_amount_that_the_previous_transaction_does_not_say_is_refused(template: Template, by: int) -> None:
    """Also in taproot, whose signatures cover amounts: a false one would burn the fee of an earlier draft."""
    output = TxOut(Sats(COIN_SATS + by), spent_outputs(spend_of(template))[0].script)

    assert code(template, lambda raw: put(raw.inputs[0], b"\x01", output.serialize())) == "AMOUNT_LIE"


@each_other
def test_atk_030_input_without_its_previous_transaction_is_refused(template: Template) -> None:
    """BIP-371 lets taproot leave it out; our rule does not."""
    assert code(template, lambda raw: drop(raw.inputs[0], 0x00)) == "PREVIOUS_MISSING"


@pytest.mark.parametrize(("template", "least"), [(Template.SH_WSH, 540), (Template.TR, 330)], ids=["p2sh", "p2tr"])
def test_atk_044_change_that_is_dust_is_refused_even_under_rules_that_allow_it(template: Template, least: int) -> None:
    """Rules may lower the floor to P2WSH's dust of 330 sats; P2SH's is 540, and such a transaction would not relay."""
    limits = ShapeLimits(change_floor_sats=330)
    for amount, expected in ((least, "OK"), (least - 1, "CHANGE_BELOW_FLOOR")):
        script = spend_of(template).transaction.outputs[1].script
        psbt = again(with_output(spend_of(template), 1, TxOut(Sats(amount), script)))
        found = read_facts(psbt, BOOKS[template], limits)
        assert (found.code if isinstance(found, Refused) else "OK") == expected


@each_other
def test_atk_034_change_of_another_threshold_is_no_change(template: Template) -> None:
    """The same keys, one signature enough: nobody asked for that output."""
    ours = BOOKS[template].script(1, CHANGE_AT)
    keys = tuple(ours.pubkeys[at] for at in ours.order)
    weaker = make_scripts(template, 1, keys).script
    output = TxOut(spend_of(template).transaction.outputs[1].amount, weaker)

    assert verdict(spend_of(template), template) == "OK"
    assert verdict(with_output(spend_of(template), 1, output), template) == "OUTPUT_NOT_ASKED"


@pytest.mark.parametrize("template", Template, ids=lambda one: one.name)
def test_atk_037_change_in_another_script_type_is_no_change(template: Template) -> None:
    """The same keys at the same place in each other template: hints point at it, and it is still a stranger's."""
    amount = spend_of(template).transaction.outputs[1].amount
    scripts = {BOOKS[other].script(1, CHANGE_AT).script for other in Template} - {
        BOOKS[template].script(1, CHANGE_AT).script
    }

    assert len(scripts) == len(Template) - 1
    for script in scripts:
        assert verdict(with_output(spend_of(template), 1, TxOut(amount, script)), template) == "OUTPUT_NOT_ASKED"


@each_other
@pytest.mark.parametrize("kind", [0x02, 0x03, 0x80, 0x81, 0x83, 0x100, 0xFFFFFFFF])
def test_atk_047_sighash_type_other_than_the_one_is_refused(template: Template, kind: int) -> None:
    """ALL for segwit version 0, DEFAULT for taproot, and neither for the other."""
    wrong = 1 if template in TAPROOT else 0
    for said in (kind.to_bytes(4, "little"), wrong.to_bytes(4, "little")):
        raw = RawPsbt.of(spend_of(template))
        put(raw.inputs[1], b"\x03", said)
        assert code_of(raw.to_bytes(), template) == "SIGHASH_TYPE"


@each_taproot
def test_atk_047_sighash_type_default_may_be_said_in_taproot(template: Template) -> None:
    """Absent and 0 mean the same."""
    assert code(template, lambda raw: put(raw.inputs[1], b"\x03", bytes(4))) == "OK"


@pytest.mark.parametrize("template", Template, ids=lambda one: one.name)
def test_atk_050_coin_of_another_template_of_the_same_keys_is_foreign(template: Template) -> None:
    """Each template is another wallet, although the same people could sign."""
    for other in set(Template) - {template}:
        assert code_of(serialize(spend_of(other)), template) in {"FOREIGN_INPUT", "UNKNOWN_FIELD"}
        raw = RawPsbt.of(spend_of(other))
        raw.inputs = [pairs[:1] for pairs in raw.inputs]
        raw.outputs = [[] for _ in raw.outputs]
        assert code_of(raw.to_bytes(), template) == "FOREIGN_INPUT"


SH_WSH_LIES = {
    "another redeem script": (lambda raw: put(raw.inputs[0], b"\x04", b"\x00\x20" + bytes(32)), "REDEEM_SCRIPT"),
    "an empty one": (lambda raw: put(raw.inputs[0], b"\x04", b""), "REDEEM_SCRIPT"),
    "the witness script as it": (
        lambda raw: put(raw.inputs[0], b"\x04", BOOKS[Template.SH_WSH].script(0, 5).witness_script),
        "REDEEM_SCRIPT",
    ),
    "of another input": (
        lambda raw: put(raw.inputs[0], b"\x04", BOOKS[Template.SH_WSH].script(1, 6).redeem_script),
        "REDEEM_SCRIPT",
    ),
    "another witness script": (lambda raw: put(raw.inputs[0], b"\x05", b"\x51"), "WITNESS_SCRIPT"),
    "on the change": (lambda raw: put(raw.outputs[1], b"\x00", b"\x00\x20" + bytes(32)), "REDEEM_SCRIPT"),
    "another witness script on the change": (lambda raw: put(raw.outputs[1], b"\x01", b"\x51"), "WITNESS_SCRIPT"),
    "a taproot field": (lambda raw: put(raw.inputs[0], b"\x17", NUMS), "UNKNOWN_FIELD"),
    "a taproot field on the change": (lambda raw: put(raw.outputs[1], b"\x05", NUMS), "UNKNOWN_FIELD"),
    "a final scriptSig": (lambda raw: put(raw.inputs[0], b"\x07", b"\x51"), "PSBT_HAS_SIGNATURES"),
}


@pytest.mark.parametrize("name", SH_WSH_LIES)
def test_atk_052_script_that_does_not_hash_to_the_script_is_refused(name: str) -> None:
    """P2SH-P2WSH: both scripts are derived; what a PSBT says of them must agree."""
    change, expected = SH_WSH_LIES[name]

    assert code(Template.SH_WSH, change) == expected


def leaf_field(template: Template, control: bytes, script: bytes, version: int) -> Callable[[RawPsbt], object]:
    """Return the change that shows another leaf on the first input."""

    def change(raw: RawPsbt) -> None:
        drop(raw.inputs[0], 0x15)
        put(raw.inputs[0], b"\x15" + control, script + bytes([version]))

    return change


@each_taproot
def test_atk_053_look_alike_leaf_is_refused(template: Template) -> None:
    """One byte of a key, the threshold, the order, an opcode: only the derived leaf may stand there."""
    ours = BOOKS[template].script(0, 5)
    keys = tuple(ours.pubkeys[at] for at in ours.order)
    lies = (
        multi_a_script(1, keys),
        multi_a_script(2, keys[::-1]),
        multi_a_script(2, (*keys[:2], XONLY)),
        multi_a_script(2, keys[:2]),
        ours.witness_script[:-1] + b"\x9d",
        ours.witness_script + b"\x51",
        b"\x51",
    )
    for lie in lies:
        assert lie != ours.witness_script
        assert code(template, leaf_field(template, ours.control_block, lie, 0xC0)) == "TAP_LEAF"
        script = b"\x51\x20" + output_key(NUMS, leaf_hash_of(lie))[1:]
        amount = spend_of(template).transaction.outputs[1].amount
        if lie != multi_a_script(2, keys[::-1]):
            assert verdict(with_output(spend_of(template), 1, TxOut(amount, script)), template) == "OUTPUT_NOT_ASKED"


@each_taproot
def test_atk_054_leaf_under_another_version_or_control_block_is_refused(template: Template) -> None:
    """Leaf version, parity, internal key, a merkle path that would make room for another leaf."""
    ours = BOOKS[template].script(0, 5)
    control, script = ours.control_block, ours.witness_script
    flipped = bytes([control[0] ^ 1]) + control[1:]

    assert code(template, leaf_field(template, control, script, 0xC0)) == "OK"
    for other in (flipped, control[:1] + XONLY, control + bytes(32), bytes([0xC2]) + control[1:]):
        assert code(template, leaf_field(template, other, script, 0xC0)) == "TAP_LEAF"
    for version in (0xC1, 0xC2, 0x50, 0x00):
        assert code(template, leaf_field(template, control, script, version)) == "TAP_LEAF"
    assert code(template, leaf_field(template, control[:-1], script, 0xC0)) == "KEY_LENGTH"
    beside = b"\x15" + control + leaf_hash_of(b"\x51")
    assert code(template, lambda raw: put(raw.inputs[0], beside, b"\x51\xc0")) == "TAP_LEAF"


TAP_LIES = {
    "another internal key": (lambda raw: put(raw.inputs[0], b"\x17", XONLY), "TAP_INTERNAL_KEY"),
    "another root": (lambda raw: put(raw.inputs[0], b"\x18", bytes(32)), "TAP_ROOT"),
    "a key path signature": (lambda raw: put(raw.inputs[0], b"\x13", bytes(64)), "PSBT_HAS_SIGNATURES"),
    "a script path signature": (
        lambda raw: put(raw.inputs[0], b"\x14" + XONLY + bytes(32), bytes(64)),
        "PSBT_HAS_SIGNATURES",
    ),
    "a final witness": (lambda raw: put(raw.inputs[0], b"\x08", b"\x01\x00"), "PSBT_HAS_SIGNATURES"),
    "a witness script": (lambda raw: put(raw.inputs[0], b"\x05", b"\x51"), "UNKNOWN_FIELD"),
    "a redeem script": (lambda raw: put(raw.inputs[0], b"\x04", b"\x51"), "UNKNOWN_FIELD"),
    "a segwit signature": (
        lambda raw: put(raw.inputs[0], b"\x02\x02" + XONLY, b"\x30" + bytes(69) + b"\x01"),
        "UNKNOWN_FIELD",
    ),
    "another internal key on the change": (lambda raw: put(raw.outputs[1], b"\x05", XONLY), "TAP_INTERNAL_KEY"),
    "another tree on the change": (lambda raw: put(raw.outputs[1], b"\x06", b"\x00\xc0\x01\x51"), "TAP_TREE_OTHER"),
    "a second leaf on the change": (
        lambda raw: put(raw.outputs[1], b"\x06", b"\x01\xc0\x01\x51\x01\xc0\x01\x51"),
        "TAP_TREE_OTHER",
    ),
    "a witness script on the change": (lambda raw: put(raw.outputs[1], b"\x01", b"\x51"), "UNKNOWN_FIELD"),
}


@each_taproot
@pytest.mark.parametrize("name", TAP_LIES)
def test_atk_054_claim_about_taproot_that_is_not_derived_is_refused(template: Template, name: str) -> None:
    """Internal key, root, tree: what a PSBT says of them must be what the descriptor gives."""
    change, expected = TAP_LIES[name]

    assert code(template, change) == expected


@each_taproot
def test_atk_054_output_under_an_internal_key_that_somebody_has_is_not_ours(template: Template) -> None:
    """Same leaf, same keys, but the attacker could spend by the key path: neither coin nor change of this wallet."""
    ours = BOOKS[template].script(1, CHANGE_AT)
    stolen = b"\x51\x20" + output_key(XONLY, ours.leaf_hash)[1:]
    amount = spend_of(template).transaction.outputs[1].amount
    found = coin(0, book=BOOKS[template])
    previous = replace(found.previous, outputs=(found.previous.outputs[0], TxOut(Sats(COIN_SATS), stolen)))
    moved = replace(
        found, previous=previous, outpoint=replace(found.outpoint, txid=previous.txid), branch=1, index=CHANGE_AT
    )
    psbt = build(BOOKS[template], [moved], [TxOut(Sats(PAID_SATS), STRANGER)])

    assert verdict(with_output(spend_of(template), 1, TxOut(amount, stolen)), template) == "OUTPUT_NOT_ASKED"
    assert code_of(serialize(psbt), template) == "FOREIGN_INPUT"


@each_taproot
def test_atk_054_descriptor_with_a_spendable_internal_key_is_no_wallet(template: Template) -> None:
    """Only the point that nobody chose; one hex digit of another key would be a way around every cosigner."""
    body = BOOKS[template].wallet.descriptor.partition("#")[0]
    key = BOOKS[template].wallet.keys[0].expression
    for internal in (XONLY.hex(), NUMS.hex().replace("5", "6", 1), f"{key}/<0;1>/*", "02" + NUMS.hex(), ""):
        other = body.replace(NUMS.hex(), internal)
        with pytest.raises(MalformedError, match="DESCRIPTOR_TEMPLATE"):
            parse_wallet(f"{other}#{descriptor_checksum(other)}", Network.REGTEST)


@each_taproot
def test_atk_054_annex_or_other_control_block_in_a_final_witness_is_not_our_form(template: Template) -> None:
    """What we finalise has neither; an auditor that finds one says so."""
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    signatures = (*signed_by(0, psbt, book=book), *signed_by(1, psbt, book=book))
    txin = finalize(psbt, facts, book, accept(psbt, facts, book, signatures)).inputs[0]
    script, witness = book.script(0, 5), txin.witness
    flipped = bytes([witness[-1][0] ^ 1]) + witness[-1][1:]

    assert len(signatures_in(txin, script, 2) or ()) == 2
    for lie in (
        (*witness, b"\x50"),
        (*witness[:-1], flipped),
        (*witness[:-2], b"\x51", witness[-1]),
        witness[1:],
        (b"", *witness),
        (signed_by(2, psbt, book=book)[0].signature,) * 3 + witness[-2:],
        (witness[0],),
        (),
    ):
        assert signatures_in(replace(txin, witness=lie), script, 2) is None
    assert signatures_in(replace(txin, script_sig=b"\x51"), script, 2) is None


def test_atk_052_final_input_with_another_redeem_script_is_not_our_form() -> None:
    """P2SH-P2WSH: the scriptSig is the push of the derived redeem script and nothing else."""
    template = Template.SH_WSH
    book, psbt = BOOKS[template], spend_of(template)
    facts = facts_of(psbt, book)
    signatures = (*signed_by(0, psbt, book=book), *signed_by(1, psbt, book=book))
    txin = finalize(psbt, facts, book, accept(psbt, facts, book, signatures)).inputs[0]
    script = book.script(0, 5)

    assert txin.script_sig == b"\x22" + script.redeem_script
    assert len(signatures_in(txin, script, 2) or ()) == 2
    for lie in (b"", b"\x22" + bytes(34), b"\x00" + txin.script_sig, txin.script_sig[1:], b"\x4c" + txin.script_sig):
        assert signatures_in(replace(txin, script_sig=lie), script, 2) is None


@pytest.mark.parametrize("template", Template, ids=lambda one: one.name)
def test_atk_048_sighash_single_without_its_output_is_refused(template: Template) -> None:
    """Two inputs, one output: in legacy scripts such a signature would be over the digest 1, good for every coin."""
    psbt = build(BOOKS[template], [coin(at, book=BOOKS[template]) for at in (0, 1)], [TxOut(Sats(PAID_SATS), STRANGER)])
    raw = RawPsbt.of(psbt)
    assert code_of(raw.to_bytes(), template) == "OK"

    for kind in (0x03, 0x83):
        put(raw.inputs[1], b"\x03", kind.to_bytes(4, "little"))
        assert code_of(raw.to_bytes(), template) == "SIGHASH_TYPE"

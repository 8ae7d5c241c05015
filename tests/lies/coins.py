"""Lies about coins, scripts and outputs (protocol.md "What a signer node proves", steps 3 and 4)."""

from __future__ import annotations

from dataclasses import replace

from custody.address import address_of
from custody.bundle import Bundle
from custody.psbt import parse, serialize
from custody.psbt_fields import (
    IN_PREVIOUS,
    IN_SIGHASH,
    IN_WITNESS_SCRIPT,
    IN_WITNESS_UTXO,
    PROPRIETARY,
    Field,
    FieldMap,
)
from custody.scripts import Template, make_scripts
from custody.transaction import OutPoint, Transaction, TxIn, TxOut
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.withdrawal import Payment
from tests.fakes.rules import address, key_of
from tests.lies.told import (
    STRANGER,
    Lie,
    output_of,
    output_to,
    outputs_of,
    with_input,
    with_outputs,
    with_transaction,
    with_value,
)
from tests.world import COIN_SATS, EXCHANGE, World, signed_by_initiator

AMOUNTS = "previous transactions hash to their outpoints, amounts come from them alone"
OURS = "every input is a coin of my wallet by re-derivation (bip32 fields are hints)"
STRICT = "PSBT parses strictly"
HASHES = "SIGHASH_ALL / DEFAULT only"
MULTISET = "outputs match the payments as a multiset of (script, sats)"
REMAINS = "what remains is at most `change.max_outputs` (default 1) outputs >= `change_floor_sats` (10,000) on branch 1"
GAP = "index <= highest change index in the money log + 20"
OWN = "a payment to my own branch 1 is refused"
SHAPE = "version 2, sequences 0xfffffffd, locktime 0 unless pinned"
FEE = "fee <= max_fee_sats and inside my feerate bounds"


def amount_made_smaller(world: World) -> Bundle:
    """witness_utxo says a smaller coin: the rest would be fee (CVE-2020-14199)."""
    told = TxOut(Sats(COIN_SATS - 1_000_000), world.book.script(0, 0).script)
    return with_input(world.spend(world.withdrawal()), with_value(IN_WITNESS_UTXO, told.serialize()))


def amount_lie_asked_again(world: World) -> Bundle:
    """The same withdrawal again ("please sign once more"), this time with the lie on the other of two coins."""
    spend = world.spend(world.withdrawal(), (world.coin(0), world.coin(1)))
    psbt = parse(spend.psbt)
    told = TxOut(Sats(1_000), world.book.script(0, 0).script)
    fields = with_value(IN_WITNESS_UTXO, told.serialize())(psbt.inputs[1].fields)
    inputs = (psbt.inputs[0], type(psbt.inputs[1])(fields))
    return spend.bundle(psbt=serialize(replace(psbt, inputs=inputs)))


def script_of_coin_changed(world: World) -> Bundle:
    """witness_utxo says another script than the coin has."""
    told = TxOut(Sats(COIN_SATS), STRANGER)
    return with_input(world.spend(world.withdrawal()), with_value(IN_WITNESS_UTXO, told.serialize()))


def previous_left_out(world: World) -> Bundle:
    """No previous transaction, so that the amount is whatever witness_utxo says."""
    spend = world.spend(world.withdrawal())
    return with_input(spend, lambda fields: tuple(f for f in fields if f.type != IN_PREVIOUS))


def previous_of_another_coin(world: World) -> Bundle:
    """The previous transaction is a real one, of another coin."""
    other = world.coin(7).previous.serialize()
    return with_input(world.spend(world.withdrawal()), with_value(IN_PREVIOUS, other))


def previous_without_that_output(world: World) -> Bundle:
    """The outpoint names an output that its transaction does not have."""
    spend = world.spend(world.withdrawal())
    psbt = parse(spend.psbt)
    spent = TxIn(OutPoint(psbt.transaction.inputs[0].outpoint.txid, 1))
    return spend.bundle(psbt=with_transaction(psbt, replace(psbt.transaction, inputs=(spent,))))


def coin_of_somebody_else(world: World) -> Bundle:
    """A coin that is not ours, so that our signature is lent to another's transaction."""
    previous = Transaction(2, (TxIn(OutPoint(bytes(32), 0), b"\x51"),), (TxOut(Sats(COIN_SATS), STRANGER),))
    coin = SpendableCoin(OutPoint(previous.txid, 0), previous, 0, 0)
    spend = world.spend(world.withdrawal())
    psbt = build(world.book, [coin], outputs_of(spend), [(1, 0)])
    told = with_value(IN_WITNESS_UTXO, previous.outputs[0].serialize())(psbt.inputs[0].fields)
    return spend.bundle(psbt=serialize(replace(psbt, inputs=(type(psbt.inputs[0])(told),))))


def coin_twice(world: World) -> Bundle:
    """One coin as two inputs (CVE-2018-17144)."""
    spend = world.spend(world.withdrawal())
    coin = world.coin()
    return spend.bundle(psbt=serialize(build(world.book, [coin, coin], outputs_of(spend), [(1, 0)])))


def witness_script_of_others(world: World) -> Bundle:
    """A script of the right shape whose keys are not ours alone."""
    keys = tuple(b"\x02" + key_of(name) for name in ("a", "b", "c"))
    other = make_scripts(Template.WSH, 2, keys).witness_script
    return with_input(world.spend(world.withdrawal()), with_value(IN_WITNESS_SCRIPT, other))


def sighash_none(world: World) -> Bundle:
    """SIGHASH_NONE: whoever has the signature chooses the outputs."""
    return with_input(world.spend(world.withdrawal()), with_value(IN_SIGHASH, b"\x02\0\0\0"))


def sighash_single(world: World) -> Bundle:
    """SIGHASH_SINGLE: all outputs but one are open."""
    return with_input(world.spend(world.withdrawal()), with_value(IN_SIGHASH, b"\x03\0\0\0"))


def sighash_anyone_can_pay(world: World) -> Bundle:
    """SIGHASH_ALL with ANYONECANPAY: the signature can be moved under other inputs."""
    return with_input(world.spend(world.withdrawal()), with_value(IN_SIGHASH, b"\x81\0\0\0"))


def instruction_nobody_judges(world: World) -> Bundle:
    """A proprietary field: what no judge reads, a signer must not obey."""
    return with_input(
        world.spend(world.withdrawal()), lambda fields: (*fields, Field(bytes([PROPRIETARY]) + b"\x01x\x00", b""))
    )


def bytes_behind_the_psbt(world: World) -> Bundle:
    """Two PSBTs in a row, for two readers that take one each."""
    spend = world.spend(world.withdrawal())
    return spend.bundle(psbt=spend.psbt + spend.psbt)


def field_twice(world: World) -> Bundle:
    """One field with two values: which one a reader takes is chance."""
    spend = world.spend(world.withdrawal())
    return with_input(spend, lambda fields: (*fields, next(f for f in fields if f.type == IN_SIGHASH)))


def psbt_cut_off(world: World) -> Bundle:
    """The last byte is missing."""
    spend = world.spend(world.withdrawal())
    return spend.bundle(psbt=spend.psbt[:-1])


def version_two_field_in_version_zero(world: World) -> Bundle:
    """A transaction version that only readers of BIP-370 obey."""
    spend = world.spend(world.withdrawal())
    psbt = parse(spend.psbt)
    fields = FieldMap((*psbt.globals.fields, Field(b"\x02", b"\x01\0\0\0")))
    return spend.bundle(psbt=serialize(replace(psbt, globals=fields)))


def change_to_a_stranger(world: World) -> Bundle:
    """The change goes elsewhere, behind a true RELEASE of the honest transaction."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    return honest.bundle(psbt=with_outputs(honest, payment, output_to(change, STRANGER)))


def change_of_one_key(world: World) -> Bundle:
    """The change goes to a 1-of-3 of our own keys: any thief of one has it."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    weak = make_scripts(Template.WSH, 1, tuple(sorted(world.book.script(1, 0).pubkeys))).script
    return honest.bundle(psbt=with_outputs(honest, payment, output_to(change, weak)))


def change_with_a_key_swapped(world: World) -> Bundle:
    """The change goes to a 2-of-3 in which one key is another's."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    keys = (*world.book.script(1, 0).pubkeys[:2], world.book.script(0, 5).pubkeys[0])
    return honest.bundle(
        psbt=with_outputs(honest, payment, output_to(change, make_scripts(Template.WSH, 2, keys).script))
    )


def change_with_indices_mixed(world: World) -> Bundle:
    """The change goes to our keys at different indices: nobody would look for it there."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    keys = tuple(sorted(world.book.script(1, at).pubkeys[at] for at in range(3)))
    mixed = make_scripts(Template.WSH, 2, keys).script
    return honest.bundle(psbt=with_outputs(honest, payment, output_to(change, mixed), hints=((1, 0),)))


def change_on_branch_zero(world: World) -> Bundle:
    """The change goes to a receiving address of ours, which somebody may have been shown as his."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    return honest.bundle(psbt=with_outputs(honest, payment, output_to(change, world.book.script(0, 3).script)))


def change_where_nobody_looks(world: World) -> Bundle:
    """The change goes to index 500, and a RELEASE in the log says so: it must not vouch for itself."""
    return world.spend(world.withdrawal(), change_index=500).bundle()


def change_behind_a_false_step(world: World) -> Bundle:
    """A RELEASE with change at index 500, which nobody signs, was to move the window for the next one."""
    world.spend(world.withdrawal(), change_index=500).release()
    return world.spend(world.withdrawal((EXCHANGE, 60_000), withdrawal_id="w-2"), change_index=510).bundle()


def change_in_two(world: World) -> Bundle:
    """Two change outputs, where the rules allow one."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    half = output_of(change, -1_000_000)
    other = TxOut(Sats(1_000_000), world.book.script(1, 1).script)
    return honest.bundle(psbt=with_outputs(honest, payment, half, other, hints=((1, 0), (2, 1))))


def change_as_dust(world: World) -> Bundle:
    """A change too small to be worth spending."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    coin = world.coin(1, payment.amount + 2_000 + 9_999)
    dust = replace(change, amount=Sats(9_999))
    return honest.bundle(psbt=serialize(build(world.book, [coin], (payment, dust), [(1, 0)])))


def payment_to_a_stranger(world: World) -> Bundle:
    """Somebody else is paid than the initiator signed for."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    return honest.bundle(psbt=with_outputs(honest, output_to(payment, STRANGER), change, hints=((1, 0),)))


def payment_of_a_sat_more(world: World) -> Bundle:
    """The payee gets one sat more, out of the change."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    return honest.bundle(psbt=with_outputs(honest, output_of(payment, 1), output_of(change, -1), hints=((1, 0),)))


def payment_twice(world: World) -> Bundle:
    """The payee is paid twice in one transaction."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    twice = with_outputs(honest, payment, payment, output_of(change, -payment.amount), hints=((2, 0),))
    return honest.bundle(psbt=twice)


def payment_left_out(world: World) -> Bundle:
    """The payee is not paid at all: the amount is added to the change."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    return honest.bundle(psbt=with_outputs(honest, output_of(change, payment.amount), hints=((0, 0),)))


def payments_with_amounts_swapped(world: World) -> Bundle:
    """Two payees, each with the other's amount."""
    honest = world.spend(world.withdrawal((EXCHANGE, 50_000), (12, 70_000)))
    one, other, change = outputs_of(honest)
    swapped = (output_to(one, other.script), output_to(other, one.script), change)
    return honest.bundle(psbt=with_outputs(honest, *swapped, hints=((2, 0),)))


def output_that_carries_words(world: World) -> Bundle:
    """An OP_RETURN beside the payment."""
    honest = world.spend(world.withdrawal())
    return honest.bundle(psbt=with_outputs(honest, *outputs_of(honest), TxOut(Sats(0), b"\x6a\x01x"), hints=((1, 0),)))


def payment_to_own_change(world: World) -> Bundle:
    """The initiator was shown a change address of ours as a payee: it would count as change and be spent again."""
    whole = TxOut(Sats(COIN_SATS - 2_000), world.book.script(1, 0).script)
    payee = Payment(address_of(whole.script, world.wallet.network), whole.amount)
    honest = world.spend(world.withdrawal())
    signed = signed_by_initiator(replace(world.withdrawal(), payments=(payee,)))
    index = honest.release(signed, withdrawal_digest=signed.digest, family=signed.digest, payments=(whole,), change=())
    return honest.bundle(index, withdrawal=signed, psbt=with_outputs(honest, whole, hints=((0, 0),)))


def payment_of_dust(world: World) -> Bundle:
    """A payment that no node relays, so that the transaction never confirms."""
    return world.spend(world.withdrawal((EXCHANGE, 300))).bundle()


def transaction_of_version_one(world: World) -> Bundle:
    """Another transaction version."""
    spend = world.spend(world.withdrawal())
    psbt = parse(spend.psbt)
    return spend.bundle(psbt=with_transaction(psbt, replace(psbt.transaction, version=1)))


def transaction_that_waits(world: World) -> Bundle:
    """A locktime years ahead: signed now, paid when it suits."""
    spend = world.spend(world.withdrawal())
    psbt = parse(spend.psbt)
    return spend.bundle(psbt=with_transaction(psbt, replace(psbt.transaction, locktime=900_000)))


def transaction_that_cannot_be_replaced(world: World) -> Bundle:
    """A final sequence: no fee bump, no cancelling."""
    spend = world.spend(world.withdrawal())
    psbt = parse(spend.psbt)
    (spent,) = psbt.transaction.inputs
    final = replace(psbt.transaction, inputs=(replace(spent, sequence=0xFFFFFFFF),))
    return spend.bundle(psbt=with_transaction(psbt, final))


def another_than_the_pinned_transaction(world: World) -> Bundle:
    """The initiator pinned one transaction; this is another that pays the same."""
    pinned = world.spend(world.withdrawal()).facts().txid
    return world.spend(world.withdrawal(pinned_txid=pinned), fee=2_001).bundle()


def fee_above_the_most(world: World) -> Bundle:
    """A sat more of fee than the initiator signed."""
    return world.spend(world.withdrawal(), fee=20_001).bundle()


def fee_taken_from_the_change(world: World) -> Bundle:
    """The fee is raised behind a true RELEASE of a smaller one."""
    honest = world.spend(world.withdrawal())
    payment, change = outputs_of(honest)
    return honest.bundle(psbt=with_outputs(honest, payment, output_of(change, -1_000), hints=((1, 0),)))


def feerate_beyond_the_rules(world: World) -> Bundle:
    """A fee that the initiator allows and the rules' feerate does not."""
    return world.spend(world.withdrawal(max_fee_sats=Sats(200_000)), fee=150_000).bundle()


def feerate_below_the_rules(world: World) -> Bundle:
    """A fee so small that the transaction is never relayed, and can be held back for ever."""
    return world.spend(world.withdrawal(), fee=10).bundle()


def address_of_another_network(world: World) -> Bundle:
    """A payee's address of another chain, whose script somebody there can spend."""
    other = Payment(address(EXCHANGE).replace("bcrt1", "tb1"), Sats(50_000))
    signed = signed_by_initiator(replace(world.withdrawal(), payments=(other,)))
    honest = world.spend(world.withdrawal())
    index = honest.release(signed, withdrawal_digest=signed.digest, family=signed.digest)
    return honest.bundle(index, withdrawal=signed)


LIES = (
    Lie(amount_made_smaller, AMOUNTS, "AMOUNT_LIE", (27,)),
    Lie(amount_lie_asked_again, AMOUNTS, "AMOUNT_LIE", (28,)),
    Lie(script_of_coin_changed, AMOUNTS, "AMOUNT_LIE", (29,)),
    Lie(previous_left_out, AMOUNTS, "PREVIOUS_MISSING", (30,)),
    Lie(previous_of_another_coin, AMOUNTS, "PREVIOUS_MISMATCH", (27, 31)),
    Lie(previous_without_that_output, AMOUNTS, "PREVIOUS_MISMATCH", (29,)),
    Lie(coin_of_somebody_else, OURS, "FOREIGN_INPUT", (50, 51)),
    Lie(coin_twice, STRICT, "DUPLICATE_OUTPOINT", (55,)),
    Lie(witness_script_of_others, OURS, "WITNESS_SCRIPT", (52, 53)),
    Lie(sighash_none, HASHES, "SIGHASH_TYPE", (47,)),
    Lie(sighash_single, HASHES, "SIGHASH_TYPE", (47, 48)),
    Lie(sighash_anyone_can_pay, HASHES, "SIGHASH_TYPE", (47,)),
    Lie(instruction_nobody_judges, STRICT, "UNKNOWN_FIELD"),
    Lie(bytes_behind_the_psbt, STRICT, "TRAILING_BYTES"),
    Lie(field_twice, STRICT, "DUPLICATE_KEY"),
    Lie(psbt_cut_off, STRICT, "TRUNCATED"),
    Lie(version_two_field_in_version_zero, STRICT, "V2_FIELD"),
    Lie(change_to_a_stranger, MULTISET, "OUTPUT_NOT_ASKED", (39, 40)),
    Lie(change_of_one_key, REMAINS, "OUTPUT_NOT_ASKED", (34,)),
    Lie(change_with_a_key_swapped, REMAINS, "OUTPUT_NOT_ASKED", (35,)),
    Lie(change_with_indices_mixed, REMAINS, "OUTPUT_NOT_ASKED", (36,)),
    Lie(change_on_branch_zero, REMAINS, "OUTPUT_NOT_ASKED", (41,)),
    Lie(change_where_nobody_looks, GAP, "CHANGE_INDEX", (38,)),
    Lie(change_behind_a_false_step, GAP, "CHANGE_INDEX", (38,)),
    Lie(change_in_two, REMAINS, "TOO_MUCH_CHANGE"),
    Lie(change_as_dust, REMAINS, "CHANGE_BELOW_FLOOR", (44,)),
    Lie(payment_to_a_stranger, MULTISET, "OUTPUT_NOT_ASKED", (42, 85)),
    Lie(payment_of_a_sat_more, MULTISET, "OUTPUT_NOT_ASKED", (85, 94)),
    Lie(payment_twice, MULTISET, "OUTPUT_NOT_ASKED", (56,)),
    Lie(payment_left_out, MULTISET, "PAYMENT_MISSING", (56,)),
    Lie(payments_with_amounts_swapped, MULTISET, "OUTPUT_NOT_ASKED", (85,)),
    Lie(output_that_carries_words, MULTISET, "OUTPUT_NOT_ASKED", (44,)),
    Lie(payment_to_own_change, OWN, "PAYMENT_TO_CHANGE", (41,)),
    Lie(payment_of_dust, MULTISET, "OUTPUT_DUST", (44,)),
    Lie(transaction_of_version_one, SHAPE, "TX_VERSION"),
    Lie(transaction_that_waits, SHAPE, "LOCKTIME", (45,)),
    Lie(transaction_that_cannot_be_replaced, SHAPE, "SEQUENCE", (46,)),
    Lie(another_than_the_pinned_transaction, "`pinned_txid`: exactly that transaction and no other", "PINNED_OTHER"),
    Lie(fee_above_the_most, FEE, "FEE_ABOVE_MAX", (33,)),
    Lie(
        fee_taken_from_the_change,
        "every field recomputed from the bytes before me and equal",
        "RELEASE_MISMATCH",
        (33,),
    ),
    Lie(feerate_beyond_the_rules, FEE, "FEERATE_ABOVE_MAX", (33,)),
    Lie(feerate_below_the_rules, FEE, "FEERATE_BELOW_MIN", (33, 98)),
    Lie(address_of_another_network, MULTISET, "RELEASE_INADMISSIBLE", (43,)),
)

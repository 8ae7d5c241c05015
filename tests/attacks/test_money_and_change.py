"""Attacks on amounts, change and scripts: every fact is proven from bytes and our descriptor (attacks.md section B).

The spend pays a stranger and returns change; the withdrawal asks exactly that. Each test tells one lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from custody.address import address_of
from custody.base58 import decode_check
from custody.errors import Refused
from custody.facts import CHANGE_GAP, INPUT_GAP, ShapeLimits, check_matches, read_facts
from custody.psbt import Psbt, parse, serialize
from custody.reader import sized
from custody.scripts import multisig_script
from custody.transaction import TxOut, parse_transaction
from custody.units import Sats
from custody.updater import build
from custody.wallet import MAX_INDEX, Network, ScriptBook
from custody.withdrawal import NEW, Payment, Withdrawal
from tests.fakes.psbts import (
    BOOK,
    COIN_SATS,
    FEE_SATS,
    OTHER_BOOK,
    PAID_SATS,
    STRANGER,
    WALLET,
    RawPsbt,
    changed,
    code,
    coin,
    drop,
    facts_of,
    put,
    valid,
    wallet_of,
    with_output,
)

ASKED = Withdrawal(
    genesis=bytes(32),
    withdrawal_id="w-1",
    wallet_id=WALLET.wallet_id,
    network="regtest",
    payments=(Payment(address_of(STRANGER, Network.REGTEST), Sats(PAID_SATS)),),
    max_fee_sats=Sats(FEE_SATS),
    relation=NEW,
    initiator="alice",
    created_at=1,
    expires_at=2,
    rules_floor=1,
)


def verdict(psbt: Psbt, asked: Withdrawal = ASKED, limits: ShapeLimits | None = None) -> str:
    """Return the code with which facts or their match to the withdrawal are refused, or OK."""
    facts = read_facts(psbt, BOOK, limits or ShapeLimits())
    if isinstance(facts, Refused):
        return facts.code
    refused = check_matches(asked, facts, WALLET)
    return refused.code if refused else "OK"


def change_to(script: bytes, *, hints_of: tuple[int, int] | None = None) -> Psbt:
    """Return the spend whose change goes to `script` instead, with the hints and script of ours at `hints_of`."""
    moved = with_output(valid(), 1, replace(valid().transaction.outputs[1], script=script))
    raw = RawPsbt.of(moved)
    raw.outputs[1].clear()
    if hints_of:
        raw.outputs[1].extend(hints(*hints_of))
    return parse(raw.to_bytes())


def hints(branch: int, index: int) -> list[tuple[bytes, bytes]]:
    """Return the honest script and derivations of our script at branch/index, as an output has them."""
    ours, place = BOOK.script(branch, index), branch.to_bytes(4, "little") + index.to_bytes(4, "little")
    origins = [key.origin for key in WALLET.keys]
    pairs = [(b"\x02" + pubkey, origin + place) for pubkey, origin in zip(ours.pubkeys, origins, strict=True)]
    return [(b"\x01", ours.witness_script), *sorted(pairs)]


def p2wsh(witness_script: bytes) -> bytes:
    """Return the scriptPubKey of `witness_script`."""
    return b"\x00\x20" + hashlib.sha256(witness_script).digest()


def test_valid_spend_is_what_was_asked() -> None:
    """What every test here lies about is true before the lie."""
    assert verdict(valid()) == "OK"
    assert facts_of(valid()).fee_sats == FEE_SATS


@pytest.mark.parametrize("amount", [0, 1, COIN_SATS - 1, COIN_SATS + 1])
def test_atk_027_claimed_amount_unlike_the_real_one_is_refused(amount: int) -> None:
    """The segwit v0 fee attack: the claim must equal the output of the re-hashed previous transaction."""
    real = BOOK.script(0, 5).script

    lie = changed(lambda raw: put(raw.inputs[0], b"\x01", TxOut(Sats(amount), real).serialize()))

    assert code(lie) == "AMOUNT_LIE"


def test_atk_027_previous_transaction_with_another_amount_is_refused() -> None:
    """An altered previous transaction hashes to another outpoint."""
    previous = valid().inputs[0].fields[0].value
    lie = previous.replace(COIN_SATS.to_bytes(8, "little"), (COIN_SATS - 9).to_bytes(8, "little"))

    assert code(changed(lambda raw: put(raw.inputs[0], b"\0", lie))) == "PREVIOUS_MISMATCH"


def test_atk_028_truth_and_lie_swapped_between_two_sessions_is_refused_in_both() -> None:
    """Each session lies about one input and is refused: there is no first half of signatures to add a second to."""
    scripts = (BOOK.script(0, 5).script, BOOK.script(1, 6).script)

    for at in (0, 1):
        lie = changed(
            lambda raw, at=at: put(raw.inputs[at], b"\x01", TxOut(Sats(1_000), scripts[at]).serialize())  # type: ignore[misc]
        )
        assert code(lie) == "AMOUNT_LIE"


def test_atk_029_previous_transaction_of_another_output_or_script_is_refused() -> None:
    """Right transaction, output that it lacks; right amount, script of another type."""
    transaction = valid().transaction
    point = transaction.inputs[0].outpoint

    def output_2(raw: RawPsbt) -> None:
        inputs = (replace(transaction.inputs[0], outpoint=replace(point, vout=2)), transaction.inputs[1])
        put(raw.globals, b"\0", replace(transaction, inputs=inputs).serialize_stripped())

    def output_0(raw: RawPsbt) -> None:
        inputs = (replace(transaction.inputs[0], outpoint=replace(point, vout=0)), transaction.inputs[1])
        put(raw.globals, b"\0", replace(transaction, inputs=inputs).serialize_stripped())

    def output_0_unclaimed(raw: RawPsbt) -> None:
        output_0(raw)
        drop(raw.inputs[0], 1)

    key_hash = TxOut(Sats(COIN_SATS), STRANGER).serialize()

    assert code(changed(output_2)) == "PREVIOUS_MISMATCH"
    assert code(changed(output_0)) == "AMOUNT_LIE"
    assert code(changed(output_0_unclaimed)) == "FOREIGN_INPUT"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x01", key_hash))) == "AMOUNT_LIE"


def test_atk_029_previous_transactions_of_two_inputs_swapped_is_refused() -> None:
    """Each input proves itself."""

    def swapped(raw: RawPsbt) -> None:
        raw.inputs[0][0], raw.inputs[1][0] = raw.inputs[1][0], raw.inputs[0][0]

    assert code(changed(swapped)) == "PREVIOUS_MISMATCH"


@pytest.mark.parametrize("at", [0, 1])
def test_atk_030_missing_previous_transaction_is_refused(at: int) -> None:
    """An amount that is only claimed is not known, on any input."""
    assert code(changed(lambda raw: drop(raw.inputs[at], 0))) == "PREVIOUS_MISSING"


def test_atk_030_missing_claims_and_hints_change_nothing() -> None:
    """Everything but the previous transaction can be left out: nothing else is needed to prove a coin."""

    def bare(raw: RawPsbt) -> None:
        for pairs in raw.inputs:
            del pairs[1:]
        raw.outputs[1].clear()

    assert facts_of(parse(changed(bare))) == facts_of(valid())


def test_atk_034_change_to_our_keys_with_a_lower_threshold_is_not_change() -> None:
    """1-of-3 with our own three keys, with honest hints: a script of nobody, so an output that nobody asked."""
    pubkeys = tuple(sorted(BOOK.script(1, 3).pubkeys))

    assert verdict(change_to(p2wsh(multisig_script(1, pubkeys)), hints_of=(1, 3))) == "OUTPUT_NOT_ASKED"


def test_atk_034_change_to_our_keys_in_another_order_is_not_change() -> None:
    """The order of keys is part of the script (BIP-67)."""
    pubkeys = tuple(sorted(BOOK.script(1, 3).pubkeys, reverse=True))

    assert verdict(change_to(p2wsh(multisig_script(2, pubkeys)), hints_of=(1, 3))) == "OUTPUT_NOT_ASKED"


def test_atk_035_change_with_one_cosigner_replaced_is_not_change() -> None:
    """Two of our keys and one of somebody else."""
    ours, theirs = BOOK.script(1, 3).pubkeys, OTHER_BOOK.script(1, 3).pubkeys

    for keys in ((theirs[0], *ours[1:]), (*ours[:2], theirs[2]), (ours[0], *theirs[1:])):
        lie = change_to(p2wsh(multisig_script(2, tuple(sorted(keys)))), hints_of=(1, 3))
        assert verdict(lie) == "OUTPUT_NOT_ASKED"


def test_atk_036_change_that_mixes_indices_branches_or_wallets_is_not_change() -> None:
    """One (branch, index) holds for all keys."""
    keys = {
        "indices": (BOOK.script(1, 5).pubkeys[0], BOOK.script(1, 9).pubkeys[1], BOOK.script(1, 5).pubkeys[2]),
        "branches": (BOOK.script(1, 3).pubkeys[0], BOOK.script(0, 3).pubkeys[1], BOOK.script(1, 3).pubkeys[2]),
    }

    for name, mixed in keys.items():
        lie = change_to(p2wsh(multisig_script(2, tuple(sorted(mixed)))), hints_of=(1, 5))
        assert verdict(lie) == "OUTPUT_NOT_ASKED", name
    assert verdict(change_to(OTHER_BOOK.script(1, 3).script, hints_of=(1, 3))) == "OUTPUT_NOT_ASKED"
    smaller = ScriptBook(wallet_of(2, 2))
    assert verdict(change_to(smaller.script(1, 3).script, hints_of=(1, 3))) == "OUTPUT_NOT_ASKED"


def test_atk_037_change_in_another_script_type_is_not_change() -> None:
    """Our own witness script nested, bare, or hashed another way; one cosigner's key hash."""
    ours = BOOK.script(1, 3)
    sha = hashlib.sha256(ours.witness_script).digest()
    key_hash = hashlib.new("ripemd160", hashlib.sha256(ours.pubkeys[0]).digest()).digest()
    nested = hashlib.new("ripemd160", hashlib.sha256(ours.script).digest()).digest()
    scripts = {
        "p2sh_p2wsh": b"\xa9\x14" + nested + b"\x87",
        "bare": ours.witness_script,
        "taproot_version": b"\x51\x20" + sha,
        "p2wpkh": b"\x00\x14" + key_hash,
        "p2pkh": b"\x76\xa9\x14" + key_hash + b"\x88\xac",
        "drop": ours.script + b"\x75",
    }

    for name, script in scripts.items():
        assert verdict(change_to(script, hints_of=(1, 3))) == "OUTPUT_NOT_ASKED", name


@pytest.mark.parametrize("index", [CHANGE_GAP, CHANGE_GAP + 1, INPUT_GAP, INPUT_GAP + 50, MAX_INDEX])
def test_atk_038_change_beyond_the_window_is_refused_by_name(index: int) -> None:
    """Ransom: change that no recovery would search. The window is 20 (protocol.md step 4), not 200."""
    psbt = change_to(BOOK.script(1, index).script, hints_of=(1, index))

    assert verdict(psbt, limits=ShapeLimits(highest_change_index=-1)) == "CHANGE_INDEX"


def test_atk_038_change_at_the_edge_of_the_window_is_accepted() -> None:
    """Highest index in the log + 20, and not one more; without hints as well."""
    at_40, at_41 = change_to(BOOK.script(1, 40).script), change_to(BOOK.script(1, 41).script)
    limits = ShapeLimits(highest_change_index=20)

    assert verdict(at_40, limits=limits) == "OK"
    assert verdict(at_41, limits=limits) == "CHANGE_INDEX"


def test_atk_038_change_far_out_without_hints_is_an_output_that_nobody_asked() -> None:
    """Where nothing points, nothing is searched for: it is refused all the same."""
    assert verdict(change_to(BOOK.script(1, MAX_INDEX).script)) == "OUTPUT_NOT_ASKED"


def test_atk_038_change_on_the_receiving_branch_is_not_change() -> None:
    """Branch 0 of our own wallet is a payment like any other: somebody must have asked for it."""
    assert verdict(change_to(BOOK.script(0, 3).script, hints_of=(0, 3))) == "OUTPUT_NOT_ASKED"
    assert verdict(change_to(BOOK.script(0, 3).script, hints_of=(1, 3))) == "OUTPUT_NOT_ASKED"
    assert verdict(change_to(BOOK.script(0, 3).script)) == "OUTPUT_NOT_ASKED"


HINTS = {
    "hardened": (7).to_bytes(4, "little") + b"\x01\0\0\x80",
    "no_path": b"",
    "one_step": bytes(4),
    "255_steps": bytes(4 * 255),
    "other_branch": (7).to_bytes(4, "little") * 2,
    "far": (1).to_bytes(4, "little") + MAX_INDEX.to_bytes(4, "little"),
}


@pytest.mark.parametrize("hint", HINTS)
def test_atk_039_hint_with_a_bad_path_under_our_fingerprint_points_nowhere(hint: str) -> None:
    """Ignored, never a crash, and no input before or after it is judged another way."""
    fingerprint = WALLET.keys[0].fingerprint

    def lie(raw: RawPsbt) -> None:
        drop(raw.inputs[0], 6)
        raw.inputs[0].append((b"\x06" + BOOK.script(0, 5).pubkeys[0], fingerprint + HINTS[hint]))

    assert facts_of(parse(changed(lie))) == facts_of(valid())


def test_atk_040_hint_under_the_wrong_fingerprint_or_key_proves_and_spoils_nothing() -> None:
    """Fingerprints are four bytes that anyone can have: only the derived script decides."""
    foreign = OTHER_BOOK.script(0, 5).pubkeys[0]
    place = (0).to_bytes(4, "little") + (5).to_bytes(4, "little")

    def lie(raw: RawPsbt) -> None:
        drop(raw.inputs[0], 6)
        raw.inputs[0].append((b"\x06" + foreign, bytes(4) + place))

    assert facts_of(parse(changed(lie))) == facts_of(valid())


@pytest.mark.parametrize("sighash_type", [0, 2, 3, 0x81, 0x82, 0x83, 0x80, 0x04, 0x100, 0x101, 2**32 - 1])
def test_atk_047_sighash_type_other_than_all_is_refused(sighash_type: int) -> None:
    """NONE, SINGLE, ANYONECANPAY and what no rule defines, on any input; absent means ALL."""
    value = sighash_type.to_bytes(4, "little")

    for at in (0, 1):
        assert code(changed(lambda raw, at=at: put(raw.inputs[at], b"\x03", value))) == "SIGHASH_TYPE"  # type: ignore[misc]
    assert code(changed(lambda raw: drop(raw.inputs[0], 3))) == "OK"


def test_atk_050_input_of_another_wallet_is_refused() -> None:
    """A coin of another tenant, proven and with honest hints of its own."""
    ours, theirs = coin(0), coin(1, book=OTHER_BOOK)
    foreign = build(OTHER_BOOK, [theirs], valid().transaction.outputs)
    raw = RawPsbt.of(build(BOOK, [ours, theirs], valid().transaction.outputs, [(1, 3)]))
    raw.inputs[1] = RawPsbt.of(foreign).inputs[0]

    assert code(raw.to_bytes()) == "FOREIGN_INPUT"


def test_atk_051_input_of_another_account_of_the_same_seeds_is_refused() -> None:
    """Same keys, another threshold or branch 2: only what the pinned descriptor derives is ours."""
    one_of_three = ScriptBook(wallet_of(1, 3))
    theirs = coin(1, book=one_of_three)
    raw = RawPsbt.of(build(BOOK, [coin(0), theirs], valid().transaction.outputs, [(1, 3)]))
    raw.inputs[1] = RawPsbt.of(build(one_of_three, [theirs], valid().transaction.outputs)).inputs[0]

    assert code(raw.to_bytes()) == "FOREIGN_INPUT"


def test_atk_052_witness_script_that_does_not_hash_to_the_script_is_refused() -> None:
    """On an input and on change; a redeem script has no place here at all."""
    other = BOOK.script(0, 6).witness_script

    assert code(changed(lambda raw: put(raw.inputs[0], b"\x05", other))) == "WITNESS_SCRIPT"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x05", b""))) == "WITNESS_SCRIPT"
    assert code(changed(lambda raw: put(raw.outputs[1], b"\x01", other))) == "WITNESS_SCRIPT"
    assert code(changed(lambda raw: put(raw.inputs[0], b"\x04", BOOK.script(0, 5).script))) == "UNKNOWN_FIELD"


def test_atk_053_look_alike_of_our_multisig_script_is_refused() -> None:
    """Same length, same keys: wrong push bytes, wrong numbers, wrong opcode. Scripts are compared, never parsed."""
    ours = BOOK.script(0, 5).witness_script
    look_alikes = [
        b"\x51" + ours[1:],  # 1-of-3
        ours[:1] + b"\x4c" + ours[2:],  # OP_PUSHDATA1 for the first key
        ours[:-2] + b"\x54\xae",  # of 4
        ours[:-1] + b"\xaf",  # OP_CHECKMULTISIGVERIFY
        ours[:-1] + b"\x75",
    ]

    for look_alike in look_alikes:
        previous = coin(0).previous
        outputs = (previous.outputs[0], replace(previous.outputs[1], script=p2wsh(look_alike)))
        lied = replace(previous, outputs=outputs)
        lying = replace(coin(0, 0, 5), previous=lied, outpoint=replace(coin(0).outpoint, txid=lied.txid))
        raw = RawPsbt.of(build(BOOK, [lying], [TxOut(Sats(PAID_SATS), STRANGER)]))
        assert code(raw.to_bytes()) == "FOREIGN_INPUT"
        put(raw.inputs[0], b"\x05", look_alike)
        assert code(raw.to_bytes()) == "FOREIGN_INPUT"


def test_change_below_the_floor_and_change_twice_are_refused() -> None:
    """10,000 sats and one output (protocol.md step 4): what is smaller or more spoils the wallet coin by coin."""
    script = BOOK.script(1, 3).script
    floor = with_output(valid(), 1, TxOut(Sats(10_000), script))
    below = with_output(valid(), 1, TxOut(Sats(9_999), script))
    twice = with_output(valid(), 0, TxOut(Sats(PAID_SATS), BOOK.script(1, 4).script))

    assert code(serialize(floor)) == "OK"
    assert code(serialize(below)) == "CHANGE_BELOW_FLOOR"
    assert code(serialize(twice)) == "TOO_MUCH_CHANGE"
    assert code(serialize(twice), ShapeLimits(max_change_outputs=2)) == "OK"


def test_payment_to_our_own_change_branch_is_refused() -> None:
    """Asked for or not, branch 1 is change: a payment that hides as change would escape limits."""
    script = BOOK.script(1, 3).script
    asked = replace(ASKED, payments=(Payment(address_of(script, Network.REGTEST), Sats(PAID_SATS)),))
    paid = build(BOOK, [coin(0)], [TxOut(Sats(PAID_SATS), script)])

    assert verdict(paid, asked) == "PAYMENT_TO_CHANGE"


def test_payment_to_our_own_receiving_branch_counts_as_payment() -> None:
    """Only branch 1 is change (protocol.md); what goes to branch 0 was asked by somebody and counts."""
    script = BOOK.script(0, 8).script
    asked = replace(ASKED, payments=(Payment(address_of(script, Network.REGTEST), Sats(PAID_SATS)),))
    paid = with_output(valid(), 0, TxOut(Sats(PAID_SATS), script))

    assert verdict(paid, asked) == "OK"
    assert facts_of(paid).payments == (TxOut(Sats(PAID_SATS), script),)


MISMATCHES: dict[str, tuple[Callable[[Withdrawal], Withdrawal], str]] = {
    "other_amount": (lambda a: replace(a, payments=(replace(a.payments[0], amount_sats=Sats(1)),)), "OUTPUT_NOT_ASKED"),
    "asked_twice_paid_once": (lambda a: replace(a, payments=a.payments * 2), "PAYMENT_MISSING"),
    "nothing_asked": (lambda a: replace(a, payments=()), "OUTPUT_NOT_ASKED"),
    "fee_one_above": (lambda a: replace(a, max_fee_sats=Sats(FEE_SATS - 1)), "FEE_ABOVE_MAX"),
    "other_wallet": (lambda a: replace(a, wallet_id=bytes(32)), "WALLET_OTHER"),
    "other_network": (lambda a: replace(a, network="signet"), "WALLET_OTHER"),
    "pinned_other": (lambda a: replace(a, pinned_txid=bytes(32)), "PINNED_OTHER"),
    "address_of_mainnet": (
        lambda a: replace(a, payments=(Payment(address_of(STRANGER, Network.MAINNET), Sats(PAID_SATS)),)),
        "ADDRESS_NETWORK",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_spend_unlike_its_withdrawal_is_refused(name: str) -> None:
    """One withdrawal, one change to it, one code."""
    change, expected = MISMATCHES[name]

    assert verdict(valid(), change(ASKED)) == expected


def test_spend_of_its_own_pinned_transaction_is_accepted_with_a_locktime() -> None:
    """A locktime is accepted only where exactly this transaction was asked for."""
    transaction = replace(valid().transaction, locktime=500)
    late = parse(changed(lambda raw: put(raw.globals, b"\0", transaction.serialize_stripped())))

    assert verdict(late) == "LOCKTIME"
    assert verdict(late, replace(ASKED, pinned_txid=transaction.txid)) == "OK"


@pytest.mark.parametrize("sequence", [0, 1, 0xFFFFFFFC, 0xFFFFFFFE, 0xFFFFFFFF])
def test_atk_046_other_sequence_is_refused(sequence: int) -> None:
    """Relative locks and final sequences change what the transaction means; 0 stays 0 here, which embit loses."""
    inputs = (valid().transaction.inputs[0], replace(valid().transaction.inputs[1], sequence=sequence))
    transaction = replace(valid().transaction, inputs=inputs)

    assert code(changed(lambda raw: put(raw.globals, b"\0", transaction.serialize_stripped()))) == "SEQUENCE"


def test_global_xpub_of_ours_is_accepted_and_of_others_refused() -> None:
    """What a wallet's software adds is judged too: our extended keys with our origins, and no others."""
    ours = (b"\x01" + decode_check(WALLET.keys[0].xpub), WALLET.keys[0].origin)
    theirs = (b"\x01" + decode_check(OTHER_BOOK.wallet.keys[0].xpub), WALLET.keys[0].origin)

    assert code(changed(lambda raw: raw.globals.append(ours))) == "OK"
    assert code(changed(lambda raw: raw.globals.append(theirs))) == "XPUB_OTHER"
    assert code(changed(lambda raw: raw.globals.append((ours[0], b"\0" + ours[1][1:])))) == "XPUB_OTHER"


def test_previous_transaction_with_its_witness_proves_the_same() -> None:
    """The txid leaves witnesses out: wallets send previous transactions with or without them."""
    previous = parse_transaction(valid().inputs[0].fields[0].value)
    signed = replace(previous, inputs=(replace(previous.inputs[0], witness=(b"\x01", sized(b"x"))),))

    with_witness = parse(changed(lambda raw: put(raw.inputs[0], b"\0", signed.serialize())))

    assert facts_of(with_witness) == facts_of(valid())

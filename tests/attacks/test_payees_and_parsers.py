"""Attacks by what an address means, by what two parsers see, by taproot dressing, and by a faulty signer."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import replace

import bdkpython as bdk
import pytest
import wallycore as wally

from custody import curve
from custody.address import address_of, script_of
from custody.errors import IntegrityError, MalformedError, Refused
from custody.facts import ShapeLimits, check_matches, own_payees, read_facts
from custody.payees import LEAST_SATS, kind_of
from custody.psbt import Psbt, parse, serialize
from custody.signatures import sighashes
from custody.transaction import TxOut
from custody.units import Sats
from custody.updater import build
from custody.wallet import Network
from custody.withdrawal import NEW, Payment, Withdrawal
from signer_node.backends.signing import sign_and_drop
from tests.fakes.cleared import ClearedInputs
from tests.fakes.psbts import (
    BOOK,
    COIN_SATS,
    FEE_SATS,
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
    seed_of,
    valid,
    with_transaction,
)

NETWORK = Network.REGTEST


def asking(*payments: tuple[str, int]) -> Withdrawal:
    """Return a withdrawal of the test wallet that pays (address, sats) each."""
    return Withdrawal(
        genesis=bytes(32),
        withdrawal_id="w-1",
        wallet_id=WALLET.wallet_id,
        network=NETWORK.value,
        payments=tuple(Payment(address, Sats(amount)) for address, amount in payments),
        max_fee_sats=Sats(FEE_SATS),
        relation=NEW,
        initiator="alice",
        created_at=0,
        expires_at=1,
        rules_floor=1,
    )


def verdict(psbt: Psbt, asked: Withdrawal) -> str:
    """Return the code with which `psbt` is refused for `asked`, or OK."""
    facts = read_facts(psbt, BOOK, ShapeLimits())
    refused = facts if isinstance(facts, Refused) else check_matches(asked, facts, WALLET)
    return refused.code if refused else "OK"


def paying(*outputs: TxOut) -> Psbt:
    """Return a spend of one coin that pays `outputs`, the rest of it being change."""
    rest = COIN_SATS - FEE_SATS - sum(output.amount for output in outputs)
    change = TxOut(Sats(rest), BOOK.script(1, 0).script)
    return build(BOOK, [coin(0)], [*outputs, change], [(len(outputs), 0)])


def test_atk_025_two_more_parsers_see_the_transaction_that_we_see() -> None:
    """What we accept, libwally (strict) and rust-bitcoin read as the same txid; mutants included."""
    raw = serialize(valid())
    agreed = 0
    for at in range(0, len(raw), 3):
        mutant = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        if code(mutant) != "OK":
            continue
        text = base64.b64encode(mutant).decode()
        txid = parse(mutant).transaction.txid
        theirs = wally.tx_get_txid(
            wally.psbt_get_global_tx(wally.psbt_from_base64(text, wally.WALLY_PSBT_PARSE_FLAG_STRICT))
        )
        assert bytes(theirs) == txid
        assert str(bdk.Psbt(text).extract_tx_unchecked_fee_rate().compute_txid()) == txid[::-1].hex()
        agreed += 1
    assert agreed > 100


def test_atk_025_bytes_in_which_parsers_disagree_are_refused() -> None:
    """A v2 output script in a v0 file: embit pays B, rust-bitcoin shows A, we refuse."""
    lying = changed(lambda raw: put(raw.outputs[0], b"\x04", STRANGER))

    assert code(lying) == "V2_FIELD"


def test_atk_041_transfer_to_own_account_is_a_payment_and_names_itself() -> None:
    """Branch 0 of the same wallet is no change: it is asked for, counted, and told as our own."""
    own = BOOK.script(0, 9).script
    psbt = paying(TxOut(Sats(PAID_SATS), own))

    assert verdict(psbt, asking()) == "OUTPUT_NOT_ASKED"
    assert verdict(psbt, asking((address_of(own, NETWORK), PAID_SATS))) == "OK"
    assert own_payees(facts_of(psbt), BOOK) == {own}
    assert facts_of(psbt).payments == (TxOut(Sats(PAID_SATS), own),)


WRONG = {
    "of mainnet": (address_of(STRANGER, Network.MAINNET), "ADDRESS_NETWORK"),
    "of signet": (address_of(STRANGER, Network.SIGNET), "ADDRESS_NETWORK"),
    "of litecoin": ("ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9", "ADDRESS_INVALID"),
    "of nobody": ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "ADDRESS_INVALID"),
    "base58 of mainnet": ("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", "ADDRESS_NETWORK"),
    "base58 of 25 bytes and no known kind": ("17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhemXX", "ADDRESS_INVALID"),
    "a private key": ("cP53pDbR5WtAD8dYAW9hhTjuvvTVaEiQBdrz9XPrgLBeRFiyCbQr", "ADDRESS_INVALID"),
    "mixed case": (address_of(STRANGER, NETWORK).replace("q", "Q", 1), "ADDRESS_INVALID"),
    "one letter changed": (address_of(STRANGER, NETWORK)[:-1] + "q", "ADDRESS_INVALID"),
    "a space": (address_of(STRANGER, NETWORK) + " ", "ADDRESS_INVALID"),
    "empty": ("", "ADDRESS_INVALID"),
}


@pytest.mark.parametrize("name", WRONG)
def test_atk_043_address_of_another_network_or_none_is_refused(name: str) -> None:
    """By the decoder and by the match of a transaction to its withdrawal."""
    address, expected = WRONG[name]

    with pytest.raises(MalformedError) as raised:
        script_of(address, NETWORK)

    assert raised.value.code == expected
    assert verdict(valid(), asking((address, PAID_SATS))) == expected


UNOWNED = {
    "pay to anchor": b"\x51\x02\x4e\x73",
    "taproot of 33 bytes": b"\x51\x21" + bytes(33),
    "a witness version of the future": b"\x52\x20" + bytes(32),
    "version 16": b"\x60\x02\x75\x1e",
}


@pytest.mark.parametrize("name", UNOWNED)
def test_atk_044_output_that_anyone_can_spend_is_refused_though_asked(name: str) -> None:
    """It has an address, so it can be asked for; no signer pays to it."""
    script = UNOWNED[name]
    asked = asking((address_of(script, NETWORK), PAID_SATS))

    assert verdict(paying(TxOut(Sats(PAID_SATS), script)), asked) == "OUTPUT_TYPE"


@pytest.mark.parametrize("script", [b"\x6a\x04text", b"\x51", b"", BOOK.script(0, 0).witness_script])
def test_atk_044_output_without_an_address_is_never_asked_for(script: bytes) -> None:
    """Data outputs, bare multisig, OP_TRUE: nobody can ask for them, so any is one output too many."""
    asked = asking((address_of(STRANGER, NETWORK), PAID_SATS))
    extra = paying(TxOut(Sats(PAID_SATS), STRANGER), TxOut(Sats(0 if script[:1] == b"\x6a" else 10_000), script))

    assert verdict(extra, asked) == "OUTPUT_NOT_ASKED"


KINDS = {
    "p2pkh": b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
    "p2sh": b"\xa9\x14" + bytes(20) + b"\x87",
    "p2wpkh": b"\x00\x14" + bytes(20),
    "p2wsh": b"\x00\x20" + bytes(32),
    "p2tr": b"\x51\x20" + bytes(32),
}


@pytest.mark.parametrize("kind", LEAST_SATS)
def test_atk_044_dust_is_refused_at_each_kind_and_its_edge_is_not(kind: str) -> None:
    """One satoshi below what relays."""
    script, least = KINDS[kind], LEAST_SATS[kind]
    assert kind_of(script) == kind
    for amount, expected in ((least, "OK"), (least - 1, "OUTPUT_DUST")):
        asked = asking((address_of(script, NETWORK), amount))
        assert verdict(paying(TxOut(Sats(amount), script)), asked) == expected


def test_atk_044_thousand_outputs_nobody_asked_for_are_refused_soon() -> None:
    """Each looks like change to nobody; the answer does not take long."""
    outputs = [TxOut(Sats(400), b"\x00\x20" + at.to_bytes(32, "big")) for at in range(1_000)]
    psbt = paying(TxOut(Sats(PAID_SATS), STRANGER), *outputs)
    asked = asking((address_of(STRANGER, NETWORK), PAID_SATS))

    started = time.process_time()
    assert verdict(psbt, asked) == "OUTPUT_NOT_ASKED"
    assert time.process_time() - started < 1


@pytest.mark.parametrize("locktime", [1, 500_000_000, 0xFFFFFFFF])
def test_atk_045_locktime_nobody_pinned_is_refused(locktime: int) -> None:
    """A payment that waits for years is no payment; only a pinned transaction may have a lock."""
    late = with_transaction(valid(), replace(valid().transaction, locktime=locktime))

    assert verdict(late, asking((address_of(STRANGER, NETWORK), PAID_SATS))) == "LOCKTIME"


@pytest.mark.parametrize("sequence", [0, 0xFFFFFFFE, 0xFFFFFFFF])
def test_atk_045_sequence_that_changes_a_lock_is_refused(sequence: int) -> None:
    """Final sequences switch a locktime off, sequence 0 starts a relative one; every input has the one value."""
    inputs = list(valid().transaction.inputs)
    inputs[1] = replace(inputs[1], sequence=sequence)

    moved = with_transaction(valid(), replace(valid().transaction, inputs=tuple(inputs)))

    assert code(serialize(moved)) == "SEQUENCE"


XONLY = BOOK.script(0, 0).pubkeys[0][1:]
TAPROOT_INPUT = {
    "key signature": (b"\x13", bytes(64)),
    "script signature": (b"\x14" + XONLY + bytes(32), bytes(64)),
    "attacker's leaf": (b"\x15\xc0" + XONLY, b"\x51\xc0"),
    "derivation": (b"\x16" + XONLY, b"\x00" + bytes(4)),
    "internal key": (b"\x17", XONLY),
    "merkle root": (b"\x18", bytes(32)),
}


@pytest.mark.parametrize("name", TAPROOT_INPUT)
def test_atk_054_taproot_field_on_an_input_is_refused(name: str) -> None:
    """A wsh wallet has no use for them: none is judged there, so none is signed over."""
    key, value = TAPROOT_INPUT[name]

    assert code(changed(lambda raw: put(raw.inputs[0], key, value))) == "UNKNOWN_FIELD"


@pytest.mark.parametrize(
    ("key", "value"), [(b"\x05", XONLY), (b"\x06", b"\x00\xc0\x01\x51"), (b"\x07" + XONLY, bytes(5))]
)
def test_atk_054_taproot_field_on_an_output_is_refused(key: bytes, value: bytes) -> None:
    """Change that claims to be taproot is claimed in vain."""
    assert code(changed(lambda raw: put(raw.outputs[1], key, value))) == "UNKNOWN_FIELD"


BROKEN_TREES = {
    "empty": (b"", "VALUE_LENGTH"),
    "half": (b"\x01\xc0\x01\x51", "TAP_TREE"),
    "overfull": (b"\x00\xc0\x01\x51" * 2, "TAP_TREE"),
    "not depth-first": (b"\x02\xc0\x01\x51\x01\xc0\x01\x51\x02\xc0\x01\x51", "TAP_TREE"),
    "odd leaf version": (b"\x00\xc1\x01\x51", "TAP_TREE"),
    "too deep": (b"\x81\xc0\x01\x51", "TAP_TREE"),
    "cut": (b"\x00\xc0\x02\x51", "TRUNCATED"),
}


@pytest.mark.parametrize("name", BROKEN_TREES)
def test_atk_054_tree_that_is_none_is_refused_by_the_codec(name: str) -> None:
    """BIP-371: leaves in depth-first order that fill one tree."""
    value, expected = BROKEN_TREES[name]

    assert code(changed(lambda raw: put(raw.outputs[1], b"\x06", value))) == expected


def test_atk_054_taproot_coin_under_our_keys_is_foreign() -> None:
    """An output key made of our key is still no script of the wallet."""
    script = b"\x51\x20" + XONLY
    ours = coin(0)
    previous = replace(ours.previous, outputs=(ours.previous.outputs[0], TxOut(Sats(COIN_SATS), script)))
    moved = replace(ours, previous=previous, outpoint=replace(ours.outpoint, txid=previous.txid))
    psbt = build(BOOK, [moved], [TxOut(Sats(PAID_SATS), STRANGER)])
    raw = RawPsbt.of(psbt)
    drop(raw.inputs[0], 0x05)

    assert code(raw.to_bytes()) == "FOREIGN_INPUT"


def test_atk_071_wrong_signature_of_a_faulty_library_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A glitch flips one bit of one signature: the second library sees it, and none of the others leaves either."""
    psbt = valid()
    facts = facts_of(psbt)
    paths = tuple((fact.branch, fact.index) for fact in facts.inputs)
    pubkeys = tuple(BOOK.script(*path).pubkeys[0] for path in paths)
    cleared = ClearedInputs(sighashes(psbt, facts, BOOK), paths, pubkeys)
    honest = curve.ecdsa_sign_children

    def glitch(jobs: Iterable[tuple[bytes, bytes, bytes]]) -> list[bytes]:
        """Sign the second digest with one bit of it flipped, as a fault would."""
        first, (secret, tweak, digest) = jobs
        return honest([first, (secret, tweak, bytes([digest[0] ^ 1]) + digest[1:])])

    assert len(sign_and_drop(lambda: seed_of(0), NETWORK, cleared)) == 2
    monkeypatch.setattr(curve, "ecdsa_sign_children", glitch)
    seed = seed_of(0)
    with pytest.raises(IntegrityError, match="SIGNATURE_WRONG"):
        sign_and_drop(lambda: seed, NETWORK, cleared)
    assert not any(seed)

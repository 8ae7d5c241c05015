"""Software of others as the third cosigner of our wallet: it signs OUR psbt, made from the same descriptor.

A .psbt goes out and comes back; only its signatures are taken, verified and combined with one of ours. The result is
accepted by Bitcoin Core's own script code.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import bdkpython
import pytest
import wallycore
from embit.bip32 import HDKey
from embit.networks import NETWORKS
from embit.psbt import PSBT

from console.wallet_files import core
from console.wallet_files.named import NamedWallet
from custody.address import address_of
from custody.facts import ShapeLimits, read_facts
from custody.finalise import finalize
from custody.psbt import Psbt, convert, parse, serialize
from custody.scripts import Template
from custody.signatures import InputSignature, accept, from_foreign_psbt, with_signatures
from custody.wallet import CHANGE, RECEIVE, Network, ScriptBook, Wallet
from tests.fakes.psbts import (
    COIN_SATS,
    FEE_SATS,
    PAID_SATS,
    STRANGER,
    RawPsbt,
    coin,
    facts_of,
    kernel_accepts,
    seed_of,
    signed_by,
    spend,
    spent_outputs,
    wallet_of,
)

THIRD = 2
Cosigner = Callable[[bytes, Wallet], bytes]
BOOKS = {template: ScriptBook(wallet_of(template=template)) for template in Template}
KEYCHAINS = (bdkpython.KeychainKind.EXTERNAL, bdkpython.KeychainKind.INTERNAL)


def private_descriptor(wallet: Wallet, branch: int) -> str:
    """Return our descriptor for one branch with the third cosigner's private key in it, as its own software has it."""
    exported = json.loads(core.write(NamedWallet("ours", wallet)))  # the file that `keyturn wallet export` writes
    body: str = exported[branch]["desc"].partition("#")[0]
    master = HDKey.from_seed(bytes(seed_of(THIRD)), version=NETWORKS["regtest"]["xprv"])
    private = master.derive(list(wallet.keys[THIRD].path)).to_base58()
    return body.replace(wallet.keys[THIRD].xpub, private)


def bdk_wallet(wallet: Wallet) -> bdkpython.Wallet:
    """Return the wallet as rust-bitcoin's wallet kit builds it from the descriptor."""
    receive, change = (
        bdkpython.Descriptor(private_descriptor(wallet, branch), bdkpython.NetworkKind.TEST)
        for branch in (RECEIVE, CHANGE)
    )
    return bdkpython.Wallet(receive, change, bdkpython.Network.REGTEST, bdkpython.Persister.new_in_memory())


def sign_with_bdk(raw: bytes, wallet: Wallet, *, try_finalize: bool = False) -> bytes:
    """Return the PSBT as bdk gives it back; it insists on previous transactions, as we do."""
    psbt = bdkpython.Psbt(base64.b64encode(raw).decode())
    options = bdkpython.SignOptions(
        trust_witness_utxo=False,
        assume_height=None,
        allow_all_sighashes=False,
        try_finalize=try_finalize,
        sign_with_tap_internal_key=False,
        allow_grinding=True,
    )
    theirs = bdk_wallet(wallet)
    for keychain in KEYCHAINS:
        theirs.reveal_addresses_to(keychain, 30)
    theirs.sign(psbt, options)
    return base64.b64decode(psbt.serialize())


def sign_with_wally(raw: bytes, wallet: Wallet) -> bytes:
    """Return the PSBT as libwally (Blockstream's wallets, Jade) gives it back."""
    master = wallycore.bip32_key_from_seed(bytes(seed_of(THIRD)), wallycore.BIP32_VER_TEST_PRIVATE, 0)
    psbt = wallycore.psbt_from_bytes(raw, wallycore.WALLY_PSBT_PARSE_FLAG_STRICT)
    wallycore.psbt_sign_bip32(psbt, master, 0)
    return bytes(wallycore.psbt_to_bytes(psbt, 0))


def sign_with_embit(raw: bytes, wallet: Wallet) -> bytes:
    """Return the PSBT as embit (Specter, SeedSigner, Krux) gives it back."""
    psbt = PSBT.parse(raw)
    assert psbt.sign_with(HDKey.from_seed(bytes(seed_of(THIRD)), version=NETWORKS["regtest"]["xprv"])) > 0
    return bytes(psbt.serialize())


COSIGNERS: dict[str, Cosigner] = {"bdk": sign_with_bdk, "wally": sign_with_wally, "embit": sign_with_embit}
SEGWIT = (Template.WSH, Template.SH_WSH)
# bdk reads version 0 alone and no sortedmulti_a; libwally signs no tapscripts.
CASES = [
    *[("bdk", template, 0) for template in (*SEGWIT, Template.TR)],
    *[("wally", template, version) for template in SEGWIT for version in (0, 2)],
    *[("embit", template, version) for template in Template for version in (0, 2)],
]
each_case = pytest.mark.parametrize(
    ("name", "template", "version"), CASES, ids=lambda value: getattr(value, "name", str(value))
)


def combined(ours: Psbt, book: ScriptBook, *signatures: InputSignature) -> bool:
    """Return whether these signatures complete `ours` and the kernel takes the result."""
    facts = facts_of(ours, book)
    accepted = accept(ours, facts, book, signatures)
    assert accepted.rejected == ()
    assert THIRD in accepted.signed
    return kernel_accepts(finalize(ours, facts, book, accepted), spent_outputs(ours))


@pytest.mark.parametrize("inputs", [1, 4])
@each_case
def test_cosigner_given_our_unsigned_psbt_signs_every_input(
    name: str, template: Template, version: int, inputs: int
) -> None:
    """The stranger signs first, on both branches; our first node completes it."""
    book = BOOKS[template]
    ours = convert(spend(inputs, book=book), version)

    theirs = from_foreign_psbt(ours, COSIGNERS[name](serialize(ours), book.wallet))

    assert [signature.input_index for signature in theirs] == list(range(inputs))
    assert combined(ours, book, *theirs, *signed_by(0, ours, book=book))


@each_case
def test_cosigner_given_our_psbt_with_one_signature_adds_its_own(name: str, template: Template, version: int) -> None:
    """The stranger signs second; what was collected comes back with it and is known already."""
    book = BOOKS[template]
    ours = convert(spend(3, book=book), version)
    first = signed_by(1, ours, book=book)

    theirs = from_foreign_psbt(ours, COSIGNERS[name](serialize(with_signatures(ours, first)), book.wallet))

    assert set(first) <= set(theirs)
    assert combined(ours, book, *first, *theirs)


@pytest.mark.parametrize(("name", "template"), [(n, t) for n, t, v in CASES if v == 0 and n != "bdk"])
def test_cosigner_given_our_psbt_in_the_other_version_is_understood(name: str, template: Template) -> None:
    """Our session is of version 0; the device gets version 2, and its signatures are over the same transaction."""
    book = BOOKS[template]
    ours = spend(2, book=book)

    theirs = from_foreign_psbt(ours, COSIGNERS[name](serialize(convert(ours, 2)), book.wallet))

    assert combined(ours, book, *theirs, *signed_by(0, ours, book=book))


@pytest.mark.parametrize("template", [*SEGWIT, Template.TR])
def test_bdk_given_one_signature_finalises_by_default_and_its_own_is_not_lost(template: Template) -> None:
    """It drops the partial signatures then; ours and its own are picked out of the witness and verified."""
    book = BOOKS[template]
    ours = spend(3, book=book)
    first = signed_by(1, ours, book=book)

    raw = sign_with_bdk(serialize(with_signatures(ours, first)), book.wallet, try_finalize=True)
    theirs = from_foreign_psbt(ours, raw)

    assert not any(said.partial_signatures or said.tap_signatures for said in parse(raw).inputs)
    assert len(theirs) == 6
    assert combined(ours, book, *first, *theirs)


@each_case
def test_cosigner_signs_deterministically_or_is_told_apart(name: str, template: Template, version: int) -> None:
    """A device that grinds for a shorter signature still signs validly; twice the same PSBT, twice the same bytes."""
    book = BOOKS[template]
    ours = convert(spend(2, book=book), version)

    once, again = (from_foreign_psbt(ours, COSIGNERS[name](serialize(ours), book.wallet)) for _ in range(2))

    assert once == again


def test_bdk_signs_tapscripts_with_the_same_bytes_as_we_do() -> None:
    """BIP-340 with zero aux on both sides: a nonce that differs would show."""
    book = BOOKS[Template.TR]
    ours = spend(3, book=book)

    assert from_foreign_psbt(ours, sign_with_bdk(serialize(ours), book.wallet)) == signed_by(THIRD, ours, book=book)


@pytest.mark.parametrize("template", [*SEGWIT, Template.TR])
def test_bdk_derives_our_addresses_from_the_same_descriptor(template: Template) -> None:
    """Both branches: a deposit address is the same in rust-bitcoin's wallet kit."""
    book = BOOKS[template]
    wallet = bdk_wallet(book.wallet)
    for branch, keychain in enumerate(KEYCHAINS):
        for index in (*range(20), 1_000):
            ours = address_of(book.script(branch, index).script, Network.REGTEST)
            assert str(wallet.peek_address(keychain, index).address) == ours


@pytest.mark.parametrize("template", SEGWIT)
def test_wally_derives_our_addresses_from_the_same_descriptor(template: Template) -> None:
    """The multipath descriptor itself, checksum included."""
    book = BOOKS[template]
    descriptor = wallycore.descriptor_parse(book.wallet.descriptor, None, wallycore.WALLY_NETWORK_BITCOIN_REGTEST, 0)
    for branch in (RECEIVE, CHANGE):
        for index in (*range(20), 1_000):
            ours = address_of(book.script(branch, index).script, Network.REGTEST)
            assert wallycore.descriptor_to_address(descriptor, 0, branch, index, 0) == ours


@pytest.mark.parametrize("template", Template)
def test_psbt_written_back_by_others_is_still_the_same_transaction(template: Template) -> None:
    """bdk, wally and embit read our PSBT and write it; our strict codec reads what each wrote."""
    book = BOOKS[template]
    ours = spend(2, book=book)
    raw = serialize(ours)
    written = {
        "bdk": base64.b64decode(bdkpython.Psbt(base64.b64encode(raw).decode()).serialize()),
        "wally": bytes(
            wallycore.psbt_to_bytes(wallycore.psbt_from_bytes(raw, wallycore.WALLY_PSBT_PARSE_FLAG_STRICT), 0)
        ),
        "embit": bytes(PSBT.parse(raw).serialize()),
    }

    for name, theirs in written.items():
        assert facts_of(parse(theirs), book) == facts_of(ours, book), name


def built_by_bdk(book: ScriptBook) -> bytes:
    """Return a PSBT that bdk builds over two coins of the wallet: it pays a stranger, with change of its own choice."""
    wallet = bdk_wallet(book.wallet)
    coins = [coin(at, RECEIVE, at, book=book) for at in range(2)]
    seen = [bdkpython.Transaction(one.previous.serialize()) for one in coins]
    wallet.reveal_addresses_to(bdkpython.KeychainKind.EXTERNAL, 5)
    wallet.apply_unconfirmed_txs([bdkpython.UnconfirmedTx(tx=tx, last_seen=1) for tx in seen])
    paid, fee = bdkpython.Amount.from_sat(COIN_SATS + PAID_SATS), bdkpython.Amount.from_sat(FEE_SATS)
    builder = bdkpython.TxBuilder().add_recipient(bdkpython.Script(STRANGER), paid).fee_absolute(fee)
    return base64.b64decode(builder.finish(wallet).serialize())


@pytest.mark.parametrize("template", [*SEGWIT, Template.TR])
def test_psbt_built_by_bdk_is_proven_signed_and_accepted(template: Template) -> None:
    """A client's own PSBT. In taproot bdk leaves previous transactions out, as BIP-371 lets it; we ask for them."""
    book = BOOKS[template]
    raw = RawPsbt.of(parse(built_by_bdk(book)))
    if template is Template.TR:
        assert getattr(read_facts(parse(raw.to_bytes()), book, ShapeLimits()), "code", "") == "PREVIOUS_MISSING"
        made = {one.outpoint.txid: one.previous for one in (coin(at, RECEIVE, at, book=book) for at in range(2))}
        for pairs, txin in zip(raw.inputs, parse(raw.to_bytes()).transaction.inputs, strict=True):
            pairs.insert(0, (b"\x00", made[txin.outpoint.txid].serialize()))
    theirs = parse(raw.to_bytes())

    facts = facts_of(theirs, book)

    assert (facts.fee_sats, [change.index for change in facts.change], len(facts.inputs)) == (FEE_SATS, [0], 2)
    assert combined(theirs, book, *signed_by(0, theirs, book=book), *signed_by(THIRD, theirs, book=book))
    returned = from_foreign_psbt(theirs, sign_with_bdk(serialize(theirs), book.wallet))
    assert combined(theirs, book, *returned, *signed_by(1, theirs, book=book))

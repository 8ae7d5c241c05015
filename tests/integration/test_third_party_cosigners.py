"""Other people's software holds the third key: same descriptor, our PSBT, their signature, one confirmed transaction.

Nothing of theirs is trusted: of the PSBT that comes back, signatures are read and verified, and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bdkpython as bdk
import pytest
import wallycore as wally

from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.port import TxState
from custody.address import address_of
from custody.errors import MalformedError
from custody.facts import Facts, ShapeLimits, read_facts
from custody.finalise import finalize
from custody.psbt import Psbt, from_base64, parse, serialize
from custody.scripts import Template
from custody.signatures import InputSignature, accept, from_foreign_psbt, sighashes, with_signatures
from custody.transaction import OutPoint, TxOut, parse_transaction
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import Network, ScriptBook, Wallet, make_wallet, parse_key, parse_wallet
from signer_node.backends.signing import sign_and_drop
from tests.fakes.cleared import ACCOUNT, ClearedInputs, descriptor_key
from tests.fakes.clock import FakeClock
from tests.fakes.rules import seed_of
from tests.fakes.spends import OPEN, p2wsh, spend_open

OURS, THEIRS = "ours", "theirs"
OURS_AT, THEIRS_AT = 0, 2
PAYEE = p2wsh(b"\x52")
PAYMENT_SATS, FEE_SATS = Sats(1_000_000), 3_000


def make_shared_wallet(template: Template = Template.WSH) -> Wallet:
    """Return a 2-of-3 whose third key is the peer's, through a trip of its descriptor as text."""
    keys = tuple(parse_key(descriptor_key(seed_of(name)), Network.REGTEST) for name in (OURS, "absent", THEIRS))
    return parse_wallet(make_wallet(2, keys, Network.REGTEST, template).descriptor, Network.REGTEST)


@dataclass(frozen=True)
class Peer:
    """A cosigner of another make. addresses: (branch, index) -> address.  sign: PSBT in, PSBT out, base64."""

    address: Callable[[int, int], str]
    sign: Callable[[str], str]


def bdk_peer(wallet: Wallet) -> Peer:
    """Return the peer that rust-bitcoin and BDK are."""
    master = wally.bip32_key_from_seed(seed_of(THEIRS), wally.BIP32_VER_TEST_PRIVATE, 0)
    account = wally.bip32_key_from_parent_path(master, ACCOUNT, wally.BIP32_FLAG_KEY_PRIVATE)
    private = wally.bip32_key_to_base58(account, wally.BIP32_FLAG_KEY_PRIVATE)
    body = wallet.descriptor.partition("#")[0].replace(wallet.keys[THEIRS_AT].xpub, private)
    branches = [bdk.Descriptor(body.replace("<0;1>", branch), bdk.NetworkKind.TEST) for branch in "01"]
    theirs = bdk.Wallet(branches[0], branches[1], bdk.Network.REGTEST, bdk.Persister.new_in_memory())
    keychains = (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)

    def sign(text: str) -> str:
        psbt = bdk.Psbt(text)
        options = bdk.SignOptions(
            trust_witness_utxo=False,
            assume_height=None,
            allow_all_sighashes=False,
            try_finalize=False,
            sign_with_tap_internal_key=False,
            allow_grinding=True,
        )
        theirs.sign(psbt, options)
        return str(psbt.serialize())

    return Peer(lambda branch, index: str(theirs.peek_address(keychains[branch], index).address), sign)


def wally_peer(wallet: Wallet) -> Peer:
    """Return the peer that libwally is."""
    master = wally.bip32_key_from_seed(seed_of(THEIRS), wally.BIP32_VER_TEST_PRIVATE, 0)

    def address(branch: int, index: int) -> str:
        parsed = wally.descriptor_parse(wallet.descriptor, None, wally.WALLY_NETWORK_BITCOIN_REGTEST, 0)
        return str(wally.descriptor_to_address(parsed, 0, branch, index, 0))

    def sign(text: str) -> str:
        psbt = wally.psbt_from_base64(text, wally.WALLY_PSBT_PARSE_FLAG_STRICT)
        wally.psbt_sign_bip32(psbt, master, wally.EC_FLAG_GRIND_R)
        return str(wally.psbt_to_base64(psbt, 0))

    return Peer(address, sign)


PEERS: dict[str, Callable[[Wallet], Peer]] = {"bdk": bdk_peer, "wally": wally_peer}
# libwally signs no tapscripts, rust-miniscript reads no sortedmulti_a.
TEMPLATES = [
    *[(name, template) for name in PEERS for template in (Template.WSH, Template.SH_WSH)],
    ("bdk", Template.TR),
]
each_peer = pytest.mark.parametrize(
    ("name", "template"), TEMPLATES, ids=[f"{name}-{template.name}" for name, template in TEMPLATES]
)


async def fund(chain: EmbeddedChain, book: ScriptBook, places: tuple[tuple[int, int], ...]) -> list[SpendableCoin]:
    """Return confirmed coins on `places` of the wallet, their previous transactions as the chain has them."""
    await chain.mine(len(places), OPEN)
    await chain.mine(100, p2wsh(b"\x51\x51"))
    for coin, place in zip(await chain.coins([OPEN]), places, strict=True):
        assert await chain.broadcast(spend_open(coin, 1_000, to=book.script(*place).script).serialize()) is None
    await chain.mine(1, p2wsh(b"\x51\x51"))
    found = {coin.script: coin for coin in await chain.coins([book.script(*place).script for place in places])}
    return [
        SpendableCoin(coin.outpoint, parse_transaction(coin.previous_raw), *place)
        for place in places
        for coin in [found[book.script(*place).script]]
    ]


def make_psbt(book: ScriptBook, coins: list[SpendableCoin]) -> Psbt:
    """Return a payment with change, as a coordinator drafts it, after a trip through its bytes."""
    total = sum(coin.previous.outputs[coin.outpoint.vout].amount for coin in coins)
    change = TxOut(Sats(total - PAYMENT_SATS - FEE_SATS), book.script(1, 7).script)
    return parse(serialize(build(book, coins, [TxOut(PAYMENT_SATS, PAYEE), change], [(1, 7)])))


def sign_ours(psbt: Psbt, facts: Facts, book: ScriptBook) -> tuple[InputSignature, ...]:
    """Return the signatures of our own node."""
    paths = tuple((fact.branch, fact.index) for fact in facts.inputs)
    pubkeys = tuple(book.script(*path).pubkeys[OURS_AT] for path in paths)
    cleared = ClearedInputs(sighashes(psbt, facts, book), paths, pubkeys)
    return sign_and_drop(lambda: bytearray(seed_of(OURS)), Network.REGTEST, cleared)


def base64_of(psbt: Psbt) -> str:
    """Return what a person carries to the other software."""
    return base64.b64encode(serialize(psbt)).decode()


@each_peer
def test_addresses_of_a_peer_with_the_same_descriptor_are_ours(name: str, template: Template) -> None:
    """Both derive the same scripts on both branches from one descriptor."""
    wallet = make_shared_wallet(template)
    peer, book = PEERS[name](wallet), ScriptBook(wallet)

    for place in ((0, 0), (0, 999), (1, 0), (1, 41)):
        assert peer.address(*place) == address_of(book.script(*place).script, Network.REGTEST)


@pytest.mark.parametrize("peer_first", [False, True], ids=["peer_second", "peer_first"])
@each_peer
async def test_withdrawal_with_a_third_party_cosigner_is_confirmed(
    name: str, template: Template, peer_first: bool, tmp_path: Path
) -> None:
    """Two inputs on two branches: build, export, they sign, import, verify, finalise, kernel, mempool, block."""
    wallet = make_shared_wallet(template)
    peer, book = PEERS[name](wallet), ScriptBook(wallet)
    async with await EmbeddedChain.open(tmp_path, FakeClock()) as chain:
        coins = await fund(chain, book, ((0, 3), (1, 0)))
        psbt = make_psbt(book, coins)
        facts = read_facts(psbt, book, ShapeLimits())
        assert isinstance(facts, Facts), facts

        mine = sign_ours(psbt, facts, book)
        exported = psbt if peer_first else with_signatures(psbt, mine)
        returned = from_foreign_psbt(psbt, from_base64(peer.sign(base64_of(exported))))
        accepted = accept(psbt, facts, book, (*returned, *mine))

        assert accepted.rejected == ()
        assert accepted.signed == {OURS_AT, THEIRS_AT}
        final = finalize(psbt, facts, book, accepted)
        assert final.unsigned().txid == facts.txid
        assert final.vsize_vb <= facts.vsize_vb
        spent = [TxOut(fact.amount_sats, fact.script) for fact in facts.inputs]
        assert await chain.check(final.serialize(), spent) is None
        assert await chain.broadcast(final.serialize()) is None
        await chain.mine(1, OPEN)
        assert (await chain.status(final.txid)).state is TxState.CONFIRMED
        (paid,) = await chain.coins([PAYEE])
        assert paid.amount_sats == PAYMENT_SATS


@pytest.mark.parametrize("name", PEERS)
def test_peer_asked_for_another_transaction_gives_nothing_we_count(name: str) -> None:
    """A true signature of the peer over another draft is refused as of another transaction."""
    wallet = make_shared_wallet()
    peer, book = PEERS[name](wallet), ScriptBook(wallet)
    script = book.script(0, 0).script
    funding = spend_open((OutPoint(bytes([9]) * 32, 0), 5_000_000), 0, to=script)
    coin = SpendableCoin(OutPoint(funding.txid, 0), funding, 0, 0)
    ours, other = (build(book, [coin], [TxOut(Sats(amount), PAYEE)]) for amount in (4_000_000, 3_999_999))

    returned = from_base64(peer.sign(base64_of(other)))

    with pytest.raises(MalformedError, match="FOREIGN_TRANSACTION"):
        from_foreign_psbt(ours, returned)
    facts = read_facts(ours, book, ShapeLimits())
    assert isinstance(facts, Facts)
    smuggled = accept(ours, facts, book, from_foreign_psbt(other, returned))
    assert [rejected.code for rejected in smuggled.rejected] == ["SIGNATURE_INVALID"]
    assert smuggled.rejected[0].key_index == THEIRS_AT

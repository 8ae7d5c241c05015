"""A wallet that comes after the genesis of `tests.world`, and voids, as honest and dishonest people sign them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from custody.canonical import encode
from custody.entries import Document as Named
from custody.entries import EntryKind
from custody.genesis import Genesis, GenesisWallet, Slot, with_endorsement
from custody.later_wallet import compose_wallet, read_later_wallet
from custody.statements import Kind, Signed, endorse
from custody.voiding import Void
from custody.wallet import Network, make_wallet, parse_key
from signer_node.seed import key_material
from tests.fakes.rules import NOW, seed_of
from tests.governing import ADMINS
from tests.world import NODES, World, bitcoin_seed, record_of

NAME = "vault"


def later_wallet(
    genesis: Genesis, *people: str, name: str = NAME, threshold: int = 3, nodes: Sequence[str] = NODES, **more: Any
) -> Signed:
    """Return the document of a wallet over `nodes`, signed by them and by `people` (the admins where none are given).

    unsigned: names of nodes that do not sign.  slots: others than those of the nodes.
    """
    slots = more.get("slots") or tuple(slot_of(node) for node in nodes)
    keys = tuple(parse_key(slot.key, Network.REGTEST) for slot in slots)
    wallet = make_wallet(threshold, keys, Network.REGTEST)
    signed = compose_wallet(genesis, GenesisWallet(name, wallet, tuple(slots)))
    signing = [node for node in nodes if node not in more.get("unsigned", ())]
    for signer in (*signing, *(people or ADMINS)):
        signed = with_endorsement(signed, endorse(Kind.WALLET, signed.raw, seed_of(signer)))
    return signed


def slot_of(node: str) -> Slot:
    """Return the slot of `node`, with the key that it has."""
    return Slot(key_material(bitcoin_seed(node), Network.REGTEST).key, node, record=record_of(node))


def wallet_in(signed: Signed, genesis: Genesis) -> GenesisWallet:
    """Return the wallet of a document."""
    return read_later_wallet(signed, genesis)


def void_of(genesis: Genesis, rules: bytes, *people: str, at: int = NOW) -> Signed:
    """Return the void of the document `rules` (its hash), signed by `people` (the admins where none are given)."""
    signed = Signed(Kind.VOID, encode(Void(genesis.hash, rules, at).to_json()), ())
    for name in people or ADMINS:
        signed = with_endorsement(signed, endorse(Kind.VOID, signed.raw, seed_of(name)))
    return signed


def log_document(world: World, signed: Signed) -> int:
    """Append a RULE entry that names `signed`; return its index."""
    return world.append(EntryKind.RULE, Named(signed.digest), signed)


def naming(signed: Signed, genesis: Genesis) -> dict[str, Any]:
    """Return the `wallets` of a rules document, of the genesis and of `signed`."""
    wallet = wallet_in(signed, genesis)
    known = {w.name: {"wallet_id": w.wallet.wallet_id.hex(), "classes": ["hot"]} for w in genesis.wallets}
    return {**known, wallet.name: {"wallet_id": wallet.wallet.wallet_id.hex(), "classes": ["cold"]}}

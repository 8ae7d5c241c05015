"""The root document: one valid genesis, one change, one exact code; who signed it; its twelve words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from custody.canonical import decode, encode
from custody.errors import MalformedError
from custody.genesis import (
    Genesis,
    GenesisWallet,
    KeyRecord,
    Purpose,
    Slot,
    check_signed,
    compose,
    node_identities,
    parse_genesis,
    read_key_record,
    with_endorsement,
)
from custody.statements import Kind, Signed, endorse, sign
from custody.wallet import Network, make_wallet, parse_key
from custody.words import word_rows, words
from signer_node.seed import key_material
from tests.fakes.rules import DAY, NOW, document, key_of, seed_of
from tests.world import NODES, bitcoin_seed, make_genesis, record_of

Document = dict[str, Any]
GENESIS = make_genesis()


def plain(genesis: Genesis = GENESIS) -> Document:
    """Return the document of `genesis` to be changed."""
    found = decode(encode(decode(genesis.signed.raw)))
    assert isinstance(found, dict)
    return found


def code_of(found: Document) -> str:
    """Return the code with which the document is refused, or OK."""
    try:
        parse_genesis(Signed(Kind.GENESIS, encode(found), ()))
    except MalformedError as error:
        return error.code
    return "OK"


def slot_of(node: str, by: str | None = None, **changes: Any) -> Slot:
    """Return the slot of `node` with a record that `by` signed and `changes` alter."""
    key = key_material(bitcoin_seed(node), Network.REGTEST).key
    said = {"node": node, "identity": key_of(node), "network": Network.REGTEST, "key": key, "made_at": NOW - DAY}
    record = KeyRecord(**{**said, **changes})
    return Slot(record.key, record.node, record=sign(Kind.RECORD, record.to_json(), seed_of(by or node)))


def composed(slots: tuple[Slot, ...], purpose: Purpose = Purpose.DEMO, threshold: int = 2, **rules: Any) -> Document:
    """Return the genesis document of a wallet over `slots`, its rules naming it."""
    keys = tuple(parse_key(slot.key, Network.REGTEST) for slot in slots)
    wallet = make_wallet(threshold, keys, Network.REGTEST)
    wallets = {"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": ["hot"]}}
    named = GenesisWallet("treasury", wallet, slots)
    signed = compose(purpose, Network.REGTEST, (named,), document(**{"wallets": wallets, **rules}))
    found = decode(signed.raw)
    assert isinstance(found, dict)
    return found


def roots(**changes: Any) -> Document:
    """Return the rules' roots with `changes`."""
    return {**document()["roots"], **changes}


def test_parse_genesis_given_what_was_composed_returns_it() -> None:
    """Wallet, slots and hash come back; the hash is of the bytes alone, whoever signed them."""
    again = parse_genesis(Signed(Kind.GENESIS, GENESIS.signed.raw, ()))

    assert (again.hash, again.wallets, again.policy) == (GENESIS.hash, GENESIS.wallets, GENESIS.policy)
    assert again.rules_document == encode(plain()["rules"])
    assert [GENESIS.wallets[0].key_index(node) for node in (*NODES, "nobody")] == [0, 1, 2, None]
    assert GENESIS.wallet(GENESIS.wallets[0].wallet.wallet_id) is GENESIS.wallets[0]
    assert GENESIS.wallet(bytes(32)) is None
    assert GENESIS.origin("money") == f"keyturn/{GENESIS.hash.hex()}/money"


def changed(change: Callable[[Document], object]) -> Document:
    """Return the valid document after `change`."""
    found = plain()
    change(found)
    return found


def _rules(found: Document, **changes: Any) -> None:
    found["rules"].update(changes)


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "an unknown field": (lambda d: d.update(note="hi"), "FIELD_UNKNOWN"),
    "a missing field": (lambda d: d.pop("purpose"), "FIELD_MISSING"),
    "another schema": (lambda d: d.update(schema="keyturn-genesis/2"), "GENESIS_SCHEMA"),
    "another purpose": (lambda d: d.update(purpose="trial"), "GENESIS_PURPOSE"),
    "an unknown network": (lambda d: d.update(network="testnet3"), "NETWORK"),
    "a demo on signet": (lambda d: d.update(network="signet"), "GENESIS_PURPOSE"),
    "no wallet": (lambda d: d.update(wallets=[]), "GENESIS_NO_WALLET"),
    "slots in another order": (lambda d: d["wallets"][0]["slots"].reverse(), "GENESIS_SLOT"),
    "a slot less": (lambda d: d["wallets"][0]["slots"].pop(), "GENESIS_SLOT"),
    "a slot of another node": (lambda d: d["wallets"][0]["slots"][0].update(node="beta"), "GENESIS_SLOT"),
    "rules of version 2": (lambda d: _rules(d, version=2, prev_hash="11" * 32), "GENESIS_RULES"),
    "rules of another network": (lambda d: _rules(d, network="signet", lists=[]), "GENESIS_RULES"),
    "a wallet the rules do not know": (lambda d: d["rules"]["wallets"].clear(), "GENESIS_RULES"),
    "a wallet id that is another's": (
        lambda d: d["rules"]["wallets"]["treasury"].update(wallet_id="00" * 32),
        "GENESIS_RULES",
    ),
    "a node the rules do not know": (lambda d: d["rules"]["roots"]["nodes"].pop(0), "GENESIS_NODE"),
    "a node with another identity": (
        lambda d: d["rules"]["roots"]["nodes"][0].update(identity="11" * 32),
        "GENESIS_NODE",
    ),
    "two witnesses needed of one": (lambda d: d["rules"]["roots"].update(w=2), "ROOTS_WITNESSES"),
    "no witness needed": (lambda d: d["rules"]["roots"].update(w=0), "ROOTS_WITNESSES"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parse_genesis_given_one_change_refuses(name: str) -> None:
    """One valid document, one change, one code."""
    change, code = CHANGES[name]
    assert code_of(changed(change)) == code


def test_parse_genesis_given_another_kind_refuses() -> None:
    """A signed statement of another kind is no genesis, whatever its bytes say."""
    with pytest.raises(MalformedError, match="STATEMENT_KIND"):
        parse_genesis(Signed(Kind.RULES, GENESIS.signed.raw, ()))


def test_parse_genesis_given_one_node_in_two_slots_refuses() -> None:
    """One node that holds two keys is one thief away from two signatures."""
    twice = slot_of("alpha", key=key_material(bitcoin_seed("other"), Network.REGTEST).key)

    assert code_of(composed((slot_of("alpha"), twice, slot_of("cold")))) == "GENESIS_NODE_TWICE"


def test_parse_genesis_given_two_nodes_of_one_identity_refuses() -> None:
    """Two names with one identity key are one machine."""
    slots = (slot_of("alpha"), slot_of("beta", by="alpha", identity=key_of("alpha")), slot_of("cold"))
    nodes = [
        {**node, "identity": key_of("alpha").hex()} if node["name"] == "beta" else node for node in roots()["nodes"]
    ]

    assert code_of(composed(slots, roots=roots(nodes=nodes))) == "POLICY_KEY_REUSED"


@pytest.mark.parametrize(
    ("count", "code"), [(1, "OK"), (2, "GENESIS_TOO_MANY_DECLARED"), (3, "GENESIS_TOO_MANY_DECLARED")]
)
def test_parse_genesis_given_m_keys_without_a_judge_refuses(count: int, code: str) -> None:
    """At most m - 1 keys may be held by what signs blindly."""
    slots = [slot_of(node) for node in NODES]
    for at in range(count):
        slots[at] = Slot(slots[at].key, None, admin="erin")

    assert code_of(composed(tuple(slots))) == code


@pytest.mark.parametrize(
    ("slot", "code"),
    [
        (slot_of("alpha", by="beta"), "RECORD_SIGNATURE"),
        (slot_of("alpha", network=Network.SIGNET), "GENESIS_SLOT"),
    ],
)
def test_parse_genesis_given_a_record_that_does_not_hold_refuses(slot: Slot, code: str) -> None:
    """A key record speaks for the node that signed it, on one network."""
    assert code_of(composed((slot, slot_of("beta"), slot_of("cold")))) == code


def test_read_key_record_given_another_kind_or_field_refuses() -> None:
    """A record is a record."""
    record = record_of("alpha")
    with pytest.raises(MalformedError, match="STATEMENT_KIND"):
        read_key_record(sign(Kind.STOP, decode(record.raw), seed_of("alpha")))
    with pytest.raises(MalformedError, match="FIELD_UNKNOWN"):
        read_key_record(sign(Kind.RECORD, {**decode(record.raw), "more": 1}, seed_of("alpha")))  # type: ignore[dict-item]


def production(f: int, w: int, total: int, **hosts: str) -> Document:
    """Return a production genesis with `total` witnesses; alpha and beta witness too."""
    witnesses = [{"name": f"witness-{at}", "key": key_of(f"witness {at}").hex()} for at in range(total)]
    nodes = []
    for at, node in enumerate(roots()["nodes"]):
        witnessing = {"witness_key": witnesses[at]["key"]} if node["location"] == "online" else {}
        nodes.append({**node, **witnessing, "host": hosts.get(node["name"], node["host"])})
    slots = tuple(slot_of(node) for node in NODES)
    return composed(slots, Purpose.PRODUCTION, roots=roots(witnesses=witnesses, w=w, f=f, nodes=nodes))


def test_parse_genesis_for_production_demands_f_against_colluding_nodes() -> None:
    """The least is min(m - 1, nodes that witness): of W = 4, w = 3, f = 1 stands, f = 0 does not."""
    assert code_of(production(f=1, w=3, total=4)) == "OK"
    assert code_of(production(f=0, w=3, total=4)) == "GENESIS_F"


def test_parse_genesis_for_production_refuses_m_keys_on_one_host() -> None:
    """One broken host must not sign alone; a demo may."""
    assert code_of(production(f=1, w=3, total=4, beta="host-alpha")) == "GENESIS_HOST"


def test_check_signed_given_all_signatures_passes_and_names_who_is_missing() -> None:
    """Every node slot and the admin quorum, each by its own key over these bytes."""
    check_signed(GENESIS)
    for missing in (*NODES, "erin"):
        kept = tuple(e for e in GENESIS.signed.endorsements if e.key != key_of(missing))
        with pytest.raises(MalformedError, match="GENESIS_UNSIGNED") as raised:
            check_signed(parse_genesis(Signed(Kind.GENESIS, GENESIS.signed.raw, kept)))
        assert missing in str(raised.value) or missing == "erin"


def test_check_signed_given_a_signature_of_another_document_refuses() -> None:
    """A node's signature under another genesis is none under this."""
    others = tuple(
        endorse(Kind.GENESIS, GENESIS.signed.raw + b" ", seed_of(name)) for name in (*NODES, "erin", "frank")
    )
    with pytest.raises(MalformedError, match="GENESIS_UNSIGNED"):
        check_signed(parse_genesis(Signed(Kind.GENESIS, GENESIS.signed.raw, others)))


def test_with_endorsement_given_the_same_key_twice_keeps_one() -> None:
    """Signing again adds no vote."""
    again = with_endorsement(GENESIS.signed, endorse(Kind.GENESIS, GENESIS.signed.raw, seed_of("alpha")))
    assert len(again.endorsements) == len(GENESIS.signed.endorsements)


def test_node_identities_names_each_node_of_a_slot() -> None:
    """By the records, which their own keys signed."""
    assert node_identities(GENESIS) == {node: key_of(node) for node in NODES}


def test_words_given_two_swapped_key_records_differ() -> None:
    """A coordinator that swaps two keys makes another document: the twelve words that people compare say so."""
    slots = [slot_of(node) for node in NODES]
    straight = parse_genesis(Signed(Kind.GENESIS, encode(composed(tuple(slots))), ()))
    swapped = parse_genesis(Signed(Kind.GENESIS, encode(composed((slots[1], slots[0], slots[2]))), ()))

    assert len(words(straight.hash)) == 12
    assert words(straight.hash) != words(swapped.hash)
    assert word_rows(straight.hash).count("\n") == 2

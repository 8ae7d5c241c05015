"""Who could bring back which keys alone, and which keys live in one place: pure checks over key records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.backups import MAX_BACKUPS, Backup, Form, Making, check_backups, check_places, make_backup
from custody.canonical import Json, decode, encode
from custody.errors import MalformedError
from custody.fields import Fields
from custody.genesis import Genesis, GenesisWallet, KeyRecord, Purpose, Slot, check_ceremony, compose, parse_genesis
from custody.statements import Kind, sign
from custody.wallet import Network, make_wallet, parse_key
from signer_node.seed import key_material
from tests.fakes.rules import NOW, PAY, document, key_of, seed_of
from tests.fakes.rules import node as listed
from tests.world import NODES, bitcoin_seed

MAKING = Making(("os", "dice:99"), 24, (), "machine 00", NOW, NOW, (Backup(Form.WORDS, ("anna",)),))


def made(*backups: Backup, place: str = "machine 00", knows: tuple[str, ...] = ()) -> Making:
    """Return a transcript."""
    return replace(MAKING, backups=backups, place=place, passphrase_holders=knows)


def words(*holders: str) -> Backup:
    """Return a sheet of words, one copy for each holder."""
    return Backup(Form.WORDS, holders)


def genesis(*makings: Making, purpose: Purpose = Purpose.DEMO, hosts: tuple[str, ...] = ("a", "b", "c")) -> Genesis:
    """Return an unsigned genesis of a 2-of-3 wallet whose keys were made so."""
    slots, nodes = [], []
    for name, making, host in zip(NODES, makings, hosts, strict=True):
        key = key_material(bitcoin_seed(name), Network.REGTEST).key
        record = KeyRecord(name, key_of(name), Network.REGTEST, key, NOW, making)
        slots.append(Slot(key, name, record=sign(Kind.RECORD, record.to_json(), seed_of(name))))
        nodes.append({**listed(name), "host": host})
    wallet = make_wallet(2, tuple(parse_key(slot.key, Network.REGTEST) for slot in slots), Network.REGTEST)
    rules = document(
        PAY,
        wallets={"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": []}},
        roots={**document()["roots"], "nodes": nodes, **({} if purpose is Purpose.DEMO else PRODUCTION)},
    )
    wallets = (GenesisWallet("treasury", wallet, tuple(slots)),)
    return parse_genesis(compose(purpose, Network.REGTEST, wallets, rules))


PRODUCTION = {
    "witnesses": [{"name": f"w{at}", "key": key_of(f"w{at}").hex()} for at in range(4)],
    "w": 3,
    "f": 1,
}
APART = tuple(f"machine {at}" for at in range(3))
FINE = tuple(made(words(name), place=place) for name, place in zip(("anna", "bert", "carl"), APART, strict=True))


def test_making_travels_in_the_record_and_reads_back() -> None:
    """What a ceremony did is part of what the node signs."""
    making = made(words("anna", "bert"), Backup(Form.SHARES, ("carl", "dora", "emil"), 2), knows=("fred",))
    assert Making.from_fields(Fields(decode(encode(making.to_json())), "making")) == making


BAD: dict[str, tuple[str, Json, str]] = {
    "form": ("form", "memory", "BACKUP_FORM"),
    "more needed than there are": ("needed", 3, "BACKUP_PARTS"),
    "words in two parts": ("needed", 2, "BACKUP_PARTS"),
    "no holder": ("holders", [], "BACKUP_PARTS"),
    "holder with blanks": ("holders", ["An Na"], "FIELD_NAME"),
}


@pytest.mark.parametrize("case", BAD)
def test_making_given_one_change_is_refused_with_its_code(case: str) -> None:
    """A backup that cannot be is no part of a record."""
    field, value, code = BAD[case]
    document: dict[str, Json] = {"form": "words", "holders": ["anna", "bert"], "needed": 1, field: value}
    told = {**MAKING.to_json(), "backups": [document]}  # type: ignore[dict-item]  # it is an object
    with pytest.raises(MalformedError) as refused:
        Making.from_fields(Fields(told, "making"))
    assert refused.value.code == code


@pytest.mark.parametrize("source", ["dice", "os:1", "dice:many", "rain:3", "coins:"])
def test_making_given_a_source_that_is_none_is_refused(source: str) -> None:
    """The machine, dice with their number, coins with their number."""
    with pytest.raises(MalformedError):
        Making.from_fields(Fields({**MAKING.to_json(), "sources": [source]}, "making"))  # type: ignore[dict-item]


def test_making_takes_only_so_many_backups() -> None:
    """A record stays small."""
    full = made(*[words("anna")] * MAX_BACKUPS)
    with pytest.raises(MalformedError, match="BACKUPS_MANY"):
        full.with_backup(words("anna"))


HOLDERS: dict[str, tuple[tuple[Making, ...], bool]] = {
    "each another": (FINE, True),
    "anna has two sheets": ((made(words("anna")), made(words("anna")), made(words("carl"))), False),
    "a copy is a sheet": ((made(words("bert", "anna")), made(words("anna")), made(words("carl"))), False),
    "one share of each": (
        tuple(made(make_backup(Form.SHARES, ("anna", "bert", name), 2)) for name in ("carl", "dora", "emil")),
        True,
    ),
    "two shares of each": (tuple(made(make_backup(Form.SHARES, ("anna", "anna", "bert"), 2)) for _ in NODES), False),
    "sheet here, sealed file there": (
        (made(words("anna")), made(Backup(Form.SEALED, ("anna",))), made(words("carl"))),
        False,
    ),
    "others know the passphrase": (tuple(made(words("anna"), knows=("bert",)) for _ in NODES), True),
    "anna knows the passphrase too": (tuple(made(words("anna"), knows=("bert", "anna")) for _ in NODES), False),
}


@pytest.mark.parametrize("case", HOLDERS)
def test_check_backups_refuses_m_keys_with_one_holder(case: str) -> None:
    """2 of 3: nobody may be able to bring back two, by whatever backups."""
    makings, is_fine = HOLDERS[case]
    refused = check_backups(genesis(*makings))
    assert (refused is None) is is_fine
    assert refused is None or refused.code == "BACKUPS_ONE_HOLDER"
    assert refused is None or refused.found.endswith(" with anna")


def test_genesis_for_production_with_m_backups_at_one_holder_parses_nowhere() -> None:
    """Every program that reads it refuses it; a demo may."""
    makings = tuple(made(words("anna"), place=place) for place in APART)
    with pytest.raises(MalformedError) as refused:
        genesis(*makings, purpose=Purpose.PRODUCTION)
    assert refused.value.code == "BACKUPS_ONE_HOLDER"
    assert genesis(*FINE, purpose=Purpose.PRODUCTION).purpose is Purpose.PRODUCTION


@pytest.mark.parametrize(
    ("places", "hosts", "code"),
    [
        (APART, ("a", "b", "c"), "OK"),
        (("machine 1", "machine 1", "machine 2"), ("a", "b", "c"), "KEYS_ONE_PLACE"),
        (("vault v:8200", "machine 1", "vault v:8200"), ("a", "b", "c"), "KEYS_ONE_PLACE"),
        (APART, ("a", "b", "a"), "KEYS_ONE_PLACE"),
    ],
)
def test_check_places_refuses_two_keys_of_one_wallet_in_one_place(
    places: tuple[str, ...], hosts: tuple[str, ...], code: str
) -> None:
    """One machine, one Vault, or one host by the rules: the ceremony goes no further."""
    makings = tuple(replace(making, place=place) for making, place in zip(FINE, places, strict=True))
    found = check_places(genesis(*makings, hosts=hosts))
    assert ("OK" if found is None else found.code) == code


def test_check_ceremony_lets_a_demo_stand_on_one_machine() -> None:
    """The demo runs on one machine and says so; production does not."""
    together = tuple(replace(making, place="machine 1") for making in FINE)
    check_ceremony(genesis(*together))
    with pytest.raises(MalformedError) as refused:
        check_ceremony(genesis(*together, purpose=Purpose.PRODUCTION))
    assert refused.value.code == "KEYS_ONE_PLACE"

"""Backup and recovery: every form brings the node back on a new machine, where it signs; nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyrage
import pytest

from custody.backups import Form
from custody.bundle import parse_answer
from custody.drill import read_drill
from custody.errors import CustodyError
from custody.genesis import (
    Genesis,
    GenesisWallet,
    Purpose,
    Slot,
    compose,
    parse_genesis,
    read_key_record,
    with_endorsement,
)
from custody.statements import Kind, Signed, endorse
from custody.wallet import Network, make_wallet, parse_key
from signer_node import ceremony, guided, recovery
from signer_node.backends import sealed_file
from signer_node.config import NodeConfig
from signer_node.offline import open_node
from signer_node.recovery import Place
from tests.fakes.clock import FakeClock
from tests.fakes.holder import Answer, Holder, last_back, making
from tests.fakes.rules import NOW, PAY, document, node, seed_of
from tests.integration.harness import CHEAP
from tests.unit.test_ceremony import config_of
from tests.world import World, record_of

FILE_PASSPHRASE = "a passphrase of the file"
IDENTITY = pyrage.x25519.Identity.generate()


@dataclass(frozen=True, slots=True)
class Lost:
    """A node that a ceremony made, and what was left of it: its record and its backups."""

    config: NodeConfig
    record: Signed
    holder: Holder
    home: Path

    @property
    def words(self) -> str:
        """The sheet."""
        return " ".join(self.holder.sheets[0])

    @property
    def shares(self) -> list[str]:
        """The three shares."""
        return [" ".join(sheet) for sheet in self.holder.sheets[1:]]

    def record_file(self) -> Path:
        """Write the record where a restore reads it."""
        path = self.home / "cold.record"
        path.write_bytes(self.record.to_bytes())
        return path


async def make(home: Path, passphrase: str = "", slip39: str = "") -> Lost:
    """Hold a ceremony with a backup of every form."""
    config = config_of("cold", home)
    more: list[tuple[str, Answer]] = [
        ("BIP-39 passphrase, empty for none", passphrase),
        ("The same again", passphrase or FILE_PASSPHRASE),
        ("BIP-39 passphrase: ", passphrase),
        ("Who knows the passphrase?", "anna"),
        *(("Another backup?", form) for form in ("age", "sealed", "shares")),
        ("age recipients", str(IDENTITY.to_public())),
        ("Who can open it?", "bert"),
        ("New file for it", str(home / "backup.age")),
        ("New file for it", str(home / "backup.sealed")),
        ("Passphrase of the file", FILE_PASSPHRASE),
        *((("The same again", FILE_PASSPHRASE),) if passphrase else ()),
        ("How many shares", "2 of 3"),
        ("Who keeps them?", "carl dora emil"),
        ("SLIP-39 passphrase", slip39),
        *((("The same again", slip39),) if slip39 else ()),
        ("Share ", last_back),
    ]
    holder = Holder(making(24, more=more))
    record = await guided.hold(config, holder, lambda: NOW, lambda size: bytes(range(7, 7 + size)))
    (home / "identity.age").write_text(f"# created by age-keygen\n{IDENTITY}\n")
    (home / "identity.age").chmod(0o600)
    return Lost(config, record, holder, home)


@pytest.fixture
async def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lost:
    """A node with a BIP-39 passphrase and shares under a passphrase of their own; sealing is cheap."""
    cheapen(monkeypatch)
    return await make(tmp_path, "über alles", "shares too")


def cheapen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal at little cost."""
    monkeypatch.setattr(sealed_file.keep_seed, "__defaults__", (CHEAP,))
    monkeypatch.setattr("signer_node.sealed_backup.USUAL", CHEAP)


def new_machine(lost: Lost) -> NodeConfig:
    """Return the configuration of a machine that replaces the lost one."""
    other = lost.home / "new"
    other.mkdir()
    return config_of("cold", other)


def place(lost: Lost, form: Form) -> Place:
    """Return the backup of `form`."""
    files = {Form.AGE: "backup.age", Form.SEALED: "backup.sealed"}
    return Place(form, lost.home / files[form] if form in files else None)


def answers(lost: Lost, **changes: Answer) -> Holder:
    """Return somebody with every backup at hand, but for `changes` (spaces as underscores)."""
    known: dict[str, Answer] = {
        "All words": lost.words,
        "BIP-39 passphrase": "u\u0308ber alles",  # typed decomposed: the same wallet (NFKD)
        "Share 1": lost.shares[2],
        "Share 2": lost.shares[0],
        "SLIP-39 passphrase": "shares too",
        "Passphrase of the file": FILE_PASSPHRASE,
        "Identity file of age": str(lost.home / "identity.age"),
    }
    return Holder(list({**known, **{key.replace("_", " "): value for key, value in changes.items()}}.items()))


def genesis_of(lost: Lost) -> Genesis:
    """Return a genesis over the records of alpha, beta and the lost node, signed by the admins and the other two."""
    records = [record_of("alpha"), record_of("beta"), lost.record]
    read = [read_key_record(record) for record in records]
    slots = tuple(Slot(found.key, found.node, record=record) for found, record in zip(read, records, strict=True))
    wallet = make_wallet(2, tuple(parse_key(slot.key, Network.REGTEST) for slot in slots), Network.REGTEST)
    listed = [
        {**node(found.node, location="offline" if found.node == "cold" else "online"), "identity": found.identity.hex()}
        for found in read
    ]
    rules = document(
        PAY,
        wallets={"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": ["hot"]}},
        roots={**document()["roots"], "nodes": listed},
    )
    signed = compose(Purpose.DEMO, Network.REGTEST, (GenesisWallet("treasury", wallet, slots),), rules)
    for name in ("alpha", "beta", "erin", "frank"):
        signed = with_endorsement(signed, endorse(Kind.GENESIS, signed.raw, seed_of(name)))
    return parse_genesis(signed)


async def signed_by(config: NodeConfig, genesis: Genesis, bundle: bytes) -> object:
    """Pin the genesis on a node and return its answer to a bundle."""
    await ceremony.pin(config, genesis, genesis.hash)
    return parse_answer((await open_node(config, FakeClock(NOW)).answer(bundle)).to_bytes()).outcome


@pytest.mark.parametrize("form", Form)
async def test_restore_from_each_form_gives_a_node_that_signs_as_before(lost: Lost, form: Form) -> None:
    """Words, shares, an age file, a sealed file: the same fingerprint, the same identity, the same signatures."""
    fresh = new_machine(lost)
    found = await recovery.restore(fresh, answers(lost), place(lost, form), lost.record_file())

    record = read_key_record(lost.record)
    assert record.key.startswith(f"[{found.fingerprint.hex()}/")
    assert ceremony.identity_seed(fresh) == ceremony.identity_seed(lost.config)
    unsigned = genesis_of(lost)
    genesis = parse_genesis(with_endorsement(unsigned.signed, await ceremony.sign_genesis(fresh, unsigned)))
    world = World(genesis)
    bundle = world.spend(world.withdrawal()).bundle(node="cold").to_bytes()
    outcome = await signed_by(fresh, genesis, bundle)
    assert isinstance(outcome, tuple)
    assert outcome == await signed_by(lost.config, genesis, bundle)


WRONG: dict[str, tuple[Form, Callable[[Lost], dict[str, Answer]], str]] = {
    "word": (Form.WORDS, lambda lost: {"All_words": lost.words.rpartition(" ")[0] + " zoo zoo"}, "MNEMONIC_LENGTH"),
    "order": (Form.WORDS, lambda lost: {"All_words": " ".join(lost.words.split()[::-1])}, "MNEMONIC_CHECKSUM"),
    "not a word": (
        Form.WORDS,
        lambda lost: {"All_words": lost.words.replace(lost.words.split()[3], "qqq")},
        "MNEMONIC_WORD",
    ),
    "passphrase": (Form.WORDS, lambda lost: {"BIP-39_passphrase": "uber alles"}, "BACKUP_FINGERPRINT"),
    "no passphrase": (Form.WORDS, lambda lost: {"BIP-39_passphrase": ""}, "BACKUP_FINGERPRINT"),
    "passphrase of shares": (Form.SHARES, lambda lost: {"SLIP-39_passphrase": "wrong"}, "BACKUP_FINGERPRINT"),
    "one share twice": (Form.SHARES, lambda lost: {"Share_2": lost.shares[2]}, "SHARES_TWICE"),
    "word of a share": (Form.SHARES, lambda lost: {"Share_1": lost.shares[2].replace(" ", " x", 1)}, "SHARE_WRONG"),
    "passphrase of a file": (Form.SEALED, lambda lost: {"Passphrase_of_the_file": "not this one"}, "SEAL_BROKEN"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_restore_given_one_wrong_part_refuses_with_its_code_and_keeps_nothing(lost: Lost, case: str) -> None:
    """Each mistake has its own word, repeats nothing that was typed, and leaves the new machine empty."""
    form, change, code = WRONG[case]
    fresh = new_machine(lost)
    with pytest.raises(CustodyError) as refused:
        await recovery.restore(fresh, answers(lost, **change(lost)), place(lost, form), lost.record_file())
    assert refused.value.code == code
    assert not any(word in str(refused.value).split() for word in lost.words.split() if len(word) > 4)
    assert not fresh.state.exists()


async def test_restore_of_an_age_file_with_another_identity_is_refused(lost: Lost) -> None:
    """A file sealed to others does not open; neither does one bit of damage."""
    (lost.home / "identity.age").write_text(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(CustodyError) as refused:
        await recovery.restore(new_machine(lost), answers(lost), place(lost, Form.AGE), lost.record_file())
    assert refused.value.code == "AGE_OTHER_KEY"


async def test_restore_onto_a_machine_with_a_key_is_refused(lost: Lost) -> None:
    """A key is never overwritten."""
    with pytest.raises(CustodyError) as refused:
        await recovery.restore(lost.config, answers(lost), place(lost, Form.WORDS), lost.record_file())
    assert refused.value.code == "FILE_EXISTS"


async def test_restore_given_the_record_of_another_node_is_refused(lost: Lost) -> None:
    """The record says which key must come out: it must be this node's."""
    fresh = replace(new_machine(lost), name="beta")
    with pytest.raises(CustodyError) as refused:
        await recovery.restore(fresh, answers(lost), place(lost, Form.WORDS), lost.record_file())
    assert refused.value.code == "RECORD_OTHER"


@pytest.mark.parametrize("form", [Form.WORDS, Form.SHARES])
async def test_drill_given_the_right_backup_is_signed_by_the_node(lost: Lost, form: Form) -> None:
    """Who showed which backup, when, and that it gave the key."""
    signed = recovery.drill(lost.config, answers(lost), place(lost, form), "anna", NOW + 1)

    found = read_drill(Signed.from_bytes(signed.to_bytes()))
    assert (found.node, found.form, found.holder, found.at) == ("cold", form, "anna", NOW + 1)
    assert signed.signed_by(read_key_record(lost.record).identity)


async def test_drill_given_another_key_is_no_drill(lost: Lost) -> None:
    """The words of another key are right words, and prove nothing."""
    other = "abandon " * 23 + "art"
    with pytest.raises(CustodyError) as refused:
        recovery.drill(lost.config, answers(lost, All_words=other), place(lost, Form.WORDS), "anna", NOW)
    assert refused.value.code == "BACKUP_FINGERPRINT"

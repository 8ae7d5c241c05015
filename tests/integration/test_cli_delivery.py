"""What nobody may withhold, by `keyturn` to a real coordinator and a real stand-alone witness, either of them away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.genesis import Genesis
from signer_node.witness_store import make_key
from tests.desk import Desk, Ran, desk, keyturn
from tests.fakes.rules import EXCHANGE, address
from tests.world import WITNESS_SEED

pytestmark = pytest.mark.slow
NOBODY = "127.0.0.1:1"
CONFIG = """
name = "witness"
listen = "127.0.0.1:0"
genesis = "{genesis}"
log_key = "{log_key}"
witness_key = "witness.ed25519"
state = "state"
[tls]
ca = "{ca}"
certificate = "witness.pem"
key = "witness.key"
"""


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for the module."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture(scope="module")
def witness(office: Desk) -> Iterator[str]:
    """A witness process under the key that the rules pin; where it listens."""
    home = office.directory / "stand-alone"
    home.mkdir()
    make_key(home / "witness.ed25519")
    (home / "witness.ed25519").write_text(WITNESS_SEED.hex() + "\n")
    office.ca.issue("witness", "witness", home, server=True)
    (home / "genesis.json").write_bytes(office.genesis.signed.to_bytes())
    (home / "witness.toml").write_text(_config(office.genesis, office.ca.certificate_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "signer_node", "witness", "--config", str(home / "witness.toml")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"]},
    )
    try:
        assert process.stdout is not None
        yield f"localhost:{json.loads(process.stdout.readline())['port']}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody comes back within these tests: waiting is short."""
    monkeypatch.setattr("console.cli.delivering.WAIT_SECONDS", 0.0)


def _config(genesis: Genesis, ca: Path) -> str:
    return CONFIG.format(genesis=genesis.hash.hex(), log_key=genesis.policy.roots.log_key.hex(), ca=ca)


def posting(office: Desk, person: str, witness: str, *arguments: str, away: bool = False) -> Ran:
    """Run `keyturn` by settings that name one witness; `away`: and a coordinator that does not answer."""
    settings = office.person(person)
    text = settings.read_text() + f'\n[[witnesses]]\nname = "witness"\naddress = "{witness}"\n'
    if away:
        text = text.replace(f"localhost:{office.server.port}", NOBODY)
    path = settings.with_name(f"posting-{away}.toml")
    path.write_text(text)
    return keyturn("--config", str(path), "-o", "json", *arguments, "--yes")


def propose(office: Desk, name: str, amount: int) -> str:
    """Hand in a withdrawal that waits for two people; return its digest."""
    to = f"{address(EXCHANGE)}={amount}"
    ran = office.keyturn("alice", "propose", "--to", to, "--id", name, "--yes", "-o", "json")
    assert ran.code == 0, ran.out
    digest: str = ran.json["digest"]
    return digest


def test_reject_posted_to_coordinator_and_witness_is_done(office: Desk, witness: str) -> None:
    """The coordinator stops it, the receipt of W - w + 1 = 1 witness proves that it cannot be kept back."""
    propose(office, "both", 20_000_001)
    ran = posting(office, "bob", witness, "reject", "both")
    assert ran.code == 0, ran.out + ran.err
    delivery = ran.json["delivery"]
    assert (ran.json["stage"], delivery["coordinator"], delivery["done"]) == ("rejected", "taken", True)
    assert delivery.get("receipts") == ["witness"] or delivery["logged_by"] == ["witness"]


def test_cancel_posted_to_coordinator_and_witness_is_done_and_after_a_release_is_posted_to_nobody(
    office: Desk, witness: str
) -> None:
    """Its initiator's stop is a stop like any other; a release that the log shows makes it useless, and it says so."""
    propose(office, "taken-back", 20_000_009)
    ran = posting(office, "alice", witness, "cancel", "taken-back")
    assert ran.code == 0, ran.out + ran.err
    delivery = ran.json["delivery"]
    assert (ran.json["stage"], delivery["coordinator"], delivery["done"]) == ("cancelled", "taken", True)
    assert delivery.get("receipts") == ["witness"] or delivery["logged_by"] == ["witness"]
    propose(office, "gone", 35_001)
    late = posting(office, "alice", witness, "cancel", "gone")
    assert late.code == 3, late.out + late.err
    assert late.json["error"] == "NEEDS_SUPERSEDE", late.out + late.err


def test_veto_while_the_coordinator_is_away_takes_a_whole_digest_unseen(office: Desk, witness: str) -> None:
    """A name needs the coordinator, a digest does not: the witness holds the stop."""
    digest = propose(office, "hidden", 20_000_002)
    named = posting(office, "dave", witness, "veto", "hidden", away=True)
    assert (named.code, named.json["error"]) == (5, "UNAVAILABLE")
    ran = posting(office, "dave", witness, "veto", digest, away=True)
    assert ran.code == 0, ran.out + ran.err
    assert "does not show withdrawal" in ran.err
    assert (ran.json["digest"], ran.json["delivery"]["receipts"]) == (digest, ["witness"])
    assert (ran.json["delivery"]["coordinator"], ran.json["delivery"]["missing"]) == ("UNAVAILABLE", 0)


def test_veto_that_only_the_coordinator_took_says_how_many_receipts_are_missing(office: Desk) -> None:
    """Nothing is claimed to be done: the log's witness is away, and so is the one to post to."""
    propose(office, "alone", 20_000_003)
    office.organisation.witness.is_away = True
    try:
        ran = posting(office, "dave", NOBODY, "veto", "alone")
    finally:
        office.organisation.witness.is_away = False
    assert ran.code == 0, ran.out + ran.err
    assert (ran.json["delivery"]["done"], ran.json["delivery"]["missing"]) == (False, 1)
    assert "NOT done: 1 of 1 receipts missing" in ran.err


def test_veto_that_nobody_took_is_unavailable(office: Desk) -> None:
    """Exit code 5, and who did not take it."""
    ran = posting(office, "dave", NOBODY, "veto", "ab" * 32, away=True)
    assert (ran.code, ran.json["error"]) == (5, "NOT_DELIVERED")
    assert "1 of 1 receipts missing; 127.0.0.1:1: UNAVAILABLE" in ran.json["message"]


def test_doctor_given_a_witness_that_the_rules_do_not_pin_is_wrong(office: Desk, witness: str) -> None:
    """The name in the settings is one of the rules."""
    fine = office.person("dave").with_name("fine.toml")
    fine.write_text(office.person("dave").read_text() + f'\n[[witnesses]]\nname = "witness"\naddress = "{witness}"\n')
    assert keyturn("--config", str(fine), "doctor").code == 0
    fine.write_text(fine.read_text().replace('"witness"', '"stranger"'))
    ran = keyturn("--config", str(fine), "doctor")
    assert (ran.code, "WITNESS_UNKNOWN" in ran.out) == (1, True)


def test_freeze_and_unfreeze_reach_the_witness_past_a_coordinator_that_is_away(
    office: Desk, witness: str, tmp_path: Path
) -> None:
    """The freeze is held outside; the coordinator, back, takes the lifting that two admins signed, once it has one."""
    ran = posting(office, "dave", witness, "freeze", away=True)
    assert ran.code == 0, ran.out + ran.err
    assert (ran.json["delivery"]["receipts"], "freezes" in ran.json) == (["witness"], False)
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    freeze_id = ran.json["freeze_id"]
    for person, arguments in (
        ("erin", ["--freeze", freeze_id, "--out", str(one)]),
        ("frank", [str(one), "--out", str(two)]),
    ):
        signed = office.keyturn(person, "unfreeze", "sign", *arguments, "--yes", role="admin")
        assert signed.code == 0, signed.err
    settings = office.person("erin", "admin")
    text = settings.read_text().replace(f"localhost:{office.server.port}", NOBODY)
    path = settings.with_name("posting.toml")
    path.write_text(text + f'\n[[witnesses]]\nname = "witness"\naddress = "{witness}"\n')
    lifted = keyturn("--config", str(path), "-o", "json", "unfreeze", "submit", str(two))
    assert lifted.code == 0, lifted.out + lifted.err
    assert lifted.json["delivery"]["receipts"] == ["witness"]
    few = keyturn("--config", str(path), "-o", "json", "unfreeze", "submit", str(one))
    assert (few.code, few.json["error"]) == (3, "UNFREEZE_QUORUM")

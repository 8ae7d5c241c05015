"""`keyturn message` against a real coordinator with real nodes: from a text to a proof that the kernel takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custody.address import address_of
from custody.wallet import Network
from tests.desk import Desk, desk
from tests.fakes.rules import rule
from tests.integration.harness import RULES
from tests.official import proof_holds

pytestmark = pytest.mark.slow
SPEAK = rule("speak", "allow", {"message": {"max_len": 200}}, operations=["message"])
ASK = rule("ask", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}, operations=["message"])
COLD = rule(
    "cold-funds",
    "require",
    {"message": {"formats": ["funds"]}},
    {"signers": {"min_offline": 1}},
    operations=["message"],
)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation whose rules speak of messages."""
    with desk(tmp_path_factory.mktemp("desk"), *RULES, SPEAK, ASK, COLD) as found:
        yield found


def propose(office: Desk, name: str, text: str, *more: str) -> Any:
    """Ask for a message as alice; return what was said."""
    ran = office.keyturn("alice", "message", "propose", "--text", text, "--id", name, "--yes", "-o", "json", *more)
    return ran.json | {"code": ran.code}


def shown(office: Desk, digest: str) -> Any:
    """Return a message as bob sees it."""
    return office.keyturn("bob", "message", "show", digest, "-o", "json").json


def address(office: Desk, index: int = 0) -> str:
    """Return a deposit address of the treasury."""
    return address_of(office.book.script(0, index).script, Network.REGTEST)


def test_message_from_propose_to_a_proof_that_holds(office: Desk, tmp_path: Path) -> None:
    """Asked by alice, read and approved by bob, signed by two nodes; the proof is BIP-322 for everybody."""
    text = "Keyturn holds this address. 2026-11-25"
    asked = propose(office, "first", text, "--index", "3")
    assert (asked["stage"], asked["missing"][0]["of"]) == ("approving", "group ops")
    page = office.keyturn("bob", "message", "approve", asked["digest"][:12], typed="yes\n")
    assert (page.code, f"| {text}" in page.out, "it spends nothing" in page.out) == (0, True, True)
    office.settle()

    found = shown(office, asked["digest"])
    assert (found["stage"], found["signed_by"] or True, found["proof_holds"]) == ("signed", True, True)
    assert proof_holds(address(office, 3), text, found["proof"], False, Network.REGTEST)
    assert office.keyturn("bob", "message", "show", asked["digest"], "--out", str(tmp_path / "proof")).code == 0
    assert (tmp_path / "proof").read_text() == found["proof"] + "\n"
    listed = office.keyturn("bob", "message", "list")
    assert "alice/first" in listed.out


def test_proof_of_funds_goes_through_the_cold_node_first(office: Desk, tmp_path: Path) -> None:
    """All coins of the wallet in one proof: carried to the offline node as a file, and back, before an online one."""
    asked = propose(office, "funds", "Proof of reserves", "--format", "funds")
    assert asked["code"] == 0, asked
    assert len(asked["message"]["coins"]) > 1
    assert office.keyturn("bob", "message", "approve", asked["digest"], "--yes").code == 0
    office.settle()
    assert shown(office, asked["digest"])["stage"] == "signing"

    bundle = tmp_path / "cold.bundle"
    ran = office.keyturn("ops", "message", "export", asked["digest"], "--node", "cold", "--out", str(bundle))
    assert ran.code == 0, ran.err
    answer = office.do(office.organisation.nodes["cold"].answer(bundle.read_bytes()))
    (tmp_path / "cold.answer").write_bytes(answer.to_bytes())
    ran = office.keyturn("ops", "-o", "json", "message", "import", str(tmp_path / "cold.answer"))
    assert (ran.code, ran.json["signed_by"]) == (0, ["cold"])
    office.settle()

    found = shown(office, asked["digest"])
    assert (found["stage"], found["proof_holds"], found["proof"][:3]) == ("signed", True, "pof")
    assert proof_holds(address(office), "Proof of reserves", found["proof"], False, Network.REGTEST)


def test_rejected_message_is_signed_by_nobody(office: Desk) -> None:
    """One no ends it for ever, and stands in the log that signers follow."""
    asked = propose(office, "no", "We owe nobody")
    assert office.keyturn("bob", "message", "reject", asked["digest"], "--yes").code == 0
    office.settle()
    found = shown(office, asked["digest"])
    assert (found["stage"], found["ended"], found["proof"]) == ("ended", "REJECTED", "")
    assert office.keyturn("carol", "message", "approve", asked["digest"], "--yes").code in (0, 3)
    office.settle()
    assert shown(office, asked["digest"])["stage"] == "ended"


@pytest.mark.parametrize(
    ("text", "more", "code"),
    [
        ("x" * 201, (), "NO_RULE_ALLOWS"),
        ("hello", ("--format", "legacy"), "MESSAGE_FORMAT"),
        ("abandon " * 11 + "about", (), "SECRET_IN_ARGUMENT"),
    ],
)
def test_message_that_may_not_be_is_refused_with_its_code(
    office: Desk, text: str, more: tuple[str, ...], code: str
) -> None:
    """Rules, forms, and seed words in the text."""
    said = propose(office, f"bad-{code.lower().replace('_', '-')}", text, *more)
    assert (said["code"] != 0, said["error"]) == (True, code)


def test_same_id_for_another_message_is_refused_and_the_same_again_is_one(office: Desk) -> None:
    """A message's own name has one digest."""
    first = propose(office, "twice", "one text")
    assert first["created"] is True
    other = propose(office, "twice", "another text")
    assert other["error"] == "MESSAGE_ID_TAKEN"


def test_approval_by_the_initiator_is_refused_before_it_is_sent(office: Desk) -> None:
    """Nobody agrees to his own message."""
    asked = propose(office, "own", "my own word")
    ran = office.keyturn("alice", "message", "approve", asked["digest"], "--yes")
    assert (ran.code, "APPROVAL_SELF" in ran.err) == (3, True)


def test_log_with_messages_verifies_offline(office: Desk, tmp_path: Path) -> None:
    """Entries, stops and events of messages are part of an export that holds."""
    asked = propose(office, "audited", "for the auditor")
    assert office.keyturn("bob", "message", "approve", asked["digest"], "--yes").code == 0
    refused = propose(office, "not-audited", "not for the auditor")
    assert office.keyturn("bob", "message", "reject", refused["digest"], "--yes").code == 0
    office.settle()

    assert office.keyturn("bob", "audit", "export", "--out", str(tmp_path / "export")).code == 0
    ran = office.keyturn("bob", "audit", "verify", str(tmp_path / "export"))
    assert ran.code == 0, ran.out + ran.err
    assert asked["digest"] in (tmp_path / "export").read_text()

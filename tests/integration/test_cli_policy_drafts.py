"""policy simulate against a real coordinator: a draft judged over what was really released."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.policy.text import write_text
from custody.canonical import decode
from tests.desk import Desk, desk
from tests.fakes.rules import EXCHANGE, SUPPLIER, address, rule

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation with two releases in its log."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        for name, payee, amount in (("listed", EXCHANGE, 40_000), ("stranger", SUPPLIER, 41_000)):
            ran = found.keyturn("alice", "propose", "--to", f"{address(payee)}={amount}", "--id", name, "--yes")
            assert ran.code == 0, ran.err
            found.settle()
        yield found


def draft(office: Desk, path: Path, **more: Any) -> Path:
    """Write the rules in force with one more rule to `path`."""
    found = json.loads(json.dumps(decode(office.genesis.rules_document)))
    known = {"destination": {"addresses": [address(EXCHANGE)]}}
    found["rules"].append(rule("known", "deny", {"not": known}, **more))
    path.write_text(write_text(found))
    return path


def test_simulate_given_a_stricter_draft_says_what_it_would_have_denied(office: Desk, tmp_path: Path) -> None:
    """One of two releases went to a stranger; the table and the picture name the rule and the amount."""
    picture = tmp_path / "trial.svg"
    found = draft(office, tmp_path / "draft.yaml")

    ran = office.keyturn("alice", "policy", "simulate", str(found), "--plot", str(picture), "-o", "json")
    words = office.keyturn("alice", "policy", "simulate", str(found), "--days", "3")

    assert ran.code == 0, ran.err
    assert [(c["before"], c["after"], c["by"], c["count"]) for c in ran.json["changes"]] == [
        ("allowed", "denied", "known", 1)
    ]
    assert {r["withdrawal_id"]: r["draft"]["verdict"] for r in ran.json["releases"]} == {
        "listed": "allowed",
        "stranger": "denied",
    }
    assert "2 releases, 1 of them judged otherwise" in picture.read_text()
    assert "2 releases in 3 days, 1 judged otherwise" in words.out
    assert office.keyturn("alice", "policy", "simulate", str(found), "--plot", str(picture)).code == 3  # FILE_EXISTS


def test_simulate_given_a_shadow_rule_says_that_nothing_changes(office: Desk, tmp_path: Path) -> None:
    """A draft that decides nothing new."""
    ran = office.keyturn("alice", "policy", "simulate", str(draft(office, tmp_path / "d.yaml", mode="shadow")))

    assert (ran.code, "the draft changes none of them" in ran.out) == (0, True)


def test_lint_given_a_pinned_genesis_asks_where_keys_stand(office: Desk, tmp_path: Path) -> None:
    """Two of the three nodes named on one host reach m = 2."""
    found = json.loads(json.dumps(decode(office.genesis.rules_document)))
    for node in found["roots"]["nodes"][:2]:
        node["host"] = "one-box"
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(found))

    ran = office.keyturn("alice", "policy", "lint", str(path), "-o", "json")

    assert ran.code == 3
    assert ("HOST_ALONE", "treasury") in [(f["code"], f["where"]) for f in ran.json["findings"]]

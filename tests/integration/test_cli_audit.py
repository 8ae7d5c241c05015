"""`keyturn audit` and the history of a withdrawal, against a real coordinator: fetched, verified, cut out, damaged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk import Desk, desk
from tests.integration.test_cli import propose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for the module; each test uses withdrawals of its own."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


def test_audit_from_export_to_verdict(office: Desk, tmp_path: Path) -> None:
    """Never a bare OK without something from outside; every kind of damage has its exit code."""
    out, known, later = tmp_path / "export.jsonl", tmp_path / "known.txt", tmp_path / "later.txt"
    assert office.keyturn("alice", "audit", "checkpoint", "--out", str(known)).code == 0
    assert office.keyturn("alice", "audit", "export", "--out", str(out)).code == 0
    alone = office.keyturn("alice", "audit", "verify", str(out))
    assert (alone.code, alone.out.startswith("as of size ")) == (0, True)
    assert "OK" not in alone.out
    anchored = office.keyturn("alice", "audit", "verify", str(out), "--known", str(known))
    assert (anchored.code, anchored.out.splitlines()[0]) == (0, "OK")
    by_hash = office.keyturn("zoe", "audit", "verify", str(out), "--genesis", office.genesis.hash.hex(), "-o", "json")
    assert (by_hash.code, by_hash.json["verdict"]) == (0, "OK")
    assert office.keyturn("alice", "audit", "verify", str(out), "--genesis", "00" * 32).code == 11
    flipped = bytearray(out.read_bytes())
    flipped[len(flipped) // 3] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    assert office.keyturn("alice", "audit", "verify", str(tmp_path / "flipped")).code == 11
    (tmp_path / "cut").write_bytes(out.read_bytes()[:-40])
    assert office.keyturn("alice", "audit", "verify", str(tmp_path / "cut")).code == 10
    propose(office, "after-export", 38_000)
    office.settle()
    assert office.keyturn("alice", "audit", "checkpoint", "--out", str(later)).code == 0
    assert office.keyturn("alice", "audit", "verify", str(out), "--known", str(later)).code in (10, 13)
    assert office.keyturn("alice", "audit", "export", "--out", str(out)).code == 3


def test_audit_table_and_evidence_from_an_export(office: Desk, tmp_path: Path) -> None:
    """Filters, a ZIP that proves itself under the pinned genesis, and nothing at all out of a damaged export."""
    out, table, zipped = tmp_path / "export.jsonl", tmp_path / "table.csv", tmp_path / "evidence.zip"
    digest = propose(office, "audited", 38_100)
    office.settle()
    assert office.keyturn("alice", "audit", "export", "--out", str(out)).code == 0
    ran = office.keyturn("alice", "audit", "csv", str(out), "--wallet", "treasury", "--person", "alice")
    assert (ran.code, ran.out.startswith("withdrawal,withdrawal_id,"), f"{digest},audited" in ran.out) == (
        0,
        True,
        True,
    )
    late = office.keyturn("alice", "audit", "csv", str(out), "--from", "2999-01-01", "--out", str(table), "-o", "json")
    assert (late.code, late.json["rows"], table.read_text().count("\n")) == (0, 0, 1)
    assert office.keyturn("alice", "audit", "csv", str(out), "--wallet", "other").code == 4
    assert office.keyturn("alice", "audit", "csv", str(out), "--to", "yesterday").code == 2
    made = office.keyturn("alice", "audit", "evidence", str(out), "alice/audited", "--out", str(zipped))
    assert made.code == 0, made.err
    proven = office.keyturn("alice", "audit", "check-evidence", str(zipped))
    assert (proven.code, proven.out.splitlines()[0]) == (0, f"OK: withdrawal {digest}")
    assert office.keyturn("alice", "audit", "check-evidence", str(zipped), "--genesis", "00" * 32).code == 11
    assert office.keyturn("alice", "audit", "evidence", str(out), "nothing", "--out", str(tmp_path / "x")).code == 4
    (tmp_path / "cut").write_bytes(out.read_bytes()[:-40])
    for arguments in (["csv"], ["evidence", "audited", "--out", str(tmp_path / "y")]):
        name, *rest = arguments
        damaged = office.keyturn("alice", "audit", name, str(tmp_path / "cut"), *rest)
        assert (damaged.code, "TRUNCATED" in damaged.out) == (10, True)
    assert not (tmp_path / "y").exists()


def test_show_history_comes_from_the_event_log(office: Desk) -> None:
    """What happened, in order; without the option nothing of it; of an unknown withdrawal nothing either."""
    propose(office, "storied", 38_200)
    office.settle()
    told = office.keyturn("alice", "show", "storied", "--history", "-o", "json").json
    kinds = [event["kind"] for event in told["history"]]
    assert kinds[0] == "withdrawal.proposed"
    assert {"withdrawal.released", "signature.accepted", "transaction.broadcast"} <= set(kinds)
    times = [event["time"] for event in told["history"]]
    assert (times == sorted(times), told["history_whole"]) == (True, True)
    assert "withdrawal.released by " in office.keyturn("alice", "show", "storied", "--history").out
    assert "history" not in office.keyturn("alice", "show", "storied", "-o", "json").json
    assert office.keyturn("alice", "show", "alice/untold", "--history").code == 4

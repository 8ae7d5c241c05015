"""Papers out of an export whose log is genuine and left the rules: written all the same, and the exit code says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from custody.audit import Checkpoint, Frontier, Log, cosign, leaf_hash, sign_checkpoint, with_lines, write_export
from custody.entries import Body, EntryKind, parse_entry
from custody.statements import Signed
from tests.desk import keyturn
from tests.unit.test_replay import GENESIS, VIOLATIONS, Recorded, by_a_stranger
from tests.world import LOG_SEED, WITNESS_SEED, World


class Rooted(World):
    """A world whose money entries name the root of no events, as a verifier computes it."""

    def append(self, kind: EntryKind, body: Body, *statements: Signed) -> int:
        """See `World`."""
        index = super().append(kind, body, *statements)
        entries = (replace(parse_entry(raw), event_root=Frontier().root) for raw in self.entries)
        self.entries[:] = [entry.to_bytes() for entry in entries]
        self._tree, self._followed = Frontier(), None  # what was built over the entries as they were
        self._tree, self._followed = Frontier(), None
        self.covering = self.cosigned()
        return index


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export, signed by the log and its witness, of a payment that only its initiator approved."""
    log = Recorded(Rooted(GENESIS))
    by_a_stranger(log)
    found, tree = log.export(), Frontier()
    for raw in log.events:
        tree = tree.append(leaf_hash(raw))
    note = sign_checkpoint(Checkpoint(GENESIS.origin("event"), tree.size, tree.root), LOG_SEED)
    note = with_lines(note, [cosign(note, "witness", WITNESS_SEED, log.world.now)])
    checkpoints = {**found.checkpoints, Log.EVENT: note}
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(write_export(GENESIS.signed, found.entries, found.bodies.values(), checkpoints)))
    return path


def test_audit_csv_of_a_log_that_left_the_rules_is_written_with_its_exit_code(export: Path, tmp_path: Path) -> None:
    """The table is wanted most then."""
    out = tmp_path / "table.csv"
    ran = keyturn("audit", "csv", str(export), "--out", str(out), "--genesis", GENESIS.hash.hex())
    assert (ran.code, VIOLATIONS[by_a_stranger] in ran.err) == (15, True), ran
    assert out.read_text().count("\n") == 2


def test_audit_evidence_of_a_withdrawal_that_left_the_rules_says_so_by_itself(export: Path, tmp_path: Path) -> None:
    """Made with exit code 15, and checked with exit code 15."""
    out, trusted = tmp_path / "evidence.zip", ["--genesis", GENESIS.hash.hex()]
    made = keyturn("audit", "evidence", str(export), "w-1", "--out", str(out), *trusted)
    assert (made.code, out.exists()) == (15, True), made
    ran = keyturn("audit", "check-evidence", str(out), *trusted)
    assert (ran.code, VIOLATIONS[by_a_stranger] in ran.out) == (15, True), ran


def test_audit_csv_given_another_genesis_writes_nothing(export: Path, tmp_path: Path) -> None:
    """What the pinned keys do not prove is nobody's table."""
    out = tmp_path / "table.csv"
    ran = keyturn("audit", "csv", str(export), "--out", str(out), "--genesis", "00" * 32)
    assert (ran.code, out.exists()) == (11, False)

"""The verifier of an export: an honest one is OK, and each change is named."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.audit import ExportError, ExportKeys, Log, Verdict, VerdictKind, genesis_of, verify_export, write_export
from custody.entries import Document, EntryKind
from custody.errors import CustodyError
from custody.statements import Kind, Signed, sign
from tests.fakes.audit_log import ADMIN_SEED, GENESIS, START, FakeLog, small_log

HONEST = small_log(witness_count=3, w=2)
RAW = HONEST.export()
LINES = RAW.splitlines(keepends=True)


def verdict_of(raw: bytes, known: str | None = None) -> Verdict:
    """Return what the verifier says with the honest log's pins."""
    return verify_export(raw, HONEST.keys, known)


def test_verify_given_honest_export_is_ok_as_of_its_size_and_time() -> None:
    """Ten entries of two logs verify, and the verdict says as of which size and witnessed time."""
    verdict = verdict_of(RAW)

    assert str(verdict) == "OK"
    assert (verdict.size, verdict.event_size, verdict.time) == (7, 3, START + 41)
    assert not verdict.anchored


def test_verify_given_known_checkpoint_is_anchored() -> None:
    """An older checkpoint of either log, held by the verifier, anchors the verdict."""
    assert verdict_of(RAW, HONEST.cosigned(Log.MONEY, size=4)).anchored
    assert verdict_of(RAW, HONEST.cosigned(Log.EVENT, size=2)).anchored


def changed(number: int, old: bytes, new: bytes) -> bytes:
    """Return the export with one change in one line, counted from 1."""
    lines = list(LINES)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    return b"".join(lines)


def without(number: int) -> bytes:
    """Return the export without one line, counted from 1."""
    return b"".join(LINES[: number - 1] + LINES[number:])


def swapped(first: int) -> bytes:
    """Return the export with a line and its follower exchanged."""
    lines = list(LINES)
    lines[first - 1], lines[first] = lines[first], lines[first - 1]
    return b"".join(lines)


CHANGES: dict[str, tuple[Callable[[], bytes], str, int]] = {
    "empty": (lambda: b"", "TRUNCATED", 1),
    "cut_inside_a_line": (lambda: RAW[:-10], "TRUNCATED", 18),
    "cut_after_entries": (lambda: b"".join(LINES[:11]), "TRUNCATED", 12),
    "another_genesis": (lambda: changed(1, b"regtest", b"mainnet"), "MODIFIED", 1),
    "money_entry": (lambda: changed(3, b'"kind":"WITNESS"', b'"kind":"RULE"'), "MODIFIED(1)", 3),
    "leaf": (lambda: changed(4, b'"leaf":"', b'"leaf":"0'), "MODIFIED(2)", 4),
    "event": (lambda: changed(10, b"ops-1", b"ops-2"), "MODIFIED(1)", 10),
    "spaces": (lambda: changed(10, b",", b", "), "MODIFIED(1)", 10),
    "entry_removed": (lambda: without(4), "MODIFIED(2)", 4),
    "entries_swapped": (lambda: swapped(4), "MODIFIED(2)", 4),
    "last_event_removed": (lambda: without(11), "TRUNCATED(2)", 11),
    "body": (lambda: changed(12, b"text", b"test"), "MODIFIED", 12),
    "bodies_swapped": (lambda: swapped(12), "MODIFIED", 13),
    "checkpoint_removed": (lambda: without(17), "MODIFIED", 17),
    "checkpoint_size": (lambda: changed(17, b"\\n7\\n", b"\\n6\\n"), "UNSIGNED", 17),
    "checkpoint_signer": (lambda: changed(17, "— witness-0".encode(), "— witness-9".encode()), "MODIFIED", 17),
    "line_added": (lambda: RAW + LINES[-1], "MODIFIED", 19),
}


@pytest.mark.parametrize("change", CHANGES)
def test_verify_given_one_change_names_it(change: str) -> None:
    """An export that is honest but for one change gets that change's verdict and line."""
    make, name, line = CHANGES[change]

    verdict = verdict_of(make())

    assert (str(verdict), verdict.line) == (name, line)


def test_verify_given_pruned_event_body_is_ok_and_counts_it() -> None:
    """A statement that only an event names may be pruned; a money entry's may not."""
    log = small_log()
    log.bodies = log.bodies[1:]

    verdict = verify_export(log.export(), log.keys)

    assert (str(verdict), verdict.pruned) == ("OK", 1)


def test_verify_given_missing_money_body_names_its_entry() -> None:
    """A statement that a money entry names may never be missing."""
    log = small_log()
    del log.bodies[1]

    verdict = verify_export(log.export(), log.keys)

    assert str(verdict) == "MODIFIED(0)"
    assert "MISSING_BODY" in verdict.detail


def test_verify_given_another_signed_genesis_names_the_first_line() -> None:
    """A genesis that somebody signed well is still not the pinned one."""
    other = sign(Kind.GENESIS, {"network": "regtest", "rules": 2}, ADMIN_SEED)
    header = next(write_export(other, dict.fromkeys(Log, ()), (), {}))

    verdict = verdict_of(header + b"".join(LINES[1:]))

    assert (str(verdict), verdict.line) == ("MODIFIED", 1)
    assert HONEST.keys.genesis.hex() in verdict.detail


def damaged(signed: Signed) -> Signed:
    """Return the statement with a wrong signature under the same key."""
    first = signed.endorsements[0]
    return replace(signed, endorsements=(replace(first, signature=bytes(64)),))


def doubled(signed: Signed) -> Signed:
    """Return the statement signed twice by one key."""
    return replace(signed, endorsements=signed.endorsements * 2)


@pytest.mark.parametrize("change", [damaged, doubled])
def test_verify_given_wrong_signature_names_the_statements_line(change: Callable[[Signed], Signed]) -> None:
    """A statement's digest leaves its signatures free, so they are verified themselves: in the header and in a body."""
    log = small_log()
    entries = {Log.MONEY: log.money, Log.EVENT: log.events}
    notes = {each: log.cosigned(each) for each in Log}
    first = min(log.bodies, key=lambda body: body.digest)
    bodies = [change(body) if body is first else body for body in log.bodies]

    header = verify_export(b"".join(write_export(change(GENESIS), entries, log.bodies, notes)), log.keys)
    body = verify_export(b"".join(write_export(GENESIS, entries, bodies, notes)), log.keys)

    assert [(str(found), found.line) for found in (header, body)] == [("MODIFIED", 1), ("MODIFIED", 12)]


def test_verify_given_event_log_shorter_than_money_says_is_truncated() -> None:
    """An event log cut back with a checkpoint that fits is told by the money entries that saw more of it."""
    log = small_log()
    log.events = log.events[:2]

    verdict = verify_export(log.export(), log.keys)

    assert (str(verdict), verdict.log) == ("TRUNCATED(2)", Log.EVENT)


def test_verify_given_money_entry_over_a_shorter_event_log_is_rolled_back() -> None:
    """The event log that money entries saw never shrinks."""
    log = small_log()
    events, log.events = log.events, log.events[:1]
    log.commit("fifth")
    log.events = events

    assert str(verify_export(log.export(), log.keys)) == "ROLLED_BACK(7)"


def test_verify_given_superfluous_body_names_it() -> None:
    """A statement that no entry names does not belong to the log."""
    log = small_log()
    log.bodies.append(sign(Kind.STOP, {"text": "stray"}, ADMIN_SEED))

    assert verify_export(log.export(), log.keys).kind is VerdictKind.MODIFIED


def test_verify_given_too_few_witnesses_is_unsigned() -> None:
    """W = 3 and w = 2: a final checkpoint with one cosignature is not vouched for."""
    lines = HONEST.cosigned(Log.MONEY).splitlines(keepends=True)

    verdict = verdict_of(HONEST.export(money="".join(lines[:-2])))

    assert (str(verdict), verdict.log) == ("UNSIGNED", Log.MONEY)


def test_verify_given_entries_beyond_the_checkpoint_names_the_first() -> None:
    """What no checkpoint covers is not in the log."""
    verdict = verdict_of(HONEST.export(money=HONEST.cosigned(Log.MONEY, size=5)))

    assert str(verdict) == "UNSIGNED(5)"


def test_verify_given_foreign_log_key_is_unsigned() -> None:
    """Another log key's checkpoints are nobody's."""
    keys = HONEST.keys
    stranger = ExportKeys(keys.genesis, b"\x05" * 32, keys.witnesses, keys.w)

    assert verify_export(RAW, stranger).kind in (VerdictKind.UNSIGNED, VerdictKind.MODIFIED)


def test_verify_given_malformed_entry_that_the_log_signed_names_it() -> None:
    """Even a cosigned entry must be an entry."""
    log = small_log()
    log.money.append(b'{"kind":"NONSENSE"}')
    log.note = log.cosigned(Log.MONEY)

    verdict = verify_export(log.export(), log.keys)

    assert str(verdict) == "MODIFIED(7)"
    assert "ENTRY_KIND" in verdict.detail


def test_verify_given_known_that_is_no_checkpoint_raises() -> None:
    """A wrong --known is the caller's mistake, not a verdict on the export."""
    with pytest.raises(CustodyError):
        verdict_of(RAW, "hello")


def test_genesis_of_given_export_returns_its_first_lines_document() -> None:
    """The keys to verify with are read from the genesis in the file, once its hash is the known one."""
    assert genesis_of(RAW).digest == HONEST.keys.genesis
    with pytest.raises(ExportError, match="EXPORT_LINE"):
        genesis_of(b"{}\n")
    with pytest.raises(ExportError, match="EXPORT_TRUNCATED"):
        genesis_of(LINES[0][:-1])


def test_verify_given_replay_passes_on_its_verdict() -> None:
    """Level full is the caller's function over the verified export."""
    seen: list[int] = []

    def replay(export: object) -> Verdict:
        seen.append(1)
        return Verdict(VerdictKind.POLICY_VIOLATION, withdrawal="ab")

    assert str(verify_export(RAW, HONEST.keys, replay=replay)) == "POLICY_VIOLATION(ab)"
    assert str(verify_export(RAW[:-1], HONEST.keys, replay=replay)) == "TRUNCATED"
    assert seen == [1]


@given(st.data())
def test_verify_given_spliced_bytes_never_breaks(data: st.DataObject) -> None:
    """Whatever stands in a file, the answer is a verdict, and OK only for the honest bytes."""
    start = data.draw(st.integers(0, len(RAW)))
    end = data.draw(st.integers(start, min(len(RAW), start + 300)))
    filler = data.draw(st.binary(max_size=40) | st.sampled_from([b"[" * 5_000, b"9" * 5_000, b'{"a":' * 50, b"\n"]))
    raw = RAW[:start] + filler + RAW[end:]

    assert (verdict_of(raw).kind is VerdictKind.OK) is (raw == RAW)


@given(st.integers(0, 17), st.integers(0, 17))
def test_verify_given_a_line_twice_or_moved_names_it(source: int, target: int) -> None:
    """No line can be repeated, or copied over another, anywhere."""
    doubled = [*LINES[:target], LINES[source], *LINES[target:]]
    replaced = [*LINES[:target], LINES[source], *LINES[target + 1 :]]

    assert verdict_of(b"".join(doubled)).kind is not VerdictKind.OK
    assert (verdict_of(b"".join(replaced)).kind is VerdictKind.OK) is (source == target)


def test_audit_given_import_alone_needs_nothing_but_ed25519() -> None:
    """The verifier at level log runs where no wallet, network or service package is installed."""
    code = "import sys, custody.audit; print(*{m.split('.')[0] for m in sys.modules})"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"embit", "coincurve", "grpc", "google", "hvac", "structlog", "sqlalchemy"} & set(loaded)
    assert not {"coordinator", "signer_node", "console"} & set(loaded)


@pytest.mark.slow
def test_verify_given_any_flipped_bit_names_it() -> None:
    """Every single bit of a ten-entry export is detected: no byte of it is free."""
    log = small_log()
    raw, keys = bytearray(log.export()), log.keys
    assert len(log.money) + len(log.events) == 10
    missed = []
    for place in range(len(raw)):
        for bit in range(8):
            raw[place] ^= 1 << bit
            if verify_export(bytes(raw), keys).kind is VerdictKind.OK:
                missed.append((place, bit))
            raw[place] ^= 1 << bit

    assert missed == []


def test_verify_given_empty_logs_is_ok() -> None:
    """A log that has just begun can be exported."""
    log = FakeLog()

    verdict = verify_export(log.export(), log.keys)

    assert (str(verdict), verdict.size) == ("OK", 0)


def test_verify_given_entries_in_front_of_an_empty_checkpoint_names_the_first() -> None:
    """An entry that an empty log's checkpoint does not cover is unsigned."""
    log = FakeLog()
    empty = log.cosigned(Log.MONEY)
    statement = sign(Kind.FREEZE, {"text": "x"}, ADMIN_SEED)
    log.bodies.append(statement)
    log.append(EntryKind.FREEZE, Document(statement.digest), statement)

    assert str(verify_export(log.export(money=empty), log.keys)) == "UNSIGNED(0)"

"""Records that survive power loss: what was acknowledged is there, a torn tail is cut, damage is never passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from custody.errors import IntegrityError, UnavailableError
from signer_node.records import MAX_RECORD_BYTES, RecordFile, write_once

RECORDS = (b"one", b"two" * 500, b"three")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three records."""
    file = RecordFile(tmp_path / "records")
    for record in RECORDS:
        file.append(record)
    file.close()
    return tmp_path / "records"


def reopened(path: Path) -> tuple[bytes, ...]:
    """Return what a new process reads."""
    file = RecordFile(path)
    file.close()
    return file.records


def test_records_reopened_then_are_those_appended(path: Path) -> None:
    """Order and content stay; the file is its owner's alone."""
    assert reopened(path) == RECORDS
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_cut_at_any_byte_of_the_last_then_lose_that_one_alone(path: Path) -> None:
    """A crash while writing costs the record that nobody was told of, and the next append stands whole."""
    whole = path.read_bytes()
    start = len(whole) - len(RECORDS[2]) - 8
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        file = RecordFile(path)
        file.append(b"four")
        file.close()
        assert reopened(path) == (*RECORDS[:2], b"four")


@pytest.mark.parametrize("zeros", [1, 8, 9, 4096])
def test_records_with_a_tail_of_zeros_then_end_before_it(path: Path, zeros: int) -> None:
    """A file system may grow a file before the bytes arrive: zeros are no empty record."""
    path.write_bytes(path.read_bytes() + bytes(zeros))

    assert reopened(path) == RECORDS


@pytest.mark.parametrize("at", [0, 3, 4, 8, 10, 20])
def test_records_changed_in_the_middle_then_are_refused(path: Path, at: int) -> None:
    """Damage to what was acknowledged is told, not cut away."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x40
    path.write_bytes(raw)

    with pytest.raises(IntegrityError) as refused:
        RecordFile(path)

    assert refused.value.code == "RECORDS_DAMAGED"


def test_records_that_claim_too_much_then_are_refused(path: Path) -> None:
    """A length beyond the limit is damage; nothing is read by it."""
    path.write_bytes(path.read_bytes() + (MAX_RECORD_BYTES + 1).to_bytes(4, "big") + bytes(3) + b"\x01")

    with pytest.raises(IntegrityError) as refused:
        RecordFile(path)

    assert refused.value.code == "RECORDS_DAMAGED"


def test_records_behind_a_link_then_are_refused(path: Path) -> None:
    """A link in the state directory leads nowhere."""
    link = path.with_name("link")
    link.symlink_to(path)

    with pytest.raises(OSError, match="link"):
        RecordFile(link)


def test_record_that_cannot_be_written_then_is_not_there(path: Path) -> None:
    """A full disk is UnavailableError, and the record is neither in memory nor on the disk."""
    file = RecordFile(path)
    full = os.open("/dev/full", os.O_WRONLY)
    ours, file._file = file._file, full
    try:
        with pytest.raises(UnavailableError) as refused:
            file.append(b"four")
    finally:
        file._file = ours
    os.close(full)
    file.close()

    assert refused.value.code == "RECORDS_UNWRITABLE"
    assert file.records == reopened(path) == RECORDS


def test_write_once_when_there_already_then_changes_nothing(tmp_path: Path) -> None:
    """A key or a pinned genesis is written once."""
    write_once(tmp_path / "key", b"first")

    with pytest.raises(IntegrityError) as refused:
        write_once(tmp_path / "key", b"second")

    assert refused.value.code == "FILE_EXISTS"
    assert (tmp_path / "key").read_bytes() == b"first"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

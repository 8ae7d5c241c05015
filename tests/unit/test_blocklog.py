"""The block log: what was flushed comes back, an incomplete end is cut and told, damage inside refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from coordinator.chain.blocklog import BlockLog, Record, RecordKind
from custody.errors import IntegrityError, UnavailableError

RECORDS = [Record(RecordKind.BLOCK, b"one"), Record(RecordKind.TRANSACTION, b"\0" * 40), Record(RecordKind.BLOCK, b"3")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log that holds RECORDS."""
    path = tmp_path / "chain.log"
    with BlockLog(path) as log:
        for record in RECORDS:
            log.append(record)
        log.flush()
    return path


def test_open_when_whole_then_gives_every_record(path: Path) -> None:
    """Records come back in order, and nothing is cut."""
    with BlockLog(path) as log:
        assert (list(log.take_records()), log.cut_bytes) == (RECORDS, 0)


def test_open_when_cut_anywhere_then_keeps_the_whole_records(path: Path) -> None:
    """For every length a crash can leave, the complete records stay and the rest is cut, told and written over."""
    raw = path.read_bytes()
    ends = [8, 8 + 13 + 3, 8 + 13 + 3 + 13 + 40, len(raw)]
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        kept = max(0, sum(end <= length for end in ends) - 1)
        with BlockLog(path) as log:
            assert log.cut_bytes == length - max([end for end in ends if end <= length], default=length)
            assert list(log.take_records()) == RECORDS[:kept]
            log.append(RECORDS[2])
            log.flush()
        with BlockLog(path) as log:
            assert list(log.take_records()) == [*RECORDS[:kept], RECORDS[2]]


def test_open_when_end_is_zeros_then_cuts_them(path: Path) -> None:
    """A file that grew without its data reaching the disk is an incomplete end."""
    path.write_bytes(path.read_bytes() + bytes(100))

    with BlockLog(path) as log:
        assert (list(log.take_records()), log.cut_bytes) == (RECORDS, 100)


def test_open_when_any_byte_is_damaged_then_refuses(path: Path) -> None:
    """No byte of an acknowledged log can change unnoticed, lengths included."""
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x40]) + raw[at + 1 :])
        with pytest.raises(IntegrityError, match="BLOCKLOG_DAMAGED"):
            BlockLog(path)


def test_open_when_a_record_is_missing_inside_then_refuses(path: Path) -> None:
    """Records know their number."""
    raw = path.read_bytes()
    path.write_bytes(raw[:8] + raw[8 + 16 :])

    with pytest.raises(IntegrityError, match="BLOCKLOG_DAMAGED"):
        BlockLog(path)


def test_flush_when_disk_fails_then_takes_nothing_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one failed write nobody knows what is on the disk, so the log stays closed for writing until reopened."""

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with BlockLog(path) as log:
        log.append(RECORDS[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(UnavailableError, match="BLOCKLOG_IO"):
                log.flush()
        with pytest.raises(UnavailableError, match="BLOCKLOG_IO"):
            log.flush()

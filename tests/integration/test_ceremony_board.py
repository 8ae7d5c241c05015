"""`keyturn ceremony` at a real board: records, genesis and signatures brought as files; nothing lost by a restart."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.cli.app import main
from console.config import config_text
from coordinator.app import ceremony_event, read_genesis
from coordinator.rpc.ceremony import Ceremony
from custody.backups import Backup, Form, Making
from custody.canonical import encode
from custody.genesis import read_key_record
from custody.statements import Kind, Signed, endorse, sign
from custody.words import words
from tests.fakes.rules import NOW, PAY, seed_of
from tests.integration.test_ceremony import Board, board
from tests.world import NODES, make_genesis, record_of

__all__ = ["board"]  # the fixture
MAKING = Making(("os", "dice:99"), 24, ("bert",), "machine 00", NOW, NOW, (Backup(Form.WORDS, ("anna", "carl")),))


@pytest.fixture
def settings(board: Board, tmp_path: Path) -> Path:
    """The configuration of an operator who pinned nothing yet."""
    certificate, key = board.ca.issue("ops", "operator", tmp_path / "ops", server=False)
    path = tmp_path / "config.toml"
    tls = {"ca": str(board.ca.certificate_path), "certificate": str(certificate), "key": str(key)}
    path.write_text(config_text(f"localhost:{board.port}", "ops", "me.ed25519", tls))
    return path


async def keyturn(settings: Path, *arguments: str) -> tuple[int, Any]:
    """Run `keyturn -o json ceremony ...`; return its exit code and what it printed."""
    out = io.StringIO()

    def run() -> int:
        with redirect_stdout(out), redirect_stderr(out):
            return main(["-c", str(settings), "-o", "json", "ceremony", *arguments])

    code = await asyncio.to_thread(run)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    (told,) = [line for line in lines if "event" not in line]  # the board's own log goes to the same standard output
    return code, told


def record_file(directory: Path, node: str) -> str:
    """Write a record whose making is told; return its path."""
    record = replace(read_key_record(record_of(node)), making=MAKING if node == "cold" else None)
    path = directory / f"{node}.in"
    path.write_bytes(sign(Kind.RECORD, record.to_json(), seed_of(node)).to_bytes())
    return str(path)


def signature_file(directory: Path, genesis: Signed, name: str) -> str:
    """Write somebody's signature of `genesis`; return its path."""
    path = directory / f"{name}.signature"
    path.write_bytes(encode(endorse(Kind.GENESIS, genesis.raw, seed_of(name)).to_json()))
    return str(path)


async def test_ceremony_by_the_command_line_goes_from_records_to_a_signed_genesis(
    board: Board,
    settings: Path,
    tmp_path: Path,
) -> None:
    """Bring, look, fetch, sign, bring: at the end the coordinator has the genesis that everybody compared."""
    code, told = await keyturn(settings, "bring", *(record_file(tmp_path, node) for node in NODES))
    assert (code, [record["node"] for record in told["records"]]) == (0, sorted(NODES))
    assert told["records"][2]["making"] == MAKING.to_json()

    unsigned = Signed(Kind.GENESIS, make_genesis(PAY).signed.raw, ())
    (tmp_path / "genesis.in").write_bytes(unsigned.to_bytes())
    code, told = await keyturn(settings, "bring", str(tmp_path / "genesis.in"))
    assert (code, told["words"]) == (0, " ".join(words(unsigned.digest)))
    assert told["missing"] == [*NODES, "erin", "frank", "grace"]

    code, told = await keyturn(settings, "fetch", "--out", str(tmp_path / "fetched"))
    fetched = sorted(path.name for path in (tmp_path / "fetched").iterdir())
    assert fetched == ["alpha.record", "beta.record", "cold.record", "genesis.json"]
    assert (tmp_path / "fetched" / "genesis.json").read_bytes() == unsigned.to_bytes()

    names = (*NODES, "erin", "frank")
    code, told = await keyturn(settings, "bring", *(signature_file(tmp_path, unsigned, name) for name in names))
    assert (code, told["missing"]) == (0, [])
    genesis = read_genesis(board.genesis_path)
    assert genesis.hash == unsigned.digest
    assert ceremony_event(genesis).fields["records"] == sorted(record_of(node).digest.hex() for node in NODES)


async def test_board_after_a_restart_hangs_as_before(
    board: Board,
    settings: Path,
    tmp_path: Path,
) -> None:
    """The coordinator's machine goes down in the middle of a ceremony: nobody has to come back."""
    unsigned = Signed(Kind.GENESIS, make_genesis(PAY).signed.raw, ())
    (tmp_path / "genesis.in").write_bytes(unsigned.to_bytes())
    files = (record_file(tmp_path, "alpha"), str(tmp_path / "genesis.in"), signature_file(tmp_path, unsigned, "erin"))
    assert (await keyturn(settings, "bring", *files))[0] == 0

    again = Ceremony(board.genesis_path)
    assert again._missing() == [*sorted(NODES), "1 of admins"]
    assert list(again._records) == ["alpha"]


async def test_signature_before_there_is_a_genesis_is_refused(
    settings: Path,
    tmp_path: Path,
) -> None:
    """There is nothing that it could be of."""
    unsigned = make_genesis(PAY).signed
    code, told = await keyturn(settings, "bring", signature_file(tmp_path, unsigned, "erin"))
    assert (code, told["error"]) == (3, "NO_GENESIS")

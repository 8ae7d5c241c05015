"""Canaries: every secret of an organisation is known here, and none may be found in anything that it puts out."""

from __future__ import annotations

import base64
import io
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from coordinator import logging as coordinator_logging
from coordinator.app import _advance_one
from coordinator.rpc.audits import Audits
from coordinator.session import Stage
from custody.audit import Log
from custody.errors import CustodyError
from custody.v1 import audit_pb2
from custody.wallet import Network
from signer_node import logging as node_logging
from signer_node.backends.port import Access
from signer_node.backends.sealed_file import SealedFile
from signer_node.seed import account_key
from tests.fakes.rules import seed_of
from tests.integration.harness import OPERATOR, PASSPHRASE, Organisation, close, genesis_of, organise
from tests.world import LOG_SEED, WITNESS_SEED, bitcoin_seed

GENESIS = genesis_of()
NODES = ("alpha", "beta", "cold")
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank")


def secrets() -> Mapping[str, bytes]:
    """Return every secret of the organisation by name, as raw bytes or as the text that people know it by."""
    found = {"log": LOG_SEED, "witness": WITNESS_SEED, "passphrase": PASSPHRASE}
    found |= {f"ed25519 of {name}": seed_of(name) for name in (*NODES, *PEOPLE)}
    for name in NODES:
        account = account_key(bitcoin_seed(name), Network.REGTEST)
        found[f"seed of {name}"] = bytes(bitcoin_seed(name))
        found[f"xprv of {name}"] = account.to_base58().encode()
        found[f"account key of {name}"] = account.secret
        found |= {f"key of {name} at {b}/{i}": account.derive([b, i]).secret for b in (0, 1) for i in range(4)}
    return found


def spellings(secret: bytes) -> tuple[bytes, ...]:
    """Return the ways to write `secret`: raw, hex, base64 at each of three alignments, repr, number."""
    hexed = secret.hex().encode()
    shifted = [base64.b64encode(bytes(shift) + secret)[4 if shift else 0 : -4] for shift in (0, 1, 2)]
    url_safe = [text.replace(b"+", b"-").replace(b"/", b"_") for text in shifted]
    number = str(int.from_bytes(secret, "big")).encode()
    return (secret, hexed, hexed.upper(), *shifted, *url_safe, repr(secret).encode(), number)


def leaks(outputs: Mapping[str, bytes]) -> list[str]:
    """Return which secret stands in which output."""
    known = {name: spellings(secret) for name, secret in secrets().items()}
    return [
        f"{name} in {place}"
        for place, content in outputs.items()
        for name, ways in known.items()
        if any(way in content for way in ways)
    ]


def files(directory: Path) -> Mapping[str, bytes]:
    """Return every file under `directory`."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """What coordinator and node would write to stdout."""
    lines = io.StringIO()
    coordinator_logging.configure()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(lines))
    yield lines
    structlog.reset_defaults()


async def live(org: Organisation) -> list[str]:
    """Take one small and one large withdrawal all the way, and a good many wrong turns; return what was raised."""
    small, large = org.withdrawal(), org.withdrawal(150_000_000, payee=12)
    await org.propose(small)
    await org.run(small)
    await org.propose(large)
    await org.approve(large, "bob", "carol")
    await org.run(large)
    await org.carry(large)
    assert await org.run(large) is Stage.BROADCAST
    raised: list[str] = []
    for broken in (b"", b"{}", b"\xff" * 40, PASSPHRASE):
        try:
            await org.nodes["cold"].answer(broken)
        except CustodyError:
            raised.append(traceback.format_exc())
    for passphrase in (bytearray(b"not the right passphrase"), bytearray(PASSPHRASE[:-1])):
        access = Access("cold", Network.REGTEST, passphrase=lambda found=passphrase: bytearray(found))  # type: ignore[misc]  # bound now
        try:
            await SealedFile(org.directory / "cold" / "seed", access).public()
        except CustodyError:
            raised.append(traceback.format_exc())
    assert len(raised) == 6
    return raised


async def test_atk_130_secrets_of_a_whole_run_then_are_in_nothing_that_leaves(
    tmp_path: Path, log_lines: io.StringIO
) -> None:
    """Logs, exceptions, reprs, database, state files, bundles, answers and exports hold no secret in any spelling."""
    org = await organise(GENESIS, tmp_path)
    raised = await live(org)
    await _advance_one(org.parts, bytes(32))  # logs withdrawal.stuck
    for node in org.nodes.values():
        structlog.get_logger("signer_node").info("node.shown", node=repr(node), state=repr(node.state)[:200])
    export = [chunk.chunk async for chunk in Audits(org.parts).Export(audit_pb2.ExportRequest(), OPERATOR)]
    size = org.parts.store.head(Log.EVENT).size
    outputs = {
        "logs": log_lines.getvalue().encode(),
        "exceptions": "\n".join(raised).encode(),
        "reprs": repr((org.parts, org.parts.logs, org.parts.logs._pins, org.nodes)).encode(),
        "export": b"".join(export),
        "events": b"\n".join(await org.parts.store.entries(Log.EVENT, 0, size, 10_000_000)),
    }
    await close(org)
    outputs |= files(tmp_path)

    assert b"withdrawal.stuck" in outputs["logs"]
    assert any(name.endswith("store.db") for name in outputs)
    assert leaks(outputs) == []


@pytest.mark.parametrize("name", ["seed of cold", "xprv of alpha", "passphrase", "log", "key of beta at 1/0"])
@pytest.mark.parametrize("way", range(len(spellings(bytes(32)))))
def test_atk_130_canary_planted_in_a_file_then_is_found(name: str, way: int) -> None:
    """The search that the test above rests on finds each secret in each spelling."""
    planted = os.urandom(100) + spellings(secrets()[name])[way] + os.urandom(100)

    assert f"{name} in file" in leaks({"file": planted})


@pytest.mark.parametrize("module", [coordinator_logging, node_logging], ids=["coordinator", "node"])
def test_atk_130_secret_in_an_exception_then_does_not_reach_the_log(
    module: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that raises with a key in its text, or with one in its frame, writes neither to our log."""
    module.configure()  # type: ignore[attr-defined]  # both modules have it
    xprv = account_key(bitcoin_seed("cold"), Network.REGTEST).to_base58()

    def library(seed: bytearray) -> None:
        raise ValueError(f"cannot derive from {xprv}, {len(seed)} bytes")

    try:
        library(bitcoin_seed("cold"))
    except ValueError:
        structlog.get_logger().exception("backend.failed", seed=bitcoin_seed("cold").hex(), detail=xprv, more=[xprv])
    structlog.reset_defaults()

    written = capsys.readouterr().out
    assert "backend.failed" in written
    assert leaks({"log": written.encode()}) == []

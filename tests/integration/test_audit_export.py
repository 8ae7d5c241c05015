"""What an auditor gets of a real flow: an export that verifies in full, a CSV of it, and evidence of one withdrawal."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator import flow
from coordinator.exporting import export_lines
from coordinator.rpc.audits import MAX_CHUNK_BYTES, Audits
from coordinator.session import Stage
from custody import evidence
from custody.audit import VerdictKind, read_export
from custody.canonical import decode
from custody.entries import StopCause
from custody.evidence import make_evidence, verify_evidence
from custody.replay import verify
from custody.story import Wanted, stories_of, withdrawals_csv
from custody.v1 import audit_pb2
from custody.withdrawal import Withdrawal
from tests.integration.harness import OPERATOR, Organisation, close, genesis_of, organise

pytestmark = pytest.mark.slow
GENESIS = genesis_of()


@pytest_asyncio.fixture
async def organisation(tmp_path: Path) -> AsyncIterator[Organisation]:
    """A running organisation."""
    found = await organise(GENESIS, tmp_path)
    yield found
    await close(found)


async def pay(organisation: Organisation, asked: Withdrawal, *people: str) -> None:
    """Carry a withdrawal to its confirmation."""
    await organisation.propose(asked)
    await organisation.approve(asked, *people)
    assert await organisation.run(asked) is Stage.BROADCAST
    await organisation.mine()
    assert await organisation.advance(asked) is Stage.CONFIRMED


async def live(organisation: Organisation) -> tuple[Withdrawal, Withdrawal, Withdrawal]:
    """Pay a small and an approved withdrawal, and have one rejected."""
    small = organisation.withdrawal(1_000_000, 11)
    large = organisation.withdrawal(20_000_000, 12)
    never = organisation.withdrawal(30_000_000, 13)
    await pay(organisation, small)
    organisation.clock.advance(60)
    await pay(organisation, large, "bob", "carol")
    organisation.clock.advance(60)
    await organisation.propose(never)
    await flow.stop(organisation.parts, organisation.stop_of(never, "alice", StopCause.CANCEL))
    return small, large, never


async def exported(organisation: Organisation) -> bytes:
    """Return the export file."""
    return b"".join([line async for line in export_lines(organisation.parts)])


async def test_export_given_real_flow_verifies_in_full(organisation: Organisation) -> None:
    """The export of an honest coordinator is OK at level full, and its PSBTs and transactions are in it."""
    await live(organisation)

    raw = await exported(organisation)
    verdict = verify(raw, GENESIS.hash)

    assert (str(verdict), verdict.pruned, verdict.detail) == ("OK", 0, "")
    assert sum(isinstance(body, bytes) for body in read_export(raw).bodies.values()) == 5


async def test_export_given_wrong_genesis_hash_names_it(organisation: Organisation) -> None:
    """Keys are taken from the file only where its genesis is the known one."""
    raw = await exported(organisation)

    assert verify(raw, bytes(32)).kind is VerdictKind.MODIFIED
    assert verify(raw[:20], GENESIS.hash).kind is VerdictKind.TRUNCATED


async def test_export_rpc_given_operator_writes_who_exported_and_small_chunks(organisation: Organisation) -> None:
    """The RPC streams the same file in bounded pieces, and the export tells of itself."""
    await live(organisation)
    answers = Audits(organisation.parts).Export(audit_pb2.ExportRequest(), OPERATOR)

    chunks = [answer.chunk async for answer in answers]

    assert max(map(len, chunks)) <= MAX_CHUNK_BYTES
    assert str(verify(b"".join(chunks), GENESIS.hash)) == "OK"
    assert b'"actor":"operator/olga","fields":{},"kind":"log.exported"' in b"".join(chunks)


async def test_csv_given_real_flow_tells_each_withdrawal(organisation: Organisation) -> None:
    """One row per withdrawal: who, when, which rules, which transaction; filters choose among them."""
    _, large, never = await live(organisation)
    export = read_export(await exported(organisation))

    rows = list(csv.DictReader(io.StringIO(withdrawals_csv(export))))

    assert [row["last_event"] for row in rows] == ["transaction.confirmed"] * 2 + ["withdrawal.cancel"]
    told = rows[1]
    assert told["withdrawal"] == large.digest.hex()
    assert [part.partition("@")[0] for part in told["approvals"].split()] == ["bob", "carol"]
    assert (told["initiator"], told["wallet"], told["rules_version"]) == ("alice", "treasury", "1")
    assert len(told["txid"]) == 64
    assert int(told["released_at"]) <= int(told["finalised_at"]) <= int(told["confirmed_at"])
    assert rows[2]["stopped_by"] == "cancel:alice"
    assert [s.digest for s in stories_of(export, Wanted(person="bob"))] == [large.digest]
    assert [s.digest for s in stories_of(export, Wanted(since=int(rows[1]["finalised_at"]) + 1))] == [never.digest]
    assert len(stories_of(export, Wanted(wallet="treasury"))) == 3
    assert stories_of(export, Wanted(wallet="other")) == ()


async def test_evidence_given_one_withdrawal_proves_it_offline(organisation: Organisation) -> None:
    """The bundle is the same bytes each time and verifies with the genesis hash alone; another's hash does not."""
    small, large, never = await live(organisation)
    export = read_export(await exported(organisation))

    for asked in (small, large, never):
        raw = make_evidence(export, asked.digest)
        verdict = verify_evidence(raw, GENESIS.hash)
        assert raw == make_evidence(export, asked.digest)
        assert (str(verdict), verdict.detail) == (f"OK({asked.digest.hex()})", "")
        assert verify_evidence(raw, bytes(32)).kind is VerdictKind.MODIFIED


async def test_evidence_given_any_changed_byte_is_refused(organisation: Organisation) -> None:
    """No byte of a bundle is free: one bit in each of 200 places is found."""
    small, _, _ = await live(organisation)
    raw = bytearray(make_evidence(read_export(await exported(organisation)), small.digest))
    for place in range(0, len(raw), max(1, len(raw) // 200)):
        raw[place] ^= 1
        assert verify_evidence(bytes(raw), GENESIS.hash).kind is not VerdictKind.OK, place
        raw[place] ^= 1


async def test_evidence_given_transaction_of_another_withdrawal_is_a_violation(organisation: Organisation) -> None:
    """A bundle put together well around a wrong transaction is named."""
    small, large, _ = await live(organisation)
    export = read_export(await exported(organisation))
    with zipfile.ZipFile(io.BytesIO(make_evidence(export, small.digest))) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}
    with zipfile.ZipFile(io.BytesIO(make_evidence(export, large.digest))) as archive:
        files["transaction.bin"] = archive.read("transaction.bin")

    verdict = verify_evidence(evidence._zip(small.digest, files), GENESIS.hash)

    assert str(verdict) == f"POLICY_VIOLATION({small.digest.hex()})"


async def test_export_given_body_taken_out_counts_it_as_pruned(organisation: Organisation) -> None:
    """An auditor is told how much of what events name is no longer there."""
    await live(organisation)
    lines = (await exported(organisation)).splitlines(keepends=True)
    psbts = [line for line in lines if line.startswith(b'{"body":') and isinstance(_value(line), str)]

    verdict = verify(b"".join(line for line in lines if line != psbts[0]), GENESIS.hash)

    assert (str(verdict), verdict.pruned) == ("OK", 1)


def _value(line: bytes) -> object:
    document = decode(line.rstrip(b"\n"))
    assert isinstance(document, dict)
    return document["value"]

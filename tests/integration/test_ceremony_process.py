"""A coordinator's own process from its board to its log: the ceremony is the first thing that the log knows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from console.channel import Address, call, open_channel
from console.tls import TlsFiles
from custody.canonical import decode, encode
from custody.genesis import parse_genesis
from custody.statements import Signed
from custody.v1 import audit_pb2, audit_pb2_grpc
from deploy.stack import Stack, build


async def first_event(stack: Stack, person: str) -> Any:
    """Return the first entry of the event log."""
    home = stack.person(person)
    files = TlsFiles(home / f"{person}.pem", home / f"{person}.key", stack.ca.certificate_path)
    async with open_channel(Address(stack.address, files)) as channel:
        request = audit_pb2.ListEntriesRequest(log=audit_pb2.LOG_EVENT, first=0, limit=1)
        answer = await call(audit_pb2_grpc.AuditServiceStub(channel).ListEntries, request)
    return decode(answer.entries[0].entry)


@pytest.mark.slow
def test_coordinator_without_a_genesis_serves_the_board_and_then_begins_its_log_with_it(tmp_path: Path) -> None:
    """Records and the signed document are brought; the process writes the genesis, serves on, and logs who signed."""
    nodes = {"alpha": "sealed-online", "beta": "sealed-online", "cold": "sealed"}
    stack = build(tmp_path / "stack", lambda text: None, nodes=nodes)
    written = stack.directory / "genesis.json"
    brought = written.rename(tmp_path / "brought.json")
    genesis = parse_genesis(Signed.from_bytes(brought.read_bytes()))
    (tmp_path / "unsigned.json").write_bytes(Signed(genesis.signed.kind, genesis.signed.raw, ()).to_bytes())
    try:
        process = stack.launch("coordinator", "coordinator", stack.directory / "coordinator.toml")
        process.wait_for("ceremony.ready")
        told = stack.keyturn("alice", "ceremony", "bring", str(tmp_path / "unsigned.json"))
        assert told["genesis"] == genesis.hash.hex()
        assert set(nodes) <= set(told["missing"])
        assert stack.keyturn("alice", "ceremony", "status")["missing"] == told["missing"]
        process.child.terminate()
        process.child.wait(30)

        process = stack.launch("coordinator", "coordinator", stack.directory / "coordinator.toml")
        process.wait_for("ceremony.ready")
        files = []
        for at, endorsement in enumerate(genesis.signed.endorsements):
            files.append(tmp_path / f"{at}.signature")
            files[-1].write_bytes(encode(endorsement.to_json()))
        assert stack.keyturn("alice", "ceremony", "bring", *map(str, files))["missing"] == []
        process.wait_for("coordinator.ready")
        assert stack.genesis.hash == genesis.hash
        event = asyncio.run(first_event(stack, "alice"))
        stack.keyturn("alice", "ceremony", "fetch", "--out", str(tmp_path / "fetched"))
        assert (tmp_path / "fetched" / "genesis.json").read_bytes() == written.read_bytes()
    finally:
        stack.stop()
    assert (event["kind"], event["fields"]["genesis"]) == ("ceremony.ended", genesis.hash.hex())
    assert len(event["fields"]["records"]) == len(nodes)

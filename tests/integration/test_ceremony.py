"""The ceremony over the coordinator's board, with real mTLS: what it keeps, what it refuses, when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest

from console.channel import Address, call, open_channel
from console.statements import write_signed
from console.tls import TlsFiles as ClientFiles
from coordinator.app import read_genesis
from coordinator.logging import stdout_logger
from coordinator.rpc.ceremony import Ceremony
from coordinator.rpc.server import Served, build_server
from coordinator.tls import TlsFiles
from custody.errors import CustodyError
from custody.statements import Kind, Signed, endorse
from custody.v1 import statement_pb2, wallet_pb2, wallet_pb2_grpc
from custody.words import words
from deploy.ca import Ca, make_ca
from tests.fakes.rules import PAY, seed_of
from tests.world import NODES, make_genesis, record_of


@dataclass
class Board:
    """A running board and who may talk to it."""

    ca: Ca
    directory: Path
    port: int
    genesis_path: Path

    def stub(self, role: str, name: str) -> tuple[wallet_pb2_grpc.WalletServiceAsyncStub, grpc.aio.Channel]:
        """Return a stub with a certificate of `role`."""
        home = self.directory / f"{role}-{name}"
        certificate, key = self.ca.issue(name, role, home, server=False)
        channel = open_channel(
            Address(f"127.0.0.1:{self.port}", ClientFiles(certificate, key, self.ca.certificate_path))
        )
        return wallet_pb2_grpc.WalletServiceStub(channel), channel


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Board]:
    """A coordinator that has no genesis yet."""
    ca = make_ca(tmp_path / "ca")
    certificate, key = ca.issue("coordinator", "coordinator", tmp_path, server=True)
    ceremony = Ceremony(tmp_path / "genesis.json")
    add = partial(wallet_pb2_grpc.add_WalletServiceServicer_to_server, ceremony)
    files = TlsFiles(certificate, key, ca.certificate_path)
    server = build_server([Served("custody.v1.WalletService", add)], "127.0.0.1:0", files, stdout_logger())
    await server.start()
    yield Board(ca, tmp_path, server.port, tmp_path / "genesis.json")
    await server.stop(0)


def _endorsement(signed: Signed, name: str) -> statement_pb2.Endorsement:
    found = endorse(Kind.GENESIS, signed.raw, seed_of(name))
    return statement_pb2.Endorsement(alg=found.alg, key=found.key, signature=found.signature)


async def test_ceremony_when_everybody_signed_then_genesis_is_written_and_starts_a_coordinator(board: Board) -> None:
    """Records, the composed genesis and all signatures make a genesis file that a coordinator accepts."""
    stub, channel = board.stub("operator", "ops")
    unsigned = Signed(Kind.GENESIS, make_genesis(PAY).signed.raw, ())
    for node in NODES:
        await call(stub.SubmitKeyRecord, wallet_pb2.SubmitKeyRecordRequest(record=write_signed(record_of(node))), 5)
    up = await call(stub.SubmitGenesis, wallet_pb2.SubmitGenesisRequest(genesis=write_signed(unsigned)), 5)
    assert list(up.missing) == [*sorted(NODES), "2 of admins"]
    for name in (*NODES, "erin"):
        request = wallet_pb2.SubmitGenesisSignatureRequest(
            genesis_hash=unsigned.digest, endorsements=[_endorsement(unsigned, name)]
        )
        left = await call(stub.SubmitGenesisSignature, request, 5)
    assert list(left.missing) == ["1 of admins"]
    assert not board.genesis_path.exists()
    last = wallet_pb2.SubmitGenesisSignatureRequest(
        genesis_hash=unsigned.digest, endorsements=[_endorsement(unsigned, "frank")]
    )
    assert not (await call(stub.SubmitGenesisSignature, last, 5)).missing
    assert read_genesis(board.genesis_path).hash == unsigned.digest
    await channel.close()


async def test_ceremony_when_a_node_submits_another_nodes_record_then_refuses(board: Board) -> None:
    """A node's certificate lets it bring its own record and nobody else's."""
    stub, channel = board.stub("signer", "alpha")
    with pytest.raises(CustodyError) as caught:
        await call(stub.SubmitKeyRecord, wallet_pb2.SubmitKeyRecordRequest(record=write_signed(record_of("beta"))), 5)
    assert caught.value.code == "IDENTITY_MISMATCH"
    await channel.close()


async def test_ceremony_when_signature_is_of_another_document_then_refuses(board: Board) -> None:
    """A signature that does not hold is not kept."""
    stub, channel = board.stub("operator", "ops")
    unsigned = Signed(Kind.GENESIS, make_genesis(PAY).signed.raw, ())
    other = Signed(Kind.GENESIS, make_genesis(PAY, threshold=3).signed.raw, ())
    await call(stub.SubmitGenesis, wallet_pb2.SubmitGenesisRequest(genesis=write_signed(unsigned)), 5)
    request = wallet_pb2.SubmitGenesisSignatureRequest(
        genesis_hash=unsigned.digest, endorsements=[_endorsement(other, "erin")]
    )
    with pytest.raises(CustodyError) as caught:
        await call(stub.SubmitGenesisSignature, request, 5)
    assert caught.value.code == "GENESIS_SIGNATURE"
    await channel.close()


def test_genesis_words_when_coordinator_swaps_two_key_records_then_differ() -> None:
    """ATK-074: a board that swaps keys shows another document, and the words that people compare say so."""
    honest = make_genesis(PAY)
    swapped = (
        honest.signed.raw.replace(b'"alpha"', b'"tmp"').replace(b'"beta"', b'"alpha"').replace(b'"tmp"', b'"beta"')
    )
    assert words(Signed(Kind.GENESIS, swapped, ()).digest) != words(honest.hash)

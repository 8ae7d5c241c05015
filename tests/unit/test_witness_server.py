"""The witness over real mTLS: its one role, its answers, its configuration, and its process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from custody import ed25519
from custody.audit import (
    Checkpoint,
    Log,
    Subtrees,
    WitnessKey,
    consistency_proof,
    cosign,
    leaf_hash,
    origin_of,
    read_cosignature,
    sign_checkpoint,
    with_lines,
)
from custody.errors import CustodyError
from custody.v1 import witness_pb2, witness_pb2_grpc
from deploy.ca import Ca, make_ca
from signer_node.config import TlsConfig
from signer_node.tls import client_credentials
from signer_node.witness_server import load_config, make_key, serve
from signer_node.witness_store import mark_path, read_key
from tests.world import LOG_SEED, make_genesis

pytestmark = pytest.mark.slow

DOCUMENT = make_genesis()
GENESIS = DOCUMENT.hash
ORIGIN = origin_of(GENESIS, Log.EVENT)  # whose entries a witness does not follow, so that any tree will do
TREE = Subtrees(leaf_hash(b"%d" % index) for index in range(8))
CONFIG = """
name = "witness-1"
listen = "127.0.0.1:0"
genesis = "{genesis}"
log_key = "{log_key}"
witness_key = "witness.key"
state = "state"
[tls]
ca = "tls/ca.pem"
certificate = "tls/witness-1.pem"
key = "tls/witness-1.key"
"""


class FixedClock:
    """Always the same second."""

    def now(self) -> int:
        """Return UTC seconds."""
        return 1_700_000_000


@dataclass(frozen=True)
class Place:
    """A witness's directory, its authority and its public key."""

    directory: Path
    ca: Ca
    key: bytes

    @property
    def config(self) -> Path:
        """Its TOML file."""
        return self.directory / "witness.toml"

    def client(self, role: str) -> TlsConfig:
        """Return the mTLS files of a client of `role`."""
        certificate, key = self.ca.issue(f"some-{role}", role, self.directory / "tls", server=False)
        return TlsConfig(self.ca.certificate_path, certificate, key)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a witness that is ready to start."""
    ca = make_ca(tmp_path / "tls")
    ca.issue("witness-1", "witness", tmp_path / "tls", server=True)
    key = make_key(tmp_path / "witness.key")
    text = CONFIG.format(genesis=GENESIS.hex(), log_key=ed25519.public_key(LOG_SEED).hex())
    (tmp_path / "witness.toml").write_text(text)
    (tmp_path / "genesis.json").write_bytes(DOCUMENT.signed.to_bytes())
    return Place(tmp_path, ca, key)


@pytest.fixture
async def port(place: Place) -> AsyncIterator[int]:
    """Return the port of the running witness."""
    server, port = await serve(load_config(place.config), FixedClock())
    yield port
    await server.stop(0)


def ask(old: int, size: int) -> witness_pb2.AddCheckpointRequest:
    """Return an honest request."""
    note = sign_checkpoint(Checkpoint(ORIGIN, size, TREE.root_at(size)), LOG_SEED)
    proof = consistency_proof(TREE, old, size)
    return witness_pb2.AddCheckpointRequest(origin=ORIGIN, old_size=old, consistency_proof=proof, note=note)


async def test_witness_given_checkpoints_over_mtls_cosigns_and_shows_its_state(place: Place, port: int) -> None:
    """The coordinator gets a cosignature, a refusal with the witness's size, and its state."""
    async with grpc.aio.secure_channel(f"localhost:{port}", client_credentials(place.client("coordinator"))) as channel:
        stub = witness_pb2_grpc.WitnessServiceStub(channel)

        first = await stub.AddCheckpoint(ask(0, 5))
        stale = await stub.AddCheckpoint(ask(4, 8))
        second = await stub.AddCheckpoint(ask(stale.size, 8))
        other_log = await stub.AddCheckpoint(witness_pb2.AddCheckpointRequest(origin="keyturn/else/money"))
        state = await stub.GetWitnessState(witness_pb2.GetWitnessStateRequest(origin=ORIGIN))

    witness = WitnessKey("witness-1", place.key)
    assert read_cosignature(ask(0, 5).note, first.cosignature, witness) == 1_700_000_000
    assert (stale.refusal.code, stale.refusal.found, stale.size) == ("WITNESS_STALE_SIZE", "5", 5)
    assert read_cosignature(ask(5, 8).note, second.cosignature, witness) == 1_700_000_000
    assert other_log.refusal.code == "CHECKPOINT_ORIGIN"
    assert (state.name, state.size, state.root) == ("witness-1", 8, TREE.root_at(8))
    assert state.note.endswith(second.cosignature + "\n")


async def test_witness_given_its_own_future_ends_for_both_logs(place: Place, port: int) -> None:
    """One key, one end: a witness whose state of one log was rewound vouches for neither, now or later."""
    ahead = ask(0, 8)
    line = cosign(ahead.note, "witness-1", read_key(place.directory / "witness.key"), 1_600_000_000)
    ahead.note = with_lines(ahead.note, [line])
    money_origin = origin_of(GENESIS, Log.MONEY)
    money_note = sign_checkpoint(Checkpoint(money_origin, 5, TREE.root_at(5)), LOG_SEED)
    money = witness_pb2.AddCheckpointRequest(origin=money_origin, note=money_note)
    async with grpc.aio.secure_channel(f"localhost:{port}", client_credentials(place.client("coordinator"))) as channel:
        stub = witness_pb2_grpc.WitnessServiceStub(channel)

        codes = [(await stub.AddCheckpoint(request)).refusal.code for request in (ahead, money, ask(0, 5))]

    assert codes == ["WITNESS_REWOUND"] * 3
    for each in Log:
        assert int(mark_path(place.directory / "witness.key", each).read_text()) == 2**53 - 1


@pytest.mark.parametrize("role", ["signer", "operator", "witness"])
async def test_witness_given_another_role_denies(place: Place, port: int, role: str) -> None:
    """Only a certificate of role coordinator may call, whatever it asks."""
    async with grpc.aio.secure_channel(f"localhost:{port}", client_credentials(place.client(role))) as channel:
        stub = witness_pb2_grpc.WitnessServiceStub(channel)
        for call in (
            stub.AddCheckpoint(ask(0, 5)),
            stub.GetWitnessState(witness_pb2.GetWitnessStateRequest(origin=ORIGIN)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "ROLE_DENIED" in (caught.value.details() or "")


async def test_witness_given_foreign_authority_or_no_certificate_is_unreachable(
    place: Place, port: int, tmp_path: Path
) -> None:
    """A certificate of another authority, or none, gets no connection."""
    other = Place(tmp_path / "other", make_ca(tmp_path / "other" / "tls"), b"")
    stranger = other.client("coordinator")
    mixed = client_credentials(TlsConfig(place.ca.certificate_path, stranger.certificate, stranger.key))
    nobody = grpc.ssl_channel_credentials(root_certificates=place.ca.certificate_path.read_bytes())
    for credentials in (mixed, nobody):
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await witness_pb2_grpc.WitnessServiceStub(channel).AddCheckpoint(ask(0, 5), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('name = "witness-1"', 'name = "witness-1"\nnmae = "x"', "FIELD_UNKNOWN"),
        ('listen = "127.0.0.1:0"', "", "FIELD_MISSING"),
        ('listen = "127.0.0.1:0"', 'listen = "unix:/tmp/x"', "CONFIG_LISTEN"),
        ('state = "state"', 'state = "."', "CONFIG_STATE"),
        (GENESIS.hex(), "07", "FIELD_HEX"),
        (GENESIS.hex(), "07" * 32, "GENESIS_OTHER"),
        (ed25519.public_key(LOG_SEED).hex(), "07" * 32, "LOG_KEY_OTHER"),
        ('state = "state"', 'state = "state"\ngenesis_file = "none.json"', "CONFIG_GENESIS"),
        ('name = "witness-1"', "name = ", "CONFIG_UNREADABLE"),
        ('certificate = "tls/witness-1.pem"', 'certificate = "tls/none.pem"', "TLS_FILE"),
        ('witness_key = "witness.key"', 'witness_key = "other.key"', "WITNESS_KEY"),
    ],
)
async def test_witness_given_wrong_configuration_does_not_start(place: Place, old: str, new: str, code: str) -> None:
    """An unknown, missing or impossible value keeps the witness from starting, by code."""
    place.config.write_text(place.config.read_text().replace(old, new))

    with pytest.raises(CustodyError) as caught:
        await serve(load_config(place.config), FixedClock())

    assert caught.value.code == code


async def test_witness_process_given_kill_nine_goes_on_where_it_was(place: Place) -> None:
    """SIGKILL after a cosignature: the next process knows what it vouched for, and a second one beside it refuses."""
    tls = client_credentials(place.client("coordinator"))
    process, port = await started(place)
    async with grpc.aio.secure_channel(f"localhost:{port}", tls) as channel:
        await witness_pb2_grpc.WitnessServiceStub(channel).AddCheckpoint(ask(0, 5))
    second = await spawn(place)
    _, errors = await second.communicate()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    process, port = await started(place)
    async with grpc.aio.secure_channel(f"localhost:{port}", tls) as channel:
        answer = await witness_pb2_grpc.WitnessServiceStub(channel).AddCheckpoint(ask(0, 8))
    process.terminate()

    assert await process.wait() == 0
    assert second.returncode == 1
    assert b"WITNESS_STATE_HELD" in errors
    assert answer.refusal.code == "WITNESS_STALE_SIZE"
    assert answer.size == 5


async def spawn(place: Place) -> asyncio.subprocess.Process:
    """Start the real process."""
    arguments = ("-m", "signer_node", "witness", "--config", str(place.config))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"]},
    )


async def started(place: Place) -> tuple[asyncio.subprocess.Process, int]:
    """Start the process and return it with the port that it says."""
    process = await spawn(place)
    assert process.stdout is not None
    line = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    assert line["event"] == "witness.listening"
    return process, int(line["port"])

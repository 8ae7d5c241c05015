"""Three real servers in raft: what a node sees when the leader dies, and when a snapshot is put back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from custody.wallet import Network
from deploy.ca import Ca, make_ca
from deploy.openbao import ACTIVE, STANDBY, Server, initialise, launch_new
from signer_node.backends import make_key, open_backend
from signer_node.backends.port import Access, State, VaultAccess
from tests.fakes.cleared import cleared
from tests.fakes.vault_cluster import kill, leader_of, start_cluster
from tests.fakes.vault_nodes import VaultNode, roles

pytestmark = pytest.mark.slow
SEED = bytes(range(3, 35))


@dataclass(frozen=True, slots=True)
class Cluster:
    """The servers, and the node `kv-1` with a key made from SEED."""

    servers: list[Server]
    ca: Ca
    directory: Path

    @property
    def uri(self) -> str:
        """Names every server."""
        return f"vault-kv://{','.join(server.authority for server in self.servers)}/keyturn/signers/kv-1/seed"

    def access(self) -> Access:
        """Return the access of `kv-1`; whoever leads wraps its secret."""
        first = self.servers[0]
        role = VaultNode(first, "kv", "kv-1", self.directory).role()

        def wrapped() -> str:
            leader = leader_of([server for server in self.servers if server.process.poll() is None])
            path = f"auth/approle/role/{role.name}/secret-id"
            answer = leader.call("POST", path, first.introducers["kv-1"], {}, wrap_ttl_s=60)
            return str(answer["wrap_info"]["token"])

        vault = VaultAccess(first.ca_path, role.name, first.role_ids[role.name], wrapped)
        return Access("kv-1", Network.REGTEST, vault=vault)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started once; a test that ends a server starts it again."""
    directory = tmp_path_factory.mktemp("cluster")
    ca = make_ca(directory)
    servers = start_cluster(directory, ca, roles("kv", ("kv-1",)))
    try:
        node = VaultNode(servers[0], "kv", "kv-1", directory)
        asyncio.run(make_key(node.uri, node.access("keysmith"), lambda size: SEED[:size]))
        yield Cluster(servers, ca, directory)
    finally:
        for server in servers:
            server.stop()


async def test_sign_when_the_leader_dies_goes_on_with_the_next(cluster: Cluster) -> None:
    """The call that meets the election waits it out or fails as UNREACHABLE; then the same login signs as before."""
    backend = open_backend(cluster.uri, cluster.access())
    before = await backend.sign(cleared(SEED))
    leader = await asyncio.to_thread(leader_of, cluster.servers)
    await asyncio.to_thread(kill, leader)
    try:
        states = [(await backend.health()).state]
        async with asyncio.timeout(60):
            while states[-1] is not State.READY:
                await asyncio.sleep(0.2)
                states.append((await backend.health()).state)

        assert set(states) <= {State.UNREACHABLE, State.READY}
        assert await backend.sign(cleared(SEED)) == before
        others = [server for server in cluster.servers if server is not leader]
        assert await asyncio.to_thread(leader_of, others) in others
    finally:
        await asyncio.to_thread(leader.restart, (ACTIVE, STANDBY))


async def test_sign_when_a_standby_dies_notices_nothing(cluster: Cluster) -> None:
    """Also where the node asks that one first."""
    leader = await asyncio.to_thread(leader_of, cluster.servers)
    standby = next(server for server in cluster.servers if server is not leader)
    uri = f"vault-kv://{standby.authority},{leader.authority}/keyturn/signers/kv-1/seed"
    backend = open_backend(uri, cluster.access())
    before = await backend.sign(cleared(SEED))
    await asyncio.to_thread(kill, standby)
    try:
        assert await backend.sign(cleared(SEED)) == before
        assert (await backend.health()).state is State.READY
    finally:
        await asyncio.to_thread(standby.restart, (ACTIVE, STANDBY))


async def test_snapshot_when_put_back_into_a_new_server_gives_the_same_key_and_logins(
    cluster: Cluster, tmp_path: Path
) -> None:
    """A snapshot and the unseal key together are the seeds: here they make another server of the same."""
    leader = await asyncio.to_thread(leader_of, cluster.servers)
    before = await open_backend(cluster.uri, cluster.access()).sign(cleared(SEED))
    snapshot = await asyncio.to_thread(_snapshot, leader)

    key = (leader.directory / "unseal.key").read_bytes()
    restored = await asyncio.to_thread(_restored, tmp_path / "new", cluster.ca, key, snapshot)
    try:
        restored.role_ids, restored.introducers = cluster.servers[0].role_ids, cluster.servers[0].introducers
        node = VaultNode(restored, "kv", "kv-1", tmp_path)
        assert await open_backend(node.uri, node.access()).sign(cleared(SEED)) == before
    finally:
        await asyncio.to_thread(restored.stop)


def _snapshot(leader: Server) -> bytes:
    root = leader.root_token()
    try:
        url, trust = f"{leader.address}/v1/sys/storage/raft/snapshot", str(leader.ca_path)
        return requests.get(url, headers={"X-Vault-Token": root}, verify=trust, timeout=20).content
    finally:
        leader.call("POST", "auth/token/revoke-self", root, {})


def _restored(directory: Path, ca: Ca, key: bytes, snapshot: bytes) -> Server:
    """Return a new server that holds what `snapshot` holds."""
    server = launch_new(directory, ca, unseal_key=key)
    initialise(server, ca)
    url, token = f"{server.address}/v1/sys/storage/raft/snapshot-force", server.root_token()
    answer = requests.post(url, data=snapshot, headers={"X-Vault-Token": token}, verify=str(server.ca_path), timeout=20)
    assert answer.ok, answer.text
    return server

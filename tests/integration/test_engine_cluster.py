"""The engine on three real servers in raft: standbys hand requests on, the next leader goes on where the last was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.ca import make_ca
from deploy.engine import engine_mount
from deploy.openbao import ACTIVE, STANDBY, Server
from signer_node.backends import make_key, open_backend, pin_document
from signer_node.backends.port import Access, Backend, VaultAccess
from tests.fakes.engine_file import engine_script
from tests.fakes.engine_processes import engine_pids
from tests.fakes.today import Today, genesis_of_today
from tests.fakes.vault_cluster import kill, leader_of, start_cluster
from tests.fakes.vault_nodes import VaultNode, roles
from tests.integration.test_engine import eventually
from tests.world import bitcoin_seed

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three servers with the engine of node alpha, pinned to the genesis of `today`."""

    servers: list[Server]
    today: Today
    directory: Path

    def open(self, *servers: Server) -> Backend:
        """Return alpha's backend, which knows `servers` in this order."""
        authorities = ",".join(server.authority for server in servers)
        return open_backend(f"vault-engine://{authorities}/{engine_mount('alpha')}", self._access())

    def _access(self) -> Access:
        first = self.servers[0]
        node = VaultNode(first, "engine", "alpha", self.directory)
        role, access = node.role(), node.access()
        assert isinstance(access.vault, VaultAccess)

        def wrapped() -> str:
            leader = leader_of([server for server in self.servers if server.process.poll() is None])
            return leader.wrapped_secret(role)

        return replace(access, vault=replace(access.vault, wrapped=wrapped))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started once; the test that ends a server starts it again."""
    directory, today = tmp_path_factory.mktemp("engine-cluster"), Today(genesis_of_today())
    script = engine_script(tmp_path_factory.mktemp("plugin") / "engine", bytes(bitcoin_seed("alpha")))
    servers = start_cluster(directory, make_ca(directory), roles("engine", ("alpha",)), engine=script)
    try:
        node = VaultNode(servers[0], "engine", "alpha", directory)
        asyncio.run(make_key(node.uri, node.access("keysmith")))
        asyncio.run(pin_document(node.uri, node.access("keysmith"), today.genesis.signed))
        yield Cluster(servers, today, directory)
    finally:
        for server in servers:
            server.stop()


async def test_engine_when_a_standby_is_asked_hands_the_request_to_the_leader(cluster: Cluster) -> None:
    """The leader alone runs the plugin; a node may ask whichever server it reaches."""
    leader = await asyncio.to_thread(leader_of, cluster.servers)
    standbys = [server for server in cluster.servers if server is not leader]
    cleared = cluster.today.cleared(inputs=2)

    found = [await cluster.open(server).sign(cleared) for server in (*standbys, leader)]

    assert found[1:] == found[:1] * 2
    assert [len(engine_pids(server)) for server in (leader, *standbys)] == [1, 0, 0]


async def test_engine_when_the_leader_dies_signs_the_same_at_the_next(cluster: Cluster) -> None:
    """Seed, genesis, log and journal are in storage that all three share: nothing is lost, nothing forgotten."""
    leader = await asyncio.to_thread(leader_of, cluster.servers)
    backend = cluster.open(*cluster.servers)
    cleared = cluster.today.cleared()
    before = await backend.sign(cleared)
    await asyncio.to_thread(kill, leader)
    try:
        assert await eventually(lambda: backend.sign(cleared)) == before
        assert len(await eventually(lambda: backend.sign(cluster.today.cleared()))) == 1
    finally:
        await asyncio.to_thread(leader.restart, (ACTIVE, STANDBY))

"""One real OpenBao server for the integration tests; a test that disturbs it leaves it as it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.ca import Ca, make_ca
from deploy.openbao import Role, Server, start
from signer_node.backends import make_key
from tests.fakes.vault_nodes import VaultNode, roles

SEED = bytes(range(60, 92))
LOG_ROLE = Role("log-transit", "main")  # of a coordinator whose log key is here


@dataclass(frozen=True, slots=True)
class Bao:
    """A server with nodes `kv-1`, `kv-2`, `transit-1`, `transit-2`; the first of each has a key made from SEED.

    Two more with that key: `kv-3` enters by its certificate, `kv-4` by AppRole from 127.0.0.2, where it does not stand.
    """

    server: Server
    directory: Path
    ca: Ca

    def node(self, kind: str, number: int = 1) -> VaultNode:
        """Return the node `KIND-NUMBER`."""
        return VaultNode(self.server, kind, f"{kind}-{number}", self.directory)


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """The server that most tests share."""
    with _serving(tmp_path_factory.mktemp("bao"), token_ttl_s=900, max_ttl_s=86_400) as found:
        yield found


@pytest.fixture
def short_lived(tmp_path: Path) -> Iterator[Bao]:
    """A server of its own, whose tokens live 6 s and can be renewed to 15 s: a busy machine is late by a second."""
    with _serving(tmp_path, token_ttl_s=6, max_ttl_s=15) as found:
        yield found


@contextlib.contextmanager
def _serving(directory: Path, token_ttl_s: int, max_ttl_s: int) -> Iterator[Bao]:
    ca = make_ca(directory)
    admitted = [*roles("kv", ("kv-1", "kv-2")), *roles("transit", ("transit-1", "transit-2")), LOG_ROLE]
    admitted += [Role("signer-kv", "kv-3", by="cert"), Role("keysmith-kv", "kv-3")]
    admitted += [Role("signer-kv", "kv-4", cidr="127.0.0.2/32"), Role("keysmith-kv", "kv-4")]
    server = start(directory / "server", ca, roles=admitted, token_ttl_s=token_ttl_s, max_ttl_s=max_ttl_s)
    try:
        found = Bao(server, directory, ca)
        for node in (found.node("kv"), found.node("transit"), found.node("kv", 3), found.node("kv", 4)):
            asyncio.run(make_key(node.uri, node.access("keysmith"), lambda size: SEED[:size]))
        yield found
    finally:
        server.stop()


@pytest.fixture(params=["kv", "transit"])
def node(request: pytest.FixtureRequest, bao: Bao) -> VaultNode:
    """A node of each kind in turn, with its key."""
    return bao.node(request.param)

"""The places where a key can live, each real: a sealed file, and two OpenBao servers of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.wallet import Network
from deploy.ca import make_ca
from deploy.openbao import Server, start
from signer_node.backends import make_key, open_backend, sealed_file
from signer_node.backends.port import Access, Backend
from signer_node.seed import KeyMaterial
from tests.fakes.vault_nodes import VaultNode, roles

SEED = bytes(range(100, 132))
PASSPHRASE = b"correct horse battery"
NODES = ("good", "made-twice", "empty", "broken")


@dataclass(frozen=True, slots=True)
class Place:
    """One adapter. uri, signer, keysmith: by node name.  server: None for sealed-file."""

    scheme: str
    directory: Path
    uri: Callable[[str], str]
    signer: Callable[[str], Access]
    keysmith: Callable[[str], Access]
    server: Server | None

    def make(self, node: str = "good", seed: bytes = SEED) -> KeyMaterial:
        """Make the key of `node` from `seed`."""
        return asyncio.run(make_key(self.uri(node), self.keysmith(node), lambda size: seed[:size]))

    def open(self, node: str = "good") -> Backend:
        """Return the backend of `node`."""
        return open_backend(self.uri(node), self.signer(node))


@pytest.fixture(scope="session")
def kv_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with KV v2 and the key of the node `good`."""
    yield from _vault_place("kv", tmp_path_factory.mktemp("kv"))


@pytest.fixture(scope="session")
def transit_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with transit and the key of the node `good`."""
    yield from _vault_place("transit", tmp_path_factory.mktemp("transit"))


@pytest.fixture(scope="session")
def file_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A directory with the sealed file of the node `good`."""
    directory = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        cheap = (sealed_file.Hardness(8 * 1024, 1, 1),)
        patch.setattr(sealed_file.make_key, "__defaults__", cheap)  # the cost is measured elsewhere
        place = Place(
            "sealed-file",
            directory,
            lambda node: f"sealed-file://{directory}/{node}",
            lambda node: Access(node, Network.REGTEST, passphrase=lambda: bytearray(PASSPHRASE)),
            lambda node: Access(node, Network.REGTEST, passphrase=lambda: bytearray(PASSPHRASE)),
            None,
        )
        place.make()
        yield place


@pytest.fixture(
    params=["file_place", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kv_place", "transit_place"))]
)
def place(request: pytest.FixtureRequest) -> Place:
    """Every adapter in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


def _vault_place(kind: str, directory: Path) -> Iterator[Place]:
    server = start(directory / "bao", make_ca(directory), roles=roles(kind, NODES))
    try:
        place = Place(
            f"vault-{kind}",
            directory,
            lambda node: VaultNode(server, kind, node, directory).uri,
            lambda node: VaultNode(server, kind, node, directory).access("signer"),
            lambda node: VaultNode(server, kind, node, directory).access("keysmith"),
            server,
        )
        place.make()
        yield place
    finally:
        server.stop()

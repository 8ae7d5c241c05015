"""The places where a key can live, each real: a sealed file, and three OpenBao servers of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from custody.scripts import Template
from custody.wallet import Network
from deploy.ca import make_ca
from deploy.engine import engine_mount
from deploy.openbao import Server, start
from signer_node.backends import keep_seed, make_key, open_backend, sealed_file
from signer_node.backends.port import Access, Backend, Cleared
from signer_node.seed import KeyMaterial
from tests.fakes.cleared import cleared
from tests.fakes.engine_file import engine_script
from tests.fakes.today import Today, genesis_of_today
from tests.fakes.vault_nodes import VaultNode, roles
from tests.world import bitcoin_seed

SEED = bytes(bitcoin_seed("alpha"))
PASSPHRASE = b"correct horse battery"
SERVERS = ("kv_place", "transit_place", "engine_place")
NODES = ("good", "made-twice", "empty", "broken", "words")


_any_cleared = partial(cleared, SEED)


@dataclass(frozen=True, slots=True)
class Place:
    """One adapter. uri, signer, keysmith: by node name.  server: None for sealed-file.

    asked: what is cleared for that many inputs; of a whole bundle where the backend judges it again.
    """

    scheme: str
    directory: Path
    uri: Callable[[str], str]
    signer: Callable[[str], Access]
    keysmith: Callable[[str], Access]
    server: Server | None
    asked: Callable[[int], Cleared] = _any_cleared

    def make(self, node: str = "good", seed: bytes = SEED) -> KeyMaterial:
        """Make the key of `node` from `seed`."""
        return asyncio.run(make_key(self.uri(node), self.keysmith(node), lambda size: seed[:size]))

    def keep(self, node: str, seed: bytes) -> KeyMaterial:
        """Keep `seed`, which was made outside, as the key of `node`."""
        return asyncio.run(keep_seed(self.uri(node), self.keysmith(node), bytearray(seed)))

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
        patch.setattr(sealed_file.keep_seed, "__defaults__", cheap)
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


@pytest.fixture(scope="session")
def today() -> Today:
    """A world on the real clock, whose node alpha has the key that the places hold."""
    return Today(genesis_of_today())


@pytest.fixture(scope="session")
def taproot_today() -> Today:
    """The same with a taproot wallet."""
    return Today(genesis_of_today(template=Template.TR))


@pytest.fixture(scope="session")
def engine_place(tmp_path_factory: pytest.TempPathFactory, today: Today, taproot_today: Today) -> Iterator[Place]:
    """A server with an engine for each node, `good` and `taproot` pinned to a world of their own as node alpha."""
    directory, nodes = tmp_path_factory.mktemp("engine"), (*NODES, "taproot")
    script = engine_script(tmp_path_factory.mktemp("plugin") / "engine", SEED)
    server = start(directory / "bao", make_ca(directory), roles=roles("engine", nodes), engine=script)
    try:
        yield _engine_place(server, directory, {"good": today, "taproot": taproot_today})
    finally:
        server.stop()


def _engine_place(server: Server, directory: Path, worlds: Mapping[str, Today]) -> Place:
    """Return the place. A keysmith may name its own node only, so root makes the keys of those that are all alpha."""
    root = server.root_token()
    for node, world in worlds.items():
        mount, genesis = engine_mount(node), world.genesis
        born = {"node": "alpha", "network": "regtest", "request": "00" * 16}
        server.call("POST", f"{mount}/key", root, born)
        body = {"genesis": genesis.signed.to_bytes().decode(), "hash": genesis.hash.hex()}
        server.call("POST", f"{mount}/genesis", root, body)
    server.call("POST", "auth/token/revoke-self", root, {})

    def access(node: str, job: str) -> Access:
        found = VaultNode(server, "engine", node, directory).access(job)
        return replace(found, node="alpha") if node in worlds else found

    return Place(
        "vault-engine",
        directory,
        lambda node: VaultNode(server, "engine", node, directory).uri,
        lambda node: access(node, "signer"),
        lambda node: access(node, "keysmith"),
        server,
        lambda inputs: worlds["good"].cleared(inputs=inputs),
    )


@pytest.fixture(
    params=["file_place", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kv_place", "transit_place"))]
)
def seed_place(request: pytest.FixtureRequest) -> Place:
    """Every adapter that has the seed in this process while it signs, in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


@pytest.fixture(params=["file_place", *(pytest.param(name, marks=pytest.mark.slow) for name in SERVERS)])
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

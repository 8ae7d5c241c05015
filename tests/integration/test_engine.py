"""The engine in a real server under fault: what a client saw, and that it signs the same again, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from custody import curve
from custody.alive import Life
from custody.bundle import Bundle
from custody.errors import ConflictError, CustodyError, UnavailableError
from custody.follow import advance, start
from custody.genesis import Genesis
from deploy import openbao
from deploy.ca import make_ca
from deploy.engine import COMMAND, engine_mount
from deploy.openbao import Server
from signer_node.backends import make_key, open_backend, pin_document
from signer_node.backends.port import Backend, BackendRefused, State
from signer_node.breath import breath_to_sign
from signer_node.followed import Followed, followed_since
from tests.fakes.engine_file import engine_script
from tests.fakes.engine_processes import engine_pids, signal_engines, wait_until, wait_until_gone
from tests.fakes.today import Today, arrived, genesis_of_today
from tests.fakes.vault_nodes import VaultNode, roles
from tests.world import bitcoin_seed

pytestmark = pytest.mark.slow
T = TypeVar("T")
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Vault:
    """One server with the engine of node alpha, pinned to the genesis of `today`."""

    server: Server
    today: Today
    directory: Path

    @property
    def node(self) -> VaultNode:
        """Node alpha."""
        return VaultNode(self.server, "engine", "alpha", self.directory)

    def open(self, **changes: Any) -> Backend:
        """Return alpha's backend, its access changed."""
        return open_backend(self.node.uri, replace(self.node.access(), **changes))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """A running server; each test leaves it as it found it."""
    directory, today = tmp_path_factory.mktemp("engine-faults"), Today(genesis_of_today())
    script = engine_script(tmp_path_factory.mktemp("plugin") / "engine", bytes(bitcoin_seed("alpha")))
    server = openbao.start(
        directory / "bao", make_ca(directory), roles=roles("engine", ("alpha", "other")), engine=script
    )
    try:
        vault = Vault(server, today, directory)
        keysmith = vault.node.access("keysmith")
        asyncio.run(make_key(vault.node.uri, keysmith))
        asyncio.run(pin_document(vault.node.uri, vault.node.access("keysmith"), today.genesis.signed))
        yield vault
    finally:
        server.stop()


async def eventually(call: Callable[[], Awaitable[T]]) -> T:
    """Return what `call` gives once the server is over what happened to it, as a node that is asked again does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await call()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def test_sign_when_the_plugin_was_killed_gives_the_same_bytes(vault: Vault) -> None:
    """The server starts it again; nothing was kept in the process that died."""
    backend, cleared = vault.open(), vault.today.cleared(inputs=2)
    before = await backend.sign(cleared)
    killed = signal_engines(vault.server, signal.SIGKILL)
    assert wait_until_gone(killed)

    assert await eventually(lambda: backend.sign(cleared)) == before
    assert engine_pids(vault.server)


async def test_sign_when_the_plugin_is_killed_in_the_middle_of_requests_gives_the_same_bytes(vault: Vault) -> None:
    """The server runs a request again on the process it starts; whatever was half done then is done or was never."""
    backend, cleared = vault.open(), vault.today.cleared()

    async def kill() -> None:
        for _ in range(5):
            await asyncio.sleep(0.07)
            signal_engines(vault.server, signal.SIGKILL)

    found, _ = await asyncio.gather(
        asyncio.gather(*(eventually(lambda: backend.sign(cleared)) for _ in range(6))), kill()
    )

    assert all(one == found[0] for one in found)
    assert await eventually(lambda: vault.open().sign(cleared)) == found[0]


async def test_health_when_the_plugin_hangs_is_engine_down_until_it_is_killed(vault: Vault) -> None:
    """Only its own calls time out; a kill, never a reload, cures it."""
    backend, cleared = vault.open(), vault.today.cleared()
    before = await backend.sign(cleared)
    frozen = signal_engines(vault.server, signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = await backend.health()
        assert found.state is State.ENGINE_DOWN
        assert time.monotonic() - began < 10
    finally:
        signal_engines(vault.server, signal.SIGKILL)
    assert wait_until_gone(frozen)

    assert await eventually(lambda: backend.sign(cleared)) == before
    assert (await backend.health()).state is State.READY


async def test_sign_when_the_server_is_sealed_is_sealed_and_no_plugin_is_left(vault: Vault) -> None:
    """Seal ends every plugin process; unsealed, the same key signs the same bytes."""
    backend, cleared = vault.open(), vault.today.cleared()
    before = await backend.sign(cleared)
    running = engine_pids(vault.server)
    await asyncio.to_thread(vault.server.seal)
    try:
        assert (await backend.health()).state is State.SEALED
        with pytest.raises(CustodyError) as refused:
            await backend.sign(cleared)
        assert refused.value.code == "VAULT_SEALED"
        assert wait_until_gone(running)
        assert engine_pids(vault.server) == []
    finally:
        await asyncio.to_thread(vault.server.restart)

    assert await eventually(lambda: vault.open().sign(cleared)) == before


async def test_sign_when_the_plugin_file_was_changed_is_engine_down_until_it_is_put_back(vault: Vault) -> None:
    """The running process goes on; the changed file is never started."""
    backend, cleared = vault.open(), vault.today.cleared()
    before = await backend.sign(cleared)
    installed = vault.server.directory / "plugins" / COMMAND
    content = installed.read_bytes()
    try:
        installed.chmod(0o755)
        installed.write_bytes(content + b"\n# changed\n")
        assert await backend.sign(cleared) == before
        assert wait_until_gone(signal_engines(vault.server, signal.SIGKILL))
        with pytest.raises(CustodyError) as refused:
            await backend.sign(cleared)
        assert refused.value.code == "VAULT_ENGINE_DOWN"
        assert (await backend.health()).state is State.ENGINE_DOWN
    finally:
        installed.write_bytes(content)

    assert await eventually(lambda: backend.sign(cleared)) == before


async def test_sign_when_the_plugin_is_reloaded_gives_the_same_bytes(vault: Vault) -> None:
    """An operator's reload starts a new process over the same storage."""
    backend, cleared = vault.open(), vault.today.cleared()
    before, running = await backend.sign(cleared), engine_pids(vault.server)

    with root_of(vault.server) as root:
        body = {"mounts": [f"{engine_mount('alpha')}/"]}
        await asyncio.to_thread(vault.server.call, "POST", "sys/plugins/reload/backend", root, body)

    assert await eventually(lambda: backend.sign(cleared)) == before
    assert set(engine_pids(vault.server)) != set(running)


async def test_sign_when_the_snapshot_was_restored_waits_for_the_history_and_then_signs_the_same(
    vault: Vault, tmp_path: Path
) -> None:
    """A rewound engine forgot what it signed; before it signs again it has followed the log to its end."""
    today, server = vault.today, vault.server
    with root_of(server) as root:
        snapshot = await asyncio.to_thread(take_snapshot, server, root)
    spend = today.spend()
    index = spend.release()
    first = arrived(spend.bundle(index))
    before = await vault.open().sign(today.judged(first))
    followed = node_that_followed(today.genesis, first, tmp_path / "followed.log")
    with root_of(server) as root:
        await asyncio.to_thread(restore_snapshot, server, root, snapshot)
    await asyncio.to_thread(server.restart)
    whole = today.bundle()
    later = replace(today.judged(whole), raw_bundle=since(whole, len(first.log.entries)))

    with pytest.raises(UnavailableError) as refused:
        await vault.open().sign(later)
    told = vault.open(history=partial(followed_since, followed))

    assert refused.value.code == "ENGINE_BEHIND"
    assert len(await told.sign(later)) == 1
    assert await told.sign(today.judged(arrived(spend.bundle(index)))) == before


async def test_sign_when_asked_for_a_proof_of_life_gives_the_sentence_signed(vault: Vault) -> None:
    """By the same way as a bundle, and without one."""
    life = Life(vault.today.genesis.hash, "alpha", int(time.time()), bytes(16))
    breath = breath_to_sign(vault.today.genesis, life)
    assert breath is not None

    (made,) = await vault.open().sign(breath)

    assert curve.ecdsa_verify(breath.pubkeys[0], breath.digests[0], made.signature[:-1])


async def test_pin_when_another_genesis_comes_later_is_refused(vault: Vault) -> None:
    """Also to the keysmith's own token; the first one stays."""
    other = genesis_of_today(threshold=3)

    with pytest.raises(ConflictError) as refused:
        await pin_document(vault.node.uri, vault.node.access("keysmith"), other.signed)

    assert refused.value.code == "GENESIS_PINNED"
    await pin_document(vault.node.uri, vault.node.access("keysmith"), vault.today.genesis.signed)


async def test_health_when_no_genesis_is_pinned_is_integrity(vault: Vault) -> None:
    """A key without a root signs nothing, and says so."""
    node = VaultNode(vault.server, "engine", "other", vault.directory)
    await make_key(node.uri, node.access("keysmith"))

    found = await open_backend(node.uri, node.access()).health()

    assert found.state is State.INTEGRITY


async def test_sign_when_the_node_was_taken_over_is_refused_by_the_judge_inside(vault: Vault) -> None:
    """A node that clears what it should not gets a refusal by code, and no signature."""
    honest = vault.today.bundle()
    lie = replace(honest, release_index=honest.release_index + 1)
    forged = replace(vault.today.judged(honest), raw_bundle=lie.to_bytes())

    with pytest.raises(BackendRefused) as said:
        await vault.open().sign(forged)

    assert said.value.refused.code == "RELEASE_INADMISSIBLE"


REACHED = {"signer": {"sign", "follow", "life", "status"}, "keysmith": {"key", "genesis", "wallet", "status"}}


@pytest.mark.parametrize("job", REACHED)
def test_token_of_a_job_then_reaches_its_own_paths_only(vault: Vault, job: str) -> None:
    """Policy stops it, or the engine itself answers; a refusal of the engine has another status than 403."""
    token, mount = vault.node.token(job), engine_mount("alpha")
    born = {"node": "alpha", "network": "regtest", "request": "00" * 16}
    bodies: dict[str, tuple[str, str, dict[str, Any] | None]] = {
        "key": ("POST", f"{mount}/key", born),
        "genesis": ("POST", f"{mount}/genesis", {"genesis": "{}", "hash": "00" * 32}),
        "wallet": ("POST", f"{mount}/wallet", {"wallet": "{}", "hash": "00" * 32}),
        "sign": ("POST", f"{mount}/sign", {"bundle": "{}"}),
        "follow": ("POST", f"{mount}/follow", {"delta": "{}"}),
        "life": ("POST", f"{mount}/life", {"life": "{}"}),
        "status": ("GET", f"{mount}/status", None),
        "other": ("GET", f"{engine_mount('other')}/status", None),
    }

    reached = {name for name, call in bodies.items() if _is_reached(vault.server, token, *call)}

    assert reached == REACHED[job]


@pytest.mark.parametrize("path", ["sign/digest", "sighash", "seed", "export", "raw"])
def test_engine_when_asked_for_a_seed_or_a_bare_digest_has_no_such_path(vault: Vault, path: str) -> None:
    """Not even root finds one."""
    with root_of(vault.server) as root:
        for method in ("GET", "POST"):
            with pytest.raises(UnavailableError, match="unsupported path"):
                vault.server.call(method, f"{engine_mount('alpha')}/{path}", root, {"digest": "00" * 32})


def test_plugin_when_the_server_was_killed_ends_by_itself(tmp_path: Path) -> None:
    """No orphan with a seed in reach; the next start clears the socket directory that was left."""
    script = engine_script(tmp_path / "engine")
    server = openbao.start(tmp_path / "bao", make_ca(tmp_path), roles=roles("engine", ("alpha",)), engine=script)
    try:
        running = engine_pids(server)
        assert len(running) == 1
        server.process.kill()
        server.process.wait()

        assert wait_until_gone(running)

        server.restart()
        assert len(engine_pids(server)) == 1
        assert wait_until(lambda: not any(_socket_directories(running)))  # the new one clears before it answers
    finally:
        server.stop()


def _socket_directories(pids: list[int]) -> list[Path]:
    return [path for pid in pids for path in Path(tempfile.gettempdir()).glob(f"vp{pid}-*")]


class root_of:  # noqa: N801 - reads as the function that it is
    """A root token, made by the holders of the recovery key and revoked at the end."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> str:
        self._token = self._server.root_token()
        return self._token

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(UnavailableError, requests.RequestException):  # a restored snapshot does not know it
            self._server.call("POST", "auth/token/revoke-self", self._token, {})


def take_snapshot(server: Server, root: str) -> bytes:
    """Return a snapshot of the whole server, as an operator's backup job takes it."""
    return _raft(server, root, "GET", "snapshot", None)


def restore_snapshot(server: Server, root: str, snapshot: bytes) -> None:
    """Set the whole server back to `snapshot`."""
    _raft(server, root, "POST", "snapshot-force", snapshot)


def _raft(server: Server, root: str, method: str, path: str, body: bytes | None) -> bytes:
    answer = requests.request(
        method,
        f"{server.address}/v1/sys/storage/raft/{path}",
        headers={"X-Vault-Token": root},
        data=body,
        verify=str(server.ca_path),
        timeout=30,
    )
    answer.raise_for_status()
    return answer.content


def node_that_followed(genesis: Genesis, bundle: Bundle, path: Path) -> Path:
    """Write the log of a node that took in the log part of `bundle` to `path` and return it."""
    followed, log = Followed(path, genesis), bundle.log
    followed.take(log, advance(start(genesis), log.entries, log.by_digest(), log.note))
    followed.close()
    return path


def since(bundle: Bundle, size: int) -> bytes:
    """Return `bundle` as a coordinator sends it to a node that has `size` entries."""
    log = bundle.log
    return replace(bundle, log=replace(log, first=size, entries=log.entries[size:])).to_bytes()


def _is_reached(server: Server, token: str, method: str, path: str, body: dict[str, Any] | None) -> bool:
    try:
        server.call(method, path, token, body)
    except UnavailableError as error:
        return ": 403 " not in error.message
    return True

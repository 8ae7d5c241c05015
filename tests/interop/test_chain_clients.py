"""Other people's chain clients against the interfaces that the embedded chain serves: what they read is what is there.

If bdk, Debian's Electrum and a PyPI client of Core's RPC understand our servers, our own adapters are proven against
more than ourselves.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import bdkpython
import pytest
from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

from console.wallet_files import core, electrum
from console.wallet_files.named import NamedWallet
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.port import TxState
from coordinator.chain.serving.run import Places, serve
from custody.wallet import RECEIVE
from tests.fakes.clock import FakeClock
from tests.fakes.psbts import BOOK, WALLET
from tests.fakes.spends import OPEN, p2wsh, spend_open

pytestmark = pytest.mark.slow

OTHER = p2wsh(b"\x51\x51")
COIN_SATS = 5_000_000_000
PAID_SATS = COIN_SATS - 1_000
TIMEOUT_S = 120


@dataclass(frozen=True)
class Served:
    """A chain with one coin of ours and one that anybody may spend, and where it is served."""

    chain: EmbeddedChain
    places: Places


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Our wallet's address 3 was paid by a transaction, confirmed once; a coin on OPEN is left."""
    async with AsyncExitStack() as stack:
        chain = await stack.enter_async_context(await EmbeddedChain.open(tmp_path / "chain", FakeClock()))
        places = await serve(chain, tmp_path / "cookie", stack, (0, 0, 0))
        await chain.mine(2, OPEN)
        await chain.mine(100, OTHER)
        coin, _ = await chain.coins([OPEN])
        assert await chain.broadcast(spend_open(coin, 1_000, to=BOOK.script(RECEIVE, 3).script).serialize()) is None
        await chain.mine(1, OTHER)
        yield Served(chain, places)


def bdk_wallet() -> bdkpython.Wallet:
    """Return our wallet in bdk, watching only, from the file that `keyturn wallet export --format core` writes."""
    requests = json.loads(core.write(NamedWallet("ours", WALLET)))
    receive, change = (bdkpython.Descriptor(one["desc"], bdkpython.NetworkKind.TEST) for one in requests)
    return bdkpython.Wallet(receive, change, bdkpython.Network.REGTEST, bdkpython.Persister.new_in_memory())


@pytest.mark.parametrize("kind", ["esplora", "electrum"])
async def test_bdk_given_our_server_finds_the_coin(served: Served, kind: str) -> None:
    """A full scan over its own client: the balance, the height, and what waits in the mempool."""
    wallet = bdk_wallet()
    if kind == "esplora":
        esplora = bdkpython.EsploraClient(served.places.esplora)
        update = await asyncio.to_thread(lambda: esplora.full_scan(wallet.start_full_scan().build(), 10, 1))
    else:
        client = await asyncio.to_thread(bdkpython.ElectrumClient, f"tcp://{served.places.electrum}")
        update = await asyncio.to_thread(lambda: client.full_scan(wallet.start_full_scan().build(), 10, 5, True))

    wallet.apply_update(update)

    assert wallet.balance().confirmed.to_sat() == PAID_SATS
    assert wallet.latest_checkpoint().height == 103


@pytest.mark.parametrize("kind", ["esplora", "electrum"])
async def test_bdk_broadcasts_through_our_server(served: Served, kind: str) -> None:
    """A transaction that it sends is in our mempool; one that breaks the rules is refused with words."""
    (coin,) = await served.chain.coins([OPEN])
    good, bad = spend_open(coin, 1_000), spend_open(coin, 1)

    def send(transaction: bdkpython.Transaction) -> None:
        if kind == "esplora":
            bdkpython.EsploraClient(served.places.esplora).broadcast(transaction)
        else:
            bdkpython.ElectrumClient(f"tcp://{served.places.electrum}").transaction_broadcast(transaction)

    await asyncio.to_thread(send, bdkpython.Transaction(good.serialize()))
    assert (await served.chain.status(good.txid)).state is TxState.MEMPOOL
    with pytest.raises(Exception, match="TX_"):
        await asyncio.to_thread(send, bdkpython.Transaction(bad.serialize()))


def rpc_client(places: Places) -> AuthServiceProxy:
    """Return the client with the credentials of the cookie file."""
    address = places.core.removeprefix("http://")
    return AuthServiceProxy(f"http://{Path(places.cookie).read_text()}@{address}")


async def test_core_rpc_client_given_our_server_reads_blocks_and_sends(served: Served) -> None:
    """The client of most scripts: blocks, an output, a transaction out, an error that it raises as one."""
    client = rpc_client(served.places)
    (coin,) = await served.chain.coins([OPEN])
    transaction = spend_open(coin, 1_000)

    def work() -> tuple[dict[str, object], str, str]:
        info = client.getblockchaininfo()
        assert client.getblockheader(client.getblockhash(103))["height"] == 103
        out = client.gettxout(coin.outpoint.txid[::-1].hex(), coin.outpoint.vout)
        assert int(out["value"] * 100_000_000) == COIN_SATS
        sent = client.sendrawtransaction(transaction.serialize().hex())
        with pytest.raises(JSONRPCException, match="TX decode failed"):
            client.sendrawtransaction("00")
        return info, sent, client.getrawmempool()[0]

    info, sent, waiting = await asyncio.to_thread(work)

    assert (info["chain"], info["blocks"]) == ("regtest", 103)
    assert sent == waiting == transaction.txid[::-1].hex()


class ElectrumDaemon:
    """Debian's Electrum, connected to our server and to nothing else."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        (folder / "wallet").write_text(electrum.write(NamedWallet("ours", WALLET)))
        self.command("--offline", "setconfig", "server", f"{server}:t")
        self.command("--offline", "setconfig", "oneserver", "true")
        self.command("--offline", "setconfig", "auto_connect", "false")
        self.command("daemon", "-d")

    def command(self, *arguments: str) -> str:
        """Return what one command prints."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["electrum", "--regtest", "-D", str(self.folder), *arguments],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def until(self, wanted: str, *arguments: str) -> str:
        """Return what a command prints once it holds `wanted`; Electrum follows the chain in the background."""
        deadline = time.monotonic() + TIMEOUT_S
        while wanted not in (said := self.command(*arguments)):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        return said


async def test_electrum_given_our_server_shows_the_balance_and_follows(served: Served, tmp_path: Path) -> None:
    """It opens our exported wallet, finds the coin behind our address, and sees the next payment come."""
    if shutil.which("electrum") is None:
        pytest.fail(os.environ.get("KEYTURN_MISSING_ELECTRUM", "no electrum: `apt-get install electrum`"))
    folder = tmp_path / "electrum"
    folder.mkdir()
    daemon = await asyncio.to_thread(ElectrumDaemon, folder, served.places.electrum)
    try:
        wallet = str(folder / "wallet")
        await asyncio.to_thread(daemon.command, "load_wallet", "-w", wallet)
        first = await asyncio.to_thread(daemon.until, "49.99999", "getbalance", "-w", wallet)
        assert json.loads(first)["confirmed"] == "49.99999"

        (coin,) = await served.chain.coins([OPEN])
        paying = spend_open(coin, 2_000, to=BOOK.script(RECEIVE, 0).script)
        assert await served.chain.broadcast(paying.serialize()) is None
        await served.chain.mine(1, OTHER)

        second = await asyncio.to_thread(daemon.until, "99.99997", "getbalance", "-w", wallet)
        assert json.loads(second)["confirmed"] == "99.99997"
    finally:
        await asyncio.to_thread(daemon.command, "stop")

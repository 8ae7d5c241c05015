"""Which view of the chain the operator configured: the embedded regtest, or backends of others and of one's own.

[chain]
kind = "backends"
confirmations = 6
operators = 2                        # who must agree that a payment is confirmed; 1 has to be asked for
mainnet = true                       # this line, and no other, lets a genesis of mainnet start
[[chain.backends]]
name = "node"
operator = "us"
kind = "core"
url = "http://127.0.0.1:8332"
cookie = "/var/lib/bitcoind/.cookie" # or: credentials = FILE with user:password
wallet = "keyturn"
[[chain.backends]]
name = "blockstream"
operator = "blockstream"
kind = "esplora"
url = "https://blockstream.info/api"
proxy = "socks5://127.0.0.1:9050"
[[chain.backends]]
name = "electrum"
operator = "friends"
kind = "electrum"
host = "electrum.example"
port = 50002
pin = "electrum.sha256"              # written at first contact; without it: no TLS, loopback only
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from coordinator.chain.core import CoreSource, cookie_of
from coordinator.chain.electrum import ElectrumPlace, ElectrumSource
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.esplora import EsploraSource
from coordinator.chain.http_source import HttpSource
from coordinator.chain.outside import OutsideChain, Source
from coordinator.chain.port import Chain
from coordinator.chain.several import OPERATORS_FOR_CREDIT, Backend, SeveralChains
from coordinator.clock import SystemClock
from custody.errors import MalformedError
from custody.fields import Fields
from custody.units import MAX_TIME_S
from custody.wallet import Network

MAX_BACKENDS = 16  # each is asked for every status
_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(?:/[A-Za-z0-9._~/-]*)?")
_PROXY = re.compile(r"socks5://[A-Za-z0-9.-]+:[0-9]{1,5}")
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::|/|$)")


@dataclass(frozen=True, slots=True)
class BackendPlace:
    """One backend. kind: core, esplora or electrum; the fields of the other kinds are empty.

    url: of Core's RPC or Esplora's API.  secret: Core's cookie or credentials file.  born_at: UTC seconds, see
    `CoreSource`.  electrum: where an Electrum server is.
    """

    name: str
    operator: str
    kind: str
    url: str = ""
    secret: Path | None = None
    wallet: str = ""
    born_at: int = 0
    proxy: str = ""
    electrum: ElectrumPlace | None = None


@dataclass(frozen=True, slots=True)
class ChainPlace:
    """The chain. confirmations: depth in blocks at which a payment is done.  directory: of the embedded regtest.

    backends: none for the embedded chain.  operators: see `SeveralChains`.  mainnet: whether the operator meant it.
    """

    confirmations: int
    directory: Path | None = None
    backends: tuple[BackendPlace, ...] = ()
    operators: int = OPERATORS_FOR_CREDIT
    mainnet: bool = False


def read_chain(fields: Fields, base: Path) -> ChainPlace:
    """Return what `[chain]` says; paths are relative to `base`.

    Raises:
        MalformedError: CONFIG_CHAIN, or a FIELD_ code.
    """
    kind, confirmations = fields.text("kind"), fields.integer("confirmations", 1, 1000)
    if kind == "embedded":
        place = ChainPlace(confirmations, base / fields.text("directory"))
    elif kind == "backends":
        backends = tuple(_read_backend(Fields(one, "backend"), base) for one in fields.items("backends", MAX_BACKENDS))
        operators = OPERATORS_FOR_CREDIT
        if fields.has("operators"):
            operators = fields.integer("operators", 1, MAX_BACKENDS)
        is_mainnet = fields.boolean("mainnet") if fields.has("mainnet") else False
        place = ChainPlace(confirmations, None, backends, operators, is_mainnet)
        if len({one.name for one in backends}) < len(backends) or not backends:
            raise MalformedError("CONFIG_CHAIN", "expected backends with names of their own")
    else:
        raise MalformedError("CONFIG_CHAIN", f"expected embedded or backends, found {kind[:20]!r}")
    fields.done()
    return place


def check_network(place: ChainPlace, network: Network) -> None:
    """Refuse a chain that the genesis is not about.

    Raises:
        MalformedError: CONFIG_CHAIN.
    """
    if place.directory is not None and network is not Network.REGTEST:
        raise MalformedError("CONFIG_CHAIN", f"expected backends for {network.value}: the embedded chain is a regtest")
    if network.is_mainnet and not place.mainnet:
        raise MalformedError("CONFIG_CHAIN", "expected `mainnet = true` under [chain]: this genesis moves real money")


async def open_chain(place: ChainPlace, network: Network, stack: AsyncExitStack) -> Chain:
    """Return the chain; `stack` closes it. What is away now is asked again later; nothing is asked here.

    Raises:
        MalformedError: CONFIG_CHAIN, CHAIN_OPERATORS.
        CustodyError: as `EmbeddedChain.open`.
    """
    check_network(place, network)
    if place.directory is not None:
        return await stack.enter_async_context(await EmbeddedChain.open(place.directory, SystemClock()))
    found = []
    for one in place.backends:
        chain = OutsideChain(one.name, make_source(one), network)
        stack.push_async_callback(chain.close)
        found.append(Backend(one.name, one.operator, chain))
    return SeveralChains(found, place.operators)


def make_source(one: BackendPlace) -> Source:
    """Return the source of one backend; it connects when it is first asked."""
    if one.electrum is not None:
        return ElectrumSource(one.electrum)
    http = HttpSource(one.url, one.proxy)
    if one.kind == "esplora":
        return EsploraSource(http)
    return CoreSource(http, cookie_of(one.secret or Path()), one.wallet, one.born_at)


def _read_backend(fields: Fields, base: Path) -> BackendPlace:
    name, operator, kind = fields.name("name"), fields.name("operator"), fields.text("kind")
    proxy = _matching(_PROXY, fields.text("proxy"), "socks5://HOST:PORT") if fields.has("proxy") else ""
    if kind == "electrum":
        host, port = fields.text("host"), fields.integer("port", 1, 65_535)
        pin = base / fields.text("pin") if fields.has("pin") else None
        if pin is None and not _LOOPBACK.match(f"http://{host}/"):
            raise MalformedError("CONFIG_CHAIN", f"expected a pin file for {name}: without it there is no TLS")
        place = BackendPlace(name, operator, kind, electrum=ElectrumPlace(host, port, pin, proxy))
    elif kind in ("core", "esplora"):
        url = _matching(_URL, fields.text("url", 1024), "http(s)://HOST[:PORT][/PATH]")
        if url.startswith("http:") and not _LOOPBACK.match(url) and ".onion" not in url:
            raise MalformedError("CONFIG_CHAIN", f"expected https for {name}, or loopback, or an onion service")
        if kind == "esplora":
            place = BackendPlace(name, operator, kind, url, proxy=proxy)
        else:
            secret = fields.text("cookie" if fields.has("cookie") else "credentials", 1024)
            born_at = fields.integer("born_at", 0, MAX_TIME_S) if fields.has("born_at") else 0
            place = BackendPlace(name, operator, kind, url, base / secret, fields.name("wallet"), born_at, proxy)
    else:
        raise MalformedError("CONFIG_CHAIN", f"expected core, esplora or electrum, found {kind[:20]!r}")
    fields.done()
    return place


def _matching(pattern: re.Pattern[str], text: str, form: str) -> str:
    if pattern.fullmatch(text) is None:
        raise MalformedError("CONFIG_CHAIN", f"expected {form}")
    return text

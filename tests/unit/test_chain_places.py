"""[chain] of the coordinator's configuration: what is taken, and what keeps it from starting."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.places import ChainPlace, check_network, open_chain, read_chain
from coordinator.chain.several import SeveralChains
from custody.canonical import Json
from custody.errors import MalformedError
from custody.fields import Fields
from custody.wallet import Network

BASE = Path("/etc/keyturn")
CORE: dict[str, Json] = {
    "name": "node", "operator": "us", "kind": "core", "url": "http://127.0.0.1:8332",
    "cookie": "node.cookie", "wallet": "keyturn", "born_at": 1_700_000_000,
}  # fmt: skip
ESPLORA: dict[str, Json] = {
    "name": "public", "operator": "blockstream", "kind": "esplora",
    "url": "https://blockstream.info/api", "proxy": "socks5://127.0.0.1:9050",
}  # fmt: skip
ELECTRUM: dict[str, Json] = {
    "name": "friend", "operator": "friends", "kind": "electrum",
    "host": "electrum.example", "port": 50002, "pin": "pin",
}  # fmt: skip
VALID: dict[str, Json] = {"kind": "backends", "confirmations": 6, "backends": [CORE, ESPLORA, ELECTRUM]}
EMBEDDED: dict[str, Json] = {"kind": "embedded", "confirmations": 1, "directory": "chain"}


def read(value: dict[str, Json]) -> ChainPlace:
    """Return what [chain] says."""
    return read_chain(Fields(value, "chain"), BASE)


def test_read_chain_given_three_backends_keeps_them_in_order() -> None:
    """The first is preferred; paths are relative to the file; two operators are needed unless said."""
    place = read(VALID)

    assert [(one.name, one.operator, one.kind) for one in place.backends] == [
        ("node", "us", "core"),
        ("public", "blockstream", "esplora"),
        ("friend", "friends", "electrum"),
    ]
    assert (place.operators, place.mainnet, place.confirmations) == (2, False, 6)
    assert place.backends[0].secret == BASE / "node.cookie"
    electrum = place.backends[2].electrum
    assert electrum is not None
    assert electrum.pin == BASE / "pin"


CHANGES: dict[str, tuple[dict[str, Json], str]] = {
    "another kind": ({**VALID, "kind": "neutrino"}, "CONFIG_CHAIN"),
    "no backends": ({**VALID, "backends": []}, "CONFIG_CHAIN"),
    "two of one name": ({**VALID, "backends": [CORE, CORE]}, "CONFIG_CHAIN"),
    "a directory beside backends": ({**VALID, "directory": "chain"}, "FIELD_UNKNOWN"),
    "an unknown backend": ({**VALID, "backends": [{**CORE, "kind": "btcd"}]}, "CONFIG_CHAIN"),
    "an unknown field": ({**VALID, "backends": [{**CORE, "token": "x"}]}, "FIELD_UNKNOWN"),
    "http over the network": ({**VALID, "backends": [{**ESPLORA, "url": "http://esplora.example"}]}, "CONFIG_CHAIN"),
    "credentials in the url": ({**VALID, "backends": [{**CORE, "url": "http://a:b@127.0.0.1:1"}]}, "CONFIG_CHAIN"),
    "another proxy": ({**VALID, "backends": [{**ESPLORA, "proxy": "http://127.0.0.1:1"}]}, "CONFIG_CHAIN"),
    "electrum without a pin": (
        {**VALID, "backends": [{key: value for key, value in ELECTRUM.items() if key != "pin"}]},
        "CONFIG_CHAIN",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_read_chain_given_one_change_refuses(change: str) -> None:
    """One change, one code; the coordinator does not start."""
    value, code = CHANGES[change]
    with pytest.raises(MalformedError) as refused:
        read(value)
    assert refused.value.code == code


def test_check_network_given_mainnet_asks_for_the_line() -> None:
    """Real money needs `mainnet = true`; the embedded chain never serves anything but regtest."""
    with pytest.raises(MalformedError, match="CONFIG_CHAIN: expected `mainnet = true`"):
        check_network(read(VALID), Network.MAINNET)
    check_network(read({**VALID, "mainnet": True}), Network.MAINNET)
    check_network(read(VALID), Network.SIGNET)
    with pytest.raises(MalformedError, match="the embedded chain is a regtest"):
        check_network(read(EMBEDDED), Network.SIGNET)


async def test_open_chain_given_backends_that_are_away_opens(tmp_path: Path) -> None:
    """They are asked later; the embedded chain is opened at once."""
    async with AsyncExitStack() as stack:
        several = await open_chain(read(VALID), Network.SIGNET, stack)
        embedded = await open_chain(ChainPlace(1, tmp_path), Network.REGTEST, stack)

    assert isinstance(several, SeveralChains)
    assert isinstance(embedded, EmbeddedChain)


async def test_open_chain_given_one_operator_refuses_unless_it_was_asked_for() -> None:
    """One view of the chain is one lie away from a false confirmation."""
    alone: dict[str, Json] = {**VALID, "backends": [CORE]}
    async with AsyncExitStack() as stack:
        with pytest.raises(MalformedError, match="CHAIN_OPERATORS"):
            await open_chain(read(alone), Network.SIGNET, stack)
        await open_chain(read({**alone, "operators": 1}), Network.SIGNET, stack)

"""The file courier: what an air-gapped node reads from and writes to a foreign medium, and what its operator sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from custody.bundle import parse_answer
from custody.canonical import encode
from custody.errors import CustodyError, IntegrityError, Refused
from custody.genesis import Genesis
from custody.wallet import Network
from custody.words import word_rows
from signer_node.backends.private_file import write_private_once
from signer_node.backends.sealed_file import seal
from signer_node.config import NodeConfig
from signer_node.handovers import Handovers
from signer_node.medium import write_carried
from signer_node.offline import answer_file, open_node
from signer_node.review import Page
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, seed_of
from tests.integration.harness import CHEAP, PASSPHRASE, genesis_of
from tests.unit.test_later_wallet import VAULT, vault_in_force
from tests.world import Spend, World, bitcoin_seed

GENESIS = genesis_of()


@pytest.fixture
def spend() -> Spend:
    """A transaction that rules allow."""
    world = World(GENESIS)
    return world.spend(world.withdrawal())


def cold(home: Path, genesis: Genesis | None = GENESIS) -> NodeConfig:
    """Return the configuration of node cold, as its ceremony left it; not pinned where no genesis is given."""
    state = home / "state"
    state.mkdir(mode=0o700)
    write_private_once(home / "seed", seal(bitcoin_seed("cold"), bytearray(PASSPHRASE), os.urandom, CHEAP))
    write_private_once(home / "passphrase", PASSPHRASE)
    write_private_once(state / "identity.key", seed_of("cold").hex().encode())
    if genesis is not None:
        write_private_once(state / "genesis.json", genesis.signed.to_bytes())
    return NodeConfig(
        "cold", Network.REGTEST, state, f"sealed-file://{home}/seed", home / "passphrase", None, None, None
    )


def handovers(home: Path) -> Handovers:
    """Return where hand-overs are recorded."""
    return Handovers(home / "handovers.log", FakeClock(NOW))


@pytest.mark.parametrize("word", [True, False], ids=["sign", "no"])
async def test_offline_node_given_a_bundle_file_then_answers_what_its_operator_says(
    word: bool, spend: Spend, tmp_path: Path
) -> None:
    """The operator sees the proven facts with the comparison words, and only a yes makes a signature."""
    pages: list[str] = []

    def ask(page: Page) -> bool:
        pages.append(page.text)
        return word

    node = open_node(cold(tmp_path), FakeClock(NOW), ask)
    (tmp_path / "in").write_bytes(spend.bundle(node="cold").to_bytes())
    await answer_file(node, tmp_path / "in", tmp_path / "out", handovers(tmp_path))

    outcome = parse_answer((tmp_path / "out").read_bytes()).outcome
    assert outcome == (
        spend.signatures("cold") if word else Refused("OPERATOR_DECLINED", "the operator's confirmation", "a no")
    )
    (page,) = pages
    assert all(row in page for row in word_rows(spend.asked.digest).splitlines())
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("pinned", [True, False])
async def test_offline_node_given_a_later_wallet_then_shows_it_once_it_is_pinned(pinned: bool, tmp_path: Path) -> None:
    """A wallet that the log added and this operator pinned is shown and signed for; one that he did not is refused."""
    world, pages = vault_in_force(), list[Page]()
    config = cold(tmp_path, world.genesis)
    if pinned:
        (config.state / "wallets").mkdir(mode=0o700)
        write_private_once(config.state / "wallets" / f"{VAULT.digest.hex()}.json", VAULT.to_bytes())
    spend = world.spend(world.withdrawal())

    def ask(page: Page) -> bool:
        pages.append(page)
        return True

    node = open_node(config, FakeClock(world.now), ask)

    outcome = (await node.answer(spend.bundle(node="cold").to_bytes())).outcome

    if pinned:
        assert outcome == spend.signatures("cold")
        assert "vault" in pages[0].text
    else:
        assert isinstance(outcome, Refused)
        assert (outcome.code, pages) == ("WALLET_UNPINNED", [])


async def test_offline_node_given_what_is_refused_then_asks_nobody(spend: Spend, tmp_path: Path) -> None:
    """An operator is never shown what rules forbid."""

    def ask(page: Page) -> bool:
        raise AssertionError(page)

    node = open_node(cold(tmp_path), FakeClock(NOW), ask)

    outcome = (await node.answer(spend.bundle(node="alpha").to_bytes())).outcome

    assert isinstance(outcome, Refused)
    assert outcome.code == "NODE_OTHER"


async def test_offline_node_given_garbage_then_writes_no_answer(tmp_path: Path) -> None:
    """What cannot be read is told by code, and no file appears on the medium."""
    node = open_node(cold(tmp_path), FakeClock(NOW))
    for at, raw in enumerate((b"", b"{}", encode({"format": "keyturn-bundle"}), b"\x00" * 100)):
        (tmp_path / f"in-{at}").write_bytes(raw)
        with pytest.raises(CustodyError):
            await answer_file(node, tmp_path / f"in-{at}", tmp_path / "out", handovers(tmp_path))

    assert not (tmp_path / "out").exists()


def test_offline_node_that_pinned_nothing_then_does_not_open(tmp_path: Path) -> None:
    """Without a pinned genesis there is nothing to judge by."""
    with pytest.raises(IntegrityError) as refused:
        open_node(cold(tmp_path, None), FakeClock(NOW))

    assert refused.value.code == "NOT_PINNED"


def test_answer_written_twice_then_is_the_second_whole(tmp_path: Path) -> None:
    """An answer that is there is replaced in one step."""
    write_carried(tmp_path / "answer", b"first, and longer")
    write_carried(tmp_path / "answer", b"second")

    assert (tmp_path / "answer").read_bytes() == b"second"

"""A node's part in the ceremony: its own key in its own slot, pinned once, from what people compared."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from custody import ed25519
from custody.canonical import decode
from custody.errors import ConflictError, CustodyError, IntegrityError, MalformedError
from custody.fields import Fields
from custody.genesis import (
    Genesis,
    GenesisWallet,
    Purpose,
    Slot,
    compose,
    parse_genesis,
    read_key_record,
    with_endorsement,
)
from custody.later_wallet import compose_wallet
from custody.statements import Endorsement, Kind, Signed, endorse
from custody.wallet import Network, make_wallet, parse_key
from custody.words import words
from signer_node import ceremony, later_wallet
from signer_node.__main__ import main as signer_main
from signer_node.backends.sealed_file import make_key
from signer_node.config import NodeConfig
from tests.fakes.rules import NOW, PAY, document, node, seed_of
from tests.integration.harness import CHEAP

NODES = ("alpha", "beta", "cold")


def config_of(name: str, home: Path) -> NodeConfig:
    """Return the configuration of a node under `home` with a sealed file."""
    place = home / name
    place.mkdir(mode=0o700)
    (place / "passphrase").write_bytes(b"twelve bytes or more")
    (place / "passphrase").chmod(0o600)
    return NodeConfig(
        name, Network.REGTEST, place / "state", f"sealed-file://{place}/seed", place / "passphrase", None, None, None
    )


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NodeConfig]:
    """Three nodes that made nothing yet; sealing is cheap."""
    monkeypatch.setattr(make_key, "__defaults__", (CHEAP,))
    return {name: config_of(name, tmp_path) for name in NODES}


async def records_of(configs: dict[str, NodeConfig]) -> list[Signed]:
    """Let every node make its record."""
    return [await ceremony.make_record(config, NOW) for config in configs.values()]


def genesis_of(records: list[Signed]) -> Genesis:
    """Return an unsigned genesis over `records`."""
    read = [read_key_record(record) for record in records]
    slots = tuple(Slot(found.key, found.node, record=record) for found, record in zip(read, records, strict=True))
    wallet = make_wallet(2, tuple(parse_key(slot.key, Network.REGTEST) for slot in slots), Network.REGTEST)
    listed = [{**node(found.node), "identity": found.identity.hex()} for found in read]
    rules = document(
        PAY,
        wallets={"treasury": {"wallet_id": wallet.wallet_id.hex(), "classes": []}},
        roots={**document()["roots"], "nodes": listed},
    )
    return parse_genesis(compose(Purpose.DEMO, Network.REGTEST, (GenesisWallet("treasury", wallet, slots),), rules))


async def signed_by_all(genesis: Genesis, configs: dict[str, NodeConfig], admins: tuple[str, ...]) -> Genesis:
    """Return the genesis with every node's and these admins' signatures."""
    signed = genesis.signed
    for config in configs.values():
        signed = with_endorsement(signed, await ceremony.sign_genesis(config, genesis))
    for name in admins:
        signed = with_endorsement(signed, endorse(Kind.GENESIS, signed.raw, seed_of(name)))
    return parse_genesis(signed)


async def refused_code(work: object) -> str:
    """Return the code with which `work` is refused."""
    with pytest.raises(CustodyError) as refused:
        await work  # type: ignore[misc]  # a coroutine of any kind
    return refused.value.code


async def test_ceremony_when_all_goes_well_then_each_node_pins_what_people_compared(
    configs: dict[str, NodeConfig],
) -> None:
    """Records, genesis, signatures, pin: afterwards each node opens with the same hash and the same first address."""
    genesis = await signed_by_all(genesis_of(await records_of(configs)), configs, ("erin", "frank"))

    for config in configs.values():
        await ceremony.pin(config, genesis, genesis.hash)

    pinned = [ceremony.pinned(config) for config in configs.values()]
    assert {me.genesis.hash for me in pinned} == {genesis.hash}
    assert len({ceremony.first_addresses(me.genesis) for me in pinned}) == 1
    assert [me.node for me in pinned] == list(NODES)
    assert len(words(genesis.hash)) == 12


async def test_record_made_twice_then_the_first_stays(configs: dict[str, NodeConfig]) -> None:
    """Keys are made once; a second call is refused and changes nothing."""
    config = configs["alpha"]
    record = await ceremony.make_record(config, NOW)
    before = ceremony.identity_seed(config)

    assert await refused_code(ceremony.make_record(config, NOW)) == "FILE_EXISTS"
    assert ceremony.identity_seed(config) == before
    assert read_key_record(record).identity == ed25519.public_key(before)


async def test_record_whose_key_could_not_be_made_then_can_be_made_again(
    configs: dict[str, NodeConfig],
) -> None:
    """A key backend that was away leaves nothing behind that would stand in the way."""
    config = configs["alpha"]
    away = replace(config, backend=f"sealed-file://{config.state.parent}/nowhere/seed")

    with pytest.raises(CustodyError):
        await ceremony.make_record(away, NOW)

    assert read_key_record(await ceremony.make_record(config, NOW)).node == "alpha"


async def test_record_when_a_seed_is_there_already_then_is_refused(configs: dict[str, NodeConfig]) -> None:
    """A seed is never overwritten."""
    config = configs["alpha"]
    await ceremony.make_record(config, NOW)
    (config.state / ceremony.IDENTITY_FILE).unlink()

    with pytest.raises(ConflictError) as refused:
        await ceremony.make_record(config, NOW)

    assert refused.value.code == "SEED_EXISTS"


async def test_genesis_with_another_key_in_my_slot_then_is_not_signed(configs: dict[str, NodeConfig]) -> None:
    """A coordinator that hands out a genesis with a key of its own for alpha gets no signature of alpha."""
    records = await records_of(configs)
    mine = configs["alpha"]
    (mine.state.parent / "seed").unlink()
    (mine.state / ceremony.IDENTITY_FILE).rename(mine.state / "kept")
    records[0] = await ceremony.make_record(mine, NOW)  # another key, made elsewhere
    (mine.state / ceremony.IDENTITY_FILE).unlink()
    (mine.state / "kept").rename(mine.state / ceremony.IDENTITY_FILE)

    assert await refused_code(ceremony.sign_genesis(mine, genesis_of(records))) == "GENESIS_NOT_MINE"


async def test_genesis_without_my_name_then_is_not_signed(configs: dict[str, NodeConfig]) -> None:
    """A node signs nothing that it has no part in."""
    genesis = genesis_of(await records_of(configs))

    assert await refused_code(ceremony.sign_genesis(replace(configs["alpha"], name="delta"), genesis)) == (
        "GENESIS_NOT_MINE"
    )


async def test_pin_of_what_does_not_hold_then_pins_nothing(configs: dict[str, NodeConfig]) -> None:
    """Another hash than typed, or a signature that is missing: each refused with its code, and nothing is written."""
    unsigned = genesis_of(await records_of(configs))
    one_admin = await signed_by_all(unsigned, configs, ("erin",))
    config = configs["alpha"]

    assert await refused_code(ceremony.pin(config, one_admin, bytes(32))) == "GENESIS_HASH"
    for lacking in (unsigned, one_admin):
        with pytest.raises(MalformedError) as refused:
            await ceremony.pin(config, lacking, lacking.hash)
        assert refused.value.code == "GENESIS_UNSIGNED"
    with pytest.raises(IntegrityError) as open_refused:
        ceremony.pinned(config)
    assert open_refused.value.code == "NOT_PINNED"


async def test_pin_given_twice_then_the_first_stays_for_ever(configs: dict[str, NodeConfig]) -> None:
    """A pinned genesis is replaced by no command."""
    records = await records_of(configs)
    first = await signed_by_all(genesis_of(records), configs, ("erin", "frank"))
    second = await signed_by_all(genesis_of(records[::-1]), configs, ("erin", "frank"))
    await ceremony.pin(configs["alpha"], first, first.hash)

    assert await refused_code(ceremony.pin(configs["alpha"], second, second.hash)) == "FILE_EXISTS"
    assert ceremony.pinned(configs["alpha"]).genesis.hash == first.hash != second.hash


async def later_of(genesis: Genesis, configs: dict[str, NodeConfig], *names: str) -> Signed:
    """Return the document of a later wallet over the keys of `names`, not signed."""
    slots = tuple(slot for slot in genesis.wallets[0].slots if slot.node in names)
    keys = tuple(parse_key(slot.key, Network.REGTEST) for slot in slots)
    wallet = make_wallet(len(names), keys, Network.REGTEST)
    return compose_wallet(genesis, GenesisWallet("vault", wallet, slots))


async def test_later_wallet_when_its_nodes_sign_and_pin_it_then_each_knows_it(configs: dict[str, NodeConfig]) -> None:
    """Signed by each of its nodes, then pinned on each by what people compared; a second time is refused."""
    genesis = await signed_by_all(genesis_of(await records_of(configs)), configs, ("erin", "frank"))
    for config in configs.values():
        await ceremony.pin(config, genesis, genesis.hash)
    signed = await later_of(genesis, configs, "alpha", "beta")
    assert await refused_code(later_wallet.pin_wallet(configs["alpha"], signed, signed.digest)) == "WALLET_UNSIGNED"
    for name in ("alpha", "beta"):
        signed = with_endorsement(signed, await later_wallet.sign_wallet(configs[name], signed))

    assert ceremony.pinned(configs["alpha"]).wallets == frozenset()
    for name in ("alpha", "beta"):
        assert (await later_wallet.pin_wallet(configs[name], signed, signed.digest)).name == "vault"

    assert ceremony.pinned(configs["alpha"]).wallets == {signed.digest}
    assert ceremony.pinned(configs["cold"]).wallets == frozenset()
    assert await refused_code(later_wallet.pin_wallet(configs["alpha"], signed, signed.digest)) == "FILE_EXISTS"
    assert await refused_code(later_wallet.pin_wallet(configs["beta"], signed, bytes(32))) == "WALLET_HASH"
    assert await refused_code(later_wallet.pin_wallet(configs["cold"], signed, signed.digest)) == "GENESIS_NOT_MINE"
    assert await refused_code(later_wallet.sign_wallet(configs["cold"], signed)) == "GENESIS_NOT_MINE"


async def test_later_wallet_when_the_node_pinned_no_genesis_then_is_refused(configs: dict[str, NodeConfig]) -> None:
    """A later wallet stands on a pinned genesis."""
    genesis = genesis_of(await records_of(configs))
    signed = await later_of(genesis, configs, "alpha", "beta")

    assert await refused_code(later_wallet.sign_wallet(configs["alpha"], signed)) == "NOT_PINNED"
    assert await refused_code(later_wallet.pin_wallet(configs["alpha"], signed, signed.digest)) == "NOT_PINNED"


async def test_later_wallet_from_the_nodes_own_commands(
    configs: dict[str, NodeConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shown as this node derives it, signed, and pinned by the twelve words; by others' words it is refused."""
    genesis = await signed_by_all(genesis_of(await records_of(configs)), configs, ("erin", "frank"))
    signed = await later_of(genesis, configs, "alpha", "beta")
    document = tmp_path / "vault.json"
    document.write_bytes(signed.to_bytes())
    for name in ("alpha", "beta"):
        config = configs[name]
        await ceremony.pin(config, genesis, genesis.hash)
        (tmp_path / f"{name}.toml").write_text(
            f'name = "{name}"\nnetwork = "regtest"\nstate = "{config.state}"\n'
            f'backend = "{config.backend}"\npassphrase = "{config.passphrase}"\n'
        )
        out = tmp_path / f"{name}.sig"
        arguments = ["endorse-wallet", "--config", str(tmp_path / f"{name}.toml"), str(document), "--out", str(out)]
        assert await asyncio.to_thread(signer_main, arguments) == 0
        endorsement = Endorsement.from_fields(Fields(decode(out.read_bytes()), "endorsement"))
        signed = with_endorsement(signed, endorsement)
    document.write_bytes(signed.to_bytes())
    pin = ["pin-wallet", "--config", str(tmp_path / "alpha.toml")]

    other = await asyncio.to_thread(signer_main, [*pin, " ".join(words(genesis.hash)), str(document)])
    said = await asyncio.to_thread(signer_main, [*pin, " ".join(words(signed.digest)), str(document)])
    shown = capsys.readouterr()

    assert (other, said) == (1, 0)
    assert "WALLET_WORDS" in shown.err
    assert "Wallet vault under genesis" in shown.err
    assert json.loads(shown.out.splitlines()[-1])["document"] == signed.digest.hex()
    assert ceremony.pinned(configs["alpha"]).wallets == {signed.digest}

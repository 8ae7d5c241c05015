"""The examples under deploy/examples/ are read by the programs that they are for, and hold together."""

from __future__ import annotations

import json
from pathlib import Path

import coordinator.config
import signer_node.config
from custody.policy import parse_policy
from signer_node import witness_server
from tests.fakes.rules import document, key_of

WITNESSES = Path(__file__).parents[2] / "deploy" / "examples" / "witnesses"


def witness_key(name: str) -> str:
    """Return a key as `signer_node witness-key` would print it on that machine: hex."""
    return key_of(f"witness key of {name}").hex()


def keys_of(listed: dict[str, str]) -> dict[str, str]:
    """Return the keys that belong where a listed node has words that stand for them."""
    identity = {"identity": key_of(listed["name"]).hex()}
    return {**identity, "witness_key": witness_key(listed["name"])} if "witness_key" in listed else identity


def test_example_of_four_witnesses_is_read_and_tolerates_one_liar() -> None:
    """W = 4, w = 3, f = 1: two nodes that witness and dial both stand-alone ones, and a coordinator that asks all."""
    pinned = json.loads((WITNESSES / "roots.json").read_text())
    witnesses = [{**each, "key": witness_key(each["name"])} for each in pinned["witnesses"]]
    filled = {"witnesses": witnesses, "nodes": [{**each, **keys_of(each)} for each in pinned["nodes"]]}
    roots = parse_policy(document(roots={**document()["roots"], **pinned, **filled})).roots
    alone = [witness_server.load_config(WITNESSES / f"witness-{n}.toml") for n in (1, 2)]
    nodes = [signer_node.config.load_config(WITNESSES / f"{name}.toml") for name in ("alpha", "beta")]
    asked = coordinator.config.load_config(WITNESSES / "coordinator.toml").witnesses

    assert (len(roots.witnesses), roots.w, roots.f) == (4, 3, 1)
    named = [config.witness.name for config in nodes if config.witness] + [each.home.name for each in alone]
    assert sorted(named) == [witness.name for witness in roots.witnesses]
    assert [witness.name for witness in asked] == ["witness-1", "witness-2"]
    for config in nodes:
        assert [where.address for where in config.witnesses] == [witness.address for witness in asked]

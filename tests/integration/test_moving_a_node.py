"""docs/moving-a-node.md, step by step on real processes: a node goes on from other hardware, as it was."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import pytest

from custody.policy import parse_policy
from custody.policy.diff import Verdict, diff
from deploy.openbao import entry_of
from deploy.stack import roles_of
from tests.crash.light_stack import Light
from tests.fakes.rules import document
from tests.vaulted import command_of_alpha, signed_by, until_broadcast, wait_until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
CARRIED = (
    "node.toml",
    "state",
    "seed.blob",
    "witness.ed25519",
    "witness.ed25519.money.mark",
    "witness.ed25519.event.mark",
    "witness.ed25519.held.mark",
    "witness-state",
)


@pytest.fixture
def moved(vaulted: Light) -> Light:
    """The stack after alpha was moved as the document says, to a directory that stands for the new machine."""
    stack = vaulted.stack
    wait_until(vaulted, "alpha", "ready", "")
    before = vaulted.withdrawal()  # so that it has something to carry
    vaulted.propose(before)
    until_broadcast(vaulted, before)
    vaulted.mine()
    old, new = stack.node("alpha"), stack.directory / "new-machine"
    stack.processes["alpha"].stop()  # 1. the old machine stops, for ever
    new.mkdir(mode=0o700)  # 2. what it has is carried, all of it
    for name in CARRIED:
        copied = shutil.copytree if (old / name).is_dir() else shutil.copy2
        copied(old / name, new / name)
    config = new / "node.toml"
    config.write_text(config.read_text().replace(str(old), str(new)))
    stack.ca.issue("alpha", "signer", new, server=False)  # 3. a certificate of its own, for the same name
    server = stack.vaults["alpha"]  # 4. its Vault lets it in from where it stands now, and nobody with what was before
    root = server.root_token()
    path, body = entry_of(roles_of("alpha", "transit")[0], stack.ca, 900, 86_400)
    server.call("POST", path, root, body)
    server.call("PUT", "sys/leases/revoke-prefix/auth/cert/login", root, {})
    server.call("POST", "auth/token/revoke-self", root, {})
    stack.commands = {**stack.commands, "alpha": command_of_alpha()}
    stack.launch("alpha", "", config)  # 5. it dials by itself
    return vaulted


def test_node_when_moved_then_signs_and_witnesses_as_before(moved: Light) -> None:
    """Its key, its identity, its log, its journal and its word as a witness: nobody has to be told anything."""
    stack = moved.stack
    wait_until(moved, "alpha", "ready", "")
    stack.processes["beta"].stop()  # now nothing works without alpha: its signature, and its word among three of four
    try:
        asked = moved.withdrawal()
        moved.propose(asked)
        assert signed_by(until_broadcast(moved, asked)) == {"alpha", "gamma"}
    finally:
        stack.start_node("beta")
    moved.mine()

    log = stack.processes["alpha"].log.read_text()
    assert "bundle.answered" in log
    assert not re.search(r"witness\.ended|node\.broken|ROLLED_BACK|LOG_FORK|WITNESS_STATE", log)
    assert not re.search(r"LOG_FORK|ROLLED_BACK|notice", stack.processes["coordinator"].log.read_text())


def test_rules_when_only_a_nodes_host_changes_then_it_is_a_rule_document_of_its_own() -> None:
    """What the rules say of the machine is changed by people, in the open, and by nothing else."""
    new = copy.deepcopy(document())
    new["roots"]["nodes"][0]["host"] = "another-machine"

    found = diff(parse_policy(document()), parse_policy(new))

    assert len(found.changes) == 1
    assert found.verdict is Verdict.LOOSENS


def test_document_names_every_file_that_the_test_carried() -> None:
    """Who follows it leaves nothing behind."""
    text = (ROOT / "docs" / "moving-a-node.md").read_text(encoding="utf-8")

    assert [name for name in CARRIED if f"`{name}`" not in text] == []

"""`keyturn signer`: proofs of life and drills carried to a real coordinator, and read back by who verifies them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from console.keys import drilled_at, proven_at
from console.views import NodeView
from coordinator.keys import health_now
from custody.alive import read_life
from custody.backups import Form
from custody.drill import Drill
from custody.statements import Kind, Signed, sign
from custody.v1 import signer_pb2_grpc
from signer_node import online, proving
from signer_node.config import TlsConfig
from signer_node.effects import no_hook
from signer_node.proving import Schedule
from signer_node.tls import client_credentials
from tests.desk import Desk, RealClock, desk, open_node
from tests.fakes.rules import seed_of

pytestmark = pytest.mark.slow
NODES = ("alpha", "beta", "cold")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for the module."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


class Awaited(Schedule):
    """A schedule that can be waited for."""

    def __init__(self, state: Path, clock: RealClock) -> None:
        super().__init__(state, clock)
        self.proven = asyncio.Event()

    def done(self) -> None:
        """Remember it, and say so."""
        super().done()
        self.proven.set()


def life_of(office: Desk, home: Path, node: str) -> Signed:
    """Return a proof of life that `node` made now."""
    return asyncio.run(open_node(office.genesis, node, home, RealClock()).prove_alive(bytes(16)))


def written(home: Path, name: str, signed: Signed) -> str:
    """Write a report where people carry it from."""
    path = home / name
    path.write_bytes(signed.to_bytes())
    return str(path)


def test_signer_report_brings_the_wallet_from_alert_to_fine(office: Desk, tmp_path: Path) -> None:
    """Nobody proved anything: an alert. Two of three: one loss from lock-out. All: fine."""
    first = office.keyturn("alice", "signer", "list", "-o", "json").json
    assert (first["keys"][0]["alarm"], first["keys"][0]["unproven"]) == ("alert", list(NODES))
    files = [written(tmp_path, f"{node}.life", life_of(office, tmp_path, node)) for node in NODES]

    assert office.keyturn("ops", "signer", "report", *files[:2]).code == 0
    shown = office.keyturn("alice", "signer", "list")
    assert "ALERT: treasury: 1 of 3 keys unproven for 90 days, one loss from lock-out" in shown.out
    assert office.keyturn("ops", "signer", "report", files[2]).code == 0
    assert office.keyturn("ops", "signer", "report", files[2]).out.endswith("known already\n")

    (found,) = office.do(health_now(office.organisation.parts))
    assert str(found) == "treasury: all 3 keys proven within 90 days"
    last = office.keyturn("alice", "signer", "list", "-o", "json").json
    assert last["keys"][0]["alarm"] == "fine"
    assert all(time.time() - node["proven_at"] < 600 for node in last["signers"])


def test_signer_report_of_what_does_not_hold_is_refused(office: Desk, tmp_path: Path) -> None:
    """A proof of another sentence, one from tomorrow, a drill by another node's identity."""
    life = read_life(life_of(office, tmp_path, "alpha"))
    later = sign(Kind.ALIVE, replace(life, at=life.at + 1).to_json(), seed_of("alpha"))
    ahead = Drill("alpha", b"\x01" * 4, Form.WORDS, "anna", int(time.time()) + 86_400)
    drills = {"DRILL_SIGNATURE": (ahead, "beta"), "REPORT_TIME": (ahead, "alpha")}
    found = office.keyturn("ops", "-o", "json", "signer", "report", written(tmp_path, "later", later))
    assert (found.code, found.json["error"]) == (3, "ALIVE_PROOF")
    for code, (drill, by) in drills.items():
        path = written(tmp_path, code, sign(Kind.DRILL, drill.to_json(), seed_of(by)))
        found = office.keyturn("ops", "-o", "json", "signer", "report", path)
        assert (found.code, found.json["error"]) == (3, code)


def test_signer_report_of_a_drill_shows_when_it_was(office: Desk, tmp_path: Path) -> None:
    """Drills are kept beside proofs of life."""
    at = int(time.time()) - 60
    drill = Drill("cold", b"\x01" * 4, Form.SHARES, "anna", at)
    path = written(tmp_path, "drill", sign(Kind.DRILL, drill.to_json(), seed_of("cold")))
    assert office.keyturn("ops", "signer", "report", path).code == 0
    listed = office.keyturn("alice", "signer", "list", "-o", "json").json["signers"]
    assert {node["name"]: node["drilled_at"] for node in listed} == {"alpha": 0, "beta": 0, "cold": at}


def test_proofs_that_a_coordinator_shows_for_another_node_count_nothing(office: Desk, tmp_path: Path) -> None:
    """Who reads them verifies them himself: a proof of alpha is none of beta."""
    life = life_of(office, tmp_path, "alpha")
    drill = sign(Kind.DRILL, Drill("alpha", b"\x01" * 4, Form.WORDS, "anna", 5).to_json(), seed_of("alpha"))
    view = NodeView("alpha", False, True, 0, "", 0, life, drill)
    policy = office.genesis.policy
    assert proven_at(office.genesis, policy, view) == read_life(life).at
    assert drilled_at(policy, view) == 5
    beta = replace(view, name="beta")
    assert (proven_at(office.genesis, policy, beta), drilled_at(policy, beta)) == (0, 0)
    broken = replace(view, alive=replace(life, kind=Kind.DRILL), drill=replace(drill, kind=Kind.ALIVE))
    assert (proven_at(office.genesis, policy, broken), drilled_at(policy, broken)) == (0, 0)
    assert (proven_at(office.genesis, policy, None), drilled_at(policy, None)) == (0, 0)


def test_online_node_proves_its_key_by_itself(office: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over its own mTLS, under its own certificate."""
    monkeypatch.setattr(proving, "FIRST_LOOK_S", 0)
    certificate, key = office.ca.issue("beta", "signer", tmp_path / "tls", server=False)
    files = TlsConfig(office.ca.certificate_path, certificate, key)
    node, schedule = open_node(office.genesis, "beta", tmp_path, RealClock()), Awaited(tmp_path, RealClock())

    async def connected() -> None:
        credentials = client_credentials(files)
        async with grpc.aio.secure_channel(f"localhost:{office.server.port}", credentials) as channel:
            stub = signer_pb2_grpc.SignerServiceStub(channel)
            task = asyncio.create_task(
                online._prove(online.Courier(node, node._backend, None, no_hook, schedule), stub)
            )
            async with asyncio.timeout(60):
                await schedule.proven.wait()
            task.cancel()

    before = int(time.time())
    asyncio.run(connected())
    listed = office.keyturn("alice", "signer", "list", "-o", "json").json["signers"]
    assert next(found["proven_at"] for found in listed if found["name"] == "beta") >= before - 1


def test_log_with_proofs_and_drills_verifies_offline(office: Desk, tmp_path: Path) -> None:
    """What nodes signed about their keys is part of an export that holds."""
    drill = Drill("alpha", b"\x01" * 4, Form.AGE, "bert", int(time.time()) - 30)
    path = written(tmp_path, "drill", sign(Kind.DRILL, drill.to_json(), seed_of("alpha")))
    life = written(tmp_path, "life", life_of(office, tmp_path, "cold"))
    assert office.keyturn("ops", "signer", "report", path, life).code == 0

    assert office.keyturn("ops", "audit", "export", "--out", str(tmp_path / "export")).code == 0
    ran = office.keyturn("ops", "audit", "verify", str(tmp_path / "export"))
    assert ran.code == 0, ran.out + ran.err
    exported = (tmp_path / "export").read_text()
    assert "keyturn/alive/v1" in exported
    assert "keyturn/drill/v1" in exported

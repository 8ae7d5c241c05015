"""A real stack for crash tests: every part its own process over mTLS, keys in sealed files, and a fuse in each part.

Nothing is restarted between tests but what a test killed; every withdrawal pays a script of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from console.channel import Address, call, open_channel, stream
from console.statements import write_signed
from console.tls import TlsFiles
from coordinator.chain.blocklog import Record, RecordKind, _read_records
from custody.address import address_of, script_of
from custody.approval import Approval, Decision
from custody.audit import ExportKeys, Log, VerdictKind, verify_export
from custody.audit.export import read_export
from custody.canonical import Json, decode
from custody.errors import UnavailableError
from custody.follow import witness_keys
from custody.statements import Kind, sign
from custody.units import Sats
from custody.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    audit_pb2,
    audit_pb2_grpc,
    chain_pb2,
    chain_pb2_grpc,
    courier_pb2,
    courier_pb2_grpc,
    withdrawal_pb2,
    withdrawal_pb2_grpc,
)
from custody.wallet import Network, ScriptBook
from custody.withdrawal import NEW, Payment, Withdrawal
from deploy.stack import Stack, build, seed_of

SMALL, DELAYED, COLD, PEOPLE_TOO, TOO_MUCH = 1_000_000, 3_000_000, 5_000_000, 10_000_000, 600_000_000
EXTRA_RULES: tuple[Json, ...] = (
    {
        "id": "wait",
        "kind": "require",
        "match": {"amount": {"min_sats": DELAYED, "max_sats": DELAYED + 999_999}},
        "then": {"delay": {"seconds": 1}},
    },
    {
        "id": "cold-cheaply",
        "kind": "require",
        "match": {"amount": {"min_sats": COLD, "max_sats": COLD + 999_999}},
        "then": {"signers": {"min_offline": 1}},
    },
)
PATIENCE_SECONDS = 40.0
COINS = 8  # a test that fails leaves one unspendable; the others go on
ONLINE = ("alpha", "beta")


@dataclass
class Light:
    """The running stack. died: parts that a fuse ended, in order.  acknowledged: (event kind, withdrawal in hex)."""

    stack: Stack
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    died: list[str] = field(default_factory=list)
    acknowledged: Counter[tuple[str, str]] = field(default_factory=Counter)
    numbers: Any = field(default_factory=itertools.count)

    def fuse(self, part: str) -> Path:
        """Return where an order to die is laid for `part`."""
        return (self.stack.directory if part == "coordinator" else self.stack.node(part)) / "fuse"

    def revive(self) -> None:
        """Start again what its fuse ended; anything else that ended fails the test."""
        for part in ("coordinator", *ONLINE):
            process = self.stack.processes[part]
            code = process.child.poll()
            if code is None:
                continue
            assert code == -signal.SIGKILL, f"{part} ended with {code}: {process.log.read_text()[-2000:]}"
            self.died.append(part)
            self.stack.start_coordinator() if part == "coordinator" else self.stack.start_node(part)

    def insist(self, method: Callable[[Any], Any], request: Any, person: str = "alice") -> Any:  # Any: of any service
        """Call until the coordinator answers, reviving what died; a refusal comes out as `console.channel` has it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.loop.run_until_complete(self._call(method, request, person))
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                self.revive()

    async def _call(self, method: Callable[[Any], Any], request: Any, person: str) -> Any:
        home = self.stack.person(person)
        files = TlsFiles(home / f"{person}.pem", home / f"{person}.key", self.stack.ca.certificate_path)
        async with open_channel(Address(self.stack.address, files)) as channel:
            if isinstance(request, audit_pb2.ExportRequest):
                return b"".join([part.chunk async for part in stream(method(channel), request)])
            return await call(method(channel), request, 10)

    def seed(self, person: str) -> bytes:
        """Return a person's secret."""
        return seed_of(self.stack.person(person) / f"{person}.ed25519")

    def withdrawal(self, amount: int = SMALL, script: bytes | None = None, **changes: Any) -> Withdrawal:
        """Return a withdrawal by alice to a script that nothing paid before."""
        genesis, now = self.stack.genesis, int(time.time())
        address = address_of(script or b"\x00\x20" + os.urandom(32), Network.REGTEST)
        fields: dict[str, Any] = {
            "genesis": genesis.hash,
            "withdrawal_id": f"w-{next(self.numbers)}",
            "wallet_id": genesis.wallets[0].wallet.wallet_id,
            "network": "regtest",
            "payments": (Payment(address, Sats(amount), "test"),),
            "max_fee_sats": Sats(50_000),
            "relation": NEW,
            "initiator": "alice",
            "created_at": now - 1,
            "expires_at": now + 3600,
            "rules_floor": 1,
        }
        return Withdrawal(**{**fields, **changes})

    def propose(self, asked: Withdrawal) -> withdrawal_pb2.ProposeResponse:
        """Propose it; remember that it was acknowledged."""
        signed = write_signed(sign(Kind.WITHDRAWAL, asked.to_json(), self.seed("alice")))
        request = withdrawal_pb2.ProposeRequest(withdrawal=signed)
        answer = self.insist(lambda c: withdrawal_pb2_grpc.WithdrawalServiceStub(c).Propose, request)
        self.acknowledged["withdrawal.proposed", asked.digest.hex()] = 1
        assert isinstance(answer, withdrawal_pb2.ProposeResponse)
        return answer

    def approve(self, asked: Withdrawal, *people: str) -> None:
        """Submit approvals."""
        now = int(time.time())
        for person in people:
            said = Approval(asked.genesis, asked.digest, Decision.APPROVE, person, now, now + 3600)
            signed = write_signed(sign(Kind.APPROVAL, said.to_json(), self.seed(person)))
            request = approval_pb2.SubmitApprovalRequest(approval=signed)
            self.insist(lambda c: approval_pb2_grpc.ApprovalServiceStub(c).SubmitApproval, request, person)
            self.acknowledged["approval.accepted", asked.digest.hex()] += 1

    def view(self, asked: Withdrawal) -> withdrawal_pb2.Withdrawal:
        """Return how it stands."""
        request = withdrawal_pb2.GetWithdrawalRequest(digest=asked.digest)
        found = self.insist(lambda c: withdrawal_pb2_grpc.WithdrawalServiceStub(c).GetWithdrawal, request).withdrawal
        assert isinstance(found, withdrawal_pb2.Withdrawal)
        return found

    def until(self, asked: Withdrawal, stage: str) -> withdrawal_pb2.Withdrawal:
        """Wait until it is in `stage`, reviving what dies meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.revive()
            found = self.view(asked)
            if withdrawal_pb2.Stage.Name(found.stage) == f"STAGE_{stage}":
                return found
            assert time.monotonic() < deadline, f"expected {stage}, found {found}"
            time.sleep(0.1)

    def mine(self, blocks: int = 1, script: bytes = b"\x51") -> None:
        """Mine."""
        request = chain_pb2.MineRequest(blocks=blocks, script=script)
        self.insist(lambda c: chain_pb2_grpc.ChainServiceStub(c).Mine, request)

    def settle(self, asked: Withdrawal) -> withdrawal_pb2.Withdrawal:
        """Wait until it is broadcast, mine it, and wait until it is confirmed."""
        self.until(asked, "BROADCAST")
        self.mine()
        return self.until(asked, "CONFIRMED")

    def export_bundle(self, asked: Withdrawal, node: str) -> bytes:
        """Return a bundle as the operator of `node` gets it."""
        request = courier_pb2.ExportBundleRequest(withdrawal_digest=asked.digest, node=node)
        bundle = self.insist(lambda c: courier_pb2_grpc.CourierServiceStub(c).ExportBundle, request).bundle
        self.acknowledged["bundle.exported", asked.digest.hex()] += 1
        return bytes(bundle)

    def import_answer(self, answer: bytes) -> None:
        """Bring an answer in."""
        request = courier_pb2.ImportAnswerRequest(answer=answer)
        self.insist(lambda c: courier_pb2_grpc.CourierServiceStub(c).ImportAnswer, request)

    def answer_offline(self, bundle: bytes, node: str = "cold") -> bytes | None:
        """Return what the real offline node, in its own process with its fuse, answers; None where it was killed."""
        home = self.stack.node(node)
        (home / "bundle").write_bytes(bundle)
        (home / "answer").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.crash.node_process", "--config", str(home / "node.toml")]
        ran = subprocess.run([*command, str(home / "bundle"), str(home / "answer")], capture_output=True, check=False)
        if ran.returncode == -signal.SIGKILL:
            self.died.append(node)
            return None
        assert ran.returncode == 0, ran.stderr.decode()[-2000:]
        return (home / "answer").read_bytes()

    def chain(self) -> list[Record]:
        """Return what the chain's log holds: blocks mined, transactions relayed."""
        return _read_records((self.stack.directory / "chain" / "chain.log").read_bytes())[0]

    def payments(self, asked: Withdrawal) -> tuple[int, int]:
        """Return how many outputs in blocks pay it, and how many different transactions for it were ever relayed."""
        script, records = script_paid_by(asked), self.chain()
        relayed = {record.body for record in records if record.kind is RecordKind.TRANSACTION and script in record.body}
        return sum(r.body.count(script) for r in records if r.kind is RecordKind.BLOCK), len(relayed)

    def logs(self) -> dict[Log, tuple[dict[str, Any], ...]]:
        """Return both logs from an export that verifies."""
        raw = self.insist(lambda c: audit_pb2_grpc.AuditServiceStub(c).Export, audit_pb2.ExportRequest())
        genesis = self.stack.genesis
        keys = ExportKeys(
            genesis.hash, genesis.policy.roots.log_key, witness_keys(genesis.policy), genesis.policy.roots.w
        )
        verdict = verify_export(raw, keys)
        assert verdict.kind is VerdictKind.OK, verdict
        entries = read_export(raw).entries
        return {log: tuple(cast(dict[str, Any], decode(entry)) for entry in entries[log]) for log in Log}

    def signatures(self, node: str) -> list[tuple[str, str, str]]:
        """Return every (digest, key, signature) that the backend of `node` made, repeats included."""
        path = self.stack.node(node) / "signed.jsonl"
        lines: Sequence[str] = path.read_text().splitlines() if path.exists() else ()
        return [(digest, key, signature) for digest, key, signature in map(json.loads, lines)]


def script_paid_by(asked: Withdrawal) -> bytes:
    """Return the scriptPubKey of its only payee."""
    return script_of(asked.payments[0].address, Network.REGTEST)


def start(directory: Path) -> Light:
    """Return a running, funded stack."""
    nodes = {"alpha": "sealed-online", "beta": "sealed-online", "cold": "sealed"}
    stack = build(directory, lambda text: None, nodes=nodes, extra_rules=EXTRA_RULES)
    stack.commands = {
        "coordinator": [sys.executable, "-m", "tests.crash.coordinator_process"],
        **{name: [sys.executable, "-m", "tests.crash.node_process"] for name in ONLINE},
    }
    light = Light(stack)
    try:
        stack.start()
        book = ScriptBook(stack.genesis.wallets[0].wallet)
        for index in range(COINS):
            light.mine(script=book.script(0, index).script)
        light.mine(101)
    except BaseException:
        stack.stop()
        raise
    return light

"""A whole Keyturn on one machine, of real parts, for the demo and the tests.

Two OpenBao servers, a witness, a coordinator, two online nodes and an offline one. Loopback only, and it ends only the
processes that it started. On one host it defeats its purpose: in production each part has its own host and people.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custody import ed25519
from custody.canonical import Json, decode
from custody.fields import Fields
from custody.genesis import Genesis, parse_genesis
from custody.statements import Endorsement, Signed
from custody.words import words
from deploy import openbao
from deploy.ca import Ca, make_ca
from deploy.engine import engine_file, engine_mount
from deploy.openbao import Role, Server
from deploy.organisation import PEOPLE, NodePlace, Pins, genesis_of, make_person_key, signed_by
from signer_node.backends.private_file import write_private_once

NODES: Mapping[str, str] = {"alpha": "engine", "beta": "transit", "cold": "sealed"}
"""Where each node's key lives: engine, transit or kv in an OpenBao of its own; sealed, sealed-online in a file."""
OFFLINE, IN_FILE = "sealed", frozenset({"sealed", "sealed-online"})
BY_CERTIFICATE = frozenset({"transit"})  # enters its server by the certificate that it dials with; others by AppRole
READY_SECONDS = 30.0
Say = Callable[[str], None]


@dataclass
class Process:
    """One child. log: its stdout and stderr."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, text: str) -> str:
        """Return the first log line that holds `text`. Raises RuntimeError when it ends or stays silent."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            found = [line for line in self.log.read_text().splitlines() if text in line]
            if found:
                return found[0]
            if self.child.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.name}: expected {text!r} in its log; it said:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it by its pid: asked first, then killed."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


@dataclass
class Stack:
    """Everything under one directory. Use `build`, then `start`; always `stop`.

    nodes: name -> kind, as in NODES.  extra_rules: added to the organisation's.  commands: what runs a process instead.
    """

    directory: Path
    say: Say
    ca: Ca
    port: int
    witness_port: int
    nodes: Mapping[str, str] = field(default_factory=lambda: NODES)
    extra_rules: Sequence[Json] = ()
    vaults: dict[str, Server] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the coordinator listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def genesis(self) -> Genesis:
        """The signed genesis."""
        return parse_genesis(Signed.from_bytes((self.directory / "genesis.json").read_bytes()))

    def person(self, name: str) -> Path:
        """Return the directory of one person: key, certificate, CLI configuration."""
        return self.directory / "people" / name

    def node(self, name: str) -> Path:
        """Return the directory of one node."""
        return self.directory / "nodes" / name

    def signer(self, node: str, command: str, *arguments: str) -> dict[str, object]:
        """Run one `signer_node` command on `node` and return the JSON it printed. Raises RuntimeError on failure."""
        self.renew_credential(node)
        config = self.node(node) / "node.toml"
        ran = subprocess.run(
            [sys.executable, "-m", "signer_node", command, "--config", str(config), *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if ran.returncode not in (0, 3):
            raise RuntimeError(f"{node} {command}: {ran.stderr.decode()[-2000:]}")
        found: dict[str, object] = json.loads(ran.stdout)
        return found

    def keyturn(self, person: str, *arguments: str, expected: int = 0) -> dict[str, Any]:
        """Run one `keyturn` command as `person` and return the JSON it printed.

        Raises:
            RuntimeError: another exit code than `expected`.
        """
        config = str(self.person(person) / "keyturn.toml")
        ran = subprocess.run(
            [sys.executable, "-m", "console.cli.app", "--config", config, "-o", "json", *arguments],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        told = (ran.stdout + ran.stderr).decode()
        if ran.returncode != expected:
            raise RuntimeError(f"keyturn {' '.join(arguments)}: exit {ran.returncode}: {told[-2000:]}")
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1]) if ran.stdout.strip() else {}
        return found

    def renew_credential(self, node: str) -> None:
        """Put a fresh wrapping token where a Vault node looks for one: each login uses one up."""
        server = self.vaults.get(node)
        if server is None:
            return
        for role in roles_of(node, self.nodes[node]):
            if role.by == "approle":
                path = self.node(node) / f"{role.job}.wrapped"
                path.unlink(missing_ok=True)
                write_private_once(path, server.wrapped_secret(role).encode())

    def launch(self, name: str, module: str, config: Path) -> Process:
        """Start one long-running process, with its output in `NAME.log`."""
        command = self.commands.get(name) or [sys.executable, "-m", module]
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            child = subprocess.Popen(
                [*command, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = Process(name, child, log)
        return self.processes[name]

    def start_coordinator(self) -> None:
        """Start the coordinator and wait until it serves."""
        self.launch("coordinator", "coordinator", self.directory / "coordinator.toml").wait_for("coordinator.ready")

    def start_node(self, name: str) -> None:
        """Start one online node; it dials by itself."""
        self.renew_credential(name)
        self._command(name, ["-m", "signer_node", "online"])

    def start_witness(self) -> None:
        """Start the witness."""
        self._command("witness", ["-m", "signer_node", "witness"]).wait_for("witness")

    def start(self) -> None:
        """Start everything that stays on."""
        self.say("starting witness, coordinator and the two online nodes")
        self.start_witness()
        self.start_coordinator()
        for name in self.nodes:
            if self.nodes[name] != OFFLINE:
                self.start_node(name)

    def stop(self) -> None:
        """End every process that this stack started."""
        for process in reversed(list(self.processes.values())):
            process.stop()
        for server in self.vaults.values():
            server.stop()

    def _command(self, name: str, arguments: list[str]) -> Process:
        config = self.directory / "witness.toml" if name == "witness" else self.node(name) / "node.toml"
        commands = dict(self.commands)
        commands.setdefault(name, [sys.executable, *arguments])
        self.commands = commands
        return self.launch(name, "", config)


def roles_of(node: str, kind: str) -> tuple[Role, Role]:
    """Return what `node` is at its server: a signer always, a keysmith once."""
    by = "cert" if kind in BY_CERTIFICATE else "approle"
    return Role(f"signer-{kind}", node, by), Role(f"keysmith-{kind}", node)


def build(
    directory: Path,
    say: Say = print,
    now: int | None = None,
    nodes: Mapping[str, str] = NODES,
    extra_rules: Sequence[Json] = (),
) -> Stack:
    """Return a stack after its ceremony: keys made where they live, genesis signed by all and pinned on each node."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca = make_ca(directory / "ca")
    stack = Stack(directory, say, ca, _free_port(), _free_port(), nodes, extra_rules)
    try:
        _build(stack, int(time.time()) if now is None else now)
    except BaseException:
        stack.stop()
        raise
    return stack


def _build(stack: Stack, now: int) -> None:
    say, directory = stack.say, stack.directory
    if not IN_FILE.issuperset(stack.nodes.values()):
        say("starting two OpenBao servers (raft, TLS, sealed)")
        _start_vaults(stack)
    say("ceremony: each node makes its key where it lives")
    _write_configs(stack)
    places = _records(stack)
    people = {name: _make_person(stack, name) for name in PEOPLE}
    witnesses = _witness_keys(stack)
    count = len(witnesses)
    # More than half, so f = 0; deploy/examples/witnesses/ shows four of which one may lie.
    pins = Pins(_log_key(stack), witnesses, w=count // 2 + 1)
    say(f"witnesses: W = {count}, w = {pins.w}, so f = {2 * pins.w - count - 1}: one liar among them splits the log")
    say("ceremony: genesis signed by every node and two admins")
    _make_genesis(stack, people, places, pins, now)
    spoken = " ".join(words(stack.genesis.hash))
    say(f"ceremony: pinned on each node by its own command, after comparing: {spoken}")
    with ThreadPoolExecutor() as pool:
        genesis = str(directory / "genesis.json")
        list(pool.map(lambda node: stack.signer(node, "pin", spoken, genesis), stack.nodes))
        operators = [name for name, groups in PEOPLE.items() if "ops" in groups]
        list(pool.map(lambda person: stack.keyturn(person, "pin", *spoken.split(), genesis), operators))
    _write_service_configs(stack)


def _start_vaults(stack: Stack) -> None:
    def start(node: str) -> None:  # each is the stack's at once: where another fails to start, this one is stopped
        kind = stack.nodes[node]
        roles = roles_of(node, kind)
        engine = engine_file(stack.say) if kind == "engine" else None
        stack.vaults[node] = openbao.start(stack.directory / "vaults" / node, stack.ca, roles=roles, engine=engine)

    (stack.directory / "vaults").mkdir()
    with ThreadPoolExecutor() as pool:
        list(pool.map(start, [node for node, kind in stack.nodes.items() if kind not in IN_FILE]))


def _write_configs(stack: Stack) -> None:
    for node, kind in stack.nodes.items():
        home = stack.node(node)
        home.mkdir(parents=True, mode=0o700)
        lines = [f'name = "{node}"', 'network = "regtest"', 'state = "state"']
        if kind in IN_FILE:
            write_private_once(home / "passphrase", os.urandom(24).hex().encode())
            lines += [f'backend = "sealed-file://{home}/seed.sealed"', 'passphrase = "passphrase"']
        else:
            server = stack.vaults[node]
            lines += [f'backend = "{_uri(server, node, kind, home)}"', *_vault(server, node, kind)]
        if kind != OFFLINE:
            stack.ca.issue(node, "signer", home, server=False)
            lines += ["[coordinator]", f'address = "{stack.address}"', "[coordinator.tls]", *_tls(stack, node)]
            lines += _witnessing(stack, node)
        (home / "node.toml").write_text("\n".join(lines) + "\n")


def _uri(server: Server, node: str, kind: str, home: Path) -> str:
    if kind == "engine":
        return f"vault-engine://{server.authority}/{engine_mount(node)}"
    if kind == "kv":
        return f"vault-kv://{server.authority}/keyturn/signers/{node}/seed"
    return f"vault-transit://{server.authority}/seed-{node}?blob={home}/seed.blob"


def _vault(server: Server, node: str, kind: str) -> list[str]:
    lines = []
    for role, table in zip(roles_of(node, kind), ("vault", "keysmith"), strict=True):
        lines += [f"[{table}]", f'ca = "{server.ca_path}"', f'role = "{role.name}"']
        if role.by == "cert":
            lines += [f'certificate = "{node}.pem"', f'key = "{node}.key"']
        else:
            lines += [f'role_id = "{server.role_ids[role.name]}"', f'wrapped_secret_id = "{role.job}.wrapped"']
    return lines


def _witnessing(stack: Stack, node: str) -> list[str]:
    """Say that `node` witnesses itself, and dials the stand-alone witness for what it holds."""
    own = ["[witness]", f'name = "{node}"', 'key = "witness.ed25519"', 'state = "witness-state"']
    address = f'address = "127.0.0.1:{stack.witness_port}"'
    return [*own, "[[witnesses]]", address, "[witnesses.tls]", *_tls(stack, node)]


def _tls(stack: Stack, name: str) -> list[str]:
    return [f'ca = "{stack.ca.certificate_path}"', f'certificate = "{name}.pem"', f'key = "{name}.key"']


def _records(stack: Stack) -> list[NodePlace]:
    def make(node: str) -> NodePlace:
        out = stack.node(node) / "record.json"
        stack.signer(node, "record", "--out", str(out))
        location = "offline" if stack.nodes[node] == OFFLINE else "online"
        return NodePlace(node, location, f"host-{node}", Signed.from_bytes(out.read_bytes()))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, stack.nodes))


def _make_person(stack: Stack, name: str) -> bytes:
    home = stack.person(name)
    home.mkdir(parents=True, mode=0o700)
    stack.ca.issue(name, "operator" if "ops" in PEOPLE[name] else "admin", home, server=False)
    lines = [
        f'coordinator = "{stack.address}"',
        f'me = "{name}"',
        f'key = "{name}.ed25519"',
        'genesis = "genesis.json"',
        "[tls]",
        *_tls(stack, name),
        "[[witnesses]]",
        'name = "witness"',
        f'address = "127.0.0.1:{stack.witness_port}"',
    ]
    (home / "keyturn.toml").write_text("\n".join(lines) + "\n")
    return make_person_key(home / f"{name}.ed25519")


def _log_key(stack: Stack) -> bytes:
    sealed, passphrase = stack.directory / "log.sealed", stack.directory / "log.passphrase"
    write_private_once(passphrase, os.urandom(24).hex().encode())
    command = [sys.executable, "-m", "coordinator", "--make-log-key", str(sealed), "--passphrase", str(passphrase)]
    ran = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return bytes.fromhex(json.loads(ran.stdout)["log_key"])


def _witness_keys(stack: Stack) -> dict[str, bytes]:
    """Make the key of each witness where it lives: one stand-alone, and every online node."""
    online = [node for node, kind in stack.nodes.items() if kind != OFFLINE]
    places = {"witness": stack.directory, **{node: stack.node(node) for node in online}}
    with ThreadPoolExecutor() as pool:
        return dict(zip(places, pool.map(_witness_key, places.values()), strict=True))


def _witness_key(home: Path) -> bytes:
    ran = subprocess.run(
        [sys.executable, "-m", "signer_node", "witness-key", str(home / "witness.ed25519")],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return bytes.fromhex(json.loads(ran.stdout)["witness_key"])


def _make_genesis(stack: Stack, people: Mapping[str, bytes], places: Sequence[NodePlace], pins: Pins, now: int) -> None:
    draft = stack.directory / "genesis.unsigned.json"
    unsigned = genesis_of(people, places, pins, now, extra_rules=stack.extra_rules)
    draft.write_bytes(unsigned.to_bytes())

    def endorse(node: str) -> Endorsement:
        out = stack.node(node) / "endorsement.json"
        stack.signer(node, "endorse", str(draft), "--out", str(out))
        return Endorsement.from_fields(Fields(decode(out.read_bytes()), "endorsement"))

    with ThreadPoolExecutor() as pool:
        endorsements = list(pool.map(endorse, stack.nodes))
    seeds = [bytes.fromhex((stack.person(a) / f"{a}.ed25519").read_text()) for a in ("erin", "frank")]
    signed = signed_by(unsigned, endorsements, seeds)
    (stack.directory / "genesis.json").write_bytes(signed.to_bytes())


def _write_service_configs(stack: Stack) -> None:
    home, genesis = stack.directory, stack.genesis
    stack.ca.issue("coordinator", "coordinator", home, server=True)
    stack.ca.issue("witness", "witness", home, server=True)
    (home / "witness.toml").write_text(
        "\n".join(
            [
                'name = "witness"',
                f'listen = "127.0.0.1:{stack.witness_port}"',
                'witness_key = "witness.ed25519"',
                f'genesis = "{genesis.hash.hex()}"',
                f'log_key = "{genesis.policy.roots.log_key.hex()}"',
                'state = "witness-state"',
                "[tls]",
                *_tls(stack, "witness"),
            ]
        )
    )
    (home / "coordinator.toml").write_text(
        "\n".join(
            [
                f'listen = "{stack.address}"',
                'database = "sqlite:///{here}/coordinator.db"',
                'genesis = "genesis.json"',
                'log_key = { file = "log.sealed", passphrase = "log.passphrase" }',
                f'witnesses = [{{ name = "witness", address = "127.0.0.1:{stack.witness_port}" }}]',
                "[chain]",
                'kind = "embedded"',
                'directory = "chain"',
                "confirmations = 1",
                "[tls]",
                *_tls(stack, "coordinator"),
            ]
        )
    )


def seed_of(path: Path) -> bytes:
    """Return the Ed25519 seed in a hex file: 32 bytes."""
    seed = bytes.fromhex(path.read_text())
    ed25519.public_key(seed)
    return seed


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

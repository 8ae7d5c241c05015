"""How calls travel: again where that cures something, at the next server where one is down, once where it must."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from custody.errors import CustodyError, MalformedError
from deploy.ca import Ca, make_ca
from signer_node.backends.vault_client import MAX_SERVERS, vault_parts
from signer_node.backends.vault_wire import ONCE, PATIENT, PROBE, Identity, Manner, VaultWire

Answer = tuple[int, dict[str, object]]
FINE: Answer = (200, {"data": {"x": 1}})
NO_LEADER: Answer = (500, {"errors": ["local node not active but active cluster node not found"]})
NO_PLUGIN: Answer = (404, {"errors": ['no handler for route "x". route entry found, but backend is nil.']})
THROTTLED: Answer = (429, {"errors": ["request path x: rate limit quota exceeded"]})
SEALED: Answer = (503, {"errors": ["Vault is sealed"]})
DENIED: Answer = (403, {"errors": ["permission denied"]})
AUDIT: Answer = (500, {"errors": ["internal error"]})
BAD: Answer = (400, {"errors": ["cipher: message authentication failed"]})


class Scripted(http.server.BaseHTTPRequestHandler):
    """Gives one answer of `script` after the other; the last one for ever."""

    script: list[Answer]
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give the next answer."""
        self.asked.append(self.path)
        status, value = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


class Servers:
    """Servers of one authority, each with a script; `pauses` are those that the wire made, in seconds."""

    def __init__(self, directory: Path) -> None:
        self.ca: Ca = make_ca(directory)
        self._pair = self.ca.issue("server", "vault", directory, server=True)
        self._running: list[http.server.ThreadingHTTPServer] = []
        self.pauses: list[float] = []

    def add(self, *script: Answer) -> tuple[str, list[str]]:
        """Start one; return its address and the paths that it was asked for."""
        asked: list[str] = []
        handler = type("Handler", (Scripted,), {"script": list(script), "asked": asked})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._pair)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._running.append(server)
        return f"https://127.0.0.1:{server.server_port}", asked

    def wire(self, *addresses: str, monotonic: Callable[[], float] = lambda: 0.0) -> VaultWire:
        """Return a wire whose pauses take no time."""
        return VaultWire(addresses, Identity(self.ca.certificate_path), monotonic, self.pauses.append)

    def close(self) -> None:
        """End all."""
        for server in self._running:
            server.shutdown()
            server.server_close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """None yet."""
    found = Servers(tmp_path)
    yield found
    found.close()


def _code(wire: VaultWire, manner: Manner = PATIENT) -> str:
    with pytest.raises(CustodyError) as failed:
        wire.ask("GET", "x", None, "t", manner)
    return failed.value.code


@pytest.mark.parametrize("failure", [NO_LEADER, NO_PLUGIN, THROTTLED], ids=["no-leader", "no-plugin", "throttled"])
def test_ask_when_a_second_attempt_can_cure_it_makes_up_to_four(servers: Servers, failure: Answer) -> None:
    """Three pauses that cover an election, each a little longer than told so that nodes do not march in step."""
    address, asked = servers.add(failure, failure, failure, FINE)

    assert servers.wire(address).ask("GET", "x", None, "t") == FINE[1]
    assert len(asked) == 4
    for pause, least in zip(servers.pauses, PATIENT.pauses_s, strict=True):
        assert least <= pause <= least * 1.25


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (SEALED, "VAULT_SEALED"),
        (DENIED, "VAULT_DENIED"),
        (AUDIT, "VAULT_AUDIT_BLOCKED"),
        (BAD, "VAULT_INTEGRITY"),
    ],
)
def test_ask_when_only_people_can_cure_it_asks_once(servers: Servers, failure: Answer, code: str) -> None:
    """A seal, a policy, a full disk and tampering do not go away in a second."""
    address, asked = servers.add(failure, FINE)

    assert _code(servers.wire(address)) == code
    assert (len(asked), servers.pauses) == (1, [])


@pytest.mark.parametrize("failure", [NO_LEADER, NO_PLUGIN, THROTTLED], ids=["no-leader", "no-plugin", "throttled"])
def test_ask_when_it_must_not_be_repeated_asks_once(servers: Servers, failure: Answer) -> None:
    """Nor at another server: what was done there may be done twice."""
    address, asked = servers.add(failure, FINE)
    other, not_asked = servers.add(FINE)

    with pytest.raises(CustodyError):
        servers.wire(address, other).ask("GET", "x", None, "t", ONCE)

    assert (len(asked), len(not_asked)) == (1, 0)


@pytest.mark.parametrize("failure", [NO_LEADER, SEALED], ids=["no-leader", "sealed"])
def test_ask_when_one_server_is_down_asks_the_next_and_stays_there(servers: Servers, failure: Answer) -> None:
    """Without a pause; the one that worked is first from then on."""
    down, asked = servers.add(failure)
    up, asked_up = servers.add(FINE)
    wire = servers.wire(down, up)

    assert [wire.ask("GET", "x", None, "t") for _ in range(3)] == [FINE[1]] * 3
    assert (len(asked), len(asked_up), servers.pauses) == (1, 3, [])


def test_ask_when_a_server_is_gone_asks_the_next(servers: Servers) -> None:
    """A refused connection is like an answer that says no leader."""
    up, _ = servers.add(FINE)

    assert servers.wire("https://127.0.0.1:1", up).ask("GET", "x", None, "t") == FINE[1]


def test_ask_when_policy_denies_does_not_look_for_a_server_that_allows(servers: Servers) -> None:
    """All servers of a cluster hold the same policies."""
    one, _ = servers.add(DENIED)
    other, asked = servers.add(FINE)

    assert _code(servers.wire(one, other)) == "VAULT_DENIED"
    assert asked == []


def test_ask_when_it_failed_five_times_is_not_sent_any_more(servers: Servers) -> None:
    """The breaker is open: the same code, at once."""
    address, asked = servers.add(NO_LEADER)
    wire = servers.wire(address)

    assert [_code(wire), _code(wire), _code(wire)] == ["VAULT_UNREACHABLE"] * 3
    assert len(asked) == 5


def test_ask_when_time_is_up_makes_no_further_attempt(servers: Servers) -> None:
    """Routing passes over a node that is silent for ten seconds: an attempt that begins late helps nobody."""
    address, asked = servers.add(NO_LEADER)
    ticks = iter(range(0, 1000, 2))

    assert _code(servers.wire(address, monotonic=lambda: float(next(ticks)))) == "VAULT_UNREACHABLE"
    assert len(asked) == 1


def test_probe_when_it_fails_is_not_tried_again(servers: Servers) -> None:
    """A heartbeat is due every three seconds: it tells what is, not what may be soon."""
    address, asked = servers.add(NO_LEADER, FINE)

    assert _code(servers.wire(address), PROBE) == "VAULT_UNREACHABLE"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("netloc", "addresses"),
    [
        ("a:8200", ("https://a:8200",)),
        ("a:8200,10.0.0.2:8200", ("https://a:8200", "https://10.0.0.2:8200")),
    ],
)
def test_vault_parts_when_given_hosts_names_each_server(netloc: str, addresses: tuple[str, ...]) -> None:
    """One host, or those of a cluster with commas between them."""
    assert vault_parts(f"vault-kv://{netloc}/m/p") == (addresses, ("m", "p"), "")


@pytest.mark.parametrize("netloc", ["", "a", "a:1,", ",a:1", "a:1,b", "u@a:1", ",".join(["a:1"] * (MAX_SERVERS + 1))])
def test_vault_parts_when_a_host_is_odd_refuses(netloc: str) -> None:
    """No user, no missing port, no more servers than a cluster has."""
    with pytest.raises(MalformedError, match="BACKEND_URI"):
        vault_parts(f"vault-kv://{netloc}/m/p")

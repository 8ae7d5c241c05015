"""What a Vault session does with time, with foreign errors, and with a server that tries to lead it elsewhere."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hvac import exceptions as vault
from requests.exceptions import RequestException

from custody.errors import CustodyError, UnavailableError
from deploy.ca import Ca, make_ca
from signer_node.backends.port import State, VaultAccess, state_of
from signer_node.backends.vault_client import ONCE, Lease, VaultSession, renew_after_s
from signer_node.backends.vault_errors import translate


@pytest.mark.parametrize(("jitter", "after_s"), [(-1.0, 540.0), (0.0, 600.0), (1.0, 660.0)])
def test_renew_after_when_jittered_stays_around_two_thirds(jitter: float, after_s: float) -> None:
    """Two thirds of a life of 900 s, ten percent to either side: always before its end."""
    assert renew_after_s(Lease(900, 900), jitter) == pytest.approx(after_s)


@pytest.mark.parametrize(("granted_s", "expiring"), [(900, False), (600, False), (599, True), (1, True)])
def test_lease_when_granted_less_than_two_thirds_is_expiring(granted_s: float, expiring: bool) -> None:
    """A silently capped renewal means that the maximum is near."""
    assert Lease(900, granted_s).is_expiring is expiring


ERRORS: list[tuple[vault.VaultError | RequestException, str, State]] = [
    (vault.VaultDown("Vault is sealed"), "VAULT_SEALED", State.SEALED),
    (vault.VaultNotInitialized(""), "VAULT_NOT_INITIALISED", State.SEALED),
    (vault.Forbidden("permission denied"), "VAULT_DENIED", State.DENIED),
    (vault.RateLimitExceeded("quota exceeded"), "VAULT_THROTTLED", State.UNREACHABLE),
    (vault.BadGateway(""), "VAULT_UNREACHABLE", State.UNREACHABLE),
    (vault.InvalidPath('no handler for route "x". route entry not found.'), "VAULT_ENGINE_DOWN", State.ENGINE_DOWN),
    (vault.InvalidPath("... route entry found, but backend is nil. no handler for route"), "VAULT_ENGINE_DOWN",
     State.ENGINE_DOWN),
    (vault.InvalidPath(None), "VAULT_MISSING", State.INTEGRITY),
    (vault.InvalidRequest("check-and-set parameter did not match"), "VAULT_CONFLICT", State.INTEGRITY),
    (vault.InvalidRequest("cipher: message authentication failed"), "VAULT_INTEGRITY", State.INTEGRITY),
    (vault.InternalServerError("internal error"), "VAULT_AUDIT_BLOCKED", State.UNREACHABLE),
    (vault.InternalServerError("local node not active but ..."), "VAULT_UNREACHABLE", State.UNREACHABLE),
    (vault.InternalServerError("failed to verify client's certificate: x509: ..."), "VAULT_CERTIFICATE", State.DENIED),
    (requests.exceptions.SSLError("sslv3 alert certificate expired"), "VAULT_CERTIFICATE", State.DENIED),
    (requests.exceptions.SSLError("tlsv1 alert unknown ca"), "VAULT_CERTIFICATE", State.DENIED),
    (vault.UnexpectedError("405"), "VAULT_UNEXPECTED", State.UNREACHABLE),
    (requests.ConnectionError("refused"), "VAULT_UNREACHABLE", State.UNREACHABLE),
    (requests.ReadTimeout("5"), "VAULT_UNREACHABLE", State.UNREACHABLE),
    (requests.exceptions.SSLError("EOF occurred"), "VAULT_UNREACHABLE", State.UNREACHABLE),
    (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), "VAULT_UNTRUSTED", State.INTEGRITY),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "state"), ERRORS)
def test_translate_when_given_a_foreign_error_names_code_and_state(
    error: vault.VaultError | RequestException, code: str, state: State
) -> None:
    """One family, one code each; the server's own words stay out of the message."""
    ours = translate(error, "GET x")

    assert (ours.code, state_of(ours).state) == (code, state)
    assert "did not match" not in str(ours)
    assert "authentication failed" not in str(ours)


def test_state_of_when_the_code_is_unknown_is_integrity() -> None:
    """Unknown means stop."""
    assert state_of(CustodyError("NEVER_HEARD", "of")).state is State.INTEGRITY


class _Hostile(http.server.BaseHTTPRequestHandler):
    """Answers a login, then leads every call to /stolen on itself, or answers with a page."""

    seen: list[tuple[str, str | None]]
    answer = 307

    def do_POST(self) -> None:
        """Give out a token, or lie."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._tell()

    def do_GET(self) -> None:
        """Lie."""
        self._tell()

    def _tell(self) -> None:
        self.seen.append((self.path, self.headers.get("X-Vault-Token")))
        bodies = {
            "/v1/sys/wrapping/lookup": b'{"data":{"creation_path":"auth/approle/role/signer-x/secret-id"}}',
            "/v1/sys/wrapping/unwrap": b'{"data":{"secret_id":"s"}}',
            "/v1/auth/approle/login": b'{"auth":{"client_token":"t","lease_duration":60}}',
        }
        body = bodies.get(self.path, b"<html>")
        self.send_response(200 if self.path in bodies or self.answer == 200 else self.answer)
        self.send_header("Location", "/stolen")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[tuple[type[_Hostile], VaultSession]]:
    """A server with a good certificate and bad manners, and a session to it."""
    ca: Ca = make_ca(tmp_path)
    handler = type("Handler", (_Hostile,), {"seen": []})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue("server", "vault", tmp_path, server=True))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    access = VaultAccess(ca.certificate_path, "signer-x", "role", lambda: "w")
    yield handler, VaultSession(f"https://127.0.0.1:{server.server_port}", access)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [307, 302, 200])
def test_session_when_the_server_leads_elsewhere_does_not_follow(
    hostile: tuple[type[_Hostile], VaultSession], status: int
) -> None:
    """A redirect or a page instead of an answer is UNREACHABLE, and the token went nowhere else."""
    handler, session = hostile
    handler.answer = status

    with pytest.raises(UnavailableError) as refused:
        session.request("GET", "keyturn/data/x", None, ONCE)

    assert refused.value.code == "VAULT_UNREACHABLE"
    assert [path for path, _ in handler.seen] == [
        "/v1/sys/wrapping/lookup",
        "/v1/sys/wrapping/unwrap",
        "/v1/auth/approle/login",
        "/v1/keyturn/data/x",
    ]
    assert [token for _, token in handler.seen] == [None, "w", None, "t"]

"""Calls to the servers of one Vault or OpenBao cluster: to which of them, for how long, how often again.

Nothing is taken from the environment (proxies, VAULT_TOKEN), and no redirect is followed: it would carry the token to
another host. Only the pinned authority is believed. What cannot be repeated without harm is sent once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import SystemRandom

import requests
from hvac.adapters import RawAdapter
from hvac.exceptions import VaultError

from custody.canonical import Json
from custody.errors import CustodyError, UnavailableError
from signer_node.backends.breaker import Breaker
from signer_node.backends.vault_errors import translate

CONNECT_S = 1.0
GIVE_UP_S = 4.0  # no attempt begins later: routing passes over a node that is silent for 10 s
_AGAIN = frozenset({"VAULT_UNREACHABLE", "VAULT_ENGINE_DOWN", "VAULT_THROTTLED"})  # what a second may cure
_ELSEWHERE = frozenset({"VAULT_UNREACHABLE", "VAULT_SEALED", "VAULT_NOT_INITIALISED"})  # of one server, not of all
_jitter = SystemRandom().uniform

Body = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Manner:
    """How one call is made.

    pauses_s: before each further attempt.  is_repeatable: the same again does the same; else it is sent once, to one
    server.  read_s: how long its answer may take.
    """

    pauses_s: tuple[float, ...] = (0.25, 0.5, 1.0)  # an election takes 1.7 s, a rate limit of 5/s lets one by in 0.2 s
    is_repeatable: bool = True
    read_s: float = 5.0  # a seal in progress holds calls for up to 1.8 s


PATIENT = Manner()
ONCE = Manner(pauses_s=(), is_repeatable=False)
PROBE = Manner(pauses_s=(), read_s=3.0)  # two of them, and the pause between heartbeats, stay below 10 s


@dataclass(frozen=True, slots=True)
class Identity:
    """What a connection shows and believes. ca_path: PEM of the only authority.  pair: PEM certificate and key."""

    ca_path: Path
    pair: tuple[Path, Path] | None = None


class VaultWire:
    """The way to a cluster; safe to use from many threads, each with its own connections.

    Args:
        addresses: `https://HOST:PORT`, at least one; the one that worked last is asked first.
        identity: of the connections.
        monotonic, sleep: this machine's, in seconds.
    """

    def __init__(
        self,
        addresses: tuple[str, ...],
        identity: Identity,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._addresses, self._identity = addresses, identity
        self._monotonic, self._sleep = monotonic, sleep
        self._breaker = Breaker(monotonic)
        self._first = 0  # index of the address to ask first
        self._thread = threading.local()
        self._adapters: list[RawAdapter] = []
        self._generation = 0

    def ask(self, method: str, path: str, body: Body | None, token: str, manner: Manner = PATIENT) -> Body:
        """Return the answer's JSON object, {} where it has none.

        Raises:
            CustodyError: with a code of `port.STATES`, or one that means INTEGRITY.
        """
        return self._persist(lambda: self._walk(method, path, body, token, manner), manner)

    def health(self) -> Body:
        """Return what `sys/health` of one unsealed server says.

        Raises:
            UnavailableError: VAULT_SEALED, VAULT_NOT_INITIALISED, VAULT_UNREACHABLE.
        """
        path = "sys/health?standbyok=true&perfstandbyok=true"
        return self._persist(lambda: self._walk("GET", path, None, "", PROBE, _read_health), PROBE)

    def renew_connections(self) -> None:
        """Make every later call on a new connection, which shows the certificate that is in its file then."""
        self._generation += 1

    def close(self) -> None:
        """Close all connections."""
        for adapter in self._adapters:
            adapter.close()

    def _persist(self, call: Callable[[], Body], manner: Manner) -> Body:
        """Return what `call` returns, tried again as `manner` says, unless the breaker is open."""
        began = self._monotonic()
        for pause_s in (*manner.pauses_s, None):
            self._breaker.admit()
            try:
                answer = call()
            except UnavailableError as error:
                self._breaker.failed(error)
                is_late = pause_s is None or self._monotonic() + pause_s > began + GIVE_UP_S
                if error.code not in _AGAIN or is_late or pause_s is None or self._breaker.is_open:
                    raise
            except CustodyError:
                self._breaker.passed()
                raise
            else:
                self._breaker.passed()
                return answer
            self._sleep(pause_s * _jitter(1.0, 1.25))
        raise AssertionError("expected the last attempt to return or raise")

    def _walk(
        self,
        method: str,
        path: str,
        body: Body | None,
        token: str,
        manner: Manner,
        read: Callable[[requests.Response], Body] | None = None,
    ) -> Body:
        """Return the answer of the first server that gives one, beginning with the one that did last."""
        first, count = self._first, len(self._addresses)
        for step in range(count):
            at = (first + step) % count
            try:
                answer = self._send(self._addresses[at], method, path, body, token, manner.read_s, read is None)
                found = (read or _read_json)(answer)
            except UnavailableError as error:
                self._first = (at + 1) % count
                if error.code not in _ELSEWHERE or not manner.is_repeatable or step == count - 1:
                    raise
            else:
                self._first = at
                return found
        raise AssertionError("expected the last server to answer or fail")

    def _send(
        self, address: str, method: str, path: str, body: Body | None, token: str, read_s: float, raises: bool
    ) -> requests.Response:
        headers = {"X-Vault-Token": token} if token else {}
        failed: VaultError | requests.RequestException
        try:
            answer: requests.Response = self._adapter(address).request(
                method, f"/v1/{path}", headers=headers, json=body, raise_exception=raises, timeout=(CONNECT_S, read_s)
            )
            return answer
        except (VaultError, requests.RequestException) as error:
            failed = error
        # Raised outside the handler: a chained foreign exception carries the request, and with it the token.
        raise translate(failed, f"{method} {path.partition('?')[0]}")

    def _adapter(self, address: str) -> RawAdapter:
        """Return this thread's connection: hvac's adapter, because its Client reads VAULT_* from the environment."""
        if getattr(self._thread, "generation", None) != self._generation:
            self._thread.adapters, self._thread.generation = {}, self._generation
        adapters: dict[str, RawAdapter] = self._thread.adapters
        if address not in adapters:
            session = requests.Session()
            session.trust_env, session.verify = False, str(self._identity.ca_path)
            if self._identity.pair is not None:
                session.cert = (str(self._identity.pair[0]), str(self._identity.pair[1]))
            adapters[address] = RawAdapter(address, token="", allow_redirects=False, session=session)
            self._adapters.append(adapters[address])
        return adapters[address]


def _read_json(answer: requests.Response) -> Body:
    if answer.status_code == 204:
        return {}
    try:
        value = answer.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):  # a redirect to another node, a proxy's page
        raise UnavailableError("VAULT_UNREACHABLE", f"expected a JSON answer, found status {answer.status_code}")
    return value


def _read_health(answer: requests.Response) -> Body:
    if answer.status_code in (501, 503):
        code = "VAULT_SEALED" if answer.status_code == 503 else "VAULT_NOT_INITIALISED"
        raise UnavailableError(code, f"expected an unsealed server, found status {answer.status_code}")
    if answer.status_code not in (200, 429, 473):
        raise UnavailableError("VAULT_UNREACHABLE", f"expected a healthy server, found status {answer.status_code}")
    return _read_json(answer)

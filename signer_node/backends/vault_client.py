"""A login to one Vault or OpenBao server, kept fresh, and the only way our backends talk to it.

AppRole with a wrapped secret_id: the wrapping token is checked for who made it and unwrapped once. One that was used
before us was intercepted: WRAP_USED is a security incident, not something to retry. The secret_id and the token live
in memory only. Nothing is taken from the environment (proxies, VAULT_TOKEN), and no redirect is followed: it would
carry the token to another host.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import SystemRandom
from urllib.parse import urlsplit

import requests
from hvac.adapters import RawAdapter
from hvac.exceptions import VaultError

from custody.canonical import Json
from custody.errors import CustodyError, DeniedError, IntegrityError, MalformedError, UnavailableError
from signer_node.backends.port import VaultAccess
from signer_node.backends.vault_errors import translate

TIMEOUT_S = (1.0, 5.0)  # connect, read; a seal in progress holds calls for up to 1.8 s
MAX_CLOCK_GAP_S = 30  # beyond it, certificates, token lives and expiry dates mean different things on both sides
RETRY_S = 2.0  # between attempts to renew while the server is away
MAX_REFUSED_LOGINS, LOCKOUT_S = 3, 60.0  # refused on purpose? then hammering helps nobody

Body = Mapping[str, Json]
_uniform = SystemRandom().uniform
_WRAP_USED = ("WRAP_USED", "expected an unused wrapping token, found one used or expired: was it intercepted?")


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a token lives. asked_s: when it was new; granted_s: now, in seconds."""

    asked_s: float
    granted_s: float

    @property
    def is_expiring(self) -> bool:
        """Whether renewing no longer gives a full life: the maximum is near, so log in anew."""
        return self.granted_s < self.asked_s * 2 / 3


def renew_after_s(lease: Lease, jitter: float) -> float:
    """Return when to renew: at 2/3 of the life, moved by up to 10 %. jitter: in -1..1."""
    return lease.granted_s * 2 / 3 * (1 + jitter / 10)


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    value: str
    lease: Lease


class VaultSession:
    """One node's login to one server; safe to use from many threads, each with its own connections.

    Args:
        address: `https://HOST:PORT`.
        access: who we are and whom we trust.
        monotonic, utc: clocks, in seconds.
    """

    def __init__(
        self,
        address: str,
        access: VaultAccess,
        monotonic: Callable[[], float] = time.monotonic,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._address, self._access = address, access
        self._monotonic, self._utc = monotonic, utc
        self._thread = threading.local()
        self._adapters: list[RawAdapter] = []
        self._login_lock = threading.Lock()
        self._token: _Token | None = None
        self._wrapped: str | None = None  # handed to us, not yet unwrapped
        self._spent: str | None = None  # the one we unwrapped last: seeing it again is no incident
        self._incident: tuple[str, str] | None = None  # code and message, until a fresh token works
        self._secret_id: str | None = None
        self._refused_logins, self._locked_until = 0, 0.0

    def request(self, method: str, path: str, body: Body | None = None) -> Body:
        """Return the `data` of the answer to one call under our token; an empty object where there is none.

        Blocks for at most two calls and a login. A dead token is replaced once; a policy that forbids is not argued
        with.

        Raises:
            CustodyError: with a code of `port.STATES`, or one that means INTEGRITY.
        """
        token = self._token or self._login(None)
        try:
            return _object(self._send(method, path, body, token.value), "data")
        except DeniedError:
            if self._is_alive(token):
                raise
        return _object(self._send(method, path, body, self._login(token).value), "data")

    def check(self) -> None:
        """Pass if the server is unsealed, its clock agrees with ours, it can write its audit log and knows our token.

        Raises:
            CustodyError: as `request`; VAULT_CLOCK.
        """
        answer = self._raw("GET", "sys/health?standbyok=true&perfstandbyok=true", None, "", raise_exception=False)
        if answer.status_code in (501, 503):
            code = "VAULT_SEALED" if answer.status_code == 503 else "VAULT_NOT_INITIALISED"
            raise UnavailableError(code, f"expected an unsealed server, found status {answer.status_code}")
        if answer.status_code not in (200, 429, 473):
            raise UnavailableError("VAULT_UNREACHABLE", f"expected a healthy server, found status {answer.status_code}")
        there = _read_json(answer).get("server_time_utc")
        gap_s = abs(there - self._utc()) if isinstance(there, int) else float("inf")
        if gap_s > MAX_CLOCK_GAP_S:
            raise UnavailableError("VAULT_CLOCK", f"expected clocks within {MAX_CLOCK_GAP_S} s, found {gap_s:.0f} s")
        self.request("GET", "auth/token/lookup-self")

    def renew(self) -> None:
        """Renew our token, or log in anew where there is none or its maximum life is near.

        Raises:
            CustodyError: the old token stays in use as long as it lives.
        """
        token = self._token
        if token is None:
            self._login(None)
            return
        try:
            answer = self._send("POST", "auth/token/renew-self", {"increment": int(token.lease.asked_s)}, token.value)
        except DeniedError:
            self._login(token)
            return
        lease = Lease(token.lease.asked_s, _life_s(answer))
        if lease.is_expiring:
            self._login(token)
            return
        with self._login_lock:
            if self._token is token:  # else another thread logged in meanwhile: its token is younger
                self._token = _Token(token.value, lease)

    async def keep_fresh(self, jitter: Callable[[float, float], float] = _uniform) -> None:
        """Renew at two thirds of each life until cancelled. Failures are not raised: `check` and calls tell them."""
        while True:
            try:
                await asyncio.to_thread(self.renew)
            except CustodyError:
                await asyncio.sleep(RETRY_S)
                continue
            token = self._token
            await asyncio.sleep(renew_after_s(token.lease, jitter(-1, 1)) if token else RETRY_S)

    def close(self) -> None:
        """Give the token back and close all connections; a server that is away forgets it by itself."""
        token, self._token, self._secret_id = self._token, None, None
        if token:
            with contextlib.suppress(CustodyError):
                self._send("POST", "auth/token/revoke-self", {}, token.value)
        for adapter in self._adapters:
            adapter.close()

    def _is_alive(self, token: _Token) -> bool:
        try:
            self._send("GET", "auth/token/lookup-self", None, token.value)
        except DeniedError:
            return False
        return True

    def _login(self, dead: _Token | None) -> _Token:
        """Return a new token in place of `dead`; where another thread already got one, that."""
        with self._login_lock:
            if self._token is not None and (dead is None or self._token.value != dead.value):
                return self._token
            if self._monotonic() < self._locked_until:
                raise DeniedError("VAULT_LOGIN_REFUSED", f"locked out for {LOCKOUT_S:.0f} s after refused logins")
            secret_id = self._secret_id or self._unwrap()
            body = {"role_id": self._access.role_id, "secret_id": secret_id}
            try:
                answer = self._send("POST", "auth/approle/login", body, "")
            except (DeniedError, IntegrityError) as error:
                if error.code == "VAULT_UNTRUSTED":
                    raise
                raise self._login_refused() from None
            auth = _object(answer, "auth")
            lease = Lease(_life_s(answer), _life_s(answer))
            self._secret_id, self._refused_logins = secret_id, 0
            self._token = _Token(_text(auth, "client_token"), lease)
            return self._token

    def _login_refused(self) -> DeniedError:
        self._secret_id = None  # spent or revoked: the next attempt needs a fresh one
        self._refused_logins += 1
        if self._refused_logins >= MAX_REFUSED_LOGINS:
            self._refused_logins, self._locked_until = 0, self._monotonic() + LOCKOUT_S
        return DeniedError("VAULT_LOGIN_REFUSED", f"the server refuses role {self._access.role}")

    def _unwrap(self) -> str:
        """Return the secret_id inside the wrapping token that we were given.

        1. The token exists unused; 2. it was made by the call that makes secret_ids of our role, so that nobody can
        hand us another one; 3. it is unwrapped, once.
        """
        self._wrapped = self._wrapped or self._fresh_wrapped()
        made_by = f"auth/approle/role/{self._access.role}/secret-id"
        try:
            answer = self._send("POST", "sys/wrapping/lookup", {"token": self._wrapped}, "")
            if _text(_object(answer, "data"), "creation_path") != made_by:
                raise IntegrityError("WRAP_FOREIGN", f"expected a wrapping token made by {made_by}, found another")
            answer = self._send("POST", "sys/wrapping/unwrap", {}, self._wrapped)
        except UnavailableError:
            raise  # keep it for the next attempt
        except CustodyError as error:
            if error.code == "VAULT_UNTRUSTED":
                raise  # it was sent to nobody
            self._wrapped = None
            self._incident = (error.code, error.message) if error.code == "WRAP_FOREIGN" else _WRAP_USED
            raise IntegrityError(*self._incident) from None
        self._wrapped, self._spent, self._incident = None, self._wrapped, None
        return _text(_object(answer, "data"), "secret_id")

    def _fresh_wrapped(self) -> str:
        """Return the next wrapping token; while there is none, an incident is not forgotten."""
        try:
            wrapped = self._access.wrapped()
            if wrapped == self._spent:
                raise DeniedError("VAULT_NO_CREDENTIAL", "expected a fresh wrapping token, found the one we used")
        except DeniedError:
            if self._incident:
                raise IntegrityError(*self._incident) from None
            raise
        return wrapped

    def _send(self, method: str, path: str, body: Body | None, token: str) -> Body:
        return _read_json(self._raw(method, path, body, token))

    def _raw(
        self, method: str, path: str, body: Body | None, token: str, raise_exception: bool = True
    ) -> requests.Response:
        headers = {"X-Vault-Token": token} if token else {}
        failed: VaultError | requests.RequestException
        try:
            answer: requests.Response = self._adapter().request(
                method, f"/v1/{path}", headers=headers, json=body, raise_exception=raise_exception
            )
            return answer
        except (VaultError, requests.RequestException) as error:
            failed = error
        # Raised outside the handler: a chained foreign exception carries the request, and with it the token.
        raise translate(failed, f"{method} {path.partition('?')[0]}")

    def _adapter(self) -> RawAdapter:
        """Return this thread's connection: hvac's adapter, because its Client reads VAULT_* from the environment."""
        adapter: RawAdapter | None = getattr(self._thread, "adapter", None)
        if adapter is None:
            session = requests.Session()
            session.trust_env, session.verify = False, str(self._access.ca_path)
            adapter = RawAdapter(self._address, token="", timeout=TIMEOUT_S, allow_redirects=False, session=session)
            self._thread.adapter = adapter
            self._adapters.append(adapter)
        return adapter


def vault_parts(uri: str) -> tuple[str, tuple[str, ...], str]:
    """Return (`https://HOST:PORT`, path segments, query) of a vault-* URI.

    Raises:
        MalformedError: BACKEND_URI for anything but plain segments, a host and a port.
    """
    parts = urlsplit(uri)
    segments = tuple(parts.path.split("/")[1:])
    plain = re.fullmatch(r"[A-Za-z0-9.-]+:[0-9]{1,5}", parts.netloc)
    if not plain or parts.fragment or not all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", segment) for segment in segments):
        raise MalformedError("BACKEND_URI", f"expected {parts.scheme}://HOST:PORT/PATH of a-z 0-9 . _ -")
    return f"https://{parts.netloc}", segments, parts.query


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


def _object(value: Body, key: str) -> Body:
    found = value.get(key) or {}
    if not isinstance(found, dict):
        raise UnavailableError("VAULT_UNEXPECTED", f"expected an object {key} in the answer")
    return found


def _text(value: Body, key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise UnavailableError("VAULT_UNEXPECTED", f"expected text {key} in the answer")
    return found


def _life_s(answer: Body) -> float:
    found = _object(answer, "auth").get("lease_duration")
    if not isinstance(found, int) or found <= 0:
        raise UnavailableError("VAULT_UNEXPECTED", "expected a lease_duration in the answer")
    return float(found)

"""A login to one Vault or OpenBao cluster, kept fresh, and the only way our backends talk to it.

The token lives in memory only. How it was got is vault_login's matter, how calls travel is vault_wire's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import SystemRandom
from urllib.parse import urlsplit

from custody.errors import CustodyError, DeniedError, IntegrityError, MalformedError, UnavailableError
from signer_node.backends.port import VaultAccess, VaultCertificate
from signer_node.backends.vault_login import AppRoleLogin, CertificateLogin, Login, object_of, text_of
from signer_node.backends.vault_wire import ONCE, PATIENT, PROBE, Body, Identity, Manner, VaultWire

__all__ = ["ONCE", "PATIENT", "PROBE", "Body", "Lease", "Manner", "VaultSession", "vault_parts"]

MAX_CLOCK_GAP_S = 30  # beyond it, certificates, token lives and expiry dates mean different things on both sides
LOOK_S = 2.0  # how often a fresh credential is looked for, and a renewal that failed is tried again
MAX_REFUSED_LOGINS, LOCKOUT_S = 3, 60.0  # refused on purpose? then hammering helps nobody
MAX_SERVERS = 7  # of one raft cluster

_uniform = SystemRandom().uniform


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
    """One node's login to one cluster; safe to use from many threads.

    Args:
        addresses: `https://HOST:PORT` of each server, or of the only one.
        access: who we are and whom we trust.
        monotonic, utc: clocks, in seconds.
    """

    def __init__(
        self,
        addresses: tuple[str, ...] | str,
        access: VaultAccess | VaultCertificate,
        monotonic: Callable[[], float] = time.monotonic,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._role = access.role
        self._wire = wire_to(addresses, access, monotonic)
        self._login_by: Login = (
            CertificateLogin(access) if isinstance(access, VaultCertificate) else AppRoleLogin(access)
        )
        self._monotonic, self._utc = monotonic, utc
        self._login_lock = threading.Lock()
        self._token: _Token | None = None
        self._refused_logins, self._locked_until = 0, 0.0

    def request(self, method: str, path: str, body: Body | None = None, manner: Manner = PATIENT) -> Body:
        """Return the `data` of the answer to one call under our token; an empty object where there is none.

        A dead token is replaced once; a policy that forbids is not argued with. What is not repeatable is sent once.

        Raises:
            CustodyError: with a code of `port.STATES`, or one that means INTEGRITY.
        """
        token = self._token or self._login(None)
        try:
            return object_of(self._wire.ask(method, path, body, token.value, manner), "data")
        except DeniedError:
            if self._is_alive(token):
                raise
        return object_of(self._wire.ask(method, path, body, self._login(token).value, manner), "data")

    def check(self) -> None:
        """Pass if a server is unsealed, agrees on the time and knows our token, and nothing was intercepted.

        The look at the token also shows that the server can write its audit log: it answers nothing that it cannot log.

        Raises:
            CustodyError: as `request`; VAULT_CLOCK.
        """
        there = self._wire.health().get("server_time_utc")
        gap_s = abs(there - self._utc()) if isinstance(there, int) else float("inf")
        if gap_s > MAX_CLOCK_GAP_S:
            raise UnavailableError("VAULT_CLOCK", f"expected clocks within {MAX_CLOCK_GAP_S} s, found {gap_s:.0f} s")
        self.request("GET", "auth/token/lookup-self", None, PROBE)
        self._login_by.check()  # last: a login that was needed may have ended the incident

    def renew(self) -> None:
        """Renew our token, or log in anew where there is none or its maximum life is near.

        Raises:
            CustodyError: the old token stays in use as long as it lives.
        """
        token = self._token
        if token is None:
            self._login(None)
            return
        body: Body = {"increment": int(token.lease.asked_s)}
        try:
            answer = self._wire.ask("POST", "auth/token/renew-self", body, token.value)
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
        """Renew at two thirds of each life, and take in what somebody brings, until cancelled.

        Failures are not raised: `check` and calls tell them.
        """
        due = self._monotonic()
        while True:
            with contextlib.suppress(CustodyError):
                await asyncio.to_thread(self._login_by.take_fresh, self._wire)
                if self._monotonic() >= due:
                    await asyncio.to_thread(self.renew)
                    token = self._token
                    due = self._monotonic() + (renew_after_s(token.lease, jitter(-1, 1)) if token else 0)
            wait_s = due - self._monotonic()
            await asyncio.sleep(min(LOOK_S, wait_s) if wait_s > 0 else LOOK_S)

    def close(self) -> None:
        """Give the token back and close all connections; a server that is away forgets it by itself."""
        token, self._token = self._token, None
        self._login_by.forget()
        if token:
            with contextlib.suppress(CustodyError):
                self._wire.ask("POST", "auth/token/revoke-self", {}, token.value, ONCE)
        self._wire.close()

    def _is_alive(self, token: _Token) -> bool:
        try:
            self._wire.ask("GET", "auth/token/lookup-self", None, token.value, PROBE)
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
            try:
                answer = self._login_by.enter(self._wire)
            except (DeniedError, IntegrityError) as error:
                if error.code not in ("VAULT_DENIED", "VAULT_INTEGRITY"):
                    raise  # nothing to log in with, an incident, or another authority
                raise self._login_refused() from None
            lease = Lease(_life_s(answer), _life_s(answer))
            self._refused_logins = 0
            self._token = _Token(text_of(object_of(answer, "auth"), "client_token"), lease)
            return self._token

    def _login_refused(self) -> DeniedError:
        self._login_by.refused()
        self._refused_logins += 1
        if self._refused_logins >= MAX_REFUSED_LOGINS:
            self._refused_logins, self._locked_until = 0, self._monotonic() + LOCKOUT_S
        return DeniedError("VAULT_LOGIN_REFUSED", f"the server refuses role {self._role}")


def wire_to(
    addresses: tuple[str, ...] | str,
    access: VaultAccess | VaultCertificate,
    monotonic: Callable[[], float] = time.monotonic,
) -> VaultWire:
    """Return the way to a cluster as `access` names whom to believe and what to show."""
    pair = (access.certificate, access.key) if isinstance(access, VaultCertificate) else None
    found = (addresses,) if isinstance(addresses, str) else addresses
    return VaultWire(found, Identity(access.ca_path, pair), monotonic)


def vault_parts(uri: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return (`https://HOST:PORT` of each server, path segments, query) of a vault-* URI.

    Raises:
        MalformedError: BACKEND_URI for anything but plain segments and hosts with ports, divided by commas.
    """
    parts = urlsplit(uri)
    segments, hosts = tuple(parts.path.split("/")[1:]), parts.netloc.split(",")
    plain = all(re.fullmatch(r"[A-Za-z0-9.-]+:[0-9]{1,5}", host) for host in hosts) and len(hosts) <= MAX_SERVERS
    if not plain or parts.fragment or not all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", segment) for segment in segments):
        raise MalformedError("BACKEND_URI", f"expected {parts.scheme}://HOST:PORT[,HOST:PORT]/PATH of a-z 0-9 . _ -")
    return tuple(f"https://{host}" for host in hosts), segments, parts.query


def _life_s(answer: Body) -> float:
    found = object_of(answer, "auth").get("lease_duration")
    if not isinstance(found, int) or found <= 0:
        raise UnavailableError("VAULT_UNEXPECTED", "expected a lease_duration in the answer")
    return float(found)

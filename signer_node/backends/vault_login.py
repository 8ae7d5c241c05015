"""How a node gets into its Vault: by an AppRole whose secret_id comes wrapped, or by its TLS certificate.

A wrapping token is checked for who made it and unwrapped once. One that was used before us was intercepted: WRAP_USED
is a security incident, not something to retry. The secret_id lives in memory only. A certificate needs nobody to bring
anything: the node logs in anew by itself for as long as its certificate is valid.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from custody.canonical import Json
from custody.errors import CustodyError, DeniedError, IntegrityError, UnavailableError
from signer_node.backends.port import VaultAccess, VaultCertificate
from signer_node.backends.vault_wire import ONCE, PATIENT, Body, VaultWire

_WRAP_USED = ("WRAP_USED", "expected an unused wrapping token, found one used or expired: was it intercepted?")


class Login(Protocol):
    """One way in; every call may block."""

    def enter(self, wire: VaultWire) -> Body:
        """Return the server's answer to a login.

        Raises:
            CustodyError: there is nothing to log in with, or the server says no.
        """

    def refused(self) -> None:
        """Be told that the server refused what was shown."""

    def take_fresh(self, wire: VaultWire) -> None:
        """Take what somebody brought since the last login, where something was. Raises CustodyError: an incident."""

    def check(self) -> None:
        """Raise IntegrityError while an incident is open."""

    def forget(self) -> None:
        """Drop every credential."""


class CertificateLogin:
    """By the certificate in its file: it may be replaced there at any time."""

    def __init__(self, access: VaultCertificate) -> None:
        self._role = access.role

    def enter(self, wire: VaultWire) -> Body:
        """See the port."""
        wire.renew_connections()
        return wire.ask("POST", "auth/cert/login", {"name": self._role}, "")

    def refused(self) -> None:
        """See the port. There is nothing to drop."""

    def take_fresh(self, wire: VaultWire) -> None:
        """See the port. Each login reads the file."""

    def check(self) -> None:
        """See the port. Nothing travels that could be intercepted."""

    def forget(self) -> None:
        """See the port. The key is in its file alone."""


class AppRoleLogin:
    """By a secret_id that somebody brought in a wrapping token."""

    def __init__(self, access: VaultAccess) -> None:
        self._access = access
        self._lock = threading.RLock()
        self._wrapped: str | None = None  # handed to us, not yet unwrapped
        self._spent: str | None = None  # the one we unwrapped last: seeing it again is no incident
        self._incident: tuple[str, str] | None = None  # code and message, until a fresh token works
        self._secret_id: str | None = None

    def enter(self, wire: VaultWire) -> Body:
        """See the port. A secret_id that worked is used again until it is refused."""
        with self._lock:
            self._secret_id = self._secret_id or self._unwrap(wire)
            body = {"role_id": self._access.role_id, "secret_id": self._secret_id}
        return wire.ask("POST", "auth/approle/login", body, "")

    def refused(self) -> None:
        """See the port: spent or revoked, so the next attempt needs a fresh one."""
        self._secret_id = None

    def take_fresh(self, wire: VaultWire) -> None:
        """See the port. A wrapping token lives for two minutes: unwrapped when it comes, not when it is needed."""
        with self._lock:
            if self._secret_id is not None and self._access.is_waiting():
                self._secret_id = self._unwrap(wire)

    def check(self) -> None:
        """See the port."""
        if self._incident is not None:
            raise IntegrityError(*self._incident)

    def forget(self) -> None:
        """See the port."""
        self._secret_id = None

    def _unwrap(self, wire: VaultWire) -> str:
        """Return the secret_id inside the wrapping token that we were given."""
        self._wrapped = self._wrapped or self._fresh_wrapped()
        try:
            check_wrapped(wire, self._access.role, self._wrapped)
            answer = wire.ask("POST", "sys/wrapping/unwrap", {}, self._wrapped, ONCE)
        except UnavailableError:
            raise  # keep it for the next attempt
        except CustodyError as error:
            if error.code == "VAULT_UNTRUSTED":
                raise  # it was sent to nobody
            self._wrapped = None
            self._incident = (error.code, error.message) if error.code == "WRAP_FOREIGN" else _WRAP_USED
            raise IntegrityError(*self._incident) from None
        self._wrapped, self._spent, self._incident = None, self._wrapped, None
        return text_of(object_of(answer, "data"), "secret_id")

    def _fresh_wrapped(self) -> str:
        """Return the next wrapping token; while there is none, an incident is not forgotten."""
        try:
            wrapped = self._access.wrapped()
            if wrapped == self._spent:
                raise DeniedError("VAULT_NO_CREDENTIAL", "expected a fresh wrapping token, found the one we used")
        except DeniedError:
            self.check()
            raise
        return wrapped


def check_wrapped(wire: VaultWire, role: str, wrapped: str) -> None:
    """Pass if `wrapped` is unused and was made by the call that makes secret_ids of `role`; does not use it up.

    Raises:
        IntegrityError: WRAP_FOREIGN; VAULT_INTEGRITY where the server does not know it (any more).
    """
    made_by = f"auth/approle/role/{role}/secret-id"
    answer = wire.ask("POST", "sys/wrapping/lookup", {"token": wrapped}, "", PATIENT)
    if text_of(object_of(answer, "data"), "creation_path") != made_by:
        raise IntegrityError("WRAP_FOREIGN", f"expected a wrapping token made by {made_by}, found another")


def object_of(value: Body, key: str) -> Mapping[str, Json]:
    """Return the object under `key`, {} where there is none. Raises UnavailableError VAULT_UNEXPECTED."""
    found = value.get(key) or {}
    if not isinstance(found, dict):
        raise UnavailableError("VAULT_UNEXPECTED", f"expected an object {key} in the answer")
    return found


def text_of(value: Body, key: str) -> str:
    """Return the text under `key`. Raises UnavailableError VAULT_UNEXPECTED."""
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise UnavailableError("VAULT_UNEXPECTED", f"expected text {key} in the answer")
    return found

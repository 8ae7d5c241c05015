"""The log key in Vault's or OpenBao's transit engine: it signs there and is never here.

A small client with the same cautions as a node's: nothing is taken from the environment (proxies, VAULT_TOKEN), no
redirect is followed (it would carry the token to another host), only the pinned authority is believed, every call ends
in seconds. The AppRole's secret_id comes wrapped: one that somebody unwrapped before us is an incident, told by code.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
from hvac.adapters import RawAdapter
from hvac.exceptions import Forbidden, InvalidRequest, VaultError

from coordinator.log_key import read_private
from custody import ed25519
from custody.canonical import Json
from custody.errors import DeniedError, IntegrityError, NotFoundError, UnavailableError

TIMEOUT_S = (1.0, 5.0)  # connect, read; a seal in progress holds calls for up to 1.8 s
Body = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where the key is and how to get in.

    address: `https://HOST:PORT`.  key: its name in the mount `transit`.  ca: PEM of the only authority believed.
    role, role_id: of the AppRole.  wrapped_secret_id: file (0600) with a wrapping token; gone once it was used.
    """

    address: str
    key: str
    ca: Path
    role: str
    role_id: str
    wrapped_secret_id: Path


class VaultKey:
    """Signs through one server. public: 32 bytes, pinned; every signature is verified under it before it is used."""

    def __init__(self, place: VaultPlace, public: bytes) -> None:
        session = requests.Session()
        session.trust_env, session.verify = False, str(place.ca)
        self._adapter = RawAdapter(place.address, token="", timeout=TIMEOUT_S, allow_redirects=False, session=session)
        self._place, self._public = place, public
        self._lock = threading.Lock()  # one connection, one login
        self._token, self._secret_id = "", ""

    @property
    def public(self) -> bytes:
        """32 bytes, Ed25519."""
        return self._public

    async def sign(self, message: bytes) -> bytes:
        """See the port.

        Raises:
            UnavailableError: VAULT_UNREACHABLE.
            DeniedError: VAULT_DENIED.
            IntegrityError: WRAP_USED, WRAP_FOREIGN, or LOG_KEY: not a signature by the pinned key.
        """
        return await asyncio.to_thread(self._sign, message)

    def close(self) -> None:
        """Close the connection; the token ends by itself."""
        self._adapter.close()

    def _sign(self, message: bytes) -> bytes:
        body = {"input": base64.b64encode(message).decode()}
        with self._lock:
            try:
                answer = self._call(f"transit/sign/{self._place.key}", body, self._token or self._login())
            except DeniedError:  # the token died: once more with a new one
                answer = self._call(f"transit/sign/{self._place.key}", body, self._login())
        text = _text(answer, "data", "signature").rpartition(":")[2]
        try:
            signature = base64.b64decode(text, validate=True)
        except ValueError:
            signature = b""
        if not ed25519.verify(self._public, message, signature):
            raise IntegrityError("LOG_KEY", "expected a signature by the pinned log key, found that of another")
        return signature

    def _login(self) -> str:
        if not self._secret_id:
            self._secret_id = self._unwrap()
        body = {"role_id": self._place.role_id, "secret_id": self._secret_id}
        try:
            self._token = _text(self._call("auth/approle/login", body, ""), "auth", "client_token")
        except (DeniedError, IntegrityError):
            self._token = self._secret_id = ""  # spent or revoked: the next attempt needs a fresh one
            raise DeniedError("VAULT_DENIED", f"expected the server to admit role {self._place.role}") from None
        return self._token

    def _unwrap(self) -> str:
        """Return the secret_id: the wrapping token is unused, was made for our role, and is unwrapped once."""
        try:
            wrapped = read_private(self._place.wrapped_secret_id).decode("ascii", errors="replace").strip()
        except NotFoundError:
            raise DeniedError("VAULT_DENIED", "expected a fresh wrapping token in its file") from None
        made_by = f"auth/approle/role/{self._place.role}/secret-id"
        try:
            found = _text(self._call("sys/wrapping/lookup", {"token": wrapped}, ""), "data", "creation_path")
            if found != made_by:
                raise IntegrityError("WRAP_FOREIGN", f"expected a wrapping token made by {made_by}, found another")
            secret_id = _text(self._call("sys/wrapping/unwrap", {}, wrapped), "data", "secret_id")
        except (DeniedError, IntegrityError) as error:
            code = error.code if error.code in {"WRAP_FOREIGN", "VAULT_UNTRUSTED"} else "WRAP_USED"
            raise IntegrityError(code, "expected an unused wrapping token of our role: was it intercepted?") from None
        self._place.wrapped_secret_id.unlink(missing_ok=True)
        return secret_id

    def _call(self, path: str, body: Body, token: str) -> Body:
        try:
            headers = {"X-Vault-Token": token} if token else {}
            answer = self._adapter.request("POST", f"/v1/{path}", headers=headers, json=dict(body))
            value = answer.json()
        except (VaultError, requests.RequestException, ValueError) as error:
            failed = error
        else:
            if isinstance(value, dict):
                return value
            failed = ValueError("no object")
        # Raised outside the handler: a chained foreign exception carries the request, and with it the token.
        raise _ours(failed, path)


def _ours(error: Exception, path: str) -> DeniedError | IntegrityError | UnavailableError:
    if isinstance(error, Forbidden):
        return DeniedError("VAULT_DENIED", f"{path}: the token is dead or policy forbids")
    if isinstance(error, InvalidRequest):
        return IntegrityError("VAULT_INTEGRITY", f"{path}: the server refuses what it was given")
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return IntegrityError("VAULT_UNTRUSTED", f"{path}: the server's certificate is not from our authority")
    return UnavailableError("VAULT_UNREACHABLE", f"{path}: {type(error).__name__}")


def _text(answer: Body, outer: str, key: str) -> str:
    inner = answer.get(outer)
    found = inner.get(key) if isinstance(inner, dict) else None
    if not isinstance(found, str) or not found:
        raise UnavailableError("VAULT_UNREACHABLE", f"expected text {outer}.{key} in the answer")
    return found

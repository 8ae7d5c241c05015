"""What Vault's and OpenBao's failures mean: every foreign exception becomes one of ours, with a code of the port.

Only our own words and the HTTP status reach a message: the server's text and URLs stay out.
"""

from __future__ import annotations

import re

from hvac import exceptions as vault
from requests.exceptions import RequestException, SSLError

from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, NotFoundError, UnavailableError

# hvac tells most cases apart by class alone; text decides only where the server gives one status to several.
_BY_CLASS: tuple[tuple[type[vault.VaultError], type[CustodyError], str, str], ...] = (
    (vault.VaultDown, UnavailableError, "VAULT_SEALED", "the server is sealed"),
    (vault.VaultNotInitialized, UnavailableError, "VAULT_NOT_INITIALISED", "the server was never initialised"),
    (vault.Forbidden, DeniedError, "VAULT_DENIED", "the token is dead or policy forbids"),
    (vault.RateLimitExceeded, UnavailableError, "VAULT_THROTTLED", "the rate limit of the server is reached"),
    (vault.BadGateway, UnavailableError, "VAULT_UNREACHABLE", "a gateway cannot reach the server"),
)


# Of a plugin that is not the file that was registered, does not start, or broke in the middle.
_PLUGIN_WORDS = ("checksums did not match", "Unrecognized remote plugin message", "ENGINE_BROKEN", "plugin exited")
_ENGINE_CODE = re.compile(r"\b([A-Z][A-Z0-9_]{2,63}): ")  # our engine's own errors start with theirs


def translate(error: vault.VaultError | RequestException, doing: str) -> CustodyError:
    """Return `error` as one of ours. doing: what was asked, in words without secrets."""
    text = str(error.args[0] if error.args else "")
    if isinstance(error, RequestException):
        return _of_transport(error, doing)
    for kind, ours, code, meaning in _BY_CLASS:
        if isinstance(error, kind):
            return ours(code, f"{doing}: {meaning}")
    if isinstance(error, vault.InvalidPath):
        if "no handler for route" in text:  # also a mount whose plugin is down: never "no key yet"
            return UnavailableError("VAULT_ENGINE_DOWN", f"{doing}: nothing serves this mount")
        return NotFoundError("VAULT_MISSING", f"{doing}: no such entry")
    if isinstance(error, vault.InvalidRequest):
        if "check-and-set" in text:
            return ConflictError("VAULT_CONFLICT", f"{doing}: the entry is there already, or has changed")
        return IntegrityError("VAULT_INTEGRITY", f"{doing}: the server refuses what it was given")
    if isinstance(error, vault.InternalServerError) and any(words in text for words in _PLUGIN_WORDS):
        return UnavailableError("VAULT_ENGINE_DOWN", f"{doing}: the server cannot run the engine")
    if isinstance(error, vault.UnexpectedError) and (said := _ENGINE_CODE.search(text)):
        return _of_engine(said.group(1), doing)
    if isinstance(error, vault.InternalServerError) and text.strip() == "internal error":
        return UnavailableError("VAULT_AUDIT_BLOCKED", f"{doing}: internal error; its audit log cannot be written?")
    if isinstance(error, vault.InternalServerError) and "client's certificate" in text:
        return DeniedError("VAULT_CERTIFICATE", f"{doing}: the server refuses our certificate: has it expired?")
    if isinstance(error, vault.InternalServerError):
        return UnavailableError("VAULT_UNREACHABLE", f"{doing}: the server has no leader or is failing")
    return UnavailableError("VAULT_UNEXPECTED", f"{doing}: {type(error).__name__}")


def _of_engine(code: str, doing: str) -> CustodyError:
    """Return what our engine said with status 409 or 422: its code, in our words."""
    if code in ("SEED_EXISTS", "GENESIS_PINNED"):
        return ConflictError(code, f"{doing}: the engine has one already, and keeps it")
    if code == "SEED_MISSING":
        return NotFoundError(code, f"{doing}: expected a seed in the engine; only a ceremony makes one")
    return IntegrityError(code, f"{doing}: the engine refuses")


def _of_transport(error: RequestException, doing: str) -> CustodyError:
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return IntegrityError("VAULT_UNTRUSTED", f"{doing}: the server's certificate is not from our authority")
    if re.search(r"alert.*(certificate|unknown ca)", str(error), re.IGNORECASE):
        return DeniedError("VAULT_CERTIFICATE", f"{doing}: the server refuses our certificate: has it expired?")
    return UnavailableError("VAULT_UNREACHABLE", f"{doing}: {type(error).__name__}")

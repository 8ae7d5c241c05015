"""Logs of an online node: one JSON object per line on stdout; nothing secret, no locals in tracebacks."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

MAX_VALUE_CHARS = 300  # a code, an id or an address; never a PSBT or a statement
REDACTED = "[redacted]"
_FORBIDDEN = ("seed", "secret", "token", "passphrase", "password", "psbt", "xprv", "mnemonic")
# Values that give themselves away, in an exception's text too: extended private keys, Vault tokens, PEM keys, PSBTs.
_SECRET_TEXT = re.compile(r"[a-zA-Z]prv[1-9A-HJ-NP-Za-km-z]{20,}|hv[sbr]\.[\w-]{8,}|-----BEGIN|cHNidP")


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Return the event with forbidden fields and long values cut: a structlog processor."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any) -> Any:  # Any: whatever a caller bound to its line
    if any(word in key.lower() for word in _FORBIDDEN):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(inner): _clean(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(key, item) for item in value]
    if isinstance(value, str) and _SECRET_TEXT.search(value):
        return REDACTED
    if isinstance(value, bytes | bytearray) or (isinstance(value, str) and len(value) > MAX_VALUE_CHARS):
        return f"[{len(value)} cut]"
    return value


def configure() -> None:
    """Set structlog up for this process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            redact,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )

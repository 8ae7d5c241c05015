"""Logs of an online node: one JSON object per line on stdout; nothing secret, no locals in tracebacks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

MAX_VALUE_CHARS = 300  # a code, an id or an address; never a PSBT or a statement
_FORBIDDEN = ("seed", "secret", "token", "passphrase", "password", "psbt", "xprv", "mnemonic")


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Return the event with forbidden fields and long values cut: a structlog processor."""
    for key, value in event.items():
        if any(word in key.lower() for word in _FORBIDDEN):
            event[key] = "[redacted]"
        elif isinstance(value, bytes) or (isinstance(value, str) and len(value) > MAX_VALUE_CHARS):
            event[key] = f"[{len(value)} cut]"
    return event


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

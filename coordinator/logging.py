"""The operational log: one JSON line per event on stdout, with everything secret or bulky taken out.

Logs may be lost; audit entries may not. Neither is ever used for the other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

REDACTED = "[redacted]"
MAX_TEXT_CHARS = 1_000  # a line must stay readable; what is longer is content, not an event
# Keys whose value is never an event's business: wherever one of these words stands in the key.
_SECRET_KEY = re.compile(r"psbt|statement|bundle|answer|seed|token|secret|passw|private|authorization|cookie|body|raw")
# Values that give themselves away: PSBT in base64 or hex, Vault tokens, PEM keys, extended private keys.
_SECRET_TEXT = re.compile(r"cHNidP|(?i:70736274ff)|hv[sbr]\.[\w-]{8,}|-----BEGIN|[xt]prv[1-9A-HJ-NP-Za-km-z]{20,}")


def redact(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Processor: return the event without secrets, bytes and long texts."""
    return {key: REDACTED if _SECRET_KEY.search(key.lower()) else _clean(value) for key, value in event.items()}


def _clean(value: Any) -> Any:  # Any: whatever a caller bound to its line
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, str):
        if _SECRET_TEXT.search(value):
            return REDACTED
        return value if len(value) <= MAX_TEXT_CHARS else value[:MAX_TEXT_CHARS] + "…"
    if isinstance(value, Mapping):
        return redact(None, "", {str(key): item for key, item in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return value if isinstance(value, int | float | None) else _clean(str(value))


def _processors() -> list[structlog.typing.Processor]:
    """Return what every line passes; tracebacks show files and lines, never the values of variables."""
    traceback = ExceptionDictTransformer(show_locals=False, max_frames=30)
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(traceback),
        redact,
        structlog.processors.JSONRenderer(sort_keys=True),
    ]


def make_logger(file: TextIO) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that writes to `file`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(file),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        processors=_processors(),
    )
    return logger


def configure() -> None:
    """Make every logger of this process write the same lines to stdout; called once, by the process main."""
    structlog.configure(
        processors=_processors(),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )


def stdout_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger of a process."""
    return make_logger(sys.stdout)

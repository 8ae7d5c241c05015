"""What the plugin says, in the form that the server takes into its own log: one JSON line on stderr each."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

MODULE = "keyturn-engine"


def say(level: str, message: str, **fields: str | int) -> None:
    """Write one line. level: debug, info, warn or error.  fields: names and numbers, never a secret."""
    line = {"@level": level, "@message": message, "@module": MODULE, "@timestamp": datetime.now(UTC).isoformat()}
    print(json.dumps({**line, **fields}), file=sys.stderr, flush=True)

"""Codes typed on this machine: which withdrawals somebody who stands here has confirmed. One durable file for each."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from custody.errors import Refused
from custody.local_code import local_code
from signer_node.judge import Pinned
from signer_node.records import replace_durably

_DIGEST = re.compile("[0-9a-f]{64}")


class Typed:
    """The confirmations in a directory of this node; whoever can write there is taken for its operator."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def digests(self) -> frozenset[bytes]:
        """The withdrawals that were confirmed, 32 bytes each; read anew each time."""
        names = (path.name for path in self._directory.iterdir())
        return frozenset(bytes.fromhex(name) for name in names if _DIGEST.fullmatch(name))

    def take(self, me: Pinned, digest: bytes, code: str) -> Refused | None:
        """Keep that `digest` (32 bytes) is confirmed if `code` is its code at this node; else return why not."""
        if not hmac.compare_digest(code.strip().encode(), local_code(me.genesis.hash, digest, me.node).encode()):
            return Refused("LOCAL_CODE", f"the code of this withdrawal at {me.node}", "another")
        replace_durably(self._directory / digest.hex(), b"")
        return None

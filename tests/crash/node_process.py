"""The real node with a fuse beside its configuration, and a list of every signature that its backend ever made.

`python -m tests.crash.node_process --config F` runs it online; with `BUNDLE ANSWER` behind, it answers one file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from custody.signatures import InputSignature
from signer_node import offline, online
from signer_node.backends.port import Backend, BackendState, Cleared
from signer_node.clock import SystemClock
from signer_node.config import NodeConfig, load_config
from signer_node.handovers import HANDOVERS_FILE, Handovers
from signer_node.seed import KeyMaterial
from tests.crash.fuse import Fuse


class Recording:
    """A backend in front of the real one: each signature is on the disk before anyone else sees it."""

    def __init__(self, inner: Backend, path: Path) -> None:
        self._inner, self._path = inner, path

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """See the port."""
        signatures = await self._inner.sign(cleared)
        with self._path.open("a") as file:
            for signature, digest in zip(signatures, cleared.digests, strict=True):
                file.write(json.dumps([digest.hex(), signature.pubkey.hex(), signature.signature.hex()]) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return signatures

    async def public(self) -> KeyMaterial:
        """See the port."""
        return await self._inner.public()

    async def health(self) -> BackendState:
        """See the port."""
        return await self._inner.health()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


def main(arguments: list[str]) -> int:
    """Run the node."""
    at = arguments.index("--config") + 1
    path, files = Path(arguments[at]), arguments[at + 1 :]
    config, fuse = load_config(path), Fuse(path.parent / "fuse")
    open_backend_of = offline.open_backend_of

    def open_recording(config: NodeConfig) -> Backend:
        return Recording(open_backend_of(config), path.parent / "signed.jsonl")

    if not files:
        online.open_backend_of = open_recording  # type: ignore[attr-defined]  # a seam that only this process opens
        return online.run(config, fuse)
    node = offline.open_node(config, SystemClock(), hook=fuse, backend=open_recording(config))
    handovers = Handovers(config.state / HANDOVERS_FILE, SystemClock())
    asyncio.run(offline.answer_file(node, Path(files[0]), Path(files[1]), handovers, fuse))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

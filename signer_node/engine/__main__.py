"""The plugin's program: what OpenBao or Vault starts, once for each mount."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from custody.curve import require_native
from custody.errors import CustodyError
from signer_node.clock import SystemClock
from signer_node.engine.engine import Engine
from signer_node.engine.handshake import end_with_parent, mark_unpacked, shake, utc_now
from signer_node.engine.plugin import serve
from signer_node.engine.storage import Storage
from signer_node.seed import Entropy, forbid_core_dumps


def main(environment: Mapping[str, str] = os.environ, entropy: Entropy = os.urandom) -> int:
    """Serve until the server goes away; return the exit code.

    Args:
        environment: where the server's half of the handshake stands.
        entropy: of new seeds; another one only in tests.
    """
    end_with_parent(os.getppid())
    try:
        if sys.flags.optimize:
            raise SystemExit("expected python without -O: libraries check with assert")
        require_native()
        handshake = shake(environment, utc_now())
        mark_unpacked(getattr(sys, "_MEIPASS", None))
    except CustodyError as error:
        print(error, file=sys.stderr)
        return 1
    forbid_core_dumps()  # behind the handshake: it closes /proc/self, where the ssl module reads our certificate from

    def make(storage: Storage) -> Engine:
        return Engine(storage, SystemClock(), entropy)

    asyncio.run(serve(handshake, make))
    return 0


if __name__ == "__main__":
    sys.exit(main())

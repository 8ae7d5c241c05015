"""`python3 -m coordinator --config F`: serve. With `--replay FILE`: put back what a restored database lacks, once.

`python3 -m coordinator --config F --prune-before UTC_SECONDS`: remove the bodies that only older events name, once,
while nothing serves. No entry, no hash and nothing that the money log names is removed.

`python3 -m coordinator --make-log-key FILE --passphrase FILE`: make the log's key, once, sealed in a file.

`python3 -m coordinator regtest --serve --directory D`: the embedded regtest chain for programs of others, on loopback:
Esplora REST, Electrum protocol, part of Bitcoin Core's RPC. Prints where, as one line of JSON.

Exit codes: 0 stopped as asked, 1 breakage, 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from coordinator.config import load_config
from coordinator.log_key import make_sealed
from custody.errors import CustodyError

_PORTS = ("esplora", "electrum", "core")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="coordinator", description="Collects, routes, combines, broadcasts, records.")
    parser.add_argument("--config", type=Path, help="serve with this TOML file")
    parser.add_argument(
        "--make-log-key", type=Path, metavar="FILE", help="make the log's key, sealed, and print its public half"
    )
    parser.add_argument("--passphrase", type=Path, metavar="FILE", help="with --make-log-key: what to seal it under")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="put back log entries that a restored database lacks, then stop"
    )
    parser.add_argument(
        "--prune-before", type=int, metavar="UTC_SECONDS", help="remove bodies that only older events name, then stop"
    )
    parser.add_argument("command", nargs="?", choices=["regtest"], help="regtest: the embedded chain by itself")
    parser.add_argument("--serve", action="store_true", help="with regtest: for programs of others")
    parser.add_argument("--directory", type=Path, metavar="D", help="with regtest: where the chain is")
    for name in _PORTS:
        parser.add_argument(f"--{name}", type=int, default=0, metavar="PORT", help="with regtest; 0: any that is free")
    args = parser.parse_args(arguments)
    if sys.flags.optimize:
        return _fail("OPTIMIZED", "expected python without -O: libraries check with assert")
    try:
        if args.make_log_key is not None:
            if args.passphrase is None:
                parser.error("expected --passphrase with --make-log-key")
            print(json.dumps({"log_key": make_sealed(args.make_log_key, args.passphrase).hex()}))
            return 0
        if args.command == "regtest":
            if not args.serve or args.directory is None:
                parser.error("expected regtest --serve --directory D")
            from coordinator.chain.serving.run import run as serve

            return asyncio.run(serve(args.directory, (args.esplora, args.electrum, args.core)))
        if args.config is None:
            parser.error("expected --config or --make-log-key")
        from coordinator.app import forget_before, put_back, run

        if args.replay is not None:
            replayed = asyncio.run(put_back(load_config(args.config), args.replay))
            print(json.dumps(asdict(replayed)))
            return 0
        if args.prune_before is not None:
            print(json.dumps({"pruned": asyncio.run(forget_before(load_config(args.config), args.prune_before))}))
            return 0
        return asyncio.run(run(load_config(args.config)))
    except CustodyError as error:
        return _fail(error.code, error.message)


def _fail(code: str, message: str) -> int:
    print(json.dumps({"error": code, "message": message}), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""`python3 -m signer_node ...`: what an operator does on a node. Parts that need a network load only when asked for.

Exit codes: 0 done, 1 breakage, 2 usage, 3 refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from custody.canonical import encode
from custody.curve import require_native
from custody.errors import CustodyError, MalformedError
from custody.fields import parse_hex
from custody.genesis import Genesis
from custody.words import word_rows, words
from signer_node import ceremony, ceremony_commands, later_wallet, offline, offline_commands
from signer_node.clock import SystemClock
from signer_node.config import NodeConfig, load_config
from signer_node.followed import Followed
from signer_node.medium import write_carried
from signer_node.seed import forbid_core_dumps
from signer_node.typed import Typed

DONE, BROKEN, USAGE, REFUSED = 0, 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Run one command; print one JSON line; return the exit code."""
    if sys.flags.optimize:
        return _fail("OPTIMIZED", "expected python without -O: libraries check with assert")
    forbid_core_dumps()
    args = _parser().parse_args(arguments)
    try:
        require_native()
        return int(args.run(args))
    except CustodyError as error:
        return _fail(error.code, error.message)
    except KeyboardInterrupt:
        return _fail("INTERRUPTED", "expected the command to run to its end")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="signer_node", description="A signer node: judges, then signs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.add_argument("--config", type=Path, required=True, help="this node's TOML file")
        found.set_defaults(run=run)
        return found

    record = command("record", _record, "make this node's keys where they live and write its signed key record")
    record.add_argument("--out", type=Path, required=True)
    ceremony_commands.add(command, _print)
    later_wallet.add(command, _print)
    endorse = command("endorse", _endorse, "show a genesis and sign it with this node's identity key")
    endorse.add_argument("genesis", type=Path)
    endorse.add_argument("--out", type=Path, required=True)
    pin = command("pin", _pin, "pin a genesis on this node for ever")
    pin.add_argument("hash", help="as compared between machines: 64 hex digits, or the twelve words in quotes")
    pin.add_argument("genesis", type=Path)
    offline_commands.add(command, _print)
    confirm = command("confirm", _confirm, "type the code of a withdrawal that rules want confirmed at this machine")
    confirm.add_argument("withdrawal", help="its digest: 64 hex digits")
    confirm.add_argument("code", help="the six digits that `keyturn policy code` shows for this node")
    exported = command("export-log", _export_log, "write all that this node followed, for a coordinator that lost it")
    exported.add_argument("--out", type=Path, required=True)
    command("state", _state, "print what this node has followed")
    credential = command("credential", _credential, "take a wrapping token from stdin to where this node looks for it")
    credential.add_argument("--keysmith", action="store_true", help="for `record`, not for the running node")
    command("online", _online, "dial the coordinator and answer what it hands out")
    command("witness", _witness, "cosign checkpoints that are consistent with all this witness saw")
    witness_key = commands.add_parser(
        "witness-key", help="make a witness key and its marks, once; print its public half"
    )
    witness_key.add_argument("path", type=Path)
    witness_key.set_defaults(run=_witness_key)
    return parser


def _record(args: argparse.Namespace) -> int:
    config = load_config(args.config)
    signed = asyncio.run(ceremony.make_record(config, SystemClock().now()))
    write_carried(args.out, signed.to_bytes())
    return _print({"node": config.name, "record": signed.digest.hex(), "words": " ".join(words(signed.digest))})


def _endorse(args: argparse.Namespace) -> int:
    config, genesis = load_config(args.config), ceremony.read_genesis_file(args.genesis)
    _show(genesis)
    endorsement = asyncio.run(ceremony.sign_genesis(config, genesis))
    write_carried(args.out, encode(endorsement.to_json()))
    return _print(_genesis_json(config, genesis))


def _pin(args: argparse.Namespace) -> int:
    config, genesis = load_config(args.config), ceremony.read_genesis_file(args.genesis)
    _show(genesis)
    asyncio.run(ceremony.pin(config, genesis, _typed_hash(args.hash, genesis)))
    return _print(_genesis_json(config, genesis))


def _typed_hash(typed: str, genesis: Genesis) -> bytes:
    """Return the hash that the operator means: hex, or the twelve words where they are those of `genesis`."""
    if " " not in typed.strip():
        return parse_hex(typed.strip(), "hash", 32)
    if tuple(typed.split()) != words(genesis.hash):
        raise MalformedError("GENESIS_WORDS", f"expected the words of this file: {' '.join(words(genesis.hash))}")
    return genesis.hash


def _confirm(args: argparse.Namespace) -> int:
    config = load_config(args.config)
    digest = parse_hex(args.withdrawal.strip(), "withdrawal", 32)
    refused = Typed(config.state / "confirmed").take(ceremony.pinned(config), digest, args.code)
    if refused is not None:
        _fail(refused.code, f"expected {refused.expected}, found {refused.found}")
        return REFUSED
    return _print({"node": config.name, "confirmed": digest.hex()})


def _export_log(args: argparse.Namespace) -> int:
    config = load_config(args.config)
    genesis = ceremony.pinned(config).genesis
    followed = Followed(config.state / ceremony.FOLLOWED_FILE, genesis)
    write_carried(args.out, followed.deltas())
    return _print({"node": config.name, "size": followed.state.size})


def _state(args: argparse.Namespace) -> int:
    config = load_config(args.config)
    state = offline.open_node(config, SystemClock()).state
    return _print({"node": config.name, "size": state.size, "releases": len(state.releases)})


def _credential(args: argparse.Namespace) -> int:
    from signer_node import credential

    config, wrapped = load_config(args.config), sys.stdin.readline().strip()
    within_s = 0 if args.keysmith else credential.TAKEN_WITHIN_S
    taken = credential.bring(config, wrapped, args.keysmith, within_s)
    return _print({"node": config.name, "taken": taken})


def _online(args: argparse.Namespace) -> int:
    from signer_node import online

    return online.run(load_config(args.config))


def _witness(args: argparse.Namespace) -> int:
    from signer_node import witness_server

    return asyncio.run(witness_server.run(args.config)) or DONE


def _witness_key(args: argparse.Namespace) -> int:
    from signer_node import witness_store

    return _print({"witness_key": witness_store.make_key(args.path).hex()})


def _show(genesis: Genesis) -> None:
    lines = [f"Genesis {genesis.hash.hex()} on {genesis.network.value} ({genesis.purpose.value})"]
    lines += [f"  wallet {name}: first address {address}" for name, address in ceremony.first_addresses(genesis)]
    lines += ["Compare these words between all machines before you pin:"]
    lines += [f"  {row}" for row in word_rows(genesis.hash).splitlines()]
    print("\n".join(lines), file=sys.stderr)


def _genesis_json(config: NodeConfig, genesis: Genesis) -> dict[str, object]:
    addresses = dict(ceremony.first_addresses(genesis))
    return {
        "node": config.name,
        "genesis": genesis.hash.hex(),
        "words": " ".join(words(genesis.hash)),
        "first_addresses": addresses,
    }


def _print(value: Mapping[str, object]) -> int:
    print(json.dumps(value, sort_keys=True))
    return DONE


def _fail(code: str, message: str) -> int:
    print(json.dumps({"error": code, "message": message}), file=sys.stderr)
    return BROKEN


if __name__ == "__main__":
    sys.exit(main())

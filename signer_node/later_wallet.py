"""A node's part in a later wallet: sign its document, pin it; both by a command given on the node itself."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from custody.address import address_of
from custody.canonical import encode
from custody.errors import IntegrityError, MalformedError
from custody.fields import parse_hex
from custody.genesis import Genesis, GenesisWallet, check_ceremony, node_identities
from custody.later_wallet import read_later_wallet
from custody.statements import Endorsement, Kind, Signed, endorse
from custody.words import word_rows, words
from signer_node.backends import pin_document
from signer_node.ceremony import WALLETS_DIRECTORY, access_of, check_mine, identity_seed, pinned, read_wallet_file
from signer_node.config import NodeConfig, load_config
from signer_node.medium import write_carried
from signer_node.records import write_once


async def sign_wallet(config: NodeConfig, signed: Signed) -> Endorsement:
    """Return this node's signature of a later wallet, after it found its own key in its own slot.

    Raises:
        IntegrityError: NOT_PINNED, GENESIS_NOT_MINE.
        MalformedError: KEYS_ONE_PLACE, or what does not hold in the document, by code.
    """
    genesis = pinned(config).genesis
    alone = _alone(genesis, read_later_wallet(signed, genesis))
    check_ceremony(alone)
    await check_mine(config, alone)
    return endorse(Kind.WALLET, signed.raw, identity_seed(config))


async def pin_wallet(config: NodeConfig, signed: Signed, typed_hash: bytes) -> GenesisWallet:
    """Let this node sign for a later wallet, once log and rules have it too; return the wallet.

    Args:
        config: of this node.
        signed: the document from the file that the operator brought.
        typed_hash: 32 bytes, as the operator gave it on this machine after comparing words.

    Raises:
        IntegrityError: NOT_PINNED, WALLET_HASH (other than typed), GENESIS_NOT_MINE, FILE_EXISTS (pinned already).
        MalformedError: WALLET_UNSIGNED: not every node of the wallet signed it.
    """
    # Plan: 1 it is what people compared · 2 every node signed it (that the admins did, the log proves each time) ·
    #       3 my own key is in it · 4 a backend that judges for itself pins it too · 5 write once.
    genesis = pinned(config).genesis
    wallet = read_later_wallet(signed, genesis)
    if wallet.document != typed_hash:
        raise IntegrityError("WALLET_HASH", f"expected {typed_hash.hex()}, found {wallet.document.hex()}")
    alone = _alone(genesis, wallet)
    unsigned = sorted(name for name, key in node_identities(alone).items() if not signed.signed_by(key))
    if unsigned:
        raise MalformedError("WALLET_UNSIGNED", f"expected the signatures of {', '.join(unsigned)}")
    await check_mine(config, alone)
    await pin_document(config.backend, access_of(config, config.keysmith), signed)
    directory = config.state / WALLETS_DIRECTORY
    directory.mkdir(exist_ok=True, mode=0o700)
    write_once(directory / f"{typed_hash.hex()}.json", signed.to_bytes())
    return wallet


def _alone(genesis: Genesis, wallet: GenesisWallet) -> Genesis:
    return replace(genesis, wallets=(wallet,))


def add(
    command: Callable[[str, object, str], argparse.ArgumentParser], say: Callable[[Mapping[str, object]], int]
) -> None:
    """Add `endorse-wallet` and `pin-wallet` to the commands of a node. say: prints one line, returns the exit code."""
    endorse_it = command(
        "endorse-wallet",
        lambda args: _endorse(args, say),
        "show a later wallet and sign it with this node's identity key",
    )
    endorse_it.add_argument("wallet", type=Path)
    endorse_it.add_argument("--out", type=Path, required=True)
    pin = command("pin-wallet", lambda args: _pin(args, say), "let this node sign for a later wallet")
    pin.add_argument("hash", help="as compared between machines: 64 hex digits, or the twelve words in quotes")
    pin.add_argument("wallet", type=Path)


def _endorse(args: argparse.Namespace, say: Callable[[Mapping[str, object]], int]) -> int:
    config, signed = load_config(args.config), read_wallet_file(args.wallet)
    found = _show(config, signed)
    write_carried(args.out, encode(asyncio.run(sign_wallet(config, signed)).to_json()))
    return say(found)


def _pin(args: argparse.Namespace, say: Callable[[Mapping[str, object]], int]) -> int:
    config, signed = load_config(args.config), read_wallet_file(args.wallet)
    found = _show(config, signed)
    asyncio.run(pin_wallet(config, signed, _typed(args.hash, signed)))
    return say(found)


def _typed(typed: str, signed: Signed) -> bytes:
    """Return the hash that the operator means: hex, or the twelve words where they are those of `signed`."""
    if " " not in typed.strip():
        return parse_hex(typed.strip(), "hash", 32)
    if tuple(typed.split()) != words(signed.digest):
        raise MalformedError("WALLET_WORDS", f"expected the words of this file: {' '.join(words(signed.digest))}")
    return signed.digest


def _show(config: NodeConfig, signed: Signed) -> dict[str, object]:
    """Show the wallet as this node derives it itself; return the same for programs."""
    genesis = pinned(config).genesis
    wallet = read_later_wallet(signed, genesis)
    first = address_of(wallet.wallet.script(0, 0).script, genesis.network)
    holders = ", ".join(slot.node or f"{slot.admin} (declared)" for slot in wallet.slots)
    lines = [f"Wallet {wallet.name} under genesis {genesis.hash.hex()}: {wallet.wallet.threshold} of {holders}"]
    lines += [f"  first address {first}", "Compare these words between all machines before you pin:"]
    lines += [f"  {row}" for row in word_rows(signed.digest).splitlines()]
    print("\n".join(lines), file=sys.stderr)
    return {
        "node": config.name,
        "wallet": wallet.name,
        "document": signed.digest.hex(),
        "words": " ".join(words(signed.digest)),
        "first_address": first,
    }

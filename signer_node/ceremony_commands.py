"""The commands of ceremony, recovery and drill, for `python3 -m signer_node`. Secrets are typed, never given here."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from custody.alive import NONCE_BYTES, life_address, read_life
from custody.backups import Form
from custody.fields import check_name
from custody.words import words
from signer_node import guided, recovery
from signer_node.clock import SystemClock
from signer_node.config import load_config
from signer_node.medium import write_carried
from signer_node.offline import open_node
from signer_node.recovery import Place
from signer_node.terminal import RealTerminal

Result = Mapping[str, object]
Command = Callable[[str, object, str], argparse.ArgumentParser]


def add(command: Command, printed: Callable[[Result], int]) -> None:
    """Add the commands. printed: prints a result and returns the exit code."""

    def run(work: Callable[[argparse.Namespace], Result]) -> Callable[[argparse.Namespace], int]:
        return lambda args: printed(work(args))

    held = command("ceremony", run(_ceremony), "make this node's key from words, guided; goes on where it stood")
    held.add_argument("--out", type=Path, required=True, help="file for the signed key record")
    restored = command("restore", run(_restore), "put a lost node's key onto this machine from a backup")
    restored.add_argument("--record", type=Path, required=True, help="the lost node's key record")
    drilled = command("drill", run(_drill), "prove that a backup gives this node's key; write a signed record of it")
    drilled.add_argument("--holder", required=True, help="whose backup it is")
    drilled.add_argument("--out", type=Path, required=True)
    proven = command("prove", run(_prove), "write a proof of life: this node's key signs a fixed sentence")
    proven.add_argument("--out", type=Path, required=True)
    for parser in (restored, drilled):
        parser.add_argument("--from", dest="form", choices=[form.value for form in Form], required=True)
        parser.add_argument("--file", type=Path, help="the backup, where it is a file")


def _ceremony(args: argparse.Namespace) -> Result:
    config = load_config(args.config)
    signed = asyncio.run(guided.hold(config, RealTerminal(), SystemClock().now))
    write_carried(args.out, signed.to_bytes())
    return {"node": config.name, "record": signed.digest.hex(), "words": " ".join(words(signed.digest))}


def _restore(args: argparse.Namespace) -> Result:
    config = load_config(args.config)
    backup = Place(Form(args.form), args.file)
    found = asyncio.run(recovery.restore(config, RealTerminal(), backup, args.record))
    return {"node": config.name, "fingerprint": found.fingerprint.hex(), "key": found.key}


def _prove(args: argparse.Namespace) -> Result:
    config = load_config(args.config)
    node = open_node(config, SystemClock())
    signed = asyncio.run(node.prove_alive(os.urandom(NONCE_BYTES)))
    write_carried(args.out, signed.to_bytes())
    life = read_life(signed)
    genesis = node.pinned.genesis
    return {"node": config.name, "sentence": life.sentence, "address": life_address(genesis, life), "proof": life.proof}


def _drill(args: argparse.Namespace) -> Result:
    config, holder = load_config(args.config), check_name(args.holder, "--holder")
    backup = Place(Form(args.form), args.file)
    signed = recovery.drill(config, RealTerminal(), backup, holder, SystemClock().now())
    write_carried(args.out, signed.to_bytes())
    return {"node": config.name, "drill": signed.digest.hex(), "form": args.form, "holder": holder}

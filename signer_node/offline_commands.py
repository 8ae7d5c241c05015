"""The commands of an air gap, for `python3 -m signer_node`: bundles and deltas in, answers out, a list of both."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from custody.bundle import summary_of
from custody.errors import MalformedError, Refused
from custody.frames import FrameKind, digest_of
from signer_node import offline
from signer_node.clock import SystemClock
from signer_node.config import NodeConfig, load_config
from signer_node.handovers import HANDOVERS_FILE, Handovers, Way
from signer_node.medium import SIZES, Carriers, capture, read_carried, read_document
from signer_node.node import Node
from signer_node.review import Page
from signer_node.typed import Typed

if TYPE_CHECKING:
    from signer_node.screen import Screen

DONE, REFUSED = 0, 3
Result = Mapping[str, object]
Command = Callable[[str, object, str], argparse.ArgumentParser]
Printed = Callable[[Result], int]


def add(command: Command, printed: Printed) -> None:
    """Add the commands. printed: prints a result and returns the exit code."""
    sign = command("offline", lambda args: _offline(args, printed), "answer one bundle: read, judged, reviewed, signed")
    sign.add_argument("bundle", type=Path, nargs="?", help="a file, a picture of QR frames, or a folder of pictures")
    sign.add_argument("--capture", metavar="COMMAND", help="read frames from a camera: it writes JPEGs to its output")
    sign.add_argument("--out", type=Path, help="file for the answer")
    sign.add_argument("--pictures", type=Path, help="folder for the answer as QR pictures")
    sign.add_argument("--gif", type=Path, help="file for the answer as one animated picture")
    sign.add_argument("--qr", action="store_true", help="show the answer as QR frames on this terminal")
    sign.add_argument("--frames", choices=[kind.value for kind in FrameKind], default=FrameKind.BBQR.value)
    sign.add_argument("--size", choices=list(SIZES), default="medium", help="how much each picture holds")
    sign.add_argument("--plain", action="store_true", help="ask on a plain page instead of a full screen")
    sign.add_argument("--yes", action="store_true", help="sign what the rules allow without asking the operator")
    delta = command("delta", lambda args: _delta(args, printed), "follow the log entries in delta files, in order")
    delta.add_argument("delta", type=Path, nargs="+")
    command("handovers", _handovers, "print what crossed the air gap here, one line of JSON each")


def _offline(args: argparse.Namespace, printed: Printed) -> int:
    from signer_node.screen import Screen  # needs `rich`, and only here

    config, clock, carriers = load_config(args.config), SystemClock(), _carriers(args)
    if args.qr and not Screen.is_there():
        raise MalformedError("CARRIER", "expected a terminal for --qr")
    raw = _read(args)
    screen = Screen() if Screen.is_there() and not (args.plain or args.yes) else None
    ask = None if args.yes else _ask if screen is None else screen.confirm
    node = offline.open_node(config, clock, ask)
    handovers = Handovers(config.state / HANDOVERS_FILE, clock)
    code = offline.no_code if screen is None else partial(_type_code, config, node, screen)
    answer = asyncio.run(offline.answer_document(node, raw, carriers, handovers, code=code))
    if args.qr:
        Screen().show_frames(answer.to_bytes(), carriers.kind)
    digests = {"bundle_sha256": digest_of(raw).hex(), "answer_sha256": digest_of(answer.to_bytes()).hex()}
    printed({**summary_of(answer), **digests})
    return REFUSED if isinstance(answer.outcome, Refused) else DONE


def _carriers(args: argparse.Namespace) -> Carriers:
    found = Carriers(args.out, args.pictures, args.gif, args.qr, FrameKind(args.frames), SIZES[args.size])
    if found.is_none:
        raise MalformedError("CARRIER", "expected --out FILE, --pictures FOLDER, --gif FILE or --qr")
    return found


def _read(args: argparse.Namespace) -> bytes:
    if (args.bundle is None) is (args.capture is None):
        raise MalformedError("CARRIER", "expected a file or folder of pictures, or --capture COMMAND")
    return read_document(args.bundle) if args.capture is None else capture(args.capture)


def _type_code(config: NodeConfig, node: Node, screen: Screen, digest: bytes) -> bool:
    """Ask for the code that the rules want typed at this machine; return whether it was the right one."""
    code = screen.ask_code("The rules want a code typed at this machine", "It is what `keyturn policy code` shows.")
    return Typed(config.state / "confirmed").take(node.pinned, digest, code) is None


def _ask(page: Page) -> bool:
    print(page.text, file=sys.stderr)
    print("\nType SIGN to sign this, anything else to refuse: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == "SIGN"


def _delta(args: argparse.Namespace, printed: Printed) -> int:
    config, clock = load_config(args.config), SystemClock()
    node, handovers = offline.open_node(config, clock), Handovers(config.state / HANDOVERS_FILE, clock)
    size = node.state.size
    for path in args.delta:
        raw = read_carried(path)
        handovers.note(Way.TAKEN, "delta", raw)
        size = asyncio.run(node.take_delta(raw))
    return printed({"size": size})


def _handovers(args: argparse.Namespace) -> int:
    config = load_config(args.config)
    for record in Handovers(config.state / HANDOVERS_FILE, SystemClock()).records():
        print(record.decode())
    return DONE

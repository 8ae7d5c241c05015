"""The file courier of an air-gapped node: bundles and deltas in, answers out. Needs no grpc, hvac or web package."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from custody.bundle import MAX_BUNDLE_BYTES, Answer, Bundle
from custody.errors import MalformedError
from signer_node.backends import open_backend
from signer_node.backends.port import Backend
from signer_node.ceremony import FOLLOWED_FILE, access_of, identity_seed, pinned
from signer_node.clock import Clock
from signer_node.config import NodeConfig
from signer_node.effects import Effect, Hook, around, no_hook
from signer_node.followed import Followed
from signer_node.inbox import Inbox
from signer_node.journal import Journal
from signer_node.judge_message import ClearedMessage
from signer_node.node import Node, Permission, cleared_is_enough
from signer_node.review import review, review_message
from signer_node.typed import Typed

Ask = Callable[[str], bool]


def open_backend_of(config: NodeConfig) -> Backend:
    """Return the key backend of `config`; nothing is read or dialled yet."""
    return open_backend(config.backend, access_of(config, config.vault))


def open_node(
    config: NodeConfig,
    clock: Clock,
    ask: Ask | None = None,
    hook: Hook = no_hook,
    backend: Backend | None = None,
    inbox: Inbox | None = None,
) -> Node:
    """Return the node of `config`, its files opened and its log replayed.

    Args:
        config: from `load_config`.
        clock: this machine's time.
        ask: shown the review page before each signature, says whether the operator confirms; None asks nobody.
        hook: called around each effect.
        backend: where it is open already.
        inbox: where it is open already.
    """
    me = pinned(config)
    followed = Followed(config.state / FOLLOWED_FILE, me.genesis)

    def confirm(bundle: Bundle, cleared: Permission) -> bool:
        if ask is None:
            return False
        if isinstance(cleared, ClearedMessage):
            return ask(review_message(bundle, followed.state, cleared.message))
        return ask(review(bundle, followed.state, cleared.release))

    return Node(
        pinned=me,
        identity_seed=identity_seed(config),
        followed=followed,
        journal=Journal(config.state / "journal.log", me.genesis.hash),
        backend=backend or open_backend_of(config),
        clock=clock,
        confirm=cleared_is_enough if ask is None else confirm,
        hook=hook,
        inbox=inbox or Inbox(config.state),
        typed=Typed(config.state / "confirmed"),
    )


async def answer_file(node: Node, bundle_path: Path, answer_path: Path, hook: Hook = no_hook) -> Answer:
    """Answer the bundle in `bundle_path` into `answer_path` and return the answer; `hook` is called around the writing.

    Raises:
        CustodyError: nothing was written.
    """
    answer = await node.answer(read_carried(bundle_path))
    with around(hook, Effect.ANSWER):
        write_carried(answer_path, answer.to_bytes())
    return answer


def read_carried(path: Path) -> bytes:
    """Return a file from a foreign medium: opened once, no link followed, size first (ATK-118).

    Raises:
        MalformedError: FILE_REFUSED.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hang us
    except OSError as error:
        raise MalformedError("FILE_REFUSED", f"{path.name}: {error.strerror}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BUNDLE_BYTES:
        os.close(handle)
        raise MalformedError("FILE_REFUSED", f"{path.name}: expected a file of at most {MAX_BUNDLE_BYTES} bytes")
    with os.fdopen(handle, "rb") as file:
        return file.read(MAX_BUNDLE_BYTES + 1)


def write_carried(path: Path, content: bytes) -> None:
    """Write `content` to a foreign medium, whole and flushed, under its own name only when it is complete.

    Raises:
        MalformedError: FILE_REFUSED: the medium cannot be written, or holds a link where the file would stand.
    """
    partial = path.with_name(path.name + ".partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(partial, flags, 0o644)  # public: what leaves here is signatures
    except OSError as error:
        raise MalformedError("FILE_REFUSED", f"{partial.name}: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)

"""The couriers of an air-gapped node: bundles and deltas in, answers out. Needs no grpc, hvac or web package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from custody.bundle import Answer, Bundle
from custody.errors import Refused
from custody.held import with_held
from custody.wallet import ScriptBook
from signer_node.backends import open_backend
from signer_node.backends.port import Backend
from signer_node.ceremony import FOLLOWED_FILE, access_of, identity_seed, pinned
from signer_node.clock import Clock
from signer_node.config import NodeConfig
from signer_node.effects import Effect, Hook, around, no_hook
from signer_node.followed import Followed
from signer_node.handovers import Handovers, Way
from signer_node.inbox import Inbox
from signer_node.journal import Journal
from signer_node.judge import Moment, prove
from signer_node.judge_message import ClearedMessage
from signer_node.medium import Carriers, give, read_document
from signer_node.node import Node, Permission, cleared_is_enough
from signer_node.review import Page, review, review_message
from signer_node.typed import Typed

Ask = Callable[[Page], bool]


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
    journal = Journal(config.state / "journal.log", me.genesis.hash)
    held_here = inbox or Inbox(config.state)

    def confirm(bundle: Bundle, cleared: Permission) -> bool:
        """Ask the operator, over the same facts that were judged a moment ago."""
        now = clock.now()
        if ask is None:
            return False
        if isinstance(cleared, ClearedMessage):
            return ask(review_message(bundle, followed.state, cleared.message, now))
        wallet = followed.state.genesis.wallet(cleared.release.wallet_id)
        if wallet is None:
            return False
        state, moment = with_held(followed.state, held_here.held), Moment(now, journal.high_water)
        case = prove(bundle, me, state, moment, journal.signed, ScriptBook(wallet.wallet))
        return not isinstance(case, Refused) and ask(review(case, now))

    return Node(
        pinned=me,
        identity_seed=identity_seed(config),
        followed=followed,
        journal=journal,
        backend=backend or open_backend_of(config),
        clock=clock,
        confirm=cleared_is_enough if ask is None else confirm,
        hook=hook,
        inbox=held_here,
        typed=Typed(config.state / "confirmed"),
    )


def no_code(digest: bytes) -> bool:
    """Return False: nobody is here to type a code."""
    return False


async def answer_document(
    node: Node,
    raw: bytes,
    carriers: Carriers,
    handovers: Handovers,
    hook: Hook = no_hook,
    code: Callable[[bytes], bool] = no_code,
) -> Answer:
    """Answer the bundle `raw` onto `carriers` and return the answer.

    Args:
        node: from `open_node`.
        raw: the bundle's bytes.
        carriers: what the answer leaves on.
        handovers: where both are recorded.
        hook: called around the writing.
        code: where rules want a code typed here, asked with the withdrawal's digest; says whether it was.

    Raises:
        CustodyError: nothing was given.
    """
    handovers.note(Way.TAKEN, "bundle", raw)
    answer = await node.answer(raw)
    lacks_code = isinstance(answer.outcome, Refused) and answer.outcome.code == "LOCAL_CONF_MISSING"
    if lacks_code and code(answer.withdrawal_digest):
        answer = await node.answer(raw)
    content = answer.to_bytes()
    handovers.note(Way.GIVEN, "answer", content)
    with around(hook, Effect.ANSWER):
        give(content, carriers)
    return answer


async def answer_file(
    node: Node, bundle_path: Path, answer_path: Path, handovers: Handovers, hook: Hook = no_hook
) -> Answer:
    """Answer the bundle in `bundle_path` into `answer_path`, as `answer_document`."""
    return await answer_document(node, read_document(bundle_path), Carriers(file=answer_path), handovers, hook)

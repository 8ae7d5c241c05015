"""Messages at a signer: a proof that every verifier takes, from a quorum that rules and people allowed; else a no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.address import address_of
from custody.approval import Approval, Decision
from custody.bundle import Bundle, LogPart, check_receipt
from custody.entries import Document, EntryKind
from custody.errors import Refused
from custody.follow import start
from custody.genesis import Genesis
from custody.message import FundCoin, Message
from custody.message_spend import MessageSpend, spend_of
from custody.policy.terms import MessageFormat
from custody.scripts import Template
from custody.signatures import InputSignature
from custody.statements import Kind, Signed, sign
from custody.transaction import OutPoint
from custody.units import Sats
from custody.wallet import Network
from signer_node.judge import Moment, Pinned
from signer_node.judge_message import ClearedMessage, judge_message
from signer_node.node import Node
from signer_node.review import review_message
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, PAY, key_of, rule, seed_of
from tests.governing import after, document_of, log_rules, signed_rules
from tests.integration.harness import genesis_of, open_node
from tests.later import later_wallet, log_document, naming, wallet_in
from tests.official import proof_holds
from tests.world import World, book_of, make_genesis

SPEAK = rule("speak", "allow", {"message": {"max_len": 200}}, operations=["message"])
ASK = rule("ask", "require", {}, {"approvals": {"group": "ops", "threshold": 1}}, operations=["message"])
COLD = rule("cold", "require", {}, {"signers": {"min_offline": 1}}, operations=["message"])
SLOW = rule("slow", "require", {}, {"delay": {"seconds": 3_600}}, operations=["message"])
GENESIS = genesis_of(PAY, SPEAK, ASK)
TEXT = "We hold these coins.\n¥ — 证明"


def message(genesis: Genesis = GENESIS, **changes: Any) -> Message:
    """Return a message by alice for the treasury's third address."""
    wallet_id = genesis.wallets[0].wallet.wallet_id
    return replace(Message(genesis.hash, "m-1", wallet_id, 2, TEXT, "alice", NOW - 100, NOW + DAY), **changes)


def funds(genesis: Genesis = GENESIS, **changes: Any) -> Message:
    """Return a proof of two coins."""
    coins = (
        FundCoin(OutPoint(b"\x07" * 32, 1), Sats(5_000), 0, 4),
        FundCoin(OutPoint(b"\x08" * 32, 0), Sats(7_000), 1, 9),
    )
    return message(genesis, format=MessageFormat.FUNDS, coins=coins, **changes)


def approved(said: Message, person: str, at: int = NOW - 50) -> Signed:
    """Return the approval of `said` by `person`."""
    return sign(
        Kind.APPROVAL,
        Approval(said.genesis, said.digest, Decision.APPROVE, person, at, at + DAY).to_json(),
        seed_of(person),
    )


def spend(said: Message, genesis: Genesis = GENESIS) -> MessageSpend:
    """Return what is signed for `said`."""
    found = spend_of(said, book_of(genesis.wallets[0].wallet))
    assert isinstance(found, MessageSpend)
    return found


def bundle_of(
    world: World, said: Message, people: tuple[str, ...] = ("bob",), node: str = "alpha", **changes: Any
) -> Bundle:
    """Log `said` and return the bundle for `node`; `changes` make it lie."""
    signed = sign(Kind.MESSAGE, said.to_json(), seed_of(said.initiator))
    index = world.append(EntryKind.MESSAGE, Document(signed.digest), signed)
    log = LogPart(0, tuple(world.entries), tuple(world.statements.values()), world.cosigned())
    approvals = tuple(approved(said, person) for person in people)
    found = Bundle(world.genesis.hash, node, signed, approvals, b"", index, (), world.covering, log, ())
    return replace(found, **changes)


async def outcome(home: Path, bundle: Bundle, genesis: Genesis = GENESIS, now: int = NOW) -> object:
    """Return what a real node answers."""
    node = open_node(genesis, bundle.node, home, FakeClock(now))
    answer = await node.answer(bundle.to_bytes())
    check_receipt(answer, bundle.release_index, key_of(bundle.node))
    return answer.outcome


def code(found: object) -> str:
    """Return the code of a refusal, or OK."""
    return found.code if isinstance(found, Refused) else "OK"


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize("format_", MessageFormat)
async def test_message_from_a_quorum_is_a_proof_that_the_kernel_takes(
    tmp_path: Path, template: Template, format_: MessageFormat
) -> None:
    """Two nodes sign, each after its own judgement; simple proofs of P2SH, which cannot be, are refused by code."""
    genesis = genesis_of(PAY, SPEAK, ASK, template=template)
    said = funds(genesis) if format_ is MessageFormat.FUNDS else message(genesis, format=format_)
    world = World(genesis)
    bundle = bundle_of(world, said)
    first = await outcome(tmp_path, bundle, genesis)
    if template is Template.SH_WSH and format_ is MessageFormat.SIMPLE:
        assert code(first) == "MESSAGE_FORMAT"
        return
    second = await outcome(tmp_path, replace(bundle, node="beta"), genesis)
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    found = spend(said, genesis)
    accepted = found.accept((*first, *second))
    assert (accepted.is_complete, accepted.rejected) == (True, ())
    script = found.book.script(0, 2).script
    assert proof_holds(address_of(script, Network.REGTEST), TEXT, found.proof(accepted), False, Network.REGTEST)


LIES: dict[str, tuple[Callable[[World], Bundle], str]] = {
    "nothing": (lambda world: bundle_of(world, message()), "OK"),
    "nobody agreed": (lambda world: bundle_of(world, message(), ()), "APPROVALS_MISSING"),
    "the initiator agreed": (lambda world: bundle_of(world, message(), ("alice",)), "APPROVAL_SELF"),
    "agreed twice": (lambda world: bundle_of(world, message(), ("bob", "bob")), "APPROVAL_DUPLICATE_PERSON"),
    "agreed to another": (
        lambda world: bundle_of(world, message(), approvals=(approved(message(text="other"), "bob"),)),
        "APPROVAL_OTHER_WITHDRAWAL",
    ),
    "agreed before it was so": (
        lambda world: bundle_of(world, message(), approvals=(approved(message(), "bob", NOW + 5),)),
        "APPROVAL_NOT_YET",
    ),
    "too long": (lambda world: bundle_of(world, message(text="x" * 201)), "NO_RULE_ALLOWS"),
    "over": (lambda world: bundle_of(world, message(expires_at=NOW)), "MESSAGE_UNLOGGED"),
    "by a stranger": (lambda world: bundle_of(world, message(initiator="mallory")), "MESSAGE_UNLOGGED"),
    "of another genesis": (lambda world: bundle_of(world, replace(message(), genesis=bytes(32))), "MESSAGE_UNLOGGED"),
    "of another wallet": (lambda world: bundle_of(world, message(wallet_id=bytes(32))), "WALLET_OTHER"),
    "another message": (
        lambda world: bundle_of(
            world, message(), withdrawal=sign(Kind.MESSAGE, message(text="other").to_json(), seed_of("alice"))
        ),
        "MESSAGE_UNLOGGED",
    ),
    "at another entry": (lambda world: bundle_of(world, message(), release_index=5), "MESSAGE_UNLOGGED"),
    "with a transaction": (lambda world: bundle_of(world, message(), psbt=b"psbt\xff"), "MESSAGE_PSBT"),
    "for another node": (lambda world: bundle_of(world, message(), node="alpha", genesis=bytes(32)), "GENESIS_OTHER"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_message_given_one_lie_is_refused_with_its_code(tmp_path: Path, lie: str) -> None:
    """One valid bundle, one change, one exact code; no signature leaves."""
    tell, expected = LIES[lie]
    world = World(GENESIS)
    bundle = tell(world)
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    assert code((await node.answer(bundle.to_bytes())).outcome) == expected


async def test_message_while_frozen_or_by_old_news_is_refused(tmp_path: Path) -> None:
    """A freeze in the log stops messages too; so do a checkpoint and an entry that are too old."""
    world = World(GENESIS)
    world.freeze()
    assert code(await outcome(tmp_path, bundle_of(world, message()))) == "FROZEN"
    fresh = World(GENESIS)
    bundle = bundle_of(fresh, message())
    (tmp_path / "other").mkdir()
    assert code(await outcome(tmp_path / "other", bundle, now=NOW + 400)) == "CHECKPOINT_STALE"


async def test_message_that_rules_delay_waits_from_its_entry_on(tmp_path: Path) -> None:
    """The entry is the notice: before the delay has run no signature, afterwards one."""
    genesis = genesis_of(PAY, SPEAK, SLOW)
    world = World(genesis)
    bundle = bundle_of(world, message(genesis), ())
    assert code(await outcome(tmp_path, bundle, genesis)) == "DELAY_RUNNING"
    later = replace(bundle, log=replace(bundle.log, note=world.cosigned(NOW + 3_600)))
    assert code(await outcome(tmp_path, later, genesis, NOW + 3_600)) == "OK"


async def test_message_that_rules_want_cold_first_is_signed_behind_the_cold_one(tmp_path: Path) -> None:
    """An online node refuses until a valid signature of an offline one is in the bundle."""
    genesis = genesis_of(PAY, SPEAK, COLD)
    world = World(genesis)
    bundle = bundle_of(world, message(genesis), ())
    assert code(await outcome(tmp_path, bundle, genesis)) == "COLD_FIRST"
    cold = await outcome(tmp_path, replace(bundle, node="cold"), genesis)
    assert isinstance(cold, tuple)
    forged = tuple(replace(s, signature=s.signature[:-2] + b"\x00\x01") for s in cold if isinstance(s, InputSignature))
    assert code(await outcome(tmp_path, replace(bundle, signatures=forged), genesis)) == "COLD_FIRST"
    assert code(await outcome(tmp_path, replace(bundle, signatures=cold), genesis)) == "OK"


async def test_message_at_an_air_gapped_node_is_read_before_it_is_signed(tmp_path: Path) -> None:
    """The page shows the whole text; a no is a no; nothing of it is journalled as a payment."""
    world = World(GENESIS)
    bundle = bundle_of(world, funds(), node="cold")
    pages: list[str] = []

    def ask(asked: Bundle, cleared: Any) -> bool:
        pages.append(review_message(asked, world.state(), cleared.message, NOW).text)
        return len(pages) > 1

    node: Node = open_node(GENESIS, "cold", tmp_path, FakeClock(NOW), confirm=ask)
    assert code((await node.answer(bundle.to_bytes())).outcome) == "OPERATOR_DECLINED"
    assert code((await node.answer(bundle.to_bytes())).outcome) == "OK"
    assert "| ¥ — 证明" in pages[0]
    assert "shows 2 coins of 0.00012000 BTC" in pages[0]
    assert node._journal.signed == ()
    assert node._journal.high_water == NOW


@pytest.mark.parametrize(("is_pinned", "expected"), [(True, "OK"), (False, "WALLET_UNPINNED")])
def test_message_of_a_later_wallet_is_signed_where_that_wallet_is_pinned(is_pinned: bool, expected: str) -> None:
    """Log and rules name it; this machine's own operator must have pinned it too."""
    speaking = make_genesis(PAY, SPEAK)
    vault = later_wallet(speaking)
    world = World(speaking)
    log_document(world, vault)
    log_rules(world, signed_rules(after(document_of(speaking), wallets=naming(vault, speaking))))
    world.now += 8 * DAY
    wallet = wallet_in(vault, speaking)
    said = message(speaking, wallet_id=wallet.wallet.wallet_id, created_at=world.now - 100, expires_at=world.now + DAY)
    bundle = bundle_of(world, said, ())
    me = Pinned(speaking, "alpha", frozenset({vault.digest} if is_pinned else ()))
    found = judge_message(bundle, me, start(speaking), Moment(world.now, 0), book_of(speaking.wallets[0].wallet))
    assert code(found.outcome) == expected
    if isinstance(found.outcome, ClearedMessage):
        assert found.outcome.pubkeys == (wallet.wallet.script(0, 2).pubkeys[0],)

"""Many at once against one budget, a no in the moment of the last yes, and amounts that two people read differently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from console.drafts import read_payment
from console.policy.text import parse_written, read_text, write_text
from coordinator import flow
from coordinator.session import Stage
from custody.audit import Log
from custody.canonical import encode
from custody.entries import EntryKind, StopCause, parse_entry
from custody.errors import CustodyError, MalformedError, Refused
from custody.statements import Kind, Signed
from custody.units import MAX_MONEY_SATS, SATS_PER_BTC
from custody.wallet import Network
from custody.withdrawal import Withdrawal, read_withdrawal
from tests.fakes.rules import PAY, address, document, rule, withdrawal
from tests.integration.harness import Organisation, close, genesis_of, organise
from tests.integration.overspend import BUDGET_SATS, ROOM, rounds
from tests.world import EXCHANGE, approval


async def test_atk_089_sixty_four_sessions_at_once_share_one_budget() -> None:
    """All of them are asked for in the same moment; what is released and what all signers sign stays inside."""
    found = [each async for each in rounds(1)]

    assert all(each.is_within for each in found)
    assert all(each.proposed > ROOM for each in found)
    assert max(each.signed for each in found) > BUDGET_SATS - 2 * BUDGET_SATS // (ROOM + 1)


async def cancelled(org: Organisation, asked: Withdrawal) -> object:
    """Take it back as its initiator."""
    return await flow.stop(org.parts, org.stop_of(asked, "alice"))


async def vetoed(org: Organisation, asked: Withdrawal) -> object:
    """Say no as somebody of security."""
    return await flow.stop(org.parts, org.stop_of(asked, "dave", StopCause.VETO))


async def approved(org: Organisation, asked: Withdrawal) -> object:
    """Give the last approval that is missing, and go on with it."""
    await flow.approve(org.parts, approval(asked, "carol", org.clock.now()), asked.digest)
    return await org.run(asked)


Act = Callable[[Organisation, Withdrawal], Awaitable[object]]


@pytest.mark.parametrize("no", [cancelled, vetoed], ids=["cancel", "veto"])
@pytest.mark.parametrize("is_first", [True, False], ids=["no-first", "yes-first"])
async def test_atk_096_no_and_the_last_yes_at_the_same_moment_end_in_one_of_two_ways(
    no: Act, is_first: bool, tmp_path: Path
) -> None:
    """Paid and released, or ended with too few signatures for anything: whichever came first, never half of each."""
    org = await organise(genesis_of(), tmp_path)
    try:
        asked = org.withdrawal(20_000_000)
        await org.propose(asked)
        await org.approve(asked, "bob")
        acts = (no, approved) if is_first else (approved, no)

        said = await asyncio.gather(*(act(org, asked) for act in acts), return_exceptions=True)
        stage = await org.run(asked)

        signed = [
            node
            for node in org.nodes.values()
            if any(o.withdrawal_digest == asked.digest for o in node._journal.signed)
        ]
        kinds = [kind for kind in await _kinds(org) if kind in (EntryKind.RELEASE, EntryKind.STOP)]
        if stage is Stage.BROADCAST:
            assert kinds[0] is EntryKind.RELEASE
            assert len(signed) == 2
        else:
            assert stage in (Stage.CANCELLED, Stage.REJECTED)
            assert EntryKind.STOP in kinds
            assert len(signed) < 2, "expected too few signatures for a transaction"
            assert not await org.parts.store.reserved(org.clock.now())
        late = {found.code for found in said if isinstance(found, Refused | CustodyError)}
        if stage is Stage.BROADCAST:
            assert late == ({"NEEDS_SUPERSEDE"} if no is cancelled else set()), "expected a late cancel to be told so"
        else:
            assert late <= {"LATE_APPROVAL"}, "expected a late approval to be told so"
        assert not [found for found in said if isinstance(found, BaseException) and not isinstance(found, CustodyError)]
        await org.mine()
        assert (await org.run(asked) is Stage.CONFIRMED) == (stage is Stage.BROADCAST)
    finally:
        await close(org)


async def _kinds(org: Organisation) -> list[EntryKind]:
    size = org.parts.store.head(Log.MONEY).size
    return [parse_entry(raw).kind for raw in await org.parts.store.entries(Log.MONEY, 0, size, 10_000_000)]


AMOUNTS: dict[str, tuple[str, str]] = {
    "half a coin": ("0.5", "NOT_CANONICAL_VALUE"),
    "a coin with its decimals": ("1.00000000", "NOT_CANONICAL_VALUE"),
    "an exponent": ("1e8", "NOT_CANONICAL_VALUE"),
    "text": ('"50000"', "AMOUNT_NOT_WHOLE"),
    "text with a unit": ('"1 BTC"', "AMOUNT_NOT_WHOLE"),
    "a truth": ("true", "AMOUNT_NOT_WHOLE"),
    "a debt": ("-50000", "AMOUNT_OUT_OF_RANGE"),
    "nothing": ("0", "AMOUNT_OUT_OF_RANGE"),
    "more than there is": (str(MAX_MONEY_SATS + 1), "AMOUNT_OUT_OF_RANGE"),
    "what wraps around in 64 bits": (str(2**64 + 50_000), "NOT_CANONICAL_VALUE"),
}


@pytest.mark.parametrize("name", AMOUNTS)
def test_atk_094_amount_that_reads_two_ways_is_no_withdrawal(name: str) -> None:
    """Whole sats between one and all the money there is; nothing is rounded, scaled or taken for another unit."""
    amount, code = AMOUNTS[name]
    raw = encode(withdrawal((EXCHANGE, 50_000)).to_json())

    with pytest.raises(MalformedError) as refused:
        read_withdrawal(
            Signed(Kind.WITHDRAWAL, raw.replace(b'"amount_sats":50000', f'"amount_sats":{amount}'.encode()), ())
        )

    assert refused.value.code == code


@pytest.mark.parametrize("amount", ["0.5", "1e8", "1,000", "1_000", "+1", " 1", "1 BTC", "0x10", "\u0661", "1" * 17])
def test_atk_094_amount_typed_in_another_way_is_no_payment(amount: str) -> None:
    """The command line takes digits, and no digits of other scripts."""
    with pytest.raises(MalformedError) as refused:
        read_payment(f"{address(EXCHANGE)}={amount}", Network.REGTEST)

    assert refused.value.code == "PAYMENT"


@pytest.mark.parametrize("amount", ["0.5", "1e8", "5_000", "0x10", "010", "1:30", "1,000", "5000 sats", "0.5 BTC"])
def test_atk_094_amount_written_in_another_way_is_no_rule(amount: str) -> None:
    """A limit of half a coin, of an octal ten or of ninety seconds is refused at its line."""
    limit = rule("cap", "limit", {}, {"window": "day", "max_sats": 77, "on_exceed": "deny"})
    text = write_text(document(PAY, limit)).replace("max_sats: 77", f"max_sats: {amount}")

    with pytest.raises(CustodyError):
        parse_written(read_text(text, "rules.yaml"))


async def test_atk_094_payments_that_add_up_beyond_all_money_are_not_taken(tmp_path: Path) -> None:
    """Each alone is an amount; together they are none, and no sum wraps around into a small one."""
    org = await organise(genesis_of(PAY), tmp_path)
    try:
        asked = withdrawal(*[(EXCHANGE, MAX_MONEY_SATS)] * 3, genesis=org.genesis.hash, **_of(org))
        assert asked.amount_sats > 3 * MAX_MONEY_SATS > 21_000_000 * SATS_PER_BTC
        found: Any = await org.propose(asked)
        assert isinstance(found, Refused) or found is Stage.DENIED
    finally:
        await close(org)


def _of(org: Organisation) -> dict[str, Any]:
    return {"wallet_id": org.genesis.wallets[0].wallet.wallet_id}

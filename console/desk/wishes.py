"""What a person asks for on the page: fields to a withdrawal, and what the rules would say of it; pure.

The verdict is this program's own, over coins as the coordinator lists them: an estimate, since signing may take others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.drafts import already_paid, outputs_of, read_payment, read_relation
from console.refusal import refuse
from custody.decide import Allow, Case, Deny, decide
from custody.errors import MalformedError
from custody.facts import Facts, InputFact, own_payees
from custody.follow import State, family_of
from custody.genesis import Genesis, GenesisWallet
from custody.interval import Interval
from custody.message import FundCoin
from custody.policy.explain import explain
from custody.scripts import spend_weight
from custody.units import MAX_MONEY_SATS, SATS_PER_BTC, Sats, VBytes, sats
from custody.wallet import ScriptBook
from custody.withdrawal import MAX_PAYMENTS, Payment, Withdrawal

BASE_VB, OUTPUT_VB, INPUT_BASE_VB = 11, 43, 41  # version, counts, locktime; a p2wsh output; an outpoint with sequence
MAX_HOURS = 24 * 30


@dataclass(frozen=True, slots=True)
class Wish:
    """The fields of the page, as typed. payees: (address, BTC, label)."""

    wallet: str
    payees: tuple[tuple[str, str, str], ...]
    max_fee_sats: str
    hours: str
    is_again: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules would say. outcome: "allow", "need", "deny" or "coins" where the wallet holds too few."""

    outcome: str
    lines: tuple[str, ...]


def read_btc(text: str) -> Sats:
    """Return an amount typed in BTC, with at most eight decimals. Raises MalformedError AMOUNT."""
    whole, _, part = text.strip().partition(".")
    digits = whole + part
    if not digits.isascii() or not digits.isdigit() or len(part) > 8 or len(whole) > 8:
        raise MalformedError("AMOUNT", f"expected BTC such as 0.5 with at most 8 decimals, found {text[:30]!r}")
    found = int(whole or "0") * SATS_PER_BTC + int(part.ljust(8, "0"))
    if not 0 < found <= MAX_MONEY_SATS:
        raise MalformedError("AMOUNT", f"expected more than nothing and at most all there is, found {text[:30]!r}")
    return sats(found)


def withdrawal_of(wish: Wish, genesis: Genesis, state: State, me: str, name: str, now: int) -> Withdrawal:
    """Return the withdrawal that a page asks for.

    Args:
        wish: as typed.
        genesis: pinned.
        state: followed.
        me: who asks.
        name: the withdrawal's id.
        now: UTC seconds.

    Raises:
        MalformedError: AMOUNT, an ADDRESS_ code, LABEL_UNPRINTABLE, FIELD_RANGE, ...
        RefusedHereError: ALREADY_PAID, WALLET_UNKNOWN.
    """
    wallet = next((found for found in genesis.wallets if found.name == wish.wallet), None)
    if wallet is None:
        refuse("WALLET_UNKNOWN", f"one of {', '.join(w.name for w in genesis.wallets)}", wish.wallet[:40])
    payments = _payments(wish, genesis)
    paid = already_paid(state, outputs_of(payments, genesis.network), now)
    if paid and not wish.is_again:
        earlier = paid[-1].release
        refuse("ALREADY_PAID", "`pay the same again`, if that is meant", f"{earlier.initiator}/{earlier.withdrawal_id}")
    return Withdrawal(
        genesis=genesis.hash,
        withdrawal_id=name,
        wallet_id=wallet.wallet.wallet_id,
        network=genesis.network.value,
        payments=payments,
        max_fee_sats=sats(_whole(wish.max_fee_sats, "fee", MAX_MONEY_SATS)),
        relation=read_relation("additional" if paid else "new", paid),
        initiator=me,
        created_at=now,
        expires_at=now + _whole(wish.hours, "hours", MAX_HOURS, least=1) * 3_600,
        rules_floor=state.policy.version,
    )


def verdict_on(asked: Withdrawal, wallet: GenesisWallet, state: State, coins: Sequence[FundCoin], now: int) -> Verdict:
    """Return what the rules would say of `asked` at `now` with nobody's approval yet, over an estimate of its coins."""
    book = ScriptBook(wallet.wallet)
    spent = _enough(coins, asked.amount_sats)
    if spent is None:
        held = sum(coin.sats for coin in coins)
        return Verdict(
            "coins", (f"the wallet holds {held:,} sats, says the coordinator; {asked.amount_sats:,} may leave",)
        )
    facts = _estimate(asked, wallet, book, spent)
    case = Case(
        withdrawal=asked,
        facts=facts,
        approvals=(),
        families=state.spent,
        family=family_of(state, asked) or asked.digest,
        time=Interval(now, now),
        own_scripts=own_payees(facts, book),
    )
    decided = decide(state.policy, case)
    outcome = "allow" if isinstance(decided, Allow) else "deny" if isinstance(decided, Deny) else "need"
    return Verdict(outcome, explain(decided))


def _payments(wish: Wish, genesis: Genesis) -> tuple[Payment, ...]:
    if len(wish.payees) > MAX_PAYMENTS:
        raise MalformedError("PAYMENTS", f"expected at most {MAX_PAYMENTS} payees, found {len(wish.payees)}")
    return tuple(
        read_payment(f"{address.strip()}={read_btc(amount)}:{label.strip()}", genesis.network)
        for address, amount, label in wish.payees
    )


def _whole(text: str, name: str, most: int, least: int = 0) -> int:
    cleaned = text.strip()
    is_number = cleaned.isascii() and cleaned.isdigit() and len(cleaned) <= 16
    if not is_number or not least <= int(cleaned) <= most:
        raise MalformedError("FIELD_RANGE", f"{name}: expected a whole number from {least} to {most}")
    return int(cleaned)


def _enough(coins: Sequence[FundCoin], needed: int) -> tuple[FundCoin, ...] | None:
    """Return the largest coins that hold `needed` sats together, None where all do not."""
    taken: list[FundCoin] = []
    for coin in sorted(coins, key=lambda found: -found.sats):
        if sum(found.sats for found in taken) >= needed:
            break
        taken.append(coin)
    return tuple(taken) if sum(found.sats for found in taken) >= needed else None


def _estimate(asked: Withdrawal, wallet: GenesisWallet, book: ScriptBook, spent: Sequence[FundCoin]) -> Facts:
    """Return facts of a transaction that could pay `asked`: nothing of it is proven, and nothing of it is signed."""
    made = wallet.wallet
    input_vb = INPUT_BASE_VB + spend_weight(made.template, made.threshold, len(made.keys)) // 4
    outputs = outputs_of(asked.payments, made.network)
    inputs = tuple(
        InputFact(coin.outpoint, coin.sats, coin.branch, coin.index, made.script(coin.branch, coin.index).script)
        for coin in spent
    )
    size = BASE_VB + input_vb * len(inputs) + OUTPUT_VB * (len(outputs) + 1)
    return Facts(bytes(32), 2, 0, inputs, outputs, (), asked.max_fee_sats, VBytes(size))

"""What a page shows of a withdrawal, as values: made here from its statement, the pinned rules and the followed log.

Pure. What only the coordinator says stands in fields of `WithdrawalView` and is marked as such on the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from console.desk.lookalike import lookalike_of
from console.drafts import already_paid, names_of, outputs_of
from console.pages import utc
from console.rules import rule_words
from console.views import Missing, Stage, WithdrawalView
from custody.address import address_of, script_of
from custody.errors import MalformedError, Refused
from custody.follow import Released, State
from custody.genesis import Genesis
from custody.people import check_initiator
from custody.policy import Policy
from custody.wallet import Network
from custody.withdrawal import Payment, Withdrawal
from custody.words import word_rows


class Place(Enum):
    """Where a withdrawal waits, as the person at this desk sees it."""

    YOU = "you"
    OTHERS = "others"
    SIGNING = "signing"
    OFFLINE = "offline"
    BROADCAST = "broadcast"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class PaymentSight:
    """One payee. names: of pinned lists alone.  is_valid: whether it is an address of our network at all.

    is_first: no release in the log ever paid it.  looks_like: a known address that it could be mistaken for, or None.
    """

    payment: Payment
    groups: tuple[str, ...]
    names: tuple[str, ...]
    is_valid: bool
    is_first: bool
    looks_like: str | None


@dataclass(frozen=True, slots=True)
class Sight:
    """One withdrawal as proven here. refused: why its initiator's signature does not hold, or None.

    stopped: who ended it in the log, or "".  rows: its twelve words, four in a row.
    """

    withdrawal: Withdrawal
    wallet: str
    payments: tuple[PaymentSight, ...]
    paid_sats: int
    paid_before: tuple[Released, ...]
    refused: Refused | None
    stopped: str
    is_frozen: bool
    rows: tuple[str, ...]

    @property
    def poisoned(self) -> tuple[PaymentSight, ...]:
        """The payees that look like known ones without being them."""
        return tuple(found for found in self.payments if found.looks_like is not None)


@dataclass(frozen=True, slots=True)
class RuleSight:
    """One rule that spoke. words: of the pinned rule, "" where rules in force have none.  said: the coordinator's."""

    name: str
    kind: str
    words: str
    said: str
    is_shadow: bool


def sight_of(withdrawal: Withdrawal, genesis: Genesis, state: State, now: int) -> Sight:
    """Return `withdrawal` as this program sees it at `now` (UTC seconds); its signature is for `proven`."""
    wallet = genesis.wallet(withdrawal.wallet_id)
    known = known_addresses(state, genesis.network)
    payments = tuple(_payment_sight(found, genesis.network, state, known, now) for found in withdrawal.payments)
    stop = state.is_stopped(withdrawal)
    return Sight(
        withdrawal=withdrawal,
        wallet="" if wallet is None else wallet.name,
        payments=payments,
        paid_sats=sum(found.amount_sats for found in withdrawal.payments),
        paid_before=_paid_before(withdrawal, genesis.network, state, now),
        refused=None,
        stopped="" if stop is None else f"{stop.cause.value} by {stop.by}",
        is_frozen=state.is_frozen(now),
        rows=tuple(word_rows(withdrawal.digest).splitlines()),
    )


def initiator_refusal(view: WithdrawalView, policy: Policy, now: int) -> Refused | None:
    """Return why the statement is not its initiator's, or None."""
    return check_initiator(policy, view.withdrawal, view.signed, now)


def shown_of(sight: Sight, view: WithdrawalView, policy: Policy) -> dict[str, str]:
    """Return what stands on the page and may differ at the next look, by name; the statement itself cannot."""
    told = view.told
    shown = {
        "rules version": str(policy.version),
        "withdrawal ended": sight.stopped or ("" if not view.stage.is_end else view.stage.value),
        "freeze in force": "yes" if sight.is_frozen else "no",
        "already paid by": ", ".join(found.release.withdrawal_id for found in sight.paid_before),
        "transaction": "none yet" if told is None else f"{told.txid[::-1].hex()}, fee {told.fee_sats} sats",
    }
    for number, found in enumerate(sight.payments, 1):
        shown[f"names of payee {number}"] = "; ".join(found.names) or "none"
        shown[f"look-alike of payee {number}"] = found.looks_like or "none"
    return shown


def place_of(view: WithdrawalView, me: str, *, has_voted: bool) -> Place:
    """Return where a withdrawal waits. has_voted: whether an approval by `me` is filed."""
    if view.stage.is_end:
        return Place.DONE
    if view.stage in (Stage.FINAL, Stage.BROADCAST):
        return Place.BROADCAST
    if view.stage in (Stage.RELEASED, Stage.SIGNING):
        return Place.OFFLINE if waits_offline(view) else Place.SIGNING
    could = any(me in lack.could for lack in view.missing)
    return Place.YOU if could and not has_voted and view.withdrawal.initiator != me else Place.OTHERS


def waits_offline(view: WithdrawalView) -> bool:
    """Return whether an offline signer is asked, or must sign before others are."""
    offline = [row for row in view.signers if row.offline]
    signed = sum(row.progress == "signed" for row in offline)
    return any(row.progress == "asked" for row in offline) or signed < min(view.decision.min_offline, len(offline))


def dots_of(missing: tuple[Missing, ...]) -> tuple[int, int]:
    """Return how many approvals are there and how many are needed, over all that is still asked for."""
    have = len({name for lack in missing for name in lack.have})
    return have, have + sum(lack.needed for lack in missing if lack.option == 0)


def rules_of(view: WithdrawalView, policy: Policy) -> tuple[RuleSight, ...]:
    """Return the rules that spoke of a withdrawal, as the coordinator says, each with the words of the pinned one."""
    found: list[RuleSight] = []
    for row in view.decision.rows:
        if row.depth == 0:
            pinned = policy.rule(row.rule)
            words = "" if pinned is None else rule_words(pinned)
            found.append(RuleSight(row.rule, row.kind, words, row.text, row.shadow))
    return tuple(sorted(found, key=lambda rule: rule.said == "did not match"))


def known_addresses(state: State, network: Network) -> tuple[str, ...]:
    """Return the addresses that people here know: of pinned lists, and those that releases paid; each once."""
    listed = (entry.address for found in state.policy.lists for entry in found.entries)
    paid = (_address(out.script, network) for released in state.releases for out in released.release.payments)
    return tuple(dict.fromkeys(found for found in (*listed, *paid) if found))


def age_words(seconds: int) -> str:
    """Return how long ago something was, short: "3m", "2h", "5d"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def groups_of(address: str) -> tuple[str, ...]:
    """Return `address` whole, in groups of four characters of equal weight."""
    return tuple(address[at : at + 4] for at in range(0, len(address), 4))


def paid_words(released: Released) -> str:
    """Return when and by whom the same was paid."""
    return f"{utc(released.t)} {released.release.initiator}/{released.release.withdrawal_id}"


def _payment_sight(payment: Payment, network: Network, state: State, known: tuple[str, ...], now: int) -> PaymentSight:
    try:
        script = script_of(payment.address, network)
    except MalformedError:
        return PaymentSight(payment, groups_of(payment.address), (), is_valid=False, is_first=True, looks_like=None)
    paid = any(out.script == script for released in state.releases for out in released.release.payments)
    alike = None if payment.address in known else lookalike_of(payment.address, known)
    names = names_of(script, state.policy, now)
    return PaymentSight(payment, groups_of(payment.address), names, is_valid=True, is_first=not paid, looks_like=alike)


def _paid_before(withdrawal: Withdrawal, network: Network, state: State, now: int) -> tuple[Released, ...]:
    try:
        outputs = outputs_of(withdrawal.payments, network)
    except MalformedError:
        return ()
    found = already_paid(state, outputs, now)
    return tuple(released for released in found if released.release.withdrawal_digest != withdrawal.digest)


def _address(script: bytes, network: Network) -> str:
    try:
        return address_of(script, network)
    except MalformedError:
        return ""

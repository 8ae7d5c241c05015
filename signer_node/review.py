"""What an air-gapped operator reads before a signature is made: only facts that this node has proven."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from custody.address import address_of, script_of
from custody.approval import read_approval
from custody.bundle import Bundle
from custody.decide import decide
from custody.errors import Refused
from custody.follow import State, open_under
from custody.message import Message
from custody.people import check_approval
from custody.policy.explain import explain
from custody.signatures import accept
from custody.transaction import TxOut
from custody.units import Sats, btc_text
from custody.wallet import CHANGE
from custody.withdrawal import RelationKind
from custody.words import word_rows, words
from signer_node.judge import Case, policy_case


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its lines."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown. words: the twelve, of the withdrawal's digest."""

    title: str
    sections: tuple[Section, ...]
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The page as plain lines."""
        lines = [self.title]
        for section in self.sections:
            lines += ["", section.heading, *(f"  {line}" for line in section.lines)]
        return "\n".join(lines)


def address_groups(address: str) -> str:
    """Return `address` in groups of four, every part of equal weight (look-alikes share their ends)."""
    return " ".join(address[at : at + 4] for at in range(0, len(address), 4))


def review(case: Case, now: int) -> Page:
    """Return the page for the operator of this node.

    Args:
        case: proven by `judge.prove`, and cleared by `judge`.
        now: this machine's clock, UTC seconds.
    """
    withdrawal = case.withdrawal
    return Page(
        title=f"Withdrawal {withdrawal.withdrawal_id} asked by {withdrawal.initiator} on {withdrawal.network}",
        sections=(
            Section("PAYS", (*_payment_lines(case), *_relation_lines(case))),
            Section("COMES BACK, AND FEE", _own_lines(case)),
            Section("RULES", _rule_lines(case, now)),
            Section("APPROVALS AND SIGNATURES, VERIFIED HERE", (*_approval_lines(case, now), *_signer_lines(case))),
            Section("LOG AND WITNESSES", _log_lines(case, now)),
            _words_section(withdrawal.digest),
        ),
        words=words(withdrawal.digest),
    )


def review_message(bundle: Bundle, state: State, message: Message, now: int) -> Page:
    """Return the page of a message to be signed. message: judged and cleared; to_sign was made here from it."""
    genesis = state.genesis
    wallet = genesis.wallet(message.wallet_id)
    address = "" if wallet is None else address_of(wallet.wallet.script(0, message.index).script, genesis.network)
    lines = [f"signed ({message.format.value}, BIP-322) for our address", f"    {address_groups(address)}"]
    lines += ["spends nothing; it says:", *(f"    | {line}" for line in message.text.split("\n"))]
    if message.coins:
        total = btc_text(Sats(sum(coin.sats for coin in message.coins)))
        lines.append(f"and shows {len(message.coins)} coins of {total} BTC")
    people = sorted(read_approval(signed).approver for signed in bundle.approvals)
    rules = f"rules version {state.policy.version} allow it"
    return Page(
        title=f"Message {message.message_id} asked by {message.initiator} on {genesis.network.value}",
        sections=(
            Section("SIGNS A MESSAGE", tuple(lines)),
            Section("APPROVALS AND RULES, VERIFIED HERE", (_approved_by(people), rules)),
            Section("LOG AND WITNESSES", (f"entry {bundle.release_index}", *_witness_lines(state, bundle, now))),
            _words_section(message.digest),
        ),
        words=words(message.digest),
    )


def utc(seconds: int) -> str:
    """Return a time as people read it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(seconds: int, now: int) -> str:
    """Return a time with its age: "2026-11-25 13:50:00 UTC, 3 min ago"."""
    age = now - seconds
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(age) >= 2 * size:
            return f"{utc(seconds)}, {age // size} {unit} ago"
    return f"{utc(seconds)}, {age} s ago"


def _payment_lines(case: Case) -> list[str]:
    network = case.state.genesis.network
    lines = []
    for payment in case.release.payments:
        lines.append(f"pay {btc_text(payment.amount)} BTC to")
        lines.append(f"    {address_groups(address_of(payment.script, network))}")
        lines.extend(f"    on pinned list {name}" for name in _names(case, payment))
        lines.extend(f'    requester says: "{label}"' for label in _labels(case, payment))
    return lines or ["nobody: the coins come back to us"]


def _names(case: Case, payment: TxOut) -> list[str]:
    """Return what the pinned rules call exactly this script; no other source names anybody."""
    return [
        f"{listed.name}: {entry.label}"
        for listed in case.state.policy.lists
        for entry in listed.entries
        if entry.script == payment.script
    ]


def _labels(case: Case, payment: TxOut) -> list[str]:
    """Return what the requester says of exactly this payment: same script, same amount."""
    network = case.state.genesis.network
    return [
        said.label
        for said in case.withdrawal.payments
        if said.label and (script_of(said.address, network), said.amount_sats) == (payment.script, payment.amount)
    ]


def _relation_lines(case: Case) -> list[str]:
    relation = case.withdrawal.relation
    if relation.kind is RelationKind.NEW:
        return ["new: none of this was paid in the last 90 days"]
    what = "IN ADDITION TO" if relation.kind is RelationKind.ADDITIONAL else "IN PLACE OF"
    return [f"{what} withdrawal {' '.join(words(digest))}" for digest in relation.digests]


def _own_lines(case: Case) -> tuple[str, ...]:
    facts, network = case.facts, case.state.genesis.network
    wallet, total = case.wallet.wallet, sum(fact.amount_sats for fact in facts.inputs)
    lines = [
        f"spends {len(facts.inputs)} coin(s), {btc_text(Sats(total))} BTC, of wallet {case.wallet.name} "
        f"({wallet.threshold} of {len(wallet.keys)})"
    ]
    for index, amount in case.release.change:
        lines.append(f"change {btc_text(amount)} BTC comes back to us, derived here (1/{index})")
        lines.append(f"    {address_groups(address_of(case.book.script(CHANGE, index).script, network))}")
    rate = facts.fee_sats / facts.vsize_vb
    lines.append(f"fee {btc_text(facts.fee_sats)} BTC (at most {btc_text(case.release.max_fee_sats)})")
    lines.append(f"    {rate:.1f} sat/vB for {facts.vsize_vb} vB")
    return tuple(lines)


def _rule_lines(case: Case, now: int) -> tuple[str, ...]:
    policy = case.state.policy
    verdict = explain(decide(policy, policy_case(case)))
    return (f"version {policy.version}, valid until {utc(policy.not_after)}", *verdict)


def _approval_lines(case: Case, now: int) -> list[str]:
    lines = []
    for approval, signed in case.approvals:
        ballot = check_approval(case.state.policy, case.withdrawal, approval, signed, case.t)
        if isinstance(ballot, Refused):
            lines.append(f"{approval.approver}: DOES NOT COUNT, {ballot}")
        else:
            how = "seen" if ballot.seen else "BLIND"
            lines.append(f"approved by {ballot.person}, {how}, {ago(ballot.at, now)}")
    return sorted(lines) or [_approved_by([])]


def _signer_lines(case: Case) -> list[str]:
    signed = accept(case.psbt, case.facts, case.book, case.bundle.signatures).signed
    slots = case.wallet.slots
    names = sorted(slots[at].node or f"{slots[at].admin}'s device" for at in signed)
    needed = case.wallet.wallet.threshold
    return [f"signed by {', '.join(names) or 'nobody yet'}: {len(signed)} of {needed}; {case.me.node} is asked now"]


def _log_lines(case: Case, now: int) -> tuple[str, ...]:
    released = f"entry {case.bundle.release_index}, released {ago(case.t, now)}"
    return (released, *_witness_lines(case.state, case.bundle, now))


def _witness_lines(state: State, bundle: Bundle, now: int) -> list[str]:
    """Return who vouches for the log that this was judged by, and how old each word is."""
    _, fresh = open_under(state, bundle.log.note)
    return [
        f"{fresh.checkpoint.size} entries, vouched for by {len(fresh.counted)} witness(es); "
        f"{state.policy.roots.w} are needed",
        *(f"witness {name}: {ago(at, now)}" for name, at in fresh.counted),
        f"this machine's clock: {utc(now)}",
    ]


def _words_section(digest: bytes) -> Section:
    return Section("COMPARE THESE WORDS WITH THE APPROVERS' SCREENS", tuple(word_rows(digest).splitlines()))


def _approved_by(people: list[str]) -> str:
    return f"approved by {', '.join(people) or 'nobody: the rules ask for none'}"

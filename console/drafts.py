"""What a person asks for, from the words of a command line to a statement; pure, and strict about every word."""

from __future__ import annotations

from collections.abc import Sequence

from custody.address import script_of
from custody.approval import MAX_AFTER, Approval, read_approval
from custody.errors import MalformedError, Refused
from custody.fields import parse_hex
from custody.follow import Released, State
from custody.once import REPAYMENT_SECONDS
from custody.people import Ballot, check_approval
from custody.policy import ListEntry, Policy
from custody.policy.duties import has_stages
from custody.statements import Signed
from custody.transaction import TxOut
from custody.units import sats
from custody.wallet import Network
from custody.withdrawal import MAX_LABEL_CHARS, NEW, Payment, Relation, RelationKind, Withdrawal


def read_payment(text: str, network: Network) -> Payment:
    """Return the payment written ADDRESS=SATS or ADDRESS=SATS:LABEL.

    Raises:
        MalformedError: PAYMENT, an ADDRESS_ code, AMOUNT_OUT_OF_RANGE, LABEL_UNPRINTABLE or LABEL_TOO_LONG.
    """
    address, equals, rest = text.partition("=")
    amount_text, _, label = rest.partition(":")
    if not equals or not amount_text.isascii() or not amount_text.isdigit() or len(amount_text) > 16:
        raise MalformedError("PAYMENT", "expected ADDRESS=SATS or ADDRESS=SATS:LABEL, with whole sats")
    script_of(address, network)
    amount = sats(int(amount_text))
    if amount == 0:
        raise MalformedError("AMOUNT_OUT_OF_RANGE", "expected at least 1 sat in a payment, found 0")
    if not label.isprintable():
        raise MalformedError("LABEL_UNPRINTABLE", "expected a label of printable characters")
    if len(label) > MAX_LABEL_CHARS:
        raise MalformedError("LABEL_TOO_LONG", f"expected at most {MAX_LABEL_CHARS} characters in a label")
    return Payment(address, amount, label)


def read_relation(text: str, paid_before: Sequence[Released]) -> Relation:
    """Return the relation written new, additional or supersedes:DIGEST.

    Args:
        text: as typed.
        paid_before: releases that pay the same; `additional` lists every withdrawal of theirs.

    Raises:
        MalformedError: RELATION.
    """
    kind, _, digest = text.partition(":")
    if kind == RelationKind.NEW.value and not digest:
        return NEW
    if kind == RelationKind.ADDITIONAL.value and not digest:
        digests = sorted({released.release.withdrawal_digest for released in paid_before})
        if not digests:
            raise MalformedError("RELATION", "expected an earlier payment of the same to be additional to")
        return Relation(RelationKind.ADDITIONAL, tuple(digests))
    if kind == RelationKind.SUPERSEDES.value:
        return Relation(RelationKind.SUPERSEDES, (parse_hex(digest, "relation", 32),))
    raise MalformedError("RELATION", "expected new, additional or supersedes:DIGEST")


def already_paid(state: State, payments: Sequence[TxOut], now: int) -> tuple[Released, ...]:
    """Return the releases of the last 90 days that pay one of these (script, sats), oldest first."""
    wanted = {(payment.script, payment.amount) for payment in payments}
    return tuple(
        released
        for released in state.releases
        if released.t > now - REPAYMENT_SECONDS
        and any((payment.script, payment.amount) in wanted for payment in released.release.payments)
    )


def earlier_approvals(
    policy: Policy, withdrawal: Withdrawal, filed: Sequence[Signed], me: str, now: int
) -> tuple[Approval, ...]:
    """Return the approvals that one by `me` has to name: those of others that count, where rules have stages at all."""
    trees = [rule.obligations.approvals for rule in policy.rules if rule.obligations is not None]
    trees += [rule.budget.approvals for rule in policy.rules if rule.budget is not None]
    if not any(tree is not None and has_stages(tree) for tree in trees):
        return ()
    found = {signed.digest: read_approval(signed) for signed in filed}
    counted = [
        found[signed.digest]
        for signed in filed
        if isinstance(check_approval(policy, withdrawal, found[signed.digest], signed, now), Ballot)
    ]
    others = {approval.digest: approval for approval in counted if approval.approver != me}
    return tuple(others[digest] for digest in sorted(others)[:MAX_AFTER])


def outputs_of(payments: Sequence[Payment], network: Network) -> tuple[TxOut, ...]:
    """Return the outputs that these payments ask for."""
    return tuple(TxOut(payment.amount_sats, script_of(payment.address, network)) for payment in payments)


def names_of(script: bytes, policy: Policy, now: int) -> tuple[str, ...]:
    """Return what the pinned lists call this very script: "exchanges: Kraken"; no other source names anybody.

    An entry that does not count at `now` (UTC seconds) says so: rules do not take it for listed.
    """
    return tuple(
        f"{found.name}: {entry.label}{_standing(entry, now)}"
        for found in policy.lists
        for entry in found.entries
        if entry.script == script
    )


def _standing(entry: ListEntry, now: int) -> str:
    if now < entry.valid_from:
        return " (NOT YET: its cool-down runs)"
    return " (EXPIRED)" if now >= entry.expires_at else ""


def check_me(policy: Policy, me: str, public_key: bytes, now: int) -> Refused | None:
    """Return None if the rules list `public_key` as a credential of `me`, still valid at `now`."""
    principal = policy.principal(me)
    if principal is None:
        return Refused("NOT_IN_RULES", "a name of the rules as `me`", me)
    if principal.credential(public_key) is None:
        return Refused("KEY_NOT_IN_RULES", f"a key that the rules list for {me}", public_key.hex())
    if now >= principal.valid_until:
        return Refused("NOT_IN_RULES", f"{me} valid now", f"one valid until {principal.valid_until}")
    return None

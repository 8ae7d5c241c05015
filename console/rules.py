"""A rule in words, for people who read the pinned rules: when it speaks, and what it then asks or counts."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum

from console.pages import btc, span
from custody.policy import Rule
from custody.policy.duties import AllVotes, AnyVotes, Budget, Obligations, StagedVotes, Votes, VoteTree
from custody.policy.terms import AllTerm, AmountTerm, AnyTerm, FeeTerm, NoPaymentsTerm, NotTerm, Term
from custody.transaction import OutPoint


def rule_words(rule: Rule) -> str:
    """Return what `rule` says: "amount from 0.10000000 BTC: needs 2 of group ops"."""
    when = term_words(rule.match) or "always"
    then = [_obligation_words(rule.obligations)] if rule.obligations is not None else []
    then += [_budget_words(rule.budget)] if rule.budget is not None else []
    then += [rule.description] if rule.description else []
    return ": ".join([when, *then])


def term_words(term: Term) -> str:
    """Return a matcher in words, "" for one that is always true."""
    if isinstance(term, AllTerm):
        return " and ".join(found for part in term.terms if (found := term_words(part)))
    if isinstance(term, AnyTerm):
        return "(" + " or ".join(term_words(part) for part in term.terms) + ")"
    if isinstance(term, NotTerm):
        return f"not ({term_words(term.term)})"
    if isinstance(term, NoPaymentsTerm):
        return "nobody is paid"
    if isinstance(term, AmountTerm):
        return _amount_words(term)
    if isinstance(term, FeeTerm) and term.max_sats is not None:
        return f"fee up to {btc(term.max_sats)}"
    given = [(field.name, getattr(term, field.name)) for field in fields(term)]
    name = type(term).__name__.removesuffix("Term").lower()
    return f"{name} " + " ".join(f"{key} {_value(value)}" for key, value in given if value not in (None, ()))


def _amount_words(term: AmountTerm) -> str:
    words = [f"from {btc(term.min_sats)}"] if term.min_sats is not None else []
    words += [f"up to {btc(term.max_sats)}"] if term.max_sats is not None else []
    words += [f"each up to {btc(term.per_output_max_sats)}"] if term.per_output_max_sats is not None else []
    return " ".join(["amount", *words, *([] if term.include_fee else ["without fee"])])


def _obligation_words(then: Obligations) -> str:
    words = [f"needs {_votes(then.approvals)}"] if then.approvals is not None else []
    if then.signers is not None:
        asked = then.signers
        words += [f"{asked.min_offline} offline node(s) sign first"] if asked.min_offline else []
        words += [f"{', '.join(asked.include)} must sign"] if asked.include else []
        words += [f"{', '.join(asked.exclude)} must not sign"] if asked.exclude else []
    if then.delay is not None:
        vetoes = ", ".join(f"{veto.threshold} of {veto.group}" for veto in then.delay.vetoes) or "anybody listed"
        words.append(f"waits {span(then.delay.seconds)}, may be vetoed by {vetoes}")
    words += ["a code is typed at each signer"] if then.local_conf else []
    return "; ".join(words)


def _votes(tree: VoteTree) -> str:
    if isinstance(tree, Votes):
        more = [", blind ones too"] if tree.blind else []
        more += [", each of another org"] if tree.distinct_orgs else []
        more += [", by keys bound to a device"] if tree.device_bound else []
        more += [f", at most {span(tree.lifetime_s)} old"] if tree.lifetime_s is not None else []
        return f"{tree.threshold} of {tree.of}{''.join(more)}"
    if isinstance(tree, StagedVotes):
        return "; then ".join(_votes(stage) for stage in tree.stages)
    joint = " and " if isinstance(tree, AllVotes) else " or "
    words = joint.join(_votes(part) for part in tree.parts)
    return f"({words})" if isinstance(tree, AnyVotes) else words


def _budget_words(budget: Budget) -> str:
    is_count = budget.measure.value == "max_count"
    most = f"{budget.most} withdrawals" if is_count else btc(budget.most)
    what = " in fees" if budget.measure.value == "max_fee_sats" else ""
    per = f" for each {', '.join(group.value for group in budget.group_by)}" if budget.group_by else ""
    beyond = "denied" if budget.approvals is None else f"needs {_votes(budget.approvals)}"
    return f"at most {most}{what} in window {budget.window}{per}; beyond it {beyond}"


def _value(value: object) -> str:
    if isinstance(value, OutPoint):
        return str(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return "|".join(_value(item) for item in value)
    return str(value)

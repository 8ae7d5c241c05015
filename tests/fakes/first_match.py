"""Two tiny first-match interpreters, for importers to be compared with: no rule of ours is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rule = Mapping[str, Any]


@dataclass(frozen=True)
class Transfer:
    """A request, as foreign systems see it. payees: (name on a whitelist or None, sats).  voters: who approved."""

    operator: str
    operator_groups: frozenset[str]
    vault: str
    payees: tuple[tuple[str | None, int], ...]
    fee_sats: int
    voters: frozenset[str]
    t: int

    @property
    def sats(self) -> int:
        """What is paid, without the fee."""
        return sum(sats for _, sats in self.payees)


def tap(rules: Sequence[Rule], asked: Transfer, past: Sequence[Transfer], users: Mapping[str, frozenset[str]]) -> str:
    """Return "allow", "ask" or "block" by the first rule that matches; a batch of unlike payees is blocked."""
    for rule in rules:
        if len({_payee_fits(rule, name) for name, _ in asked.payees}) > 1:
            return "block"
        if _fits_all(rule):
            break
    for rule in rules:
        if not _fits(rule, asked) or not _reaches(rule, asked, past):
            continue
        if rule["action"] == "2-TIER":
            return "allow" if _agreed(rule["authorizationGroups"], asked, users) else "ask"
        return "allow" if rule["action"] == "ALLOW" else "block"
    return "block"


def _fits(rule: Rule, asked: Transfer) -> bool:
    operators = rule["operators"]
    may_ask = (
        operators.get("wildcard") == "*"
        or asked.operator in operators.get("users", ())
        or not asked.operator_groups.isdisjoint(operators.get("usersGroups", ()))
    )
    sources = [ids[0] for ids in rule["src"]["ids"]]
    return may_ask and ("*" in sources or asked.vault in sources) and _payee_fits(rule, asked.payees[0][0])


def _fits_all(rule: Rule) -> bool:
    is_open = rule["operators"].get("wildcard") == "*" and rule["src"]["ids"][0][0] == rule["dst"]["ids"][0][0] == "*"
    return bool(is_open and rule["dstAddressType"] == "*" and rule["amount"] == "0")


def _payee_fits(rule: Rule, name: str | None) -> bool:
    wanted = [ids[0] for ids in rule["dst"]["ids"]]
    kind = rule.get("dstAddressType", "*")
    return ("*" in wanted or name in wanted) and (kind == "*" or (kind == "WHITELISTED") == (name is not None))


def _reaches(rule: Rule, asked: Transfer, past: Sequence[Transfer]) -> bool:
    least = round(float(rule["amount"]) * 10**8)
    if rule["amountScope"] == "SINGLE_TX":
        return asked.sats >= least
    together = [each for each in past if asked.t - each.t < rule["periodSec"] and _fits(rule, each)]
    for key, same in (("operators", "operator"), ("srcTransferPeers", "vault")):
        if rule.get("amountAggregation", {}).get(key) == "PER_SINGLE_MATCH":
            together = [each for each in together if getattr(each, same) == getattr(asked, same)]
    return sum(each.sats + each.fee_sats for each in (*together, asked)) >= least


def _agreed(groups: Rule, asked: Transfer, members: Mapping[str, frozenset[str]]) -> bool:
    filled = []
    for group in groups["groups"]:
        voters = set(group.get("users", ())).union(*(members[name] for name in group.get("usersGroups", ())))
        filled.append(len((voters & asked.voters) - {asked.operator}) >= group["th"])
    return all(filled) if groups.get("logic", "AND") == "AND" else any(filled)


def coldcard(policy: Rule, asked: Transfer, addresses: Sequence[str], past: Sequence[Transfer]) -> str:
    """Return "allow" by the first rule that is satisfied, "ask" where more users would satisfy one, else "block"."""
    found = "block"
    for rule in policy["rules"]:
        if rule.get("wallet", asked.vault) != asked.vault or asked.sats > rule.get("max_amount", 21 * 10**14):
            continue
        if rule.get("whitelist") and not set(addresses) <= set(rule["whitelist"]):
            continue
        if "per_period" in rule:
            spent = sum(each.sats + each.fee_sats for each in (*past, asked))
            if spent > rule["per_period"]:
                continue
        users = rule.get("users", [])
        if len((asked.voters & set(users)) - {asked.operator}) >= rule.get("min_users", len(users)):
            return "allow"
        found = "ask"
    return found

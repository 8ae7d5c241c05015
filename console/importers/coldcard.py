"""Coldcard `hsm-policy.json`: an ordered list of rules, of which the first that is satisfied approves.

A rule is satisfied by a transaction together with who has authorised it, so what decides is whether any rule is: each
becomes an allow, and where every rule that fits wants users, a require asks for one of their quorums. Amounts count
without change and fee, as on the device. Its one velocity counter per rule depends on the order of what was signed and
is taken over only where there is one rule, as a sliding window: never wider than the device's fixed one. A transaction
that pays nobody needs an allow of ours with a bound on its fee.
"""

from __future__ import annotations

from itertools import combinations

from console.importers.reading import Foreign, Imported, Names, Object
from custody.canonical import Json
from custody.units import MAX_MONEY_SATS

MAX_PERIOD_MIN = 3 * 24 * 60  # as the device allows
MAX_USER_RULES = 6  # every combination of rules that want users becomes a rule: 63 of them
_TOP = frozenset({"must_log", "notes", "period", "rules", "priv_over_ux", "never_log", "warnings_ok"})
_RULE = frozenset(
    {"per_period", "max_amount", "users", "min_users", "local_conf", "whitelist", "whitelist_opts", "wallet"}
)


def import_coldcard(text: str, name: str, names: Names) -> Imported:
    """Return the policy in `text` as rules of ours.

    Raises:
        MalformedError: IMPORT_SHAPE, IMPORT_FIELD, IMPORT_NUMBER, IMPORT_NAME, IMPORT_VELOCITY, IMPORT_UNSUPPORTED, or
            a YAML_ code; each message begins NAME:LINE:COLUMN.
    """
    foreign = Foreign(text, name)
    top = foreign.object(foreign.value, "policy")
    foreign.known(top, "policy", _TOP)
    for key in ("never_log", "warnings_ok"):
        if top.get(key, False) is not False:
            foreign.refuse(f"policy.{key}", "IMPORT_UNSUPPORTED", "expected false: all is logged, nothing waived")
    listed = foreign.items(top.get("rules"), "policy.rules")
    found = [foreign.object(item, f"policy.rules[{at}]") for at, item in enumerate(listed)]
    conditions = [_condition(foreign, rule, f"policy.rules[{at}]", names) for at, rule in enumerate(found)]
    groups: dict[str, tuple[str, ...]] = {}
    votes = [_votes(foreign, rule, f"policy.rules[{at}]", names, groups, at + 1) for at, rule in enumerate(found)]
    rules: list[Object] = [
        {"id": f"coldcard-{at}", "kind": "allow", "match": dict(match)} for at, match in enumerate(conditions, 1)
    ]
    rules += _requires(foreign, conditions, votes)
    rules += _local_conf(foreign, found)
    limits, windows = _velocity(foreign, top, found, conditions)
    notes = ["the device's counters start anew at their period's end, these windows slide"] if limits else []
    return Imported((*rules, *limits), windows, groups, tuple(notes))


def _condition(foreign: Foreign, rule: Object, path: str, names: Names) -> Object:
    foreign.known(rule, path, _RULE)
    found: dict[str, Json] = {}
    if "wallet" in rule:
        if rule["wallet"] == "1":
            foreign.refuse(f"{path}.wallet", "IMPORT_UNSUPPORTED", "expected the name of a multisig wallet")
        found["wallet"] = {"names": [foreign.named(names.wallets, rule["wallet"], f"{path}.wallet", "wallet")]}
    if "max_amount" in rule:
        most = foreign.number(rule["max_amount"], f"{path}.max_amount", 0, MAX_MONEY_SATS)
        found["amount"] = {"max_sats": most, "include_fee": False}
    options = foreign.object(rule.get("whitelist_opts", {}), f"{path}.whitelist_opts")
    if options.get("mode", "BASIC") != "BASIC" or options.get("allow_zeroval_outs", False) is not False:
        foreign.refuse(f"{path}.whitelist_opts", "IMPORT_UNSUPPORTED", "expected mode BASIC alone")
    if addresses := [
        foreign.text(item, f"{path}.whitelist[{at}]")
        for at, item in enumerate(foreign.items(rule.get("whitelist"), f"{path}.whitelist"))
    ]:
        found["destination"] = {"addresses": list(addresses)}
    return found


def _votes(
    foreign: Foreign, rule: Object, path: str, names: Names, groups: dict[str, tuple[str, ...]], number: int
) -> Json | None:
    """Return whose approvals the rule wants, or None where it wants none."""
    users = [
        foreign.named(names.users, item, f"{path}.users[{at}]", "user")
        for at, item in enumerate(foreign.items(rule.get("users"), f"{path}.users"))
    ]
    least = foreign.number(rule.get("min_users", len(users)), f"{path}.min_users", 0, len(users))
    if not least:
        return None
    groups[f"coldcard-{number}"] = tuple(users)
    return {"group": f"coldcard-{number}", "threshold": least}


def _requires(foreign: Foreign, conditions: list[Object], votes: list[Json | None]) -> list[Object]:
    """Return a require for each set of rules that could fit together, all of which want users: one quorum is enough."""
    free = [condition for condition, wanted in zip(conditions, votes, strict=True) if wanted is None]
    asking = [at for at, wanted in enumerate(votes) if wanted is not None]
    if len(asking) > MAX_USER_RULES:
        foreign.refuse("policy.rules", "IMPORT_UNSUPPORTED", f"expected at most {MAX_USER_RULES} rules with users")
    if any(not condition for condition in free):
        return []  # a rule that fits everything wants nobody
    found: list[Object] = []
    for size in range(1, len(asking) + 1):
        for chosen in combinations(asking, size):
            others = [conditions[at] for at in asking if at not in chosen] + free
            if any(not condition for condition in others):
                continue  # a rule that fits everything is in every set
            match: dict[str, Json] = {"all_of": [dict(conditions[at]) for at in chosen if conditions[at]]}
            if not match["all_of"]:
                match = {}
            if others:
                match["not"] = {"any_of": [dict(condition) for condition in others]}
            parts: list[Json] = [wanted for at in chosen if (wanted := votes[at]) is not None]
            then: Json = {"approvals": parts[0] if len(parts) == 1 else {"any_of": parts}}
            name = "coldcard-asks-" + "-".join(str(at + 1) for at in chosen)
            found.append({"id": name, "kind": "require", "match": match, "then": then})
    return found


def _local_conf(foreign: Foreign, rules: list[Object]) -> list[Object]:
    wanted = [rule.get("local_conf", False) for rule in rules]
    if not any(wanted):
        return []
    if not all(found is True for found in wanted):
        at = wanted.index(next(found for found in wanted if found is not True))
        what = "expected local_conf in every rule or in none: one of them alone would do"
        foreign.refuse(f"policy.rules[{at}]", "IMPORT_UNSUPPORTED", what)
    return [{"id": "coldcard-local", "kind": "require", "match": {}, "then": {"local_conf": True}}]


def _velocity(
    foreign: Foreign, top: Object, rules: list[Object], conditions: list[Object]
) -> tuple[list[Object], dict[str, Json]]:
    with_counter = [at for at, rule in enumerate(rules) if "per_period" in rule]
    if not with_counter:
        return [], {}
    at = with_counter[0]
    if len(rules) > 1:
        what = "expected per_period in a policy of one rule: which counter is charged depends on the order"
        foreign.refuse(f"policy.rules[{at}].per_period", "IMPORT_VELOCITY", what)
    most = foreign.number(rules[at]["per_period"], f"policy.rules[{at}].per_period", 0, MAX_MONEY_SATS)
    minutes = foreign.number(top.get("period"), "policy.period", 1, MAX_PERIOD_MIN)
    then: Json = {"window": "coldcard", "max_sats": most, "on_exceed": "deny"}
    limit: Object = {"id": "coldcard-period", "kind": "limit", "match": dict(conditions[at]), "then": then}
    return [limit], {"coldcard": {"type": "sliding", "seconds": minutes * 60}}

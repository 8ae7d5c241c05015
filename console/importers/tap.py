"""Fireblocks TAP rules: an ordered list of which the first that matches decides; where none does, nothing is signed.

Rule n becomes rules of ours that speak where rule n matches and no earlier one does: ALLOW an allow, BLOCK a deny,
2-TIER an allow with a require. A BLOCK over a TIMEFRAME becomes a limit, and must stand in front of what allows: behind
it, it would not be asked (a documented trap of first-match lists). Amounts count without the fee in single rules, and
with the largest fee in limits, as every budget here does. A batch whose payees fall under different rules is denied.
"""

from __future__ import annotations

from dataclasses import dataclass

from console.importers.reading import Foreign, Imported, Names, Object, unless
from custody.canonical import Json

DIGITS = 8  # of a bitcoin, behind the point
MAX_PERIOD_S = 400 * 86_400  # as long as our windows
BITCOIN = frozenset({"*", "BTC", "BTC_TEST"})
_KNOWN = frozenset(
    {
        "type",
        "action",
        "asset",
        "amountCurrency",
        "amountScope",
        "amount",
        "periodSec",
        "operators",
        "transactionType",
        "designatedSigners",
        "src",
        "dst",
        "dstAddressType",
        "authorizationGroups",
        "amountAggregation",
        "externalDescriptor",
        "applyForApprove",
        "applyForTypedMessage",
    }
)
_LISTED = frozenset({"EXTERNAL_WALLET", "UNMANAGED", "EXCHANGE", "NETWORK_CONNECTION"})
_GROUP_BY = {"operators": "initiator", "srcTransferPeers": "wallet", "dstTransferPeers": "destination"}


@dataclass
class _State:
    """What was made so far. earlier: conditions of the rules in front, none of which may hold."""

    rules: list[Object]
    earlier: list[Object]
    windows: dict[str, Json]
    groups: dict[str, tuple[str, ...]]
    destinations: list[Object]
    notes: list[str]
    may_allow: bool = False  # whether a rule in front lets something through


def import_tap(text: str, name: str, names: Names) -> Imported:
    """Return the TAP rules in `text` (JSON: a list of rules, {"rules"}, or {"policy": {"rules"}}) as rules of ours.

    Raises:
        MalformedError: IMPORT_SHAPE, IMPORT_FIELD, IMPORT_NUMBER, IMPORT_NAME, IMPORT_CURRENCY, IMPORT_ORDER,
            IMPORT_UNSUPPORTED, or a YAML_ code; each message begins NAME:LINE:COLUMN.
    """
    foreign = Foreign(text, name)
    listed, path = _rules_of(foreign)
    state = _State([], [], {}, {}, [], [])
    for at, item in enumerate(listed):
        where = f"{path}[{at}]"
        if state.earlier and not state.earlier[-1]:
            state.notes.append(f"rules from {at + 1} on can never match and were left out")
            break
        _rule(foreign, foreign.object(item, where), where, names, state, at + 1)
    for number, found in enumerate(state.destinations, 1):
        some = {"destination": {**_inner(found), "quantifier": "any"}}
        mixed: Object = {"all_of": [some, {"not": dict(found)}]}
        state.rules.append(_made(f"tap-mixed-{number}", "deny", mixed, reason_code="TAP_MIXED_PAYEES"))
    return Imported(tuple(state.rules), state.windows, state.groups, tuple(state.notes))


def _rules_of(foreign: Foreign) -> tuple[list[Json], str]:
    value, path = foreign.value, "policy"
    for key in ("policy", "rules"):
        if isinstance(value, dict) and key in value:
            value, path = value[key], f"{path}.{key}"
    return foreign.items(value, path), path


def _rule(foreign: Foreign, rule: Object, path: str, names: Names, state: _State, number: int) -> None:
    foreign.known(rule, path, _KNOWN)
    for key in ("applyForApprove", "applyForTypedMessage"):
        if rule.get(key, False) is not False:
            foreign.refuse(f"{path}.{key}", "IMPORT_UNSUPPORTED", "expected false: there are no contracts here")
    if rule.get("transactionType", "TRANSFER") != "TRANSFER" or rule.get("asset") not in BITCOIN:
        state.notes.append(f"rule {number} speaks of other things than transfers of bitcoin and was left out")
        return
    action = foreign.text(rule.get("action"), f"{path}.action")
    if action not in ("ALLOW", "BLOCK", "2-TIER"):
        foreign.refuse(f"{path}.action", "IMPORT_UNSUPPORTED", f"expected ALLOW, BLOCK or 2-TIER, found {action!r}")
    condition = _condition(foreign, rule, path, names, state)
    if foreign.text(rule.get("amountScope"), f"{path}.amountScope") == "TIMEFRAME":
        _timeframe(foreign, rule, path, condition, state, number, action)
        return
    if least := _amount(foreign, rule, path):
        condition = {**condition, "amount": {"min_sats": least, "include_fee": False}}
    match = unless(condition, state.earlier)
    state.earlier.append(condition)
    if action == "BLOCK":
        state.rules.append(_made(f"tap-{number}", "deny", match, rule, reason_code="TAP_BLOCK"))
        return
    state.may_allow = True
    state.rules.append(_made(f"tap-{number}", "allow", match, rule))
    then: dict[str, Json] = {}
    if action == "2-TIER":
        then["approvals"] = _approvals(foreign, rule.get("authorizationGroups"), path, names, state, number)
    if "designatedSigners" in rule:
        then["signers"] = {"include": [_signer(foreign, rule["designatedSigners"], path, names)]}
    if then:
        state.rules.append(_made(f"tap-{number}-asks", "require", match, then=then))


def _made(name: str, kind: str, match: Object, rule: Object | None = None, **more: Json) -> Object:
    told = {} if rule is None or "externalDescriptor" not in rule else {"description": str(rule["externalDescriptor"])}
    return {"id": name, "kind": kind, "match": dict(match), **told, **more}


def _condition(foreign: Foreign, rule: Object, path: str, names: Names, state: _State) -> Object:
    """Return what the rule asks of initiator, wallet and payees; the amount is read by its scope."""
    found: dict[str, Json] = {}
    operators = foreign.object(rule.get("operators"), f"{path}.operators")
    foreign.known(operators, f"{path}.operators", frozenset({"wildcard", "users", "usersGroups", "services"}))
    if operators.get("wildcard") != "*":
        found["initiator"] = {
            ours: [foreign.named(getattr(names, kind), item, f"{path}.operators.{key}", kind) for item in listed]
            for key, ours, kind in (
                ("users", "users", "users"),
                ("usersGroups", "groups", "groups"),
                ("services", "services", "users"),
            )
            if (listed := foreign.items(operators.get(key), f"{path}.operators.{key}"))
        }
        if not found["initiator"]:
            foreign.refuse(f"{path}.operators", "IMPORT_SHAPE", "expected a wildcard, or somebody")
    if wallets := _wallets(foreign, rule.get("src"), f"{path}.src", names):
        found["wallet"] = {"names": wallets}
    if destination := _destination(foreign, rule, path, names):
        found["destination"] = destination
        if {"destination": destination} not in state.destinations:
            state.destinations.append({"destination": destination})
    return found


def _ids(foreign: Foreign, value: Json | None, path: str) -> list[tuple[str, str, str]]:
    """Return (id, type, path) of each source or destination."""
    listed = foreign.items(foreign.object(value, path).get("ids"), f"{path}.ids")
    found = []
    for at, item in enumerate(listed):
        where = f"{path}.ids[{at}]"
        parts = [foreign.text(part, where) for part in foreign.items(item, where)]
        if not 1 <= len(parts) <= 3:
            foreign.refuse(where, "IMPORT_SHAPE", "expected [id], [id, type] or [id, type, subtype]")
        found.append((parts[0], parts[1] if len(parts) > 1 else "*", where))
    if not found:
        foreign.refuse(path, "IMPORT_SHAPE", "expected at least one id")
    return found


def _wallets(foreign: Foreign, value: Json | None, path: str, names: Names) -> list[Json]:
    found: list[Json] = []
    for name, kind, where in _ids(foreign, value, path):
        if kind not in ("*", "VAULT"):
            foreign.refuse(where, "IMPORT_UNSUPPORTED", f"expected a vault as source, found {kind!r}")
        if name == "*":
            return []
        found.append(foreign.named(names.wallets, name, where, "wallet"))
    return found


def _destination(foreign: Foreign, rule: Object, path: str, names: Names) -> dict[str, Json]:
    found: dict[str, Json] = {}
    lists: list[Json] = []
    for name, kind, where in _ids(foreign, rule.get("dst"), f"{path}.dst"):
        if (name, kind) == ("*", "*"):
            lists = []
            break
        if name == "*" or kind not in _LISTED:
            foreign.refuse(where, "IMPORT_UNSUPPORTED", f"expected a named external wallet, found {name!r} of {kind!r}")
        lists.append(foreign.named(names.lists, name, where, "list"))
    if lists:
        found["lists"] = lists
    address_type = rule.get("dstAddressType", "*")
    if address_type not in ("*", "WHITELISTED", "ONE_TIME"):
        foreign.refuse(f"{path}.dstAddressType", "IMPORT_UNSUPPORTED", "expected WHITELISTED, ONE_TIME or *")
    if address_type != "*":
        found["class"] = "listed" if address_type == "WHITELISTED" else "one_time"
    return found


def _inner(found: Object) -> dict[str, Json]:
    inner = found["destination"]
    return dict(inner) if isinstance(inner, dict) else {}


def _amount(foreign: Foreign, rule: Object, path: str) -> int:
    """Return the least amount in sats from which the rule speaks; text or number, in bitcoin."""
    text = foreign.text(rule.get("amount"), f"{path}.amount")
    whole, _, part = text.partition(".")
    if not (whole.isascii() and whole.isdigit()) or len(part) > DIGITS or (part and not part.isdigit()):
        foreign.refuse(f"{path}.amount", "IMPORT_NUMBER", f"expected an amount in bitcoin, found {text[:30]!r}")
    sats = int(whole + part.ljust(DIGITS, "0"))
    if sats and rule.get("amountCurrency") != "NATIVE":
        foreign.refuse(f"{path}.amountCurrency", "IMPORT_CURRENCY", "expected NATIVE: no signer knows a price")
    return sats


def _timeframe(
    foreign: Foreign, rule: Object, path: str, condition: Object, state: _State, number: int, action: str
) -> None:
    if action != "BLOCK":
        what = f"expected BLOCK with TIMEFRAME, found {action}: what it lets through is decided by rules behind it"
        foreign.refuse(f"{path}.action", "IMPORT_UNSUPPORTED", what)
    if state.may_allow:
        foreign.refuse(f"{path}.amountScope", "IMPORT_ORDER", "expected in front of every rule that allows")
    least = _amount(foreign, rule, path)
    if not least:
        foreign.refuse(f"{path}.amount", "IMPORT_NUMBER", "expected an amount that can be reached")
    period_s = foreign.number(rule.get("periodSec"), f"{path}.periodSec", 1, MAX_PERIOD_S)
    window = f"tap-{period_s}s"
    state.windows[window] = {"type": "sliding", "seconds": period_s}
    then: dict[str, Json] = {"window": window, "max_sats": least - 1, "on_exceed": "deny"}
    aggregation = foreign.object(rule.get("amountAggregation", {}), f"{path}.amountAggregation")
    foreign.known(aggregation, f"{path}.amountAggregation", frozenset(_GROUP_BY))
    group_by: list[Json] = [ours for key, ours in _GROUP_BY.items() if aggregation.get(key) == "PER_SINGLE_MATCH"]
    if group_by:
        then["group_by"] = group_by
    state.rules.append(_made(f"tap-{number}", "limit", condition, rule, then=then, reason_code="TAP_BLOCK"))


def _approvals(
    foreign: Foreign, value: Json | None, path: str, names: Names, state: _State, number: int
) -> dict[str, Json]:
    where = f"{path}.authorizationGroups"
    found = foreign.object(value, where)
    foreign.known(found, where, frozenset({"logic", "allowOperatorAsAuthorizer", "groups"}))
    if found.get("allowOperatorAsAuthorizer", False) is not False:
        foreign.refuse(f"{where}.allowOperatorAsAuthorizer", "IMPORT_UNSUPPORTED", "an initiator never counts here")
    parts = [
        _votes(foreign, foreign.object(item, f"{where}.groups[{at}]"), f"{where}.groups[{at}]", names, state, number)
        for at, item in enumerate(foreign.items(found.get("groups"), f"{where}.groups"))
    ]
    if not parts:
        foreign.refuse(where, "IMPORT_SHAPE", "expected at least one group")
    logic = found.get("logic", "AND" if len(parts) == 1 else None)
    if logic not in ("AND", "OR"):
        foreign.refuse(f"{where}.logic", "IMPORT_SHAPE", "expected AND or OR")
    return parts[0] if len(parts) == 1 else {"all_of" if logic == "AND" else "any_of": list(parts)}


def _votes(foreign: Foreign, found: Object, path: str, names: Names, state: _State, number: int) -> dict[str, Json]:
    """Return a part of the tree. Users by name become a group of their own, made for this rule."""
    foreign.known(found, path, frozenset({"users", "usersGroups", "th"}))
    users = [
        foreign.named(names.users, item, f"{path}.users", "user")
        for item in foreign.items(found.get("users"), f"{path}.users")
    ]
    groups = [
        foreign.named(names.groups, item, f"{path}.usersGroups", "group")
        for item in foreign.items(found.get("usersGroups"), f"{path}.usersGroups")
    ]
    threshold = foreign.number(found.get("th"), f"{path}.th", 1, 64)
    if users:
        groups.append(f"tap-{number}-{len(state.groups) + 1}")
        state.groups[groups[-1]] = tuple(users)
    if not groups or (len(groups) > 1 and threshold > 1):
        what = "expected users, or one group, where more than one of them must approve"
        foreign.refuse(path, "IMPORT_UNSUPPORTED", what)
    parts: list[Json] = [{"group": group, "threshold": threshold} for group in groups]
    return {"any_of": parts} if len(parts) > 1 else {"group": groups[0], "threshold": threshold}


def _signer(foreign: Foreign, value: Json, path: str, names: Names) -> str:
    where = f"{path}.designatedSigners"
    found = foreign.object(value, where)
    foreign.known(found, where, frozenset({"users"}))
    users = foreign.items(found.get("users"), where)
    if len(users) != 1:
        foreign.refuse(where, "IMPORT_UNSUPPORTED", "expected one signer: any of several cannot be said here")
    return foreign.named(names.signers, users[0], where, "signer")

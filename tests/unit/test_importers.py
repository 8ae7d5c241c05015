"""Importers: what cannot be said the same way is refused at its line, and what is imported is a whole document."""

import json
from pathlib import Path
from typing import Any

import pytest

from console.importers.coldcard import import_coldcard
from console.importers.reading import Names
from console.importers.tap import import_tap
from custody.errors import MalformedError
from tests.desk import keyturn
from tests.fakes.rules import EXCHANGE, PAY, address, document

NAMES = Names(
    users={"u": "alice", "v": "bob"}, groups={"g": "ops"}, wallets={"0": "treasury"}, lists={"w": "exchanges"}
)
RULE: dict[str, Any] = {
    "type": "TRANSFER",
    "asset": "BTC",
    "action": "ALLOW",
    "operators": {"wildcard": "*"},
    "src": {"ids": [["*"]]},
    "dst": {"ids": [["*"]]},
    "amountCurrency": "NATIVE",
    "amountScope": "SINGLE_TX",
    "amount": "0",
    "periodSec": 0,
}
ASK: dict[str, Any] = {"action": "2-TIER", "authorizationGroups": {"groups": [{"usersGroups": ["g"], "th": 1}]}}
FRAME = {"amountScope": "TIMEFRAME", "periodSec": 60, "amount": "1", "action": "BLOCK"}


def groups(**changes: Any) -> dict[str, Any]:
    """Return a 2-TIER rule with its authorization groups changed."""
    return {**ASK, "authorizationGroups": {**ASK["authorizationGroups"], **changes}}


TAP_REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": ({"moon": 1}, "IMPORT_FIELD", "moon"),
    "a fiat amount": ({"amountCurrency": "USD", "amount": "15000"}, "IMPORT_CURRENCY", "amountCurrency"),
    "an amount of words": ({"amount": "much"}, "IMPORT_NUMBER", "amount"),
    "nine digits behind the point": ({"amount": "0.000000001"}, "IMPORT_NUMBER", "amount"),
    "a negative amount": ({"amount": "-1"}, "IMPORT_NUMBER", "amount"),
    "an unknown action": ({"action": "MAYBE"}, "IMPORT_UNSUPPORTED", "action"),
    "approve of contracts": ({"applyForApprove": True}, "IMPORT_UNSUPPORTED", "applyForApprove"),
    "an unknown operator": ({"operators": {"users": ["x"]}}, "IMPORT_NAME", "operators"),
    "nobody as operator": ({"operators": {"users": []}}, "IMPORT_SHAPE", "operators"),
    "an exchange as source": ({"src": {"ids": [["*", "EXCHANGE"]]}}, "IMPORT_UNSUPPORTED", "src"),
    "an unknown vault": ({"src": {"ids": [["9", "VAULT"]]}}, "IMPORT_NAME", "src"),
    "a vault as destination": ({"dst": {"ids": [["0", "VAULT"]]}}, "IMPORT_UNSUPPORTED", "dst"),
    "any exchange": ({"dst": {"ids": [["*", "EXCHANGE"]]}}, "IMPORT_UNSUPPORTED", "dst"),
    "no destination": ({"dst": {"ids": []}}, "IMPORT_SHAPE", "dst"),
    "another address type": ({"dstAddressType": "TWO_TIME"}, "IMPORT_UNSUPPORTED", "dstAddressType"),
    "accumulation that allows": ({**FRAME, "action": "ALLOW"}, "IMPORT_UNSUPPORTED", "action"),
    "accumulation of nothing": ({**FRAME, "amount": "0"}, "IMPORT_NUMBER", "amount"),
    "accumulation for ever": ({**FRAME, "periodSec": 10**9}, "IMPORT_NUMBER", "periodSec"),
    "an operator who approves": (groups(allowOperatorAsAuthorizer=True), "IMPORT_UNSUPPORTED", "authorizationGroups"),
    "no approvers": (groups(groups=[]), "IMPORT_SHAPE", "authorizationGroups"),
    "two parts without logic": (
        groups(groups=ASK["authorizationGroups"]["groups"] * 2),
        "IMPORT_SHAPE",
        "authorizationGroups",
    ),
    "two of two groups together": (
        groups(groups=[{"usersGroups": ["g"], "users": ["u"], "th": 2}]),
        "IMPORT_UNSUPPORTED",
        "authorizationGroups",
    ),
    "any of two signers": ({"designatedSigners": {"users": ["u", "v"]}}, "IMPORT_UNSUPPORTED", "designatedSigners"),
}


@pytest.mark.parametrize("name", TAP_REFUSED)
def test_tap_given_what_cannot_be_said_is_refused_at_its_line(name: str) -> None:
    """The line is that of the field, in the file as it is."""
    change, code, field = TAP_REFUSED[name]
    text = json.dumps([{**RULE, **change}], indent=1)

    with pytest.raises(MalformedError) as raised:
        import_tap(text, "tap.json", NAMES)

    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines, 1) if line.startswith(f'  "{field}"'))
    assert raised.value.code == code
    assert raised.value.message.startswith("tap.json:")
    assert int(raised.value.message.split(":")[1]) >= first


def test_tap_given_accumulation_behind_an_allow_is_refused() -> None:
    """There it would never be asked: the trap of first-match lists."""
    with pytest.raises(MalformedError, match="IMPORT_ORDER"):
        import_tap(json.dumps([{**RULE, "amount": "1"}, {**RULE, **FRAME}]), "tap.json", NAMES)


def test_tap_given_rules_of_other_things_leaves_them_out_and_says_so() -> None:
    """Neither ether nor contracts are transfers of bitcoin; what stands behind a rule for everything is dead."""
    rules = [{**RULE, "asset": "ETH"}, {**RULE, "transactionType": "MINT"}, {**RULE, "action": "BLOCK"}, RULE]

    found = import_tap(json.dumps({"policy": {"rules": rules}}), "tap.json", NAMES)

    assert [rule["id"] for rule in found.rules] == ["tap-3"]
    assert len(found.notes) == 3


COLDCARD_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"rules": [{"moon": 1}]}, "IMPORT_FIELD"),
    "an unknown top field": ({"boot_to_hsm": "123456", "rules": []}, "IMPORT_FIELD"),
    "a log that is never written": ({"never_log": True, "rules": []}, "IMPORT_UNSUPPORTED"),
    "warnings that are waived": ({"warnings_ok": True, "rules": []}, "IMPORT_UNSUPPORTED"),
    "single-signer wallets": ({"rules": [{"wallet": "1"}]}, "IMPORT_UNSUPPORTED"),
    "an unknown wallet": ({"rules": [{"wallet": "x"}]}, "IMPORT_NAME"),
    "an unknown user": ({"rules": [{"users": ["x"]}]}, "IMPORT_NAME"),
    "more users than there are": ({"rules": [{"users": ["u"], "min_users": 2}]}, "IMPORT_NUMBER"),
    "attested addresses": ({"rules": [{"whitelist_opts": {"mode": "ATTEST"}}]}, "IMPORT_UNSUPPORTED"),
    "self-transfers by share": ({"rules": [{"min_pct_self_transfer": 99}]}, "IMPORT_FIELD"),
    "a counter among others": ({"period": 9, "rules": [{"per_period": 1}, {}]}, "IMPORT_VELOCITY"),
    "a counter without a period": ({"rules": [{"per_period": 1}]}, "IMPORT_NUMBER"),
    "a local code for some": ({"rules": [{"local_conf": True}, {}]}, "IMPORT_UNSUPPORTED"),
    "seven rules with users": ({"rules": [{"users": ["u"], "max_amount": n} for n in range(7)]}, "IMPORT_UNSUPPORTED"),
}


@pytest.mark.parametrize("name", COLDCARD_REFUSED)
def test_coldcard_given_what_cannot_be_said_is_refused(name: str) -> None:
    """By code, with file, line and column."""
    change, code = COLDCARD_REFUSED[name]

    with pytest.raises(MalformedError) as raised:
        import_coldcard(json.dumps(change), "hsm-policy.json", NAMES)

    assert raised.value.code == code
    assert raised.value.message.startswith("hsm-policy.json:1:")


def test_coldcard_given_a_local_code_everywhere_asks_for_it() -> None:
    """The device's local confirmation is our local_conf."""
    found = import_coldcard(json.dumps({"rules": [{"local_conf": True}]}), "hsm-policy.json", NAMES)

    assert {"id": "coldcard-local", "kind": "require", "match": {}, "then": {"local_conf": True}} in found.rules


def test_import_given_a_base_writes_a_whole_document(tmp_path: Path) -> None:
    """The rules are replaced, users stand in the groups that rules need, and nothing is overwritten."""
    base, names, foreign, out = (tmp_path / name for name in ("base.json", "names.yaml", "hsm.json", "out.yaml"))
    base.write_text(json.dumps(document(PAY)))
    names.write_text("users: {u: alice, v: bob}\n")
    foreign.write_text(
        json.dumps({"period": 60, "rules": [{"users": ["u", "v"], "per_period": 9, "whitelist": [address(EXCHANGE)]}]})
    )
    arguments = (
        "policy",
        "import",
        "coldcard",
        str(foreign),
        "--base",
        str(base),
        "--names",
        str(names),
        "--out",
        str(out),
    )

    ran = keyturn(*arguments, "-o", "json")
    shown = keyturn("policy", "show", str(out), "-o", "json")

    assert ran.code == 0, ran.err
    assert ran.json["policy_hash"] == shown.json["policy_hash"]
    assert [rule["id"] for rule in shown.json["rules"]] == ["coldcard-1", "coldcard-asks-1", "coldcard-period"]
    assert "coldcard-1" in out.read_text()
    assert keyturn(*arguments).code == 3


def test_import_given_names_of_no_kind_is_refused(tmp_path: Path) -> None:
    """A misspelt kind would leave its ids unknown."""
    (tmp_path / "names.yaml").write_text("people: {u: alice}\n")
    (tmp_path / "x.json").write_text("{}")

    ran = keyturn(
        "policy",
        "import",
        "tap",
        str(tmp_path / "x.json"),
        "--base",
        "b",
        "--out",
        "o",
        "--names",
        str(tmp_path / "names.yaml"),
    )

    assert "IMPORT_NAMES" in ran.err

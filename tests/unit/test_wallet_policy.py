"""Wallet policies: what hardware signers register, to and from our wallets; the vectors are in test_official."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import Network
from custody.wallet_policy import WalletPolicy, from_policy, to_policy
from tests.fakes.psbts import wallet_of

WALLET = wallet_of()
POLICY = to_policy(WALLET)
LONG = POLICY.template.replace("/**", "/<0;1>/*")


def code_of(policy: WalletPolicy, network: Network = Network.REGTEST) -> str:
    """Return the code with which `policy` is refused, or OK."""
    try:
        from_policy(policy, network)
    except MalformedError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize("template", [Template.WSH, Template.SH_WSH])
@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (2, 3), (15, 15)])
def test_from_policy_given_the_policy_of_a_wallet_returns_it(template: Template, threshold: int, count: int) -> None:
    """Both ways, nothing lost, whichever the m and n."""
    wallet = wallet_of(threshold, count, template=template)

    assert from_policy(to_policy(wallet), Network.REGTEST) == wallet


def test_to_policy_writes_placeholders_and_keys_as_the_bip_does() -> None:
    """One placeholder per key in the order of the descriptor; hardened steps with an apostrophe."""
    assert POLICY.template == "wsh(sortedmulti(2,@0/**,@1/**,@2/**))"
    assert [key.replace("'", "h") for key in POLICY.keys] == [key.expression for key in WALLET.keys]
    assert all("]" in key and "h" not in key.partition("]")[0] for key in POLICY.keys)


@pytest.mark.parametrize("template", [Template.TR, Template.TR_SORTED])
def test_to_policy_given_a_taproot_wallet_refuses(template: Template) -> None:
    """An internal key that nobody has is no placeholder."""
    with pytest.raises(MalformedError, match="POLICY_TEMPLATE"):
        to_policy(wallet_of(template=template))


CHANGES = {
    "the long form": (replace(POLICY, template=LONG), "OK"),
    "no path": (replace(POLICY, template=POLICY.template.replace("/**", "", 1)), "POLICY_PLACEHOLDER"),
    "other branches": (replace(POLICY, template=LONG.replace("<0;1>", "<2;3>", 1)), "POLICY_PLACEHOLDER"),
    "out of order": (replace(POLICY, template="wsh(sortedmulti(2,@1/**,@0/**,@2/**))"), "POLICY_ORDER"),
    "one skipped": (replace(POLICY, template="wsh(sortedmulti(2,@0/**,@2/**))"), "POLICY_ORDER"),
    "a leading zero": (replace(POLICY, template="wsh(sortedmulti(2,@00/**,@1/**,@2/**))"), "POLICY_ORDER"),
    "multi": (replace(POLICY, template=POLICY.template.replace("sortedmulti", "multi")), "POLICY_TEMPLATE"),
    "a key in the template": (
        replace(POLICY, template=f"wsh(sortedmulti(2,@0/**,{POLICY.keys[1]}/<0;1>/*))"),
        "POLICY_TEMPLATE",
    ),
    "no placeholder": (WalletPolicy("wsh(sortedmulti(2))", ()), "POLICY_TEMPLATE"),
    "one key less": (replace(POLICY, keys=POLICY.keys[:2]), "POLICY_KEYS"),
    "a key with a path": (replace(POLICY, keys=(POLICY.keys[0] + "/<0;1>/*", *POLICY.keys[1:])), "POLICY_KEYS"),
    "two keys in one": (replace(POLICY, keys=(",".join(POLICY.keys[:2]), *POLICY.keys[1:])), "POLICY_KEYS"),
    "one key twice": (replace(POLICY, keys=POLICY.keys[:1] * 3), "DESCRIPTOR_DUPLICATE_KEY"),
    "a character of no descriptor": (replace(POLICY, keys=("\u00e9", *POLICY.keys[1:])), "DESCRIPTOR_CHARACTER"),
    "m above n": (replace(POLICY, template=POLICY.template.replace("2,", "4,")), "DESCRIPTOR_THRESHOLD"),
    "too long": (replace(POLICY, template=POLICY.template + " " * 512), "POLICY_TOO_LONG"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_from_policy_given_one_change_answers_with_its_code(name: str) -> None:
    """One valid policy, one change, one code."""
    policy, code = CHANGES[name]

    assert code_of(policy) == code


def test_from_policy_given_another_network_refuses() -> None:
    """Test keys are no keys of mainnet."""
    assert code_of(POLICY, Network.MAINNET) == "DESCRIPTOR_NETWORK"

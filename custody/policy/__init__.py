"""The policy language: one rules document, judged by the coordinator and again by every signer node.

`parse_policy` reads it, `custody.decide` judges by it, `lint` finds what its authors did not mean.
"""

from custody.policy.document import (
    Admin,
    ChangeQuorum,
    Credential,
    DestinationList,
    Limits,
    ListEntry,
    Location,
    Mode,
    Node,
    Policy,
    Principal,
    Quorum,
    Roots,
    Rule,
    RuleKind,
    WalletName,
    Window,
    Witness,
)
from custody.policy.parse import parse_policy, policy_hash

__all__ = [
    "Admin",
    "ChangeQuorum",
    "Credential",
    "DestinationList",
    "Limits",
    "ListEntry",
    "Location",
    "Mode",
    "Node",
    "Policy",
    "Principal",
    "Quorum",
    "Roots",
    "Rule",
    "RuleKind",
    "WalletName",
    "Window",
    "Witness",
    "parse_policy",
    "policy_hash",
]

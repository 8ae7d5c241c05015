"""A rules document in a person's hands: read from a file, shown in words, linted against the pinned genesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from console.files import read_file
from console.policy.text import MAX_TEXT_BYTES, Written, parse_written, read_text
from console.rules import rule_words
from custody.canonical import Json
from custody.errors import MalformedError
from custody.genesis import Genesis
from custody.policy import Policy, Rule
from custody.policy.match import coordinator_only, leaves
from custody.policy.places import WalletKeys, wallet_keys
from custody.policy.terms import Evidence

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Draft:
    """A document as written, and what it says."""

    written: Written
    policy: Policy


def read_draft(path: Path) -> Draft:
    """Return the rules in the file `path`, YAML or JSON.

    Raises:
        MalformedError: FILE_UNREADABLE, FILE_TOO_LARGE, YAML_ENCODING, or what `read_text` and `parse_written` refuse.
    """
    written = read_written(path)
    return Draft(written, parse_written(written))


def read_written(path: Path) -> Written:
    """Return what stands in the file `path`, which may not be a whole document of rules yet."""
    raw = read_file(path, MAX_TEXT_BYTES)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("YAML_ENCODING", f"{path.name}: expected UTF-8, found byte {error.start}") from error
    return read_text(text, path.name)


def is_file(name: str) -> bool:
    """Return whether `name`, typed where a withdrawal may be named too, means a file of rules."""
    return Path(name).suffix in SUFFIXES


def keys_of(genesis: Genesis, policy: Policy) -> tuple[WalletKeys, ...]:
    """Return where the keys of the wallets of `genesis` stand under the rules `policy`."""
    return tuple(
        wallet_keys(policy, w.name, w.wallet.threshold, [(slot.node, slot.admin) for slot in w.slots])
        for w in genesis.wallets
    )


def who_judges(rule: Rule) -> str:
    """Return whose facts `rule` rests on: "bytes, signed", or that signers skip it."""
    if told := coordinator_only(rule.match):
        return f"the coordinator alone ({', '.join(told)})"
    found = {evidence for term in leaves(rule.match) if (evidence := getattr(term, "evidence", None)) is not None}
    if rule.budget is not None:
        found.add(Evidence.LOG)
    return ", ".join(sorted(evidence.value for evidence in found)) or "nothing: it always speaks"


def explain_rules(policy: Policy) -> Sequence[tuple[str, str, str, str, str]]:
    """Return a row per rule: kind, id, mode, what it says, and where its facts come from."""
    return [
        (
            rule.kind.value,
            rule.id,
            "" if rule.mode.value == "enforce" else rule.mode.value,
            rule_words(rule),
            who_judges(rule),
        )
        for rule in policy.rules
    ]


def rules_json(policy: Policy) -> list[Json]:
    """Return the same for programs."""
    return [
        {"kind": kind, "id": name, "mode": mode or "enforce", "says": says, "evidence": evidence}
        for kind, name, mode, says, evidence in explain_rules(policy)
    ]

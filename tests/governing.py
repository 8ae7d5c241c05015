"""The next version of the rules, as an honest or a dishonest admin writes it, and its signatures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from custody.canonical import decode
from custody.entries import Document as Named
from custody.entries import EntryKind
from custody.genesis import Genesis
from custody.policy import policy_hash
from custody.statements import Kind, Signed, endorse, sign
from tests.fakes.rules import Document, rule, seed_of
from tests.world import World

ADMINS = ("erin", "frank", "grace")  # two, and one more for the author, who does not count
CLOSED = rule("closed", "deny", {}, reason_code="CLOSED")
OPEN_ALL = rule("open", "allow", {"amount": {"max_sats": 2_000_000_000}})
Edit = Callable[[Document], object]


def document_of(genesis: Genesis) -> Document:
    """Return version 1, to be edited."""
    return cast("Document", decode(genesis.rules_document))


def after(old: Document, *edits: Edit, **changes: Any) -> Document:
    """Return the next version of `old`: edited, then with `changes` at the top."""
    new: Document = copy.deepcopy(old)
    new["version"], new["prev_hash"] = old["version"] + 1, policy_hash(old).hex()
    for edit in edits:
        edit(new)
    new.update(changes)
    return new


def with_rule(added: Document) -> Edit:
    """Return an edit that adds a rule."""
    return lambda found: found["rules"].append(copy.deepcopy(added))


def without_rule(name: str) -> Edit:
    """Return an edit that drops a rule."""

    def edit(found: Document) -> None:
        found["rules"] = [item for item in found["rules"] if item["id"] != name]

    return edit


def user_of(found: Document, name: str) -> Document:
    """Return one user of a document, to be edited in place."""
    return next(item for item in found["principals"]["users"] if item["name"] == name)


def without_user(name: str) -> Edit:
    """Return an edit that takes a user out."""

    def edit(found: Document) -> None:
        found["principals"]["users"].remove(user_of(found, name))

    return edit


def signed_rules(found: Document, *people: str) -> Signed:
    """Return the document signed by `people`, the three admins where none are given."""
    first, *rest = people or ADMINS
    signed = sign(Kind.RULES, found, seed_of(first))
    more = tuple(endorse(Kind.RULES, signed.raw, seed_of(name)) for name in rest)
    return replace(signed, endorsements=signed.endorsements + more)


def log_rules(world: World, signed: Signed) -> int:
    """Append a RULE entry; return its index."""
    return world.append(EntryKind.RULE, Named(signed.digest), signed)

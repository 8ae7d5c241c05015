"""The next version of the rules as an admin writes it: numbered, dated, with a person more or a person less. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from custody.canonical import Json, decode
from custody.errors import MalformedError, NotFoundError
from custody.policy import Policy, parse_policy, policy_hash
from custody.policy.diff import Diff, diff
from custody.possession import Possession

Document = dict[str, Any]  # Any: a document that is being edited; `parse_policy` reads it before anything is signed


@dataclass(frozen=True, slots=True)
class Change:
    """A document beside the one that it replaces."""

    document: Document
    policy: Policy
    diff: Diff


def document_from(raw: bytes) -> Document:
    """Return the rules document in canonical JSON `raw`, to be edited."""
    found = decode(raw)
    if not isinstance(found, Mapping):
        raise MalformedError("FIELD_TYPE", f"policy: expected an object, found {type(found).__name__}")
    return cast("Document", copy.deepcopy(dict(found)))


def next_version(old: Document, now: int) -> Document:
    """Return `old` with the number, predecessor and date of the version that may follow it. now: UTC seconds."""
    new = copy.deepcopy(old)
    new["version"], new["prev_hash"] = old["version"] + 1, policy_hash(cast("Json", old)).hex()
    new["effective_from"] = max(now, old["effective_from"])
    return new


def compared(old: Policy, document: Document) -> Change:
    """Return what `document` changes. Raises MalformedError as `parse_policy`."""
    policy = parse_policy(cast("Json", document))
    return Change(document, policy, diff(old, policy))


def enrolled(document: Document, proof: Possession, org: str, groups: tuple[str, ...], valid_until: int) -> Document:
    """Return `document` with one user more, or with one key more of a user it lists.

    Raises:
        MalformedError: ENROL_OTHER: the user is listed with another org or other groups.
    """
    new = copy.deepcopy(document)
    key: Document = {"alg": proof.alg, "key": proof.key.hex(), "seen": True}
    if proof.is_passkey:
        key |= {"rp_id": proof.rp_id, "origins": list(proof.origins), "desk_key": proof.desk_key.hex()}
        _admit_places(new["roots"], proof)
    known = next((user for user in new["principals"]["users"] if user["name"] == proof.principal), None)
    if known is not None:
        if known["org"] != org or (groups and set(known["groups"]) != set(groups)):
            found = f"{known['org']}, {known['groups']}"
            raise MalformedError("ENROL_OTHER", f"expected {proof.principal} as listed, found {found}")
        known["credentials"].append(key)
        return new
    user = {"name": proof.principal, "org": org, "groups": list(groups), "credentials": [key]}
    new["principals"]["users"].append({**user, "valid_until": valid_until})
    return new


def _admit_places(roots: Document, proof: Possession) -> None:
    """Add where a passkey may be asked for: the parser wants the roots to list every such place."""
    roots["rp_ids"] = [*roots["rp_ids"], *({proof.rp_id} - set(roots["rp_ids"]))]
    roots["origins"] = [*roots["origins"], *(o for o in proof.origins if o not in roots["origins"])]


def revoked(document: Document, name: str, at: int, *, remove: bool) -> Document:
    """Return `document` without what `name` may do from `at` (UTC seconds) on, or without `name` at all.

    Raises:
        NotFoundError: PRINCIPAL_UNKNOWN.
    """
    new = copy.deepcopy(document)
    for part in ("users", "services"):
        for found in new["principals"][part]:
            if found["name"] == name:
                if remove:
                    new["principals"][part].remove(found)
                else:
                    found["valid_until"] = min(at, found["valid_until"])
                return new
    raise NotFoundError("PRINCIPAL_UNKNOWN", f"expected a user or service called {name}")

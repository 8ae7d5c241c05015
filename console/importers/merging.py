"""Put imported rules into a document of ours: they replace its rules, and bring their windows and groups with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.importers.reading import Imported, Names
from console.policy.draft import read_written
from custody.canonical import Json
from custody.errors import MalformedError

KINDS = ("users", "groups", "wallets", "lists", "signers")


def read_names(path: Path | None) -> Names:
    """Return what foreign ids are called here: {kind: {foreign id: name}}, YAML or JSON; nothing without a file.

    Raises:
        MalformedError: IMPORT_NAMES, FILE_UNREADABLE, or a YAML_ code.
    """
    if path is None:
        return Names()
    found = read_written(path).value
    for kind, names in found.items():
        if kind not in KINDS or not isinstance(names, Mapping) or not all(isinstance(n, str) for n in names.values()):
            raise MalformedError("IMPORT_NAMES", f"{path.name}: expected {', '.join(KINDS)}, each {{foreign id: name}}")
    read: dict[str, Any] = dict(found)  # Any: proven just now
    return Names(**read)


def merged(document: Mapping[str, Json], found: Imported) -> dict[str, Json]:
    """Return `document` with the imported rules in place of its own.

    Raises:
        MalformedError: IMPORT_BASE where the document has no principals to put into groups.
    """
    principals = document.get("principals")
    users = principals.get("users") if isinstance(principals, Mapping) else None
    groups = principals.get("groups") if isinstance(principals, Mapping) else None
    if not isinstance(principals, Mapping) or not isinstance(users, list) or not isinstance(groups, list):
        raise MalformedError("IMPORT_BASE", "expected a base document with principals.users and principals.groups")
    windows = document.get("windows")
    return {
        **document,
        "rules": [dict(rule) for rule in found.rules],
        "windows": {**(windows if isinstance(windows, Mapping) else {}), **found.windows},
        "principals": {
            **principals,
            "users": [_member(user, found.groups) for user in users],
            "groups": [*groups, *(name for name in found.groups if name not in groups)],
        },
    }


def _member(user: Json, groups: Mapping[str, tuple[str, ...]]) -> Json:
    if not isinstance(user, Mapping) or not isinstance(had := user.get("groups"), list):
        return user
    joined = [name for name, members in groups.items() if user.get("name") in members and name not in had]
    return {**user, "groups": [*had, *joined]}

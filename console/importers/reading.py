"""What importers share: foreign JSON with places, names of ours for foreign ids, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from console.policy.text import Place, read_value
from custody.canonical import Json
from custody.errors import MalformedError

Object = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Names:
    """What foreign ids are called here, by kind: users, groups, wallets, lists, signers."""

    users: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    wallets: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    signers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Imported:
    """Rules of ours, the windows they name, the groups of users they need, and what people should know."""

    rules: tuple[Object, ...]
    windows: Mapping[str, Json]
    groups: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


class Foreign:
    """A foreign document; what it says is taken by path, and refused by line and column."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self.value, self._places = read_value(text, name)

    def refuse(self, path: str, code: str, message: str) -> NoReturn:
        """Refuse what stands at `path`, or what holds it."""
        while path not in self._places and path != "policy":
            path = path[: max(path.rfind("."), path.rfind("["))]
        raise MalformedError(code, f"{self._name}:{self._places.get(path, Place(1, 1))}: {message}")

    def object(self, value: Json | None, path: str) -> Object:
        """Return `value` as an object."""
        if not isinstance(value, Mapping):
            self.refuse(path, "IMPORT_SHAPE", "expected an object")
        return value

    def items(self, value: Json | None, path: str) -> list[Json]:
        """Return `value` as a list; nothing is an empty one."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(path, "IMPORT_SHAPE", "expected a list")
        return value

    def text(self, value: Json | None, path: str) -> str:
        """Return `value` as text; a whole number reads as its digits."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            self.refuse(path, "IMPORT_SHAPE", "expected text")
        return str(value)

    def number(self, value: Json | None, path: str, low: int, high: int) -> int:
        """Return `value` as a whole number inside low..high."""
        if type(value) is not int or not low <= value <= high:
            self.refuse(path, "IMPORT_NUMBER", f"expected a whole number in {low}..{high}")
        return value

    def known(self, found: Object, path: str, allowed: frozenset[str]) -> None:
        """Refuse fields that this importer does not know: they may restrict."""
        for key in found:
            if key not in allowed:
                self.refuse(f"{path}.{key}", "IMPORT_FIELD", f"expected a known field, found {key!r}")

    def named(self, names: Mapping[str, str], value: Json, path: str, kind: str) -> str:
        """Return what the foreign id `value` is called here."""
        foreign = self.text(value, path)
        if foreign not in names:
            self.refuse(path, "IMPORT_NAME", f"expected a {kind} that the names map, found {foreign[:60]!r}")
        return names[foreign]


def unless(match: Object, earlier: list[Object]) -> Object:
    """Return `match`, only where none of `earlier` holds: a first-match rule among rules that all speak."""
    if not earlier:
        return match
    chunks = [earlier[at : at + 64] for at in range(0, len(earlier), 64)]
    none_of: list[Json] = [{"not": {"any_of": [dict(each) for each in chunk]}} for chunk in chunks]
    return {**match, "all_of": [*_list(match.get("all_of")), *none_of]}


def _list(value: Json | None) -> list[Json]:
    return list(value) if isinstance(value, list) else []

"""Two ids that a person would take for one: refused where a document is written, before anybody signs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from custody.canonical import Json

Refuse = Callable[[str, str, str], NoReturn]
_SHAPES = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "2": "z", "8": "b", "-": "", "_": "", ".": ""})
_PAIRS = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def skeleton(text: str) -> str:
    """Return `text` as an eye takes it in: case, O and 0, l, I and 1, rn and m, dashes and dots are one."""
    lowered = text.lower()
    for pair, looks_like in _PAIRS:
        lowered = lowered.replace(pair, looks_like)
    return lowered.translate(_SHAPES)


def check_lookalikes(document: Mapping[str, Json], refuse: Refuse) -> None:
    """Refuse ids that are not ASCII, and two of one kind that look alike; what the parser refuses anyway is left to it.

    Args:
        document: the rules as written.
        refuse: called with path, code and message; does not return.
    """
    for kind, named in _ids(document).items():
        seen: dict[str, tuple[str, str]] = {}
        for path, name in named:
            if not name.isascii():
                refuse(path, "YAML_LOOKALIKE", f"expected a {kind} of ASCII letters, found {name[:40]!a}")
            looks = skeleton(name)
            if looks in seen and seen[looks][0] != name:
                other = seen[looks][0]
                refuse(path, "YAML_LOOKALIKE", f"expected {kind}s that no eye mixes up, found {name!r} and {other!r}")
            seen.setdefault(looks, (name, path))


def _ids(document: Mapping[str, Json]) -> dict[str, list[tuple[str, str]]]:
    """Return the ids that `document` gives, with their paths, by kind; people and programs are of one kind."""
    principals, roots = document.get("principals"), document.get("roots")
    people = [*_named(principals, "users", "policy.principals"), *_named(principals, "services", "policy.principals")]
    return {
        "principal": people,
        "group": list(_listed(principals, "groups", "policy.principals")),
        "list": list(_named(document, "lists", "policy")),
        "rule": list(_named(document, "rules", "policy", "id")),
        "wallet": list(_keys(document, "wallets")),
        "window": list(_keys(document, "windows")),
        "node": list(_named(roots, "nodes", "policy.roots")),
        "witness": list(_named(roots, "witnesses", "policy.roots")),
    }


def _items(holder: Json | None, key: str) -> list[Json]:
    found = holder.get(key) if isinstance(holder, Mapping) else None
    return list(found) if isinstance(found, list | tuple) else []


def _named(holder: Json | None, key: str, where: str, field: str = "name") -> Iterator[tuple[str, str]]:
    for at, item in enumerate(_items(holder, key)):
        name = item.get(field) if isinstance(item, Mapping) else None
        if isinstance(name, str):
            yield f"{where}.{key}[{at}].{field}", name


def _listed(holder: Json | None, key: str, where: str) -> Iterator[tuple[str, str]]:
    for at, item in enumerate(_items(holder, key)):
        if isinstance(item, str):
            yield f"{where}.{key}[{at}]", item


def _keys(document: Mapping[str, Json], key: str) -> Iterator[tuple[str, str]]:
    found = document.get(key)
    for name in found if isinstance(found, Mapping) else ():
        yield f"policy.{key}.{name}", name

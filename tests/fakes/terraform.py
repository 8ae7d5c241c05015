"""What Terraform would ask a Vault for: main.tf read by python-hcl2, evaluated, and put as API calls.

Not Terraform: it knows the expressions and resources that our file uses, and raises at any other.
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

Call = tuple[str, Mapping[str, Any]]
_CONDITION = re.compile(r"^(.*\S)\s*\?\s*(\S+)\s*:\s*(\S+)$", re.DOTALL)
_META = {"count", "depends_on", "__is_block__"}  # for Terraform itself, not for the server


@dataclass(frozen=True, slots=True)
class Module:
    """One module with values for its variables."""

    path: Path
    variables: Mapping[str, Any]
    document: Mapping[str, Any]

    def resources(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (type, evaluated attributes) of each resource whose count is not 0, in the file's order."""
        found = []
        for block in self.document["resource"]:
            for kind, named in block.items():
                for body in named.values():
                    if self.value(body.get("count", 1)):
                        values = {key: self.value(value) for key, value in body.items() if key not in _META}
                        found.append((_unquoted(kind), values))
        return found

    def value(self, raw: Any) -> Any:
        """Return what python-hcl2 gave for an expression, evaluated."""
        if isinstance(raw, list):
            return [self.value(one) for one in raw]
        if isinstance(raw, dict):
            return {_unquoted(key): self.value(one) for key, one in raw.items() if key not in _META}
        if not isinstance(raw, str):
            return raw
        if raw.startswith('"'):
            return self._text(_unquoted(raw))
        if raw.startswith("${") and raw.endswith("}"):
            return self._expression(raw[2:-1])
        raise ValueError(f"expected a literal or an expression, found {raw!r}")

    def _text(self, text: str) -> str:
        return re.sub(r"\$\{([^}]*)\}", lambda found: str(self._expression(found[1])), text)

    def _expression(self, text: str) -> Any:
        condition = _CONDITION.match(text)
        if condition:
            return self._expression(condition[2] if self._expression(condition[1]) else condition[3])
        return self._node(ast.parse(text.strip(), mode="eval").body)

    def _node(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str(text)):
                return self._text(text)
            case ast.Constant(value=found):
                return found
            case ast.Attribute(value=ast.Name(id="var"), attr=name):
                return self.variables[name]
            case ast.Attribute(value=ast.Name(id="local"), attr=name):
                return self.value(self.document["locals"][0][name])
            case ast.Attribute(value=ast.Name(id="path"), attr="module"):
                return str(self.path)
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                return self._node(left) == self._node(right)
            case ast.Call(func=ast.Name(id=name), args=args):
                return _call(name, [self._node(one) for one in args])
        raise ValueError(f"expected an expression of ours, found {ast.unparse(node)}")


def load(path: Path, variables: Mapping[str, Any]) -> Module:
    """Return main.tf of the directory `path`. variables: those without a default, and any others.

    Raises:
        ValueError: a variable that the file lacks, or one without a value.
    """
    with (path / "main.tf").open(encoding="utf-8") as file:
        document = hcl2.load(file)
    bare = Module(path, {}, document)
    declared = {_unquoted(name): body for block in document["variable"] for name, body in block.items()}
    defaults = {name: bare.value(body["default"]) for name, body in declared.items() if "default" in body}
    values = {**defaults, **variables}
    if set(values) != set(declared):
        raise ValueError(f"expected values for {sorted(declared)}, found {sorted(values)}")
    return Module(path, values, document)


def calls(module: Module) -> list[Call]:
    """Return the API calls that make the resources of `module`, in an order that servers take."""
    order = {name: at for at, name in enumerate(_CALLS)}
    return [_CALLS[kind](values) for kind, values in sorted(module.resources(), key=lambda one: order[one[0]])]


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


_CALLS: dict[str, Any] = {
    "vault_mount": lambda v: (f"sys/mounts/{v['path']}", _without(v, "path")),
    "vault_kv_secret_backend_v2": lambda v: (f"{v['mount']}/config", _without(v, "mount")),
    "vault_transit_secret_backend_key": lambda v: (
        f"{v['backend']}/keys/{v['name']}",
        _without(v, "backend", "name"),
    ),
    "vault_policy": lambda v: (f"sys/policies/acl/{v['name']}", _without(v, "name")),
    "vault_auth_backend": lambda v: (f"sys/auth/{v['type']}", v),
    "vault_cert_auth_backend_role": lambda v: (
        f"auth/{v['backend']}/certs/{v['name']}",
        _without(v, "backend", "name"),
    ),
    "vault_approle_auth_backend_role": lambda v: (
        f"auth/{v['backend']}/role/{v['role_name']}",
        _without(v, "backend", "role_name"),
    ),
}


def _call(name: str, args: list[Any]) -> Any:
    if name == "file":
        return Path(args[0]).read_text(encoding="utf-8")
    if name == "replace":
        return args[0].replace(args[1], args[2])
    if name == "base64encode":
        return base64.b64encode(args[0].encode()).decode()
    raise ValueError(f"expected a function of ours, found {name}")


def _unquoted(text: str) -> str:
    return text[1:-1] if text.startswith('"') and text.endswith('"') else text

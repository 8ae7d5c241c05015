"""Only the judges make what may be signed, only what they made reaches a key, and nothing else signs with one.

Read from the source of the product: a test that looks at behaviour would miss the second maker that nobody calls yet.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("custody", "coordinator", "signer_node", "console")
MAKERS = {
    ("signer_node/judge.py", "_clear", "Cleared"),
    ("signer_node/judge_message.py", "_cleared", "ClearedMessage"),
    ("signer_node/breath.py", "breath_to_sign", "ClearedBreath"),  # the one sentence that a node signs unasked
}
CLEARED = {maker for _, _, maker in MAKERS}
HANDERS = {("signer_node/node.py", "_sign"), ("signer_node/node.py", "prove_alive")}
SIGNERS = {"signer_node/backends/signing.py"}
CURVE = {"ecdsa_sign", "ecdsa_sign_children", "schnorr_sign"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the product, by path."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with the name of the function it stands in."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    yield function.name, node


def called(call: ast.Call) -> str:
    """Return the last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def makers(path: str, tree: ast.Module) -> set[tuple[str, str, str]]:
    """Return where a module makes a permission to sign, or changes one."""
    found = {(path, where, called(call)) for where, call in calls(tree) if called(call) in CLEARED}
    for where, call in calls(tree):
        if called(call) == "replace" and call.args and "cleared" in ast.unparse(call.args[0]).lower():
            found.add((path, where, "replace"))
    return found


def test_cleared_when_made_is_made_by_a_judge() -> None:
    """One function makes it for transactions, one for messages, each called by its judge alone; one for the breath."""
    assert set().union(*(makers(path, tree) for path, tree in trees())) == MAKERS
    made_by = {(path, where) for path, where, _ in MAKERS if "judge" in path}
    callers = {
        (path, where) for path, tree in trees() for where, call in calls(tree) if (path, called(call)) in made_by
    }
    assert callers == {("signer_node/judge.py", "judge"), ("signer_node/judge_message.py", "_judged")}


def test_cleared_when_handed_to_a_key_comes_from_the_node_and_from_nowhere_else() -> None:
    """The node asks its backend with what its judge cleared; the engine asks its own judge."""
    handed = {
        (path, where)
        for path, tree in trees()
        for where, call in calls(tree)
        if called(call) == "sign" and isinstance(call.func, ast.Attribute) and "backend" in ast.unparse(call.func.value)
    }
    assert handed == HANDERS


def test_curve_when_it_signs_is_asked_by_the_one_module_that_takes_what_was_cleared() -> None:
    """No other module has a way to a signature over a digest of its choice."""
    users = {
        path
        for path, tree in trees()
        if path != "custody/curve.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in CURVE
    }
    assert users == SIGNERS


def test_makers_given_a_planted_second_one_find_it() -> None:
    """The search is no search for nothing: a call and a changed copy are both seen."""
    planted = ast.parse("def mine(cleared):\n    judge.Cleared(1)\n    return replace(cleared, txid=b'')\n")

    assert makers("x.py", planted) == {("x.py", "mine", "Cleared"), ("x.py", "mine", "replace")}

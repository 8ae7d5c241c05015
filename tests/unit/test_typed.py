"""Codes typed at a node: this withdrawal's, at this node, and kept."""

from pathlib import Path

from custody.errors import Refused
from custody.local_code import local_code
from signer_node.judge import Pinned
from signer_node.typed import Typed
from tests.world import make_genesis

GENESIS = make_genesis()
DIGEST = bytes([5]) * 32


def test_typed_given_the_code_keeps_the_withdrawal(tmp_path: Path) -> None:
    """It is confirmed for whoever opens the directory next, and twice is once."""
    me, code = Pinned(GENESIS, "alpha"), local_code(GENESIS.hash, DIGEST, "alpha")

    assert Typed(tmp_path / "c").take(me, DIGEST, f" {code}\n") is None
    assert Typed(tmp_path / "c").take(me, DIGEST, code) is None
    assert Typed(tmp_path / "c").digests == {DIGEST}


def test_typed_given_another_code_keeps_nothing(tmp_path: Path) -> None:
    """The code of another withdrawal, node or genesis confirms nothing here."""
    typed, me = Typed(tmp_path / "c"), Pinned(GENESIS, "alpha")
    codes = [
        local_code(GENESIS.hash, bytes(32), "alpha"),
        local_code(GENESIS.hash, DIGEST, "beta"),
        local_code(bytes(32), DIGEST, "alpha"),
        "",
    ]

    for code in codes:
        refused = typed.take(me, DIGEST, code)
        assert isinstance(refused, Refused)
        assert refused.code == "LOCAL_CODE"
    assert typed.digests == frozenset()


def test_typed_given_other_files_ignores_them(tmp_path: Path) -> None:
    """What is no digest is no confirmation."""
    (tmp_path / "README").touch()
    (tmp_path / ("AB" * 32)).touch()

    assert Typed(tmp_path).digests == frozenset()


def test_local_code_is_six_digits() -> None:
    """Short enough to be read out."""
    code = local_code(GENESIS.hash, DIGEST, "alpha")

    assert (len(code), code.isdigit()) == (6, True)

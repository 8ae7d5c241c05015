"""A person's SSH key signs by the real `ssh-keygen`; what it made is checked before it goes anywhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from console import pen as pens
from console.pen import SeedPen, SshPen, open_pen, read_public_key, unarmoured
from custody.errors import IntegrityError, MalformedError, UnavailableError
from custody.people import Ballot, check_approval
from custody.policy import parse_policy
from custody.statements import Kind
from tests.fakes.rules import NOW, approval, document, key_of, seed_of, withdrawal

pytestmark = pytest.mark.slow


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The public half of a fresh key, its private half beside it."""
    if not Path(pens.SSH_KEYGEN).exists():
        if failed := os.environ.get("KEYTURN_MISSING_SSH-KEYGEN"):
            pytest.fail(failed)
        pytest.skip("ssh-keygen is not on this machine, and only root on Debian can install it")
    path = tmp_path / "id_ed25519"
    command = [pens.SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_name("id_ed25519.pub")


def test_ssh_pen_signs_an_approval_that_the_rules_count_as_seen(key: Path) -> None:
    """The approval of a listed SSH key is a ballot like any other."""
    asked = withdrawal()
    said, _ = approval(asked, "bob")
    pen = open_pen(key)
    rules = document()
    (bob,) = (user for user in rules["principals"]["users"] if user["name"] == "bob")
    bob["credentials"] = [{"alg": pen.alg, "key": pen.key.hex(), "seen": True}]

    signed = pen.sign(Kind.APPROVAL, said.to_json())

    found = check_approval(parse_policy(rules), asked, said, signed, NOW)
    assert isinstance(found, Ballot)
    assert found.seen
    assert not signed.endorsements[0].holds(Kind.WITHDRAWAL, signed.raw)


def test_ssh_pen_given_another_key_than_it_names_sends_nothing(key: Path) -> None:
    """A signature by another key than the rules list is noticed on this side."""
    assert isinstance(open_pen(key), SshPen)
    other = key.with_name("other.pub")
    command = [pens.SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(other.with_suffix(""))]
    subprocess.run(command, check=True)

    with pytest.raises(IntegrityError) as refused:
        SshPen(key, read_public_key(other)).sign(Kind.APPROVAL, {"a": 1})

    assert refused.value.code == "SSH_SIGNATURE"


def test_ssh_pen_when_ssh_keygen_refuses_or_is_away_says_so(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No private half, no program: no signature, and a code that says whose fault it is."""
    key.with_suffix("").unlink()
    with pytest.raises(UnavailableError, match="SSH_KEYGEN"):
        open_pen(key).sign(Kind.APPROVAL, {"a": 1})

    monkeypatch.setattr(pens, "SSH_KEYGEN", str(key.with_name("nowhere")))
    with pytest.raises(UnavailableError, match="FileNotFoundError"):
        open_pen(key).sign(Kind.APPROVAL, {"a": 1})


def test_open_pen_given_a_seed_file_signs_with_it(tmp_path: Path) -> None:
    """Anything but a `.pub` file is an Ed25519 seed of mode 0600."""
    path = tmp_path / "alice.ed25519"
    path.write_text(seed_of("alice").hex())
    path.chmod(0o600)
    pen = open_pen(path)

    assert isinstance(pen, SeedPen)
    assert pen.key == key_of("alice")
    assert pen.sign(Kind.STOP, {"a": 1}).signed_by(key_of("alice"))
    assert seed_of("alice").hex() not in repr(pen)


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa AAAAB3NzaC1yc2E="])
def test_read_public_key_given_anything_else_refuses(text: str, tmp_path: Path) -> None:
    """One line of one of three kinds of key."""
    path = tmp_path / "id.pub"
    path.write_text(text)
    with pytest.raises(MalformedError, match="SSH_KEY"):
        read_public_key(path)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN SSH SIGNATURE-----", b"-" * 5000, b"AAAA"])
def test_unarmoured_given_no_armour_refuses(text: bytes) -> None:
    """What does not stand between the two lines is no signature."""
    with pytest.raises(MalformedError, match="SSH_SIGNATURE_FORM"):
        unarmoured(text)

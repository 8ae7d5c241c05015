"""The sealed seed file: any changed byte, a wrong passphrase, a bomb or an unsafe file is refused with its code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from custody.canonical import Json, decode, encode
from custody.errors import ConflictError, CustodyError, DeniedError, IntegrityError, MalformedError, NotFoundError
from custody.wallet import Network
from signer_node.backends import make_key, open_backend
from signer_node.backends.port import Access, State
from signer_node.backends.private_file import (
    MAX_PRIVATE_BYTES,
    passphrase_from_file,
    read_private,
    wrapped_from_file,
    write_private_once,
)
from signer_node.backends.sealed_file import Hardness, seal, unseal
from signer_node.seed import new_seed, wipe

CHEAP = Hardness(memory_kib=8 * 1024, passes=1, lanes=1)
SEED = bytes(range(32))
PASSPHRASE = b"correct horse battery"


def _sealed() -> dict[str, Json]:
    value = decode(seal(bytearray(SEED), bytearray(PASSPHRASE), os.urandom, CHEAP))
    assert isinstance(value, dict)
    return value


def _open(value: Json, passphrase: bytes = PASSPHRASE) -> bytearray:
    return unseal(bytearray(encode(value)), bytearray(passphrase))


def test_seal_when_unsealed_with_its_passphrase_gives_the_seed() -> None:
    """What goes in comes out, and salt and nonce differ each time."""
    first, second = _sealed(), _sealed()

    assert _open(first) == _open(second) == SEED
    assert first["salt"] != second["salt"]
    assert first["nonce"] != second["nonce"]


def test_seal_when_used_wipes_the_passphrase() -> None:
    """The bytearray that carried the passphrase holds zeros afterwards, on success and on failure."""
    used = [bytearray(PASSPHRASE), bytearray(PASSPHRASE), bytearray(b"not the passphrase")]
    raw = seal(bytearray(SEED), used[0], os.urandom, CHEAP)
    unseal(bytearray(raw), used[1])
    with pytest.raises(IntegrityError):
        unseal(bytearray(raw), used[2])

    assert not any(any(secret) for secret in used)


LIES: dict[str, tuple[str, Json, str]] = {
    "memory_changed": ("memory_kib", 9 * 1024, "SEAL_BROKEN"),
    "passes_changed": ("passes", 2, "SEAL_BROKEN"),
    "lanes_changed": ("lanes", 2, "SEAL_BROKEN"),
    "salt_changed": ("salt", "00" * 16, "SEAL_BROKEN"),
    "nonce_changed": ("nonce", "00" * 12, "SEAL_BROKEN"),
    "sealed_changed": ("sealed", "00" * 48, "SEAL_BROKEN"),
    "memory_bomb": ("memory_kib", 64 * 1024 * 1024, "FIELD_RANGE"),
    "memory_too_weak": ("memory_kib", 8, "FIELD_RANGE"),
    "passes_bomb": ("passes", 10**9, "FIELD_RANGE"),
    "lanes_bomb": ("lanes", 10**6, "FIELD_RANGE"),
    "sealed_short": ("sealed", "00" * 47, "FIELD_HEX"),
    "other_schema": ("schema", "keyturn-sealed-seed/2", "SEAL_SCHEMA"),
    "other_kdf": ("kdf", "none", "SEAL_SCHEMA"),
    "other_aead": ("aead", "none", "SEAL_SCHEMA"),
    "unknown_field": ("extra", 1, "FIELD_UNKNOWN"),
}


@pytest.mark.parametrize("lie", LIES)
def test_unseal_when_one_field_is_changed_refuses_with_its_code(lie: str) -> None:
    """Every field of the header is bound, and every cost is bounded before it is paid."""
    field, value, code = LIES[lie]

    with pytest.raises(CustodyError) as refused:
        _open({**_sealed(), field: value})

    assert refused.value.code == code


def test_unseal_when_the_passphrase_is_wrong_refuses_without_a_hint() -> None:
    """A wrong passphrase reads like a tampered file, and the message holds neither."""
    with pytest.raises(IntegrityError) as refused:
        _open(_sealed(), b"correct horse batterz")

    assert refused.value.code == "SEAL_BROKEN"
    assert "horse" not in str(refused.value)


def test_seal_when_the_passphrase_is_short_refuses() -> None:
    """Eleven bytes seal nothing."""
    with pytest.raises(MalformedError, match="PASSPHRASE_SHORT"):
        seal(bytearray(SEED), bytearray(b"elevenbytes"), os.urandom, CHEAP)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "NOT_JSON"),
        (b"\xff", "NOT_JSON"),
        (b"[]", "FIELD_TYPE"),
        (b"{}", "FIELD_MISSING"),
        (b"{ }", "NOT_CANONICAL"),
    ],
)
def test_unseal_when_the_bytes_are_no_sealed_file_refuses(raw: bytes, code: str) -> None:
    """Foreign bytes are refused before anything is computed."""
    with pytest.raises(MalformedError) as refused:
        unseal(bytearray(raw), bytearray(PASSPHRASE))

    assert refused.value.code == code


def test_read_private_when_the_file_is_unsafe_refuses(tmp_path: Path) -> None:
    """Links, files open to others, FIFOs, directories, too large and missing ones are told apart from good ones."""
    good, link, fifo, large, loose = (tmp_path / name for name in ("good", "link", "fifo", "large", "open"))
    write_private_once(good, b"x" * MAX_PRIVATE_BYTES)
    link.symlink_to(good)
    os.mkfifo(fifo, 0o600)
    write_private_once(large, b"x" * (MAX_PRIVATE_BYTES + 1))
    write_private_once(loose, b"x")
    loose.chmod(0o640)

    assert len(read_private(good)) == MAX_PRIVATE_BYTES
    for path in (link, fifo, loose, tmp_path):
        with pytest.raises(IntegrityError, match="FILE_NOT_PRIVATE"):
            read_private(path)
    with pytest.raises(IntegrityError, match="FILE_TOO_LARGE"):
        read_private(large)
    with pytest.raises(NotFoundError, match="FILE_MISSING"):
        read_private(tmp_path / "none")


def test_write_private_once_when_the_name_is_taken_changes_nothing(tmp_path: Path) -> None:
    """The first content stays, also behind a dangling link, and a leftover of a crash is not in the way."""
    path, dangling = tmp_path / "seed", tmp_path / "dangling"
    (tmp_path / ".seed.part").write_bytes(b"half")
    write_private_once(path, b"first")
    dangling.symlink_to(tmp_path / "elsewhere")

    for taken in (path, dangling):
        with pytest.raises(ConflictError, match="SEED_EXISTS"):
            write_private_once(taken, b"second")

    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dangling", "seed"]


def test_passphrase_from_file_when_read_drops_one_line_end(tmp_path: Path) -> None:
    """Editors add a line end; spaces belong to the passphrase."""
    write_private_once(tmp_path / "pass", b" secret words \n")

    assert passphrase_from_file(tmp_path / "pass")() == b" secret words "


def test_wrapped_from_file_when_taken_is_gone(tmp_path: Path) -> None:
    """A restarted node must not present a used wrapping token: that would look like an interception."""
    take = wrapped_from_file(tmp_path / "wrapped")
    write_private_once(tmp_path / "wrapped", b"s.token\n")

    assert take() == "s.token"
    with pytest.raises(DeniedError, match="VAULT_NO_CREDENTIAL"):
        take()


async def test_backend_when_the_passphrase_source_is_missing_refuses(tmp_path: Path) -> None:
    """There is no default source, and never the environment."""
    with pytest.raises(MalformedError, match="BACKEND_ACCESS"):
        await make_key(f"sealed-file://{tmp_path}/seed", Access("node-3", Network.REGTEST))


@pytest.mark.parametrize(
    "uri",
    [
        "sealed-file://host/path",
        "sealed-file:relative",
        "sealed-file:///path?x=1",
        "file:///path",
        "",
        "vault-kv://127.0.0.1:8200/only-mount",
        "vault-kv://user@127.0.0.1:8200/a/b",
        "vault-kv://127.0.0.1/a/b",
        "vault-kv://127.0.0.1:8200/a/../b",
        "vault-kv://127.0.0.1:8200/a/b?x=1",
        "vault-transit://127.0.0.1:8200/key",
        "vault-transit://127.0.0.1:8200/key?blob=relative",
        "vault-transit://127.0.0.1:8200/key?blob=/a&blob=/b",
        "vault-transit://127.0.0.1:8200/key?blob=/a&x=1",
        "vault-transit://127.0.0.1:8200/key?x",
    ],
)
def test_open_backend_when_the_uri_is_not_exact_refuses(uri: str) -> None:
    """A URI that could mean two things means nothing."""
    with pytest.raises(MalformedError, match="BACKEND_URI"):
        open_backend(uri, Access("node-3", Network.REGTEST))


async def test_health_when_the_file_is_missing_says_so(tmp_path: Path) -> None:
    """A lost file is INTEGRITY: nobody retries, and nobody makes a new key."""
    state = await open_backend(f"sealed-file://{tmp_path}/seed", Access("node-3", Network.REGTEST)).health()

    assert (state.state, "FILE_MISSING" in state.detail) == (State.INTEGRITY, True)


def test_open_backend_when_offline_loads_no_network_package(tmp_path: Path) -> None:
    """An air-gapped node has neither hvac nor grpc to import, and does not miss them."""
    program = (
        "import sys; from custody.wallet import Network; from signer_node.backends import open_backend;"
        "from signer_node.backends.port import Access;"
        f"open_backend('sealed-file://{tmp_path}/seed', Access('node-3', Network.REGTEST));"
        "print({'hvac', 'requests', 'grpc', 'google.protobuf', 'http.client'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"


@pytest.mark.parametrize("answer", [b"\0" * 32, b"\7" * 32, b"short"])
def test_new_seed_when_entropy_is_broken_refuses(answer: bytes) -> None:
    """A constant or short answer makes no key."""
    with pytest.raises(IntegrityError, match="ENTROPY"):
        new_seed(lambda _: answer)


def test_wipe_when_called_leaves_zeros() -> None:
    """The very object is overwritten; its length stays."""
    seed = new_seed()
    wipe(seed)

    assert seed == bytes(32)

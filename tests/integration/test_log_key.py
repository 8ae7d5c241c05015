"""The log key: sealed in a file, and in a real server's transit engine."""

from __future__ import annotations

import base64
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coordinator.app import _open_log_keys, _pins
from coordinator.config import SealedKey, load_config
from coordinator.log_key import SeedKey, free_text_secret, make_sealed, open_sealed
from coordinator.vault_key import VaultKey, VaultPlace
from custody import ed25519
from custody.audit import Checkpoint, open_signed, signed_checkpoint
from custody.errors import ConflictError, CustodyError, IntegrityError, UnavailableError
from custody.governing import Rules
from custody.sealing import Hardness, Header, seal_secret
from deploy.ca import make_ca
from tests.fakes.rules import PAY, document, policy
from tests.integration.conftest import LOG_ROLE, Bao
from tests.world import make_genesis

CHEAP = Hardness(memory_kib=8 * 1024, passes=1, lanes=1)
NOTE = b"keyturn/test\n1\nroot\n"
CONFIG = """
listen = "127.0.0.1:1"
database = "sqlite:///{here}/db"
genesis = "genesis.json"
log_key = {key}
witnesses = []
[chain]
kind = "embedded"
directory = "chain"
confirmations = 1
[tls]
ca = "ca"
certificate = "c"
key = "k"
"""


def private(path: Path, content: bytes) -> Path:
    """Write a private file."""
    path.touch(0o600)
    path.write_bytes(content)
    return path


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    """A file with a passphrase and an editor's line end."""
    return private(tmp_path / "passphrase", b"correct horse battery\n")


async def test_sealed_key_when_made_then_opens_and_signs(tmp_path: Path, passphrase: Path) -> None:
    """Sealed once, opened with the same passphrase, it signs under the public half that was told."""
    path = tmp_path / "log.sealed"
    public = make_sealed(path, passphrase, CHEAP)
    key = open_sealed(path, passphrase)

    assert key.public == public
    assert ed25519.verify(public, NOTE, await key.sign(NOTE))
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.seed.hex() not in path.read_text() + repr(key)


def test_sealed_key_when_the_name_is_taken_then_nothing_changes(tmp_path: Path, passphrase: Path) -> None:
    """A second ceremony does not overwrite the key of a running log."""
    path = tmp_path / "log.sealed"
    make_sealed(path, passphrase, CHEAP)
    before = path.read_bytes()

    with pytest.raises(ConflictError, match="LOG_KEY_EXISTS"):
        make_sealed(path, passphrase, CHEAP)

    assert path.read_bytes() == before


def wrong_passphrase(path: Path, passphrase: Path) -> None:
    """Another one."""
    passphrase.write_bytes(b"correct horse batterz")


def touched(path: Path, passphrase: Path) -> None:
    """One hex digit of the sealed bytes."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b'"sealed":"') + 10
    raw[at] = ord("0") if raw[at] != ord("0") else ord("1")
    path.write_bytes(raw)


def of_a_node(path: Path, passphrase: Path) -> None:
    """A node's wallet seed under the same passphrase."""
    header = Header("keyturn-sealed-seed/1", CHEAP, os.urandom(16), os.urandom(12))
    path.write_bytes(seal_secret(bytearray(32), bytearray(b"correct horse battery"), header))


def readable(path: Path, passphrase: Path) -> None:
    """A mode that lets a group read."""
    path.chmod(0o640)


def gone(path: Path, passphrase: Path) -> None:
    """No file."""
    path.unlink()


LIES = {
    wrong_passphrase: "SEAL_BROKEN",
    touched: "SEAL_BROKEN",
    of_a_node: "SEAL_SCHEMA",
    readable: "FILE_NOT_PRIVATE",
    gone: "FILE_MISSING",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_sealed_key_when_one_thing_is_wrong_then_refused_by_code(lie: object, tmp_path: Path, passphrase: Path) -> None:
    """The coordinator does not start with a key that it cannot vouch for."""
    path = tmp_path / "log.sealed"
    make_sealed(path, passphrase, CHEAP)
    assert callable(lie)
    lie(path, passphrase)

    with pytest.raises(CustodyError) as refused:
        open_sealed(path, passphrase)

    assert refused.value.code == LIES[lie]


async def test_free_text_secret_given_the_same_key_is_the_same() -> None:
    """Derived by signing, so that a key in a server can do it too; another key gives another."""
    first, again, other = [await free_text_secret(SeedKey(bytes([n]) * 32)) for n in (1, 1, 2)]

    assert first == again != other
    assert len(first) == 32


SEALED_TEXT = '{ file = "a", passphrase = "b" }'
VAULT_TEXT = (
    '{ vault = "https://h:8200", key = "log-main", ca = "ca", role = "log-main", role_id = "r", '
    'wrapped_secret_id = "w" }'
)


def write_config(directory: Path, key: str) -> Path:
    """Return a configuration with this log key."""
    path = directory / "coordinator.toml"
    path.write_text(CONFIG.replace("{key}", key))
    return path


def test_config_given_either_place_reads_it(tmp_path: Path) -> None:
    """A sealed file, or a transit key."""
    assert load_config(write_config(tmp_path, SEALED_TEXT)).log_key == SealedKey(tmp_path / "a", tmp_path / "b")
    found = load_config(write_config(tmp_path, VAULT_TEXT)).log_key
    assert isinstance(found, VaultPlace)
    assert (found.key, found.wrapped_secret_id) == ("log-main", tmp_path / "w")


def test_config_given_a_next_log_key_reads_it(tmp_path: Path) -> None:
    """The key that rules which wait will pin, in the same form; none where nothing is named."""
    text = SEALED_TEXT + "\nnext_log_key = " + SEALED_TEXT.replace('"a"', '"c"')

    assert load_config(write_config(tmp_path, text)).next_log_key == SealedKey(tmp_path / "c", tmp_path / "b")
    assert load_config(write_config(tmp_path, SEALED_TEXT)).next_log_key is None


async def test_log_keys_given_rules_that_turned_signs_with_the_one_in_force(tmp_path: Path) -> None:
    """Started before or after the change, a coordinator with both keys takes the one that the rules pin."""
    passphrase = private(tmp_path / "b", b"a passphrase for tests")
    publics = [make_sealed(tmp_path / name, passphrase, CHEAP) for name in ("a", "c")]
    text = SEALED_TEXT + "\nnext_log_key = " + SEALED_TEXT.replace('"a"', '"c"')
    config = load_config(write_config(tmp_path, text))
    genesis = make_genesis(PAY)
    for public in publics:
        pinned = policy(roots={**document()["roots"], "log_key": public.hex()})
        async with AsyncExitStack() as stack:
            keys = await _open_log_keys(config, Rules(pinned), stack)
            assert _pins(genesis, pinned, keys).key.public == public
    with pytest.raises(IntegrityError, match="LOG_KEY_OTHER"):
        _pins(genesis, policy(), keys)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('"log.ed25519"', "FIELD_TYPE"),
        ('{ file = "a" }', "FIELD_MISSING"),
        (SEALED_TEXT.replace(" }", ', hardness = "low" }'), "FIELD_UNKNOWN"),
        (VAULT_TEXT.replace("https", "http"), "CONFIG_VAULT"),
        (VAULT_TEXT.replace(" }", ', file = "a" }'), "FIELD_UNKNOWN"),
    ],
)
def test_config_given_one_wrong_key_refuses(text: str, code: str, tmp_path: Path) -> None:
    """A plain seed, half a place, a key nobody knows, and a server without TLS."""
    with pytest.raises(CustodyError) as refused:
        load_config(write_config(tmp_path, text))

    assert refused.value.code == code


def place(bao: Bao, directory: Path) -> VaultPlace:
    """Return the way to the log key, with a fresh wrapped secret_id."""
    wrapped = private(directory / "wrapped", bao.server.wrapped_secret(LOG_ROLE).encode())
    role_id = bao.server.role_ids[LOG_ROLE.name]
    return VaultPlace(bao.server.address, "log-main", bao.server.ca_path, LOG_ROLE.name, role_id, wrapped)


def token_of(bao: Bao) -> str:
    """Return a token of the coordinator's role, logged in by plain calls."""
    call, wrapped = bao.server.call, bao.server.wrapped_secret(LOG_ROLE)
    secret_id = call("POST", "sys/wrapping/unwrap", wrapped, {})["data"]["secret_id"]
    login = {"role_id": bao.server.role_ids[LOG_ROLE.name], "secret_id": secret_id}
    return str(call("POST", "auth/approle/login", "", login)["auth"]["client_token"])


def public_half(bao: Bao) -> bytes:
    """Read it as the operator of the ceremony does."""
    keys = bao.server.call("GET", "transit/keys/log-main", token_of(bao))["data"]["keys"]
    return base64.b64decode(keys["1"]["public_key"])


INPUT: dict[str, object] = {"input": base64.b64encode(NOTE).decode()}
FORBIDDEN: list[tuple[str, str, dict[str, object] | None]] = [
    ("POST", "transit/sign/log-main", {**INPUT, "prehashed": True}),
    ("POST", "transit/sign/log-main", {"batch_input": [INPUT]}),
    ("POST", "transit/sign/seed-transit-1", INPUT),
    ("GET", "transit/export/signing-key/log-main", None),
    ("GET", "transit/backup/log-main", None),
    ("POST", "transit/keys/log-main/rotate", {}),
    ("POST", "transit/keys/log-main/config", {"exportable": True}),
    ("DELETE", "transit/keys/log-main", None),
    ("POST", "transit/decrypt/seed-transit-1", {"ciphertext": "vault:v1:AAAA"}),
    ("GET", "keyturn/data/signers/kv-1/seed", None),
    ("GET", "sys/policies/acl/log-main", None),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN)
def test_log_role_given_anything_but_a_message_to_sign_is_forbidden(
    method: str, path: str, body: dict[str, object] | None, bao: Bao
) -> None:
    """A stolen coordinator's token signs checkpoints while it lives; it gets no key and touches no seed."""
    with pytest.raises(UnavailableError, match=" 403 "):
        bao.server.call(method, path, token_of(bao), body)


@pytest.mark.slow
async def test_vault_key_when_it_signs_then_the_checkpoint_opens(bao: Bao, tmp_path: Path) -> None:
    """A checkpoint signed by the server opens under the pinned key; the wrapping token is used up."""
    public, where = public_half(bao), place(bao, tmp_path)
    key = VaultKey(where, public)
    checkpoint = Checkpoint("keyturn/test", 1, bytes(32))
    note = signed_checkpoint(checkpoint, key.public, await key.sign(checkpoint.body.encode()))

    assert open_signed(note, public, "keyturn/test")[0] == checkpoint
    assert await key.sign(NOTE) == await key.sign(NOTE)
    assert not where.wrapped_secret_id.exists()
    key.close()


@pytest.mark.slow
async def test_vault_key_when_its_token_dies_then_it_logs_in_again(short_lived: Bao, tmp_path: Path) -> None:
    """Tokens end; the secret_id in memory gets another one."""
    key = VaultKey(place(short_lived, tmp_path), public_half(short_lived))
    await key.sign(NOTE)
    first = key._token
    short_lived.server.call("POST", "auth/token/revoke-self", first, {})

    await key.sign(NOTE)

    assert key._token != first


@pytest.mark.slow
async def test_vault_key_when_another_key_is_pinned_then_refused(bao: Bao, tmp_path: Path) -> None:
    """What the server signs with is not what the rules pin: nothing is published."""
    key = VaultKey(place(bao, tmp_path), ed25519.public_key(bytes(32)))

    with pytest.raises(IntegrityError, match="LOG_KEY"):
        await key.sign(NOTE)


@pytest.mark.slow
async def test_vault_key_when_the_wrapping_token_was_used_then_told_as_an_incident(bao: Bao, tmp_path: Path) -> None:
    """Somebody unwrapped it before us."""
    where = place(bao, tmp_path)
    bao.server.call("POST", "sys/wrapping/unwrap", where.wrapped_secret_id.read_text(), {})

    with pytest.raises(IntegrityError, match="WRAP_USED"):
        await VaultKey(where, bytes(32)).sign(NOTE)


@pytest.mark.slow
async def test_vault_key_when_the_authority_is_another_then_no_token_is_sent(bao: Bao, tmp_path: Path) -> None:
    """The wrapping token stays unused."""
    where = place(bao, tmp_path)
    other = make_ca(tmp_path / "other").certificate_path
    key = VaultKey(VaultPlace(where.address, where.key, other, where.role, where.role_id, where.wrapped_secret_id), b"")

    with pytest.raises(IntegrityError, match="VAULT_UNTRUSTED"):
        await key.sign(NOTE)

    assert where.wrapped_secret_id.exists()

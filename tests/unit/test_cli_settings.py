"""Settings, key files and memory of one person."""

from pathlib import Path

import pytest

from console.config import WitnessPlace, config_text, default_path, load_config
from console.files import read_seed, replace_file, write_new
from console.memory import Memory, load_memory, save_memory
from custody.errors import ConflictError, CustodyError, IntegrityError, MalformedError

TLS = {"ca": "ca.pem", "certificate": "a.pem", "key": "a.key"}
WALLET, GENESIS, DIGEST = bytes([1]) * 32, bytes([7]) * 32, bytes([3]) * 32


def written(tmp_path: Path, extra: str = "") -> Path:
    """Return settings of alice, with a line more."""
    path = tmp_path / "config.toml"
    path.write_text(extra + config_text("localhost:1", "alice", "alice.ed25519", TLS))
    return path


def test_load_config_given_what_init_writes_reads_it_back(tmp_path: Path) -> None:
    """Paths are relative to the file."""
    config = load_config(written(tmp_path))
    assert (config.coordinator, config.me) == ("localhost:1", "alice")
    assert config.key == tmp_path.resolve() / "alice.ed25519"
    assert config.tls.ca == tmp_path.resolve() / "ca.pem"


@pytest.mark.parametrize(
    ("extra", "code"),
    [("colour = 1\n", "FIELD_UNKNOWN"), ("me = \n", "CONFIG_UNREADABLE"), ("\x00", "CONFIG_UNREADABLE")],
)
def test_load_config_given_what_nobody_knows_is_refused(tmp_path: Path, extra: str, code: str) -> None:
    """An unknown key or broken TOML: nothing starts."""
    with pytest.raises(MalformedError) as found:
        load_config(written(tmp_path, extra))
    assert found.value.code == code


def test_load_config_given_witnesses_reads_them_and_refuses_more_about_them(tmp_path: Path) -> None:
    """A name and an address each, and nothing else."""
    path = written(tmp_path)
    path.write_text(path.read_text() + '[[witnesses]]\nname = "w1"\naddress = "w1.example:7443"\n')
    assert load_config(path).witnesses == (WitnessPlace("w1", "w1.example:7443"),)
    path.write_text(path.read_text() + 'key = "00"\n')
    with pytest.raises(MalformedError) as found:
        load_config(path)
    assert found.value.code == "FIELD_UNKNOWN"


def test_load_config_without_a_file_says_what_makes_one(tmp_path: Path) -> None:
    """The message names `keyturn init`."""
    with pytest.raises(MalformedError, match="keyturn init"):
        load_config(tmp_path / "none.toml")


def test_config_text_given_quotes_cannot_smuggle_a_key(tmp_path: Path) -> None:
    """A value with quotes and line ends stays one value."""
    path = tmp_path / "config.toml"
    path.write_text(config_text('x"\nme = "eve', "alice", "k", TLS))
    assert load_config(path).coordinator == 'x"\nme = "eve'


def test_default_path_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$XDG_CONFIG_HOME when it is absolute, else ~/.config."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "keyturn" / "config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert default_path() == Path.home() / ".config" / "keyturn" / "config.toml"


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """Return a key file."""
    path.write_text(text)
    path.chmod(mode)
    return path


def test_read_seed_given_hex_returns_it(tmp_path: Path) -> None:
    """A line end at its end is not part of it."""
    assert read_seed(key_file(tmp_path / "k", "ab" * 32 + "\n")) == b"\xab" * 32


def test_read_seed_given_others_may_read_it_is_refused(tmp_path: Path) -> None:
    """A key that a group can read is no key."""
    with pytest.raises(IntegrityError) as found:
        read_seed(key_file(tmp_path / "k", "ab" * 32, 0o640))
    assert found.value.code == "KEY_FILE_MODE"


@pytest.mark.parametrize("text", ["", "ab" * 31, "zz" * 32, "secret-words-here"])
def test_read_seed_given_something_else_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    """What the file holds is never in the message."""
    with pytest.raises(MalformedError) as found:
        read_seed(key_file(tmp_path / "k", text))
    assert found.value.code == "KEY_FILE"
    assert not text or text not in str(found.value)


def test_read_seed_given_a_link_is_refused(tmp_path: Path) -> None:
    """A link could lead to a file of somebody else."""
    (tmp_path / "link").symlink_to(key_file(tmp_path / "k", "ab" * 32))
    with pytest.raises(MalformedError):
        read_seed(tmp_path / "link")


def test_write_new_given_a_taken_name_changes_nothing(tmp_path: Path) -> None:
    """Keys, geneses and bundles are never overwritten; nothing half-written stays."""
    write_new(tmp_path / "a", b"one")
    with pytest.raises(ConflictError):
        write_new(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_write_new_given_no_directory_says_so(tmp_path: Path) -> None:
    """A missing directory is the user's to make."""
    with pytest.raises(MalformedError) as found:
        write_new(tmp_path / "none" / "a", b"x")
    assert found.value.code == "FILE_UNWRITABLE"


def test_memory_given_a_round_trip_is_the_same(tmp_path: Path) -> None:
    """What was seen is read back."""
    memory = Memory(GENESIS, 3, b"\x09" * 32).with_index(WALLET, 7).with_index(WALLET, 5).with_note(DIGEST, "asked Bob")
    save_memory(tmp_path / "m", memory)
    found = load_memory(tmp_path / "m", GENESIS)
    assert found == memory
    assert (found.last_index(WALLET), found.last_index(DIGEST), found.note_of(DIGEST)) == (7, -1, "asked Bob")


def test_memory_of_another_genesis_is_forgotten(tmp_path: Path) -> None:
    """Another organisation's log says nothing about this one's."""
    save_memory(tmp_path / "m", Memory(bytes(32), 3, b"\x09" * 32))
    assert load_memory(tmp_path / "m", GENESIS) == Memory(GENESIS)


def test_memory_given_damage_is_refused(tmp_path: Path) -> None:
    """A damaged memory is not a new one."""
    replace_file(tmp_path / "m", b'{"genesis":"x"}')
    with pytest.raises(CustodyError):
        load_memory(tmp_path / "m", GENESIS)

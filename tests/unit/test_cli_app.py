"""The entry point: commands load when they are called, exit codes mean one thing each, JSON is always JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from console.channel import CallRefusedError
from console.cli.app import COMMANDS, exit_code
from console.pages import genesis_lines
from console.refusal import RefusedHereError
from custody.canonical import encode
from custody.errors import (
    ConflictError,
    CustodyError,
    DeniedError,
    IntegrityError,
    MalformedError,
    NotFoundError,
    Refused,
    UnavailableError,
)
from custody.genesis import parse_genesis, read_key_record
from custody.scripts import Template
from custody.statements import Kind, Signed, endorse
from custody.words import words
from tests.desk import keyturn
from tests.fakes.rules import document, key_of, seed_of
from tests.world import NODES, make_genesis, record_of

REFUSED = Refused("X", "a", "b")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CustodyError("X", ""), 1),
        (IntegrityError("X", ""), 1),
        (MalformedError("X", ""), 2),
        (RefusedHereError(REFUSED), 3),
        (CallRefusedError(REFUSED), 3),
        (ConflictError("X", ""), 3),
        (DeniedError("X", ""), 3),
        (NotFoundError("X", ""), 4),
        (UnavailableError("X", ""), 5),
    ],
)
def test_exit_code_of_each_family(error: CustodyError, code: int) -> None:
    """Scripts act on these numbers."""
    assert exit_code(error)[0] == code


def test_version_imports_no_network() -> None:
    """`keyturn version` starts at once: grpc, embit and the policy stay on disk."""
    script = (
        "import sys\nfrom console.cli.app import main\ncode = main(['version', '-o', 'json'])\n"
        "print(sorted({'grpc', 'embit', 'rich', 'coincurve', 'custody.policy'} & set(sys.modules)))\nsys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    version, loaded = ran.stdout.splitlines()
    assert json.loads(version)["version"]
    assert loaded == "[]"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_each_command_prints(command: str) -> None:
    """Every command of the table exists and explains itself."""
    ran = keyturn(command, "--help")
    assert ran.code == 0
    assert f"keyturn {command}" in ran.out


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["list", "--nonsense"], ["show"], ["-o", "xml", "version"], ["list", "--limit", "many"], ["wallet"]],
)
def test_usage_is_exit_code_2(arguments: list[str]) -> None:
    """What Typer refuses is usage."""
    assert keyturn(*arguments).code == 2


def test_usage_under_json_is_one_document() -> None:
    """Programs read stdout, whatever happened."""
    ran = keyturn("list", "--nonsense", "-o", "json")
    assert (ran.code, ran.json["error"], ran.err) == (2, "USAGE", "")


def test_usage_says_what_is_missing_and_where_help_is() -> None:
    """A missing argument is named; a group without its command prints its help."""
    assert "see keyturn show --help" in keyturn("show").err
    assert "address" in keyturn("wallet").out


def test_no_settings_is_usage(tmp_path: Path) -> None:
    """A command that needs settings says which file it looked for."""
    ran = keyturn("--config", str(tmp_path / "none.toml"), "list")
    assert ran.code == 2
    assert "CONFIG_MISSING" in ran.err


def made(tmp_path: Path, me: str) -> Path:
    """Run `keyturn init` and put the tests' key of `me` in place of the random one."""
    path = tmp_path / me / "config.toml"
    tls = [f"--{name}={tmp_path / name}" for name in ("ca", "certificate", "key")]
    ran = keyturn("--config", str(path), "init", "--me", me, "--coordinator", "localhost:1", *tls, "-o", "json")
    assert ran.code == 0, ran.err
    assert len(ran.json["words"].split()) == 12
    key = path.with_name(f"{me}.ed25519")
    assert key.stat().st_mode & 0o777 == 0o600
    assert ran.json["public_key"] not in key.read_text()
    key.write_text(seed_of(me).hex())
    return path


def test_init_twice_is_refused(tmp_path: Path) -> None:
    """A second init would orphan the first key."""
    made(tmp_path, "alice")
    ran = keyturn(
        "--config", str(tmp_path / "alice" / "config.toml"), "init", "--me", "alice", "--coordinator", "x", "--ca", "x",
        "--certificate", "x", "--key", "x",
    )  # fmt: skip
    assert (ran.code, "CONFIG_EXISTS" in ran.err) == (3, True)


def rules_file(tmp_path: Path) -> Path:
    """Return a rules document whose ids are "auto", spelled as people write JSON."""
    rules = document(wallets={"treasury": {"wallet_id": "auto", "classes": ["hot"]}})
    for node in rules["roots"]["nodes"]:
        node["identity"] = "auto"
    (tmp_path / "rules.json").write_text(json.dumps(rules, indent=2))
    return tmp_path / "rules.json"


def composed(tmp_path: Path, *more: str) -> Path:
    """Run `keyturn genesis compose` over the tests' nodes."""
    slots = []
    for node in NODES:
        (tmp_path / f"{node}.json").write_bytes(record_of(node).to_bytes())
        slots += ["--slot", str(tmp_path / f"{node}.json")]
    out = tmp_path / "genesis.unsigned.json"
    command = ["genesis", "compose", "--rules", str(rules_file(tmp_path)), "--wallet", "treasury", "--threshold", "2"]
    ran = keyturn(*command, *slots, "--demo", "--out", str(out), *more)
    assert ran.code == 0, ran.err
    return out


@pytest.mark.parametrize("template", Template, ids=lambda one: one.name)
def test_compose_given_a_template_makes_a_wallet_of_it(template: Template, tmp_path: Path) -> None:
    """Spelled as people type it; the page that everybody confirms names the form."""
    typed = template.name.lower().replace("_", "-")
    genesis = parse_genesis(Signed.from_bytes(composed(tmp_path, "--template", typed).read_bytes()))

    assert genesis.wallets[0].wallet.template is template
    assert f"wallet treasury: 2 of 3, {template.form}" in "\n".join(genesis_lines(genesis))


def endorsement_file(tmp_path: Path, name: str, raw: bytes) -> Path:
    """Return a node's signature of a genesis, as its own command writes it."""
    path = tmp_path / f"{name}.sig"
    path.write_bytes(encode(endorse(Kind.GENESIS, raw, seed_of(name)).to_json()))
    return path


def test_ceremony_from_records_to_a_pin(tmp_path: Path) -> None:
    """Compose fills every "auto", two admins sign, all signatures are collected, and the words pin it."""
    unsigned = composed(tmp_path)
    raw = Signed.from_bytes(unsigned.read_bytes()).raw
    signatures = [endorsement_file(tmp_path, node, raw) for node in NODES]
    for admin in ("erin", "frank"):
        out = tmp_path / f"{admin}.sig"
        ran = keyturn(
            "--config", str(made(tmp_path, admin)), "genesis", "sign", str(unsigned), "--out", str(out), typed="yes\n"
        )
        assert ran.code == 0, ran.err
        assert "first address bcrt 1q" in ran.out
        signatures.append(out)
    signed = tmp_path / "genesis.json"
    ran = keyturn("genesis", "collect", str(unsigned), *map(str, signatures), "--out", str(signed), "-o", "json")
    assert (ran.code, ran.json["missing"]) == (0, [])
    shown = keyturn("genesis", "show", str(signed), "-o", "json").json
    config = made(tmp_path, "alice")
    pinned = keyturn("--config", str(config), "pin", *shown["words"].split(), str(signed))
    assert pinned.code == 0, pinned.err
    assert (
        keyturn("--config", str(config), "wallet", "address", "--index", "0", "-o", "json").json["address"]
        == (shown["first_addresses"]["treasury"])
    )
    again = keyturn("--config", str(config), "pin", shown["genesis"], str(signed))
    assert again.code == 0, again.err


def test_collect_names_who_is_missing(tmp_path: Path) -> None:
    """An incomplete genesis is written, and says whose signature it lacks."""
    unsigned, out = composed(tmp_path), tmp_path / "g.json"
    one = endorsement_file(tmp_path, "alpha", Signed.from_bytes(unsigned.read_bytes()).raw)
    ran = keyturn("genesis", "collect", str(unsigned), str(one), "--out", str(out), "-o", "json")
    assert (ran.code, ran.json["missing"]) == (0, ["beta", "cold", "erin", "frank", "grace"])
    config = made(tmp_path, "alice")
    words_now = keyturn("genesis", "show", str(out), "-o", "json").json["genesis"]
    refused = keyturn("--config", str(config), "pin", words_now, str(out))
    assert (refused.code, "GENESIS_UNSIGNED" in refused.err) == (2, True)
    assert not config.with_name("genesis.json").exists()


@pytest.mark.parametrize(("name", "other", "code"), [("alice", "", "STRANGER"), ("alpha", "x", "SIGNATURE")])
def test_collect_given_a_wrong_signature_is_refused(tmp_path: Path, name: str, other: str, code: str) -> None:
    """A signature of another document, or of nobody whom the document names."""
    unsigned = composed(tmp_path)
    raw = Signed.from_bytes(unsigned.read_bytes()).raw + other.encode()
    path = endorsement_file(tmp_path, name, raw)
    ran = keyturn("genesis", "collect", str(unsigned), str(path), "--out", str(tmp_path / "g.json"))
    assert (ran.code, f"ENDORSEMENT_{code}" in ran.err) == (3, True)


def test_sign_by_who_is_no_admin_is_refused(tmp_path: Path) -> None:
    """Alice is in the rules, and no admin."""
    unsigned = composed(tmp_path)
    config = made(tmp_path, "alice")
    ran = keyturn("--config", str(config), "genesis", "sign", str(unsigned), "--out", str(tmp_path / "s"), "--yes")
    assert (ran.code, "NOT_AN_ADMIN" in ran.err) == (3, True)


def test_sign_without_a_yes_signs_nothing(tmp_path: Path) -> None:
    """Anything but yes is no."""
    unsigned, config = composed(tmp_path), made(tmp_path, "erin")
    out = tmp_path / "s"
    ran = keyturn("--config", str(config), "genesis", "sign", str(unsigned), "--out", str(out), typed="y\n")
    assert (ran.code, "NOT_CONFIRMED" in ran.err, out.exists()) == (3, True, False)


def test_compose_given_m_declared_keys_is_refused(tmp_path: Path) -> None:
    """A wallet may hold at most m-1 keys without a judge."""
    (tmp_path / "alpha.json").write_bytes(record_of("alpha").to_bytes())
    declared = [f"--declared={read_key_record(record_of(node)).key}=erin" for node in ("beta", "cold")]
    command = ["genesis", "compose", "--rules", str(rules_file(tmp_path)), "--wallet", "treasury", "--threshold", "2"]
    more = ["--slot", str(tmp_path / "alpha.json"), *declared, "--demo", "--out", str(tmp_path / "g")]
    ran = keyturn(*command, *more)
    assert (ran.code, "GENESIS_TOO_MANY_DECLARED" in ran.err) == (2, True)
    assert not (tmp_path / "g").exists()


def test_pin_given_other_words_is_refused_and_repeats_nothing(tmp_path: Path) -> None:
    """A seed phrase typed by mistake is neither accepted nor shown."""
    signed, config = tmp_path / "g.json", made(tmp_path, "alice")
    signed.write_bytes(make_genesis().signed.to_bytes())
    typed = words(key_of("alice"))
    ran = keyturn("--config", str(config), "pin", " ".join(typed), str(signed))
    assert (ran.code, "GENESIS_OTHER" in ran.err) == (3, True)
    assert " ".join(typed[:3]) not in ran.out + ran.err


def test_pin_of_a_second_genesis_is_refused(tmp_path: Path) -> None:
    """A pin is for ever."""
    config = made(tmp_path, "alice")
    first, second = make_genesis(), make_genesis(policy_id="other")
    for genesis, code in ((first, 0), (second, 3)):
        path = tmp_path / f"{code}.json"
        path.write_bytes(genesis.signed.to_bytes())
        assert keyturn("--config", str(config), "pin", genesis.hash.hex(), str(path)).code == code

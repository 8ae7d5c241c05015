"""version, init, pin, doctor: what a person does once, and what to look at when something does not work."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Invocation, invocation
from console.cli.output import Table

if TYPE_CHECKING:
    from console.config import Config
    from custody.genesis import Genesis

app = typer.Typer(rich_markup_mode=None)
CERTIFICATE_WARNING_SECONDS = 3_600  # an hour is enough to get another one
MAX_CLOCK_SECONDS = 60  # beyond it, approvals and checkpoints look wrong for reasons that nobody sees


@app.command()
def version(context: typer.Context) -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    found = installed("keyturn")
    invocation(context).output.done({"version": found, "protocol": 1}, f"keyturn {found} (documents: version 1)")


@app.command()
def init(
    context: typer.Context,
    me: Annotated[str, typer.Option(help="Your name in the rules.")],
    coordinator: Annotated[str, typer.Option(help="host:port")],
    ca: Annotated[Path, typer.Option(help="PEM of the coordinator's authority.")],
    certificate: Annotated[Path, typer.Option(help="PEM of your certificate.")],
    key: Annotated[Path, typer.Option(help="PEM of your certificate's key, mode 0600.")],
    ssh_key: Annotated[
        Path | None, typer.Option(metavar="FILE.pub", help="Sign with this SSH key, by ssh-keygen, not a new key file.")
    ] = None,
) -> None:
    """Make a configuration and an Ed25519 key of your own, or take an SSH key; print its public half and words."""
    from console.config import config_text, default_path
    from console.files import write_new
    from console.pages import key_words
    from console.pen import open_pen
    from custody.errors import ConflictError
    from custody.fields import check_name

    called = invocation(context)
    path = called.config_path or default_path()
    name = check_name(me, "--me")
    if path.exists():
        raise ConflictError("CONFIG_EXISTS", f"expected no configuration {path} yet")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if ssh_key is None:
        key_path = path.with_name(f"{name}.ed25519")
        write_new(key_path, f"{os.urandom(32).hex()}\n".encode())
        kept = "secret, mode 0600; nothing can restore it"
    else:
        key_path, kept = ssh_key.resolve(), "its private half stays where it is"
    pen = open_pen(key_path)
    tls = {"ca": str(ca.resolve()), "certificate": str(certificate.resolve()), "key": str(key.resolve())}
    place = key_path.name if ssh_key is None else str(key_path)
    write_new(path, config_text(coordinator, name, place, tls).encode())
    called.output.done(
        {
            "config": str(path),
            "key": str(key_path),
            "alg": pen.alg,
            "public_key": pen.key.hex(),
            "words": key_words(pen.key),
        },
        f"configuration  {path}",
        f"key            {key_path} ({kept})",
        f"public key     {pen.alg} {pen.key.hex()}",
        f"its words      {key_words(pen.key)}",
        "",
        "Give the public key to whoever writes the rules, and read out its words when they ask.",
    )


@app.command()
def pin(
    context: typer.Context,
    typed: Annotated[list[str], typer.Argument(metavar="HASH|WORDS FILE", help="As compared between machines.")],
) -> None:
    """Pin a genesis: what people compared, and the file that has it. Once, for ever."""
    from console.config import read_genesis_file
    from console.files import write_new
    from console.pages import genesis_lines
    from custody.errors import ConflictError
    from custody.genesis import check_signed

    called = invocation(context)
    config = called.config()
    if len(typed) < 2:
        raise typer.BadParameter("expected HASH or twelve WORDS, then FILE")
    genesis = read_genesis_file(Path(typed[-1]))
    called.output.say(*genesis_lines(genesis))
    _check_typed(" ".join(typed[:-1]), genesis)
    check_signed(genesis)
    if config.genesis.exists() and read_genesis_file(config.genesis).hash != genesis.hash:
        raise ConflictError("ALREADY_PINNED", f"expected the genesis in {config.genesis}, found another")
    if not config.genesis.exists():
        write_new(config.genesis, genesis.signed.to_bytes())
    called.output.done({"genesis": genesis.hash.hex(), "file": str(config.genesis)}, "", f"pinned in {config.genesis}")


def _check_typed(typed: str, genesis: Genesis) -> None:
    """Refuse where the operator means another genesis than the file holds; what was typed is never repeated."""
    from console.refusal import refuse
    from custody.words import words

    meant = typed.lower().split()
    if meant not in ([genesis.hash.hex()], list(words(genesis.hash))):
        refuse("GENESIS_OTHER", "the hash or words of this file, as other machines show them", "others")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`. state: "ok", "warning" or "wrong"."""

    name: str
    state: str
    detail: str


@app.command()
def doctor(context: typer.Context) -> None:
    """Check settings, certificates, genesis, clock and coordinator; exit code 1 where something is wrong."""
    called = invocation(context)
    checks = _local_checks(called)
    if all(check.state != "wrong" for check in checks):
        checks += asyncio.run(_remote_checks(called))
    is_fine = all(check.state != "wrong" for check in checks)
    called.output.done(
        {"ok": is_fine, "checks": [{"name": c.name, "state": c.state, "detail": c.detail} for c in checks]},
        Table(("check", "state", "found"), [(c.name, c.state, c.detail) for c in checks]),
    )
    if not is_fine:
        raise typer.Exit(1)


def _local_checks(called: Invocation) -> list[Check]:
    found: list[Check] = []
    settings = _checked(found, "settings", lambda: _settings(called))
    if settings is None:
        return found
    _checked(found, "certificate", lambda: _certificate(settings))
    _checked(found, "genesis", lambda: _genesis(called))
    _checked(found, "own key", lambda: _own_key(called))
    if settings.witnesses:
        _checked(found, "witnesses", lambda: _witnesses(called))
    return found


def _checked(found: list[Check], name: str, look: Callable[[], tuple[object, str]]) -> Config | None:
    """Add what `look` finds; return its value where it is a configuration."""
    from console.config import Config
    from custody.errors import CustodyError

    try:
        value, detail = look()
    except CustodyError as error:
        found.append(Check(name, "wrong", str(error)))
        return None
    found.append(Check(name, "warning" if value is False else "ok", detail))
    return value if isinstance(value, Config) else None


def _settings(called: Invocation) -> tuple[object, str]:
    config = called.config()
    return config, f"{config.path} for {config.me}"


def _certificate(config: Config) -> tuple[object, str]:
    from cryptography import x509

    from console.files import read_file
    from console.tls import TlsFiles, channel_credentials
    from custody.errors import MalformedError

    channel_credentials(TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca))
    try:
        certificate = x509.load_pem_x509_certificate(read_file(config.tls.certificate, 64 * 1024))
    except ValueError as error:
        raise MalformedError("CERTIFICATE", f"expected PEM in {config.tls.certificate}") from error
    left_s = int((certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).total_seconds())
    uris = [
        uri
        for extension in certificate.extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
        for uri in extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    ]
    if left_s <= 0:
        raise MalformedError("CERTIFICATE_EXPIRED", f"expected a certificate in date, found one {-left_s} s too old")
    return left_s > CERTIFICATE_WARNING_SECONDS, f"{', '.join(uris) or 'no identity'}, {left_s // 60} min left"


def _genesis(called: Invocation) -> tuple[object, str]:
    genesis = called.genesis()
    return True, f"{genesis.hash.hex()[:16]} on {genesis.network.value} ({genesis.purpose.value})"


def _own_key(called: Invocation) -> tuple[object, str]:
    from console.drafts import check_me
    from console.pen import open_pen
    from console.refusal import refuse_if

    config = called.config()
    public = open_pen(config.key).key
    refuse_if(check_me(called.genesis().policy, config.me, public, int(time.time())))
    return True, f"{public.hex()[:16]} is a key of {config.me} in the rules"


def _witnesses(called: Invocation) -> tuple[object, str]:
    from custody.errors import MalformedError

    pinned = {witness.name for witness in called.genesis().policy.roots.witnesses}
    named = [witness.name for witness in called.config().witnesses]
    if unknown := sorted(set(named) - pinned):
        raise MalformedError("WITNESS_UNKNOWN", f"expected witnesses of the rules, found {', '.join(unknown)}")
    return True, f"freezes and stops are also posted to {', '.join(named)}"


async def _remote_checks(called: Invocation) -> list[Check]:
    """Ask the coordinator for its genesis, its rules, and a fresh checkpoint of the money log."""
    from console.channel import Address
    from console.cli.office import Office
    from console.client import Client
    from console.tls import TlsFiles
    from custody.errors import CustodyError

    config, genesis = called.config(), called.genesis()
    files = TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca)
    found: list[Check] = []
    try:
        async with Client(Address(config.coordinator, files)) as client:
            same = (await client.genesis()).digest == genesis.hash
            found.append(Check("coordinator", "ok" if same else "wrong", _same_genesis(config, same)))
            rules = await client.rules()
            found.append(Check("rules", "ok", f"version {rules.version}, {len(rules.freezes)} freezes in force"))
            followed = await Office(called, config, genesis, client).followed()
            age = followed.age_s(int(time.time()))
            state = "ok" if followed.is_fresh(int(time.time())) else "wrong"
            found.append(Check("money log", state, f"{followed.state.size} entries, vouched for {age} s ago"))
            is_close = abs(age) <= MAX_CLOCK_SECONDS
            found.append(Check("clock", "ok" if is_close else "warning", f"{age} s from the witnesses' time"))
    except CustodyError as error:
        found.append(Check("coordinator", "wrong", str(error)))
    return found


def _same_genesis(config: Config, same: bool) -> str:
    return f"{config.coordinator} has {'our' if same else 'ANOTHER'} genesis"

"""`keyturn`: the entry point. Options, the table of commands, and what an exit code means.

Commands load when they are called: `keyturn version` imports no grpc. Exit codes: 0 done, 1 breakage, 2 usage,
3 refused, 4 not found, 5 unavailable; `audit verify` has its own from 10 on.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from console.cli.office import Invocation
from console.cli.output import Output
from custody.errors import (
    ConflictError,
    CustodyError,
    DeniedError,
    MalformedError,
    NotFoundError,
    UnavailableError,
)
from custody.pasted import find_secret

DONE, BROKEN, USAGE, REFUSED, NOT_FOUND, UNAVAILABLE = range(6)
INTERRUPTED = 130  # 128 + SIGINT, as shells count
_ROOT_OPTIONS = {"-o": "--output", "--output": "--output", "--config": "--config", "-c": "--config"}

# command -> (module in console.cli, one line of help): help lists commands without loading them
COMMANDS: Mapping[str, tuple[str, str]] = {
    "version": ("setup", "Print the version."),
    "init": ("setup", "Make a configuration and an Ed25519 key of your own."),
    "pin": ("setup", "Pin a genesis after comparing its twelve words."),
    "doctor": ("setup", "Check settings, certificates, genesis, clock and coordinator."),
    "genesis": ("genesis", "Compose, sign, collect and show the root document."),
    "ceremony": ("board", "The board where key records, genesis and signatures meet."),
    "propose": ("withdrawals", "Sign a withdrawal and hand it in."),
    "show": ("withdrawals", "Show one withdrawal, and who is missing."),
    "list": ("withdrawals", "List withdrawals, newest first."),
    "desk": ("desk", "Open your desk in the browser: read, approve, ask."),
    "watch": ("watching", "Watch withdrawals; alarm on notices, a stale log, spends without a release."),
    "status": ("watching", "Show the log, freezes, and spends that nothing released."),
    "cancel": ("withdrawals", "Take a withdrawal back before its release."),
    "approve": ("voting", "Read a withdrawal and approve it."),
    "reject": ("voting", "Reject a withdrawal for ever."),
    "veto": ("voting", "Veto a withdrawal for ever."),
    "freeze": ("voting", "Stop every signature, at once."),
    "unfreeze": ("unfreezing", "Lift freezes, as a quorum."),
    "message": ("messages", "Messages and proofs of funds that a wallet signs (BIP-322)."),
    "wallet": ("wallet", "Balances, and deposit addresses that are derived here."),
    "signer": ("signers", "The signer nodes."),
    "bundle": ("couriers", "Carry bundles to offline nodes, and answers back."),
    "delta": ("couriers", "Carry log entries to an offline node that is behind."),
    "psbt": ("psbts", "Carry PSBTs to third-party signers and back."),
    "policy": ("policy", "The rules, what they say of a withdrawal, and their change."),
    "principal": ("principals", "Whose keys the rules list."),
    "audit": ("audit", "Verify and export the logs."),
    "chain": ("chain", "Steer the embedded regtest chain."),
}


class LazyCommands(TyperGroup):
    """The commands of COMMANDS, each loaded from its module when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # Any: the vendored Context has no public name
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return one command, or None."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            module = importlib.import_module(f"console.cli.{COMMANDS[cmd_name][0]}")
            found: Any = typer.main.get_group(module.app)
            command = found.commands[cmd_name]
            command.help = command.help or COMMANDS[cmd_name][1]
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of commands for --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


app = typer.Typer(
    name="keyturn",
    cls=LazyCommands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Ask for withdrawals, approve them, carry them, check them. Every digest and address is computed here.",
)


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings. Default: $XDG_CONFIG_HOME/keyturn/config.toml")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text or json; may stand anywhere.")] = "text",
) -> None:
    """Ask for withdrawals, approve them, carry them, check them. Every digest and address is computed here."""
    if output not in ("text", "json"):
        raise typer.BadParameter("expected text or json", param_hint="--output")
    context.obj = Invocation(config, Output(output == "json"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    front, rest = _options_first(given)
    output = Output(["--output", "json"] in [front[at : at + 2] for at in range(0, len(front), 2)])
    secret = find_secret(given, may_hold_words=rest[:1] == ["pin"])
    if secret is not None:
        output.failed(
            "SECRET_IN_ARGUMENT",
            f"expected no private key and no seed words, found one in argument {secret}; "
            "it is in the shell's history now: move the funds",
            "refused",
        )
        return REFUSED
    return _run([*front, *rest], output)


def _run(arguments: list[str], output: Output) -> int:
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="keyturn", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except CustodyError as error:
        code, what = exit_code(error)
        output.failed(error.code, error.message, what)
        return code
    except typer.TyperException as error:  # usage: an unknown option, a missing argument
        return _misused(error, output)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return DONE
    except Exception as error:  # process main: whatever it is, its text may hold what others wrote
        output.failed("INTERNAL", f"{type(error).__name__}: {error}", "broken")
        return BROKEN


def _misused(error: typer.TyperException, output: Output) -> int:
    text = error.format_message()
    if "\n" in text:  # the help of a group that was called without its command
        output.page(text.splitlines())
        return USAGE
    path = getattr(getattr(error, "ctx", None), "command_path", "keyturn")
    output.failed("USAGE", f"{text.rstrip('.')}; see {path} --help", "usage")
    return USAGE


def exit_code(error: CustodyError) -> tuple[int, str]:
    """Return the exit code of `error`, and the word in front of it."""
    from console.refusal import RefusedHereError

    if isinstance(error, RefusedHereError | ConflictError | DeniedError) or hasattr(error, "refused"):
        return REFUSED, "refused"
    if isinstance(error, NotFoundError):
        return NOT_FOUND, "not found"
    if isinstance(error, UnavailableError):
        return UNAVAILABLE, "unavailable"
    return (USAGE, "usage") if isinstance(error, MalformedError) else (BROKEN, "broken")


def _options_first(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the global options and the rest: `keyturn list -o json` means `keyturn -o json list`."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if argument == "--":
            return front, [*rest, argument, *waiting]
        if name in _ROOT_OPTIONS and equals and name.startswith("--"):
            front += [_ROOT_OPTIONS[name], value]
        elif argument in _ROOT_OPTIONS and (following := next(waiting, None)) is not None:
            front += [_ROOT_OPTIONS[argument], following]
        else:
            rest.append(argument)
    return front, rest


if __name__ == "__main__":
    sys.exit(main())

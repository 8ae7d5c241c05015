"""What a command works with: settings, pinned genesis, memory, connection; each made when it is needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from console.cli.output import Output

if TYPE_CHECKING:
    from console.client import Client
    from console.config import Config
    from console.follower import Followed
    from console.pen import Pen
    from console.views import WithdrawalView
    from custody.follow import State
    from custody.genesis import Genesis, GenesisWallet
    from custody.policy import Policy

SEARCH_PAGES = 10  # withdrawals looked through for a name that is not a whole digest: the newest 500
MIN_PREFIX_CHARS = 8  # of a digest: 32 bits are enough to tell, and too few to be worth attacking unseen (all is shown)


@dataclass(slots=True)
class Invocation:
    """One call of `keyturn`: what the options in front of the command say."""

    config_path: Path | None
    output: Output

    def config(self) -> Config:
        """Return this person's settings."""
        from console.config import default_path, load_config

        return load_config(self.config_path or default_path())

    def genesis(self) -> Genesis:
        """Return the pinned genesis."""
        from console.config import pinned_genesis

        return pinned_genesis(self.config())


@dataclass(slots=True)
class Office:
    """A connected command. now: UTC seconds, read anew each time.  latest: the log as this command followed it last."""

    invocation: Invocation
    config: Config
    genesis: Genesis
    client: Client
    latest: Followed | None = None

    @property
    def output(self) -> Output:
        """Where words go."""
        return self.invocation.output

    @property
    def policy(self) -> Policy:
        """The rules in force as far as this command knows: those of the log, or those that were pinned."""
        return self.genesis.policy if self.latest is None else self.latest.state.policy

    @property
    def now(self) -> int:
        """UTC seconds."""
        return int(time.time())

    async def in_force(self) -> Policy:
        """Return the rules in force: of the log, or those that were pinned where it cannot be followed now."""
        from custody.errors import UnavailableError

        if self.latest is None:
            try:
                await self.followed()
            except UnavailableError:
                self.output.warn("The log cannot be followed now: the pinned rules are taken for those in force.")
        return self.policy

    async def shown_by(self) -> Policy:
        """Return the rules by whose names and keys things are shown; a warning where they may be in force no more."""
        policy = await self.in_force()
        if self.latest is not None and not self.latest.is_fresh(self.now):
            self.output.warn(
                f"STALE: witnesses vouched for the log {self.latest.age_s(self.now)} s ago; shown as of then."
            )
        return policy

    async def pen(self) -> Pen:
        """Return what this person signs with, if the rules in force know its key.

        Raises:
            RefusedHereError: NOT_IN_RULES, KEY_NOT_IN_RULES.
        """
        from console.drafts import check_me
        from console.pen import open_pen
        from console.refusal import refuse_if

        pen = open_pen(self.config.key)
        refuse_if(check_me(await self.in_force(), self.config.me, pen.key, self.now))
        return pen

    async def followed(self) -> Followed:
        """Return the money log as followed now, and remember having seen it."""
        from console.follower import follow
        from console.memory import load_memory, save_memory

        pinned = replace(self.genesis, wallets=tuple(w for w in self.genesis.wallets if not w.document))
        followed = await follow(self.client, pinned, load_memory(self.config.memory, self.genesis.hash))
        latest = load_memory(self.config.memory, self.genesis.hash)  # another command may have written meanwhile
        if followed.state.size > latest.size:
            save_memory(self.config.memory, latest.with_log(followed.state.size, followed.state.frontier.root))
        self.latest = followed
        self.genesis = followed.state.genesis  # with the wallets that the log added
        return followed

    async def fresh_state(self) -> State:
        """Return the state to decide by.

        Raises:
            RefusedHereError: STALE where witnesses did not vouch for it just now.
        """
        from console.follower import require_fresh
        from console.refusal import refuse
        from custody.errors import UnavailableError

        try:
            return require_fresh(self.latest or await self.followed(), self.now)
        except UnavailableError as error:
            if error.code != "WITNESSES_MISSING":
                raise
            refuse("STALE", "a fresh checkpoint that enough witnesses vouched for", "none")

    async def find(self, name: str) -> WithdrawalView:
        """Return the withdrawal that `name` means: a digest, its first 8 digits or more, ID, or INITIATOR/ID.

        Raises:
            NotFoundError: WITHDRAWAL_UNKNOWN.
            RefusedHereError: AMBIGUOUS.
        """
        if len(name) == 64 and all(char in "0123456789abcdef" for char in name):
            return await self.client.withdrawal(bytes.fromhex(name))
        from custody.fields import check_name

        initiator, slash, withdrawal_id = name.partition("/")
        if slash:
            return await self.client.withdrawal_named(
                check_name(initiator, "initiator"), check_name(withdrawal_id, "withdrawal_id")
            )
        return await self._search(check_name(name, "withdrawal"))

    async def _search(self, name: str) -> WithdrawalView:
        from console.refusal import refuse
        from custody.errors import NotFoundError

        found: dict[bytes, WithdrawalView] = {}
        token = ""
        for _ in range(SEARCH_PAGES):
            views, token = await self.client.withdrawals(token=token)
            for view in views:
                is_prefix = len(name) >= MIN_PREFIX_CHARS and view.digest.hex().startswith(name)
                if is_prefix or view.withdrawal.withdrawal_id == name:
                    found[view.digest] = view
            if not token:
                break
        if not found:
            raise NotFoundError("WITHDRAWAL_UNKNOWN", f"expected a withdrawal called {name}")
        if len(found) > 1:
            named = ", ".join(f"{v.withdrawal.initiator}/{v.withdrawal.withdrawal_id}" for v in found.values())
            refuse("AMBIGUOUS", "one withdrawal: INITIATOR/ID or a digest", named)
        return await self.client.withdrawal(next(iter(found)))

    async def wallet(self, name: str | None) -> GenesisWallet:
        """Return the wallet called `name`, or the only pinned one; the log is asked for one that came later."""
        if name is not None and all(wallet.name != name for wallet in self.genesis.wallets):
            await self.followed()
        return wallet_named(self.genesis, name)


def wallet_named(genesis: Genesis, name: str | None) -> GenesisWallet:
    """Return the wallet of `genesis` called `name`, or the only one.

    Raises:
        NotFoundError: WALLET_UNKNOWN.
    """
    from custody.errors import NotFoundError

    found = [w for w in genesis.wallets if w.name == name or (name is None and len(genesis.wallets) == 1)]
    if not found:
        raise NotFoundError(
            "WALLET_UNKNOWN", f"expected --wallet with one of {', '.join(w.name for w in genesis.wallets)}"
        )
    return found[0]


def invocation(context: typer.Context) -> Invocation:
    """Return what the options in front of the command say."""
    found = context.find_root().obj
    assert isinstance(found, Invocation)  # noqa: S101 - the root callback sets it
    return found


def connected(context: typer.Context, work: Callable[[Office], Awaitable[None]]) -> None:
    """Run `work` with a connection to the coordinator."""
    called = invocation(context)
    config, genesis = called.config(), called.genesis()

    async def run() -> None:
        from console.channel import Address
        from console.client import Client
        from console.tls import TlsFiles

        files = TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca)
        async with Client(Address(config.coordinator, files)) as client:
            await work(Office(called, config, genesis, client))

    asyncio.run(run())

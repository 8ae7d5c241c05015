"""One lie, and how it is told: the log key and every key of the coordinator are in hostile hands, people's are not.

A lie is one change to a story that a signer would have believed. It is told in a small real world (`tests.world`): real
statements, a real log with a cosigned checkpoint, a real transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from custody.bundle import Bundle
from custody.genesis import Genesis
from custody.psbt import Psbt, PsbtInput, parse, serialize
from custody.psbt_fields import Field, FieldMap
from custody.statements import Signed, endorse
from custody.transaction import Transaction, TxOut
from custody.units import Sats
from custody.updater import build
from tests.fakes.rules import PAY, rule, script
from tests.world import LOG_SEED, Spend, World, make_genesis

TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
COLD = rule("cold", "require", {"amount": {"min_sats": 20_000_000}}, {"signers": {"min_offline": 1}})
SLOW = rule("slow", "require", {"amount": {"min_sats": 30_000_000}}, {"delay": {"seconds": 3_600}})
DAILY = rule("daily", "limit", {}, {"window": "day", "max_sats": 40_000_000, "on_exceed": "deny"})
HOME = rule("home", "allow", {"payments": "none", "fee": {"max_sats": 100_000}})
RULES = (PAY, TWO_EYES, COLD, SLOW, DAILY, HOME)
GENESIS = make_genesis(*RULES)
STRANGER = script(66)
BEHIND = "BEHIND"  # no refusal: a node that lacks entries says how many it has, and signs nothing


@dataclass(frozen=True, slots=True)
class Story:
    """What the node is told. raw: the lie.  now: its clock, UTC seconds.  before: what it was told first, and when.

    held: statements that reached it beside the log, from a witness.
    """

    genesis: Genesis
    raw: bytes
    now: int
    before: tuple[tuple[int, bytes], ...] = ()
    held: tuple[Signed, ...] = ()


@dataclass(frozen=True, slots=True)
class Lie:
    """tell: makes it, in an empty world or one of its own.  sentence: of protocol.md.  code: what every signer says.

    attacks: numbers of the attack list (docs/security.md) that it belongs to.
    """

    tell: Callable[[World], Bundle | Story]
    sentence: str
    code: str
    attacks: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What it is called: its builder's name."""
        return self.tell.__name__

    @property
    def meaning(self) -> str:
        """What it is: its builder's docstring."""
        return (self.tell.__doc__ or "").strip()

    def story(self) -> Story:
        """Return it as it is told."""
        world = World(GENESIS)
        told = self.tell(world)
        return told if isinstance(told, Story) else in_world(world, told)


def in_world(world: World, bundle: Bundle, *before: Bundle, held: tuple[Signed, ...] = ()) -> Story:
    """Return the story of `bundle`, told at the time of `world` behind the bundles `before`."""
    return Story(world.genesis, bundle.to_bytes(), world.now, tuple((world.now, b.to_bytes()) for b in before), held)


def by_coordinator(signed: Signed) -> Signed:
    """Return the statement under a signature of the only keys that a hostile coordinator has."""
    return replace(signed, endorsements=(endorse(signed.kind, signed.raw, LOG_SEED),))


def with_note(bundle: Bundle, note: str) -> Bundle:
    """Return `bundle` with another checkpoint at its end."""
    return replace(bundle, log=replace(bundle.log, note=note))


def with_transaction(psbt: Psbt, transaction: Transaction) -> bytes:
    """Return the bytes of `psbt` around another transaction of as many inputs and outputs."""
    fields = FieldMap((Field(b"\0", transaction.serialize_stripped()),))
    return serialize(replace(psbt, globals=fields, transaction=transaction))


def with_input(spend: Spend, change: Callable[[tuple[Field, ...]], tuple[Field, ...]]) -> Bundle:
    """Return the bundle of `spend` with the fields of its first input changed, behind a true RELEASE."""
    psbt = parse(spend.psbt)
    first = PsbtInput(change(psbt.inputs[0].fields))
    return spend.bundle(psbt=serialize(replace(psbt, inputs=(first, *psbt.inputs[1:]))))


def with_value(kind: int, value: bytes) -> Callable[[tuple[Field, ...]], tuple[Field, ...]]:
    """Return a change that gives every field of type `kind` another value."""
    return lambda fields: tuple(Field(f.key, value) if f.type == kind else f for f in fields)


def with_outputs(spend: Spend, *outputs: TxOut, hints: tuple[tuple[int, int], ...] = ()) -> bytes:
    """Return the PSBT of `spend`'s first coin with other outputs. hints: (output, index on branch 1)."""
    return serialize(build(spend.world.book, [spend.world.coin()], outputs, hints))


def outputs_of(spend: Spend) -> tuple[TxOut, ...]:
    """Return the outputs of `spend`: the payments, then the change."""
    return parse(spend.psbt).transaction.outputs


def output_to(output: TxOut, to: bytes) -> TxOut:
    """Return `output` with another script."""
    return replace(output, script=to)


def output_of(output: TxOut, more: int) -> TxOut:
    """Return `output` with `more` sats, or fewer."""
    return replace(output, amount=Sats(output.amount + more))

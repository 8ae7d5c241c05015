"""The money log's witness: it follows every entry, so it knows the rules in force and what the log leaves out.

It vouches for no checkpoint whose entries it has not replayed, and for none that omits a statement it held for 60 s.
The entries need the log's signature only: cosignatures are what it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from custody.audit import Checkpoint, Log, open_checkpoint, open_signed, parse_checkpoint, parse_note
from custody.bundle import Delta, LogPart, parse_delta
from custody.errors import CustodyError, IntegrityError, MalformedError, Refused
from custody.follow import State, append, in_force, start
from custody.genesis import Genesis
from custody.held import HeldReceipt, sign_receipt, withheld
from custody.statements import Signed
from signer_node.inbox import Inbox
from signer_node.marks import held_mark_path
from signer_node.records import RecordFile
from signer_node.witness import CosignRequest, WitnessPins
from signer_node.witness_store import Witness, WitnessPaths, WitnessStore, mark_path, read_key


@dataclass(frozen=True, slots=True)
class WitnessHome:
    """Where a witness lives. name: as it signs.  key: its key file, the marks beside it.  state: a directory."""

    name: str
    key: Path
    state: Path

    def __post_init__(self) -> None:
        if self.state.resolve() in self.key.resolve().parents:
            raise MalformedError("CONFIG_STATE", "expected the witness key, and the marks beside it, outside the state")


class WatchedLog:
    """The money log as the log holder signed it to this witness, on its own disk.

    Args:
        path: its file; opened for as long as the process runs.
        genesis: whose log; it starts at size 0.

    Raises:
        IntegrityError: the file is damaged; it can be removed, and is filled again from the log.
    """

    def __init__(self, path: Path, genesis: Genesis) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._genesis = genesis
        self.state: State = start(genesis)
        self._file = RecordFile(path)
        for raw in self._file.records:
            self.state = _followed(self.state, parse_delta(raw).log)

    def take(self, raw: bytes) -> int | Refused:
        """Follow the entries of the delta `raw`; return how many there are now, or why none was taken."""
        try:
            delta = parse_delta(raw)
            if delta.genesis != self._genesis.hash:
                return Refused("GENESIS_OTHER", self._genesis.hash.hex(), delta.genesis.hex())
            log, size = delta.log, self.state.size
            if log.first > size:
                return Refused("WITNESS_BEHIND", f"entries from index {size} on", str(size))
            state = _followed(self.state, log)
        except CustodyError as error:
            return Refused(error.code, "entries that continue what this witness follows", error.message)
        if state.size > size:
            part = LogPart(size, log.from_size(size), log.statements, log.note)
            self._file.append(Delta(self._genesis.hash, part).to_bytes())
            self.state = state
        return state.size


def _followed(state: State, log: LogPart) -> State:
    """Return the state after `log`, which must end at a checkpoint that the log signed.

    Its key may be that of rules that wait: when they take effect, the witness that cosigns asks its clock.
    """
    statements = log.by_digest()
    for entry in log.from_size(state.size):
        state = append(state, entry, statements)
    checkpoint = _signed_by_the_log(state, log.note)
    if (checkpoint.size, checkpoint.root) != (state.size, state.frontier.root):
        raise IntegrityError("WITNESS_FORK", f"expected the root of my {state.size} entries, found another tree")
    return state


def _signed_by_the_log(state: State, note: str) -> Checkpoint:
    rules, origin = state.rules, state.genesis.origin("money")
    *others, last = dict.fromkeys(p.roots.log_key for p in (rules.policy, *(w.policy for w in rules.waiting)))
    for key in others:
        try:
            return open_signed(note, key, origin)[0]
        except (MalformedError, IntegrityError):
            continue
    return open_signed(note, last, origin)[0]


class MoneyWitness(Witness):
    """A `Witness` of the money log that cosigns only what it followed, and nothing that omits what is held here."""

    def __init__(
        self, pins: WitnessPins, store: WitnessStore, clock: Callable[[], int], watched: WatchedLog, inbox: Inbox
    ) -> None:
        super().__init__(pins, store, clock)
        self.watched, self.inbox = watched, inbox

    def answer(self, request: CosignRequest) -> str | Refused:
        """See `Witness`; besides WITNESS_BEHIND (`found` has the size it follows to) and WITNESS_WITHHELD."""
        # Plan: what the plain witness refuses by itself · followed to here · nothing left out · cosign.
        state = self.watched.state
        if self._may_be_of_later_rules(request):
            return Refused("WITNESS_BEHIND", f"entries from index {state.size} on", str(state.size))
        checkpoint = self._worth_following(request)
        if checkpoint is None:
            return super().answer(request)
        if checkpoint.size > state.size:
            return Refused("WITNESS_BEHIND", f"entries from index {state.size} on", str(state.size))
        if checkpoint.size < state.size:
            return Refused("WITNESS_ROLLED_BACK", f"size {state.size}, as followed", f"size {checkpoint.size}")
        if checkpoint.root != state.frontier.root:
            forked = Refused("WITNESS_FORK", f"root {state.frontier.root.hex()}", checkpoint.root.hex())
            self._remember(forked, request)
            return forked
        if late := withheld(state, self.inbox.held, self._clock()):
            said = f"{late.signed.kind.name} {late.signed.digest.hex()} in the log, held since {late.received_at}"
            return Refused("WITNESS_WITHHELD", said, f"{state.size} entries without it")
        return super().answer(request)

    @property
    def log_key(self) -> bytes:
        """The log key (32 bytes) of the rules in force by this machine's clock."""
        return in_force(self.watched.state, self._clock()).policy.roots.log_key

    def receipt(self, signed: Signed, received_at: int) -> Signed:
        """Return this witness's signed word that it holds `signed` since `received_at`, or that its log does."""
        receipt = HeldReceipt(self.watched.state.genesis.hash, signed.digest, self.pins.name, received_at)
        return sign_receipt(receipt, self.pins.seed)

    def _may_be_of_later_rules(self, request: CosignRequest) -> bool:
        """Return whether the log key of this checkpoint is not known, and entries not yet followed may pin it."""
        if self.has_ended or request.origin != self.pins.origin:
            return False
        try:
            claimed = parse_checkpoint(parse_note(request.note).body)
            open_signed(request.note, self.pins.log_key, self.pins.origin)
        except MalformedError:
            return False
        except IntegrityError:
            return claimed.size > self.watched.state.size
        return False

    def _worth_following(self, request: CosignRequest) -> Checkpoint | None:
        """Return the checkpoint; None where the plain judgement refuses it, or ends this key, whatever is followed."""
        if self.has_ended or request.origin != self.pins.origin:
            return None
        try:
            opened = open_checkpoint(request.note, self.pins.log_key, self.pins.origin, (self.pins.key,))
        except (MalformedError, IntegrityError):
            return None
        vouched_ahead = opened.counted and opened.checkpoint.size > self.state.size
        return None if vouched_ahead else opened.checkpoint


class WitnessPair:
    """The witnesses of both logs under one key: one key, one end. Calls do not overlap.

    Args:
        by_origin: both witnesses.
        money: the one of the money log.
    """

    def __init__(self, by_origin: Mapping[str, Witness], money: MoneyWitness) -> None:
        self._by_origin, self.money = by_origin, money

    @property
    def origins(self) -> tuple[str, ...]:
        """The origin lines of both logs."""
        return tuple(sorted(self._by_origin))

    def of(self, origin: str) -> Witness | None:
        """Return the witness of one log."""
        return self._by_origin.get(origin)

    def again(self) -> str | None:
        """Return a new cosignature line over the newest money checkpoint vouched for; None where there is none."""
        self._turn_key()
        pins, state = self.money.pins, self.money.state
        if not state.note:
            return None
        line = self.money.answer(CosignRequest(pins.origin, state.size, (), state.note))
        return None if isinstance(line, Refused) else line

    def answer(self, request: CosignRequest) -> tuple[str | Refused, int]:
        """Return the cosignature line or the refusal, and the size that this witness vouched for last.

        Raises:
            UnavailableError: as `Witness.answer`.
        """
        self._turn_key()
        witness = self._by_origin.get(request.origin)
        if witness is None:
            return Refused("CHECKPOINT_ORIGIN", f"one of {list(self.origins)}", request.origin[:200]), 0
        answer = witness.answer(request)
        if isinstance(answer, Refused) and answer.code == "WITNESS_REWOUND":
            for each in self._by_origin.values():
                each.end(answer)
        return answer, witness.state.size

    def _turn_key(self) -> None:
        """Vouch for what the log key of the rules in force signed, for both logs, from the second of the change on."""
        log_key = self.money.log_key
        for witness in self._by_origin.values():
            if witness.pins.log_key != log_key:
                witness.pins = replace(witness.pins, log_key=log_key)


def open_pair(home: WitnessHome, genesis: Genesis, inbox: Inbox, clock: Callable[[], int]) -> WitnessPair:
    """Return the witnesses of `home`.

    Raises:
        IntegrityError: WITNESS_STATE_LOST, WITNESS_STATE_REWOUND, WITNESS_STATE_CORRUPT, WITNESS_HELD_REWOUND,
            HELD_DAMAGED, WITNESS_KEY, RECORDS_DAMAGED.
        UnavailableError: WITNESS_STATE_HELD: another process has it.
    """
    seed, log_key = read_key(home.key), genesis.policy.roots.log_key
    inbox.guard(held_mark_path(home.key))

    def opened(log: Log) -> tuple[WitnessPins, WitnessStore]:
        pins = WitnessPins(genesis.origin(log.value), log_key, home.name, seed)
        paths = WitnessPaths(home.state / f"{log.value}.json", mark_path(home.key, log))
        return pins, WitnessStore(paths, pins.origin)

    money = MoneyWitness(*opened(Log.MONEY), clock, WatchedLog(home.state / "watched.log", genesis), inbox)
    event = Witness(*opened(Log.EVENT), clock)
    return WitnessPair({witness.pins.origin: witness for witness in (money, event)}, money)

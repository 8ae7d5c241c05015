"""Lies about the log: what is in it, who vouches for it, how old it is (protocol.md "The logs", step 2)."""

from __future__ import annotations

import base64
from dataclasses import replace

from custody.audit import Checkpoint, Frontier, cosign, leaf_hash, sign_checkpoint, with_lines
from custody.bundle import Bundle
from custody.entries import Document, EntryKind, Freeze, MoneyEntry, StopCause, Witnessed, parse_entry, seal_of
from custody.statements import Kind, sign
from custody.transaction import OutPoint, TxOut
from custody.units import Sats
from tests.fakes.rules import DAY, NOW, PAY, rule, seed_of
from tests.governing import after, document_of, log_rules, signed_rules, with_rule
from tests.lies.told import BEHIND, STRANGER, Lie, Story, in_world, with_note
from tests.watchers import genesis_with
from tests.world import EXCHANGE, LOG_SEED, WITNESS_SEED, Spend, World, make_genesis

FRESH = "w cosignatures, oldest counted at most 5 min old (online)"
CONSISTENT = "consistent with my last"
EQUAL = "the RELEASE of this very PSBT is in it, every field recomputed from the bytes before me and equal"
RECENT = "T(RELEASE) inside `bundle_max_age`"
SPREADING = "counted from it, so that spreading over signer pairs evades nothing"
BODY = "A missing body is refused (MISSING_BODY), never skipped"
ADMISSIBLE = "Admissible only if its withdrawal and approvals verify at T(RELEASE)"
INCLUDED = "RELEASE with inclusion proof"
WITNESS = "the previous cosigned checkpoint with its w cosignatures, written only in front of the next other entry"
FIRST_COVERING = "latest counted timestamp of the first cosigned checkpoint that covers it"
ORIGIN = "origin names the genesis hash"
OWN_TIMESTAMPS = "They give tlog-cosignatures with their own timestamps"
MORE = (EXCHANGE, 70_000)


def checkpoint_without_a_witness(world: World) -> Bundle:
    """A checkpoint that the log key alone signed."""
    bundle = _honest(world).bundle()
    return with_note(bundle, _bare(bundle.log.note))


def checkpoint_with_a_witness_of_its_own(world: World) -> Bundle:
    """Cosigned by a key of the coordinator's own under the witness's name."""
    bundle = _honest(world).bundle()
    bare = _bare(bundle.log.note)
    return with_note(bundle, with_lines(bare, [cosign(bare, "witness", LOG_SEED, NOW)]))


def checkpoint_with_one_witness_twice(world: World) -> Story:
    """Where two must vouch, one of them does, at two times."""
    own = World(genesis_with(3, 2, 0, PAY), witness=("w1", seed_of("w1")))
    world = _TwiceWorld(own.genesis, witness=own.witness)
    return in_world(world, _honest(world).bundle())


class _TwiceWorld(World):
    def cosigned(self, at: int | None = None, size: int | None = None) -> str:
        note = super().cosigned(at, size)
        return with_lines(note, [cosign(_bare(note), *self.witness, self.now - 1)])


def checkpoint_with_the_line_of_another(world: World) -> Bundle:
    """The witness's line over a smaller log, moved under a larger one."""
    old = world.cosigned(size=0)
    bundle = _honest(world).bundle()
    line = old.split("\n")[-2]
    return with_note(bundle, _bare(bundle.log.note) + line + "\n")


def checkpoint_with_a_time_moved_forward(world: World) -> Bundle:
    """An old cosignature with a newer time written over its own."""
    world.now = NOW - 400
    bundle = _honest(world).bundle()
    fresh, old = cosign(_bare(bundle.log.note), "witness", WITNESS_SEED, NOW), bundle.log.note.split("\n")[-2]
    name, told = fresh.rsplit(" ", 1)
    mixed = _spliced(told, old.rsplit(" ", 1)[1])
    world.now = NOW
    return with_note(bundle, _bare(bundle.log.note) + f"{name} {mixed}\n")


def checkpoint_of_another_log_key(world: World) -> Bundle:
    """A checkpoint that another log signed."""
    bundle = _honest(world).bundle()
    other = replace(world, log_seed=seed_of("another log"))
    return with_note(bundle, other.cosigned())


def checkpoint_of_the_event_log(world: World) -> Bundle:
    """A checkpoint of the organisation's other log."""
    return _under_origin(world, world.genesis.origin("event"))


def checkpoint_of_another_genesis(world: World) -> Bundle:
    """A checkpoint of the same size and root in another organisation's log."""
    return _under_origin(world, make_genesis(PAY).origin("money"))


def checkpoint_of_yesterday(world: World) -> Story:
    """An old bundle, whole, when its cosignatures are no longer fresh."""
    return replace(in_world(world, _honest(world).bundle()), now=NOW + 301)


def clock_far_ahead(world: World) -> Story:
    """The node's clock is beyond any witness's time: it stops."""
    return replace(in_world(world, _honest(world).bundle()), now=NOW + DAY + 301)


def release_of_last_week(world: World) -> Bundle:
    """A release that nobody asked signers for in time, behind a fresh checkpoint."""
    spend = world.spend(world.withdrawal(expires_at=NOW + 30 * DAY))
    index = spend.release()
    world.now += DAY + 1
    return spend.bundle(index)


def log_that_was_cut(world: World) -> Story:
    """The node followed two releases; it is shown the log as it was after the first."""
    spend = _honest(world)
    old = spend.bundle()
    later = world.spend(world.withdrawal(MORE, withdrawal_id="w-2"), (world.coin(6),), change_index=1).bundle()
    return in_world(world, old, later)


def log_that_was_forked(world: World) -> Story:
    """The node followed one history; it is shown another, with the log's and the witness's own signatures."""
    seen = _honest(world).bundle()
    fork = World(world.genesis)
    fork.spend(fork.withdrawal(withdrawal_id="w-other")).release()
    told = fork.spend(fork.withdrawal(MORE, withdrawal_id="w-2"), (fork.coin(1),), change_index=1).bundle()
    return in_world(fork, told, seen)


def log_of_a_forgotten_release(world: World) -> Story:
    """A second payment from other coins, in a log from which the first one's release is gone."""
    asked = world.withdrawal()
    first = world.spend(asked).bundle()
    fork = World(world.genesis)
    return in_world(fork, fork.spend(asked, (fork.coin(1),)).bundle(), first)


def entry_left_out(world: World) -> Bundle:
    """The first entry is missing; the rest stand in its place."""
    world.freeze()
    bundle = _honest(world).bundle()
    return replace(bundle, log=replace(bundle.log, entries=bundle.log.entries[1:]))


def entries_swapped(world: World) -> Bundle:
    """Two entries in the other order."""
    world.notice(world.withdrawal())
    bundle = _honest(world).bundle()
    one, two, three = bundle.log.entries
    return replace(bundle, log=replace(bundle.log, entries=(three, two, one)))


def entry_put_in(world: World) -> Bundle:
    """One entry more than the checkpoint covers."""
    bundle = _honest(world).bundle()
    told = Freeze(world.genesis.hash, b"\x02" * 16, "dave", NOW)
    signed = sign(Kind.FREEZE, told.to_json(), seed_of("dave"))
    entry = MoneyEntry(EntryKind.FREEZE, NOW, 0, bytes(32), Document(signed.digest), seal_of((signed,))).to_bytes()
    log = replace(bundle.log, entries=(*bundle.log.entries, entry), statements=(*bundle.log.statements, signed))
    return replace(bundle, log=log)


def entry_changed(world: World) -> Bundle:
    """The release in the log names another fee than the one whose root was cosigned."""
    bundle = _honest(world).bundle()
    entry = parse_entry(bundle.log.entries[0])
    told = replace(entry, body=replace(entry.body, fee_sats=Sats(1))).to_bytes()  # type: ignore[arg-type]  # a release
    return replace(bundle, log=replace(bundle.log, entries=(told,)))


def entries_cut_off(world: World) -> Bundle:
    """The last entry is missing, under the checkpoint of all."""
    world.notice(world.withdrawal())
    bundle = _honest(world).bundle()
    return replace(bundle, log=replace(bundle.log, entries=bundle.log.entries[:-1]))


def entries_from_beyond(world: World) -> Bundle:
    """The entries start behind what the node has: what lies between is not shown."""
    world.notice(world.withdrawal())
    bundle = _honest(world).bundle()
    return replace(bundle, log=replace(bundle.log, first=1, entries=bundle.log.entries[1:]))


def body_left_out(world: World) -> Bundle:
    """An entry without the statement that it names."""
    bundle = _honest(world).bundle()
    return replace(bundle, log=replace(bundle.log, statements=()))


def body_of_a_freeze_left_out(world: World) -> Bundle:
    """A freeze in the log whose statement is kept back, so that nobody could tell that it counts."""
    world.freeze()
    bundle = _honest(world).bundle()
    kept = tuple(signed for signed in bundle.log.statements if signed.kind is not Kind.FREEZE)
    return replace(bundle, log=replace(bundle.log, statements=kept))


def body_of_a_freeze_unsigned(world: World) -> Bundle:
    """Witnesses saw the freeze as dave signed it; the signer is shown the same statement without his signature."""
    world.freeze()
    return _unsigned(_honest(world).bundle(), Kind.FREEZE)


def body_of_a_veto_unsigned(world: World) -> Bundle:
    """The same with a veto."""
    spend = _honest(world)
    world.stop(spend.asked, "dave", StopCause.VETO)
    return _unsigned(spend.bundle(), Kind.STOP)


def body_of_a_rule_document_unsigned(world: World) -> Bundle:
    """The same with rules that were tightened."""
    closed = rule("closed", "deny", {}, reason_code="CLOSED")
    log_rules(world, signed_rules(after(document_of(world.genesis), with_rule(closed))))
    return _unsigned(_honest(world).bundle(), Kind.RULES)


def body_of_a_payment_unsigned(world: World) -> Bundle:
    """A payment that other signers signed, shown as if nobody had asked for it: budgets would count less."""
    world.spend(world.withdrawal(withdrawal_id="w-0"), (world.coin(1),), change_index=1).release()
    later = world.spend(world.withdrawal(MORE))
    bundle = later.bundle()
    first = bundle.log.statements[0]
    bare = replace(first, endorsements=())
    return replace(bundle, log=replace(bundle.log, statements=(bare, *bundle.log.statements[1:])))


def _unsigned(bundle: Bundle, kind: Kind) -> Bundle:
    """Return `bundle` with the statements of one kind stripped of their signatures."""
    told = tuple(replace(s, endorsements=()) if s.kind is kind else s for s in bundle.log.statements)
    return replace(bundle, log=replace(bundle.log, statements=told))


def release_never_logged(world: World) -> Bundle:
    """The release is not in the log at all."""
    world.notice(world.withdrawal())
    return _honest(world).bundle(0)


def release_beyond_the_log(world: World) -> Bundle:
    """The release is said to stand where the log has not come to yet."""
    spend = _honest(world)
    return replace(spend.bundle(), release_index=7)


def release_of_another_transaction(world: World) -> Bundle:
    """The RELEASE of one transaction with the PSBT of another, for the same withdrawal."""
    asked = world.withdrawal()
    return world.spend(asked).bundle(psbt=world.spend(asked, (world.coin(1),)).psbt)


def release_of_another_withdrawal(world: World) -> Bundle:
    """The RELEASE of one withdrawal with the papers of another."""
    index = _honest(world).release()
    other = world.spend(world.withdrawal(MORE, withdrawal_id="w-2"), (world.coin(1),), change_index=1)
    other.release()
    return other.bundle(index)


def release_of_other_coins(world: World) -> Bundle:
    """The RELEASE names other outpoints, so that a later payment shares none with it."""
    return _false_release(world, outpoints=(OutPoint(bytes(32), 1),))


def release_of_another_digest(world: World) -> Bundle:
    """The RELEASE names another unsigned transaction."""
    return _false_release(world, txid=bytes(32))


def release_of_less_change(world: World) -> Bundle:
    """The RELEASE says that less comes back."""
    return _false_release(world, change=((0, Sats(10_000)),))


def release_of_a_smaller_fee(world: World) -> Bundle:
    """The RELEASE says a smaller fee."""
    return _false_release(world, fee_sats=Sats(1))


def release_of_a_smaller_payment(world: World) -> Bundle:
    """The RELEASE says a smaller payment, so that budgets count less."""
    return _false_release(world, payments=(TxOut(Sats(1), STRANGER),))


def release_of_a_smaller_bound(world: World) -> Bundle:
    """The RELEASE says a smaller max_fee_sats than alice signed, so that budgets count less."""
    return _false_release(world, max_fee_sats=Sats(2_000))


def release_of_another_family(world: World) -> Bundle:
    """The RELEASE says a family of its own, so that it counts by itself and shares no coin."""
    return _false_release(world, family=bytes(32))


def release_of_another_initiator(world: World) -> Bundle:
    """The RELEASE says another initiator, whose budget is not spent yet."""
    return _false_release(world, initiator="bob")


def release_of_another_wallet(world: World) -> Bundle:
    """The RELEASE says another wallet, whose budget is not spent yet."""
    return _false_release(world, wallet_id=bytes(32))


def release_of_another_id(world: World) -> Bundle:
    """The RELEASE says another withdrawal_id, so that the true one stays free."""
    return _false_release(world, withdrawal_id="w-free")


def release_dated_back(world: World) -> Bundle:
    """The RELEASE and its entry say an earlier time than witnesses saw it at."""
    spend = _honest(world)
    world.now = NOW - 601
    index = spend.release()
    world.now = NOW
    world.covering = world.cosigned()
    return spend.bundle(index)


def inclusion_of_another_entry(world: World) -> Bundle:
    """A proof that proves something else."""
    return _honest(world).bundle(inclusion=(bytes(32),))


def covering_by_nobody(world: World) -> Bundle:
    """The first covering checkpoint bears no witness's line, so that T(RELEASE) would be anybody's."""
    bundle = _honest(world).bundle()
    return replace(bundle, covering=_bare(bundle.covering))


def covering_of_another_size(world: World) -> Bundle:
    """The covering checkpoint is one of a shorter log."""
    world.notice(world.withdrawal())
    before = world.covering
    bundle = _honest(world).bundle()
    return replace(bundle, covering=before)


def witness_entry_by_nobody(world: World) -> Bundle:
    """A WITNESS entry whose checkpoint no witness cosigned, so that T of what stands before it is anybody's."""
    spend = _honest(world)
    spend.release()
    world.covering = _bare(world.covering)
    return world.spend(world.withdrawal(MORE, withdrawal_id="w-2"), (world.coin(1),), change_index=1).bundle()


def witness_entry_of_another_size(world: World) -> Bundle:
    """A WITNESS entry with the checkpoint of a shorter log."""
    old = _at_size_zero(world)
    _honest(world).release()
    world.covering = old
    return world.spend(world.withdrawal(MORE, withdrawal_id="w-2"), (world.coin(1),), change_index=1).bundle()


def witness_entry_twice(world: World) -> Bundle:
    """Two WITNESS entries in a row, of which the second covers nothing."""
    _honest(world).release()
    world.entries.append(MoneyEntry(EntryKind.WITNESS, NOW, 0, bytes(32), Witnessed(world.covering)).to_bytes())
    world.covering = world.cosigned()
    return world.spend(world.withdrawal(MORE, withdrawal_id="w-2"), (world.coin(1),), change_index=1).bundle()


def _honest(world: World) -> Spend:
    return world.spend(world.withdrawal())


def _false_release(world: World, **changes: object) -> Bundle:
    spend = _honest(world)
    return spend.bundle(spend.release(**changes))


def _bare(note: str) -> str:
    """Return the note with the log's line alone."""
    head, lines = note.split("\n\n", 1)
    return f"{head}\n\n{lines.splitlines()[0]}\n"


def _at_size_zero(world: World) -> str:
    return world.cosigned(size=0)


def _under_origin(world: World, origin: str) -> Bundle:
    """Return an honest bundle whose checkpoint has another origin, signed and cosigned by the right keys."""
    bundle = _honest(world).bundle()
    tree = Frontier()
    for raw in world.entries:
        tree = tree.append(leaf_hash(raw))
    note = sign_checkpoint(Checkpoint(origin, tree.size, tree.root), LOG_SEED)
    return with_note(bundle, with_lines(note, [cosign(note, *world.witness, NOW)]))


def _spliced(told: str, old: str) -> str:
    """Return the key hash and time of the line `told` around the signature of the line `old`."""
    one, other = base64.b64decode(told), base64.b64decode(old)
    return base64.b64encode(one[:12] + other[12:]).decode()


LIES = (
    Lie(checkpoint_without_a_witness, FRESH, "CHECKPOINT_UNDERSIGNED", (122,)),
    Lie(checkpoint_with_a_witness_of_its_own, FRESH, "CHECKPOINT_UNDERSIGNED", (122,)),
    Lie(checkpoint_with_one_witness_twice, FRESH, "CHECKPOINT_UNDERSIGNED", (122,)),
    Lie(checkpoint_with_the_line_of_another, FRESH, "COSIGNATURE_INVALID", (121, 122)),
    Lie(checkpoint_with_a_time_moved_forward, OWN_TIMESTAMPS, "COSIGNATURE_INVALID", (90, 123)),
    Lie(checkpoint_of_another_log_key, "The log key changes only by a rule document", "CHECKPOINT_UNSIGNED", (122,)),
    Lie(checkpoint_of_the_event_log, ORIGIN, "CHECKPOINT_ORIGIN", (122,)),
    Lie(checkpoint_of_another_genesis, ORIGIN, "CHECKPOINT_ORIGIN", (86,)),
    Lie(checkpoint_of_yesterday, FRESH, "CHECKPOINT_STALE", (117, 123)),
    Lie(
        clock_far_ahead,
        "A jump of my clock beyond any witness time + `bundle_max_age` stops the node",
        "CLOCK_AHEAD",
        (90,),
    ),
    Lie(release_of_last_week, RECENT, "RELEASE_STALE", (98, 117)),
    Lie(log_that_was_cut, CONSISTENT, "ROLLED_BACK", (120, 123)),
    Lie(log_that_was_forked, CONSISTENT, "WITNESS_ENTRY", (122,)),
    Lie(log_of_a_forgotten_release, CONSISTENT, "LOG_FORK", (121, 122)),
    Lie(entry_left_out, CONSISTENT, "WITNESS_ENTRY", (121,)),
    Lie(entries_swapped, CONSISTENT, "WITNESS_ENTRY", (121,)),
    Lie(entry_put_in, CONSISTENT, "LOG_SIZE", (121,)),
    Lie(entry_changed, CONSISTENT, "LOG_FORK", (121,)),
    Lie(entries_cut_off, CONSISTENT, "LOG_SIZE", (120,)),
    Lie(entries_from_beyond, "Behind by more: the node answers BEHIND(size)", BEHIND, (120,)),
    Lie(body_left_out, BODY, "MISSING_BODY", (121,)),
    Lie(body_of_a_freeze_left_out, BODY, "MISSING_BODY", (98, 121)),
    Lie(body_of_a_freeze_unsigned, BODY, "BODY_OTHER", (98, 122)),
    Lie(body_of_a_veto_unsigned, BODY, "BODY_OTHER", (96, 98)),
    Lie(body_of_a_rule_document_unsigned, BODY, "BODY_OTHER", (91,)),
    Lie(body_of_a_payment_unsigned, SPREADING, "BODY_OTHER", (88, 89)),
    Lie(release_never_logged, EQUAL, "RELEASE_INADMISSIBLE", (85,)),
    Lie(release_beyond_the_log, EQUAL, "RELEASE_INADMISSIBLE", (120,)),
    Lie(release_of_another_transaction, EQUAL, "RELEASE_MISMATCH", (69, 85)),
    Lie(release_of_another_withdrawal, EQUAL, "RELEASE_MISMATCH", (85,)),
    Lie(release_of_other_coins, EQUAL, "RELEASE_MISMATCH", (55,)),
    Lie(release_of_another_digest, EQUAL, "RELEASE_MISMATCH", (85,)),
    Lie(release_of_less_change, EQUAL, "RELEASE_MISMATCH", (88,)),
    Lie(release_of_a_smaller_fee, EQUAL, "RELEASE_MISMATCH", (88,)),
    Lie(release_of_a_smaller_payment, ADMISSIBLE, "RELEASE_INADMISSIBLE", (88,)),
    Lie(release_of_a_smaller_bound, ADMISSIBLE, "RELEASE_INADMISSIBLE", (88,)),
    Lie(release_of_another_family, ADMISSIBLE, "RELEASE_INADMISSIBLE", (56, 88)),
    Lie(release_of_another_initiator, ADMISSIBLE, "RELEASE_INADMISSIBLE", (88,)),
    Lie(release_of_another_wallet, ADMISSIBLE, "RELEASE_INADMISSIBLE", (88,)),
    Lie(release_of_another_id, ADMISSIBLE, "RELEASE_INADMISSIBLE", (95,)),
    Lie(
        release_dated_back,
        "`time` is for display and refused if it differs from T(e) by more than 10 min",
        "ENTRY_TIME",
        (90,),
    ),
    Lie(inclusion_of_another_entry, INCLUDED, "INCLUSION", (121,)),
    Lie(covering_by_nobody, FIRST_COVERING, "CHECKPOINT_UNDERSIGNED", (90,)),
    Lie(covering_of_another_size, FIRST_COVERING, "COVERING_OTHER", (90,)),
    Lie(witness_entry_by_nobody, WITNESS, "CHECKPOINT_UNDERSIGNED", (90, 121)),
    Lie(witness_entry_of_another_size, WITNESS, "WITNESS_ENTRY", (121,)),
    Lie(witness_entry_twice, WITNESS, "WITNESS_ENTRY", (121,)),
)

"""A hostile log holder, who has the log key and, where a test says so, lying witnesses (attacks.md section H)."""

from dataclasses import replace

from custody.audit import (
    Checkpoint,
    Log,
    Subtrees,
    WitnessKey,
    consistency_proof,
    cosign,
    inclusion_proof,
    leaf_hash,
    node_hash,
    open_checkpoint,
    origin_of,
    sign_checkpoint,
    verify_consistency,
    verify_export,
    verify_inclusion,
    with_lines,
)
from custody.entries import EntryKind, Witnessed, parse_entry
from custody.errors import Refused
from signer_node.witness import CosignRequest, WitnessPins, WitnessState, step
from tests.fakes.audit_log import GENESIS, LOG_SEED, FakeLog, small_log

ORIGIN = origin_of(GENESIS.digest, Log.MONEY)


def pins(log: FakeLog, name: str) -> WitnessPins:
    """Return the pins of one witness of `log`."""
    return WitnessPins(ORIGIN, log.keys.log_key, name, log.seeds[name])


def refused_code(state: WitnessState, request: CosignRequest, keys: WitnessPins) -> str:
    """Return the code with which a witness refuses."""
    result = step(state, request, keys, now=2_000_000_000)
    assert isinstance(result, Refused)
    return result.code


def leaves(entries: list[bytes]) -> list[bytes]:
    """Return leaf hashes."""
    return [leaf_hash(entry) for entry in entries]


def request_of(log: FakeLog, old_size: int) -> CosignRequest:
    """Return what the log's holder would send to a witness that is at `old_size`."""
    proof = consistency_proof(leaves(log.money), old_size, len(log.money))
    return CosignRequest(ORIGIN, old_size, proof, sign_checkpoint(checkpoint_of(log), LOG_SEED))


def vouched(log: FakeLog) -> WitnessState:
    """Return the state of a witness that vouched for the log as it is."""
    tree = Subtrees(leaves(log.money))
    return WitnessState(len(log.money), tree.frontier.root, "")


def test_atk_120_tail_truncation_is_told_against_a_known_checkpoint() -> None:
    """A log cut back to an older cosigned checkpoint is TRUNCATED for whoever holds a newer one, "as of" for others."""
    log = small_log()
    known = log.note
    older = small_log()
    older.money, older.bodies = older.money[:5], older.bodies[:-1]
    raw = older.export(money=older.cosigned(Log.MONEY, at=log.now - 5))

    told = verify_export(raw, log.keys, known)
    blind = verify_export(raw, log.keys)

    assert str(told) == "TRUNCATED(5)"
    assert (str(blind), blind.anchored, blind.size) == ("OK", False, 5)


def test_atk_120_tail_cut_below_its_own_checkpoint_is_truncated() -> None:
    """Entries missing under the last checkpoint need no outside knowledge."""
    log = small_log()
    final = log.cosigned(Log.MONEY)
    log.money, log.bodies = log.money[:6], log.bodies[:-1]

    assert str(verify_export(log.export(money=final), log.keys)) == "TRUNCATED(6)"


def tampered(log: FakeLog, index: int) -> None:
    """Rewrite one entry in the holder's database."""
    entry = parse_entry(log.money[index])
    log.money[index] = replace(entry, time=entry.time + 1).to_bytes()


def test_atk_121_rewritten_entry_is_modified_where_checkpoints_narrow_it() -> None:
    """A rewritten entry with a fitting leaf contradicts the first WITNESS entry behind it."""
    log = small_log()
    final = log.cosigned(Log.MONEY)
    tampered(log, 2)

    verdict = verify_export(log.export(money=final), log.keys)

    assert str(verdict) == "MODIFIED(1)"
    assert "1..2" in verdict.detail


def test_atk_121_rewrite_cannot_be_proven_consistent_to_a_witness() -> None:
    """A grown log whose past was rewritten gets no cosignature."""
    log = small_log()
    state = vouched(log)
    tampered(log, 2)
    log.note = log.cosigned(Log.MONEY)
    log.commit("fifth")

    assert refused_code(state, request_of(log, state.size), pins(log, "witness-0")) == "WITNESS_BAD_PROOF"


def test_atk_121_inserted_and_reordered_entries_change_the_root() -> None:
    """No insertion and no exchange of entries keeps the root that was signed."""
    log = small_log()
    final = log.cosigned(Log.MONEY)
    inserted, exchanged = small_log(), small_log()
    inserted.money.insert(2, inserted.money[2])
    exchanged.money[2], exchanged.money[4] = exchanged.money[4], exchanged.money[2]

    assert str(verify_export(inserted.export(money=final), log.keys)) == "UNSIGNED(7)"
    assert str(verify_export(exchanged.export(money=final), log.keys)) == "MODIFIED(1)"


def test_atk_122_fork_of_same_size_is_refused_by_a_witness() -> None:
    """A second tree of a size that a witness vouched for is a fork."""
    log = small_log()
    state = vouched(log)
    tampered(log, 6)

    assert refused_code(state, request_of(log, state.size), pins(log, "witness-0")) == "WITNESS_FORK"


def test_atk_122_fork_is_named_against_a_known_checkpoint() -> None:
    """Of two histories signed by the log and its lying witness, the one that is not the verifier's own is a FORK."""
    log, other = small_log(), small_log()
    tampered(other, 6)

    assert str(verify_export(other.export(), log.keys, log.note)) == "FORK"
    assert str(verify_export(log.export(), log.keys, log.note)) == "OK"


def test_atk_122_fork_inside_the_log_is_named() -> None:
    """A WITNESS entry that vouches for other entries than those in front of it is a FORK."""
    log, other = small_log(), small_log()
    tampered(other, 6)
    log.note = other.cosigned(Log.MONEY)
    log.commit("fifth")

    assert str(verify_export(log.export(), log.keys)) == "FORK(7)"


def test_atk_122_event_log_shown_to_an_auditor_must_be_the_money_logs() -> None:
    """Money entries name the event log's root, so another event log is a FORK though its own checkpoint holds."""
    log = small_log()
    log.events[0] = log.events[0].replace(b"ops-1", b"ops-2")

    assert str(verify_export(log.export(), log.keys)) == "FORK(0)"


def split_by(witness_count: int, w: int, liars: int) -> bool:
    """Return whether the log key's owner with `liars` witnesses gets two histories of one size vouched for."""
    one, two = FakeLog(witness_count, w), FakeLog(witness_count, w)
    one.commit("shown to A")
    two.commit("shown to B")
    states = dict.fromkeys(one.seeds, WitnessState())
    enough = []
    for honest_turn, log in enumerate((one, two)):
        lines = []
        for number, name in enumerate(log.seeds):
            if number < liars:
                lines.append(cosign(log.note, name, log.seeds[name], log.now))
            elif number % 2 == honest_turn or honest_turn == 1:  # honest ones are asked once, and again for the second
                result = step(states[name], request_of(log, states[name].size), pins(log, name), log.now)
                if not isinstance(result, Refused):
                    states[name], line = result
                    lines.append(line)
        note = with_lines(sign_checkpoint(checkpoint_of(log), LOG_SEED), lines)
        opened = open_checkpoint(note, log.keys.log_key, ORIGIN, log.keys.witnesses)
        enough.append(opened.oldest_counted(w) is not None)
    return all(enough)


def checkpoint_of(log: FakeLog) -> Checkpoint:
    """Return the log's tree head."""
    return Checkpoint(ORIGIN, len(log.money), Subtrees(leaves(log.money)).frontier.root)


def test_atk_122_one_liar_splits_three_witnesses_of_which_two_count() -> None:
    """W = 3, w = 2 has f = 0: one lying witness splits the log, as the demo says; none cannot."""
    assert split_by(witness_count=3, w=2, liars=1)
    assert not split_by(witness_count=3, w=2, liars=0)


def test_atk_122_one_liar_gains_nothing_of_four_witnesses_of_which_three_count() -> None:
    """W = 4, w = 3 has f = 1: one liar gains nothing, two do."""
    assert not split_by(witness_count=4, w=3, liars=1)
    assert split_by(witness_count=4, w=3, liars=2)


def test_atk_123_rollback_to_an_old_snapshot_is_refused_by_a_witness() -> None:
    """A coordinator restored from yesterday shows a smaller tree, validly signed, and hears WITNESS_ROLLED_BACK."""
    log = small_log()
    state = vouched(log)
    log.money = log.money[:5]

    assert refused_code(state, request_of(log, 5), pins(log, "witness-0")) == "WITNESS_ROLLED_BACK"


def test_atk_123_rolled_back_log_vouched_for_anew_is_named() -> None:
    """A smaller log with cosignatures newer than the known larger one was rolled back, by witnesses that lie."""
    log = small_log()
    known = log.note
    log.money, log.bodies = log.money[:5], log.bodies[:-1]

    verdict = verify_export(log.export(money=log.cosigned(Log.MONEY, at=log.now + 100)), log.keys, known)

    assert str(verdict) == "ROLLED_BACK(5)"


def test_atk_123_witness_entry_of_an_older_size_is_named() -> None:
    """A log that went on from an older checkpoint than its own size says so itself."""
    log = small_log()
    log.note = log.cosigned(Log.MONEY, size=5)
    log.commit("fifth")

    assert str(verify_export(log.export(), log.keys)) == "ROLLED_BACK(7)"


def test_atk_124_stolen_log_key_alone_vouches_for_nothing() -> None:
    """Whoever has only the log key gets no checkpoint that counts: w cosignatures are missing."""
    log = small_log(witness_count=3, w=2)
    forged = sign_checkpoint(checkpoint_of(log), LOG_SEED)

    assert open_checkpoint(forged, log.keys.log_key, ORIGIN, log.keys.witnesses).oldest_counted(2) is None
    assert str(verify_export(log.export(money=forged), log.keys)) == "UNSIGNED"


def test_atk_124_witness_under_a_stolen_name_counts_nothing() -> None:
    """A cosignature by another key under a pinned name is a stranger's, and no pinned key can stand twice."""
    log = small_log(witness_count=3, w=2)
    note = sign_checkpoint(checkpoint_of(log), LOG_SEED)
    forged = with_lines(note, [cosign(note, f"witness-{n}", b"\x44" * 32, 5) for n in range(3)])

    assert open_checkpoint(forged, log.keys.log_key, ORIGIN, log.keys.witnesses).counted == ()


def test_atk_126_node_does_not_pass_for_a_leaf_nor_a_repeated_leaf_for_a_new_one() -> None:
    """Leaves and nodes hash apart, a repeated last leaf changes the root, and index and size are bound by the proof."""
    found = leaves([b"a", b"b", b"c"])
    root = Subtrees(found).frontier.root
    inner = node_hash(found[0], found[1])

    assert leaf_hash(found[0] + found[1]) != inner
    assert root != Subtrees([*found, found[2]]).frontier.root
    assert not verify_inclusion(inner, 0, 3, (found[2],), root)
    proof = inclusion_proof(found, 1, 3)
    assert verify_inclusion(found[1], 1, 3, proof, root)
    assert not any(verify_inclusion(found[1], at, size, proof, root) for at, size in ((0, 3), (2, 3), (1, 2), (3, 3)))
    assert not verify_consistency(2, 3, (found[2],), found[0], root)


def test_atk_128_witness_state_moves_only_with_a_proven_checkpoint() -> None:
    """A refused request leaves the witness where it was: nothing is skipped, and the honest next one still works."""
    log = small_log()
    state = vouched(log)
    size = state.size
    log.commit("fifth")
    keys = pins(log, "witness-0")
    honest = request_of(log, size)

    assert refused_code(state, replace(honest, proof=honest.proof[:-1]), keys) == "WITNESS_BAD_PROOF"
    assert refused_code(state, replace(honest, old_size=size - 1), keys) == "WITNESS_STALE_SIZE"
    result = step(state, honest, keys, log.now)
    assert not isinstance(result, Refused)
    assert result[0].size == len(log.money)


def test_atk_128_witness_entries_cover_every_entry_in_front() -> None:
    """No entry escapes: each WITNESS entry's checkpoint has exactly the size at which it stands."""
    log = small_log()
    sizes = {}
    for index, raw in enumerate(log.money):
        entry = parse_entry(raw)
        if entry.kind is EntryKind.WITNESS:
            assert isinstance(entry.body, Witnessed)
            witness = [WitnessKey(w.name, w.key) for w in log.keys.witnesses]
            sizes[index] = open_checkpoint(entry.body.note, log.keys.log_key, ORIGIN, witness).checkpoint.size

    assert sizes == {1: 1, 3: 3, 5: 5}

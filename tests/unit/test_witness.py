"""The witness: what it cosigns, each refusal with its code, and what its files survive."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from custody import ed25519
from custody.audit import (
    Checkpoint,
    Log,
    Subtrees,
    consistency_proof,
    cosign,
    leaf_hash,
    open_checkpoint,
    origin_of,
    sign_checkpoint,
    with_lines,
)
from custody.errors import CustodyError, IntegrityError, Refused, UnavailableError
from signer_node.witness import CosignRequest, WitnessPins, WitnessState, step
from signer_node.witness_store import Witness, WitnessPaths, WitnessStore, make_key, mark_path, read_key

LOG_SEED, SEED = b"\x01" * 32, b"\x02" * 32
ORIGIN = origin_of(b"\x07" * 32, Log.MONEY)
PINS = WitnessPins(ORIGIN, ed25519.public_key(LOG_SEED), "w-1", SEED)
TREE = Subtrees(leaf_hash(b"%d" % index) for index in range(20))
OTHER = Subtrees(leaf_hash(b"%d" % (index if index != 2 else 99)) for index in range(20))


def note_at(size: int, tree: Subtrees = TREE, seed: bytes = LOG_SEED) -> str:
    """Return the log's signed checkpoint of `tree` at `size`."""
    return sign_checkpoint(Checkpoint(ORIGIN, size, tree.root_at(size)), seed)


def ask(old: int, size: int, tree: Subtrees = TREE) -> CosignRequest:
    """Return an honest request from `old` to `size`."""
    return CosignRequest(ORIGIN, old, consistency_proof(tree, old, size), note_at(size, tree))


def at(size: int) -> WitnessState:
    """Return the state of a witness that vouched for TREE at `size`."""
    return WitnessState(size, TREE.root_at(size), note_at(size) if size else "")


@pytest.mark.parametrize(("old", "size"), [(0, 0), (0, 5), (5, 5), (5, 8), (8, 20)])
def test_step_given_consistent_checkpoint_cosigns_with_own_time(old: int, size: int) -> None:
    """A tree that grew, or stayed, is vouched for at the witness's own time, and becomes its state."""
    result = step(at(old), ask(old, size), PINS, now=1_000)

    assert not isinstance(result, Refused)
    state, line = result
    opened = open_checkpoint(with_lines(note_at(size), [line]), PINS.log_key, ORIGIN, (PINS.key,))
    assert opened.counted == (("w-1", 1_000),)
    assert state == WitnessState(size, TREE.root_at(size), note_at(size))


def test_step_given_unchanged_checkpoint_with_own_old_line_cosigns_again() -> None:
    """A newer time for the same tree is given on request, whatever lines the note already bears."""
    note = with_lines(note_at(5), [cosign(note_at(5), "w-1", SEED, 900)])

    result = step(at(5), replace(ask(5, 5), note=note), PINS, now=1_000)

    assert not isinstance(result, Refused)
    assert result[0] == at(5)


LIES = {
    "behind": (ask(4, 8), "WITNESS_STALE_SIZE"),
    "from_zero": (ask(0, 8), "WITNESS_STALE_SIZE"),
    "ahead": (ask(6, 8), "WITNESS_STALE_SIZE"),
    "rolled_back": (ask(4, 4), "WITNESS_ROLLED_BACK"),
    "rolled_back_with_my_size": (replace(ask(4, 4), old_size=5), "WITNESS_ROLLED_BACK"),
    "fork_of_same_size": (ask(5, 5, OTHER), "WITNESS_FORK"),
    "fork_grown": (ask(5, 8, OTHER), "WITNESS_BAD_PROOF"),
    "no_proof": (replace(ask(5, 8), proof=()), "WITNESS_BAD_PROOF"),
    "proof_for_same_size": (replace(ask(5, 5), proof=(b"\0" * 32,)), "WITNESS_BAD_PROOF"),
    "long_proof": (replace(ask(5, 8), proof=(b"\0" * 32,) * 64), "WITNESS_BAD_PROOF"),
    "short_node": (replace(ask(5, 8), proof=(b"\0" * 31,)), "WITNESS_BAD_PROOF"),
    "stranger_signed": (replace(ask(5, 8), note=note_at(8, seed=b"\x09" * 32)), "CHECKPOINT_UNSIGNED"),
    "other_log": (replace(ask(5, 8), origin=origin_of(b"\x07" * 32, Log.EVENT)), "CHECKPOINT_ORIGIN"),
    "not_a_note": (replace(ask(5, 8), note="hello"), "NOTE_FORM"),
}


@pytest.mark.parametrize("lie", LIES)
def test_step_given_one_lie_refuses_with_its_code(lie: str) -> None:
    """A request that is honest but for one lie is refused with that lie's code."""
    request, code = LIES[lie]

    result = step(at(5), request, PINS, now=1_000)

    assert isinstance(result, Refused)
    assert result.code == code


def test_step_given_wrong_old_size_says_its_own() -> None:
    """The asker learns where the witness is, as a number it can read."""
    result = step(at(5), ask(4, 8), PINS, now=1_000)

    assert isinstance(result, Refused)
    assert result.found == "5"


@pytest.mark.parametrize("old", [0, 4])
def test_step_given_own_cosignature_from_its_future_says_rewound(old: int) -> None:
    """A witness shown what it vouched for beyond its own state knows that the state was rewound."""
    note = with_lines(note_at(8), [cosign(note_at(8), "w-1", SEED, 900)])

    result = step(at(old), replace(ask(old, 8), note=note), PINS, now=1_000)

    assert isinstance(result, Refused)
    assert result.code == "WITNESS_REWOUND"


def test_step_given_own_cosignature_from_its_past_says_rolled_back() -> None:
    """A coordinator restored from yesterday shows what this witness did vouch for: that ends nothing."""
    note = with_lines(note_at(4), [cosign(note_at(4), "w-1", SEED, 900)])

    result = step(at(5), replace(ask(4, 4), note=note), PINS, now=1_000)

    assert isinstance(result, Refused)
    assert result.code == "WITNESS_ROLLED_BACK"


def test_step_given_own_cosignature_on_another_tree_of_its_size_says_rewound() -> None:
    """Its own word for another tree of the same size: the key was used elsewhere, or the state is not the last."""
    other = note_at(5, OTHER)
    note = with_lines(other, [cosign(other, "w-1", SEED, 900)])

    result = step(at(5), replace(ask(5, 5, OTHER), note=note), PINS, now=1_000)

    assert isinstance(result, Refused)
    assert result.code == "WITNESS_REWOUND"


def test_pins_never_show_the_seed() -> None:
    """What is printed of the pins holds no secret."""
    assert repr(SEED) not in repr(PINS)


@pytest.fixture
def paths(tmp_path: Path) -> WitnessPaths:
    """Return the files of a fresh witness."""
    make_key(tmp_path / "witness.key")
    return WitnessPaths(tmp_path / "state" / "money.json", mark_path(tmp_path / "witness.key", Log.MONEY))


def reopen(paths: WitnessPaths) -> WitnessState:
    """Return what a new process would find."""
    store = WitnessStore(paths, ORIGIN)
    store.close()
    return store.state


def saved(paths: WitnessPaths, size: int) -> None:
    """Let a process vouch for TREE at `size` and end."""
    store = WitnessStore(paths, ORIGIN)
    store.save(at(size))
    store.close()


def test_store_given_saved_state_finds_it_again(paths: WitnessPaths) -> None:
    """A new process goes on where the last one stopped."""
    assert reopen(paths) == at(0)
    saved(paths, 5)

    assert reopen(paths) == at(5)
    assert paths.state.stat().st_mode & 0o777 == 0o600


def test_make_key_given_existing_key_changes_nothing(paths: WitnessPaths) -> None:
    """A witness that vouched cannot be reset by making its key again."""
    saved(paths, 5)
    key = paths.mark.with_name("witness.key")
    seed = read_key(key)

    with pytest.raises(IntegrityError, match="FILE_EXISTS"):
        make_key(key)
    assert (read_key(key), reopen(paths)) == (seed, at(5))


def test_read_key_given_open_file_refuses(paths: WitnessPaths) -> None:
    """A key that others can read is nobody's."""
    key = paths.mark.with_name("witness.key")
    key.chmod(0o644)

    with pytest.raises(IntegrityError, match="WITNESS_KEY"):
        read_key(key)


def test_store_given_yesterdays_state_refuses_to_start(paths: WitnessPaths) -> None:
    """A state directory restored from a backup is older than its mark."""
    saved(paths, 5)
    backup = paths.state.read_bytes()
    saved(paths, 8)
    paths.state.write_bytes(backup)

    with pytest.raises(IntegrityError, match="WITNESS_STATE_REWOUND"):
        reopen(paths)


@pytest.mark.parametrize("lost", ["state", "mark"])
def test_store_given_a_lost_file_refuses_to_start(paths: WitnessPaths, lost: str) -> None:
    """A witness that lost its state does not begin again at size 0."""
    saved(paths, 5)
    getattr(paths, lost).unlink()

    with pytest.raises(IntegrityError, match="WITNESS_STATE_LOST"):
        reopen(paths)


def test_store_given_crash_between_state_and_mark_goes_on(paths: WitnessPaths) -> None:
    """A state newer than its mark is what a crash before the cosignature leaves; it is kept and the mark follows."""
    mark = paths.mark.read_bytes()
    saved(paths, 5)
    paths.mark.write_bytes(mark)

    assert reopen(paths) == at(5)
    assert int(paths.mark.read_bytes()) == 5


def test_store_given_any_flipped_bit_refuses_to_start(paths: WitnessPaths) -> None:
    """No bit of the state file is free."""
    saved(paths, 5)
    good = paths.state.read_bytes()
    for place in range(len(good)):
        for bit in range(8):
            paths.state.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            with pytest.raises(IntegrityError):
                reopen(paths)


@pytest.mark.parametrize("mark", [b"", b"5\n", b"000000000000000x\n", b"0000000000000005\n\n"])
def test_store_given_damaged_mark_refuses_to_start(paths: WitnessPaths, mark: bytes) -> None:
    """A mark that is no number of its width is damage."""
    paths.mark.write_bytes(mark)

    with pytest.raises(IntegrityError, match="WITNESS_STATE_CORRUPT"):
        reopen(paths)


def test_store_given_another_logs_state_refuses_to_start(paths: WitnessPaths) -> None:
    """The event log's state is no state of the money log."""
    saved(paths, 5)
    with pytest.raises(IntegrityError, match="WITNESS_STATE_ORIGIN"):
        WitnessStore(paths, origin_of(b"\x07" * 32, Log.EVENT))


def test_store_given_second_process_refuses(paths: WitnessPaths) -> None:
    """Two processes with one key could vouch for two histories."""
    store = WitnessStore(paths, ORIGIN)

    with pytest.raises(UnavailableError, match="WITNESS_STATE_HELD"):
        WitnessStore(paths, ORIGIN)
    store.close()
    assert reopen(paths) == at(0)


def test_witness_given_rewound_state_never_vouches_again(paths: WitnessPaths) -> None:
    """Once shown its own future it refuses everything, in this process and after a restart."""
    saved(paths, 4)
    witness = Witness(PINS, WitnessStore(paths, ORIGIN), lambda: 1_000)
    note = with_lines(note_at(8), [cosign(note_at(8), "w-1", SEED, 900)])

    codes = [witness.answer(replace(ask(4, 8), note=note)), witness.answer(ask(4, 8))]

    assert [answer.code if isinstance(answer, Refused) else answer for answer in codes] == ["WITNESS_REWOUND"] * 2
    witness._store.close()
    with pytest.raises(IntegrityError, match="WITNESS_STATE_REWOUND"):
        reopen(paths)


def test_witness_given_vouched_checkpoint_shows_it_with_its_line(paths: WitnessPaths) -> None:
    """Who asks for its state gets the checkpoint with the cosignature it gave."""
    witness = Witness(PINS, WitnessStore(paths, ORIGIN), lambda: 1_000)
    assert witness.note == ""
    line = witness.answer(ask(0, 5))

    assert witness.note == with_lines(note_at(5), [str(line)])


def test_witness_given_fork_keeps_both_signed_checkpoints(paths: WitnessPaths) -> None:
    """The evidence of a fork is two checkpoints signed by one log key."""
    saved(paths, 5)
    witness = Witness(PINS, WitnessStore(paths, ORIGIN), lambda: 1_000)

    answer = witness.answer(ask(5, 5, OTHER))

    assert isinstance(answer, Refused)
    evidence = paths.state.with_suffix(".fork").read_text()
    assert note_at(5).split("\n")[2] in evidence
    assert note_at(5, OTHER).split("\n")[2] in evidence


@pytest.mark.parametrize("call", range(6))
@pytest.mark.parametrize("effect", ["fsync", "pwrite", "open"])
def test_witness_given_death_at_any_effect_starts_again_and_has_handed_out_nothing(
    paths: WitnessPaths, monkeypatch: pytest.MonkeyPatch, effect: str, call: int
) -> None:
    """Wherever the process dies, the next one has the old state or the new one, and goes on from there."""
    saved(paths, 5)
    store = WitnessStore(paths, ORIGIN)
    calls, real, lines = [], getattr(os, effect), []

    def die(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == call + 1:
            raise SystemExit
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, effect, die)
        try:
            lines.append(Witness(PINS, store, lambda: 1_000).answer(ask(5, 8)))
        except SystemExit:
            lines.clear()
    store.close()
    state = reopen(paths)

    assert state in (at(5), at(8))
    assert state == at(8) or not lines
    again = Witness(PINS, WitnessStore(paths, ORIGIN), lambda: 1_000).answer(ask(state.size, 8))
    assert isinstance(again, str)


@pytest.mark.parametrize("broken", ["fsync", "pwrite"])
def test_witness_given_failing_disk_hands_out_nothing(
    paths: WitnessPaths, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """No cosignature leaves when its state could not be made durable, and none after it until a restart decides."""
    witness = Witness(PINS, WitnessStore(paths, ORIGIN), lambda: 1_000)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(CustodyError, match="WITNESS_STATE_WRITE"):
            witness.answer(ask(0, 5))
    answer = witness.answer(ask(0, 5))

    assert isinstance(answer, Refused)
    assert answer.code == "WITNESS_STATE_WRITE"

"""The ceremony of one key, guided: made, written down, asked back, typed again, kept, backed up, recorded.

Nothing is kept before the words were typed again and gave the same key. What is done stays done: after an interruption
the same command goes on where it stood, and asks for the words where it needs them.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from custody import ed25519
from custody.backups import Form, Making, make_backup
from custody.errors import ConflictError, CustodyError, IntegrityError, MalformedError
from custody.genesis import KeyRecord
from custody.statements import Kind, Signed, sign
from custody.throws import LEAST, SYSTEM_BYTES, Source, mix, read_throws
from signer_node.backends import keep_seed, keeper_of
from signer_node.ceremony import IDENTITY_FILE, access_of, identity_seed
from signer_node.config import NodeConfig
from signer_node.copies import make_copy, names_of, new_passphrase, numbered, read_copy
from signer_node.making import Progress, load_progress, place_of, save_progress
from signer_node.records import write_once
from signer_node.secret import Secret, check_fingerprint
from signer_node.seed import Entropy, wipe
from signer_node.terminal import Terminal

ASKED_BACK = {12: 3, 24: 4}  # words asked back at once; a line that was written wrong is found by the drill behind it
TRIES = 3  # of a drill; then it is better to begin anew than to guess on
_COPIES = (Form.AGE.value, Form.SEALED.value, Form.SHARES.value)


async def hold(config: NodeConfig, terminal: Terminal, now: Callable[[], int], entropy: Entropy = os.urandom) -> Signed:
    """Lead through the ceremony from where it stands to its end; return the signed key record.

    Args:
        config: of this node.
        terminal: whoever holds the ceremony sits there.
        now: UTC seconds.
        entropy: the machine's own; another one only in tests.

    Raises:
        IntegrityError: FILE_EXISTS (a key that was made without words), DRILL_FAILED (nothing was kept).
        CustodyError: a step failed; the command can be given again.
    """
    keeper_of(config.backend)  # said before anybody throws dice
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    progress = load_progress(config.state)
    if progress is not None:
        progress = await _resume(config, terminal, progress)
    else:
        if (config.state / IDENTITY_FILE).exists():
            raise IntegrityError("FILE_EXISTS", f"expected no {IDENTITY_FILE}: this node has a key without words")
        secret, sources = _make_secret(terminal, entropy)
        with secret:
            making = _write_down(config, terminal, secret, sources, now, entropy)
            progress = await keep(config, secret, progress_of(config, secret, making, now()))
            progress = _add_copies(config, terminal, secret, progress)
    terminal.say(f"Done: {len(progress.making.backups)} backups of key {progress.fingerprint.hex()}.")
    return record_of(config, progress)


def record_of(config: NodeConfig, progress: Progress) -> Signed:
    """Return the key record with the transcript in it, signed by the node's identity key."""
    seed = identity_seed(config)
    record = KeyRecord(
        config.name, ed25519.public_key(seed), config.network, progress.key, progress.made_at, progress.making
    )
    return sign(Kind.RECORD, record.to_json(), seed)


def progress_of(config: NodeConfig, secret: Secret, making: Making, at: int) -> Progress:
    """Return where a ceremony stands whose seed is not kept yet."""
    material = secret.material(config.network)
    return Progress(material.fingerprint, material.key, at, making)


async def keep(config: NodeConfig, secret: Secret, progress: Progress) -> Progress:
    """Put seed and identity where they live, and remember it; what an attempt before left there stays.

    Raises:
        IntegrityError: FILE_EXISTS: there is another identity.
        CustodyError: the key backend's; the command can be given again.
    """
    save_progress(config.state, progress)
    identity = secret.identity().hex().encode()
    with suppress(IntegrityError):  # FILE_EXISTS: looked at next
        write_once(config.state / IDENTITY_FILE, identity)
    if (config.state / IDENTITY_FILE).read_bytes() != identity:
        raise IntegrityError("FILE_EXISTS", f"expected no {IDENTITY_FILE} of another key")
    seed = secret.seed()
    try:
        with suppress(ConflictError):  # SEED_EXISTS: whether it is this one, `endorse` and `pin` prove
            await keep_seed(config.backend, access_of(config, config.keysmith), seed)
    finally:
        wipe(seed)
    progress = progress.kept()
    save_progress(config.state, progress)
    return progress


async def _resume(config: NodeConfig, terminal: Terminal, progress: Progress) -> Progress:
    """Go on where an earlier run stopped: keep the seed, or add backups."""
    forms = ", ".join(backup.form.value for backup in progress.making.backups)
    where = "kept" if progress.is_kept else "written down, and not kept yet"
    terminal.say(f"Key {progress.fingerprint.hex()} of node {config.name} is {where}. Backups: {forms}.")
    if progress.is_kept and choose(terminal, "Another backup? yes or no: ", ("yes", "no")) == "no":
        return progress
    with _typed_again(config, terminal, progress.fingerprint, bool(progress.making.passphrase_holders)) as secret:
        if not progress.is_kept:
            progress = await keep(config, secret, progress)
        return _add_copies(config, terminal, secret, progress)


def _make_secret(terminal: Terminal, entropy: Entropy) -> tuple[Secret, tuple[str, ...]]:
    """Return a new secret and what it was made of."""
    words = int(choose(terminal, "How many words? 12 or 24: ", ("12", "24")))
    source = Source(choose(terminal, "Thrown besides? dice, coins or none: ", [s.value for s in Source]))
    thrown = _ask_throws(terminal, source, words)
    sources = ("os", *((f"{source.value}:{len(thrown)}",) if thrown else ()))
    try:
        mixed = mix(entropy(SYSTEM_BYTES), thrown, words)
    finally:
        wipe(thrown)
    return Secret(mixed, new_passphrase(terminal, "BIP-39 passphrase, empty for none: ")), sources


def _ask_throws(terminal: Terminal, source: Source, words: int) -> bytearray:
    """Ask until the throws are enough and fair."""
    if source is Source.NONE:
        return bytearray()
    faces = "1 to 6" if source is Source.DICE else "h and t, or 1 and 0"
    while True:
        typed = terminal.ask_secret(f"{LEAST[source, words]} throws or more, {faces} (they are not shown): ")
        try:
            return read_throws(typed, source, words)
        except MalformedError as error:
            terminal.say(f"{error.code}: {error.message}")
        finally:
            wipe(typed)


def _write_down(
    config: NodeConfig,
    terminal: Terminal,
    secret: Secret,
    sources: tuple[str, ...],
    now: Callable[[], int],
    entropy: Entropy,
) -> Making:
    """Have the words written down, ask some back, have all typed again for the same key; return the transcript."""
    words = secret.words
    while True:
        sheet = f"{len(words)} words of node {config.name} on {config.network.value}:\n\n{numbered(words)}\n"
        terminal.show_once(sheet, "Written down? Then press Enter: ")
        if _asked_back(terminal, words, entropy):
            break
        terminal.say("Not the same. The words are shown once more.")
    written_down_at = now()
    holders = names_of(terminal.ask("Who keeps the words? Names: "))
    knowing = names_of(terminal.ask("Who knows the passphrase? Names: ")) if secret.has_passphrase else ()
    terminal.say("Now as if the machine were lost: the words typed again must give the same key.")
    fingerprint = secret.material(config.network).fingerprint
    with _typed_again(config, terminal, fingerprint, secret.has_passphrase):
        terminal.say(f"The same key: {fingerprint.hex()}.")
    return Making(
        sources=sources,
        words=len(words),
        passphrase_holders=knowing,
        place=place_of(config),
        written_down_at=written_down_at,
        drilled_at=now(),
        backups=(make_backup(Form.WORDS, holders),),
    )


def _asked_back(terminal: Terminal, words: tuple[str, ...], entropy: Entropy) -> bool:
    places = sorted(range(len(words)), key=lambda _: entropy(8))[: ASKED_BACK[len(words)]]
    answers = []
    for place in sorted(places):
        typed = terminal.ask_secret(f"Word {place + 1}: ")
        answers.append(hmac.compare_digest(bytes(typed).strip().lower(), words[place].encode()))
        wipe(typed)
    return all(answers)


def _typed_again(config: NodeConfig, terminal: Terminal, fingerprint: bytes, has_passphrase: bool) -> Secret:
    """Return the secret whose words are typed now and give the key `fingerprint` (4 bytes).

    Raises:
        IntegrityError: DRILL_FAILED after `TRIES` tries.
    """
    for _ in range(TRIES):
        try:
            secret = read_copy(Form.WORDS, terminal, has_passphrase)
            check_fingerprint(secret, config.network, fingerprint)
        except CustodyError as error:
            terminal.say(f"{error.code}: {error.message}")
        else:
            return secret
    raise IntegrityError("DRILL_FAILED", f"expected the words of key {fingerprint.hex()} in {TRIES} tries")


def _add_copies(config: NodeConfig, terminal: Terminal, secret: Secret, progress: Progress) -> Progress:
    """Make further backups until nobody wants one more; each is remembered once it is made."""
    while (form := choose(terminal, "Another backup? age, sealed, shares or no: ", (*_COPIES, "no"))) != "no":
        try:
            making = progress.making.with_backup(make_copy(Form(form), config, secret, terminal))
        except (MalformedError, IntegrityError) as error:
            terminal.say(f"{error.code}: {error.message}")
            continue
        progress = Progress(progress.fingerprint, progress.key, progress.made_at, making, progress.is_kept)
        save_progress(config.state, progress)
    return progress


def choose(terminal: Terminal, question: str, answers: Sequence[str]) -> str:
    """Ask until one of `answers` was typed."""
    while (answer := terminal.ask(question).lower()) not in answers:
        terminal.say(f"Please type one of: {', '.join(answers)}.")
    return answer

"""Backups of a node's words, one form at a time: made at the terminal, and read back there."""

from __future__ import annotations

import re
from pathlib import Path

from custody.backups import MAX_PARTS, Backup, Form, make_backup
from custody.errors import IntegrityError, MalformedError
from custody.fields import check_name
from signer_node import shares
from signer_node.backends.private_file import read_private
from signer_node.config import NodeConfig
from signer_node.medium import read_carried
from signer_node.records import write_once
from signer_node.sealed_backup import open_age, open_passphrase, seal_age, seal_passphrase
from signer_node.secret import Secret, read_text, secret_of_words
from signer_node.seed import wipe
from signer_node.terminal import Terminal

_M_OF_N = re.compile(r"([0-9]{1,2}) of ([0-9]{1,2})")


def make_copy(form: Form, config: NodeConfig, secret: Secret, terminal: Terminal) -> Backup:
    """Make one backup of `secret` and return what the record says of it.

    Raises:
        MalformedError, IntegrityError: it was not made; the code says why.
    """
    if form is Form.SHARES:
        return _make_shares(secret, terminal)
    if form is Form.AGE:
        recipients = terminal.ask("age recipients (age1..., separated by blanks): ").split()
        raw = seal_age(secret, config.name, config.network, recipients)
    elif form is Form.SEALED:
        raw = seal_passphrase(secret, new_passphrase(terminal, "Passphrase of the file: "))
    else:
        raise MalformedError("BACKUP_FORM", "expected age, sealed or shares: the words are written down already")
    holders = names_of(terminal.ask("Who can open it? Names: "))
    path = Path(terminal.ask("New file for it: "))
    write_once(path, raw)
    terminal.say(f"Written to {path.name}.")
    return make_backup(form, holders)


def read_copy(form: Form, terminal: Terminal, has_passphrase: bool, file: Path | None = None) -> Secret:
    """Return the secret that one backup brings back.

    Args:
        form: of the backup.
        terminal: where words, shares and passphrases are typed.
        has_passphrase: whether there is a BIP-39 passphrase beside the words.
        file: of a sealed or age backup.

    Raises:
        MalformedError, IntegrityError: by code, such as MNEMONIC_CHECKSUM, SHARES_FEW, SEAL_BROKEN, AGE_OTHER_KEY.
    """
    if form is Form.WORDS:
        typed = terminal.ask_secret("All words, in order (they are not shown): ")
        return secret_of_words(typed, ask_passphrase(terminal, has_passphrase))
    if form is Form.SHARES:
        entropy = _read_shares(terminal)
    elif file is None:
        raise MalformedError("BACKUP_FILE", "expected --file with the backup")
    elif form is Form.AGE:
        identity = Path(terminal.ask("Identity file of age: "))
        entropy = open_age(read_carried(file), read_private(identity))
    else:
        entropy = open_passphrase(read_carried(file), terminal.ask_secret("Passphrase of the file: "))
    return Secret(entropy, ask_passphrase(terminal, has_passphrase))


def ask_passphrase(terminal: Terminal, has_passphrase: bool) -> bytearray:
    """Return the BIP-39 passphrase as it is typed, or nothing where there is none."""
    return terminal.ask_secret("BIP-39 passphrase: ") if has_passphrase else bytearray()


def new_passphrase(terminal: Terminal, question: str) -> bytearray:
    """Return a passphrase that was typed twice; empty for none.

    Raises:
        IntegrityError: PASSPHRASE_TWICE: the two differ.
    """
    first = terminal.ask_secret(question)
    second = terminal.ask_secret("The same again: ") if first else bytearray()
    is_same = first == second
    wipe(second)
    if not is_same:
        wipe(first)
        raise IntegrityError("PASSPHRASE_TWICE", "expected the same twice")
    return first


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in `text`, separated by blanks or commas. Raises MalformedError FIELD_NAME."""
    return tuple(check_name(name, "holders") for name in text.replace(",", " ").split())


def _make_shares(secret: Secret, terminal: Terminal) -> Backup:
    """Show each share alone to who keeps it, and ask its last word back."""
    found = _M_OF_N.fullmatch(terminal.ask("How many shares are needed, of how many? (2 of 3): "))
    if found is None:
        raise MalformedError("SHARES_COUNT", f'expected "2 of 3", at most {MAX_PARTS} shares')
    needed, count = int(found[1]), int(found[2])
    holders = names_of(terminal.ask(f"Who keeps them? {count} names: "))
    if len(holders) != count:
        raise MalformedError("BACKUP_PARTS", f"expected {count} names, found {len(holders)}")
    passphrase = new_passphrase(terminal, "SLIP-39 passphrase, empty for none: ")
    entropy = secret.entropy
    try:
        made = shares.split(entropy, needed, count, passphrase)
    finally:
        wipe(entropy)
        wipe(passphrase)
    for at, (share, holder) in enumerate(zip(made, holders, strict=True), 1):
        terminal.show_once(numbered(tuple(share.split())), f"Share {at} of {count}, for {holder} alone. Written down? ")
        _ask_last_back(terminal, share, at)
    return make_backup(Form.SHARES, holders, needed)


def _ask_last_back(terminal: Terminal, share: str, at: int) -> None:
    words = share.split()
    typed = terminal.ask_secret(f"Share {at}, word {len(words)}: ")
    is_same = read_text(typed).strip().lower() == words[-1]
    wipe(typed)
    if not is_same:
        raise IntegrityError("SHARE_NOT_WRITTEN", f"expected the last word of share {at}; these shares count nothing")


def _read_shares(terminal: Terminal) -> bytearray:
    found = [_ask_share(terminal, 1)]
    needed = shares.needed_of(found[0])
    terminal.say(f"{needed} shares are needed.")
    found += [_ask_share(terminal, at) for at in range(2, needed + 1)]
    passphrase = terminal.ask_secret("SLIP-39 passphrase, empty for none: ")
    try:
        return shares.join(found, passphrase)
    finally:
        wipe(passphrase)


def _ask_share(terminal: Terminal, at: int) -> str:
    typed = terminal.ask_secret(f"Share {at}, all words (they are not shown): ")
    try:
        return " ".join(read_text(typed).lower().split())
    finally:
        wipe(typed)


def numbered(words: tuple[str, ...]) -> str:
    """Return words as people write them down: numbered, four in a row."""
    cells = [f"{at:2} {word:<10}" for at, word in enumerate(words, 1)]
    return "\n".join("  ".join(cells[row : row + 4]).rstrip() for row in range(0, len(cells), 4))

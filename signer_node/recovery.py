"""A lost node brought back from a backup, and the drill that proves that it could be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from custody.backups import Form
from custody.drill import Drill
from custody.errors import IntegrityError, MalformedError
from custody.genesis import read_key_record
from custody.statements import Kind, Signed, sign
from custody.wallet import parse_key
from signer_node.ceremony import IDENTITY_FILE, identity_seed
from signer_node.config import NodeConfig
from signer_node.copies import read_copy
from signer_node.guided import keep
from signer_node.making import Progress, load_progress, place_of, require_progress
from signer_node.medium import read_carried
from signer_node.secret import check_fingerprint
from signer_node.terminal import Terminal


@dataclass(frozen=True, slots=True)
class Place:
    """Which backup is read. file: of a sealed or age backup."""

    form: Form
    file: Path | None = None


async def restore(config: NodeConfig, terminal: Terminal, backup: Place, record_path: Path) -> Progress:
    """Put the key of a lost node onto this new machine, if the backup gives the key that its record names.

    Args:
        config: of the new machine, under the old node's name.
        terminal: where words, shares and passphrases are typed.
        backup: which one.
        record_path: the lost node's key record: it says which key must come out.

    Raises:
        IntegrityError: FILE_EXISTS (there is a key), RECORD_OTHER, BACKUP_FINGERPRINT; nothing was kept.
        CustodyError: the backup cannot be read, by code; nothing was kept.
    """
    # Plan: 1 nothing is here yet · 2 the record is of this node · 3 the backup gives its key · 4 keep it.
    unfinished = load_progress(config.state)
    if (config.state / IDENTITY_FILE).exists() and (unfinished is None or unfinished.is_kept):
        raise IntegrityError("FILE_EXISTS", f"expected no {IDENTITY_FILE}: this node has its key")
    record = read_key_record(Signed.from_bytes(read_carried(record_path)))
    making = record.making
    if (record.node, record.network) != (config.name, config.network):
        raise IntegrityError("RECORD_OTHER", f"expected the record of {config.name}, found that of {record.node}")
    if making is None:
        raise MalformedError("RECORD_WITHOUT_WORDS", "expected the record of a key that was made from words")
    fingerprint = parse_key(record.key, record.network).fingerprint
    with read_copy(backup.form, terminal, bool(making.passphrase_holders), backup.file) as secret:
        check_fingerprint(secret, config.network, fingerprint)
        config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        here = replace(making, place=place_of(config))
        return await keep(config, secret, Progress(fingerprint, record.key, record.made_at, here))


def drill(config: NodeConfig, terminal: Terminal, backup: Place, holder: str, now: int) -> Signed:
    """Prove that a backup gives this node's key, and return the signed record of it; nothing is changed.

    Raises:
        NotFoundError: CEREMONY_NONE.
        IntegrityError: BACKUP_FINGERPRINT.
    """
    progress = require_progress(config.state)
    with read_copy(backup.form, terminal, bool(progress.making.passphrase_holders), backup.file) as secret:
        check_fingerprint(secret, config.network, progress.fingerprint)
    told = Drill(config.name, progress.fingerprint, backup.form, holder, now)
    return sign(Kind.DRILL, told.to_json(), identity_seed(config))

"""Files that hold a node's words: opened by who may, by nobody else, and by `age` itself."""

from __future__ import annotations

from collections.abc import Callable

import pyrage
import pytest

from custody.canonical import decode, encode
from custody.errors import CustodyError
from custody.mnemonic import to_words
from custody.wallet import Network
from signer_node.sealed_backup import open_age, open_passphrase, seal_age, seal_passphrase
from signer_node.secret import Secret
from tests.integration.harness import CHEAP

ENTROPY = bytes(range(32))
ANNA, BERT = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
PASSPHRASE = b"twelve bytes or more"


def secret() -> Secret:
    """Return the secret behind ENTROPY."""
    return Secret(bytearray(ENTROPY), bytearray(b"not in the file"))


def sealed(*identities: object) -> bytes:
    """Return the age file to these identities."""
    return seal_age(secret(), "cold", Network.REGTEST, [str(each.to_public()) for each in identities])  # type: ignore[attr-defined]


def code_of(work: Callable[[], object]) -> str:
    """Return the code with which `work` is refused, or OK."""
    try:
        work()
    except CustodyError as error:
        return error.code
    return "OK"


def identity_file(identity: object) -> bytearray:
    """Return an identity file as age-keygen writes it."""
    return bytearray(f"# created: today\n# public key: age1...\n{identity}\n".encode())


def test_age_file_opens_for_each_of_its_recipients_and_wipes_the_identity() -> None:
    """Two recipients, either opens; the identity's bytes are gone afterwards."""
    raw = sealed(ANNA, BERT)
    for identity in (ANNA, BERT):
        given = identity_file(identity)
        assert open_age(raw, given) == ENTROPY
        assert not any(given)


def test_age_file_opened_by_age_itself_shows_words_and_whose_they_are() -> None:
    """No program of ours is needed; the BIP-39 passphrase is not in it."""
    told = decode(bytes(pyrage.decrypt(sealed(ANNA), [ANNA])))
    assert isinstance(told, dict)
    assert told["words"] == " ".join(to_words(ENTROPY))
    assert (told["node"], told["network"]) == ("cold", "regtest")
    assert told["fingerprint"] == secret().material(Network.REGTEST).fingerprint.hex()
    assert b"not in the file" not in encode(told)


def other_schema() -> bytes:
    """Return an age file of something else."""
    return bytes(pyrage.encrypt(encode({"schema": "other/1", "words": "x"}), [ANNA.to_public()]))


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda: open_age(sealed(ANNA), identity_file(BERT)), "AGE_OTHER_KEY"),
        (lambda: open_age(sealed(ANNA)[:-40] + b"\n", identity_file(ANNA)), "AGE_OTHER_KEY"),
        (lambda: open_age(b"no age file", identity_file(ANNA)), "AGE_OTHER_KEY"),
        (lambda: open_age(sealed(ANNA), bytearray(b"AGE-SECRET-KEY-1NO")), "AGE_IDENTITY"),
        (lambda: open_age(sealed(ANNA), bytearray(b"# nothing here\n")), "AGE_IDENTITY"),
        (lambda: open_age(other_schema(), identity_file(ANNA)), "BACKUP_SCHEMA"),
        (lambda: seal_age(secret(), "cold", Network.REGTEST, []), "AGE_RECIPIENT"),
        (lambda: seal_age(secret(), "cold", Network.REGTEST, ["age1no"]), "AGE_RECIPIENT"),
        (lambda: seal_passphrase(secret(), bytearray(b"short"), CHEAP), "PASSPHRASE_SHORT"),
    ],
)
def test_age_file_given_one_wrong_part_refuses_with_its_code(work: Callable[[], object], code: str) -> None:
    """Another identity, damage, no identity at all, another file, nobody to seal to."""
    assert code_of(work) == code


@pytest.mark.parametrize("size", [16, 32])
def test_sealed_file_opens_with_its_passphrase_alone(size: int) -> None:
    """12 or 24 words; a wrong passphrase and one changed bit look the same, on purpose."""
    raw = seal_passphrase(Secret(bytearray(ENTROPY[:size]), bytearray()), bytearray(PASSPHRASE), CHEAP)
    assert open_passphrase(raw, bytearray(PASSPHRASE)) == ENTROPY[:size]
    assert code_of(lambda: open_passphrase(raw, bytearray(b"another passphrase"))) == "SEAL_BROKEN"
    changed = raw.replace(b'"passes":1', b'"passes":2')
    assert code_of(lambda: open_passphrase(changed, bytearray(PASSPHRASE))) == "SEAL_BROKEN"
    seed = raw.replace(b"keyturn-sealed-backup/1", b"keyturn-sealed-seed/1")
    assert code_of(lambda: open_passphrase(seed, bytearray(PASSPHRASE))) == "SEAL_SCHEMA"

"""Proofs of possession of passkeys: with the desk's signature, for the place they name, by nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody import ed25519
from custody.canonical import encode
from custody.errors import MalformedError
from custody.possession import Possession, read_possession
from custody.statements import Endorsement, Kind, Signed, endorse
from custody.webauthn import PRESENT
from tests.fakes.authenticators import ORIGIN, RP_ID, Passkey, desk_seed
from tests.fakes.rules import GENESIS, seed_of

PASSKEY = Passkey("bob")
SAID = Possession(GENESIS, "bob", PASSKEY.alg, PASSKEY.key, RP_ID, (ORIGIN,), ed25519.public_key(desk_seed("bob")))


def proof(said: Possession = SAID, passkey: Passkey = PASSKEY, desk: bytes = desk_seed("bob")) -> Signed:
    """Return `said`, signed by a passkey and by a desk."""
    raw = encode(said.to_json())
    digest = Signed(Kind.POSSESSION, raw, ()).digest
    return Signed(Kind.POSSESSION, raw, (passkey.endorse(digest), endorse(Kind.POSSESSION, raw, desk)))


def test_proof_of_a_passkey_when_both_signed_then_is_what_it_says() -> None:
    """The passkey, where it may be asked for, and the desk's key."""
    assert read_possession(proof(), GENESIS) == SAID


@pytest.mark.parametrize(
    "found",
    [
        proof(passkey=Passkey("mallory")),
        proof(desk=seed_of("mallory")),
        proof(passkey=replace(PASSKEY, client={"origin": "http://localhost:9999"})),
        proof(passkey=replace(PASSKEY, flags=PRESENT)),
        proof(replace(SAID, origins=("http://localhost:1",))),
        replace(proof(), endorsements=proof().endorsements[:1]),
        replace(proof(), endorsements=proof().endorsements[::-1]),
        replace(proof(), endorsements=(*proof().endorsements, Endorsement("ed25519", bytes(32), bytes(64)))),
    ],
    ids=["other passkey", "other desk", "other origin", "not verified", "other place", "no desk", "order", "a third"],
)
def test_proof_of_a_passkey_when_a_signature_is_not_as_signers_ask_then_is_none(found: Signed) -> None:
    """What no signer would count is not enrolled."""
    with pytest.raises(MalformedError) as refused:
        read_possession(found, GENESIS)
    assert refused.value.code == "POSSESSION_SIGNATURE"


def test_proof_when_it_is_of_another_genesis_then_is_refused() -> None:
    """A key is shown for one organisation."""
    with pytest.raises(MalformedError) as refused:
        read_possession(proof(), bytes(32))
    assert refused.value.code == "GENESIS_OTHER"

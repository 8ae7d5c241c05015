"""Statements on their way in: only what holds is taken along."""

from __future__ import annotations

from dataclasses import replace

from coordinator.rpc.statements import read_signed, write_signed
from custody.statements import Endorsement, Kind, endorse
from tests.fakes.sessions import withdrawal

OTHER_SEED = b"\x08" * 32


def test_read_signed_when_an_endorsement_does_not_hold_then_it_is_left_behind() -> None:
    """A wrong endorsement beside a right one would make the log's export unverifiable for ever."""
    signed = withdrawal()
    right = signed.endorsements[0]
    wrong = Endorsement("ed25519", b"\x05" * 32, b"\x06" * 64)
    stolen = replace(right, key=endorse(Kind.WITHDRAWAL, signed.raw, OTHER_SEED).key)

    found = read_signed(write_signed(replace(signed, endorsements=(wrong, right, stolen, right))))

    assert found == signed


def test_read_signed_when_several_sign_then_all_are_kept() -> None:
    """Each key's valid endorsement stays, in the order given."""
    signed = withdrawal()
    both = (endorse(Kind.WITHDRAWAL, signed.raw, OTHER_SEED), *signed.endorsements)

    assert read_signed(write_signed(replace(signed, endorsements=both))).endorsements == both

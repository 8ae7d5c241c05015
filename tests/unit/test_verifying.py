"""Signatures of large PSBTs are verified in a process of their own, which can die but cannot say yes by dying."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from coordinator.verifying import Claim, Verifying
from custody.errors import UnavailableError
from custody.scripts import Template
from custody.signatures import InputSignature, accept
from custody.wallet import ScriptBook
from tests.fakes.psbts import BOOK, facts_of, signed_by, spend, valid, wallet_of


@pytest_asyncio.fixture
async def verifying() -> AsyncIterator[Verifying]:
    """A verifier to which two signatures are many."""
    found = Verifying(many=2)
    yield found
    await found.close()


def mixed(book: ScriptBook) -> tuple[InputSignature, ...]:
    """Return signatures of which some are bad: another digest's, another key's, of no input."""
    good = (*signed_by(0, spend(book=book), book=book), *signed_by(2, spend(book=book), book=book))
    swapped = replace(good[0], signature=good[1].signature)
    return (swapped, *good, replace(good[0], pubkey=bytes(33)), replace(good[0], input_index=9), good[0])


@pytest.mark.parametrize("template", [Template.WSH, Template.TR])
async def test_accept_given_many_signatures_says_what_this_process_would(
    verifying: Verifying, template: Template
) -> None:
    """Valid and bad ones, ECDSA and Schnorr: where they are verified changes nothing."""
    book = ScriptBook(wallet_of(template=template))
    psbt = spend(book=book)
    facts = facts_of(psbt, book)

    found = await verifying.accept(psbt, facts, book, mixed(book))

    assert found == accept(psbt, facts, book, mixed(book))
    assert found.signed == {0, 2}
    assert [bad.code for bad in found.rejected] == ["SIGNATURE_INVALID", "SIGNATURE_KEY", "SIGNATURE_INPUT"]


async def test_accept_given_few_signatures_starts_no_process(verifying: Verifying) -> None:
    """What takes a millisecond is not worth a process."""
    one = signed_by(0, valid())[:1]

    found = await verifying.accept(valid(), facts_of(valid()), BOOK, one)

    assert found.by_input[0] == {0: one[0]}
    assert verifying._pool is None


async def test_accept_when_the_worker_dies_is_unavailable_and_recovers(
    verifying: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead worker is no answer: the call fails, nothing is accepted; the next call has a new worker."""
    signatures = signed_by(0, valid())
    with monkeypatch.context() as dying:
        dying.setattr("coordinator.verifying.verdicts", dies)
        with pytest.raises(UnavailableError, match="WORKER_DIED"):
            await verifying.accept(valid(), facts_of(valid()), BOOK, signatures)

    assert (await verifying.accept(valid(), facts_of(valid()), BOOK, signatures)).signed == {0}


async def test_close_after_work_leaves_no_process(verifying: Verifying) -> None:
    """The worker ends with the coordinator."""
    await verifying.accept(valid(), facts_of(valid()), BOOK, signed_by(0, valid()))
    assert verifying._pool is not None
    workers = list(verifying._pool._processes.values())

    await verifying.close()

    assert len(workers) == 1
    assert not workers[0].is_alive()
    await asyncio.wait_for(verifying.close(), 1)


def dies(claims: list[Claim], is_taproot: bool) -> list[bool]:
    """End the process that this runs in, as the kernel does to one that takes too much memory."""
    os._exit(9)

"""Receipts of nodes and witnesses in the export of a real flow: they are there, they hold, and false ones are named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from coordinator.exporting import export_lines
from coordinator.posted import take_in
from coordinator.session import Stage
from coordinator.store.port import Change, Event
from custody import evidence
from custody.audit import Log, read_export
from custody.audit.export import body_line
from custody.bundle import read_receipt
from custody.canonical import decode
from custody.evidence import make_evidence, verify_evidence
from custody.held import HeldReceipt, sign_receipt
from custody.replay import verify
from custody.statements import Kind, Signed, endorse, sign
from custody.story import stories_of
from tests.fakes.rules import seed_of
from tests.integration.harness import NOW, Organisation, close, genesis_of, organise
from tests.watchers import freeze_by, veto_by
from tests.world import WITNESS_SEED

pytestmark = pytest.mark.slow
GENESIS = genesis_of()


@pytest_asyncio.fixture
async def organisation(tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation whose nodes signed one withdrawal."""
    found = await organise(GENESIS, tmp_path)
    asked = found.withdrawal()
    await found.propose(asked)
    assert await found.run(asked) is Stage.BROADCAST
    yield found
    await close(found)


async def exported(organisation: Organisation) -> bytes:
    """Return the export file."""
    return b"".join([line async for line in export_lines(organisation.parts)])


def receipts_in(raw: bytes, kind: Kind) -> list[Signed]:
    """Return the receipts of one kind."""
    return [body for body in read_export(raw).bodies.values() if isinstance(body, Signed) and body.kind is kind]


def held_by(name: str, digest: bytes, seed: bytes = WITNESS_SEED, genesis: bytes = GENESIS.hash) -> Signed:
    """Return a witness's receipt."""
    return sign_receipt(HeldReceipt(genesis, digest, name, NOW), seed)


async def test_export_given_signers_holds_the_receipt_of_each(organisation: Organisation) -> None:
    """Whoever signed said so under his identity key, for the release that the log holds."""
    raw = await exported(organisation)

    answers = [read_receipt(receipt) for receipt in receipts_in(raw, Kind.RECEIPT)]

    assert sorted(answer.node for answer, _ in answers) == ["alpha", "beta"]
    assert str(verify(raw, GENESIS.hash, full=False)) == str(verify(raw, GENESIS.hash)) == "OK"


async def test_export_given_taken_statements_holds_good_receipts_of_witnesses_alone(organisation: Organisation) -> None:
    """What witnesses held is in the log with their word for it; what does not verify is left out."""
    freeze = freeze_by("dave", GENESIS, NOW)
    waiting = organisation.withdrawal(20_000_000, 13)
    await organisation.propose(waiting)
    veto = veto_by("bob", waiting, NOW)
    good = [held_by("witness", signed.digest) for signed in (veto, freeze)]
    bad = [held_by("witness", freeze.digest, seed_of("bob")), held_by("nobody", freeze.digest)]

    assert await take_in(organisation.parts, veto, "witness", good[:1]) is None
    assert await take_in(organisation.parts, freeze, "witness", [*bad, *good]) is None
    raw = await exported(organisation)

    assert {body.digest for body in receipts_in(raw, Kind.HELD)} == {body.digest for body in good}
    assert str(verify(raw, GENESIS.hash)) == "OK"


def _changed(receipt: Signed, by: str = "alpha", **fields: Any) -> Signed:
    document = decode(receipt.raw)
    assert isinstance(document, dict)
    return sign(Kind.RECEIPT, {**document, **fields}, seed_of(by))


SIGNERS: dict[str, tuple[Callable[[Signed], Signed], str, str]] = {
    "another's key": (lambda r: _changed(r, "bob"), "POLICY_VIOLATION", "RECEIPT_SIGNATURE"),
    "two keys": (
        lambda r: replace(r, endorsements=(*r.endorsements, endorse(r.kind, r.raw, seed_of("bob")))),
        "POLICY_VIOLATION",
        "RECEIPT_SIGNATURE",
    ),
    "an unknown node": (lambda r: _changed(r, node="zeta"), "POLICY_VIOLATION", "RECEIPT_SIGNATURE"),
    "another release": (lambda r: _changed(r, release_index=999), "MODIFIED", "RECEIPT_RELEASE"),
    "another transaction": (lambda r: _changed(r, txid="11" * 32), "MODIFIED", "RECEIPT_RELEASE"),
    "another withdrawal": (lambda r: _changed(r, withdrawal_digest="11" * 32), "MODIFIED", "RECEIPT_OTHER"),
    "another genesis": (lambda r: _changed(r, genesis="11" * 32), "MODIFIED", "RECEIPT_OTHER"),
    "one field more": (lambda r: _changed(r, more=1), "MODIFIED", "FIELD_UNKNOWN"),
}


@pytest.mark.parametrize("lie", SIGNERS)
async def test_verify_given_a_false_signers_receipt_names_it(organisation: Organisation, lie: str) -> None:
    """A coordinator that logs a receipt which contradicts log or rules is found out, with the event."""
    change, kind, code = SIGNERS[lie]
    honest = receipts_in(await exported(organisation), Kind.RECEIPT)
    false = change(next(r for r in honest if read_receipt(r)[0].node == "alpha"))
    asked = organisation.withdrawal().digest.hex()
    event = Event("signature.accepted", "alpha", {"withdrawal": asked, "bodies": [false.digest.hex()]})
    if false.digest in {r.digest for r in honest}:  # the store keeps the first, so the file lies
        lines = (await exported(organisation)).splitlines(keepends=True)
        raw = b"".join(_with_body(line, false) for line in lines)
    else:
        await organisation.parts.store.record(Change(NOW, events=(event,), bodies=(false,)))
        raw = await exported(organisation)

    verdict = verify(raw, GENESIS.hash)

    assert (verdict.kind.value, verdict.detail.partition(":")[0], verdict.log) == (kind, code, Log.EVENT), verdict


def _with_body(line: bytes, body: Signed) -> bytes:
    return body_line(body) if line.startswith(b'{"body":"' + body.digest.hex().encode()) else line


@pytest.mark.parametrize(
    ("receipt", "code"),
    [
        (held_by("witness", bytes(32)), "RECEIPT_STATEMENT"),
        (held_by("witness", bytes(32), seed_of("bob")), "RECEIPT_SIGNATURE"),
        (held_by("nobody", bytes(32)), "RECEIPT_SIGNATURE"),
        (held_by("witness", bytes(32), genesis=bytes(32)), "RECEIPT_OTHER"),
    ],
)
async def test_verify_given_a_false_witness_receipt_names_it(
    organisation: Organisation, receipt: Signed, code: str
) -> None:
    """A receipt by no pinned witness, or for what the log never held, is named already at level log."""
    event = Event("statement.taken", "witness", {"kind": "freeze", "bodies": [receipt.digest.hex()]})
    await organisation.parts.store.record(Change(NOW, events=(event,), bodies=(receipt,)))

    verdict = verify(await exported(organisation), GENESIS.hash, full=False)

    assert (verdict.kind.value, verdict.detail.partition(":")[0]) == ("MODIFIED", code), verdict


async def test_evidence_given_receipts_holds_and_proves_them(organisation: Organisation) -> None:
    """The bundle of a withdrawal has its signers' receipts, and a witness's for its veto; a false one is named."""
    waiting = organisation.withdrawal(20_000_000, 13)
    await organisation.propose(waiting)
    veto = veto_by("bob", waiting, NOW)
    assert await take_in(organisation.parts, veto, "witness", [held_by("witness", veto.digest)]) is None
    export = read_export(await exported(organisation))
    paid = next(story.digest for story in stories_of(export) if story.released is not None)

    for digest, kinds in ((paid, [Kind.RECEIPT, Kind.RECEIPT]), (waiting.digest, [Kind.HELD])):
        made = make_evidence(export, digest)
        _, files = evidence._unzip(made)
        receipts = {name: Signed.from_bytes(raw) for name, raw in files.items() if name.startswith("receipts/")}
        assert [receipt.kind for receipt in receipts.values()] == kinds
        assert str(verify_evidence(made, GENESIS.hash)) == f"OK({digest.hex()})"
        for name, receipt in receipts.items():
            forged = Signed(receipt.kind, receipt.raw, (endorse(receipt.kind, receipt.raw, seed_of("bob")),))
            verdict = verify_evidence(evidence._zip(digest, {**files, name: forged.to_bytes()}), GENESIS.hash)
            assert (str(verdict), verdict.detail.partition(":")[0]) == ("MODIFIED", "RECEIPT_SIGNATURE")
        stranger = held_by("witness", bytes(32))
        verdict = verify_evidence(
            evidence._zip(digest, {**files, "receipts/x.json": stranger.to_bytes()}), GENESIS.hash
        )
        assert verdict.detail.startswith("RECEIPT_STATEMENT")

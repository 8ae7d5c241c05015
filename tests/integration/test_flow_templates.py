"""The path of a withdrawal from wallets of the other templates: two of three nodes, a block, an audit."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.chain.port import TxState
from coordinator.exporting import export_lines
from coordinator.session import Session, Stage
from custody.audit import VerdictKind, read_export
from custody.evidence import make_evidence, verify_evidence
from custody.psbt import parse
from custody.replay import replay, verify
from custody.scripts import Template
from custody.story import withdrawals_csv
from custody.transaction import parse_transaction
from tests.fakes.rules import rule
from tests.integration.harness import Organisation, close, genesis_of, organise

PAY = rule("pay", "allow", {"wallet": {"names": ["treasury"]}})
GENESES = {template: genesis_of(PAY, template=template) for template in Template if template is not Template.WSH}


@pytest.fixture(params=GENESES, ids=lambda template: template.name)
async def org(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Organisation]:
    """An organisation whose treasury has another template than wsh."""
    found = await organise(GENESES[request.param], tmp_path, coins=2)
    yield found
    await close(found)


async def pay(org: Organisation, amount: int, payee: int) -> Session:
    """Carry a withdrawal to its confirmation; return what is stored of it."""
    asked = org.withdrawal(amount, payee)
    assert await org.propose(asked) is Stage.SIGNING
    assert await org.run(asked) is Stage.BROADCAST
    await org.mine()
    assert await org.advance(asked) is Stage.CONFIRMED
    return await org.session(asked)


async def test_withdrawals_from_each_template_are_confirmed_and_their_export_verifies(org: Organisation) -> None:
    """Two coins with change, then the change: signed by two nodes, judged by the kernel, confirmed, audited in full."""
    first = await pay(org, 6_000_000_000, 11)
    second = await pay(org, 1_000_000, 12)

    finals = [parse_transaction(session.transaction or b"") for session in (first, second)]
    assert [len(final.inputs) for final in finals] == [2, 1]
    assert finals[1].inputs[0].outpoint.txid == finals[0].txid == first.txid
    assert (await org.chain.status(finals[1].txid)).state is TxState.CONFIRMED
    assert org.handed == ["alpha bundle", "beta bundle"] * 2
    released = [parse(session.psbt or b"").transaction.txid for session in (first, second)]
    is_renamed = org.book.wallet.template is Template.SH_WSH  # by its scriptSigs
    assert [one == final.txid for one, final in zip(released, finals, strict=True)] == [not is_renamed] * 2
    raw = b"".join([line async for line in export_lines(org.parts)])
    assert str(verify(raw, org.genesis.hash)) == "OK"
    for session in (first, second):
        digest = session.withdrawal.digest
        assert str(verify_evidence(make_evidence(read_export(raw), digest), org.genesis.hash)) == f"OK({digest.hex()})"
    rows = list(csv.DictReader(io.StringIO(withdrawals_csv(read_export(raw)))))
    assert [row["txid"] for row in rows] == [final.txid_hex for final in finals]


async def test_export_with_another_signature_in_a_final_transaction_is_a_violation(org: Organisation) -> None:
    """The auditor verifies the signatures of every template, not only of wsh."""
    session = await pay(org, 1_000_000, 11)
    raw = session.transaction or b""
    final = parse_transaction(raw)
    place = (
        1
        if org.book.wallet.template is Template.SH_WSH
        else next(at for at, item in enumerate(final.inputs[0].witness) if item)
    )
    item = final.inputs[0].witness[place]
    export = read_export(b"".join([line async for line in export_lines(org.parts)]))
    forged = raw.replace(item, item[:20] + bytes([item[20] ^ 1]) + item[21:])
    bodies = {digest: forged if body == raw else body for digest, body in export.bodies.items()}

    verdict = replay(replace(export, bodies=bodies))

    assert verdict is not None
    assert (verdict.kind, verdict.detail[:11]) == (VerdictKind.POLICY_VIOLATION, "SIGNATURES:")

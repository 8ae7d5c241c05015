"""The four templates of a wallet: built, proven, signed, finalised, and taken by Bitcoin Core's own script code."""

from __future__ import annotations

import base64
from functools import cache

import bdkpython
import pytest
import wallycore
from embit.descriptor import Descriptor
from embit.networks import NETWORKS
from embit.psbt import PSBT

from custody.address import address_of
from custody.facts import ShapeLimits, read_facts
from custody.finalise import finalize
from custody.psbt import Psbt, convert, parse, serialize
from custody.reader import sized
from custody.scripts import NUMS, Template
from custody.signatures import accept, from_foreign_psbt, sighashes, with_signatures, without_signatures
from custody.transaction import parse_transaction
from custody.wallet import Network, ScriptBook, parse_wallet
from tests.fakes.psbts import (
    FEE_SATS,
    RawPsbt,
    facts_of,
    kernel_accepts,
    put,
    signed_by,
    spend,
    spent_outputs,
    wallet_of,
)

OTHERS = [Template.SH_WSH, Template.TR, Template.TR_SORTED]
SIGNATURE_SLACK_VB = 2  # per ECDSA signature: one of 72 bytes is possible, most have 71 or 70


@cache
def book_of(template: Template, threshold: int = 2, count: int = 3) -> ScriptBook:
    """Return the scripts of an m-of-n wallet."""
    return ScriptBook(wallet_of(threshold, count, template=template))


def completed(psbt: Psbt, book: ScriptBook, cosigners: range | tuple[int, ...]) -> bool:
    """Return whether the signatures of `cosigners` finalise `psbt` to what the kernel takes, inside the bound."""
    facts = facts_of(psbt, book)
    signatures = sum((signed_by(at, psbt, book=book) for at in cosigners), ())
    accepted = accept(psbt, facts, book, signatures)
    assert accepted.rejected == ()
    final = finalize(psbt, facts, book, accepted)
    assert final.unsigned() == psbt.transaction
    assert parse_transaction(final.serialize()) == final
    slack = 0 if book.wallet.template.is_taproot else book.wallet.threshold * SIGNATURE_SLACK_VB
    assert facts.vsize_vb - slack <= final.vsize_vb <= facts.vsize_vb
    return kernel_accepts(final, spent_outputs(psbt))


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (2, 3), (3, 5), (15, 15), (1, 15)])
def test_finalize_given_any_m_of_n_is_accepted_by_the_kernel_and_not_above_the_bound(
    template: Template, threshold: int, count: int
) -> None:
    """The bound of the size is exact in taproot, and at most two bytes a signature too high elsewhere."""
    book = book_of(template, threshold, count)

    assert completed(spend(2, book=book), book, range(threshold))


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize("cosigners", [(0, 1), (0, 2), (1, 2), (2, 0), (0, 1, 2)])
def test_finalize_given_any_two_of_three_is_accepted_by_the_kernel(
    template: Template, cosigners: tuple[int, ...]
) -> None:
    """Whoever signs, and in whatever order: also one more than needed."""
    book = book_of(template)

    assert completed(spend(3, book=book), book, cosigners)


@pytest.mark.parametrize("template", Template)
def test_wallet_given_its_own_descriptor_is_the_same_wallet(template: Template) -> None:
    """Through its text; each template of the same keys is another wallet."""
    wallet = wallet_of(template=template)

    assert parse_wallet(wallet.descriptor, Network.REGTEST) == wallet
    assert len({wallet_of(template=one).wallet_id for one in Template}) == len(Template)


@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize(("branch", "index"), [(0, 0), (0, 41), (1, 0), (1, 999)])
def test_script_given_a_place_is_what_three_other_implementations_derive(
    template: Template, branch: int, index: int
) -> None:
    """Addresses by rust-bitcoin and libwally, scripts by embit, of the same descriptor; where they know its form."""
    wallet, book = wallet_of(template=template), book_of(template)
    ours = book.script(branch, index).script
    body = wallet.descriptor.partition("#")[0]
    found = {}
    if template is not Template.TR_SORTED:  # rust-miniscript has no sortedmulti_a
        one = bdkpython.Descriptor(body.replace("<0;1>", str(branch)), bdkpython.NetworkKind.TEST)
        theirs = bdkpython.Wallet.create_single(one, bdkpython.Network.REGTEST, bdkpython.Persister.new_in_memory())
        found["bdk"] = str(theirs.peek_address(bdkpython.KeychainKind.EXTERNAL, index).address)
    if not template.is_taproot:
        parsed = wallycore.descriptor_parse(wallet.descriptor, None, wallycore.WALLY_NETWORK_BITCOIN_REGTEST, 0)
        found["wally"] = wallycore.descriptor_to_address(parsed, 0, branch, index, 0)
    embit = Descriptor.from_string(body).derive(index, branch_index=branch)
    found["embit"] = embit.script_pubkey().address(NETWORKS["regtest"])

    assert set(found.values()) == {address_of(ours, Network.REGTEST)}


@pytest.mark.parametrize("template", OTHERS)
def test_build_given_a_template_writes_what_a_third_party_needs(template: Template) -> None:
    """The types of BIP-174 and BIP-371 on inputs and on change; previous transactions always."""
    psbt = spend(1, book=book_of(template))
    expected = {
        Template.SH_WSH: ([0x00, 0x01, 0x03, 0x04, 0x05, 0x06, 0x06, 0x06], [0x00, 0x01, 0x02, 0x02, 0x02]),
        Template.TR: ([0x00, 0x01, 0x15, 0x16, 0x16, 0x16, 0x17, 0x18], [0x05, 0x06, 0x07, 0x07, 0x07]),
    }
    inputs, change = expected.get(template, expected[Template.TR])

    assert [field.type for field in psbt.inputs[0].fields] == inputs
    assert [[field.type for field in output.fields] for output in psbt.outputs] == [[], change]
    assert serialize(parse(serialize(psbt))) == serialize(psbt)
    assert bdkpython.Psbt(base64.b64encode(serialize(psbt)).decode()).fee() == FEE_SATS
    assert PSBT.parse(serialize(psbt)).fee() == FEE_SATS


@pytest.mark.parametrize("template", OTHERS)
@pytest.mark.parametrize("version", [0, 2])
def test_signatures_given_a_template_travel_inside_psbts_of_either_version(template: Template, version: int) -> None:
    """Exported, read back, taken out again: the same triples; and facts are those of the other version."""
    book = book_of(template)
    ours = convert(spend(2, book=book), version)
    signatures = (*signed_by(0, ours, book=book), *signed_by(2, ours, book=book))

    export = with_signatures(ours, signatures)

    assert sorted(from_foreign_psbt(ours, serialize(export))) == sorted(signatures)
    assert sorted(from_foreign_psbt(ours, serialize(convert(export, 2 - version)))) == sorted(signatures)
    assert without_signatures(export) == ours
    refused = read_facts(parse(serialize(export)), book, ShapeLimits())
    assert getattr(refused, "code", None) == "PSBT_HAS_SIGNATURES"
    assert facts_of(ours, book) == facts_of(spend(2, book=book), book)


@pytest.mark.parametrize("template", OTHERS)
def test_final_witness_given_by_a_signer_is_searched_for_its_signatures(template: Template) -> None:
    """Software that finalises drops the partial signatures; they are picked out of the witness, and verified."""
    book = book_of(template)
    ours = spend(2, book=book)
    facts = facts_of(ours, book)
    signatures = (*signed_by(0, ours, book=book), *signed_by(2, ours, book=book))
    final = finalize(ours, facts, book, accept(ours, facts, book, signatures))
    raw = RawPsbt.of(ours)
    for pairs, txin in zip(raw.inputs, final.inputs, strict=True):
        put(pairs, b"\x08", bytes([len(txin.witness)]) + b"".join(map(sized, txin.witness)))

    assert sorted(from_foreign_psbt(ours, raw.to_bytes())) == sorted(signatures)


@pytest.mark.parametrize("template", OTHERS)
def test_facts_given_no_hints_and_no_scripts_are_the_same(template: Template) -> None:
    """Nothing but the previous transaction is needed: scripts come from derivation alone."""
    book = book_of(template)
    psbt = spend(2, book=book)
    raw = RawPsbt.of(psbt)
    raw.inputs = [pairs[:1] for pairs in raw.inputs]
    raw.outputs = [[] for _ in raw.outputs]

    assert facts_of(parse(raw.to_bytes()), book) == facts_of(psbt, book)


def test_sighashes_given_the_taproot_templates_use_the_key_order_of_each() -> None:
    """multi_a keeps the descriptor's order, sortedmulti_a sorts x-only keys (BIP-387)."""
    plain, ordered = book_of(Template.TR).script(0, 5), book_of(Template.TR_SORTED).script(0, 5)

    assert plain.pubkeys == ordered.pubkeys
    assert plain.order == (0, 1, 2)
    assert [ordered.pubkeys[at] for at in ordered.order] == sorted(ordered.pubkeys)
    assert plain.control_block[1:] == ordered.control_block[1:] == NUMS


@pytest.mark.parametrize("template", Template)
def test_sighashes_given_any_input_differ_from_each_other(template: Template) -> None:
    """One signature is good for one input."""
    book = book_of(template)
    psbt = spend(5, book=book)

    assert len(set(sighashes(psbt, facts_of(psbt, book), book))) == 5

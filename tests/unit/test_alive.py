"""Proof of life: one fixed sentence by the node's own key, checked by us and by Bitcoin Core's script interpreter."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from custody.alive import Life, breath_of, check_life, life_address, proof_of, read_life
from custody.bip322 import Form, spent_outputs, to_sign, write_proof
from custody.errors import CustodyError, MalformedError, Refused, UnavailableError
from custody.genesis import Genesis
from custody.health import UNPROVEN_AFTER_S, Alarm, health_of
from custody.scripts import Template
from custody.signatures import InputSignature
from custody.statements import Kind, Signed, sign
from custody.wallet import Network
from signer_node.node import Node
from signer_node.proving import EVERY_S, Schedule, prove
from tests.fakes.clock import FakeClock
from tests.fakes.rules import DAY, NOW, seed_of
from tests.integration.harness import genesis_of, open_node
from tests.official import proof_holds
from tests.unit.test_node import Keys

GENESIS = genesis_of()
NONCE = bytes(range(16))


async def proven(home: Path, genesis: Genesis = GENESIS, node: str = "alpha") -> Signed:
    """Return the proof of life of a real node."""
    return await open_node(genesis, node, home, FakeClock(NOW)).prove_alive(NONCE)


def code_of(signed: Signed, genesis: Genesis = GENESIS) -> str:
    """Return the code with which a proof is refused, or OK."""
    try:
        found = check_life(genesis, genesis.policy, signed)
    except MalformedError as error:
        return error.code
    return found.code if isinstance(found, Refused) else "OK"


@pytest.mark.parametrize("template", [Template.WSH, Template.TR])
async def test_prove_alive_makes_what_every_bip_322_verifier_takes(tmp_path: Path, template: Template) -> None:
    """Whatever the wallet's form: a simple signature of the sentence by the node's key, as the kernel says."""
    genesis = genesis_of(template=template)
    signed = Signed.from_bytes((await proven(tmp_path, genesis)).to_bytes())

    life = read_life(signed)
    assert check_life(genesis, genesis.policy, signed) == life
    assert life.sentence == f"keyturn proof of life {genesis.hash.hex()} alpha {NOW} {NONCE.hex()}"
    assert life.proof.startswith("smp")
    address = life_address(genesis, life)
    assert proof_holds(address, life.sentence, life.proof, is_invalid=False, network=Network.REGTEST)
    assert address not in {life_address(genesis, replace(life, node=name)) for name in ("beta", "cold", "nobody")}


LIES: dict[str, tuple[Callable[[Life], Life], str]] = {
    "nothing": (lambda life: life, "OK"),
    "later": (lambda life: replace(life, at=life.at + 1), "ALIVE_PROOF"),
    "another nonce": (lambda life: replace(life, nonce=bytes(16)), "ALIVE_PROOF"),
    "no signature": (lambda life: replace(life, proof="smp" + "AA=="), "ALIVE_PROOF"),
    "no base64": (lambda life: replace(life, proof="smp?"), "PROOF_BASE64"),
    "another genesis": (lambda life: replace(life, genesis=bytes(32)), "ALIVE_OTHER"),
    "an unknown node": (lambda life: replace(life, node="mallory"), "ALIVE_OTHER"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_check_life_given_one_lie_refuses_with_its_code(tmp_path: Path, lie: str) -> None:
    """Signed by the node's own identity each time: only the key's signature of the very sentence counts."""
    change, code = LIES[lie]
    life = change(read_life(await proven(tmp_path)))
    assert code_of(sign(Kind.ALIVE, life.to_json(), seed_of("alpha"))) == code


async def test_check_life_by_another_identity_or_kind_is_refused(tmp_path: Path) -> None:
    """The proof of one node is nobody else's, and no other statement is one."""
    life = read_life(await proven(tmp_path))
    assert code_of(sign(Kind.ALIVE, life.to_json(), seed_of("beta"))) == "ALIVE_SIGNATURE"
    assert code_of(sign(Kind.ALIVE, replace(life, node="beta").to_json(), seed_of("beta"))) == "ALIVE_PROOF"
    assert code_of(sign(Kind.DRILL, life.to_json(), seed_of("alpha"))) == "STATEMENT_KIND"


async def test_check_life_with_a_signature_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    """Another sighash byte commits to less than the whole: refused, though the signature itself holds."""
    life = read_life(await proven(tmp_path))
    breath = breath_of(GENESIS, life)
    assert breath is not None
    stolen = to_sign(breath.script, b"another sentence").with_witnesses([(b"", b"")])
    assert (
        code_of(
            sign(
                Kind.ALIVE,
                replace(life, proof=write_proof(Form.SIMPLE, stolen, spent_outputs(breath.script))).to_json(),
                seed_of("alpha"),
            )
        )
        == "ALIVE_PROOF"
    )
    none = replace(life, proof=proof_of(breath, life, b"\x30\x06\x02\x01\x01\x02\x01\x01\x02"))
    assert code_of(sign(Kind.ALIVE, none.to_json(), seed_of("alpha"))) == "ALIVE_PROOF"


async def test_prove_alive_with_a_backend_that_signs_something_else_releases_nothing(tmp_path: Path) -> None:
    """What leaves is checked before it does."""
    node = open_node(GENESIS, "alpha", tmp_path, FakeClock(NOW))
    node._backend = Keys((InputSignature(0, b"\x02" * 33, b"\x30\x06\x02\x01\x01\x02\x01\x01\x01"),))  # type: ignore[assignment]
    with pytest.raises(CustodyError) as refused:
        await node.prove_alive(NONCE)
    assert refused.value.code == "BACKEND_LIED"


@pytest.mark.parametrize(
    ("ages", "unproven", "spare", "alarm", "told"),
    [
        ((1, 1, 1), (), 1, Alarm.FINE, "treasury: all 3 keys proven within 90 days"),
        ((1, 90, 1), ("beta",), 0, Alarm.ALERT, "treasury: 1 of 3 keys unproven for 90 days, one loss from lock-out"),
        (
            (1, None, None),
            ("beta", "cold"),
            -1,
            Alarm.ALERT,
            "treasury: 2 of 3 keys unproven for 90 days, 1 too few proven to sign",
        ),
    ],
)
def test_health_of_says_how_far_the_lock_out_is(
    ages: tuple[int | None, ...], unproven: tuple[str, ...], spare: int, alarm: Alarm, told: str
) -> None:
    """2 of 3: with one key unproven, one more loss is the end."""
    names = ("alpha", "beta", "cold")
    at = {name: NOW - age * DAY for name, age in zip(names, ages, strict=True) if age is not None}
    found = health_of(GENESIS.wallets[0], at, NOW)
    assert (found.unproven, found.spare, found.alarm, str(found)) == (unproven, spare, alarm, told)


def test_health_of_five_keys_with_two_unproven_says_the_sentence() -> None:
    """3 of 5 with two unproven is one loss from lock-out; 2 of 5 is two."""
    wallet = GENESIS.wallets[0]
    five = replace(
        wallet, slots=(*wallet.slots, replace(wallet.slots[0], node="d"), replace(wallet.slots[0], node="e"))
    )
    fresh = dict.fromkeys(("alpha", "d", "e"), NOW - UNPROVEN_AFTER_S + 1)
    assert str(health_of(five, fresh, NOW)) == "treasury: 2 of 5 keys unproven for 90 days, 2 losses from lock-out"
    three = replace(five, wallet=replace(five.wallet, threshold=3))
    assert str(health_of(three, fresh, NOW)) == "treasury: 2 of 5 keys unproven for 90 days, one loss from lock-out"


def report_to(taken: list[Signed], error: CustodyError | None = None) -> Callable[[Signed], Awaitable[None]]:
    """Return somewhere to hand proofs to."""

    async def report(signed: Signed) -> None:
        if error is not None:
            raise error
        taken.append(signed)

    return report


async def test_prove_when_handed_over_is_due_again_in_a_week(tmp_path: Path) -> None:
    """What could not be handed over stays due; a stamp that cannot be read, or lies ahead, means due."""
    clock = FakeClock(NOW)
    node, schedule, taken = open_node(GENESIS, "alpha", tmp_path, clock), Schedule(tmp_path, clock), list[Signed]()
    assert schedule.is_due
    await prove(node, schedule, report_to(taken, UnavailableError("REPORT_FAILED", "away")))
    assert (schedule.is_due, taken) == (True, [])
    await prove(node, schedule, report_to(taken))
    assert (schedule.is_due, [code_of(signed) for signed in taken]) == (False, ["OK"])
    clock.at += EVERY_S
    assert schedule.is_due
    (tmp_path / "proven_at").write_text(str(NOW + 100 * DAY))
    assert schedule.is_due
    (tmp_path / "proven_at").write_text("soon")
    assert schedule.is_due


def test_node_has_no_way_to_sign_a_sentence_of_others() -> None:
    """ATK: a challenge of somebody else is a digest of his choice. The node takes a nonce and nothing else."""
    assert list(inspect.signature(Node.prove_alive).parameters) == ["self", "nonce"]

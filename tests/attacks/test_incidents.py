"""Large thefts of other custodians, built again as far as Bitcoin has a counterpart: each stopped, and by which rule.

Told from public reports. In all of them signers signed what somebody else's screen or server said. Here the coordinator
with all its keys, and whatever else was in the thieves' hands then, is in hostile hands; a node answers with a code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from custody.errors import CustodyError, Refused
from custody.genesis import Genesis
from custody.policy.lint import KeyPlace, WalletKeys, lint
from custody.psbt import parse, serialize
from custody.statements import Kind, Signed, endorse, sign
from custody.updater import build
from custody.withdrawal import Relation, RelationKind, Withdrawal
from signer_node.node import Node
from tests.fakes.authenticators import ORIGIN, RP_ID, Passkey, desk_seed
from tests.fakes.clock import FakeClock
from tests.fakes.rules import NOW, PAY, document, rule, script
from tests.governing import after, document_of, log_rules, signed_rules, with_rule
from tests.integration.harness import genesis_of, open_node
from tests.world import EXCHANGE, LOG_SEED, Spend, World, approval, signed_by_initiator

THIEF = 66
TWO_EYES = rule(
    "two-eyes", "require", {"amount": {"min_sats": 10_000_000}}, {"approvals": {"group": "ops", "threshold": 2}}
)
LISTED = rule("listed", "deny", {"not": {"destination": {"lists": ["exchanges"]}}}, reason_code="PAYEE_NOT_LISTED")
LARGE = ((EXCHANGE, 15_000_000),)
TO_THE_THIEF = ((THIEF, 15_000_000),)
DMM_SATS = 450_290_000_000  # 4,502.9 BTC


def _with_passkeys() -> Genesis:
    """Return a genesis in which bob and carol have passkeys, beside the keys of their desks, and nothing else."""
    found = document()
    for user in found["principals"]["users"]:
        if user["name"] in ("bob", "carol"):
            user["credentials"] = [Passkey(user["name"]).credential()]
    roots = {"rp_ids": [RP_ID], "origins": [ORIGIN]}
    return genesis_of(PAY, TWO_EYES, principals=found["principals"], roots=roots)


GENESIS = genesis_of(PAY, TWO_EYES)
PASSKEYS = _with_passkeys()


async def told(node: Node, spend: Spend, index: int | None = None, **lies: Any) -> str:
    """Return the code with which `node` refuses the bundle of `spend`, or "signed"."""
    try:
        outcome = (await node.answer(spend.bundle(index, **lies).to_bytes())).outcome
    except CustodyError as error:
        return error.code
    return outcome.code if isinstance(outcome, Refused) else "signed" if isinstance(outcome, tuple) else "behind"


def node_of(genesis: Genesis, directory: Path) -> Node:
    """Return node alpha, its key in a sealed file."""
    return open_node(genesis, "alpha", directory, FakeClock(NOW))


def by_passkey(asked: Withdrawal, person: str, page: str = ORIGIN, *, desk: bool = True) -> Signed:
    """Return a person's approval of `asked`; page: the origin that asked for it.  desk: whether theirs showed it."""
    bare = replace(approval(asked, person, NOW), endorsements=())
    shown = (endorse(bare.kind, bare.raw, desk_seed(person)),) if desk else ()
    made = Passkey(person, client={"origin": page}).endorse(bare.digest)
    return replace(bare, endorsements=(made, *shown))


async def told_with(node: Node, spend: Spend, *approvals: Signed) -> str:
    """Return what `node` says to a release that names these approvals."""
    index = spend.release(*approvals, approvals=tuple(said.digest for said in approvals))
    return await told(node, spend, index, approvals=approvals)


async def test_bybit_screen_shows_a_routine_transfer_and_the_bytes_are_another_then_nobody_signs(
    tmp_path: Path,
) -> None:
    """2025: the page of the wallet's vendor was changed; three people signed what it showed, and the bytes differed.

    Stopped by judge steps 2 and 4: outputs are the payments that the initiator signed, and the RELEASE names this PSBT.
    """
    world, node = World(GENESIS), node_of(GENESIS, tmp_path)
    shown = world.spend(world.withdrawal(*LARGE)).approved_by("bob", "carol")
    outputs = list(parse(shown.psbt).transaction.outputs)
    outputs[0] = replace(outputs[0], script=script(THIEF))
    bytes_ = serialize(build(world.book, [world.coin()], outputs))

    assert await told(node, shown, psbt=bytes_) == "OUTPUT_NOT_ASKED"
    assert await told(node, shown) == "signed"


async def test_bybit_page_asks_passkeys_for_another_withdrawal_than_it_shows_then_nobody_signs(tmp_path: Path) -> None:
    """The same theft moved to the approvers: the page asks their passkeys for the thief's withdrawal.

    Stopped by protocol.md "Approval": another origin counts nothing; the right one without the desk's key is blind.
    """
    world, node = World(PASSKEYS), node_of(PASSKEYS, tmp_path)
    stolen = world.spend(world.withdrawal(*TO_THE_THIEF))
    elsewhere = [by_passkey(stolen.asked, person, "https://vendor.example") for person in ("bob", "carol")]
    blind = [by_passkey(stolen.asked, person, desk=False) for person in ("bob", "carol")]

    assert await told_with(node, stolen, *elsewhere) == "RELEASE_INADMISSIBLE"
    assert await told_with(node, stolen, *blind) == "APPROVALS_MISSING"
    honest = world.spend(world.withdrawal(*LARGE, withdrawal_id="w-2"), (world.coin(1),))
    assert await told_with(node, honest, *(by_passkey(honest.asked, p) for p in ("bob", "carol"))) == "signed"


async def test_wazirx_control_is_changed_under_a_benign_request_then_the_old_rules_judge(tmp_path: Path) -> None:
    """2024: one signed transfer handed the wallet to new logic, past the list of payees that its service kept.

    Stopped by protocol.md "Rules": the list stands in the signers' own rules; who may change them is for a quorum of
    the version in effect, and what loosens waits its delay.
    """
    genesis = genesis_of(PAY, TWO_EYES, LISTED)
    world, node = World(genesis), node_of(genesis, tmp_path)
    old = document_of(genesis)
    grown = after(old, lambda found: found["rules"].remove(LISTED))

    log_rules(world, signed_rules(grown, "erin"))
    stolen = world.spend(world.withdrawal(*TO_THE_THIEF)).approved_by("bob", "carol")
    assert await told(node, stolen) == "PAYEE_NOT_LISTED"
    by_their_own = after(
        old, lambda found: found["rules"].remove(LISTED), with_rule(rule("any", "allow", PAY["match"]))
    )
    log_rules(world, sign(Kind.RULES, by_their_own, LOG_SEED))
    log_rules(world, signed_rules(grown))  # even with every admin: it loosens, so it waits a day in everybody's sight
    again = world.spend(world.withdrawal(*TO_THE_THIEF, withdrawal_id="w-2"), (world.coin(1),)).approved_by(
        "bob", "carol"
    )
    assert await told(node, again) == "PAYEE_NOT_LISTED"


async def test_dmm_session_is_stolen_and_4502_btc_are_asked_for_then_nobody_signs(tmp_path: Path) -> None:
    """2024: with a stolen session of the vendor's employee a real request of 4,502.9 BTC was changed under way.

    Stopped by the initiator's own signature; and had his key been stolen too, by the amount that rules allow.
    """
    world, node = World(GENESIS), node_of(GENESIS, tmp_path)
    rich = world.coin(2, DMM_SATS + 100_000)
    asked = world.withdrawal((THIEF, DMM_SATS), withdrawal_id="w-dmm")
    minted = sign(Kind.WITHDRAWAL, asked.to_json(), LOG_SEED)
    spend = world.spend(asked, (rich,)).approved_by("bob", "carol")
    index = spend.release(minted)
    changed = replace(minted, endorsements=signed_by_initiator(world.withdrawal(*LARGE)).endorsements)

    assert await told(node, spend, index, withdrawal=minted) == "RELEASE_INADMISSIBLE"
    assert await told(node, spend, index, withdrawal=changed) == "RELEASE_INADMISSIBLE"
    anew = World(GENESIS)
    again = anew.spend(asked, (rich,)).approved_by("bob", "carol")
    assert (
        await told(node_of(GENESIS, _made(tmp_path / "anew")), again, again.release(changed)) == "RELEASE_INADMISSIBLE"
    )

    robbed, other = World(GENESIS), node_of(GENESIS, _made(tmp_path / "robbed"))
    stolen_key = robbed.spend(asked, (rich,)).approved_by("bob", "carol")
    assert await told(other, stolen_key) == "NO_RULE_ALLOWS"


async def test_radiant_people_are_told_that_it_failed_and_sign_again_then_it_is_paid_once(tmp_path: Path) -> None:
    """2024: "transaction failed, resubmit" was routine, so each new try harvested one more signature for another thing.

    Stopped by judge step 7: one id stands for one digest for ever, a second payment names the first or is refused, and
    two transactions of one withdrawal share a coin.
    """
    world, node = World(GENESIS), node_of(GENESIS, tmp_path)
    first = world.spend(world.withdrawal())
    assert await told(node, first) == "signed"

    resubmitted = world.spend(first.asked, (world.coin(1),), change_index=1)
    assert await told(node, resubmitted) == "SECOND_PAYMENT"
    changed = world.spend(world.withdrawal((THIEF, 50_000)), (world.coin(3),))
    assert await told(node, changed) == "WITHDRAWAL_ID_REUSED"

    other = World(GENESIS)
    paid = other.spend(other.withdrawal())
    paid.release()
    renamed = other.spend(other.withdrawal(withdrawal_id="w-1-retry"), (other.coin(1),))
    third = node_of(GENESIS, _made(tmp_path / "renamed"))
    assert await told(third, renamed) == "ALREADY_PAID"
    named = Relation(RelationKind.ADDITIONAL, tuple(sorted((paid.asked.digest, renamed.asked.digest))))
    knowing = other.withdrawal(withdrawal_id="w-2", relation=named)
    assert await told(third, other.spend(knowing, (other.coin(2),))) == "signed"


async def test_ronin_grant_that_was_never_revoked_has_ended_by_itself(tmp_path: Path) -> None:
    """2022: a helper's right to sign was given in November, not needed from December, used by thieves in March.

    Stopped by `valid_until` on every principal, which signers judge; and lint names one organisation that alone
    reaches m.
    """
    found = document()
    for user in found["principals"]["users"]:
        if user["name"] in ("alice", "carol"):
            user["valid_until"] = NOW - 1
    genesis = genesis_of(PAY, TWO_EYES, principals=found["principals"])
    world, node = World(genesis), node_of(genesis, tmp_path)

    assert await told(node, world.spend(world.withdrawal())) == "RELEASE_INADMISSIBLE"
    by_bob = replace(world.withdrawal(*LARGE, withdrawal_id="w-2"), initiator="bob")
    approved = world.spend(by_bob, (world.coin(1),)).approved_by("carol", "dave")
    assert await told(node, approved) == "RELEASE_INADMISSIBLE"
    five = tuple(KeyPlace(f"n{at}", "sky" if at < 3 else f"org-{at}", f"host-{at}") for at in range(5))
    assert "ORG_ALONE" in {finding.code for finding in lint(genesis.policy, (WalletKeys("bridge", 3, five),), NOW)}


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory

"""What a compromised signer, a cosigner without a judge and lying witnesses gain: what SECURITY.md says, and no more.

The coordinator with all its keys is hostile throughout. Wallets of 2-of-3, 2-of-4 and 3-of-5; W = 4 witnesses with
w = 3, of which f = 1 may lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from custody.bundle import Bundle
from custody.errors import Refused
from custody.follow import start
from custody.genesis import Genesis
from custody.held import Held
from custody.psbt import parse, serialize
from custody.signatures import InputSignature, accept, sighashes
from custody.transaction import TxOut
from custody.updater import build
from custody.wallet import Network
from signer_node.backends.signing import sign_and_drop
from signer_node.judge import Moment, Pinned, judge
from tests.fakes.cleared import ClearedInputs
from tests.fakes.rules import PAY, document, key_of, rule, script
from tests.integration.harness import genesis_of
from tests.watchers import WatchedWorld, freeze_by
from tests.world import EXCHANGE, Spend, World, bitcoin_seed

STRANGER = script(66)
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")
SIZES = ((2, 3), (2, 4), (3, 5))
IDS = [f"{m}-of-{n}" for m, n in SIZES]
TWO_EYES = rule("two-eyes", "require", {}, {"approvals": {"group": "ops", "threshold": 2}})
WITNESSES = ("w1", "w2", "w3", "w4")


def wallet_of(threshold: int, keys: int, *rules: dict[str, object]) -> Genesis:
    """Return a genesis of an m-of-n wallet whose nodes are all online, with four witnesses of which one may lie."""
    witnesses = [{"name": name, "key": key_of(name).hex()} for name in WITNESSES]
    roots = {**document()["roots"], "witnesses": witnesses, "w": 3, "f": 1}
    return genesis_of(PAY, *rules, nodes=NAMES[:keys], threshold=threshold, roots=roots)


def log_vouched_by(genesis: Genesis, *names: str) -> WatchedWorld:
    """Return an empty log that these witnesses cosign, whatever is in it."""
    return WatchedWorld(genesis, liars=names)


def signed_by(names: Sequence[str], spend: Spend) -> list[InputSignature]:
    """Return the signatures of whoever holds the seeds of `names` and asks no judge."""
    psbt, facts, book = parse(spend.psbt), spend.facts(), spend.world.book
    paths = tuple((fact.branch, fact.index) for fact in facts.inputs)
    made: list[InputSignature] = []
    for name in names:
        pubkeys = tuple(book.script(*path).pubkeys[NAMES.index(name)] for path in paths)
        cleared = ClearedInputs(sighashes(psbt, facts, book), paths, pubkeys)
        made += sign_and_drop(lambda name=name: bitcoin_seed(name), Network.REGTEST, cleared)  # type: ignore[misc]
    return made


def missing(spend: Spend, made: Sequence[InputSignature]) -> int:
    """Return how many signers a transaction still lacks."""
    world = spend.world
    signed = accept(parse(spend.psbt), spend.facts(), world.book, made).signed
    return max(0, world.wallet.threshold - len(signed))


def said(world: World, bundle: Bundle, node: str, *held: Held) -> str:
    """Return what the judge of an honest node says that followed nothing before. held: what it got beside the log."""
    me, moment, told = Pinned(world.genesis, node), Moment(world.now, 0), replace(bundle, node=node)
    outcome = judge(told, me, start(world.genesis), moment, (), world.book, held).outcome
    return outcome.code if isinstance(outcome, Refused) else type(outcome).__name__


def theft(world: World) -> Spend:
    """Return what nobody asked for: the payment of an honest withdrawal goes to a stranger."""
    honest = world.spend(world.withdrawal())
    payment, change = parse(honest.psbt).transaction.outputs
    outputs = [TxOut(payment.amount, STRANGER), change]
    return replace(honest, psbt=serialize(build(world.book, [world.coin()], outputs, [(1, 0)])))


def thefts(world: World) -> list[Bundle]:
    """Return a theft as it is carried: behind a RELEASE of what was asked for, and behind one of its own."""
    lie = theft(world)
    true = world.spend(lie.asked).release()
    payment, _ = parse(lie.psbt).transaction.outputs
    false = lie.release(payments=(payment,))
    return [lie.bundle(true), lie.bundle(false)]


@pytest.mark.parametrize(("m", "n"), SIZES, ids=IDS)
def test_compromised_signers_one_fewer_than_m_gain_signatures_that_lack_one(m: int, n: int) -> None:
    """Every honest node refuses, so that a theft stays one signature short; with one key more it is whole."""
    world = log_vouched_by(wallet_of(m, n), "w1", "w2", "w3")
    stolen, honest = NAMES[: m - 1], NAMES[m - 1 : n]

    codes = {said(world, bundle, node) for bundle in thefts(world) for node in honest}

    assert codes == {"OUTPUT_NOT_ASKED", "RELEASE_INADMISSIBLE"}
    assert missing(theft(world), signed_by(stolen, theft(world))) == 1
    assert missing(theft(world), signed_by(NAMES[:m], theft(world))) == 0


@pytest.mark.parametrize(("m", "n"), SIZES, ids=IDS)
def test_compromised_signer_lends_its_signature_and_no_judge_takes_it_for_permission(m: int, n: int) -> None:
    """A valid signature that lies in the bundle moves no honest node: what was not approved stays so."""
    world = log_vouched_by(wallet_of(m, n, TWO_EYES), "w1", "w2", "w3")
    spend = world.spend(world.withdrawal()).approved_by("bob")
    index = spend.release()
    lent = tuple(signed_by(NAMES[: m - 1], spend))

    codes = {said(world, spend.bundle(index, signatures=lent), node) for node in NAMES[m - 1 : n]}

    assert codes == {"APPROVALS_MISSING"}


@pytest.mark.parametrize(("m", "n"), SIZES, ids=IDS)
def test_cosigner_without_a_judge_counts_as_a_compromised_one(m: int, n: int) -> None:
    """Hardware signs what it is shown: beside it, m - 1 compromised signers are enough, and m - 2 are not."""
    hardware, world = NAMES[n - 1], log_vouched_by(wallet_of(m, n), "w1", "w2", "w3")
    lie = theft(world)

    assert missing(lie, signed_by((*NAMES[: m - 2], hardware), lie)) == 1
    assert missing(lie, signed_by((*NAMES[: m - 1], hardware), lie)) == 0


@pytest.mark.parametrize(("m", "n"), SIZES, ids=IDS)
def test_compromised_signer_that_signs_twice_finds_no_second_honest_one(m: int, n: int) -> None:
    """It forgets what it signed; every honest node counts the first release and refuses a second from other coins."""
    world = log_vouched_by(wallet_of(m, n), "w1", "w2", "w3")
    asked = world.withdrawal()
    world.spend(asked).release()
    again = world.spend(asked, (world.coin(1),), change_index=1)
    index = again.release()

    assert {said(world, again.bundle(index), node) for node in NAMES[1:n]} == {"SECOND_PAYMENT"}
    assert missing(again, signed_by(NAMES[: m - 1], again)) == 1


def split(genesis: Genesis, liars: int) -> tuple[set[str], set[str]]:
    """Show one withdrawal in two histories, each vouched for by its half of the honest and by the liars.

    Returns:
        What the honest signers say to a payment from one coin in the first, and from another coin in the second.
    """
    honest = WITNESSES[liars:]
    half = (len(honest) + 1) // 2
    answers: list[set[str]] = []
    for number, group in enumerate((honest[:half], honest[half:])):
        world = log_vouched_by(genesis, *WITNESSES[:liars], *group)
        spend = world.spend(world.withdrawal(), (world.coin(number),))
        bundle = spend.bundle()
        answers.append({said(world, bundle, node) for node in ("beta", "gamma")})
    return answers[0], answers[1]


def test_lying_witnesses_no_more_than_f_split_nothing() -> None:
    """One of four lies: only one of two histories finds three that vouch, so there is one payment."""
    assert split(wallet_of(2, 3), liars=1) == ({"Cleared"}, {"CHECKPOINT_UNDERSIGNED"})


def test_lying_witnesses_one_more_than_f_have_one_withdrawal_paid_twice() -> None:
    """Two of four lie: each honest signer clears the history that it is shown, and a compromised one signs both."""
    genesis = wallet_of(2, 3)

    assert split(genesis, liars=2) == ({"Cleared"}, {"Cleared"})
    for number in (0, 1):  # alpha is compromised and signs with whoever was shown this history
        world = log_vouched_by(genesis, *WITNESSES)
        spend = world.spend(world.withdrawal(), (world.coin(number),))
        assert missing(spend, signed_by(("alpha", "beta" if number == 0 else "gamma"), spend)) == 0


@pytest.mark.parametrize("liars", [1, 2, 4])
def test_lying_witnesses_however_many_move_nothing_that_was_not_allowed(liars: int) -> None:
    """They date and divide what people signed; they sign nothing in anybody's name."""
    genesis = wallet_of(2, 3, TWO_EYES)
    world = log_vouched_by(genesis, *WITNESSES[: max(liars, 3)])
    short = world.spend(world.withdrawal((EXCHANGE, 70_000), withdrawal_id="w-2")).approved_by("bob")

    assert {said(world, bundle, "beta") for bundle in thefts(world)} == {"OUTPUT_NOT_ASKED", "RELEASE_INADMISSIBLE"}
    assert said(world, short.bundle(), "beta") == "APPROVALS_MISSING"


@pytest.mark.parametrize(
    ("liars", "expected"), [(1, "CHECKPOINT_UNDERSIGNED"), (2, "CHECKPOINT_UNDERSIGNED"), (3, "Cleared")]
)
def test_freeze_posted_to_every_witness_is_hidden_by_w_liars_and_by_no_fewer(liars: int, expected: str) -> None:
    """The honest ones hold it and turn away; what is left must be a quorum of liars."""
    world = log_vouched_by(wallet_of(2, 3), *WITNESSES[:liars])

    assert said(world, world.spend(world.withdrawal()).bundle(), "beta") == expected


def test_freeze_posted_to_the_fewest_with_a_liar_among_them_is_seen_by_whoever_dials_the_other() -> None:
    """W - w + 1 receipts, one of a liar: the log can omit it, and a node that dials the honest holder still stops."""
    world = log_vouched_by(wallet_of(2, 3), "w1", "w3", "w4")  # w1 lies; w2 holds the freeze; w3 and w4 never got it
    bundle = world.spend(world.withdrawal()).bundle()
    from_w2 = Held(freeze_by("dave", world.genesis, world.now), world.now)

    assert said(world, bundle, "beta") == "Cleared"
    assert said(world, bundle, "beta", from_w2) == "FROZEN"


def test_two_histories_need_no_compromised_signer_where_two_quorums_are_disjoint() -> None:
    """2-of-4: with more than f liars one pair pays in one history and the other pair in the other."""
    genesis = wallet_of(2, 4)
    for number, pair in enumerate((("alpha", "beta"), ("gamma", "delta"))):
        world = log_vouched_by(genesis, *WITNESSES[:2], WITNESSES[2 + number])
        bundle = world.spend(world.withdrawal(), (world.coin(number),)).bundle()
        assert {said(world, bundle, node) for node in pair} == {"Cleared"}

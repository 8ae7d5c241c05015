"""A later wallet: protocol.md "Genesis", a RULE entry of kind wallet in the same form, pinned on each of its nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from custody.canonical import decode, encode
from custody.errors import Refused
from custody.follow import State, start
from custody.genesis import Genesis, Slot
from custody.governing import successor_of
from custody.held import check_posted, is_moot
from custody.later_wallet import signers_of, wallet_fits, wallet_stands
from custody.rule_entry import rule_fits, standing_of
from custody.statements import Kind, Signed, sign
from custody.wallet import Network, ScriptBook, Wallet
from signer_node.judge import Cleared, Moment, Pinned, judge
from signer_node.seed import key_material
from tests.fakes.rules import DAY, NOW, PAY, key_of, rule, seed_of
from tests.governing import after, document_of, log_rules, signed_rules
from tests.later import later_wallet, log_document, naming, slot_of, wallet_in
from tests.world import NODES, World, bitcoin_seed, book_of, make_genesis

PAY_VAULT = rule("pay-vault", "allow", {"wallet": {"names": ["vault"]}, "amount": {"max_sats": 500_000_000}})
GENESIS = make_genesis(PAY)
FIRST = document_of(GENESIS)
VAULT = later_wallet(GENESIS)


@dataclass
class VaultWorld(World):
    """The same organisation, seen from its later wallet."""

    @property
    def wallet(self) -> Wallet:
        """The vault."""
        return wallet_in(VAULT, GENESIS).wallet


def names(state: State) -> list[str]:
    """Return the names of the wallets that a follower knows."""
    return [wallet.name for wallet in state.genesis.wallets]


def test_later_wallet_given_nodes_and_admins_is_followed_from_its_t() -> None:
    """Signed by each of its nodes and by the quorum in force, it stands beside the genesis's own."""
    world = World(GENESIS)
    assert names(world.state()) == ["treasury"]

    log_document(world, VAULT)

    assert names(world.state()) == ["treasury", "vault"]
    assert world.state().genesis.hash == GENESIS.hash
    assert world.state().genesis.wallets[1].document == VAULT.digest
    assert names(start(GENESIS)) == ["treasury"]


def test_later_wallet_given_more_entries_stays_known() -> None:
    """It is kept through further versions of the rules, and logged twice it is one."""
    world = World(GENESIS)
    log_document(world, VAULT)
    log_document(world, VAULT)
    log_rules(world, signed_rules(after(FIRST, wallets=naming(VAULT, GENESIS))))
    world.now += DAY
    world.notice(world.withdrawal())

    assert names(world.state()) == ["treasury", "vault"]
    assert world.state().policy.version == 2


def _changed(signed: Signed, **changes: object) -> Signed:
    value = decode(signed.raw)
    assert isinstance(value, dict)
    return Signed(Kind.WALLET, encode({**value, **changes}), ())  # type: ignore[dict-item]  # wrong on purpose


def _declared(count: int) -> tuple[Slot, ...]:
    keys = [key_material(bitcoin_seed(f"third {n}"), Network.REGTEST).key for n in range(count)]
    return (*(slot_of(node) for node in NODES), *(Slot(key, None, admin="erin") for key in keys))


OTHER = make_genesis(PAY, rule("x", "deny", {"amount": {"min_sats": 9}}))
REFUSED: dict[str, tuple[Callable[[], Signed], str]] = {
    "without a node": (lambda: later_wallet(GENESIS, unsigned=["cold"]), "WALLET_UNSIGNED"),
    "by too few admins": (lambda: later_wallet(GENESIS, "erin", "frank"), "RULES_QUORUM"),
    "by people who are no admins": (lambda: later_wallet(GENESIS, "alice", "bob", "carol"), "RULES_QUORUM"),
    "of another genesis": (lambda: later_wallet(OTHER), "GENESIS_OTHER"),
    "of another schema": (lambda: _changed(VAULT, schema="keyturn-wallet/2"), "WALLET_SCHEMA"),
    "with a word it does not know": (lambda: _changed(VAULT, bypass=True), "FIELD_UNKNOWN"),
    "under a known name": (lambda: later_wallet(GENESIS, name="treasury"), "WALLET_KNOWN"),
    "with known scripts": (lambda: later_wallet(GENESIS, threshold=2), "WALLET_KNOWN"),
    "with m keys without a judge": (
        lambda: later_wallet(GENESIS, slots=_declared(3)),
        "GENESIS_TOO_MANY_DECLARED",
    ),
    "of another kind": (lambda: sign(Kind.MESSAGE, {"a": 1}, seed_of("erin")), "STATEMENT_KIND"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_later_wallet_that_does_not_stand_adds_nothing(name: str) -> None:
    """It stays in the log, by code, and no follower knows the wallet."""
    make, code = REFUSED[name]
    signed, world = make(), World(GENESIS)

    found = wallet_stands(GENESIS, GENESIS.policy, signed, NOW)
    if signed.kind is Kind.WALLET:
        log_document(world, signed)

    assert isinstance(found, Refused)
    assert found.code == code
    assert names(world.state()) == ["treasury"]


def test_later_wallet_given_a_node_with_another_identity_refuses() -> None:
    """Its nodes are nodes of the rules in force, by the identity of their records."""
    nodes = [{**node, "identity": key_of(f"new {node['name']}").hex()} for node in FIRST["roots"]["nodes"]]
    world = World(GENESIS)
    log_rules(world, signed_rules(after(FIRST, roots={**FIRST["roots"], "nodes": nodes})))
    world.now += DAY
    log_document(world, VAULT)

    found = wallet_fits(GENESIS, world.state().policy, VAULT)

    assert isinstance(found, Refused)
    assert found.code == "WALLET_NODE"
    assert names(world.state()) == ["treasury"]


def test_later_wallet_is_judged_by_the_admins_of_its_t() -> None:
    """An admin who left office before the entry was seen does not count."""
    ending = after(
        FIRST, lambda f: next(u for u in f["principals"]["users"] if u["name"] == "grace").update(valid_until=NOW)
    )
    world = World(GENESIS)
    log_rules(world, signed_rules(ending))
    world.now += DAY
    world.notice(world.withdrawal())
    log_document(world, VAULT)

    assert world.state().policy.version == 2
    assert names(world.state()) == ["treasury"]


def test_signers_of_given_some_names_nodes_and_people() -> None:
    """Who must still sign is shown to people before they do."""
    signed = later_wallet(GENESIS, "erin", unsigned=["cold", "alpha"])
    lack = signers_of(GENESIS.policy, wallet_in(signed, GENESIS), signed, NOW)

    assert (lack.nodes, lack.share.missing, lack.missing) == (("alpha", "cold"), 2, 4)
    standing = standing_of(start(GENESIS), signed, NOW)
    assert standing.missing == ("node alpha", "node cold", "frank", "grace")
    assert standing.have == ("erin",)
    assert not standing.is_complete
    assert standing_of(start(GENESIS), VAULT, NOW).is_complete


def test_rules_that_name_a_wallet_nobody_added_are_refused() -> None:
    """Rules speak of wallets of the genesis and of the log, and of no other."""
    signed = signed_rules(after(FIRST, wallets=naming(VAULT, GENESIS)))
    world = World(GENESIS)

    early = successor_of(world.state().rules, world.state().genesis, signed, NOW)
    log_document(world, VAULT)
    late = successor_of(world.state().rules, world.state().genesis, signed, NOW)

    assert isinstance(early, Refused)
    assert early.code == "RULES_WALLET"
    assert not isinstance(late, Refused)
    assert late.due == NOW + DAY  # one more wallet loosens


def test_later_wallet_posted_is_held_until_the_log_has_it() -> None:
    """A witness holds it like a rule document."""
    world = World(GENESIS)
    assert check_posted(world.state(), VAULT, NOW) is None
    refused = check_posted(world.state(), later_wallet(GENESIS, "erin"), NOW)
    assert refused is not None
    assert refused.code == "RULES_QUORUM"
    assert not is_moot(world.state(), VAULT, NOW)
    log_document(world, VAULT)
    assert is_moot(world.state(), VAULT, NOW)
    known = rule_fits(world.state(), VAULT)
    assert known is not None
    assert known.code == "WALLET_KNOWN"


def vault_in_force() -> VaultWorld:
    """Return a log with the vault, and rules that let it pay, in force."""
    world = VaultWorld(GENESIS)
    log_document(world, VAULT)
    second = after(FIRST, wallets=naming(VAULT, GENESIS), rules=[PAY, PAY_VAULT])
    log_rules(world, signed_rules(second))
    world.now += DAY
    return world


def judged(world: World, pinned: frozenset[bytes], book: ScriptBook | None = None) -> str:
    """Return what node alpha says of a withdrawal from the vault: a code, or "" where it signs."""
    spend = world.spend(world.withdrawal())
    me = Pinned(GENESIS, "alpha", pinned)
    found = judge(spend.bundle(), me, start(GENESIS), Moment(world.now, world.now), (), book or world.book)
    return (
        found.outcome.code if isinstance(found.outcome, Refused) else "" if isinstance(found.outcome, Cleared) else "?"
    )


def test_judge_given_a_wallet_that_is_pinned_here_signs_for_it() -> None:
    """Log, rules and this machine's own pin: all three."""
    assert judged(vault_in_force(), frozenset({VAULT.digest})) == ""


def test_judge_given_a_wallet_that_is_not_pinned_here_refuses() -> None:
    """Whatever the log, the admins and all other nodes say, this node waits for its own operator."""
    assert judged(vault_in_force(), frozenset()) == "WALLET_UNPINNED"
    assert judged(vault_in_force(), frozenset({bytes(32)})) == "WALLET_UNPINNED"


def test_judge_given_a_pinned_wallet_that_the_log_does_not_have_refuses() -> None:
    """A pin alone is no admin's signature."""
    assert judged(VaultWorld(GENESIS), frozenset({VAULT.digest})) == "WALLET_OTHER"


def test_judge_given_a_wallet_before_rules_name_it_refuses() -> None:
    """Added, and pinned, and still nothing is paid: the rules wait out their delay."""
    world = VaultWorld(GENESIS)
    log_document(world, VAULT)

    assert judged(world, frozenset({VAULT.digest})) == "WALLET_UNKNOWN"


def test_judge_given_a_retired_wallet_refuses() -> None:
    """A rule document that leaves the wallet out tightens: at once nothing is paid from it any more."""
    world = vault_in_force()
    second = after(FIRST, wallets=naming(VAULT, GENESIS), rules=[PAY, PAY_VAULT])
    assert judged(world, frozenset({VAULT.digest})) == ""

    log_rules(world, signed_rules(after(second, wallets=FIRST["wallets"], rules=[PAY])))

    world.now += 1
    asked = world.withdrawal((11, 60_000), withdrawal_id="w-2")
    found = judge(
        world.spend(asked, [world.coin(4)]).bundle(),
        Pinned(GENESIS, "alpha", frozenset({VAULT.digest})),
        start(GENESIS),
        Moment(world.now, world.now),
        (),
        world.book,
    )
    assert isinstance(found.outcome, Refused)
    assert found.outcome.code == "WALLET_UNKNOWN"
    assert world.state().policy.version == 3


def test_judge_given_a_cache_of_another_wallet_makes_its_own() -> None:
    """A node that learns of the wallet from this very bundle has no scripts of it yet."""
    treasury = book_of(GENESIS.wallets[0].wallet)

    assert judged(vault_in_force(), frozenset({VAULT.digest}), treasury) == ""


def test_judge_given_the_genesis_wallet_needs_no_pin_of_its_own() -> None:
    """The wallets of the genesis are pinned with it."""
    world = World(GENESIS)
    log_document(world, VAULT)
    found = judge(
        world.spend(world.withdrawal()).bundle(),
        Pinned(GENESIS, "alpha"),
        start(GENESIS),
        Moment(NOW, NOW),
        (),
        world.book,
    )

    assert isinstance(found.outcome, Cleared)


def production(genesis: Genesis) -> Genesis:
    """Return it as if it were no demo."""
    from custody.genesis import Purpose

    return replace(genesis, purpose=Purpose.PRODUCTION)


def test_later_wallet_given_a_production_genesis_keeps_its_numbers() -> None:
    """M keys on one host are refused for a later wallet as for the first."""
    hosts = [{**node, "host": "one-box"} for node in FIRST["roots"]["nodes"]]
    crowded = production(make_genesis(PAY, roots={**FIRST["roots"], "nodes": hosts}))

    found = wallet_fits(crowded, crowded.policy, later_wallet(crowded))

    assert isinstance(found, Refused)
    assert found.code in {"GENESIS_HOST", "BACKUPS_ONE_HOLDER"}

"""`keyturn` against a real coordinator with real nodes, over real mTLS: each command done, and each refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from console.config import load_config
from console.memory import load_memory, save_memory
from custody.bundle import Answer, Behind
from custody.canonical import encode
from custody.facts import ShapeLimits, read_facts
from custody.psbt import from_base64, parse, serialize
from custody.signatures import with_signatures
from custody.transaction import TxOut, parse_transaction
from custody.units import Sats
from custody.updater import SpendableCoin, build
from custody.wallet import ScriptBook
from tests.desk import COINS, Desk, desk, keyturn
from tests.fakes.rules import EXCHANGE, STRANGER, SUPPLIER, address, script, seed_of
from tests.world import Spend, World

pytestmark = pytest.mark.slow
SMALL, TWO_PEOPLE, COLD = 25_000, 20_000_000, 120_000_000


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for the module; each test uses withdrawals of its own."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


def propose(office: Desk, name: str, amount: int, payee: int = EXCHANGE, *more: str) -> str:
    """Hand in a withdrawal by alice; return its digest."""
    # Each test pays another amount: the same payee and amount twice would be refused as already paid.
    ran = office.keyturn(
        "alice", "propose", "--to", f"{address(payee)}={amount}", "--id", name, "--yes", "-o", "json", *more
    )
    assert ran.code == 0, ran.out
    digest: str = ran.json["digest"]
    return digest


def stage(office: Desk, name: str) -> str:
    """Return the stage of a withdrawal."""
    found: str = office.keyturn("alice", "show", name, "-o", "json").json["stage"]
    return found


def test_small_withdrawal_from_propose_to_confirmed(office: Desk) -> None:
    """Asked with a yes, signed by policy alone, watched to its confirmation."""
    ran = office.keyturn(
        "alice", "propose", "--to", f"{address(EXCHANGE)}={SMALL}:invoice 7", "--id", "small", typed="yes\n"
    )
    assert ran.code == 0, ran.err
    assert 'requester says: "invoice 7"' in ran.out
    assert "on pinned list exchanges: payee 11" in ran.out
    office.settle()
    office.mine()
    watched = office.keyturn("alice", "watch", "small", "--until", "confirmed", "--timeout", "20")
    assert (watched.code, "confirmed" in watched.out) == (0, True)
    shown = office.keyturn("alice", "show", "small", "-o", "json").json
    assert (shown["stage"], shown["signed"], shown["initiator_verified"]) == ("confirmed", 2, True)
    assert len(shown["words"].split()) == 12


def test_status_when_all_was_released_then_exits_0(office: Desk) -> None:
    """The log is fresh, nothing is frozen, and the coordinator's watch saw no spend without a RELEASE."""
    ran = office.keyturn("alice", "status", "-o", "json")
    assert ran.code == 0, ran.err + ran.out
    assert (ran.code, ran.json["fresh"], ran.json["frozen"], ran.json["alarms"]) == (0, True, False, [])


def test_propose_without_a_yes_sends_nothing(office: Desk) -> None:
    """An end of input is no."""
    ran = office.keyturn("alice", "propose", "--to", f"{address(EXCHANGE)}=31000", "--id", "unsaid")
    assert (ran.code, "NOT_CONFIRMED" in ran.err) == (3, True)
    assert office.keyturn("alice", "show", "alice/unsaid").code == 4


def test_propose_twice_under_one_id_is_one_withdrawal(office: Desk) -> None:
    """The same again is the same; other content under the id is refused."""
    digest = propose(office, "twice", 32_000)
    assert propose(office, "twice", 32_000) == digest
    other = office.keyturn("alice", "propose", "--to", f"{address(EXCHANGE)}=32001", "--id", "twice", "--yes")
    assert (other.code, "WITHDRAWAL_ID_TAKEN" in other.err) == (3, True)


def test_propose_what_was_paid_needs_a_relation(office: Desk) -> None:
    """`new` is refused here, from the log; `additional` lists what was paid."""
    propose(office, "paid-1", 33_000)
    office.settle()
    again = office.keyturn("alice", "propose", "--to", f"{address(EXCHANGE)}=33000", "--yes")
    assert (again.code, "ALREADY_PAID" in again.err) == (3, True)
    ran = office.keyturn("alice", "propose", "--to", f"{address(EXCHANGE)}=33000", "--relation", "additional", "--yes")
    assert ran.code == 0, ran.err
    assert "ALREADY PAID on" in ran.out


def test_propose_by_who_is_not_in_the_rules_is_refused(office: Desk) -> None:
    """A stranger's key signs nothing."""
    ran = office.keyturn("eve", "propose", "--to", f"{address(EXCHANGE)}=34000", "--yes")
    assert (ran.code, "NOT_IN_RULES" in ran.err) == (3, True)


def test_large_withdrawal_with_two_people_and_a_carried_bundle(office: Desk, tmp_path: Path) -> None:
    """Two approvals, a bundle out by file, the node's answer in by file, the last signature by an online node."""
    digest = propose(office, "cold", COLD, SUPPLIER)
    missing = office.keyturn("alice", "show", "cold", "-o", "json").json["missing"]
    assert [(m["needed"], m["could"]) for m in missing] == [(2, ["bob", "carol"])]
    for person in ("bob", "carol"):
        ran = office.keyturn(person, "approve", "cold", typed="yes\n")
        assert ran.code == 0, ran.err
    office.settle()
    out, answer = tmp_path / "bundle.json", tmp_path / "answer.json"
    exported = office.keyturn("alice", "bundle", "export", digest[:12], "--node", "cold", "--out", str(out))
    assert exported.code == 0, exported.err
    answered = office.do(office.organisation.nodes["cold"].answer(out.read_bytes()))
    answer.write_bytes(answered.to_bytes())
    imported = office.keyturn("alice", "bundle", "import", str(answer), "-o", "json")
    assert (imported.code, imported.json["said"]) == (0, "cold signed 1 input(s)")
    office.settle()
    assert stage(office, "cold") == "broadcast"
    taken = office.keyturn("alice", "bundle", "export", digest, "--node", "cold", "--out", str(out))
    assert taken.code == 3


def test_bundle_import_of_something_else_is_usage(office: Desk, tmp_path: Path) -> None:
    """A file that is no answer is not sent."""
    (tmp_path / "x").write_bytes(encode({"format": "keyturn-answer"}))
    assert office.keyturn("alice", "bundle", "import", str(tmp_path / "x")).code == 2


def test_approve_own_withdrawal_is_refused(office: Desk) -> None:
    """The initiator never counts."""
    propose(office, "own", TWO_PEOPLE)
    ran = office.keyturn("alice", "approve", "own", "--yes")
    assert (ran.code, "APPROVAL_SELF" in ran.err) == (3, True)


def test_reject_ends_it_and_the_reason_stays_at_home(office: Desk) -> None:
    """The coordinator hears the reject, never the reason; an approval afterwards is refused."""
    propose(office, "rejected", TWO_PEOPLE + 1)
    ran = office.keyturn("bob", "reject", "rejected", "--reason", "not the account they named", "--yes")
    assert ran.code == 0, ran.err
    shown = office.keyturn("bob", "show", "rejected", "-o", "json").json
    assert (shown["stage"], shown["note"]) == ("rejected", "not the account they named")
    assert "note" not in office.keyturn("carol", "show", "rejected", "-o", "json").json
    late = office.keyturn("carol", "approve", "rejected", "--yes")
    assert (late.code, "STOPPED" in late.err) == (3, True)
    watched = office.keyturn("bob", "watch", "rejected", "--until", "confirmed", "--timeout", "20")
    assert (watched.code, "ENDED" in watched.err) == (3, True)


def test_veto_ends_it(office: Desk) -> None:
    """A veto is a stop of its own kind."""
    propose(office, "vetoed", TWO_PEOPLE + 2)
    assert office.keyturn("dave", "veto", "vetoed", "--yes").code == 0
    assert stage(office, "vetoed") == "rejected"


def test_cancel_before_the_release_and_not_after(office: Desk) -> None:
    """Before: taken back. After: NEEDS_SUPERSEDE. Another's: refused here."""
    propose(office, "cancelled", TWO_PEOPLE + 3)
    assert office.keyturn("bob", "cancel", "alice/cancelled", "--yes").code == 3
    assert office.keyturn("alice", "cancel", "cancelled", "--yes").code == 0
    assert stage(office, "cancelled") == "cancelled"
    propose(office, "released", 35_000)
    ran = office.keyturn("alice", "cancel", "released", "--yes")
    assert (ran.code, "NEEDS_SUPERSEDE" in ran.err) == (3, True)


def test_without_witnesses_only_stops_are_signed(office: Desk) -> None:
    """STALE: no approval and no withdrawal, but a reject goes out."""
    for name, amount in (("stale-1", TWO_PEOPLE + 4), ("stale-2", TWO_PEOPLE + 5)):
        propose(office, name, amount)
    office.organisation.witness.is_away = True
    try:
        assert office.keyturn("bob", "reject", "stale-1", "--yes").code == 0
        for arguments in (["approve", "stale-2"], ["propose", "--to", f"{address(EXCHANGE)}=36000"]):
            ran = office.keyturn("bob", *arguments, "--yes")
            assert (ran.code, "STALE" in ran.err) == (3, True)
    finally:
        office.organisation.witness.is_away = False


def test_log_that_is_not_what_was_seen_before_is_broken(office: Desk) -> None:
    """A shorter log is rolled back, another one forked: exit code 1, and nothing is signed."""
    propose(office, "seen", TWO_PEOPLE + 6)
    config = load_config(office.person("carol"))
    assert office.keyturn("carol", "doctor").code == 0
    memory = load_memory(config.memory, office.genesis.hash)
    for changed, code in ((10_000, "ROLLED_BACK"), (memory.size, "LOG_FORK")):
        save_memory(config.memory, replace(memory, size=changed, root=bytes(32)))
        ran = office.keyturn("carol", "approve", "seen", "--yes")
        assert (ran.code, code in ran.err) == (1, True)
    save_memory(config.memory, memory)


def test_list_narrows_by_stage(office: Desk) -> None:
    """Rows for people, objects for programs; an unknown stage is usage."""
    digest = propose(office, "listed", TWO_PEOPLE + 7)
    found = office.keyturn("alice", "list", "--stage", "approving", "-o", "json").json["withdrawals"]
    assert digest in [w["digest"] for w in found]
    assert {w["stage"] for w in found} == {"approving"}
    ran = office.keyturn("alice", "list", "--limit", "100")  # several of one second stand in any order
    assert digest[:16] in ran.out
    assert max(len(line) for line in ran.out.splitlines()) <= 100
    assert office.keyturn("alice", "list", "--stage", "somewhere").code == 2


def test_show_of_nobody_s_withdrawal_is_not_found(office: Desk) -> None:
    """By digest, by name and by beginning."""
    for name in ("00" * 32, "alice/none", "none", "deadbeef"):
        assert office.keyturn("alice", "show", name).code == 4


def test_watch_that_sees_no_end_times_out(office: Desk) -> None:
    """Exit code 5, with what was seen."""
    propose(office, "waiting", TWO_PEOPLE + 8)
    ran = office.keyturn("alice", "watch", "waiting", "--until", "signing", "--timeout", "1", "-o", "json")
    assert ran.code == 5
    first, last = ran.out.splitlines()
    assert '"stage": "approving"' in first
    assert "TIMEOUT" in last


def test_wallet_shows_balance_and_derives_addresses(office: Desk) -> None:
    """The address is the one that the descriptor gives; an index is never handed out twice."""
    assert office.keyturn("alice", "wallet", "list", "-o", "json").json["wallets"][0]["threshold"] == 2
    assert office.keyturn("alice", "wallet", "balance", "-o", "json").json["confirmed_sats"] > 0
    first, second = (office.keyturn("alice", "wallet", "address", "-o", "json").json for _ in range(2))
    assert second["index"] == first["index"] + 1
    again = office.keyturn("alice", "wallet", "address", "--index", str(first["index"]), "-o", "json").json
    assert again["address"] == first["address"]
    assert office.keyturn("alice", "wallet", "balance", "--wallet", "none").code == 4


def test_wallet_goes_out_as_a_file_and_comes_back_as_ours(office: Desk, tmp_path: Path) -> None:
    """Another program's file is told from a stranger's; the printed sheet is a PDF."""
    file = tmp_path / "treasury.txt"
    out = ("wallet", "export", "--format", "coldcard", "--out", str(file))
    assert office.keyturn("alice", *out).code == 0
    assert office.keyturn("alice", *out).code == 3  # never over another file
    read = office.keyturn("alice", "wallet", "import", str(file), "-o", "json").json
    assert (read["format"], read["is"], read["threshold"]) == ("coldcard", "treasury", 2)
    file.write_text(file.read_text().replace("2 of", "1 of"))
    assert office.keyturn("alice", "wallet", "import", str(file), "-o", "json").json["is"] == ""
    assert office.keyturn("alice", "wallet", "sheet", "--out", str(tmp_path / "t.pdf")).code == 0
    assert "bsms" in office.keyturn("alice", "wallet", "formats").out


def test_reader_may_look_and_not_ask(office: Desk) -> None:
    """The role in the certificate opens doors: a reader lists, and reserves no address."""
    assert office.keyturn("alice", "list", role="reader").code == 0
    ran = office.keyturn("alice", "wallet", "address", role="reader")
    assert (ran.code, "ROLE_DENIED" in ran.err) == (3, True)


def test_signer_list_shows_every_pinned_node(office: Desk) -> None:
    """Nodes come from the pinned rules; what is heard comes from the coordinator."""
    found = office.keyturn("alice", "signer", "list", "-o", "json").json["signers"]
    assert [(s["name"], s["location"]) for s in found] == [
        ("alpha", "online"),
        ("beta", "online"),
        ("cold", "offline"),
    ]


def test_delta_brings_a_node_up(office: Desk, tmp_path: Path) -> None:
    """The node follows what the file holds; a node that has everything gets none."""
    propose(office, "for-delta", 37_000)
    office.settle()
    node, out = office.organisation.nodes["cold"], tmp_path / "delta.json"
    size = node.state.size
    ran = office.keyturn(
        "alice", "delta", "export", "--node", "cold", "--from", str(size), "--out", str(out), "-o", "json"
    )
    assert ran.code == 0, ran.out
    assert office.do(node.take_delta(out.read_bytes())) == ran.json["to_size"]
    none = office.keyturn("alice", "delta", "export", "--node", "cold", "--from", "99999", "--out", str(tmp_path / "x"))
    assert none.code in (3, 4)
    assert not (tmp_path / "x").exists()


def test_psbt_goes_out_and_comes_back_signed(office: Desk, tmp_path: Path) -> None:
    """A third party signs our PSBT; only its signatures are taken; another transaction is refused."""
    digest = propose(office, "foreign", TWO_PEOPLE + 11, SUPPLIER)
    for person in ("bob", "carol"):
        assert office.keyturn(person, "approve", "foreign", "--yes").code == 0
    out, back = tmp_path / "out.psbt", tmp_path / "back.psbt"
    ran = office.keyturn("alice", "psbt", "export", "foreign", "--out", str(out), "--base64", "-o", "json")
    assert ran.code == 0, ran.out
    world = World(office.genesis)
    raw = from_base64(out.read_text())
    spend = Spend(world, world.withdrawal(), raw)
    back.write_bytes(serialize(with_signatures(parse(raw), spend.signatures("cold"))))
    imported = office.keyturn("alice", "psbt", "import", digest, str(back), "-o", "json")
    assert (imported.code, imported.json["said"]) == (0, "cold signed; not yet: alpha, beta")
    assert office.keyturn("alice", "psbt", "import", digest, str(out.with_name("none"))).code == 2
    text = out.with_name("electrum.psbt")
    ran = office.keyturn("alice", "psbt", "export", "foreign", "--device", "electrum", "--out", str(text))
    assert ran.code == 0, ran.err
    assert from_base64(text.read_text()) == raw
    again = office.keyturn("alice", "psbt", "import", digest, str(back), "-o", "json")
    assert (again.code, again.json["new"]) == (0, [])
    office.settle()
    assert stage(office, "foreign") == "broadcast"


def test_propose_own_psbt_pins_it(office: Desk, tmp_path: Path) -> None:
    """The payments are read from the PSBT, its txid is pinned, its fee is the most; other payments are refused."""
    held = office.do(office.organisation.chain.coins((office.book.script(0, COINS - 1).script,)))
    coin = held[0]
    spendable = SpendableCoin(coin.outpoint, parse_transaction(coin.previous_raw), 0, COINS - 1)
    change = office.book.script(1, 0).script
    outputs = [TxOut(Sats(40_000), script(STRANGER)), TxOut(Sats(coin.amount_sats - 40_000 - 1_000), change)]
    psbt = build(office.book, [spendable], outputs, [(1, 0)])
    path = tmp_path / "own.psbt"
    path.write_bytes(serialize(psbt))
    ran = office.keyturn("alice", "propose", "--psbt", str(path), "--id", "own-psbt", "--yes", "-o", "json")
    assert ran.code == 0, ran.out
    assert (ran.json["max_fee_sats"], ran.json["payments"][0]["amount_sats"]) == (1_000, 40_000)
    assert psbt.transaction.txid[::-1].hex() in ran.err
    facts = read_facts(psbt, ScriptBook(office.genesis.wallets[0].wallet), ShapeLimits())
    assert getattr(facts, "fee_sats", None) == 1_000
    other = office.keyturn(
        "alice", "propose", "--psbt", str(path), "--to", f"{address(EXCHANGE)}=40000", "--id", "own-2", "--yes"
    )
    assert (other.code, "OUTPUT_NOT_ASKED" in other.err) == (3, True)


def test_policy_shows_pinned_rules_and_explains(office: Desk) -> None:
    """The pinned document is what is served; an explanation names what is missing."""
    shown = office.keyturn("alice", "policy", "show", "-o", "json").json
    assert shown["policy_hash"] == office.genesis.policy.hash.hex()
    assert office.keyturn("alice", "policy", "show", "--document").json["rules"]["version"] == 1
    propose(office, "explained", TWO_PEOPLE + 9)
    ran = office.keyturn("alice", "policy", "explain", "explained")
    assert "NEED under rules version 1" in ran.out
    assert "2 more of group ops for rule two-eyes: bob, carol could" in ran.out
    assert office.keyturn("alice", "policy", "explain", "nothing").code == 4


def test_chain_mines_to_an_address(office: Desk) -> None:
    """On the embedded regtest; an address of another network is usage."""
    assert office.keyturn("alice", "chain", "mine", "1", "--to", address(EXCHANGE), "-o", "json").json["height"] > 100
    ran = office.keyturn("alice", "chain", "mine", "--to", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    assert (ran.code, "ADDRESS_NETWORK" in ran.err) == (2, True)


def test_doctor_names_what_is_wrong(office: Desk) -> None:
    """Exit code 0 where all is well, 1 with the reason where not."""
    fine = office.keyturn("alice", "doctor", "-o", "json")
    assert (fine.code, fine.json["ok"]) == (0, True)
    settings = office.person("alice")
    broken = settings.with_name("broken.toml")
    broken.write_text(settings.read_text().replace('"genesis.json"', '"none.json"'))
    ran = keyturn("--config", str(broken), "doctor")
    assert (ran.code, "NOT_PINNED" in ran.out) == (1, True)
    away = settings.with_name("away.toml")
    away.write_text(settings.read_text().replace(f":{office.server.port}", ":1"))
    assert keyturn("--config", str(away), "list").code == 5
    assert keyturn("--config", str(away), "doctor").code == 1


def test_behind_is_told_with_the_command_that_helps(office: Desk, tmp_path: Path) -> None:
    """A node that is behind is not refused: the operator is told what to carry."""
    digest = propose(office, "behind", 39_000)
    answer = Answer(office.genesis.hash, "cold", bytes.fromhex(digest), bytes(32), Behind(0))
    (tmp_path / "a").write_bytes(answer.to_bytes())
    ran = office.keyturn("alice", "bundle", "import", str(tmp_path / "a"))
    assert ran.code == 0, ran.err
    assert "keyturn delta export --node cold --from 0 --out FILE" in ran.out


def test_key_of_another_person_is_refused(office: Desk) -> None:
    """Bob's settings with alice's key."""
    config = load_config(office.person("bob", "client"))
    config.key.write_text(seed_of("alice").hex())
    ran = office.keyturn("bob", "approve", "own", "--yes", role="client")
    assert (ran.code, "KEY_NOT_IN_RULES" in ran.err) == (3, True)


def test_freeze_by_who_may_and_who_may_not(office: Desk) -> None:
    """From here on nothing is signed until admins lift it, which is the next test."""
    ran = office.keyturn("alice", "freeze", "--yes")
    assert (ran.code, "MAY_NOT_FREEZE" in ran.err) == (3, True)
    frozen = office.keyturn("dave", "freeze", "--yes", "-o", "json")
    assert (frozen.code, frozen.json["freezes"][0]["by"]) == (0, "dave")
    assert "FREEZES IN FORCE" in office.keyturn("alice", "policy", "show").out
    assert "ALARM: a freeze is in force" in office.keyturn("alice", "watch", "--timeout", "1").err
    propose(office, "frozen", TWO_PEOPLE + 10)
    assert "FREEZE" in office.keyturn("bob", "approve", "frozen", "--yes").err


def test_unfreeze_needs_the_quorum(office: Desk, tmp_path: Path) -> None:
    """One admin is too few, two lift what the log holds; without a freeze there is nothing to sign."""
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    alone = office.keyturn("erin", "unfreeze", "sign", "--out", str(one), "--yes", "-o", "json", role="admin")
    assert (alone.code, alone.json["signed_by"], alone.json["needed"]) == (0, ["erin"], 2)
    early = office.keyturn("erin", "unfreeze", "submit", str(one), role="admin")
    assert (early.code, "UNFREEZE_QUORUM" in early.err) == (3, True)
    ran = office.keyturn("frank", "unfreeze", "sign", str(one), "--out", str(two), typed="yes\n", role="admin")
    assert (ran.code, "by dave" in ran.out) == (0, True)
    lifted = office.keyturn("frank", "unfreeze", "submit", str(two), "-o", "json", role="admin")
    assert (lifted.code, lifted.json["freezes"]) == (0, [])
    again = office.keyturn("erin", "unfreeze", "sign", "--out", str(tmp_path / "x"), "--yes", role="admin")
    assert (again.code, "NOTHING_FROZEN" in again.err) == (3, True)


def test_show_says_who_could_give_what_is_missing(office: Desk) -> None:
    """Whose approvals are asked for, of whom, and by which rule; for programs too."""
    propose(office, "lacking", TWO_PEOPLE + 9)

    shown = office.keyturn("bob", "show", "lacking")

    assert "missing    2 more of group ops for rule two-eyes: bob, carol could" in shown.out
    (lack,) = office.keyturn("bob", "show", "lacking", "-o", "json").json["missing"]
    assert (lack["of"], lack["needed"], lack["stage"]) == ("group ops", 2, 0)
    assert {"bob", "carol"} <= set(lack["could"])


def test_show_given_stops_and_vetoes_tells_them_from_the_log(office: Desk) -> None:
    """What stands against it is read from the followed log, not from what the coordinator tells."""
    propose(office, "told", TWO_PEOPLE + 10)
    office.keyturn("dave", "veto", "told", "--yes")
    shown = office.keyturn("bob", "show", "told")

    assert "vetoed     by dave, in the log" in shown.out
    assert office.keyturn("bob", "show", "told", "-o", "json").json["vetoed"] == ["dave"]

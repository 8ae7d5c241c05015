"""`keyturn policy next|diff|propose|sign|pending` and `keyturn principal` against a real coordinator over real mTLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.canonical import encode
from custody.possession import Possession
from custody.statements import Kind, Signed, endorse, sign
from tests.desk import Desk, Ran, desk
from tests.fakes.rules import key_of, rule, seed_of
from tests.governing import user_of, without_rule
from tests.world import record_of

pytestmark = pytest.mark.slow
HUGE = rule("huge", "deny", {"amount": {"min_sats": 900_000_000}}, reason_code="TOO_HUGE")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for the module; the tests follow each other."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        yield found


def admin(office: Desk, name: str, *arguments: str, typed: str = "") -> Ran:
    """Run `keyturn` as an admin."""
    return office.keyturn(name, *arguments, typed=typed, role="admin")


def draft(office: Desk, path: Path) -> dict[str, Any]:
    """Return the next version, as the program writes it."""
    ran = admin(office, "erin", "policy", "next", str(path))
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_tightening_from_draft_to_effect(office: Desk, tmp_path: Path) -> None:
    """Drafted, compared, signed by three admins one after the other, in effect at once, shown to everybody."""
    path = tmp_path / "v2.json"
    document = draft(office, path)
    document["rules"].append(HUGE)
    path.write_text(json.dumps(document))
    compared = admin(office, "erin", "policy", "diff", str(path), "-o", "json")
    assert (compared.code, compared.json["verdict"]) == (0, "tightens")
    assert [change["path"] for change in compared.json["changes"]] == ["effective_from", "rules.huge"]

    unsaid = admin(office, "erin", "policy", "propose", str(path))
    assert (unsaid.code, "NOT_CONFIRMED" in unsaid.err) == (3, True)
    first = admin(office, "erin", "policy", "propose", str(path), "--yes", "-o", "json")
    assert first.code == 0, first.err
    name = first.json["rules"][:16]
    waiting = admin(office, "frank", "policy", "pending", "-o", "json").json
    assert [(found["verdict"], found["missing"]) for found in waiting["pending"]] == [("tightens", ["frank", "grace"])]
    second = admin(office, "frank", "policy", "sign", name, typed="yes\n")
    assert (second.code, "deny added" in second.out) == (0, True)
    assert "0 releases in 30 days, 0 would have been judged otherwise" in second.out
    assert "signed by the change_quorum: 2 more of admins" in second.out
    third = admin(office, "grace", "policy", "sign", name, "--yes", "-o", "json")
    assert (third.code, third.json["missing"], third.json["delivery"]["coordinator"]) == (0, [], "taken")

    shown = office.keyturn("alice", "policy", "show", "-o", "json").json
    assert (shown["version"], shown["policy_hash"], shown["pending"]) == (2, first.json["rules"], 0)
    assert office.keyturn("alice", "policy", "show", "--document").json["rules"]["version"] == 2


def test_loosening_is_told_and_waits(office: Desk, tmp_path: Path) -> None:
    """Exit code 3 for scripts; signed by all it waits for its time, in the log."""
    path = tmp_path / "v3.json"
    document = draft(office, path)
    without_rule("two-eyes")(document)
    path.write_text(json.dumps(document))
    compared = admin(office, "erin", "policy", "diff", str(path), "-o", "json")
    assert (compared.code, compared.json["verdict"]) == (3, "loosens")

    name = admin(office, "erin", "policy", "propose", str(path), "--yes", "-o", "json").json["rules"][:16]
    for person in ("frank", "grace"):
        ran = admin(office, person, "policy", "sign", name, "--yes")
        assert ran.code == 0, ran.err

    (waiting,) = admin(office, "erin", "policy", "pending", "-o", "json").json["pending"]
    assert waiting["effective_at"] > office.organisation.clock.now()
    assert office.keyturn("alice", "policy", "show", "-o", "json").json["version"] == 2


def test_void_of_what_waits_by_three_admins(office: Desk) -> None:
    """Shown whole, signed by one after the other, gone at once; once more there is nothing to take back."""
    (waiting,) = admin(office, "erin", "policy", "pending", "-o", "json").json["pending"]
    first = admin(office, "erin", "policy", "void", waiting["rules"][:16], "--yes", "-o", "json")
    assert first.code == 0, first.err
    shown = admin(office, "frank", "policy", "pending").out
    assert (f"takes back {waiting['rules'][:16]}" in shown, "a void" in shown) == (True, True)
    second = admin(office, "frank", "policy", "sign", first.json["rules"][:16], typed="yes\n")
    assert (second.code, "Takes back version 3" in second.out, "rules.two-eyes" in second.out) == (0, True, True)
    third = admin(office, "grace", "policy", "sign", first.json["rules"][:16], "--yes", "-o", "json")
    assert (third.code, third.json["missing"], third.json["what"]) == (0, [], "a void")

    assert admin(office, "erin", "policy", "pending", "-o", "json").json["pending"] == []
    again = admin(office, "erin", "policy", "void", waiting["rules"][:16], "--yes")
    assert (again.code, "RULES_UNKNOWN" in again.err) == (3, True)


def test_later_wallet_from_records_to_a_wallet_that_is_listed(office: Desk, tmp_path: Path) -> None:
    """Composed from key records, signed by its nodes, then by admins one after the other; then it can be named."""
    document = tmp_path / "vault.json"
    records = []
    for node in ("alpha", "beta"):
        (tmp_path / f"{node}.record").write_bytes(record_of(node).to_bytes())
        records += ["--slot", str(tmp_path / f"{node}.record")]
    named = ["--wallet", "vault", "--threshold", "2", *records, "--out", str(document), "-o", "json"]
    made = admin(office, "erin", "wallet", "compose", *named)
    assert made.code == 0, made.err
    signed = Signed.from_bytes(document.read_bytes())
    endorsements = []
    for node in ("alpha", "beta"):
        path = tmp_path / f"{node}.endorsement"
        path.write_bytes(encode(endorse(Kind.WALLET, signed.raw, seed_of(node)).to_json()))
        endorsements.append(str(path))
    forged = tmp_path / "forged.endorsement"
    forged.write_bytes(encode(endorse(Kind.GENESIS, signed.raw, seed_of("alpha")).to_json()))
    bad = admin(office, "erin", "wallet", "propose", str(document), str(forged), "--yes")
    assert (bad.code, "ENDORSEMENT_SIGNATURE" in bad.err) == (3, True)

    first = admin(office, "erin", "wallet", "propose", str(document), *endorsements, "--yes", "-o", "json")
    assert (first.code, first.json["missing"]) == (0, ["frank", "grace"]), first.err
    read = admin(office, "frank", "policy", "sign", first.json["rules"][:16], typed="yes\n")
    assert (read.code, "wallet vault: 2 of 2" in read.out) == (0, True)
    last = admin(office, "grace", "policy", "sign", first.json["rules"][:16], "--yes", "-o", "json")
    assert (last.code, last.json["what"]) == (0, "wallet vault"), last.err

    office.settle()
    held = office.keyturn("alice", "wallet", "balance", "--wallet", "vault", "-o", "json")
    assert (held.code, held.json["confirmed_sats"]) == (0, 0), held.err
    listed = office.keyturn("alice", "wallet", "list", "--all", "-o", "json").json["wallets"]
    assert [(wallet["name"], wallet["document"]) for wallet in listed] == [
        ("treasury", ""),
        ("vault", made.json["document"]),
    ]


def test_sign_of_what_nobody_proposed_is_refused(office: Desk) -> None:
    """An unknown hash, or too few digits of one."""
    for name in ("00" * 32, "0"):
        ran = admin(office, "erin", "policy", "sign", name, "--yes")
        assert (ran.code, "RULES_UNKNOWN" in ran.err) == (3, True)


def test_propose_of_another_number_is_refused(office: Desk, tmp_path: Path) -> None:
    """Only the version behind the one in force can be signed."""
    path = tmp_path / "old.json"
    document = draft(office, path)
    document["version"] = 9
    path.write_text(json.dumps(document))
    ran = admin(office, "erin", "policy", "propose", str(path), "--yes")
    assert (ran.code, "RULES_VERSION" in ran.err) == (3, True)


def test_enrol_by_a_proof_and_words_heard(office: Desk, tmp_path: Path) -> None:
    """Eve proves her key, an admin hears its words and says yes; the next version lists her."""
    proof, out = tmp_path / "eve.json", tmp_path / "enrol.json"
    proved = office.keyturn("eve", "principal", "prove", "--out", str(proof), "-o", "json")
    assert proved.code == 0, proved.err
    arguments = ("principal", "enrol", str(proof), "--org", "acme", "--group", "ops", "--out", str(out))
    unheard = admin(office, "erin", *arguments)
    assert (unheard.code, "NOT_CONFIRMED" in unheard.err) == (3, True)
    ran = admin(office, "erin", *arguments, typed="yes\n")
    assert (ran.code, proved.json["words"] in ran.out) == (0, True)

    listed = user_of(json.loads(out.read_text()), "eve")
    assert [c["key"] for c in listed["credentials"]] == [key_of("eve").hex()]
    assert "loosens" in ran.out


def test_enrol_by_a_proof_of_another_key_is_refused(office: Desk, tmp_path: Path) -> None:
    """A coordinator that registers its own key as somebody's lacks the signature by it, or the genesis."""
    said = Possession(office.genesis.hash, "eve", "ed25519", key_of("eve"))
    stolen = sign(Kind.POSSESSION, said.to_json(), seed_of("mallory"))
    elsewhere = sign(Kind.POSSESSION, replace(said, genesis=bytes(32)).to_json(), seed_of("eve"))
    for proof, code in ((stolen, "POSSESSION_SIGNATURE"), (elsewhere, "GENESIS_OTHER")):
        path = tmp_path / f"{code}.json"
        path.write_bytes(proof.to_bytes())
        out = tmp_path / f"{code}-out.json"
        ran = admin(office, "erin", "principal", "enrol", str(path), "--org", "acme", "--out", str(out), "--yes")
        assert (ran.code != 0, code in ran.err, out.exists()) == (True, True, False)


def test_revoke_writes_what_ends_at_once_and_what_waits(office: Desk, tmp_path: Path) -> None:
    """Ending an asker's validity tightens; taking her out whole loosens, since she could have rejected."""
    at_once = admin(office, "erin", "principal", "revoke", "alice", "--out", str(tmp_path / "a.yaml"), "-o", "json")
    whole = admin(
        office, "erin", "principal", "revoke", "alice", "--remove", "--out", str(tmp_path / "b.json"), "-o", "json"
    )
    nobody = admin(office, "erin", "principal", "revoke", "nobody", "--out", str(tmp_path / "c.json"))

    assert (at_once.code, at_once.json["verdict"]) == (0, "tightens")
    assert (whole.code, whole.json["verdict"]) == (0, "loosens")
    assert (nobody.code, "PRINCIPAL_UNKNOWN" in nobody.err) == (4, True)
    checked = admin(office, "erin", "policy", "diff", str(tmp_path / "a.yaml"), "-o", "json")
    assert (checked.code, checked.json["verdict"]) == (0, "tightens")


def test_show_and_list_use_names_of_the_rules_in_force(office: Desk, tmp_path: Path) -> None:
    """A payee that a later version no longer names is shown without the name that the genesis gave it."""
    asked = office.organisation.withdrawal(30_000, withdrawal_id="to-the-exchange")
    office.do(office.organisation.propose(asked))
    before = office.keyturn("bob", "show", "alice/to-the-exchange")
    assert "on pinned list exchanges" in before.out, before.err
    path = tmp_path / "unnamed.json"
    document = draft(office, path)
    document["lists"] = []
    path.write_text(json.dumps(document))
    name = admin(office, "erin", "policy", "propose", str(path), "--yes", "-o", "json").json["rules"][:16]
    for person in ("frank", "grace"):
        assert admin(office, person, "policy", "sign", name, "--yes").code == 0

    after = office.keyturn("bob", "show", "alice/to-the-exchange")

    assert (after.code, "on pinned list" in after.out) == (0, False)
    assert office.keyturn("bob", "list", "-o", "json").json["withdrawals"][0]["initiator_verified"] is True

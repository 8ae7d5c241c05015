"""Debian's Electrum as the third cosigner, offline: it has our wallet from its own kind of file and signs OUR psbt.

Runs where the program `electrum` is: `python3 dev.py test` installs it as root on Debian, and these tests fail with its
reason where it could not.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from embit.bip32 import HDKey
from embit.networks import NETWORKS

from console.wallet_files import electrum
from console.wallet_files.named import NamedWallet
from custody.address import address_of
from custody.finalise import finalize
from custody.psbt import Psbt, convert, serialize
from custody.scripts import Template
from custody.signatures import InputSignature, accept, from_foreign_psbt, with_signatures
from custody.transaction import parse_transaction
from custody.wallet import CHANGE, RECEIVE, Network, ScriptBook, Wallet
from tests.fakes.psbts import facts_of, kernel_accepts, seed_of, signed_by, spend, spent_outputs, wallet_of

pytestmark = pytest.mark.slow

THIRD = 2
# SLIP-132: the version bytes by which Electrum tells the script type of a multisig key, on test networks
PRIVATE = {Template.WSH: "Zprv", Template.SH_WSH: "Yprv"}
TIMEOUT_S = 120  # a call takes 1.5 s on an idle machine
each_template = pytest.mark.parametrize("template", PRIVATE, ids=lambda template: template.name)


class Electrum:
    """One wallet of ours in Electrum's hands, and its command line, which never gets a network."""

    def __init__(self, folder: Path, wallet: Wallet) -> None:
        self.folder, self.file = folder, folder / "wallet"
        self.file.write_text(json.dumps(wallet_file(wallet)))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return what one command of the program ended with."""
        options = ["--offline", "--regtest", "-D", str(self.folder), "-w", str(self.file)]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            ["electrum", *options, *arguments],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def sign(self, psbt: Psbt) -> str:
        """Return what it prints: base64 of a PSBT, or, once every input is complete, the transaction in hex."""
        done = self.run("signtransaction", base64.b64encode(serialize(psbt)).decode())
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def wallet_file(wallet: Wallet) -> dict[str, Any]:
    """Return the file that `keyturn wallet export` writes, and in it the third cosigner's private key."""
    found: dict[str, Any] = json.loads(electrum.write(NamedWallet("ours", wallet)))
    master = HDKey.from_seed(bytes(seed_of(THIRD)), version=NETWORKS["regtest"]["xprv"])
    private = NETWORKS["regtest"][PRIVATE[wallet.template]]
    account = master.derive(list(wallet.keys[THIRD].path))
    found[f"x{THIRD + 1}/"]["xprv"] = account.to_base58(version=private)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder for Electrum, or say why there is no Electrum."""
    if shutil.which("electrum") is None:
        if failed := os.environ.get("KEYTURN_MISSING_ELECTRUM"):
            pytest.fail(failed)
        pytest.skip("no electrum on this machine: `apt-get install --no-install-recommends electrum`")
    return tmp_path


def completes(ours: Psbt, book: ScriptBook, *signatures: InputSignature) -> bool:
    """Return whether these signatures, Electrum's among them, complete `ours` and the kernel takes the result."""
    facts = facts_of(ours, book)
    accepted = accept(ours, facts, book, signatures)
    assert accepted.rejected == ()
    assert THIRD in accepted.signed
    return kernel_accepts(finalize(ours, facts, book, accepted), spent_outputs(ours))


@each_template
def test_electrum_given_our_wallet_shows_our_addresses(template: Template, folder: Path) -> None:
    """Twenty to receive, ten for change, in order."""
    book = ScriptBook(wallet_of(template=template))
    electrum = Electrum(folder, book.wallet)
    for branch, option, count in ((RECEIVE, "--receiving", 20), (CHANGE, "--change", 10)):
        ours = [address_of(book.script(branch, at).script, Network.REGTEST) for at in range(count)]
        assert json.loads(electrum.run("listaddresses", option).stdout) == ours


@each_template
@pytest.mark.parametrize("version", [0, 2])
def test_electrum_given_our_unsigned_psbt_signs_first(template: Template, version: int, folder: Path) -> None:
    """Every input, on both branches; it reads version 0 alone, and its answer completes a session of version 2 too."""
    book = ScriptBook(wallet_of(template=template))
    ours = convert(spend(3, book=book), version)

    answer = Electrum(folder, book.wallet).sign(convert(ours, 0))

    theirs = from_foreign_psbt(ours, base64.b64decode(answer, validate=True))
    assert [signature.input_index for signature in theirs] == [0, 1, 2]
    assert completes(ours, book, *theirs, *signed_by(0, ours, book=book))


@each_template
def test_electrum_given_our_psbt_with_one_signature_signs_second_and_completes(
    template: Template, folder: Path
) -> None:
    """It answers with the transaction itself: the one we asked for, with our signature in it, right for the kernel."""
    book = ScriptBook(wallet_of(template=template))
    ours = spend(2, book=book)
    first = signed_by(1, ours, book=book)

    answer = Electrum(folder, book.wallet).sign(with_signatures(ours, first))

    transaction = parse_transaction(bytes.fromhex(answer))
    assert transaction.unsigned() == ours.transaction
    assert all(first[at].signature in txin.witness for at, txin in enumerate(transaction.inputs))
    assert kernel_accepts(transaction, spent_outputs(ours))


@each_template
def test_electrum_given_a_wallet_that_needs_three_signs_second_and_keeps_what_was_there(
    template: Template, folder: Path
) -> None:
    """Not complete yet, so a PSBT comes back: with our first signature, known already, and its own."""
    book = ScriptBook(wallet_of(3, 3, template=template))
    ours = spend(2, book=book)
    first = signed_by(0, ours, book=book)

    answer = Electrum(folder, book.wallet).sign(with_signatures(ours, first))

    theirs = from_foreign_psbt(ours, base64.b64decode(answer, validate=True))
    assert set(first) < set(theirs)
    assert completes(ours, book, *first, *theirs, *signed_by(1, ours, book=book))


def test_electrum_given_version_2_refuses(folder: Path) -> None:
    """Why a device that is Electrum gets version 0: should this fail one day, it can be given what the session has."""
    book = ScriptBook(wallet_of())

    done = Electrum(folder, book.wallet).run(
        "signtransaction", base64.b64encode(serialize(convert(spend(book=book), 2))).decode()
    )

    assert done.returncode != 0
    assert "PSBT_GLOBAL_UNSIGNED_TX" in done.stderr

"""Attacks on the person at the terminal: text that steers it, secrets that are repeated, a coordinator that lies."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from console.carried import checked_bundle, checked_delta
from console.cli.output import Output, Table
from console.showing import standing_lines
from console.views import DecisionView, Happening, Missing, ReasonRow, SignerRow, Stage, WithdrawalView
from coordinator.rpc.audits import Audits
from coordinator.rpc.identity import Context
from coordinator.rpc.server import Served
from coordinator.rpc.wallets import Wallets
from coordinator.rpc.withdrawals import Withdrawals
from custody.errors import IntegrityError, Refused
from custody.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    wallet_pb2,
    wallet_pb2_grpc,
    withdrawal_pb2,
    withdrawal_pb2_grpc,
)
from tests.desk import Desk, desk, keyturn
from tests.fakes.rules import EXCHANGE, NOW, STRANGER, address, seed_of
from tests.world import World, make_genesis, signed_by_initiator

EVIL = "\x1b]0;owned\x07\x1b[2J\r\nOK: \u202e123\u2066\x9b1mconfirmed"
TPRV = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK"
WIF = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA"
SEED = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def evil_view() -> WithdrawalView:
    """Return a view with evil text wherever the coordinator may write."""
    asked = World(make_genesis()).withdrawal()
    signed = signed_by_initiator(asked)
    no = Refused(EVIL, EVIL, EVIL)
    return WithdrawalView(
        signed=signed,
        withdrawal=asked,
        stage=Stage.DENIED,
        told=None,
        decision=DecisionView("deny", (ReasonRow(0, EVIL, EVIL, False, EVIL, EVIL),), b"", 1, (no,), (EVIL,), (), 0),
        approvals=(),
        missing=(Missing(EVIL, EVIL, 1, (EVIL,), (EVIL,), 0),),
        signers=(SignerRow(EVIL, 0, EVIL, False, no),),
        threshold=2,
        signed_count=0,
        txid=b"",
        release_index=None,
        height=0,
        depth_blocks=0,
        updated_at=0,
        delayed_until=0,
        ended=no,
        history=(Happening(1, EVIL, EVIL, EVIL),),
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_atk_129_text_from_the_wire_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """CR, LF, ESC, C1 and bidi marks in any told text come out as their numbers, in words and in JSON."""
    lines = standing_lines(evil_view(), make_genesis().policy, NOW)
    output = Output(as_json)
    output.page(lines)
    output.warn(EVIL)
    output.failed(EVIL, EVIL, "refused")
    output.done({"text": EVIL}, *lines, Table(("a", "b"), [(EVIL, "[red]x[/red]")]))
    shown = "".join(capsys.readouterr())
    assert not set(shown) & set("\x1b\r\x07\x9b\u202e\u2066")
    assert "\nOK: " not in shown
    assert as_json or "[red]x[/red]" in shown


@pytest.mark.parametrize("secret", [TPRV, WIF, SEED])
def test_atk_082_a_secret_in_an_argument_is_refused_and_never_repeated(secret: str) -> None:
    """An extended private key, a WIF key and seed words: exit code 3, and nothing of it on the screen."""
    for arguments in (
        ["propose", "--to", secret],
        ["show", *secret.split()],
        ["-o", "json", "nonsense", f"x={secret}"],
    ):
        ran = keyturn(*arguments)
        assert ran.code == 3
        assert "SECRET_IN_ARGUMENT" in ran.out + ran.err
        assert secret[:12] not in ran.out + ran.err
        assert secret.split()[-1] not in ran.out + ran.err


class LyingWithdrawals(Withdrawals):
    """Shows another withdrawal than the one that was asked for, under the digest that was asked for."""

    async def GetWithdrawal(  # noqa: N802, D102 - as in the protos
        self, request: withdrawal_pb2.GetWithdrawalRequest, context: Context
    ) -> withdrawal_pb2.GetWithdrawalResponse:
        honest = (await super().GetWithdrawal(request, context)).withdrawal
        swapped = honest.statement.statement.replace(address(EXCHANGE).encode(), address(STRANGER).encode())
        honest.statement.statement = swapped
        return withdrawal_pb2.GetWithdrawalResponse(withdrawal=honest)


class RenamingWithdrawals(LyingWithdrawals):
    """Does the same, and makes the digest fit: only the initiator's signature does not."""

    async def GetWithdrawal(  # noqa: N802, D102
        self, request: withdrawal_pb2.GetWithdrawalRequest, context: Context
    ) -> withdrawal_pb2.GetWithdrawalResponse:
        from custody.canonical import tagged_hash
        from custody.statements import Kind

        lie = (await super().GetWithdrawal(request, context)).withdrawal
        lie.digest = tagged_hash(Kind.WITHDRAWAL.value, lie.statement.statement)
        return withdrawal_pb2.GetWithdrawalResponse(withdrawal=lie)


class LeapingWallets(Wallets):
    """Hands out a place where nobody looks for coins."""

    async def NextAddress(  # noqa: N802, D102
        self, request: wallet_pb2.NextAddressRequest, context: Context
    ) -> wallet_pb2.NextAddressResponse:
        answer = await super().NextAddress(request, context)
        answer.index = 1_000_000
        return answer


class ForgetfulAudits(Audits):
    """Shows a log without its last entry."""

    async def ListEntries(  # noqa: N802, D102
        self, request: audit_pb2.ListEntriesRequest, context: Context
    ) -> audit_pb2.ListEntriesResponse:
        answer = await super().ListEntries(request, context)
        if answer.entries:
            answer.entries[-1].entry = answer.entries[-1].entry.replace(b'"time":1', b'"time":2')
        return answer


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One organisation for all lies, with a large withdrawal that waits for people."""
    with desk(tmp_path_factory.mktemp("desk")) as found:
        ran = found.keyturn("alice", "propose", "--to", f"{address(EXCHANGE)}=20000000", "--id", "large", "--yes")
        assert ran.code == 0, ran.err
        small = found.keyturn("alice", "propose", "--to", f"{address(EXCHANGE)}=30000", "--id", "small", "--yes")
        assert small.code == 0, small.err
        found.settle()
        yield found


ADDERS: dict[type, Any] = {
    Withdrawals: withdrawal_pb2_grpc.add_WithdrawalServiceServicer_to_server,
    Wallets: wallet_pb2_grpc.add_WalletServiceServicer_to_server,
    Audits: audit_pb2_grpc.add_AuditServiceServicer_to_server,
}


def lie(office: Desk, person: str, lying: type, *arguments: str) -> tuple[int, str]:
    """Run `keyturn` against a coordinator with one lying service; return exit code and stderr."""
    add: Any = next(add for base, add in ADDERS.items() if issubclass(lying, base))
    name = next(base.__name__ for base in ADDERS if issubclass(lying, base)).rstrip("s")
    served = Served(f"custody.v1.{name}Service", partial(add, lying(office.organisation.parts)))
    with office.lying(served) as port:
        settings = office.person(person)
        other = settings.with_name("lied.toml")
        other.write_text(settings.read_text().replace(f":{office.server.port}", f":{port}"))
        ran = keyturn("--config", str(other), *arguments)
    return ran.code, ran.err


@pytest.mark.slow
def test_atk_100_swapped_payee_under_an_honest_digest_is_not_shown(office: Desk) -> None:
    """The digest is computed from what would be signed."""
    code, said = lie(office, "bob", LyingWithdrawals, "approve", "alice/large", "--yes")
    assert (code, "DIGEST_OTHER" in said) == (1, True)


@pytest.mark.slow
def test_atk_100_forged_withdrawal_is_not_approved(office: Desk) -> None:
    """A statement that the initiator did not sign is refused before anything is signed."""
    code, said = lie(office, "bob", RenamingWithdrawals, "approve", "alice/large", "--yes")
    assert (code, "INITIATOR_SIGNATURE" in said) == (3, True)


@pytest.mark.slow
def test_address_far_beyond_the_gap_is_refused(office: Desk) -> None:
    """A place that no wallet scans is no deposit address."""
    code, said = lie(office, "alice", LeapingWallets, "wallet", "address")
    assert (code, "INDEX_TOO_HIGH" in said) == (3, True)


@pytest.mark.slow
def test_changed_log_entry_stops_the_approver(office: Desk) -> None:
    """A log that is not what witnesses vouched for is followed by nobody."""
    code, said = lie(office, "bob", ForgetfulAudits, "approve", "alice/large", "--yes")
    assert code == 1
    assert "broken:" in said


@pytest.mark.slow
def test_bundle_and_delta_of_another_are_not_carried(office: Desk, tmp_path: Path) -> None:
    """A bundle for another node or withdrawal, and a delta that leaves a gap, stop at the operator's machine."""
    out = tmp_path / "b.json"
    for person in ("bob", "carol"):
        assert office.keyturn(person, "approve", "alice/large", "--yes").code == 0
    office.settle()
    view = office.keyturn("alice", "show", "large", "-o", "json").json
    raw = office.do(_bundle_of(office, bytes.fromhex(view["digest"])))
    out.write_bytes(raw)
    for node, digest in (("alpha", bytes.fromhex(view["digest"])), ("cold", bytes(32))):
        with pytest.raises(IntegrityError) as found:
            checked_bundle(raw, office.genesis, node, digest)
        assert found.value.code == "BUNDLE_OTHER"
    with pytest.raises(IntegrityError):
        checked_delta(raw, office.genesis, 0)


async def _bundle_of(office: Desk, digest: bytes) -> bytes:
    from coordinator.bundles import make_bundle

    held = await office.organisation.parts.store.load(digest)
    assert held is not None
    bundle = await make_bundle(office.organisation.parts, held.value, "cold", 0)
    assert bundle is not None
    return bundle.to_bytes()


def test_key_of_another_signs_nothing(tmp_path: Path) -> None:
    """Settings that name bob with alice's key are refused before anything is sent."""
    from console.drafts import check_me
    from custody import ed25519

    refused = check_me(make_genesis().policy, "bob", ed25519.public_key(seed_of("alice")), NOW)
    assert refused is not None
    assert refused.code == "KEY_NOT_IN_RULES"

"""Private keys and seed words pasted where people write for others: refused at every border, repeated at none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from console.channel import open_channel
from console.pen import SeedPen
from coordinator.rpc.pasted import refuse_secrets
from coordinator.rpc.statements import write_signed
from custody.canonical import Json
from custody.errors import MalformedError
from custody.mnemonic import to_words
from custody.statements import Kind, sign
from custody.v1 import wallet_pb2, withdrawal_pb2, withdrawal_pb2_grpc
from tests.fakes.rules import seed_of
from tests.transport import Wire, serving

WORDS = " ".join(to_words(bytes(range(16))))
TPRV = "tprv8ZgxMBicQKsPd7Uf69XL1XwhmjHopUGep8GuEiJDZmbQz6o58LninorQAfcKZWARbtRtfnLcJ5MQ2AtHcQJCCRUcMRvmDUjyEmNUWwx8UbK"
WIF = "5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss"
SECRETS = {"words": WORDS, "extended key": TPRV, "wif": WIF}


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    """Serve the probes."""
    async with serving(tmp_path) as running:
        yield running


def labelled(label: str) -> Json:
    """Return a withdrawal's payments with `label`."""
    return {"payments": [{"address": "bcrt1q", "amount_sats": 1000, "label": label}]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SECRETS)
async def test_atk_082_secret_in_a_label_is_refused_by_the_coordinator_and_written_nowhere(
    wire: Wire, kind: str
) -> None:
    """Whatever program signed it: the statement is turned away whole, and neither answer nor log shows any of it."""
    signed = sign(Kind.WITHDRAWAL, labelled(f"backup: {SECRETS[kind]}"), seed_of("alice"))
    request = withdrawal_pb2.ProposeRequest(withdrawal=write_signed(signed))
    async with open_channel(wire.address("ann", "operator")) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="no private key and no seed words") as raised:
            await withdrawal_pb2_grpc.WithdrawalServiceStub(channel).Propose(request, timeout=20)
    shown = str(raised.value) + wire.output.getvalue()
    assert "SECRET_PASTED" in wire.output.getvalue()
    assert not any(part in shown for part in (SECRETS[kind][:10], SECRETS[kind].split()[-1]))


@pytest.mark.parametrize("kind", SECRETS)
def test_atk_082_secret_in_a_name_that_is_looked_up_is_refused(kind: str) -> None:
    """A name that is not found would be repeated in the error: it is not looked up at all."""
    request = wallet_pb2.GetWalletRequest(wallet=wallet_pb2.WalletKey(name=SECRETS[kind]))
    with pytest.raises(MalformedError, match="SECRET_PASTED") as raised:
        refuse_secrets(request)
    assert SECRETS[kind][:10] not in str(raised.value)


@pytest.mark.parametrize("kind", SECRETS)
def test_atk_082_secret_in_a_statement_is_signed_by_no_program_of_a_person(kind: str) -> None:
    """What came in by a file or a prompt is looked at once more before it is signed."""
    with pytest.raises(MalformedError, match="SECRET_PASTED") as raised:
        SeedPen(seed_of("alice")).sign(Kind.WITHDRAWAL, labelled(SECRETS[kind]))
    assert SECRETS[kind][:10] not in str(raised.value)


def test_what_people_write_enters_the_coordinator() -> None:
    """Eleven words of the list, a sentence and a digest are texts like any other."""
    label = f"{' '.join(WORDS.split()[:11])}. Invoice {'3c26ff84' * 8}"
    signed = sign(Kind.WITHDRAWAL, labelled(label), seed_of("alice"))
    refuse_secrets(withdrawal_pb2.ProposeRequest(withdrawal=write_signed(signed)))

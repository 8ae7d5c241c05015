"""The coordinator's board before there is a genesis: what hangs there, read strictly, and what is brought.

Nothing on it is believed: a record proves itself, a genesis is compared by its words between machines, a signature is
verified under the key that the document names.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from console.channel import Address, call, open_channel
from console.statements import read_signed, write_signed
from custody.errors import IntegrityError, NotFoundError
from custody.genesis import Genesis, KeyRecord, parse_genesis, read_key_record
from custody.statements import Endorsement, Signed
from custody.v1 import statement_pb2, wallet_pb2, wallet_pb2_grpc


@dataclass(frozen=True, slots=True)
class Hanging:
    """What hangs on the board. records: by node, as signed.  genesis: None where none was put up."""

    records: tuple[tuple[KeyRecord, Signed], ...]
    genesis: Genesis | None


class Board:
    """One connection to a coordinator without a genesis; use it with `async with`."""

    def __init__(self, address: Address) -> None:
        self._channel = open_channel(address)
        self._wallets = wallet_pb2_grpc.WalletServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def read(self) -> Hanging:
        """Return what hangs there, each piece proven in itself.

        Raises:
            MalformedError: a record or a genesis that does not hold, by code.
        """
        listed = await call(self._wallets.ListKeyRecords, wallet_pb2.ListKeyRecordsRequest())
        signed = [read_signed(message) for message in listed.records]
        try:
            up = await call(self._wallets.GetGenesis, wallet_pb2.GetGenesisRequest())
        except NotFoundError:
            return Hanging(tuple((read_key_record(each), each) for each in signed), None)
        return Hanging(tuple((read_key_record(each), each) for each in signed), parse_genesis(read_signed(up.genesis)))

    async def bring_record(self, record: Signed) -> None:
        """Leave a node's key record. Raises ConflictError RECORD_TAKEN where the node left another one before."""
        await call(self._wallets.SubmitKeyRecord, wallet_pb2.SubmitKeyRecordRequest(record=write_signed(record)))

    async def bring_genesis(self, genesis: Genesis) -> tuple[str, ...]:
        """Put up a genesis; return who has not signed it. Raises ConflictError GENESIS_TAKEN."""
        request = wallet_pb2.SubmitGenesisRequest(genesis=write_signed(genesis.signed))
        answer = await call(self._wallets.SubmitGenesis, request)
        if answer.genesis_hash != genesis.hash:
            raise IntegrityError("DIGEST_OTHER", f"expected genesis {genesis.hash.hex()}, found another")
        return tuple(answer.missing)

    async def bring_signature(self, genesis: Genesis, endorsement: Endorsement) -> tuple[str, ...]:
        """Add a signature of the genesis that is up; return who has not signed it."""
        carried = statement_pb2.Endorsement(alg=endorsement.alg, key=endorsement.key, signature=endorsement.signature)
        request = wallet_pb2.SubmitGenesisSignatureRequest(genesis_hash=genesis.hash, endorsements=[carried])
        return tuple((await call(self._wallets.SubmitGenesisSignature, request)).missing)

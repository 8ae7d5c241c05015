"""WalletService before there is a genesis: a board where nodes and admins leave what they signed.

It decides nothing. What hangs there outlives a restart. A document is kept only where it holds by itself; people
compare the twelve words between machines, because whoever owns this board can swap what it shows, and each node pins by
its own local command.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from coordinator.rpc.identity import Context, Role, check_own_name, identity_of
from coordinator.rpc.statements import read_signed, write_signed
from custody.canonical import Json, decode, encode
from custody.errors import ConflictError, MalformedError, NotFoundError
from custody.fields import Fields
from custody.genesis import Genesis, check_signed, node_identities, parse_genesis, read_key_record, with_endorsement
from custody.quorum import key_holders
from custody.statements import Endorsement, Signed
from custody.v1 import wallet_pb2, wallet_pb2_grpc

MAX_RECORDS = 64  # nodes of one organisation


class Ceremony(wallet_pb2_grpc.WalletServiceServicer):
    """See protos/custody/v1/wallet.proto; everything but the ceremony waits for the genesis.

    Args:
        path: where the genesis is written, once, when everybody has signed it; `done` is set then. What hangs on the
            board is kept beside it until then.
    """

    def __init__(self, path: Path) -> None:
        self.done = asyncio.Event()
        self._path = path
        self._records: dict[str, Signed] = {}
        self._genesis: Genesis | None = None
        self._kept = path.with_name(path.name + ".board")
        self._load()

    async def SubmitKeyRecord(
        self, request: wallet_pb2.SubmitKeyRecordRequest, context: Context
    ) -> wallet_pb2.SubmitKeyRecordResponse:
        """Keep a node's key record; the first of each node stays."""
        signed = read_signed(request.record)
        record = read_key_record(signed)
        identity = identity_of(context)
        if identity.role is Role.SIGNER:
            check_own_name(identity, record.node)
        kept = self._records.setdefault(record.node, signed)
        if kept.digest != signed.digest:
            raise ConflictError("RECORD_TAKEN", f"expected the first record of node {record.node}, found another")
        if len(self._records) > MAX_RECORDS:
            del self._records[record.node]
            raise ConflictError("RECORDS_FULL", f"expected at most {MAX_RECORDS} nodes")
        self._save()
        return wallet_pb2.SubmitKeyRecordResponse(digest=signed.digest)

    async def ListKeyRecords(
        self, request: wallet_pb2.ListKeyRecordsRequest, context: Context
    ) -> wallet_pb2.ListKeyRecordsResponse:
        """Show the records."""
        return wallet_pb2.ListKeyRecordsResponse(
            records=[write_signed(self._records[n]) for n in sorted(self._records)]
        )

    async def SubmitGenesis(
        self, request: wallet_pb2.SubmitGenesisRequest, context: Context
    ) -> wallet_pb2.SubmitGenesisResponse:
        """Put up the composed genesis; the first stays."""
        genesis = parse_genesis(read_signed(request.genesis))
        if self._genesis is not None and self._genesis.hash != genesis.hash:
            raise ConflictError("GENESIS_TAKEN", f"expected {self._genesis.hash.hex()}, found {genesis.hash.hex()}")
        self._genesis = self._genesis or genesis
        self._save()
        self._finish()
        return wallet_pb2.SubmitGenesisResponse(genesis_hash=genesis.hash, missing=self._missing())

    async def SubmitGenesisSignature(
        self, request: wallet_pb2.SubmitGenesisSignatureRequest, context: Context
    ) -> wallet_pb2.SubmitGenesisSignatureResponse:
        """Add signatures of the genesis that is up."""
        genesis = self._up()
        if request.genesis_hash != genesis.hash:
            raise ConflictError("GENESIS_OTHER", f"expected {genesis.hash.hex()}")
        signed = genesis.signed
        for said in request.endorsements:
            endorsement = Endorsement(said.alg, said.key, said.signature)
            if not endorsement.holds(signed.kind, signed.raw):
                raise MalformedError("GENESIS_SIGNATURE", "expected a valid signature of the genesis that is up")
            signed = with_endorsement(signed, endorsement)
        self._genesis = parse_genesis(signed)
        self._save()
        self._finish()
        return wallet_pb2.SubmitGenesisSignatureResponse(missing=self._missing())

    async def GetGenesis(
        self, request: wallet_pb2.GetGenesisRequest, context: Context
    ) -> wallet_pb2.GetGenesisResponse:
        """Show the genesis that is up, and who has not signed it."""
        return wallet_pb2.GetGenesisResponse(genesis=write_signed(self._up().signed), missing=self._missing())

    async def ListWallets(
        self, request: wallet_pb2.ListWalletsRequest, context: Context
    ) -> wallet_pb2.ListWalletsResponse:
        """Show none yet."""
        return wallet_pb2.ListWalletsResponse()

    async def GetWallet(self, request: wallet_pb2.GetWalletRequest, context: Context) -> wallet_pb2.GetWalletResponse:
        """Refuse: no genesis yet."""
        raise _no_genesis()

    async def NextAddress(
        self, request: wallet_pb2.NextAddressRequest, context: Context
    ) -> wallet_pb2.NextAddressResponse:
        """Refuse: no genesis yet."""
        raise _no_genesis()

    async def GetBalance(
        self, request: wallet_pb2.GetBalanceRequest, context: Context
    ) -> wallet_pb2.GetBalanceResponse:
        """Refuse: no genesis yet."""
        raise _no_genesis()

    async def ListCoins(self, request: wallet_pb2.ListCoinsRequest, context: Context) -> wallet_pb2.ListCoinsResponse:
        """Refuse: no genesis yet."""
        raise _no_genesis()

    def _up(self) -> Genesis:
        if self._genesis is None:
            raise _no_genesis()
        return self._genesis

    def _missing(self) -> list[str]:
        """Return who has not signed: nodes by name, then how many admins."""
        genesis = self._up()
        nodes = [n for n, key in sorted(node_identities(genesis).items()) if not genesis.signed.signed_by(key)]
        quorum = genesis.policy.admin.change_quorum
        have = key_holders(genesis.policy, genesis.signed, groups=quorum.groups, seen=True)
        lack = quorum.threshold - genesis.policy.heads(replace(quorum, exclude_author=False), have)
        return nodes + ([f"{lack} of {', '.join(quorum.groups)}"] if lack > 0 else [])

    def _finish(self) -> None:
        """Write the genesis durably once nobody is missing."""
        genesis = self._up()
        if self._missing() or self.done.is_set():
            return
        check_signed(genesis)
        _replace(self._path, genesis.signed.to_bytes())
        self._kept.unlink(missing_ok=True)
        self.done.set()

    def _save(self) -> None:
        """Keep what hangs on the board, durably."""
        board: dict[str, Json] = {"records": [self._records[name].to_json() for name in sorted(self._records)]}
        if self._genesis is not None:
            board["genesis"] = self._genesis.signed.to_json()
        _replace(self._kept, encode(board))

    def _load(self) -> None:
        """Hang up again what a board before this one kept, each piece proven anew."""
        if not self._kept.exists():
            return
        fields = Fields(decode(self._kept.read_bytes()), self._kept.name)
        for item in fields.items("records", MAX_RECORDS):
            signed = Signed.from_json(item)
            self._records[read_key_record(signed).node] = signed
        if fields.has("genesis"):
            self._genesis = parse_genesis(Signed.from_json(fields.any("genesis")))
        fields.done()


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _no_genesis() -> NotFoundError:
    return NotFoundError("NO_GENESIS", "expected a genesis; the ceremony is not over")

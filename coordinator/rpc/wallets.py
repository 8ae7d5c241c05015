"""WalletService and ChainService: wallets, coins, the next {branch, index}; and mining on the embedded regtest.

Addresses never leave here: the reader's own program derives them from the descriptor that it pinned.
"""

from __future__ import annotations

from coordinator.asking import proven_name
from coordinator.chain.port import MineableChain
from coordinator.drafting import own_coins, watched_scripts
from coordinator.parts import Parts
from coordinator.rpc.identity import Context
from coordinator.rpc.limits import bounded, page_size
from coordinator.rpc.statements import write_signed
from custody.errors import ConflictError, NotFoundError
from custody.genesis import GenesisWallet
from custody.v1 import chain_pb2, chain_pb2_grpc, statement_pb2, wallet_pb2, wallet_pb2_grpc
from custody.wallet import RECEIVE

MAX_MINED_BLOCKS = 1_000  # one call; more is another call


class Wallets(wallet_pb2_grpc.WalletServiceServicer):
    """See protos/custody/v1/wallet.proto. The ceremony's documents travel as files; here they can be read."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListWallets(
        self, request: wallet_pb2.ListWalletsRequest, context: Context
    ) -> wallet_pb2.ListWalletsResponse:
        """Show every wallet."""
        wallets = [await _view(self._parts, wallet) for wallet in self._parts.wallets]
        return wallet_pb2.ListWalletsResponse(wallets=wallets)

    async def GetWallet(self, request: wallet_pb2.GetWalletRequest, context: Context) -> wallet_pb2.GetWalletResponse:
        """Show one wallet."""
        return wallet_pb2.GetWalletResponse(wallet=await _view(self._parts, self._find(request.wallet)))

    async def NextAddress(
        self, request: wallet_pb2.NextAddressRequest, context: Context
    ) -> wallet_pb2.NextAddressResponse:
        """Hand out an unused place on the receiving branch."""
        wallet = self._find(request.wallet).wallet
        index = await self._parts.store.next_index(wallet.wallet_id, RECEIVE)
        return wallet_pb2.NextAddressResponse(wallet_id=wallet.wallet_id, branch=RECEIVE, index=index)

    async def GetBalance(
        self, request: wallet_pb2.GetBalanceRequest, context: Context
    ) -> wallet_pb2.GetBalanceResponse:
        """Show what is confirmed and what of it is held for withdrawals."""
        wallet = self._find(request.wallet).wallet
        book = self._parts.books[wallet.wallet_id]
        state = await self._parts.followed.state(self._parts.clock.now())
        scripts = watched_scripts(book, state.highest_change_index(wallet.wallet_id))
        coins = await self._parts.chain.coins(tuple(scripts))
        held = await self._parts.store.reserved(self._parts.clock.now())
        return wallet_pb2.GetBalanceResponse(
            confirmed_sats=sum(coin.amount_sats for coin in coins),
            reserved_sats=sum(coin.amount_sats for coin in coins if coin.outpoint in held),
            height=await self._parts.chain.height(),
        )

    async def ListCoins(self, request: wallet_pb2.ListCoinsRequest, context: Context) -> wallet_pb2.ListCoinsResponse:
        """Show the coins that no withdrawal holds."""
        wallet = self._find(request.wallet).wallet
        coins = await own_coins(self._parts, self._parts.books[wallet.wallet_id])
        found = [
            wallet_pb2.Coin(
                outpoint=statement_pb2.OutPoint(txid=own.coin.outpoint.txid, output=own.coin.outpoint.vout),
                amount_sats=own.coin.amount_sats,
                branch=own.branch,
                index=own.index,
                height=own.coin.height,
            )
            for own in coins[: page_size(request.page_size, 200)]
        ]
        return wallet_pb2.ListCoinsResponse(coins=found)

    async def GetGenesis(
        self, request: wallet_pb2.GetGenesisRequest, context: Context
    ) -> wallet_pb2.GetGenesisResponse:
        """Hand out the genesis; nobody pins it from here without comparing words."""
        return wallet_pb2.GetGenesisResponse(genesis=write_signed(self._parts.genesis.signed))

    async def SubmitKeyRecord(
        self, request: wallet_pb2.SubmitKeyRecordRequest, context: Context
    ) -> wallet_pb2.SubmitKeyRecordResponse:
        """Refuse: the ceremony is over once there is a genesis."""
        raise _ceremony_is_over()

    async def ListKeyRecords(
        self, request: wallet_pb2.ListKeyRecordsRequest, context: Context
    ) -> wallet_pb2.ListKeyRecordsResponse:
        """Show the key records that the genesis and later wallets hold."""
        records = [s.record for w in self._parts.wallets for s in w.slots if s.record is not None]
        return wallet_pb2.ListKeyRecordsResponse(records=[write_signed(record) for record in records])

    async def SubmitGenesis(
        self, request: wallet_pb2.SubmitGenesisRequest, context: Context
    ) -> wallet_pb2.SubmitGenesisResponse:
        """Refuse: see SubmitKeyRecord."""
        raise _ceremony_is_over()

    async def SubmitGenesisSignature(
        self, request: wallet_pb2.SubmitGenesisSignatureRequest, context: Context
    ) -> wallet_pb2.SubmitGenesisSignatureResponse:
        """Refuse: see SubmitKeyRecord."""
        raise _ceremony_is_over()

    def _find(self, key: wallet_pb2.WalletKey) -> GenesisWallet:
        wallets = self._parts.wallets
        if key.WhichOneof("key") == "wallet_id":
            found = self._parts.wallet(key.wallet_id)
        else:
            found = next((w for w in wallets if w.name == key.name or (not key.name and len(wallets) == 1)), None)
        if found is None:
            raise NotFoundError("WALLET_UNKNOWN", f"expected one of {', '.join(w.name for w in wallets)}")
        return found


class ChainOfBlocks(chain_pb2_grpc.ChainServiceServicer):
    """See protos/custody/v1/chain.proto; served for the embedded regtest only."""

    def __init__(self, chain: MineableChain) -> None:
        self._chain = chain

    async def Mine(self, request: chain_pb2.MineRequest, context: Context) -> chain_pb2.MineResponse:
        """Mine blocks that pay a script."""
        hashes = await self._chain.mine(bounded(request.blocks, 1, MAX_MINED_BLOCKS, "blocks"), request.script)
        return chain_pb2.MineResponse(height=await self._chain.height(), block_hash=hashes[-1])

    async def GetTip(self, request: chain_pb2.GetTipRequest, context: Context) -> chain_pb2.GetTipResponse:
        """Show the tip."""
        tip = await self._chain.tip()
        return chain_pb2.GetTipResponse(height=tip.height, block_hash=tip.block_hash)


def _ceremony_is_over() -> ConflictError:
    return ConflictError("GENESIS_FIXED", "expected a coordinator without a genesis; this one has its own for ever")


async def _view(parts: Parts, wallet: GenesisWallet) -> wallet_pb2.Wallet:
    slots = []
    for at, slot in enumerate(wallet.slots):
        has_signed = await parts.store.recall(proven_name(wallet.wallet.wallet_id, at)) is not None
        is_proven = slot.node is not None or has_signed
        slots.append(wallet_pb2.Slot(key=slot.key, node=slot.node or "", admin=slot.admin or "", proven=is_proven))
    return wallet_pb2.Wallet(
        wallet_id=wallet.wallet.wallet_id,
        name=wallet.name,
        network=parts.genesis.network.value,
        descriptor=wallet.wallet.descriptor,
        threshold=wallet.wallet.threshold,
        slots=slots,
    )

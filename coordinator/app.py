"""The composition root: the only file that names concrete adapters. One asyncio loop; long work leaves it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from coordinator import flow, governing, keys, messages
from coordinator.chain.embedded import EmbeddedChain
from coordinator.chain.places import open_chain
from coordinator.chain.port import Chain
from coordinator.clock import Clock, SystemClock
from coordinator.collectors import Collector, FileCollector, HttpsCollector, SyslogCollector
from coordinator.config import Config, SealedKey
from coordinator.effects import Hook, no_hook
from coordinator.followed import Followed
from coordinator.log_key import LogKey, free_text_secret, open_sealed
from coordinator.logging import configure, stdout_logger
from coordinator.logs import LogPins, Logs
from coordinator.outbox import Outbox
from coordinator.parts import Parts
from coordinator.posted import take_over_for_ever
from coordinator.pruning import prune
from coordinator.restoring import Replayed, read_file, refuse_rolled_back, replay
from coordinator.rpc.audits import Audits
from coordinator.rpc.calls import RecordedCalls, free_text_key
from coordinator.rpc.ceremony import Ceremony
from coordinator.rpc.couriers import Couriers
from coordinator.rpc.messages import Messages
from coordinator.rpc.policies import Policies
from coordinator.rpc.server import Served, build_server
from coordinator.rpc.signers import Signers
from coordinator.rpc.wallets import ChainOfBlocks, Wallets
from coordinator.rpc.withdrawals import Approvals, Withdrawals
from coordinator.session import OPEN
from coordinator.store.port import MAX_PAGE, Change, Event, Page
from coordinator.store.sql import SqlStore
from coordinator.streaming import open_stream
from coordinator.tiles import Tiles, TileServer
from coordinator.tls import TlsFiles
from coordinator.vault_key import VaultKey, VaultPlace
from coordinator.watching import Watching, watch_for_ever
from coordinator.witnesses import GrpcWitness
from custody.audit import Log
from custody.canonical import Json
from custody.curve import require_native
from custody.errors import CustodyError, IntegrityError
from custody.follow import witness_keys
from custody.genesis import Genesis, check_signed, parse_genesis
from custody.governing import Rules
from custody.policy import Policy
from custody.statements import Signed
from custody.v1 import (
    approval_pb2_grpc,
    audit_pb2_grpc,
    chain_pb2_grpc,
    courier_pb2_grpc,
    message_pb2_grpc,
    policy_pb2_grpc,
    signer_pb2_grpc,
    wallet_pb2_grpc,
    withdrawal_pb2_grpc,
)
from custody.wallet import ScriptBook

TICK_SECONDS = 0.5  # the longest that a stage waits for what no event announces: time, a silent signer, a new block
CHECKPOINT_SECONDS = 60  # protocol.md "Event log": cosigned at least this often when changed
RULES_AGAIN_SECONDS = 10  # a log key that is missing does not come by itself: say so, not too often
STOP_GRACE_SECONDS = 3.0
START_CHECK_SECONDS = 3.0  # witnesses answer in milliseconds; one that hangs must not keep the service down
log = structlog.get_logger("coordinator")


async def run(config: Config, hook: Hook = no_hook) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Prints one `coordinator.ready` line with the bound port."""
    require_native()
    configure()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    is_new = not config.genesis.exists()
    if is_new and not await _hold_ceremony(config, stop):
        return 0
    async with AsyncExitStack() as stack:
        genesis = read_genesis(config.genesis)
        chain = await open_chain(config.chain, genesis.network, stack)
        dialled = {w.name: GrpcWitness(w.address, _tls(config)) for w in config.witnesses}
        for witness in dialled.values():
            stack.push_async_callback(witness.close)
        parts = await _parts(config, genesis, chain, hook, dialled, stack)
        stack.push_async_callback(parts.verifying.close)
        await _check_witnesses(parts)
        if is_new:
            await parts.store.record(Change(parts.clock.now(), events=(ceremony_event(genesis),)))
        calls = RecordedCalls(parts.store, parts.clock, free_text_key(await free_text_secret(parts.logs.pins.key)))
        server = build_server(
            _services(parts, chain), config.listen, _tls(config), stdout_logger(), calls, config.calls_a_minute
        )
        await server.start()
        stack.push_async_callback(server.stop, STOP_GRACE_SECONDS)
        tasks = [asyncio.create_task(work(parts)) for work in (_advance_all, _keep_checkpoints, _govern)]
        tasks.append(asyncio.create_task(take_over_for_ever(parts, dialled)))
        tasks.append(asyncio.create_task(keys.alarm_for_ever(parts)))
        tasks.append(asyncio.create_task(watch_for_ever(Watching(parts), parts)))
        for collector in _collectors(config):
            stream = await open_stream(parts.store, collector, parts.clock)
            tasks.append(asyncio.create_task(stream.run()))
        if config.tiles:
            tiles = TileServer(Tiles(parts.logs, parts.store))
            log.info("tiles.ready", port=await tiles.listen(config.tiles))
            stack.push_async_callback(tiles.close)
        log.info("coordinator.ready", port=server.port, genesis=parts.genesis.hash.hex())
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    log.info("coordinator.stopped")
    return 0


async def _check_witnesses(parts: Parts) -> None:
    """Refuse to start on a database older than what witnesses saw; those that are away are not waited for."""
    try:
        async with asyncio.timeout(START_CHECK_SECONDS):
            await refuse_rolled_back(parts.logs, parts.store, parts.genesis)
    except TimeoutError:
        log.warning("witnesses.unasked", seconds=START_CHECK_SECONDS)


async def put_back(config: Config, path: Path) -> Replayed:
    """Put back log entries from a file of deltas, events or an export; serves nothing and asks no witness.

    Raises:
        CustodyError: the file does not continue the store; nothing changed.
    """
    require_native()
    genesis = read_genesis(config.genesis)
    found = read_file(await asyncio.to_thread(path.read_bytes))
    store = await asyncio.to_thread(SqlStore.open, config.database)
    try:
        return await replay(store, genesis, found)
    finally:
        await store.close()


async def forget_before(config: Config, before: int) -> int:
    """Remove the bodies that only events of before `before` (UTC seconds) name; return how many. Serves nothing.

    Raises:
        CustodyError: PRUNE_TIME, or the store does not open; nothing was removed.
    """
    store = await asyncio.to_thread(SqlStore.open, config.database)
    try:
        return await prune(store, before, SystemClock().now())
    finally:
        await store.close()


async def _hold_ceremony(config: Config, stop: asyncio.Event) -> bool:
    """Serve the board of the ceremony until the genesis is signed by all (True) or the process is told to stop."""
    board = Ceremony(config.genesis)
    add = partial(wallet_pb2_grpc.add_WalletServiceServicer_to_server, board)
    server = build_server([Served("custody.v1.WalletService", add)], config.listen, _tls(config), stdout_logger())
    await server.start()
    log.info("ceremony.ready", port=server.port)
    waits = [asyncio.create_task(event.wait()) for event in (board.done, stop)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    await server.stop(STOP_GRACE_SECONDS)
    return board.done.is_set()


def ceremony_event(genesis: Genesis) -> Event:
    """Return the first event of a log: which genesis it is of, and whose records and signatures it bears.

    How each key was made and who keeps its backups stands in the records, which the genesis holds.
    """
    records = [slot.record for wallet in genesis.wallets for slot in wallet.slots if slot.record is not None]
    fields: dict[str, Json] = {
        "genesis": genesis.hash.hex(),
        "records": sorted({record.digest.hex() for record in records}),
        "signatures": len(genesis.signed.endorsements),
    }
    return Event("ceremony.ended", "coordinator", fields)


def read_genesis(path: Path) -> Genesis:
    """Return the genesis in `path`, signed by every node and the admin quorum.

    Raises:
        CustodyError: what does not hold; the coordinator does not start.
    """
    genesis = parse_genesis(Signed.from_bytes(path.read_bytes()))
    check_signed(genesis)
    return genesis


async def _parts(
    config: Config,
    genesis: Genesis,
    chain: Chain,
    hook: Hook,
    dialled: Mapping[str, GrpcWitness],
    stack: AsyncExitStack,
) -> Parts:
    clock: Clock = SystemClock()
    store = await asyncio.to_thread(SqlStore.open, config.database)
    stack.push_async_callback(store.close)
    followed = Followed(store, genesis)
    rules = (await followed.state(clock.now())).rules
    keys = await _open_log_keys(config, rules, stack)
    logs = Logs(store, _pins(genesis, rules.policy, keys), dialled, clock, keys)
    parts = Parts(
        genesis=genesis,
        store=store,
        logs=logs,
        chain=chain,
        clock=clock,
        followed=followed,
        outbox=Outbox(),
        books={w.wallet.wallet_id: ScriptBook(w.wallet) for w in genesis.wallets},
        confirmations=config.chain.confirmations,
        hook=hook,
        coarse_for=config.coarse_for,
    )
    parts.admit((await followed.state(clock.now())).genesis.wallets)
    governing.turn_keys(parts, rules)
    return parts


async def _open_log_keys(config: Config, rules: Rules, stack: AsyncExitStack) -> tuple[LogKey, ...]:
    """Return the log key of the rules in force, and that of those that wait where there is one."""
    coming = (rules.waiting[0].policy if rules.waiting else rules.policy).roots.log_key
    keys: list[LogKey] = [await _open_log_key(config.log_key, rules.policy.roots.log_key, stack)]
    if config.next_log_key is not None:
        keys.append(await _open_log_key(config.next_log_key, coming, stack))
    return tuple(keys)


async def _open_log_key(place: SealedKey | VaultPlace, public: bytes, stack: AsyncExitStack) -> LogKey:
    if isinstance(place, VaultPlace):
        key = VaultKey(place, public)
        stack.callback(key.close)
        return key
    return await asyncio.to_thread(open_sealed, place.file, place.passphrase)


def _pins(genesis: Genesis, policy: Policy, keys: tuple[LogKey, ...]) -> LogPins:
    roots = policy.roots
    key = next((key for key in keys if key.public == roots.log_key), None)
    if key is None:
        raise IntegrityError("LOG_KEY_OTHER", "expected the log key that the rules pin")
    return LogPins(genesis.hash, key, roots.log_key, witness_keys(policy), roots.w)


def _services(parts: Parts, chain: Chain) -> list[Served]:
    adders = {
        "WithdrawalService": partial(withdrawal_pb2_grpc.add_WithdrawalServiceServicer_to_server, Withdrawals(parts)),
        "ApprovalService": partial(approval_pb2_grpc.add_ApprovalServiceServicer_to_server, Approvals(parts)),
        "SignerService": partial(signer_pb2_grpc.add_SignerServiceServicer_to_server, Signers(parts)),
        "MessageService": partial(message_pb2_grpc.add_MessageServiceServicer_to_server, Messages(parts)),
        "CourierService": partial(courier_pb2_grpc.add_CourierServiceServicer_to_server, Couriers(parts)),
        "WalletService": partial(wallet_pb2_grpc.add_WalletServiceServicer_to_server, Wallets(parts)),
        "PolicyService": partial(policy_pb2_grpc.add_PolicyServiceServicer_to_server, Policies(parts)),
        "AuditService": partial(audit_pb2_grpc.add_AuditServiceServicer_to_server, Audits(parts)),
    }
    if isinstance(chain, EmbeddedChain):  # nobody mines on any other
        adders["ChainService"] = partial(chain_pb2_grpc.add_ChainServiceServicer_to_server, ChainOfBlocks(chain))
    return [Served(f"custody.v1.{name}", add) for name, add in adders.items()]


async def _advance_all(parts: Parts) -> None:
    """Run the stages of every open withdrawal on each tick, and once right after the start: that is the recovery."""
    while True:
        try:
            for held in await parts.store.list(OPEN, Page(MAX_PAGE)):
                await _advance_one(parts, held.value.digest)
            await messages.advance_all(parts)
        except CustodyError as error:
            log.warning("tick.failed", code=error.code, message=error.message)
        await asyncio.sleep(TICK_SECONDS)


async def _advance_one(parts: Parts, digest: bytes) -> None:
    try:
        await flow.advance(parts, digest)
    except CustodyError as error:  # one withdrawal that cannot go on now does not hold up the others
        log.warning("withdrawal.stuck", withdrawal=digest.hex(), code=error.code, message=error.message)


async def _govern(parts: Parts) -> None:
    """Follow rule documents as they come and take effect: their T for all to see, and the keys that they pin."""
    while True:
        try:
            await governing.keep(parts)
            await asyncio.sleep(TICK_SECONDS)
        except CustodyError as error:
            log.error("rules.not_kept", code=error.code, message=error.message)
            await asyncio.sleep(RULES_AGAIN_SECONDS)


async def _keep_checkpoints(parts: Parts) -> None:
    """Have both logs cosigned once a minute when they changed."""
    while True:
        for which in Log:
            try:
                if parts.store.head(which).size and await parts.logs.fresh(which) is None:
                    log.warning("witnesses.missing", log=which.value)
            except CustodyError as error:
                log.error("checkpoint.failed", log=which.value, code=error.code, message=error.message)
        await asyncio.sleep(CHECKPOINT_SECONDS)


def _tls(config: Config) -> TlsFiles:
    return TlsFiles(config.tls.certificate, config.tls.key, config.tls.ca)


def _collectors(config: Config) -> list[Collector]:
    stream, found = config.stream, list[Collector]()
    if stream.file is not None:
        found.append(FileCollector(stream.file))
    if stream.syslog:
        found.append(SyslogCollector(stream.syslog))
    if stream.ca is not None:
        found.append(HttpsCollector(stream.https, TlsFiles(config.tls.certificate, config.tls.key, stream.ca)))
    return found

"""Draft the transaction of a withdrawal: our own coins, proven by previous transactions, and one change output."""

from __future__ import annotations

from coordinator.chain.mempool import INCREMENTAL_RATE_SAT_VB
from coordinator.chain.port import ChainCoin
from coordinator.parts import Parts
from coordinator.spending import Change, Multisig, OwnCoin, Spending, Terms, choose
from custody.errors import CustodyError, Refused
from custody.facts import CHANGE_GAP, Facts, ShapeLimits, read_facts
from custody.follow import State, payments_of
from custody.psbt import Psbt, parse, serialize
from custody.signatures import without_signatures
from custody.transaction import parse_transaction
from custody.units import SatsPerVByte
from custody.updater import SpendableCoin, build
from custody.wallet import CHANGE, RECEIVE, ScriptBook
from custody.withdrawal import RelationKind, Withdrawal

SCRIPTS_WATCHED = 100  # on each branch at least; discovery of deposits beyond it is a command of the operator


def watched_scripts(book: ScriptBook, highest_change: int) -> dict[bytes, tuple[int, int]]:
    """Return the wallet's scripts whose coins are looked for, with their (branch, index).

    highest_change: the highest change index in the money log: all that came back to us so far lies at or below it.
    """
    change = max(SCRIPTS_WATCHED, highest_change + 1)
    places = [(RECEIVE, index) for index in range(SCRIPTS_WATCHED)] + [(CHANGE, index) for index in range(change)]
    return {book.script(*place).script: place for place in places}


async def own_coins(parts: Parts, book: ScriptBook) -> tuple[OwnCoin, ...]:
    """Return the confirmed coins of a wallet that no withdrawal holds, each proven by its previous transaction."""
    state = await parts.followed.state(parts.clock.now())
    scripts = watched_scripts(book, state.highest_change_index(book.wallet.wallet_id))
    found = await parts.chain.coins(tuple(scripts))
    held = await parts.store.reserved(parts.clock.now())
    return tuple(
        OwnCoin(coin, *scripts[coin.script]) for coin in found if coin.outpoint not in held and _is_proven(coin)
    )


def _is_proven(coin: ChainCoin) -> bool:
    """Return whether the previous transaction hashes to the outpoint and says what the backend says."""
    try:
        previous = parse_transaction(coin.previous_raw)
    except CustodyError:
        return False
    place = coin.outpoint.vout
    if previous.txid != coin.outpoint.txid or place >= len(previous.outputs):
        return False
    return (previous.outputs[place].script, previous.outputs[place].amount) == (coin.script, coin.amount_sats)


async def draft(parts: Parts, withdrawal: Withdrawal, state: State, book: ScriptBook) -> bytes | Refused:
    """Return our PSBT for `withdrawal`, without signatures, or why there is none.

    Args:
        parts: of this coordinator.
        withdrawal: verified.
        state: what the log holds now.
        book: its wallet's scripts.
    """
    highest = state.highest_change_index(withdrawal.wallet_id)
    index = await parts.store.next_index(withdrawal.wallet_id, CHANGE, at_least=highest + 1)
    index = min(
        index, highest + CHANGE_GAP
    )  # signers refuse change beyond their window; reuse costs privacy, not funds
    wallet, limits = book.wallet, state.policy.limits
    replaced = await _replaced(parts, withdrawal, state, book)
    required = () if replaced is None else _coins_of(*replaced)
    change = Change(book.script(CHANGE, index).script, index)
    free = await own_coins(parts, book)

    def chosen(rate_sat_vb: int) -> Spending | Refused:
        rate = SatsPerVByte(min(rate_sat_vb, limits.feerate_max_sat_vb))
        terms = Terms(rate, withdrawal.max_fee_sats, Multisig(wallet.threshold, len(wallet.keys), wallet.template))
        return choose(free, payments_of(withdrawal, parts.genesis), change, terms, required)

    asked_rate = max(await parts.chain.fee_rate_sat_vb(), limits.feerate_min_sat_vb, 1)
    spending = chosen(asked_rate)
    if replaced is not None and isinstance(spending, Spending):
        spending = chosen(max(asked_rate, _rate_to_outbid(replaced[1], spending)))
    if isinstance(spending, Refused):
        return spending
    coins = [
        SpendableCoin(own.coin.outpoint, parse_transaction(own.coin.previous_raw), own.branch, own.index)
        for own in spending.coins
    ]
    places = [(at, index) for at, output in enumerate(spending.outputs) if output.script == change.script]
    return serialize(build(book, coins, spending.outputs, places if spending.change_index is not None else ()))


async def _replaced(parts: Parts, withdrawal: Withdrawal, state: State, book: ScriptBook) -> tuple[Psbt, Facts] | None:
    """Return the newest transaction of what `withdrawal` supersedes: sharing its coins, the two cannot both confirm."""
    if withdrawal.relation.kind is not RelationKind.SUPERSEDES:
        return None
    released = state.releases_of(withdrawal.relation.digests[0])
    session = await parts.store.load(withdrawal.relation.digests[0])
    if not released or session is None or session.value.psbt is None:
        return None
    psbt = parse(session.value.psbt, book.known)
    facts = read_facts(psbt, book, ShapeLimits(highest_change_index=state.highest_change_index(withdrawal.wallet_id)))
    return None if isinstance(facts, Refused) else (psbt, facts)


def _coins_of(psbt: Psbt, facts: Facts) -> tuple[OwnCoin, ...]:
    """Return the coins that a transaction of ours spends."""
    found = []
    for fact, said in zip(facts.inputs, psbt.inputs, strict=True):
        raw = b"" if said.previous is None else said.previous.serialize()
        coin = ChainCoin(fact.outpoint, fact.amount_sats, fact.script, height=0, previous_raw=raw)
        found.append(OwnCoin(coin, fact.branch, fact.index))
    return tuple(found)


def _rate_to_outbid(replaced: Facts, spending: Spending) -> int:
    """Return the rate (sat/vB) at which `spending` may take the place of `replaced` in a mempool (BIP-125, rule 3, 4).

    One more than the old rate is not enough: sizes are upper bounds, and a shorter transaction must still pay more.
    """
    least_fee = replaced.fee_sats + spending.vsize_vb * INCREMENTAL_RATE_SAT_VB
    return max(-(-least_fee // spending.vsize_vb), replaced.fee_sats // replaced.vsize_vb + 2)


def read_client_psbt(raw: bytes) -> bytes:
    """Return a client's own PSBT without signatures, which travel beside it. Raises MalformedError as `parse`."""
    return serialize(without_signatures(parse(raw)))


def facts_of(
    session_psbt: bytes, withdrawal: Withdrawal, state: State, book: ScriptBook
) -> tuple[Psbt, Facts] | Refused:
    """Return our PSBT and what it does, proven as every signer proves it."""
    limits = state.policy.limits
    psbt = parse(session_psbt, book.known)
    facts = read_facts(
        psbt,
        book,
        ShapeLimits(
            highest_change_index=state.highest_change_index(withdrawal.wallet_id),
            change_floor_sats=limits.change_floor_sats,
            max_change_outputs=limits.change_max_outputs,
        ),
    )
    return facts if isinstance(facts, Refused) else (psbt, facts)

"""Draft the transaction of a withdrawal: our own coins, proven by previous transactions, and one change output."""

from __future__ import annotations

from coordinator.chain.port import ChainCoin
from coordinator.parts import Parts
from coordinator.spending import Change, Multisig, OwnCoin, Terms, choose
from custody.errors import CustodyError, Refused
from custody.facts import CHANGE_GAP, Facts, ShapeLimits, read_facts
from custody.follow import State, payments_of
from custody.psbt import Psbt, parse, serialize
from custody.signatures import SpendableCoin, build, without_signatures
from custody.transaction import parse_transaction
from custody.units import SatsPerVByte
from custody.wallet import CHANGE, RECEIVE, ScriptBook
from custody.withdrawal import RelationKind, Withdrawal

SCRIPTS_WATCHED = 100  # on each branch; discovery beyond it is a command of the operator


def watched_scripts(book: ScriptBook) -> dict[bytes, tuple[int, int]]:
    """Return the wallet's scripts whose coins are looked for, with their (branch, index)."""
    places = [(branch, index) for branch in (RECEIVE, CHANGE) for index in range(SCRIPTS_WATCHED)]
    return {book.script(*place).script: place for place in places}


async def own_coins(parts: Parts, book: ScriptBook) -> tuple[OwnCoin, ...]:
    """Return the confirmed coins of a wallet that no withdrawal holds, each proven by its previous transaction."""
    scripts = watched_scripts(book)
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
    asked_rate = max(await parts.chain.fee_rate_sat_vb(), limits.feerate_min_sat_vb, 1)
    terms = Terms(
        SatsPerVByte(min(asked_rate, limits.feerate_max_sat_vb)),
        withdrawal.max_fee_sats,
        Multisig(wallet.threshold, len(wallet.keys)),
    )
    required = await _coins_to_replace(parts, withdrawal, state, book)
    change = Change(book.script(CHANGE, index).script, index)
    spending = choose(await own_coins(parts, book), payments_of(withdrawal, parts.genesis), change, terms, required)
    if isinstance(spending, Refused):
        return spending
    coins = [
        SpendableCoin(own.coin.outpoint, parse_transaction(own.coin.previous_raw), own.branch, own.index)
        for own in spending.coins
    ]
    places = [(at, index) for at, output in enumerate(spending.outputs) if output.script == change.script]
    return serialize(build(book, coins, spending.outputs, places if spending.change_index is not None else ()))


async def _coins_to_replace(
    parts: Parts, withdrawal: Withdrawal, state: State, book: ScriptBook
) -> tuple[OwnCoin, ...]:
    """Return the coins of the newest release of what `withdrawal` supersedes: with them the two cannot both confirm."""
    if withdrawal.relation.kind is not RelationKind.SUPERSEDES:
        return ()
    released = state.releases_of(withdrawal.relation.digests[0])
    session = await parts.store.load(withdrawal.relation.digests[0])
    if not released or session is None or session.value.psbt is None:
        return ()
    psbt = parse(session.value.psbt)
    facts = read_facts(psbt, book, ShapeLimits(highest_change_index=state.highest_change_index(withdrawal.wallet_id)))
    if isinstance(facts, Refused):
        return ()
    found = []
    for fact, said in zip(facts.inputs, psbt.inputs, strict=True):
        raw = b"" if said.previous is None else said.previous.serialize()
        coin = ChainCoin(fact.outpoint, fact.amount_sats, fact.script, height=0, previous_raw=raw)
        found.append(OwnCoin(coin, fact.branch, fact.index))
    return tuple(found)


def read_client_psbt(raw: bytes) -> bytes:
    """Return a client's own PSBT without signatures, which travel beside it. Raises MalformedError as `parse`."""
    return serialize(without_signatures(parse(raw)))


def facts_of(
    session_psbt: bytes, withdrawal: Withdrawal, state: State, book: ScriptBook
) -> tuple[Psbt, Facts] | Refused:
    """Return our PSBT and what it does, proven as every signer proves it."""
    limits = state.policy.limits
    psbt = parse(session_psbt)
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

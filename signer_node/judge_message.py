"""Judge a bundle that asks for a message (BIP-322) in place of a payment. Pure, as `judge`.

The same proofs as for money: my log, my rules, the people's own signatures, cold signers first. What is signed is made
here from the text; a bundle that brings a transaction of its own is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from custody.approval import Approval, read_approval
from custody.bundle import Behind, Bundle
from custody.decide import Deny, MessageCase, Need, decide_message
from custody.errors import CustodyError, Refused
from custody.follow import State, advance, in_force, open_money_checkpoint, open_under, settled, time_of
from custody.genesis import GenesisWallet
from custody.held import Held, with_held
from custody.interval import Interval
from custody.message import Message, check_message, read_message
from custody.message_spend import MessageSpend, spend_of
from custody.people import Ballot, check_approval
from custody.policy.duties import SignersRequired
from custody.state import Logged
from custody.statements import Signed
from custody.wallet import ScriptBook
from signer_node.judge import is_mine
from signer_node.judge_log import interval_of, is_fresh, rules_stand
from signer_node.pinned import Moment, Pinned
from signer_node.signing_order import signers_in_order


@dataclass(frozen=True, slots=True)
class ClearedMessage:
    """Permission to sign exactly one message: made by `judge_message` and by nothing else.

    digests, paths, pubkeys: as in `judge.Cleared`.  txid: of to_sign, 32 bytes, wire order.  text: what people read.
    """

    withdrawal_digest: bytes
    txid: bytes
    release_index: int
    digests: tuple[bytes, ...]
    paths: tuple[tuple[int, int], ...]
    pubkeys: tuple[bytes, ...]
    lo: int
    raw_bundle: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class JudgedMessage:
    """outcome: may this node sign.  state: with the bundle's log part taken in, where it verified; else as before."""

    outcome: ClearedMessage | Refused | Behind
    state: State


def judge_message(
    bundle: Bundle,
    me: Pinned,
    state: State,
    moment: Moment,
    book: ScriptBook,
    held: Sequence[Held] = (),
    confirmed: frozenset[bytes] = frozenset(),
) -> JudgedMessage:
    """Return `ClearedMessage` if every step holds for `bundle`, else the first refusal.

    Args:
        bundle: as received, its `withdrawal` a signed message; nothing in it has been believed yet.
        me: what is pinned on this machine.
        state: followed from the money log so far.
        moment: this machine's time.
        book: script cache of the message's wallet; a cache only, it proves nothing.
        held: freezes and stops that reached this machine beside the log.
        confirmed: digests (32 bytes) whose code was typed on this machine.
    """
    # Plan: 0 mine · 1 log, time, rules · 2 the message is logged and is its initiator's · 3 to_sign, made here
    #       · 4 people · 5 policy, cold first.
    advanced = state
    try:
        if refused := is_mine(bundle, me):
            return JudgedMessage(refused, state)
        if bundle.log.first > state.size:
            return JudgedMessage(Behind(state.size), state)
        advanced = advance(state, bundle.log.from_size(state.size), bundle.log.by_digest(), bundle.log.note)
        return JudgedMessage(_judged(bundle, me, with_held(advanced, held), moment, book, confirmed), advanced)
    except CustodyError as error:  # what cannot be read or contradicts itself is refused like what is not allowed
        return JudgedMessage(Refused(error.code, "what protocol.md says of it", error.message), advanced)


def _judged(
    bundle: Bundle, me: Pinned, state: State, moment: Moment, book: ScriptBook, confirmed: frozenset[bytes]
) -> ClearedMessage | Refused:
    vouched, fresh = open_under(state, bundle.log.note)
    time = interval_of(vouched, fresh, moment)
    if refused := is_fresh(vouched, me, fresh, moment, time):
        return refused
    settled_state = _settled(bundle, state, time)
    if isinstance(settled_state, Refused):
        return settled_state
    if refused := rules_stand(settled_state, me, time):
        return refused
    message = read_message(bundle.withdrawal)
    logged = _logged(settled_state, bundle, message, time)
    if isinstance(logged, Refused):
        return logged
    made = _spend(bundle, me, settled_state, message, book)
    if isinstance(made, Refused):
        return made
    spend, wallet = made
    agreed = _allowed(bundle, me, settled_state, spend, logged, time, confirmed)
    if isinstance(agreed, Refused):
        return agreed
    return _cold_first(bundle, me, settled_state, spend, wallet, agreed) or _cleared(bundle, me, spend, wallet, time)


def _settled(bundle: Bundle, state: State, time: Interval) -> State | Refused:
    """Return the state with every entry's T, under the rules of lo."""
    vouched, covering = open_under(state, bundle.covering)
    fresh = open_money_checkpoint(state, bundle.log.note).checkpoint
    if (covering.checkpoint.size, covering.checkpoint.root) != (fresh.size, fresh.root):
        found = f"size {covering.checkpoint.size}"
        return Refused("COVERING_OTHER", "the first checkpoint of the same log size", found)
    return in_force(settled(vouched, time_of(covering)), time.lo)


def _logged(state: State, bundle: Bundle, message: Message, time: Interval) -> Logged | Refused:
    """Step 2: the MESSAGE entry is in my log and counts; initiator and dates hold; nobody stopped it."""
    found = next((entry for entry in state.messages if entry.index == bundle.release_index), None)
    if found is None or found.digest != message.digest:
        return Refused("MESSAGE_UNLOGGED", f"this message at entry {bundle.release_index}, by its initiator", "none")
    if refused := check_message(state.policy, message, bundle.withdrawal, state.genesis.hash, found.t):
        return refused
    if time.hi >= message.expires_at:
        return Refused("MESSAGE_EXPIRED", f"before {message.expires_at}", str(time.hi))
    if stop := next((stop for stop in state.stops if stop.withdrawal_digest == message.digest), None):
        return Refused("STOPPED", "no stop of this message in the log", f"{stop.cause.value} by {stop.by}")
    return found


def _spend(
    bundle: Bundle, me: Pinned, state: State, message: Message, book: ScriptBook
) -> tuple[MessageSpend, GenesisWallet] | Refused:
    """Step 3: to_sign of a wallet that I hold a key of and pinned, made here; nothing of it comes from outside."""
    wallet = state.genesis.wallet(message.wallet_id)
    if wallet is None or wallet.key_index(me.node) is None:
        return Refused("WALLET_OTHER", f"a wallet that node {me.node} holds a key of", message.wallet_id.hex())
    if wallet.document and wallet.document not in me.wallets:
        return Refused("WALLET_UNPINNED", f"wallet {wallet.name} pinned on node {me.node}", "in the log alone")
    if bundle.psbt:
        return Refused("MESSAGE_PSBT", "no transaction: this node makes to_sign itself", "one")
    own = book if book.wallet.wallet_id == message.wallet_id else ScriptBook(wallet.wallet)
    spend = spend_of(message, own)
    return spend if isinstance(spend, Refused) else (spend, wallet)


def _allowed(
    bundle: Bundle,
    me: Pinned,
    state: State,
    spend: MessageSpend,
    logged: Logged,
    time: Interval,
    confirmed: frozenset[bytes],
) -> SignersRequired | Refused:
    """Steps 4 and 5: each approval is proven, my rules say Allow, its delay has run since the entry.

    Returns what the rules ask of signers.
    """
    message = spend.message
    approvals = tuple((read_approval(signed), signed) for signed in bundle.approvals)
    if refused := _people(state, message, approvals, logged.t):
        return refused
    decision = decide_message(state.policy, MessageCase(message, message.format, approvals, time, logged.t))
    if isinstance(decision, Deny):
        return decision.refused
    if isinstance(decision, Need):
        lack = decision.missing[0]
        return Refused("APPROVALS_MISSING", f"{lack.needed} more of {lack.of} by rule {lack.rule}", f"{len(lack.have)}")
    if decision.local_conf and message.digest not in confirmed:
        return Refused("LOCAL_CONF_MISSING", f"the code of this message, typed at {me.node}", "none")
    ends = logged.t + decision.delay.seconds  # its entry is its notice
    if time.lo < ends:
        return Refused("DELAY_RUNNING", f"{ends} or later", str(time.lo))
    age_s, longest_s = time.hi - ends, state.policy.limits.bundle_max_age_s
    if age_s > longest_s:
        return Refused("MESSAGE_STALE", f"an entry at most {longest_s} s old", f"{age_s} s")
    return decision.signers


def _people(state: State, message: Message, approvals: tuple[tuple[Approval, Signed], ...], at: int) -> Refused | None:
    people: set[str] = set()
    for approval, signed in approvals:
        ballot = check_approval(state.policy, message, approval, signed, at)
        if not isinstance(ballot, Ballot):
            return ballot
        if ballot.person in people:
            return Refused("APPROVAL_DUPLICATE_PERSON", "one approval of each person", f"two of {ballot.person}")
        people.add(ballot.person)
    return None


def _cold_first(
    bundle: Bundle,
    me: Pinned,
    state: State,
    spend: MessageSpend,
    wallet: GenesisWallet,
    required: SignersRequired,
) -> Refused | None:
    accepted = spend.accept(bundle.signatures)
    signed = {slot.node for at, slot in enumerate(wallet.slots) if slot.node is not None and at in accepted.signed}
    return signers_in_order(me.node, state.policy, wallet, required, signed)


def _cleared(bundle: Bundle, me: Pinned, spend: MessageSpend, wallet: GenesisWallet, time: Interval) -> ClearedMessage:
    key_index = wallet.key_index(me.node)
    assert key_index is not None  # noqa: S101 - `_spend` refused what I hold no key of
    return ClearedMessage(
        withdrawal_digest=spend.message.digest,
        txid=spend.txid,
        release_index=bundle.release_index,
        digests=spend.digests,
        paths=spend.paths,
        pubkeys=spend.pubkeys(key_index),
        lo=time.lo,
        raw_bundle=bundle.raw,
        message=spend.message,
    )

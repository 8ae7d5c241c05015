"""Judge a bundle: decide whether this signer may sign.

Pure: no clock, network, file or log. `judge` is the only maker of `Cleared`, and a backend signs nothing else.
It does not choose coins, talk to a vault or remember anything; `custody.follow` holds the state it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from custody.approval import Approval, read_approval
from custody.bundle import Behind, Bundle
from custody.decide import Allow, Deny, check_feerate, decide
from custody.decide import Case as PolicyCase
from custody.entries import Release
from custody.errors import CustodyError, Refused
from custody.facts import Facts, ShapeLimits, check_matches, own_payees, read_facts
from custody.follow import State, advance, family_of, open_under
from custody.genesis import GenesisWallet
from custody.held import Held, with_held
from custody.interval import Interval
from custody.once import OwnSignature, pays_once
from custody.people import verify_people
from custody.policy.duties import Delay, SignersRequired
from custody.psbt import Psbt, parse
from custody.release import release_of
from custody.signatures import accept, sighashes
from custody.statements import Signed
from custody.transaction import OutPoint
from custody.wallet import ScriptBook
from custody.withdrawal import Withdrawal, read_withdrawal
from signer_node.judge_log import interval_of, is_fresh, release_is_logged, rules_stand
from signer_node.pinned import Moment, Pinned
from signer_node.signing_order import signers_in_order

__all__ = ["Case", "Cleared", "Judged", "Moment", "Pinned", "is_mine", "judge", "policy_case", "prove"]


@dataclass(frozen=True, slots=True)
class Cleared:
    """Permission to sign exactly these digests: made by `judge` and by nothing else.

    digests: 32 bytes per input.  paths: (branch, index) per input.  pubkeys: this node's own key per input, 33 bytes,
        or 32 (x-only) in taproot.
    release: as it stands in the log, equal in every field to the transaction.
    """

    withdrawal_digest: bytes
    family: bytes
    txid: bytes
    release_index: int
    outpoints: frozenset[OutPoint]
    digests: tuple[bytes, ...]
    paths: tuple[tuple[int, int], ...]
    pubkeys: tuple[bytes, ...]
    lo: int
    raw_bundle: bytes
    release: Release


@dataclass(frozen=True, slots=True)
class Judged:
    """outcome: may this node sign.  state: with the bundle's log part taken in, where it verified; else as before."""

    outcome: Cleared | Refused | Behind
    state: State


@dataclass(frozen=True, slots=True)
class Case:
    """What the steps read: the bundle, and what earlier steps have proven of it.

    state: settled, so that every entry has its T.  t: T(RELEASE).
    """

    bundle: Bundle
    me: Pinned
    state: State
    mine: tuple[OwnSignature, ...]
    time: Interval
    wallet: GenesisWallet
    key_index: int
    withdrawal: Withdrawal
    approvals: tuple[tuple[Approval, Signed], ...]
    entry_time: int
    release: Release
    t: int
    psbt: Psbt
    facts: Facts
    book: ScriptBook
    digests: tuple[bytes, ...]
    confirmed: frozenset[bytes] = frozenset()


def judge(
    bundle: Bundle,
    me: Pinned,
    state: State,
    moment: Moment,
    mine: tuple[OwnSignature, ...],
    book: ScriptBook,
    held: Sequence[Held] = (),
    confirmed: frozenset[bytes] = frozenset(),
) -> Judged:
    """Return `Cleared` if every step of protocol.md "judge" holds for `bundle`, else the first refusal.

    Args:
        bundle: as received; nothing in it has been believed yet.
        me: what is pinned on this machine.
        state: followed from the money log so far.
        moment: this machine's time.
        mine: what this node signed before.
        book: script cache of the bundle's wallet; a cache only, it proves nothing.
        held: freezes and stops that reached this machine beside the log: they count at once, logged or not.
        confirmed: digests (32 bytes) of the withdrawals whose code was typed on this machine.
    """
    # Plan: 0 mine · 2 log (first, since rules, freezes and releases are read from it) · 1 rules · 3 coins · 4 shape
    #       · 5 people, cold first · 6 policy · 7 not a second payment.
    advanced = state
    try:
        if refused := is_mine(bundle, me):
            return Judged(refused, state)
        if bundle.log.first > state.size:
            return Judged(Behind(state.size), state)
        advanced = advance(state, bundle.log.from_size(state.size), bundle.log.by_digest(), bundle.log.note)
        case = prove(bundle, me, with_held(advanced, held), moment, mine, book)
        if isinstance(case, Refused):
            return Judged(case, advanced)
        case = replace(case, confirmed=confirmed)
        steps = (shape_is_asked, people_agreed, policy_allows, is_paid_once)
        for step in steps:  # first refusal wins: later steps may rely on what earlier ones proved
            if refused := step(case):
                return Judged(refused, advanced)
        return Judged(_clear(case), advanced)
    except CustodyError as error:  # what cannot be read or contradicts itself is refused like what is not allowed
        return Judged(Refused(error.code, "what protocol.md says of it", error.message), advanced)


def is_mine(bundle: Bundle, me: Pinned) -> Refused | None:
    """Step 0: made for this node, under the genesis that this node pinned (versions and sizes: `parse_bundle`)."""
    if bundle.genesis != me.genesis.hash:
        return Refused("GENESIS_OTHER", me.genesis.hash.hex(), bundle.genesis.hex())
    if bundle.node != me.node:
        return Refused("NODE_OTHER", me.node, bundle.node)
    return None


def prove(
    bundle: Bundle, me: Pinned, state: State, moment: Moment, mine: tuple[OwnSignature, ...], book: ScriptBook
) -> Case | Refused:
    """Steps 2, 1 and 3: time, rules, the logged release, and the coins; everything later steps stand on."""
    vouched, fresh = open_under(state, bundle.log.note)
    time = interval_of(vouched, fresh, moment)
    if refused := is_fresh(vouched, me, fresh, moment, time):
        return refused
    logged = release_is_logged(bundle, state, time)
    if isinstance(logged, Refused):
        return logged
    settled_state, entry_time, release, t = logged
    if refused := rules_stand(settled_state, me, time):  # settled: an unfreeze at the log's end counts from its T
        return refused
    withdrawal = read_withdrawal(bundle.withdrawal)
    wallet = settled_state.genesis.wallet(withdrawal.wallet_id)
    key_index = None if wallet is None else wallet.key_index(me.node)
    if wallet is None or key_index is None:
        return Refused("WALLET_OTHER", f"a wallet that node {me.node} holds a key of", withdrawal.wallet_id.hex())
    if wallet.document and wallet.document not in me.wallets:
        return Refused("WALLET_UNPINNED", f"wallet {wallet.name} pinned on node {me.node}", "in the log alone")
    if book.wallet.wallet_id != wallet.wallet.wallet_id:
        book = ScriptBook(wallet.wallet)  # the log of this very bundle may have added it
    psbt = parse(bundle.psbt, book.known)
    facts = read_facts(psbt, book, shape_limits(settled_state, withdrawal, bundle.release_index))
    if isinstance(facts, Refused):
        return facts
    approvals = tuple((read_approval(signed), signed) for signed in bundle.approvals)
    return Case(
        bundle=bundle,
        me=me,
        state=settled_state,
        mine=mine,
        time=time,
        wallet=wallet,
        key_index=key_index,
        withdrawal=withdrawal,
        approvals=approvals,
        entry_time=entry_time,
        release=release,
        t=t,
        psbt=psbt,
        facts=facts,
        book=book,
        digests=sighashes(psbt, facts, book),
    )


def shape_limits(state: State, withdrawal: Withdrawal, release_index: int) -> ShapeLimits:
    """Return the bounds on change that hold for `withdrawal`, released at `release_index`, under the rules in force."""
    limits = state.policy.limits
    return ShapeLimits(
        highest_change_index=state.highest_change_index(withdrawal.wallet_id, before=release_index),
        change_floor_sats=limits.change_floor_sats,
        max_change_outputs=limits.change_max_outputs,
    )


def shape_is_asked(case: Case) -> Refused | None:
    """Step 4: the transaction is what was asked and what was logged, at a fee inside every bound."""
    withdrawal, facts, policy = case.withdrawal, case.facts, case.state.policy
    if withdrawal.genesis != case.me.genesis.hash:
        return Refused("GENESIS_OTHER", case.me.genesis.hash.hex(), withdrawal.genesis.hex())
    if policy.version < withdrawal.rules_floor:
        return Refused("RULES_FLOOR", f"rules version >= {withdrawal.rules_floor}", str(policy.version))
    if case.time.hi >= withdrawal.expires_at:
        return Refused("WITHDRAWAL_EXPIRED", f"before {withdrawal.expires_at}", str(case.time.hi))
    if refused := check_matches(withdrawal, facts, case.wallet.wallet):
        return refused
    if refused := check_feerate(policy.limits, facts.fee_sats, facts.vsize_vb):
        return refused
    family = family_of(case.state, withdrawal)
    digests = tuple(approval.digest for approval, _ in case.approvals)
    if family is None or case.release != release_of(withdrawal, digests, facts, family, case.entry_time):
        return Refused("RELEASE_MISMATCH", "a release of exactly this transaction", "another")
    return None


def people_agreed(case: Case) -> Refused | None:
    """Step 5, first half: the initiator asked, the approvers named in the RELEASE agreed, nobody stopped it."""
    if stop := case.state.is_stopped(case.withdrawal):
        return Refused("STOPPED", "no stop of this withdrawal in the log", f"{stop.cause.value} by {stop.by}")
    return verify_people(case.state.policy, case.withdrawal, case.bundle.withdrawal, case.approvals, case.t)


def policy_allows(case: Case) -> Refused | None:
    """Step 6: my rules say Allow, counting every admissible release; then step 5, second half: cold first."""
    decision = decide(case.state.policy, policy_case(case))
    if isinstance(decision, Deny):
        return decision.refused
    if not isinstance(decision, Allow):
        lack = decision.missing[0]
        return Refused("APPROVALS_MISSING", f"{lack.needed} more of {lack.of} by rule {lack.rule}", f"{len(lack.have)}")
    if vetoed := case.state.vetoed_by(case.withdrawal, decision.delay.vetoes):
        return Refused("STOPPED", "no veto by as many as the rules say", f"vetoes by {', '.join(vetoed)}")
    if decision.local_conf and case.withdrawal.digest not in case.confirmed:
        return Refused("LOCAL_CONF_MISSING", f"the code of this withdrawal, typed at {case.me.node}", "none")
    return delay_is_over(case, decision.delay) or cold_signed_first(case, decision.signers)


def delay_is_over(case: Case, delay: Delay) -> Refused | None:
    """The wait that the rules ask for runs from T of the first NOTICE of this withdrawal, and ends by lo."""
    if not delay.seconds:
        return None
    noticed = [t for digest, t in case.state.notices if digest == case.withdrawal.digest]
    if not noticed:
        return Refused("DELAY_NOT_STARTED", f"a NOTICE {delay.seconds} s ago", "none")
    ends = min(noticed) + delay.seconds
    return None if case.time.lo >= ends else Refused("DELAY_RUNNING", f"{ends} or later", str(case.time.lo))


def policy_case(case: Case) -> PolicyCase:
    """Return what the policy language judges, read from the proven case."""
    return PolicyCase(
        withdrawal=case.withdrawal,
        facts=case.facts,
        approvals=case.approvals,
        family=case.release.family,
        families=case.state.spent,
        time=case.time,
        t_release=case.t,
        own_scripts=own_payees(case.facts, case.book),
    )


def cold_signed_first(case: Case, required: SignersRequired) -> Refused | None:
    """A node signs only behind valid signatures, on every input, of all who come before it: offline, included, rest."""
    return signers_in_order(case.me.node, case.state.policy, case.wallet, required, _signed_nodes(case))


def _signed_nodes(case: Case) -> set[str]:
    """Return the nodes whose signatures in the bundle are valid over this transaction on every input."""
    accepted = accept(case.psbt, case.facts, case.book, case.bundle.signatures)
    return {slot.node for at, slot in enumerate(case.wallet.slots) if slot.node is not None and at in accepted.signed}


def is_paid_once(case: Case) -> Refused | None:
    """Step 7: `custody.once`, over the log and over what this node signed itself."""
    return pays_once(
        case.withdrawal, case.facts, case.state, case.time.lo, release_index=case.bundle.release_index, mine=case.mine
    )


def _clear(case: Case) -> Cleared:
    facts = case.facts
    paths = tuple((fact.branch, fact.index) for fact in facts.inputs)
    return Cleared(
        withdrawal_digest=case.withdrawal.digest,
        family=case.release.family,
        txid=facts.txid,
        release_index=case.bundle.release_index,
        outpoints=facts.outpoints,
        digests=case.digests,
        paths=paths,
        pubkeys=tuple(script.pubkeys[case.key_index] for script in case.book.of(facts.inputs)),
        lo=case.time.lo,
        raw_bundle=case.bundle.raw,
        release=case.release,
    )

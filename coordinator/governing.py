"""What changes the rules, on its way: proposed, signed one by one, logged once complete, in effect in time.

Nothing is decided here: every signer judges a document again by the admins of the version that it replaces. What is
half signed lives in the store's memory and in no log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.parts import Parts
from coordinator.posted import take_in
from coordinator.store.port import Change, Event
from coordinator.witnesses import NodeWitness
from custody.audit import Log
from custody.canonical import Json, decode, encode
from custody.entries import EntryKind
from custody.errors import IntegrityError, Refused
from custody.fields import Fields
from custody.follow import State
from custody.governing import PENDING_EXPIRY_S, Rules, read_rules
from custody.policy import Policy
from custody.policy.diff import diff
from custody.rule_entry import RULE_KINDS, Standing, may_sign, rule_fits, rule_refused, standing_of
from custody.statements import Kind, Signed
from custody.units import MAX_TIME_S

MAX_PROPOSALS = 16  # documents that people work on at one time; more is a flood by one who may propose
_INDEX = "rules/proposed"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A document that is not in the log. first_at: UTC seconds, when it came here."""

    signed: Signed
    first_at: int

    def name(self) -> str:
        """Under which the store remembers it."""
        return _name(self.signed.digest)


async def propose(parts: Parts, signed: Signed, actor: str) -> Proposal | Refused:
    """Take in a document, or one more signature of it; log it once enough admins of the rules in force signed.

    Args:
        parts: of this coordinator.
        signed: with valid endorsements only; whose they are is judged here.
        actor: who sent it, for the event.
    """
    # Plan: 1 the next version, by admins only · 2 with what is signed already · 3 complete: by every rule, and logged.
    async with parts.governing:
        now = parts.clock.now()
        state = await parts.followed.state(now)
        if refused := _check(state, signed, now):
            return refused
        known = await proposals(parts, state, now)
        proposal = _merged(known, signed, now)
        if len({*(p.signed.digest for p in known), signed.digest}) > MAX_PROPOSALS:
            return Refused("RULES_TOO_MANY", f"at most {MAX_PROPOSALS} documents that wait for signatures", "more")
        standing = standing_of(state, proposal.signed, now)
        if standing.is_complete and (refused := rule_refused(state, proposal.signed, now)):
            return refused
        await _remember(parts, known, proposal, actor, (state, standing))
        if not standing.is_complete:
            return proposal
        refused = await take_in(parts, proposal.signed, actor)
    await keep(parts)
    return proposal if refused is None else refused


async def proposals(parts: Parts, state: State, now: int) -> tuple[Proposal, ...]:
    """Return the documents that still wait for signatures: those that fit, at most a week old, oldest first."""
    index = await parts.store.recall(_INDEX)
    found = []
    for digest in () if index is None else _digests(index):
        raw = await parts.store.recall(_name(digest))
        if raw is None:
            raise IntegrityError("RULES_LOST", f"expected the proposed rules {digest.hex()[:16]} in the store")
        proposal = _read(raw)
        is_live = now < proposal.first_at + PENDING_EXPIRY_S and rule_fits(state, proposal.signed) is None
        if is_live and all(waiting.policy.hash != digest for waiting in state.rules.waiting):
            found.append(proposal)
    return tuple(found)


async def document_of(parts: Parts, policy: Policy) -> Signed:
    """Return the document of a version that is or was in force, or waits in the log, with its signatures.

    Raises:
        IntegrityError: MISSING_BODY: it is not in the store.
    """
    if policy.hash == parts.genesis.policy.hash:
        return Signed(Kind.RULES, parts.genesis.rules_document, ())  # the genesis holds it, and its signatures
    found = (await parts.store.bodies([policy.hash])).get(policy.hash)
    if not isinstance(found, Signed):
        raise IntegrityError("MISSING_BODY", f"expected the rules {policy.hash.hex()[:16]} in the store")
    return found


async def keep(parts: Parts) -> None:
    """Let everybody see T of a rule document without waiting for the next entry, and turn to the keys in force.

    A rule document's delay runs from its T, which stands in the WITNESS entry behind it: so one is written at once.
    """
    parts.admit((await parts.followed.state(parts.clock.now())).genesis.wallets)
    tail = (await parts.followed.unsettled()).tail
    if any(pending.entry.kind is EntryKind.RULE for pending in tail) and await parts.logs.fresh(Log.MONEY):
        await parts.store.record(Change(parts.clock.now(), cover=True))
        await parts.logs.fresh(Log.MONEY)
    turn_keys(parts, (await parts.followed.state(parts.clock.now())).rules)


def turn_keys(parts: Parts, rules: Rules) -> None:
    """Sign and have checkpoints vouched for by the keys in force; nodes that became witnesses are asked.

    Raises:
        IntegrityError: LOG_KEY_OTHER: this coordinator was not given the log key that the rules pin.
    """
    roots = rules.policy.roots
    by_key = {node.witness_key: node.name for node in roots.nodes if node.witness_key is not None}
    nodes = {w.name: NodeWitness(by_key[w.key], parts.outbox) for w in roots.witnesses if w.key in by_key}
    parts.logs.turn_to(roots, rules.waiting[0].due if rules.waiting else MAX_TIME_S, nodes)


def _check(state: State, signed: Signed, now: int) -> Refused | None:
    """Return why `signed` is nothing that may be signed now, or carries no signature by anybody who may."""
    if signed.kind not in RULE_KINDS:
        return Refused("STATEMENT_KIND", "rules, a wallet or a void", signed.kind.name)
    if refused := rule_fits(state, signed):
        return refused
    standing = standing_of(state, signed, now)
    if not standing.have:
        return Refused("RULES_SIGNER", f"a signature by one of {', '.join(standing.groups)}", "none")
    keys = may_sign(state, signed, standing.groups)
    if any(endorsement.key not in keys for endorsement in signed.endorsements):
        return Refused("RULES_SIGNER", f"signatures by {', '.join(standing.groups)} alone", "another key")
    return None


def _merged(known: tuple[Proposal, ...], signed: Signed, now: int) -> Proposal:
    before = next((proposal for proposal in known if proposal.signed.digest == signed.digest), None)
    if before is None:
        return Proposal(signed, now)
    keys = {endorsement.key for endorsement in before.signed.endorsements}
    more = tuple(endorsement for endorsement in signed.endorsements if endorsement.key not in keys)
    return replace(before, signed=replace(signed, endorsements=before.signed.endorsements + more))


async def _remember(
    parts: Parts, known: tuple[Proposal, ...], proposal: Proposal, actor: str, found: tuple[State, Standing]
) -> None:
    """Keep the proposal and tell auditors who put forward what."""
    state, standing = found
    signed = proposal.signed
    verdict = diff(state.policy, read_rules(signed)).verdict.value if signed.kind is Kind.RULES else signed.kind.name
    fields: dict[str, Json] = {"rules": signed.digest.hex(), "verdict": verdict, "signed": ",".join(standing.have)}
    await parts.store.record(Change(parts.clock.now(), events=(Event("rules.proposed", actor, fields),)))
    raw = encode({"first_at": proposal.first_at, "signed": signed.to_json()})
    await parts.store.remember(proposal.name(), raw)
    digests = dict.fromkeys([*(p.signed.digest for p in known), signed.digest])
    await parts.store.remember(_INDEX, encode([digest.hex() for digest in digests]))


def _read(raw: bytes) -> Proposal:
    fields = Fields(decode(raw), "proposal")
    proposal = Proposal(Signed.from_json(fields.any("signed")), fields.time("first_at"))
    fields.done()
    return proposal


def _digests(raw: bytes) -> tuple[bytes, ...]:
    items = Fields({"digests": decode(raw)}, "proposals").items("digests", MAX_PROPOSALS)
    return tuple(Fields({"digest": item}, "proposals").hex("digest", 32) for item in items)


def _name(digest: bytes) -> str:
    return f"rules/{digest.hex()}"

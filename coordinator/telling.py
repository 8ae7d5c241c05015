"""What the coordinator alone can say of a withdrawal: measured where a rule asks, and not known where it cannot be.

Nothing of it is proof of anything: such rules may only hold back, and signers skip them by name. What is not known
denies (custody.policy.evaluate).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from coordinator.drafting import watched_scripts
from coordinator.parts import Parts
from coordinator.session import Session
from custody.canonical import decode, encode
from custody.credentials import proofs_by
from custody.facts import Facts
from custody.follow import State
from custody.policy import Policy
from custody.policy.match import leaves
from custody.policy.subject import CoordinatorFacts
from custody.policy.terms import ChainTerm, ConfirmationsTerm, SessionTerm, Term, WalletShareTerm, ZoneTimeTerm
from custody.statements import ED25519, SSH
from custody.wallet import ScriptBook
from custody.withdrawal import read_withdrawal

CERTIFICATE = "certificate"  # every call comes over mTLS: the factor that each session has
_FACTORS = {ED25519: "ed25519", SSH: "ssh"}  # of the key that signed the withdrawal; all others are passkeys


@dataclass(frozen=True, slots=True)
class HandedIn:
    """The call that handed a withdrawal in first. ip: of the peer, a proxy's where there is one."""

    ip: str
    role: str

    @staticmethod
    def over(role: str, peer: str) -> HandedIn:
        """Return it for a call by a certificate of `role` from `peer`, as gRPC writes it: "ipv4:127.0.0.1:5000"."""
        host = unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")
        try:
            address = ip_address(host)
        except ValueError:
            return HandedIn("", role)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return HandedIn(str(mapped or address), role)


def asked_by(policy: Policy) -> tuple[Term, ...]:
    """Return every matcher of the rules, whatever joins them."""
    return tuple(leaf for rule in policy.rules for leaf in leaves(rule.match))


async def remember(parts: Parts, digest: bytes, policy: Policy, handed_in: HandedIn) -> None:
    """Keep who handed a withdrawal in, where a rule asks: addresses of people are not collected for nothing."""
    if any(isinstance(term, SessionTerm) for term in asked_by(policy)):
        await parts.store.remember(_name(digest), encode([handed_in.ip, handed_in.role]))


async def told(
    parts: Parts, state: State, session: Session, facts: Facts, book: ScriptBook, now: int
) -> CoordinatorFacts:
    """Return what the coordinator measures of `session` at `now` (UTC seconds), as far as a rule asks.

    Raises:
        UnavailableError: the chain is away.
    """
    asked = asked_by(state.policy)
    found = CoordinatorFacts(offsets_s=offsets_at(asked, now))
    if any(isinstance(term, SessionTerm) for term in asked):
        found = await _of_session(parts, state.policy, session, found)
    if any(isinstance(term, ChainTerm) for term in asked):
        found = replace(found, lag_blocks=await parts.chain.lag_blocks())
    if any(isinstance(term, WalletShareTerm | ConfirmationsTerm) for term in asked):
        found = await _of_coins(parts, state, facts, book, found)
    return found


def offsets_at(asked: tuple[Term, ...], now: int) -> dict[str, int]:
    """Return by name how many seconds east of UTC each zone is that `asked` names; left out where nobody knows it."""
    found: dict[str, int] = {}
    for zone in sorted({term.zone for term in asked if isinstance(term, ZoneTimeTerm)}):
        try:
            offset = dt.datetime.fromtimestamp(now, ZoneInfo(zone)).utcoffset()
        except (LookupError, ValueError, OSError):  # no such zone on this machine
            continue
        if offset is not None:
            found[zone] = int(offset.total_seconds())
    return found


async def _of_session(parts: Parts, policy: Policy, session: Session, found: CoordinatorFacts) -> CoordinatorFacts:
    """Add the call that handed it in, where it was kept, and the kind of key that signed the withdrawal."""
    kept = await parts.store.recall(_name(session.digest))
    told_by = None if kept is None else decode(kept)
    if not isinstance(told_by, list):
        return found
    ip, role = (str(item) for item in told_by)
    return replace(found, factors=factors_of(policy, session), ip=ip or None, cert_role=role)


def factors_of(policy: Policy, session: Session) -> frozenset[str]:
    """Return by what the initiator showed who he is: the call's certificate, and the kinds of key that signed."""
    initiator = policy.principal(read_withdrawal(session.withdrawal).initiator)
    proofs = () if initiator is None else proofs_by(initiator, session.withdrawal)
    kinds = {_FACTORS.get(proof.credential.alg, "passkey") for proof in proofs}
    bound = {"device-bound"} if any(proof.credential.device_bound for proof in proofs) else set()
    return frozenset({CERTIFICATE, *kinds, *bound})


async def _of_coins(
    parts: Parts, state: State, facts: Facts, book: ScriptBook, found: CoordinatorFacts
) -> CoordinatorFacts:
    scripts = watched_scripts(book, state.highest_change_index(book.wallet.wallet_id))
    coins = {coin.outpoint: coin for coin in await parts.chain.coins(tuple(scripts))}
    tip = await parts.chain.height()
    spent = [coins.get(outpoint) for outpoint in facts.outpoints]
    return replace(
        found,
        wallet_sats=sum(coin.amount_sats for coin in coins.values()),
        confirmations=min((0 if coin is None else tip - coin.height + 1 for coin in spent), default=None),
    )


def _name(digest: bytes) -> str:
    return f"handed-in/{digest.hex()}"

"""What a person reads before signing: made here, from the statement and the pinned rules, addresses whole."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace

from console.drafts import names_of
from custody.address import address_of, script_of
from custody.canonical import tagged_hash
from custody.errors import MalformedError
from custody.follow import Released
from custody.genesis import Genesis, GenesisWallet, Slot, node_identities
from custody.policy import ChangeQuorum, Policy
from custody.quorum import key_holders
from custody.units import Sats, btc_text
from custody.wallet import RECEIVE
from custody.withdrawal import RelationKind, Withdrawal
from custody.words import word_rows, words

KEY_TAG = "keyturn/key/v1"  # fingerprint words of a public key: of nothing else


def utc(seconds: int) -> str:
    """Return a time as people read it: "2026-11-25 13:50:00 UTC"."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError):
        return f"{seconds} s after 1970"


def span(seconds: int) -> str:
    """Return a length of time in its largest fitting unit: "3 h", "45 s"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def btc(amount: int) -> str:
    """Return an amount as people read it: "1.50000000 BTC"."""
    return f"{btc_text(Sats(amount))} BTC"


def address_groups(address: str) -> str:
    """Return `address` whole, in groups of four: no part of it stands out, so no part is skipped."""
    return " ".join(address[at : at + 4] for at in range(0, len(address), 4))


def key_words(public_key: bytes) -> str:
    """Return the 12 words of a public key (32 bytes), as its owner reads them out at enrolment."""
    return " ".join(words(tagged_hash(KEY_TAG, public_key)))


def word_lines(digest: bytes) -> list[str]:
    """Return the 12 words of a digest (32 bytes) as three indented lines."""
    return [f"      {row}" for row in word_rows(digest).splitlines()]


def withdrawal_lines(
    withdrawal: Withdrawal, policy: Policy, genesis: Genesis, paid_before: Sequence[Released], now: int
) -> list[str]:
    """Return the page of one withdrawal.

    Args:
        withdrawal: from its own bytes.
        policy: the rules that name destinations.
        genesis: pinned.
        paid_before: releases that already pay the same.
        now: UTC seconds.
    """
    wallet = genesis.wallet(withdrawal.wallet_id)
    name = wallet.name if wallet is not None else f"UNKNOWN {withdrawal.wallet_id.hex()}"
    lines = [f"Withdrawal {withdrawal.withdrawal_id} from wallet {name} on {withdrawal.network}"]
    lines += [f"asked by {withdrawal.initiator} at {utc(withdrawal.created_at)}", ""]
    for payment in withdrawal.payments:
        lines += [f"  pay {btc(payment.amount_sats)}  ({payment.amount_sats:,} sats) to"]
        lines += [f"      {address_groups(payment.address)}"]
        lines += [f"      {found}" for found in _names(payment.address, policy, genesis, now)]
        lines += [f"      requester says: {json.dumps(payment.label, ensure_ascii=False)}"] if payment.label else []
    if not withdrawal.payments:
        lines.append("  pay nobody: the coins come back to the wallet")
    lines += [
        f"  fee at most {btc(withdrawal.max_fee_sats)}, so at most {btc(withdrawal.amount_sats)} leave",
        f"  {_relation_words(withdrawal)}",
        f"  valid until {utc(withdrawal.expires_at)} (in {span(withdrawal.expires_at - now)})",
    ]
    if withdrawal.pinned_txid is not None:
        lines.append(f"  exactly transaction {withdrawal.pinned_txid[::-1].hex()} and no other")
    lines += [
        f"  ALREADY PAID on {utc(found.t)} by {found.release.withdrawal_id} of {found.release.initiator}"
        for found in paid_before
        if found.release.withdrawal_digest != withdrawal.digest
    ]
    return [*lines, "", f"  digest {withdrawal.digest.hex()}", *word_lines(withdrawal.digest)]


def wallet_lines(wallet: GenesisWallet) -> list[str]:
    """Return a wallet as people compare it: its keys, who holds them, its first address."""
    first = address_of(wallet.wallet.script(RECEIVE, 0).script, wallet.wallet.network)
    form = wallet.wallet.template.form
    lines = [f"  wallet {wallet.name}: {wallet.wallet.threshold} of {len(wallet.slots)}, {form}"]
    lines += [line for slot in wallet.slots for line in _slot_lines(slot)]
    return [*lines, f"    first address {address_groups(first)}"]


def genesis_lines(genesis: Genesis) -> list[str]:
    """Return the page of a genesis: what everybody who signs or pins it confirms."""
    roots, admin = genesis.policy.roots, genesis.policy.admin
    lines = [
        f"Genesis on {genesis.network.value} ({genesis.purpose.value}), rules of {utc(genesis.policy.effective_from)}"
    ]
    for wallet in genesis.wallets:
        lines += ["", *wallet_lines(wallet)]
    lines += ["", f"  witnesses: {roots.w} of {len(roots.witnesses)} cosign, {roots.f} may lie"]
    quorum = admin.change_quorum
    lines += [f"  rules change: {quorum_words(quorum)}, after {span(admin.loosen_delay_s)}"]
    lines += ["", "  people and services, with the words of their keys:"]
    for principal in genesis.policy.principals:
        lines.append(f"    {principal.name} of {principal.org} ({', '.join(principal.groups) or 'no group'})")
        lines += [
            f"      {'seen ' if credential.seen else 'blind'} {key_words(credential.key)}"
            for credential in principal.credentials
        ]
    return [*lines, "", f"  hash {genesis.hash.hex()}", *word_lines(genesis.hash)]


def quorum_words(quorum: ChangeQuorum) -> str:
    """Return a quorum for people: "2 of admins, of different orgs, beside the author"."""
    orgs = ", of different orgs" if quorum.distinct_orgs else ""
    author = ", beside the author" if quorum.exclude_author else ""
    return f"{quorum.threshold} of {', '.join(quorum.groups)}{orgs}{author}"


def missing_signers(genesis: Genesis) -> tuple[str, ...]:
    """Return the nodes whose signature the genesis still lacks, and the admins where their quorum is not reached."""
    nodes = [name for name, key in node_identities(genesis).items() if not genesis.signed.signed_by(key)]
    quorum = genesis.policy.admin.change_quorum
    have = key_holders(genesis.policy, genesis.signed, groups=quorum.groups, seen=True)
    if genesis.policy.heads(replace(quorum, exclude_author=False), have) >= quorum.threshold:
        return tuple(nodes)
    could = {person.name for group in quorum.groups for person in genesis.policy.members(group)} - have
    return (*nodes, *sorted(could))


def endorser_name(genesis: Genesis, key: bytes) -> str | None:
    """Return whose key (32 bytes) may sign this genesis: a node's name, an admin's, or None."""
    nodes = {identity: name for name, identity in node_identities(genesis).items()}
    groups = set(genesis.policy.admin.change_quorum.groups)
    listed = [(c, p.name) for p in genesis.policy.users if groups & set(p.groups) for c in p.credentials]
    admins = {place: name for c, name in listed for place in (c.key, c.desk_key) if place}
    return nodes.get(key) or admins.get(key)


def _names(address: str, policy: Policy, genesis: Genesis, now: int) -> tuple[str, ...]:
    try:
        script = script_of(address, genesis.network)
    except MalformedError:
        return (f"NO ADDRESS OF {genesis.network.value.upper()}: nobody will sign this",)
    return tuple(f"on pinned list {found}" for found in names_of(script, policy, now))


def _relation_words(withdrawal: Withdrawal) -> str:
    relation = withdrawal.relation
    if relation.kind is RelationKind.NEW:
        return "new: may not pay what a release of the last 90 days pays"
    listed = ", ".join(digest.hex()[:16] for digest in relation.digests)
    if relation.kind is RelationKind.ADDITIONAL:
        return f"additional: pays the same AGAIN as {listed}"
    return f"supersedes {listed}: only one of the two can ever confirm"


def _slot_lines(slot: Slot) -> list[str]:
    if slot.node is None or slot.record is None:
        return [f"    key without a judge, answered for by {slot.admin}", f"      {slot.key}"]
    return [f"    node {slot.node}, its record: {' '.join(words(slot.record.digest))}", f"      {slot.key}"]

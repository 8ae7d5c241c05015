"""Whose keys signed a document: the people and services of the rules, counted as persons, never as signatures."""

from __future__ import annotations

from collections.abc import Collection

from custody.credentials import proofs_by
from custody.policy import Policy
from custody.statements import Signed


def key_holders(
    policy: Policy,
    signed: Signed,
    groups: Collection[str] | None = None,
    at: int | None = None,
    *,
    seen: bool = False,
) -> frozenset[str]:
    """Return the names of the principals whose pinned key made a valid signature of `signed`.

    Args:
        policy: the rules that pin the keys.
        signed: the document; an unknown key counts nothing.
        groups: where given, only users in one of these groups count.
        at: where given (UTC seconds), only principals that are valid then count; to loosen anything, give it.
        seen: count only who saw the document in a program of their own; for rule documents and whatever loosens.
    """
    listed = policy.principals if groups is None else policy.users
    return frozenset(
        principal.name
        for principal in listed
        if (groups is None or set(groups) & set(principal.groups))
        and (at is None or at < principal.valid_until)
        and any(proof.seen or not seen for proof in proofs_by(principal, signed))
    )

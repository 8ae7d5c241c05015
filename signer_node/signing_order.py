"""Cold first: in which order the signatures that rules require are made (protocol.md step 5)."""

from __future__ import annotations

from custody.errors import Refused
from custody.genesis import GenesisWallet
from custody.policy import Location, Policy
from custody.policy.duties import SignersRequired


def signers_in_order(
    me: str, policy: Policy, wallet: GenesisWallet, required: SignersRequired, signed: set[str]
) -> Refused | None:
    """Return why node `me` may not sign yet, or None. signed: nodes with valid signatures on every input."""
    if me in required.exclude:
        return Refused("SIGNER_EXCLUDED", f"rules that let {me} sign", f"{me} excluded")
    offline = {n.name for n in policy.roots.nodes if n.location is Location.OFFLINE}
    included = [s.node for s in wallet.slots if s.node is not None and s.node in required.include]
    if len(included) < len(required.include) or _least_signers(required, offline) > wallet.wallet.threshold:
        return Refused("SIGNERS_IMPOSSIBLE", f"required signers within m = {wallet.wallet.threshold}", "more")
    cold = len(signed & offline)
    if me not in offline and cold < required.min_offline:
        return Refused("COLD_FIRST", f"{required.min_offline} offline signatures", str(cold))
    before = included[: included.index(me)] if me in included else [] if me in offline else included
    missing = [name for name in before if name not in signed]
    return Refused("INCLUDED_FIRST", f"the signature of {missing[0]}", "none") if missing else None


def _least_signers(required: SignersRequired, offline: set[str]) -> int:
    cold_included = len([name for name in required.include if name in offline])
    return len(required.include) + max(0, required.min_offline - cold_included)

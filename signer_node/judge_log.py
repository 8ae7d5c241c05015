"""Steps 2 and 1 of the judge: is the log fresh, is the RELEASE in it, and do the rules of now stand.

Pure. What a checkpoint covers is believed as far as w witnesses vouch for it, and no further.
"""

from __future__ import annotations

from custody.audit import Cosigned, leaf_hash, verify_inclusion
from custody.bundle import Bundle
from custody.entries import Release, parse_entry
from custody.errors import Refused
from custody.follow import State, in_force, open_money_checkpoint, open_under, settled, time_of
from custody.interval import Interval
from custody.policy import Location
from signer_node.pinned import Moment, Pinned

ONLINE_FRESHNESS_S = (
    300  # protocol.md step 2: a freeze reaches an online signer at latest 60 s + 5 min after it was posted
)
ENTRY_TIME_TOLERANCE_S = 600  # protocol.md "WITNESS": an entry's own time is for display and must not mislead


def interval_of(state: State, fresh: Cosigned, moment: Moment) -> Interval:
    """Return the time as an interval (protocol.md "Time"): lo for what must have passed, hi for what must not."""
    found = fresh.oldest_counted(state.policy.roots.w)
    oldest = moment.now if found is None else found
    # One of w counted witnesses is honest, so the oldest of their times has passed, whatever this clock says.
    return Interval(lo=min(moment.now, oldest), hi=max(moment.now, moment.high_water, oldest))


def is_fresh(state: State, me: Pinned, fresh: Cosigned, moment: Moment, time: Interval) -> Refused | None:
    """Step 2, first half: the checkpoint is recent for a node that stands where this one does."""
    policy = state.policy
    node = policy.roots.node(me.node)
    online = node is None or node.location is Location.ONLINE
    limit = ONLINE_FRESHNESS_S if online else policy.limits.bundle_max_age_s
    if moment.now > time_of(fresh) + policy.limits.bundle_max_age_s:
        return Refused(
            "CLOCK_AHEAD", f"a clock at most {policy.limits.bundle_max_age_s} s beyond every witness", "more"
        )
    age_s = max(moment.now, moment.high_water) - time.lo  # a slow clock makes nothing old, and ends nothing late
    if age_s > limit:
        return Refused("CHECKPOINT_STALE", f"cosignatures at most {limit} s old", f"{age_s} s")
    return None


def rules_stand(state: State, me: Pinned, time: Interval) -> Refused | None:
    """Step 1: the newest rules, in effect and not past `not_after`; not frozen."""
    policy = state.policy
    if time.lo < policy.effective_from or time.hi >= policy.not_after:
        return Refused("RULES_EXPIRED", f"{policy.effective_from}..{policy.not_after}", f"{time.lo}..{time.hi}")
    if state.is_frozen(time.lo):
        return Refused("FROZEN", "no freeze in the log", ", ".join(sorted(f.by for f in state.freezes)))
    if policy.roots.node(me.node) is None:
        return Refused("NODE_UNLISTED", f"node {me.node} in the rules' roots", "none")
    return None


def release_is_logged(bundle: Bundle, state: State, time: Interval) -> tuple[State, int, Release, int] | Refused:
    """Step 2, second half: the RELEASE is in the cosigned log, counts, and is recent.

    Returns:
        The settled state, the time that the RELEASE's entry names, the RELEASE, its T; or what does not hold.
    """
    vouched, covering = open_under(state, bundle.covering)
    fresh = open_money_checkpoint(state, bundle.log.note).checkpoint
    if (covering.checkpoint.size, covering.checkpoint.root) != (fresh.size, fresh.root):
        return Refused(
            "COVERING_OTHER", "the first checkpoint of the same log size", f"size {covering.checkpoint.size}"
        )
    settled_state = in_force(settled(vouched, time_of(covering)), time.lo)  # delays run out by lo
    found = next((r for r in settled_state.releases if r.index == bundle.release_index), None)
    if found is None:
        return Refused("RELEASE_INADMISSIBLE", f"a release that counts at index {bundle.release_index}", "none")
    raw, entry_time = _entry_at(bundle), found.release.time
    if raw is None and bundle.release_index >= bundle.log.first:
        return Refused("RELEASE_MISSING", f"entry {bundle.release_index} in the bundle", "none")
    if raw is not None:  # else I followed it before: my own log, whose root the checkpoint confirms, holds it already
        if not verify_inclusion(leaf_hash(raw), bundle.release_index, fresh.size, bundle.inclusion, fresh.root):
            return Refused("INCLUSION", f"a proof of entry {bundle.release_index} in size {fresh.size}", "another")
        entry_time = parse_entry(raw).time
    age_s = time.hi - found.t
    longest_s = settled_state.policy.limits.bundle_max_age_s
    if age_s > longest_s:
        return Refused("RELEASE_STALE", f"a release at most {longest_s} s old", f"{age_s} s")
    if abs(entry_time - found.t) > ENTRY_TIME_TOLERANCE_S:
        return Refused("ENTRY_TIME", f"within {ENTRY_TIME_TOLERANCE_S} s of {found.t}", str(entry_time))
    return settled_state, entry_time, found.release, found.t


def _entry_at(bundle: Bundle) -> bytes | None:
    at = bundle.release_index - bundle.log.first
    return bundle.log.entries[at] if 0 <= at < len(bundle.log.entries) else None

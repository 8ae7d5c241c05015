"""Say a decision in words: what was decided, which rules spoke and why, what is missing and who could give it."""

from __future__ import annotations

from custody.decide import Allow, Decided, Deny, Need, RuleReason
from custody.policy.duties import Delay, SignersRequired
from custody.policy.match import Outcome, Reason

_MARK = {Outcome.TRUE: "yes", Outcome.FALSE: "no", Outcome.UNKNOWN: "not known"}


def explain(decision: Decided) -> tuple[str, ...]:
    """Return `decision` as lines for people: the verdict first, then what is missing, then every rule."""
    lines = [f"{_verdict(decision)} under rules {decision.policy_hash.hex()[:16]}"]
    if isinstance(decision, Deny):
        lines.extend(f"  {refused}" for refused in decision.refusals)
    else:
        lines.extend(_obligation_lines(decision.signers, decision.delay, decision.local_conf))
    if isinstance(decision, Need):
        for missing in decision.missing:
            could = ", ".join(missing.could) or "nobody in the rules"
            have = ", ".join(missing.have) or "none yet"
            lines.append(
                f"  rule {missing.rule} needs {missing.needed} more of {missing.of}{_behind(missing.stage)} "
                f"(have: {have}; could: {could})"
            )
    for reason in decision.reasons:
        lines.extend(_rule_lines(reason))
    return tuple(lines)


def _behind(stage: int) -> str:
    return f" behind stage {stage}, whose approvals they name" if stage else ""


def _verdict(decision: Decided) -> str:
    if isinstance(decision, Allow):
        return "ALLOW"
    return "NEED approvals" if isinstance(decision, Need) else "DENY"


def _obligation_lines(signers: SignersRequired, delay: Delay, local_conf: bool) -> list[str]:
    lines = []
    if signers.include:
        lines.append(f"  must sign: {', '.join(signers.include)}")
    if signers.exclude:
        lines.append(f"  must not sign: {', '.join(signers.exclude)}")
    if signers.min_offline:
        lines.append(f"  offline nodes that sign first: {signers.min_offline}")
    if delay.seconds:
        vetoes = ", ".join(f"{veto.threshold} of {veto.group}" for veto in delay.vetoes) or "anybody listed"
        lines.append(f"  waits {delay.seconds} s after its notice; may be vetoed by {vetoes}")
    if local_conf:
        lines.append("  a code is typed at each signer")
    return lines


def _rule_lines(reason: RuleReason) -> list[str]:
    shadow = f" (shadow: would {reason.would})" if reason.would else ""
    if reason.mode.value == "shadow" and not reason.would:
        shadow = " (shadow)"
    return [f"  {reason.kind.value} {reason.rule}: {reason.said}{shadow}", *_tree_lines(reason.tree, 2)]


def _tree_lines(reason: Reason, depth: int) -> list[str]:
    line = f"{'  ' * depth}[{_MARK[reason.outcome]}] {reason.what}"
    return [line, *(found for part in reason.parts for found in _tree_lines(part, depth + 1))]

"""policy: the rules in force, the freezes, and what the rules say of one withdrawal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.office import Office, connected, invocation
from console.cli.output import Part, Table
from console.cli.rule_changes import changes
from console.cli.rule_drafts import drafts, explain_file, show_file

if TYPE_CHECKING:
    from console.views import FreezeView, RulesView
    from custody.canonical import Json
    from custody.policy import Policy

app = typer.Typer(rich_markup_mode=None)
group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The rules, and what they say of a withdrawal.")
app.add_typer(group, name="policy")
group.add_typer(drafts)
group.add_typer(changes)


@group.command("show")
def show_policy(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A document in a file instead, YAML or JSON.")] = None,
    document: Annotated[bool, typer.Option("--document", help="The whole document as JSON.")] = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="The whole document as YAML.")] = False,
) -> None:
    """Show the rules in force, whether the coordinator serves the same, and the freezes."""
    if file is not None:
        show_file(invocation(context), file, as_yaml=yaml, whole=document)
        return
    connected(context, lambda office: _show(office, document, yaml))


async def _show(office: Office, whole: bool, as_yaml: bool) -> None:
    from custody.canonical import decode

    served, policy = await office.client.rules(), await office.in_force()
    _check_same(policy, served)
    if whole:
        office.output.line({"rules": decode(served.document)})
        return
    if as_yaml:
        _show_yaml(office, served.document)
        return
    value: dict[str, Json] = {
        "policy_hash": policy.hash.hex(),
        "version": policy.version,
        "not_after": policy.not_after,
        "pending": served.pending,
        "rules": [{"id": r.id, "kind": r.kind.value, "mode": r.mode.value} for r in policy.rules],
        "people": {p.name: list(p.groups) for p in policy.principals},
        "freezes": freezes_json(served.freezes),
    }
    parts: list[Part] = [*head_lines(policy, served.pending), rules_table(policy), "", people_table(policy)]
    if served.freezes:
        parts += ["", "FREEZES IN FORCE, says the coordinator:", freezes_table(served.freezes)]
    office.output.done(value, *parts)


def _show_yaml(office: Office, document: bytes) -> None:
    from console.policy.text import write_text
    from custody.canonical import decode

    found = decode(document)
    text = write_text(found) if isinstance(found, Mapping) else ""
    office.output.done({"yaml": text}, *text.splitlines())


def _check_same(policy: Policy, served: RulesView) -> None:
    """Refuse to show rules as if they were in force where the coordinator serves others than the log says."""
    from console.reading import believed
    from console.refusal import refuse
    from custody.canonical import decode
    from custody.policy import policy_hash

    found = believed(lambda: policy_hash(decode(served.document)))
    if found != policy.hash:
        refuse("RULES_OTHER", f"the rules in force {policy.hash.hex()[:16]}", found.hex()[:16])


def head_lines(policy: Policy, pending: int) -> list[str]:
    """Return what stands above the rules: which version, until when, and who changes it."""
    from console.pages import quorum_words, span, utc
    from custody.consent import CHANGE

    admin, limits = policy.admin, policy.limits
    return [
        f"rules      {policy.policy_id} version {policy.version}, {policy.hash.hex()[:16]}, {pending} pending",
        f"valid      {utc(policy.effective_from)} to {utc(policy.not_after)}",
        f"change     {quorum_words(admin.change_quorum)}; loosening waits {span(admin.loosen_delay_s)}",
        *(f"  {n.removesuffix('_quorum'):8} {quorum_words(q)}" for n, q in admin.change_quorums.items() if n != CHANGE),
        *([f"locked     {', '.join(admin.locked_rules)}"] if admin.locked_rules else []),
        f"freeze     {admin.freeze.threshold} of {', '.join(admin.freeze.groups)}; "
        f"unfreeze {admin.unfreeze.threshold} of {', '.join(admin.unfreeze.groups)}",
        f"fees       {limits.feerate_min_sat_vb} to {limits.feerate_max_sat_vb} sat/vB",
        "",
    ]


def rules_table(policy: Policy) -> Table:
    """Return the rules in words."""
    from console.rules import rule_words

    rows = [
        (r.kind.value, r.id, r.mode.value if r.mode.value != "enforce" else "", rule_words(r)) for r in policy.rules
    ]
    return Table(("kind", "rule", "mode", "says"), rows)


def people_table(policy: Policy) -> Table:
    """Return the people and programs."""
    rows = [(p.name, p.org, ", ".join(p.groups) or ("service" if p.is_service else "")) for p in policy.principals]
    return Table(("who", "of", "groups"), rows)


@group.command()
def explain(context: typer.Context, withdrawal: Annotated[str, typer.Argument(metavar="DIGEST|ID|FILE")]) -> None:
    """Say what the rules say of a withdrawal now, rule by rule; of a FILE (YAML or JSON), what each rule does."""
    from console.policy.draft import is_file

    if is_file(withdrawal):
        explain_file(invocation(context), Path(withdrawal))
        return
    connected(context, lambda office: _explain(office, withdrawal))


async def _explain(office: Office, name: str) -> None:
    from console.showing import decision_json, decision_lines, missing_lines

    view = await office.find(name)
    decision, missing = await office.client.explain(view.digest)
    policy = await office.in_force()
    if decision.policy_hash and decision.policy_hash != policy.hash:
        office.output.warn("The coordinator judged under rules other than those in force.")
    lines = [*decision_lines(decision), *(f"  missing {line}" for line in missing_lines(missing, policy, office.now))]
    office.output.done(
        {
            "digest": view.digest.hex(),
            "decision": decision_json(decision),
            "missing": [
                {"rule": m.rule, "of": m.of, "needed": m.needed, "could": list(m.could), "stage": m.stage}
                for m in missing
            ],
        },
        *lines,
    )


def freezes_json(freezes: Sequence[FreezeView]) -> list[Json]:
    """Return the freezes for programs."""
    return [{"freeze_id": f.freeze_id, "by": f.by, "since": f.since, "lapses_at": f.lapses_at} for f in freezes]


def freezes_table(freezes: Sequence[FreezeView]) -> Table:
    """Return the freezes for people."""
    from console.pages import utc

    rows = [(f.freeze_id, f.by, utc(f.since), utc(f.lapses_at) if f.lapses_at else "") for f in freezes]
    return Table(("freeze", "by", "since", "lapses"), rows)

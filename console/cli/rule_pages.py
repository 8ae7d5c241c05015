"""What is read before a RULE entry is signed: changes of a document, a later wallet whole, or what is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from console.cli.office import Office
    from console.cli.output import Part
    from custody.follow import State
    from custody.statements import Signed

TRIAL_DAYS = 30  # policy.md "Admin": a simulation is shown before a document can take effect
DAY_S = 86_400


def words_of(signed: Signed) -> str:
    """Return what `signed` is, in a few words: "version 13", "wallet vault", "a void". Raises MalformedError."""
    from custody.canonical import decode
    from custody.fields import Fields
    from custody.governing import read_rules
    from custody.statements import Kind

    if signed.kind is Kind.WALLET:
        return f"wallet {Fields(decode(signed.raw), 'document').fields('wallet').name('name')}"
    return f"version {read_rules(signed).version}" if signed.kind is Kind.RULES else "a void"


def does(state: State, signed: Signed) -> str:
    """Return what `signed` would do: the verdict of a document, or "adds", or what it takes back."""
    from custody.governing import read_rules
    from custody.policy.diff import diff
    from custody.statements import Kind
    from custody.voiding import read_void

    if signed.kind is Kind.RULES:
        return diff(state.policy, read_rules(signed)).verdict.value
    return "adds" if signed.kind is Kind.WALLET else f"takes back {read_void(signed).rules.hex()[:16]}"


def trial_lines(office: Office, signed: Signed) -> list[str]:
    """Return what a document would have done to the releases of the last TRIAL_DAYS, before anybody signs it."""
    from console.pages import btc
    from console.policy.trial import books_of, past_releases
    from custody.governing import read_rules
    from custody.policy.simulate import changes, simulate
    from custody.statements import Kind

    if signed.kind is not Kind.RULES or office.latest is None:
        return []
    followed, since = office.latest, office.now - TRIAL_DAYS * DAY_S
    history, books = past_releases(followed), books_of(office.genesis)
    compared = simulate(followed.state.policy, read_rules(signed), history, books, since)
    changed = sum(each.is_changed for each in compared)
    lines = [f"{len(compared)} releases in {TRIAL_DAYS} days, {changed} would have been judged otherwise"]
    return lines + [
        f"  {c.count} releases of {btc(c.amount_sats)}: {c.before}, now {c.after}, by {c.by}" for c in changes(compared)
    ]


def page_of(state: State, signed: Signed, now: int) -> list[str]:
    """Return the page of what `rule_fits` `state`: what changes, who must sign it, and the words of its hash."""
    from console.pages import word_lines
    from custody.rule_entry import standing_of

    standing = standing_of(state, signed, now)
    asked = [
        f"signed by the {share.quorum}: {share.missing} more of {', '.join(share.groups)}" for share in standing.shares
    ]
    asked += [f"signed by node {name}: not yet" for name in standing.nodes]
    return [*_what(state, signed, now), *asked, *word_lines(signed.digest)]


def _what(state: State, signed: Signed, now: int) -> list[str]:
    from console.cli.rule_changes import diff_parts
    from console.pages import utc, wallet_lines
    from custody.governing import read_rules
    from custody.later_wallet import read_later_wallet
    from custody.policy.diff import diff
    from custody.statements import Kind
    from custody.voiding import read_void

    if signed.kind is Kind.WALLET:
        wallet = read_later_wallet(signed, state.genesis)
        return [
            "A later wallet; nothing is paid from it before rules name it and its nodes pin it.",
            *wallet_lines(wallet),
        ]
    if signed.kind is Kind.VOID:
        waiting = next(w for w in state.rules.waiting if w.policy.hash == read_void(signed).rules)
        changes = _lines(diff_parts(state.policy, diff(state.policy, waiting.policy)))
        return [
            f"Takes back version {waiting.policy.version}, due {utc(waiting.due)}, for ever. It would do:",
            *changes,
        ]
    return _lines(diff_parts(state.policy, diff(state.policy, read_rules(signed))))


def _lines(parts: list[Part]) -> list[str]:
    lines: list[str] = []
    for part in parts:
        lines += [part] if isinstance(part, str) else ["  ".join(row) for row in part.rows]
    return lines

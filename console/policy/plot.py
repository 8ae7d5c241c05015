"""A simulation as a plain SVG: a bar per day, split by what the draft changes."""

from __future__ import annotations

from collections.abc import Sequence

from console.pages import btc, utc
from custody.policy.simulate import Compared, Verdict

DAY_S = 86_400
WIDTH, HEIGHT, LEFT, TOP = 720, 240, 90, 40
MAX_DAYS = 400  # as far back as windows look; more bars than pixels tell nothing
COLOURS = {
    "as now": "#b0b7c0",
    "allowed anew": "#2e8b57",
    "needs approvals": "#e08e0b",
    "denied": "#c0392b",
}


def plot(compared: Sequence[Compared]) -> str:
    """Return an SVG of the amounts of each day: what stays as it is now, and what the draft makes of the rest."""
    days = _days(compared)
    highest = max((sum(day.values()) for day in days.values()), default=0) or 1
    bars = "".join(_bar(at, len(days), day, highest) for at, day in enumerate(days.values()))
    labels = [_text(LEFT - 8, TOP + 10, btc(highest), "end"), _text(LEFT - 8, TOP + HEIGHT, "0", "end")]
    if days:
        first, last = min(days), max(days)
        labels += [_text(LEFT, TOP + HEIGHT + 18, utc(first * DAY_S)[:10])]
        labels += [_text(LEFT + WIDTH, TOP + HEIGHT + 18, utc(last * DAY_S)[:10], "end")]
    changed = sum(each.is_changed for each in compared)
    title = _text(LEFT, TOP - 16, f"{len(compared)} releases, {changed} of them judged otherwise by the draft")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 30} {HEIGHT + TOP + 60}" '
        f'font-family="sans-serif" font-size="12"><rect width="{WIDTH + LEFT + 30}" height="{HEIGHT + TOP + 60}" '
        f'fill="white"/>{title}{"".join(labels)}{bars}{_legend(HEIGHT + TOP + 44)}</svg>\n'
    )


def _days(compared: Sequence[Compared]) -> dict[int, dict[str, int]]:
    """Return sats by day and kind, for every day from the first to the last, the last MAX_DAYS of them."""
    numbers = [each.t // DAY_S for each in compared]
    if not numbers:
        return {}
    last = max(numbers)
    days = {day: dict.fromkeys(COLOURS, 0) for day in range(max(min(numbers), last - MAX_DAYS + 1), last + 1)}
    for each in compared:
        if (day := each.t // DAY_S) in days:
            days[day][_kind(each)] += each.amount_sats
    return days


def _kind(each: Compared) -> str:
    if not each.is_changed:
        return "as now"
    return "allowed anew" if each.draft.verdict is Verdict.ALLOWED else each.draft.verdict.value


def _bar(at: int, days: int, amounts: dict[str, int], highest: int) -> str:
    step = WIDTH / max(days, 1)
    width, base, parts = max(step * 0.8, 0.5), float(TOP + HEIGHT), []
    for kind, colour in COLOURS.items():
        height = HEIGHT * amounts[kind] / highest
        if height:
            base -= height
            parts.append(
                f'<rect x="{LEFT + at * step:.1f}" y="{base:.1f}" width="{width:.1f}" height="{height:.1f}" '
                f'fill="{colour}"/>'
            )
    return "".join(parts)


def _legend(at: int) -> str:
    parts = []
    for place, (kind, colour) in enumerate(COLOURS.items()):
        left = LEFT + place * 150
        parts.append(f'<rect x="{left}" y="{at - 10}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(left + 15, at, kind))
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'

"""The table and the plot of `benchmarks.psbt`, both as ratios: seconds of a shared machine are nobody's promise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._cases import Shape
from benchmarks._measure import Goal

Rows = Sequence[tuple[Shape, dict[str, float]]]
JOBS = {"sign": "Signer", "coordinate": "Coordinator"}
LINES = {"ours": "#0b6e4f", "wally": "#c77d0a", "bdk": "#7a4ea3", "embit": "#b3261e"}
NAMES = {"ours": "Keyturn", "wally": "libwally", "bdk": "BDK", "embit": "embit"}
PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP = 360, 300, 60, 50


@dataclass(frozen=True, slots=True)
class Left:
    """What a goal leaves, in microseconds per input or script.

    allowed: for the whole job, where the goal is just met.  curve, hashes: what the bare operations take.  ours: now.
    """

    name: str
    allowed: float
    curve: float
    hashes: float
    ours: float

    @property
    def left(self) -> float:
        """For everything that is neither curve nor hash."""
        return self.allowed - self.curve - self.hashes

    @property
    def rest(self) -> float:
        """What everything that is neither takes now."""
        return self.ours - self.curve - self.hashes


def table(rows: Rows) -> str:
    """Return both jobs as Markdown: multiples of our time, and ours as a multiple of the floor."""
    heads = ["m-of-n inputs x outputs"]
    for job in JOBS.values():
        heads += [f"{job}: embit", "libwally", "BDK", "ours / floor"]
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    for shape, seconds in rows:
        cells = [str(shape)]
        for job in JOBS:
            ours = seconds[f"{job} ours"]
            cells += [f"{seconds[f'{job} {peer}'] / ours:.1f}x" for peer in ("embit", "wally", "bdk")]
            cells.append(f"{ours / _floor(job, seconds):.2f}")
        lines.append(_line(cells))
    return "\n".join(lines)


def write(folder: Path, machine: str, rows: Rows, goals: Iterable[Goal], left: Iterable[Left]) -> None:
    """Write psbt.md and psbt.svg into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [_line([g.name, f"{g.figure:.2f}", g.target, "reached" if g.is_met else "**missed**"]) for g in goals]
    text = [
        "# PSBT benchmark",
        "",
        f"Made by `python3 dev.py bench psbt --write` on: {machine}.",
        "",
        "CPU time, medians, all contestants interleaved in one process with the collector frozen. Each cell of a peer",
        "says how many times our time it takes for the same job; `ours / floor` says how many times the bare curve",
        "operations our job takes. Floor of the signer: n signatures and n verifications by the second library; of the",
        "coordinator: m x n verifications. embit makes the signer's checks too; libwally makes none, BDK those of its",
        "wallet. What each job holds stands in `benchmarks/psbt.py`.",
        "",
        table(rows),
        "",
        "![CPU time of both jobs as multiples of the curve operations](psbt.svg)",
        "",
        "## Goals",
        "",
        _line(["goal", "figure", "target", ""]),
        _line(["---", "---:", "---:", "---"]),
        *listed,
        "",
        "## What the goals leave",
        "",
        "Microseconds per input (per script in re-derivation) of this run. A goal against another library allows us",
        "its time divided by the goal. From that the bare curve operations go off, and the bare hashes: of previous",
        "transactions and digests in the signer, of digests in the coordinator, of tweaks (HMAC-SHA512) in",
        "re-derivation. What is left is for everything else that the job does: parsing, comparing, every check, the",
        "values that come out. Where less is left than that takes, the goal is missed; where next to nothing is left,",
        "no Python can reach it, and faster curve operations would be needed.",
        "",
        _line(["goal", "allowed", "curve", "hashes", "left for the rest", "the rest takes"]),
        _line(["---", *["---:"] * 5]),
        *[
            _line([one.name, *(f"{us:.1f}" for us in (one.allowed, one.curve, one.hashes, one.left, one.rest))])
            for one in left
        ],
        "",
    ]
    (folder / "psbt.md").write_text("\n".join(text))
    quorum = rows[0][0].threshold, rows[0][0].keys
    plotted = [(s, t) for s, t in rows if s.outputs == 2 and not s.one_previous and (s.threshold, s.keys) == quorum]
    (folder / "psbt.svg").write_text(plot(plotted))


def plot(rows: Rows) -> str:
    """Return an SVG: one panel per job, inputs across, multiples of the floor upwards, both logarithmic."""
    highest = max(
        seconds[f"{job} {peer}"] / _floor(job, seconds) for _, seconds in rows for job in JOBS for peer in LINES
    )
    decades = math.ceil(math.log10(highest))
    panels = "".join(_panel(at, job, rows, decades) for at, job in enumerate(JOBS))
    width, height = 2 * (PANEL_WIDTH + LEFT) + 30, PANEL_HEIGHT + TOP + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>{panels}{_legend(height - 12)}</svg>\n'
    )


def _panel(place: int, job: str, rows: Rows, decades: int) -> str:
    left = LEFT + place * (PANEL_WIDTH + LEFT)
    most = max(shape.inputs for shape, _ in rows)

    def x(inputs: int) -> float:
        return left + PANEL_WIDTH * 0.95 * math.log10(inputs) / math.log10(most) + 8

    def y(multiple: float) -> float:
        return TOP + PANEL_HEIGHT * (1 - math.log10(multiple) / decades)

    quorum = f"{rows[0][0].threshold}-of-{rows[0][0].keys}"
    parts = [_text(left, TOP - 14, f"{JOBS[job]}, {quorum}: CPU time / curve operations", bold=True)]
    for power in range(decades + 1):
        at = y(10**power)
        parts.append(f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(_text(left - 6, at + 4, f"{10**power}x", anchor="end"))
    parts += [_text(x(shape.inputs), TOP + PANEL_HEIGHT + 18, str(shape.inputs), anchor="middle") for shape, _ in rows]
    for peer, colour in LINES.items():
        points = [(x(s.inputs), y(t[f"{job} {peer}"] / _floor(job, t))) for s, t in rows]
        drawn = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>' for px, py in points]
    return "".join(parts)


def _legend(at: float) -> str:
    parts = [_text(LEFT + 460, at, "inputs, 2 outputs; 1x is the floor")]
    for place, (peer, colour) in enumerate(LINES.items()):
        left = LEFT + place * 100
        parts.append(f'<circle cx="{left}" cy="{at - 4}" r="4" fill="{colour}"/>{_text(left + 9, at, NAMES[peer])}')
    return "".join(parts)


def _text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{words}</text>'


def _floor(job: str, seconds: dict[str, float]) -> float:
    return seconds[f"{job} floor"] + (seconds["second floor"] if job == "sign" else 0)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

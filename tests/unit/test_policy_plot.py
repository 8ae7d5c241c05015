"""The picture of a simulation: well-formed, a bar per day, coloured by what changes."""

from xml.etree import ElementTree as ET

from console.policy.plot import COLOURS, MAX_DAYS, plot
from custody.policy.simulate import Compared, Said, Verdict

DAY = 86_400
SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = Said(Verdict.ALLOWED, ())


def compared(day: int, now: Said, draft: Said, amount: int = 100) -> Compared:
    """Return one release of a day."""
    return Compared(bytes(32), "w", "alice", day * DAY + 5, amount, now, draft)


def colours(svg: str) -> list[str]:
    """Return the colours of the bars, without the legend's."""
    found = [rect.attrib["fill"] for rect in ET.fromstring(svg).iter(f"{SVG}rect")]  # noqa: S314 - our own
    return found[1 : len(found) - len(COLOURS)]


def test_plot_given_each_kind_draws_its_colour() -> None:
    """Same, allowed anew, needs approvals, denied: one part of a bar each."""
    denied, needs = Said(Verdict.DENIED, ("r",)), Said(Verdict.NEEDS, ("r",))
    found = [compared(1, ALLOWED, ALLOWED), compared(1, denied, ALLOWED), compared(2, ALLOWED, needs)]
    found.append(compared(4, ALLOWED, denied))

    svg = plot(found)

    assert colours(svg) == [COLOURS[kind] for kind in ("as now", "allowed anew", "needs approvals", "denied")]
    assert "4 releases, 3 of them judged otherwise by the draft" in svg
    assert "1970-01-02" in svg
    assert "1970-01-05" in svg


def test_plot_given_nothing_is_still_a_picture() -> None:
    """No release, no bar, no failure."""
    assert colours(plot([])) == []


def test_plot_given_years_draws_the_last_days() -> None:
    """A bar needs a pixel."""
    svg = plot([compared(day, ALLOWED, ALLOWED) for day in range(0, 5 * MAX_DAYS, 2)])

    assert len(colours(svg)) == MAX_DAYS // 2

"""What is kept between a page and a signature: it works once, for a while, and for what was shown."""

from __future__ import annotations

import pytest

from console.desk.acts import ACT_SECONDS, LOOK_SECONDS, MAX_OPEN, Act, Acts, Look, changes_of
from console.refusal import RefusedHereError
from custody.statements import Kind, Signed

ABOUT, OTHER = bytes([1]) * 32, bytes([2]) * 32


async def sent(_: Signed) -> str:
    """Take what was signed."""
    return "/"


def act(made_at: int = 0) -> Act:
    """Return an act that a key file would sign."""
    return Act(Kind.APPROVAL, b"{}", sent, None, made_at)


def code_of(error: pytest.ExceptionInfo[RefusedHereError]) -> str:
    """Return the code of a refusal."""
    return error.value.code


def test_act_when_taken_twice_then_is_gone() -> None:
    """A double click signs once."""
    acts = Acts()
    name = acts.begin(act())

    assert acts.take(name, ACT_SECONDS).digest == act().digest
    with pytest.raises(RefusedHereError) as refused:
        acts.take(name, 0)
    assert code_of(refused) == "ACT_EXPIRED"


@pytest.mark.parametrize("age", [0, ACT_SECONDS, ACT_SECONDS + 1])
def test_act_when_it_grew_old_then_is_refused(age: int) -> None:
    """A passkey's answer comes within minutes, or not at all."""
    acts = Acts()
    name = acts.begin(act())

    if age <= ACT_SECONDS:
        assert acts.take(name, age).kind is Kind.APPROVAL
        return
    with pytest.raises(RefusedHereError) as refused:
        acts.take(name, age)
    assert code_of(refused) == "ACT_EXPIRED"


@pytest.mark.parametrize(
    ("about", "now", "code"),
    [(ABOUT, LOOK_SECONDS, None), (OTHER, 0, "PAGE_OTHER"), (ABOUT, LOOK_SECONDS + 1, "PAGE_EXPIRED")],
)
def test_look_when_the_page_showed_another_or_is_old_then_is_refused(about: bytes, now: int, code: str | None) -> None:
    """A page that shows one withdrawal cannot ask for another."""
    acts = Acts()
    name = acts.look(Look(ABOUT, {}, 0))

    if code is None:
        assert acts.looked(name, about, now).about == ABOUT
        return
    with pytest.raises(RefusedHereError) as refused:
        acts.looked(name, about, now)
    assert code_of(refused) == code


def test_looks_when_there_are_too_many_then_the_oldest_is_gone() -> None:
    """A browser that reloads for ever fills nothing."""
    acts = Acts()
    names = [acts.look(Look(ABOUT, {}, 0)) for _ in range(MAX_OPEN + 1)]

    with pytest.raises(RefusedHereError) as refused:
        acts.looked(names[0], ABOUT, 0)
    assert code_of(refused) == "PAGE_EXPIRED"
    assert acts.looked(names[-1], ABOUT, 0).about == ABOUT


def test_challenge_when_asked_for_twice_then_makes_one_passkey() -> None:
    """What a browser made answers one question."""
    acts = Acts()
    name = acts.ask(bytes(32), 0)

    assert acts.asked(name, 0) == bytes(32)
    with pytest.raises(RefusedHereError) as refused:
        acts.asked(name, 0)
    assert code_of(refused) == "ACT_EXPIRED"


def test_changes_when_compared_then_name_what_differs_with_both_values() -> None:
    """What is new, what is gone and what is other; nothing that is equal."""
    before, after = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}

    assert changes_of(before, after) == (("b", "2", "4"), ("c", "3", ""), ("d", "", "5"))
    assert changes_of(before, dict(before)) == ()

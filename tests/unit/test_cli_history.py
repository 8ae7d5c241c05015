"""A withdrawal's events, read backwards from the end of a log that another side tells."""

from __future__ import annotations

import asyncio

import pytest

from console import history
from console.cli.output import Output
from console.history import history_of
from console.showing import history_lines
from console.views import LogPage
from custody.audit import Log
from custody.canonical import Json, encode
from custody.errors import IntegrityError

OURS, OTHER = bytes([1]) * 32, bytes([2]) * 32
NOW = 1_800_000_000


def event(kind: str, time: int, digest: bytes | None = OURS, **fields: Json) -> bytes:
    """Return an entry of the event log."""
    named: dict[str, Json] = {} if digest is None else {"withdrawal": digest.hex()}
    return encode({"kind": kind, "time": time, "actor": "keyturn://operator/olga", "fields": named | fields})


class Served:
    """A coordinator's event log, at most three entries at once. asked: where each call began."""

    def __init__(self, *entries: bytes, size: int | None = None) -> None:
        self._entries, self._size = entries, len(entries) if size is None else size
        self.asked: list[int] = []

    async def entries(self, log: Log, first: int, limit: int = 1_000) -> LogPage:
        """See the port."""
        assert log is Log.EVENT
        self.asked.append(first)
        return LogPage(self._entries[first : first + min(limit, 3)], (), self._size)


def test_history_of_a_withdrawal_is_its_events_in_order_of_time() -> None:
    """Others' events and events about nothing are left out; equal times stay in the order of the log."""
    served = Served(
        event("withdrawal.proposed", NOW),
        event("withdrawal.proposed", NOW, OTHER),
        event("call.denied", NOW, None),
        event("bundle.sent", NOW + 9, node="alpha"),
        event("withdrawal.released", NOW + 5),
        event("signature.accepted", NOW + 9),
    )
    found = asyncio.run(history_of(served, OURS, NOW))
    kinds = [each.kind for each in found.events]
    assert kinds == ["withdrawal.proposed", "withdrawal.released", "bundle.sent", "signature.accepted"]
    assert found.is_whole


def test_history_of_a_young_withdrawal_does_not_read_the_whole_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged an hour before it was asked for is not about it."""
    monkeypatch.setattr(history, "PAGE", 2)
    served = Served(*[event("call.denied", NOW - 9_000, None)] * 20, event("withdrawal.proposed", NOW))
    found = asyncio.run(history_of(served, OURS, NOW))
    assert (len(found.events), found.is_whole, min(served.asked[1:])) == (1, True, 19)


def test_history_of_a_log_that_is_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, and is not called whole."""
    monkeypatch.setattr(history, "PAGE", 2)
    monkeypatch.setattr(history, "MAX_EVENTS", 4)
    served = Served(*[event("withdrawal.read", NOW)] * 20)
    found = asyncio.run(history_of(served, OURS, NOW))
    assert (len(found.events), found.is_whole) == (4, False)
    assert "earlier events were not looked for" in history_lines(found)[1]


@pytest.mark.parametrize(
    ("served", "code"),
    [(Served(event("withdrawal.read", NOW), size=2), "LOG_SIZE"), (Served(b'{"withdrawal":1}'), "ANSWER_MALFORMED")],
)
def test_history_of_what_no_log_has_is_refused(served: Served, code: str) -> None:
    """An entry that is missing, and one that is none."""
    with pytest.raises(IntegrityError) as refused:
        asyncio.run(history_of(served, OURS, NOW))
    assert refused.value.code == code


def test_history_lines_name_what_an_event_says_besides() -> None:
    """Its own fields, without the digest that everybody knows here."""
    served = Served(event("bundle.refused", NOW, node="alpha", code="FROZEN", entry=3))
    line = history_lines(asyncio.run(history_of(served, OURS, NOW)))[-1]
    assert line.endswith("bundle.refused by keyturn://operator/olga  code=FROZEN  entry=3  node=alpha")


def test_history_with_control_characters_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Kind, actor and fields are words of others."""
    served = Served(event("\x1b[2J", NOW, text="\u202e\r\nfine"))
    Output(False).done({}, *history_lines(asyncio.run(history_of(served, OURS, NOW))))
    shown = capsys.readouterr().out
    assert "\\x1b[2J by" in shown
    assert "text=\\u202e\\x0d\\x0afine" in shown

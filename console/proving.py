"""What a PSBT does, proven here: no program of others is asked what it pays."""

from __future__ import annotations

from console.refusal import RefusedHereError
from custody.errors import Refused
from custody.facts import Facts, ShapeLimits, read_facts
from custody.follow import State
from custody.psbt import Psbt
from custody.wallet import ScriptBook


def proven_facts(psbt: Psbt, book: ScriptBook, state: State) -> Facts:
    """Return the facts of `psbt` under the rules in force.

    Raises:
        RefusedHereError: with a code of `custody.facts.read_facts`.
    """
    bounds = state.policy.limits
    highest = state.highest_change_index(book.wallet.wallet_id)
    facts = read_facts(psbt, book, ShapeLimits(highest, bounds.change_floor_sats, bounds.change_max_outputs))
    if isinstance(facts, Refused):
        raise RefusedHereError(facts)
    return facts

"""Which scripts' coins the coordinator looks for: all change that ever came back lies among them."""

from coordinator.drafting import SCRIPTS_WATCHED, watched_scripts
from custody.wallet import CHANGE, RECEIVE, ScriptBook
from tests.world import make_genesis

BOOK = ScriptBook(make_genesis().wallets[0].wallet)


def test_watched_given_change_beyond_the_first_hundred_looks_for_it() -> None:
    """A wallet that has paid a hundred times keeps sight of what came back."""
    found = watched_scripts(BOOK, highest_change=130)

    assert found[BOOK.script(CHANGE, 130).script] == (CHANGE, 130)
    assert max(index for branch, index in found.values() if branch == RECEIVE) == SCRIPTS_WATCHED - 1


def test_watched_given_a_new_wallet_looks_for_the_first_of_both_branches() -> None:
    """Nothing came back yet."""
    assert len(watched_scripts(BOOK, highest_change=-1)) == 2 * SCRIPTS_WATCHED

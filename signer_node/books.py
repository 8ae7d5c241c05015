"""Script caches of the wallets that a signer may meet, one for each: they prove nothing and spare the deriving."""

from __future__ import annotations

from custody.bundle import Bundle
from custody.errors import CustodyError
from custody.follow import State
from custody.genesis import Genesis
from custody.message import read_message
from custody.statements import Kind
from custody.wallet import ScriptBook
from custody.withdrawal import read_withdrawal

Books = dict[bytes, ScriptBook]  # by wallet id, 32 bytes


def books_of(genesis: Genesis) -> Books:
    """Return an empty cache for each wallet of `genesis`."""
    return {w.wallet.wallet_id: ScriptBook(w.wallet) for w in genesis.wallets}


def book_for(bundle: Bundle, state: State, books: Books) -> ScriptBook:
    """Return the cache of the bundle's wallet out of `books`, or any: the judge refuses a wallet that is not ours.

    A later wallet that the log has by now gets one.
    """
    asked = bundle.withdrawal
    try:
        read = read_message if asked.kind is Kind.MESSAGE else read_withdrawal
        wallet_id = read(asked).wallet_id
    except CustodyError:
        wallet_id = b""
    later = state.genesis.wallet(wallet_id)
    if later is not None and wallet_id not in books:
        books[wallet_id] = ScriptBook(later.wallet)
    return books.get(wallet_id, next(iter(books.values())))

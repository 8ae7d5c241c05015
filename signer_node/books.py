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


class Books:
    """The caches of one signer, for as long as it runs."""

    def __init__(self, genesis: Genesis) -> None:
        self._books = {w.wallet.wallet_id: ScriptBook(w.wallet) for w in genesis.wallets}

    def of(self, bundle: Bundle, state: State) -> ScriptBook:
        """Return the cache of the bundle's wallet, or any: the judge refuses a wallet that is not ours."""
        asked = bundle.withdrawal
        try:
            read = read_message if asked.kind is Kind.MESSAGE else read_withdrawal
            wallet_id = read(asked).wallet_id
        except CustodyError:
            wallet_id = b""
        later = state.genesis.wallet(wallet_id)
        if later is not None and wallet_id not in self._books:
            self._books[wallet_id] = ScriptBook(later.wallet)
        return self._books.get(wallet_id, next(iter(self._books.values())))

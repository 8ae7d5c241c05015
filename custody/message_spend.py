"""What a wallet signs for a message: to_sign with its scripts, derived here, and the proof that comes of it.

Everything is made from the message and the pinned wallet. Nobody hands in a transaction, a script or a digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from custody.bip322 import Coin, Form, read_proof, to_sign, write_proof
from custody.errors import Refused
from custody.facts import Facts, InputFact
from custody.finalise import finalize, signatures_in
from custody.message import Message
from custody.policy.terms import MessageFormat
from custody.psbt import Psbt
from custody.psbt_fields import FieldMap
from custody.signatures import Accepted, InputSignature, accept, is_signed, sighashes
from custody.transaction import TxIn, TxOut
from custody.units import Sats, VBytes
from custody.wallet import RECEIVE, ScriptBook, WalletScript

FORMS = {MessageFormat.SIMPLE: Form.SIMPLE, MessageFormat.FULL: Form.FULL, MessageFormat.FUNDS: Form.FUNDS}


@dataclass(frozen=True, slots=True)
class MessageSpend:
    """to_sign of one message, as the functions for transactions take it. Nothing in it can be spent."""

    message: Message
    book: ScriptBook
    psbt: Psbt
    facts: Facts

    @property
    def txid(self) -> bytes:
        """Of to_sign: 32 bytes, wire order."""
        return self.psbt.transaction.txid

    @property
    def digests(self) -> tuple[bytes, ...]:
        """What is signed for each input: 32 bytes each."""
        return sighashes(self.psbt, self.facts, self.book)

    @property
    def paths(self) -> tuple[tuple[int, int], ...]:
        """(branch, index) of each input."""
        return tuple((fact.branch, fact.index) for fact in self.facts.inputs)

    def pubkeys(self, key_index: int) -> tuple[bytes, ...]:
        """Return the key of one cosigner in each input's script."""
        return tuple(self.book.script(branch, index).pubkeys[key_index] for branch, index in self.paths)

    def accept(self, signatures: Iterable[InputSignature]) -> Accepted:
        """Return which of `signatures` are valid, and whose they are."""
        return accept(self.psbt, self.facts, self.book, signatures)

    def proves(self, text: str) -> bool:
        """Return whether `text` is a proof of this message by enough keys of the wallet, and shows exactly its coins.

        Raises:
            MalformedError: as `read_proof`.
        """
        script = self.book.script(RECEIVE, self.message.index)
        signed, spent = read_proof(text, script.script, self.message.text.encode())
        outputs = tuple(TxOut(fact.amount_sats, fact.script) for fact in self.facts.inputs)
        if signed.unsigned() != self.psbt.transaction or spent != outputs:
            return False
        return all(
            self._is_satisfied(txin, self.book.script(*path), digest)
            for txin, path, digest in zip(signed.inputs, self.paths, self.digests, strict=True)
        )

    def _is_satisfied(self, txin: TxIn, script: WalletScript, digest: bytes) -> bool:
        """Return whether an input holds the threshold of valid signatures, in the order of the script's keys."""
        signatures = signatures_in(txin, script, self.book.wallet.threshold)
        keys = iter([script.pubkeys[at] for at in script.order])
        return signatures is not None and all(any(is_signed(key, digest, item) for key in keys) for item in signatures)

    def proof(self, accepted: Accepted) -> str:
        """Return the proof as it travels. Raises IntegrityError NOT_COMPLETE."""
        signed = finalize(self.psbt, self.facts, self.book, accepted)
        spent = tuple(TxOut(fact.amount_sats, fact.script) for fact in self.facts.inputs)
        return write_proof(FORMS[self.message.format], signed, spent)


def spend_of(message: Message, book: ScriptBook) -> MessageSpend | Refused:
    """Return what the wallet of `book` signs for `message`, or MESSAGE_FORMAT where its scripts have no such proof.

    A simple signature is a witness alone, so it proves nothing for P2SH (BIP-322 "Simple").
    """
    address = book.script(RECEIVE, message.index)
    if message.format is MessageFormat.SIMPLE and address.redeem_script:
        return Refused("MESSAGE_FORMAT", "full or funds for a P2SH address", message.format.value)
    ours = [(coin, book.script(coin.branch, coin.index)) for coin in message.coins]
    coins = [Coin(coin.outpoint, TxOut(coin.sats, found.script)) for coin, found in ours]
    unsigned = to_sign(address.script, message.text.encode(), coins)
    first = InputFact(unsigned.inputs[0].outpoint, Sats(0), RECEIVE, message.index, address.script)
    others = (InputFact(coin.outpoint, coin.sats, coin.branch, coin.index, found.script) for coin, found in ours)
    facts = Facts(
        txid=unsigned.txid,
        version=unsigned.version,
        locktime=unsigned.locktime,
        inputs=(first, *others),
        payments=unsigned.outputs,
        change=(),
        fee_sats=Sats(0),
        vsize_vb=VBytes(0),
    )
    return MessageSpend(message, book, Psbt(FieldMap(()), unsigned, (), ()), facts)

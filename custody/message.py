"""A message to be signed by a wallet (BIP-322): the statement its initiator signs. Nodes build to_spend and to_sign.

Signing one never spends: the node makes both transactions from this text itself and accepts neither from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody.bip322 import MAX_COINS
from custody.canonical import Json, decode, encode, tagged_hash
from custody.credentials import may_ask
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.policy import Policy
from custody.policy.terms import MessageFormat
from custody.statements import Kind, Signed
from custody.transaction import OutPoint
from custody.units import Sats
from custody.wallet import MAX_INDEX

MAX_TEXT_CHARS = 2_000  # what a person reads before they agree to it


@dataclass(frozen=True, slots=True)
class FundCoin:
    """A coin that a proof of funds shows: where it is, what it holds, and which script of the wallet has it."""

    outpoint: OutPoint
    sats: Sats
    branch: int
    index: int

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"outpoint": str(self.outpoint), "sats": self.sats, "branch": self.branch, "index": self.index}


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be signed for which address. genesis, wallet_id: 32 bytes.  index: on branch 0.

    coins: further coins of the wallet that a proof of funds shows; none in the other formats.
    """

    genesis: bytes
    message_id: str
    wallet_id: bytes
    index: int
    text: str
    initiator: str
    created_at: int
    expires_at: int
    format: MessageFormat = MessageFormat.SIMPLE
    coins: tuple[FundCoin, ...] = ()

    @property
    def digest(self) -> bytes:
        """32 bytes: what a MESSAGE entry names."""
        return tagged_hash(Kind.MESSAGE.value, encode(self.to_json()))

    def to_json(self) -> Json:
        """Return the statement that the initiator signs."""
        return {
            "genesis": self.genesis.hex(),
            "message_id": self.message_id,
            "wallet_id": self.wallet_id.hex(),
            "index": self.index,
            "text": self.text,
            "initiator": self.initiator,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "format": self.format.value,
            "coins": [coin.to_json() for coin in self.coins],
        }


def read_message(signed: Signed) -> Message:
    """Return the message inside `signed`; the signature is not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, MESSAGE_TEXT, MESSAGE_DATES, MESSAGE_FORMAT, MESSAGE_COINS, or a FIELD_ code.
    """
    if signed.kind is not Kind.MESSAGE:
        raise MalformedError("STATEMENT_KIND", f"expected a message, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "message")
    message = Message(
        genesis=fields.hex("genesis", 32),
        message_id=fields.name("message_id"),
        wallet_id=fields.hex("wallet_id", 32),
        index=fields.integer("index", 0, 2**31 - 1),
        text=fields.text("text", MAX_TEXT_CHARS),
        initiator=fields.name("initiator"),
        created_at=fields.time("created_at"),
        expires_at=fields.time("expires_at"),
        format=_read_format(fields.text("format")),
        coins=tuple(_read_coin(item) for item in fields.items("coins", MAX_COINS)),
    )
    fields.done()
    if not message.text.replace("\n", "").isprintable():
        raise MalformedError("MESSAGE_TEXT", "expected printable text and line breaks")
    if not message.created_at < message.expires_at:
        raise MalformedError("MESSAGE_DATES", "expected created_at before expires_at")
    if bool(message.coins) is not (message.format is MessageFormat.FUNDS):
        raise MalformedError("MESSAGE_COINS", "expected coins in a proof of funds, and in nothing else")
    if len({coin.outpoint for coin in message.coins}) < len(message.coins):
        raise MalformedError("MESSAGE_COINS", "expected each coin once")
    return message


def check_message(policy: Policy, message: Message, signed: Signed, genesis: bytes, at: int) -> Refused | None:
    """Return None if `signed` is `message`, of this genesis, by the initiator it names, who is in office at `at`."""
    if message.genesis != genesis:
        return Refused("GENESIS_OTHER", genesis.hex(), message.genesis.hex())
    initiator = policy.principal(message.initiator)
    is_known = initiator is not None and at < initiator.valid_until and may_ask(initiator, signed)
    if signed.digest != message.digest or not is_known:
        return Refused("MESSAGE_SIGNATURE", f"a signature by {message.initiator}, who is listed", "none")
    if at >= message.expires_at:
        return Refused("MESSAGE_EXPIRED", f"before {message.expires_at}", str(at))
    return None


def _read_format(text: str) -> MessageFormat:
    found = next((f for f in MessageFormat if f.value == text), None)
    if found is None:
        raise MalformedError("MESSAGE_FORMAT", f"expected {', '.join(f.value for f in MessageFormat)}")
    return found


def _read_coin(value: Json) -> FundCoin:
    fields = Fields(value, "coin")
    coin = FundCoin(
        outpoint=OutPoint.parse(fields.text("outpoint", 80)),
        sats=fields.sats("sats"),
        branch=fields.integer("branch", 0, 1),
        index=fields.integer("index", 0, MAX_INDEX),
    )
    fields.done()
    return coin

"""A message to be signed as the coordinator shows it; what it says is read from the initiator's statement alone."""

from __future__ import annotations

from dataclasses import dataclass

from console.reading import read_missing
from console.statements import read_signed
from console.views import Missing
from custody.errors import Refused
from custody.message import Message, read_message
from custody.statements import Signed
from custody.v1 import message_pb2


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message. stage: "approving", "signing", "signed" or "ended".  proof: to be verified by the reader."""

    signed: Signed
    message: Message
    approvals: tuple[Signed, ...]
    stage: str
    missing: tuple[Missing, ...]
    signed_by: tuple[str, ...]
    proof: str
    ended: Refused | None

    @property
    def digest(self) -> bytes:
        """32 bytes, computed here."""
        return self.message.digest


def read_message_view(found: message_pb2.MessageView) -> MessageView:
    """Return a message as served. Raises MalformedError for a statement that is none."""
    signed = read_signed(found.statement)
    said = found.ended
    return MessageView(
        signed=signed,
        message=read_message(signed),
        approvals=tuple(read_signed(approval) for approval in found.approvals),
        stage=message_pb2.MessageStage.Name(found.stage).removeprefix("MESSAGE_STAGE_").lower(),
        missing=tuple(read_missing(lack) for lack in found.missing),
        signed_by=tuple(found.signed_by),
        proof=found.proof,
        ended=Refused(said.code, said.expected, said.found) if found.HasField("ended") else None,
    )

"""No private key and no seed words enter a text that this service stores, shows or logs.

Looked through is what people and services send: names, labels, reasons and notes, inside signed statements too. What
nodes send by stream is theirs to watch over: a statement that witnesses hold already must not be turned away here.
"""

from __future__ import annotations

from google.protobuf.message import Message

from custody.canonical import decode
from custody.errors import MalformedError
from custody.pasted import refuse_pasted
from custody.statements import MAX_STATEMENT_BYTES
from custody.v1 import statement_pb2


def refuse_secrets(request: Message) -> None:
    """Pass if no text of `request` holds a secret. Raises MalformedError SECRET_PASTED, which repeats nothing of it."""
    if isinstance(request, statement_pb2.SignedStatement):
        _refuse_in_statement(request)
        return
    for field, value in request.ListFields():
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                refuse_secrets(item)
            elif isinstance(item, str):
                refuse_pasted(item, field.name)


def _refuse_in_statement(message: statement_pb2.SignedStatement) -> None:
    refuse_pasted(message.kind, "kind")
    if len(message.statement) > MAX_STATEMENT_BYTES:
        return  # refused by its size
    try:
        statement = decode(message.statement)
    except MalformedError:
        return  # whoever reads it says what is wrong with it, and repeats nothing of it
    refuse_pasted(statement, "statement")

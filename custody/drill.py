"""A drill: a node's word that one backup, typed or opened again, gave its key."""

from __future__ import annotations

from dataclasses import dataclass

from custody.backups import Form
from custody.canonical import Json, decode
from custody.errors import MalformedError
from custody.fields import Fields
from custody.statements import Kind, Signed


@dataclass(frozen=True, slots=True)
class Drill:
    """fingerprint: 4 bytes, of the master key that came out.  holder: whose backup it was.  at: UTC seconds."""

    node: str
    fingerprint: bytes
    form: Form
    holder: str
    at: int

    def to_json(self) -> Json:
        """Return the statement that the node's identity key signs."""
        return {
            "node": self.node,
            "fingerprint": self.fingerprint.hex(),
            "form": self.form.value,
            "holder": self.holder,
            "at": self.at,
        }


def read_drill(signed: Signed) -> Drill:
    """Return the drill inside `signed`; the signature is not judged here.

    Raises:
        MalformedError: STATEMENT_KIND, BACKUP_FORM, or a FIELD_ code.
    """
    if signed.kind is not Kind.DRILL:
        raise MalformedError("STATEMENT_KIND", f"expected a drill, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "drill")
    form_text = fields.text("form")
    form = next((f for f in Form if f.value == form_text), None)
    if form is None:
        raise MalformedError("BACKUP_FORM", f"expected {', '.join(f.value for f in Form)}")
    drill = Drill(fields.name("node"), fields.hex("fingerprint", 4), form, fields.name("holder"), fields.time("at"))
    fields.done()
    return drill

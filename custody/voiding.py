"""Taking back a rule document that waits: signed by the change quorum in force, at once, and for ever.

It leaves the rules as they are, as a next version that changes nothing would; so it waits for nothing. A voided
document is dead: its signatures still hold, and whoever logs it again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody.canonical import Json, decode
from custody.consent import CHANGE, shares
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.governing import Rules
from custody.statements import Kind, Signed


@dataclass(frozen=True, slots=True)
class Void:
    """The end of one document that waits. genesis, rules: 32 bytes each; rules is the document's hash."""

    genesis: bytes
    rules: bytes
    at: int

    def to_json(self) -> Json:
        """Return the statement that is signed."""
        return {"genesis": self.genesis.hex(), "rules": self.rules.hex(), "at": self.at}


def read_void(signed: Signed) -> Void:
    """Return the void inside `signed`; the signatures are not judged here. Raises MalformedError."""
    if signed.kind is not Kind.VOID:
        raise MalformedError("STATEMENT_KIND", f"expected a void, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "void")
    void = Void(fields.hex("genesis", 32), fields.hex("rules", 32), fields.time("at"))
    fields.done()
    return void


def void_fits(rules: Rules, genesis: bytes, signed: Signed) -> Void | Refused:
    """Return what `signed` takes back, where that waits; or why it takes back nothing. genesis: 32 bytes."""
    try:
        void = read_void(signed)
    except MalformedError as error:
        return Refused(error.code, "a void", error.message)
    if void.genesis != genesis:
        return Refused("GENESIS_OTHER", genesis.hex(), void.genesis.hex())
    if all(waiting.policy.hash != void.rules for waiting in rules.waiting):
        return Refused("VOID_NOTHING", "a rule document that waits in the log", void.rules.hex())
    return void


def void_stands(rules: Rules, genesis: bytes, signed: Signed, t: int) -> Void | Refused:
    """Return what `signed` takes back when witnesses first see it at `t`, or why it does nothing.

    Args:
        rules: in force at `t`.
        genesis: 32 bytes.
        signed: the void with its signatures.
        t: UTC seconds.
    """
    void = void_fits(rules, genesis, signed)
    if isinstance(void, Refused):
        return void
    (share,) = shares(rules.policy, (CHANGE,), signed, t)
    if share.missing:
        return Refused("RULES_QUORUM", f"{share.missing} more of the {CHANGE}", ", ".join(share.have) or "none")
    return void

"""What travels to a signer and back: bundle, delta, answer; one canonical JSON document each, whatever the courier.

Reading one believes nothing in it: shapes and sizes are checked here, meaning is for `judge` and `custody.follow`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from custody.canonical import Json, decode, encode
from custody.entries import MAX_NOTE_CHARS
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.signatures import InputSignature
from custody.statements import Kind, Signed

PROTOCOL = 1
MAX_BUNDLE_BYTES = 6 * 1024 * 1024  # a 2 MiB PSBT in base64, 256 KiB of log and their statements; gRPC carries 8 MiB
MAX_DELTA_BYTES = 6 * 1024 * 1024  # one chunk; more entries go into the next chunk
MAX_ENTRIES_IN_BUNDLE_BYTES = 256 * 1024  # protocol.md "Bundle": behind by more, a delta goes first
MAX_PSBT_BYTES = 2 * 1024 * 1024
_MAX_PSBT_CHARS = MAX_PSBT_BYTES * 4 // 3 + 4
_MAX_ENTRIES = 20_000
_MAX_SIGNATURES = 30_000  # 15 keys on 2,000 inputs
_MAX_PROOF = 64


@dataclass(frozen=True, slots=True)
class LogPart:
    """Consecutive money-log entries with the statements they name.

    first: index of the first entry.  entries: canonical bytes.  note: the cosigned checkpoint they end at.
    """

    first: int
    entries: tuple[bytes, ...]
    statements: tuple[Signed, ...]
    note: str

    def by_digest(self) -> dict[bytes, Signed]:
        """Return the statements by digest (32 bytes)."""
        return {signed.digest: signed for signed in self.statements}

    def from_size(self, size: int) -> tuple[bytes, ...]:
        """Return the entries from index `size` on. Raises MalformedError LOG_GAP where entries are missing."""
        if size < self.first:
            raise MalformedError("LOG_GAP", f"expected entries from {size} on, found them from {self.first}")
        return self.entries[size - self.first :]

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "first": self.first,
            "entries": [decode(raw) for raw in self.entries],
            "statements": [signed.to_json() for signed in self.statements],
            "note": self.note,
        }

    @staticmethod
    def from_fields(fields: Fields) -> LogPart:
        """Read the JSON form."""
        part = LogPart(
            first=fields.integer("first"),
            entries=tuple(encode(item) for item in fields.items("entries", _MAX_ENTRIES)),
            statements=tuple(Signed.from_json(item) for item in fields.items("statements", 4 * _MAX_ENTRIES)),
            note=fields.text("note", MAX_NOTE_CHARS),
        )
        fields.done()
        return part


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything one signer needs to judge one release.

    psbt: without signatures.  release_index, inclusion: where the RELEASE stands and its proof (32-byte hashes).
    covering: the first cosigned checkpoint over the RELEASE (fixes its T).  log.note: a fresh one of the same size.
    signatures: collected so far, in signing order.  raw: the bytes it was read from.
    """

    genesis: bytes
    node: str
    withdrawal: Signed
    approvals: tuple[Signed, ...]
    psbt: bytes
    release_index: int
    inclusion: tuple[bytes, ...]
    covering: str
    log: LogPart
    signatures: tuple[InputSignature, ...]
    raw: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what couriers carry."""
        return encode(
            {
                "format": "keyturn-bundle",
                "protocol": PROTOCOL,
                "genesis": self.genesis.hex(),
                "node": self.node,
                "withdrawal": self.withdrawal.to_json(),
                "approvals": [signed.to_json() for signed in self.approvals],
                "psbt": base64.b64encode(self.psbt).decode(),
                "release_index": self.release_index,
                "inclusion": [item.hex() for item in self.inclusion],
                "covering": self.covering,
                "log": self.log.to_json(),
                "signatures": signatures_to_json(self.signatures),
            }
        )


def parse_bundle(raw: bytes) -> Bundle:
    """Return the bundle whose canonical bytes are `raw`.

    Raises:
        MalformedError: BUNDLE_TOO_LARGE, PROTOCOL, or what its fields say.
    """
    fields = _open(raw, "keyturn-bundle", MAX_BUNDLE_BYTES, "BUNDLE_TOO_LARGE")
    bundle = Bundle(
        genesis=fields.hex("genesis", 32),
        node=fields.name("node"),
        withdrawal=Signed.from_json(fields.any("withdrawal")),
        approvals=tuple(Signed.from_json(item) for item in fields.items("approvals", 64)),
        psbt=_base64(fields.text("psbt", _MAX_PSBT_CHARS)),
        release_index=fields.integer("release_index"),
        inclusion=_hashes(fields, "inclusion"),
        covering=fields.text("covering", MAX_NOTE_CHARS),
        log=LogPart.from_fields(fields.fields("log")),
        signatures=signatures_from_items(fields.items("signatures", _MAX_SIGNATURES)),
        raw=raw,
    )
    fields.done()
    return bundle


@dataclass(frozen=True, slots=True)
class Delta:
    """Log entries alone: brings a signer that is far behind up to a cosigned checkpoint of any age."""

    genesis: bytes
    log: LogPart

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "format": "keyturn-delta",
                "protocol": PROTOCOL,
                "genesis": self.genesis.hex(),
                "log": self.log.to_json(),
            }
        )


def parse_delta(raw: bytes) -> Delta:
    """Return the delta whose canonical bytes are `raw`. Raises MalformedError (DELTA_TOO_LARGE, ...)."""
    fields = _open(raw, "keyturn-delta", MAX_DELTA_BYTES, "DELTA_TOO_LARGE")
    delta = Delta(fields.hex("genesis", 32), LogPart.from_fields(fields.fields("log")))
    fields.done()
    return delta


@dataclass(frozen=True, slots=True)
class Behind:
    """A signer's answer to a bundle whose log part starts beyond what it has. size: entries it has."""

    size: int


Outcome = tuple[InputSignature, ...] | Refused | Behind


@dataclass(frozen=True, slots=True)
class Answer:
    """What a signer says to one bundle: signatures with a receipt, a refusal, or that it is behind.

    txid: 32 bytes, wire order, of the unsigned transaction (zeros where the signer did not get that far).
    receipt: the node's identity key over what it signed or why it refused; none where it is behind.
    """

    genesis: bytes
    node: str
    withdrawal_digest: bytes
    txid: bytes
    outcome: Outcome
    receipt: Signed | None = None

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        document: dict[str, Json] = {
            "format": "keyturn-answer",
            "protocol": PROTOCOL,
            "genesis": self.genesis.hex(),
            "node": self.node,
            "withdrawal_digest": self.withdrawal_digest.hex(),
            "txid": self.txid[::-1].hex(),
        }
        document |= _outcome_to_json(self.outcome)
        if self.receipt is not None:
            document["receipt"] = self.receipt.to_json()
        return encode(document)


def parse_answer(raw: bytes) -> Answer:
    """Return the answer whose canonical bytes are `raw`. Raises MalformedError (ANSWER_TOO_LARGE, ...)."""
    fields = _open(raw, "keyturn-answer", MAX_BUNDLE_BYTES, "ANSWER_TOO_LARGE")
    genesis, node = fields.hex("genesis", 32), fields.name("node")
    digest, txid = fields.hex("withdrawal_digest", 32), fields.hex("txid", 32)[::-1]
    outcome = _read_outcome(fields)
    receipt = Signed.from_json(fields.any("receipt")) if fields.has("receipt") else None
    fields.done()
    return Answer(genesis, node, digest, txid, outcome, receipt)


def _outcome_to_json(outcome: Outcome) -> dict[str, Json]:
    if isinstance(outcome, Refused):
        return {"refused": {"code": outcome.code, "expected": outcome.expected, "found": outcome.found}}
    if isinstance(outcome, Behind):
        return {"behind": outcome.size}
    return {"signatures": signatures_to_json(outcome)}


def _read_outcome(fields: Fields) -> Outcome:
    if fields.has("refused"):
        refused = fields.fields("refused")
        found = Refused(refused.text("code", 64), refused.text("expected", 1024), refused.text("found", 1024))
        refused.done()
        return found
    if fields.has("behind"):
        return Behind(fields.integer("behind"))
    signatures = signatures_from_items(fields.items("signatures", _MAX_SIGNATURES))
    if not signatures:
        raise MalformedError("ANSWER_OUTCOME", "expected at least one signature")
    return signatures


def receipt_statement(answer: Answer, release_index: int, signed_at: int) -> Json:
    """Return what a node's identity key signs with its answer: what left it, or its no, and to which release.

    A refusal is signed too: enough of them end a withdrawal, so nobody may say no in another's name.
    """
    if isinstance(answer.outcome, Behind):
        raise MalformedError("ANSWER_OUTCOME", "expected signatures or a refusal to receipt")
    return {
        "genesis": answer.genesis.hex(),
        "node": answer.node,
        "withdrawal_digest": answer.withdrawal_digest.hex(),
        "txid": answer.txid[::-1].hex(),
        "release_index": release_index,
        "at": signed_at,
        **_outcome_to_json(answer.outcome),
    }


def check_receipt(answer: Answer, release_index: int, identity: bytes) -> None:
    """Prove that `answer`'s receipt is by `identity` (32 bytes) and speaks of exactly this answer.

    Raises:
        MalformedError: RECEIPT_MISSING, RECEIPT_SIGNATURE or RECEIPT_MISMATCH.
    """
    if answer.receipt is None or answer.receipt.kind is not Kind.RECEIPT:
        raise MalformedError("RECEIPT_MISSING", f"expected a receipt of node {answer.node}")
    if len(answer.receipt.endorsements) != 1 or not answer.receipt.signed_by(identity):
        raise MalformedError("RECEIPT_SIGNATURE", f"expected the identity key of node {answer.node} alone")
    signed_at = Fields(decode(answer.receipt.raw), "receipt").time("at")
    if answer.receipt.raw != encode(receipt_statement(answer, release_index, signed_at)):
        raise MalformedError("RECEIPT_MISMATCH", "expected a receipt for this answer")


def read_receipt(receipt: Signed) -> tuple[Answer, int]:
    """Return the answer that a node's receipt speaks of, itself in it, and the release; `check_receipt` proves it."""
    if receipt.kind is not Kind.RECEIPT:
        raise MalformedError("STATEMENT_KIND", f"expected a node's receipt, found {receipt.kind.name}")
    fields = Fields(decode(receipt.raw), "receipt")
    answer = Answer(
        genesis=fields.hex("genesis", 32),
        node=fields.name("node"),
        withdrawal_digest=fields.hex("withdrawal_digest", 32),
        txid=fields.hex("txid", 32)[::-1],
        outcome=_read_outcome(fields),
        receipt=receipt,
    )
    return answer, fields.integer("release_index")


def signatures_to_json(signatures: Sequence[InputSignature]) -> list[Json]:
    """Return [[input, public key, signature], ...]."""
    return [[s.input_index, s.pubkey.hex(), s.signature.hex()] for s in signatures]


def signatures_from_items(items: Sequence[Json]) -> tuple[InputSignature, ...]:
    """Read `signatures_to_json` back; what they are worth is for `custody.signatures`."""
    found = []
    for item in items:
        if not isinstance(item, list | tuple) or len(item) != 3:
            raise MalformedError("SIGNATURE_SHAPE", "expected [input, public key, signature]")
        fields = Fields({"input": item[0], "pubkey": item[1], "signature": item[2]}, "signature")
        key_bytes = 32 if len(str(item[1])) == 64 else 33  # x-only in taproot
        found.append(
            InputSignature(
                fields.integer("input", 0, 100_000), fields.hex("pubkey", key_bytes), fields.hex("signature")
            )
        )
    return tuple(found)


def _open(raw: bytes, kind: str, max_bytes: int, too_large: str) -> Fields:
    if len(raw) > max_bytes:
        raise MalformedError(too_large, f"expected at most {max_bytes} bytes, found {len(raw)}")
    fields = Fields(decode(raw), kind)
    found_kind, protocol = fields.text("format", 40), fields.integer("protocol")
    if (found_kind, protocol) != (kind, PROTOCOL):
        raise MalformedError("PROTOCOL", f"expected {kind} version {PROTOCOL}, found {found_kind!r} version {protocol}")
    return fields


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one; a letter that is not ASCII raises the plain one
        raise MalformedError("BASE64", "expected strict base64") from error
    if base64.b64encode(raw).decode() != text:
        raise MalformedError("BASE64", "expected the one spelling of these bytes")
    return raw


def _hashes(fields: Fields, key: str) -> tuple[bytes, ...]:
    return tuple(Fields({"hash": item}, key).hex("hash", 32) for item in fields.items(key, _MAX_PROOF))


def summary_of(answer: Answer) -> dict[str, Json]:
    """Return what `answer` says in a few fields, for people and logs: never the signatures themselves."""
    told: dict[str, Json] = {"node": answer.node, "withdrawal": answer.withdrawal_digest.hex()}
    if isinstance(answer.outcome, Refused):
        return {
            **told,
            "refused": answer.outcome.code,
            "expected": answer.outcome.expected,
            "found": answer.outcome.found,
        }
    if isinstance(answer.outcome, Behind):
        return {**told, "behind": answer.outcome.size}
    return {**told, "txid": answer.txid[::-1].hex(), "signed_inputs": len(answer.outcome)}

"""The evidence bundle of one withdrawal: a ZIP that proves by itself who asked, who agreed, and what was signed.

`make_evidence` cuts it out of a verified export, the same bytes each time; `verify_evidence` needs nothing but the file
and the hash of the genesis. It proves that these entries are in logs that w witnesses vouched for, and that people and
keys signed. That budgets held and that nothing was paid twice takes the whole log: `custody.replay`.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from custody.approval import read_approval
from custody.audit import (
    Export,
    Log,
    Subtrees,
    Verdict,
    VerdictKind,
    inclusion_proof,
    leaf_hash,
    verify_inclusion,
)
from custody.canonical import decode, encode
from custody.entries import Document, EntryKind, MoneyEntry, Release, Witnessed, parse_entry, statements_of
from custody.errors import CustodyError, MalformedError, NotFoundError, Refused
from custody.evidence_receipts import check_receipts, receipts_of
from custody.facts import ShapeLimits, check_matches, read_facts
from custody.fields import Fields
from custody.follow import Pending, State, in_force, open_under, start, time_of
from custody.genesis import Genesis, check_signed, parse_genesis
from custody.people import verify_people
from custody.policy import Policy
from custody.psbt import parse
from custody.release import release_of
from custody.replay import check_multisig
from custody.settle import succeed_by
from custody.statements import Signed
from custody.story import Story, psbt_of, stories_of, transaction_of
from custody.transaction import parse_transaction
from custody.wallet import ScriptBook
from custody.withdrawal import read_withdrawal

FORMAT = "keyturn-evidence/1"
MAX_FILES = 10_000  # entries, proofs and statements of one withdrawal
MAX_EVIDENCE_BYTES = 64 * 1024 * 1024  # a PSBT, a transaction and some thousand entries at their largest
MAX_CHANGE_INDEX = 100_000  # a script is derived for each index below: some 20 s, and 270 withdrawals a day for a year
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can say: the same bytes whenever it is made
_MANIFEST = "manifest.json"
_RECEIPTS = "receipts/"


def make_evidence(export: Export, digest: bytes) -> bytes:
    """Return the evidence bundle of the withdrawal `digest` (32 bytes).

    Raises:
        NotFoundError: WITHDRAWAL_UNKNOWN, or BODY_PRUNED where its own statement is gone.
        MalformedError, IntegrityError: the export was not verified.
    """
    story = next((story for story in stories_of(export) if story.digest == digest), None)
    if story is None:
        raise NotFoundError("WITHDRAWAL_UNKNOWN", f"expected the withdrawal {digest.hex()} in the export")
    if story.signed is None:
        raise NotFoundError("BODY_PRUNED", f"expected the statement of {digest.hex()}")
    files: dict[str, bytes] = {"genesis.json": export.genesis.to_bytes(), "withdrawal.json": story.signed.to_bytes()}
    for log in Log:
        files[f"{log.value}/checkpoint.txt"] = export.checkpoints[log].encode()
    entries = [parse_entry(raw) for raw in export.entries[Log.MONEY]]
    _add_entries(files, export, Log.MONEY, _money_places(story, entries))
    _add_entries(files, export, Log.EVENT, [event.index for event in story.events])
    rules = [entry for entry in entries if entry.kind is EntryKind.RULE]
    for named in {d for entry in (*(t.entry for t in story.money), *rules) for d in statements_of(entry)} - {digest}:
        body = export.bodies[named]
        if isinstance(body, Signed):
            files[f"statements/{named.hex()}.json"] = body.to_bytes()
    for receipt in receipts_of(story, export):
        files[f"{_RECEIPTS}{receipt.digest.hex()}.json"] = receipt.to_bytes()
    raws = {"psbt.bin": psbt_of(story, export), "transaction.bin": transaction_of(story, export)}
    files |= {name: found for name, found in raws.items() if found is not None}
    return _zip(digest, files)


def verify_evidence(raw: bytes, genesis_hash: bytes) -> Verdict:
    """Return OK with the withdrawal and the time by which witnesses vouched for it, or what is wrong with the bundle.

    Args:
        raw: the ZIP.
        genesis_hash: 32 bytes, as the verifier knows it from elsewhere.
    """
    # Plan: 1 files are those of the manifest · 2 genesis · 3 checkpoints · 4 each entry is in its log · 5 receipts ·
    #       6 people agreed · 7 the PSBT is the released one · 8 its signatures.
    try:
        digest, files = _unzip(raw)
        genesis = _genesis(files, genesis_hash)
        found = _Evidence(genesis, digest, files)
        found.check_entries()
        found.check_receipts()
        refused = found.check_releases()
    except CustodyError as error:
        return Verdict(VerdictKind.MODIFIED, f"{error.code}: {error.message}")
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError, ValueError, OSError) as error:
        return Verdict(VerdictKind.MODIFIED, f"expected a ZIP as `make_evidence` makes it: {type(error).__name__}")
    if refused is not None:
        return Verdict(VerdictKind.POLICY_VIOLATION, str(refused), withdrawal=digest.hex())
    return Verdict(VerdictKind.OK, size=found.sizes[Log.MONEY], time=found.time, withdrawal=digest.hex())


def _money_places(story: Story, entries: list[MoneyEntry]) -> list[int]:
    """Return the entries of a withdrawal and the rule documents, each with the WITNESS entry that fixes its T."""
    places = set()
    rules = [at for at, entry in enumerate(entries) if entry.kind is EntryKind.RULE]
    for index in [*(told.index for told in story.money), *rules]:
        places.add(index)
        later = (at for at in range(index + 1, len(entries)) if entries[at].kind is EntryKind.WITNESS)
        places.update([at for at in [next(later, None)] if at is not None])
    return sorted(places)


def _add_entries(files: dict[str, bytes], export: Export, log: Log, places: list[int]) -> None:
    tree, size = Subtrees(export.leaves[log]), len(export.leaves[log])
    for index in places:
        files[f"{log.value}/{index}.json"] = export.entries[log][index]
        proof = inclusion_proof(tree, index, size)
        files[f"{log.value}/{index}.proof"] = "".join(f"{node.hex()}\n" for node in proof).encode()


def _zip(digest: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return the files in one ZIP, stored and in order, behind a manifest of their SHA-256."""
    hashes = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    manifest = encode({"format": FORMAT, "withdrawal": digest.hex(), "files": hashes})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, body in ((_MANIFEST, manifest), *sorted(files.items())):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # the same on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, body)
    return out.getvalue()


def _unzip(raw: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the withdrawal's digest and the files, once the whole ZIP is the one spelling of its own content."""
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise MalformedError("EVIDENCE_TOO_LARGE", f"expected at most {MAX_EVIDENCE_BYTES} bytes, found {len(raw)}")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_FILES or any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits for e in entries):
            raise MalformedError("EVIDENCE_FORM", f"expected at most {MAX_FILES} files, none compressed or encrypted")
        files = {entry.filename: archive.read(entry) for entry in entries}
    manifest = Fields(decode(files.pop(_MANIFEST, b"")), "manifest")
    if (found := manifest.text("format")) != FORMAT:
        raise MalformedError("EVIDENCE_FORM", f"expected {FORMAT}, found {found[:40]!r}")
    digest = manifest.hex("withdrawal", 32)
    if _zip(digest, files) != raw:
        raise MalformedError("EVIDENCE_HASH", "expected exactly the files and hashes of the manifest")
    return digest, files


def _genesis(files: Mapping[str, bytes], genesis_hash: bytes) -> Genesis:
    genesis = parse_genesis(Signed.from_bytes(_file(files, "genesis.json")))
    if genesis.hash != genesis_hash:
        raise MalformedError("GENESIS_OTHER", f"expected the genesis {genesis_hash.hex()}, found {genesis.hash.hex()}")
    check_signed(genesis)
    return genesis


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise MalformedError("EVIDENCE_FILE", f"expected the file {name}")
    return files[name]


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    entry: MoneyEntry


class _Evidence:
    """The files of one bundle while they are checked. sizes: of each log.  time: UTC seconds.

    Rule documents that the bundle leaves out are not missed here: only a whole export shows that there is no other.
    """

    def __init__(self, genesis: Genesis, digest: bytes, files: Mapping[str, bytes]) -> None:
        self._genesis, self._digest, self._files = genesis, digest, files
        self._money = [
            _Entry(index, parse_entry(files[f"{Log.MONEY.value}/{index}.json"])) for index in self._places(Log.MONEY)
        ]
        self._dated: dict[int, tuple[Policy, int]] = {}  # the rules of each release, and its T
        self._state = self._follow_rules()
        self.sizes: dict[Log, int] = {}
        self.time = -1

    def check_entries(self) -> None:
        """Prove that every entry is in its log, as the cosigned checkpoints have it."""
        for log in Log:
            note = _file(self._files, f"{log.value}/checkpoint.txt").decode()
            state, cosigned = open_under(self._state, note, log)
            vouched = cosigned.oldest_counted(state.policy.roots.w) or -1
            self.sizes[log] = cosigned.checkpoint.size
            self.time = vouched if log is Log.MONEY else self.time
            for index in self._places(log):
                raw = self._files[f"{log.value}/{index}.json"]
                proof = tuple(map(bytes.fromhex, _file(self._files, f"{log.value}/{index}.proof").decode().split()))
                checkpoint = cosigned.checkpoint
                if not verify_inclusion(leaf_hash(raw), index, checkpoint.size, proof, checkpoint.root):
                    raise MalformedError("INCLUSION", f"expected a proof of {log.value} entry {index}")

    def check_receipts(self) -> None:
        """Prove every receipt in the bundle."""
        raws = [raw for name, raw in sorted(self._files.items()) if name.startswith(_RECEIPTS)]
        releases = {e.index: e.entry.body for e in self._money if isinstance(e.entry.body, Release)}
        statements = frozenset(digest for e in self._money for digest in statements_of(e.entry))
        versions = self._state.rules.versions
        check_receipts([Signed.from_bytes(raw) for raw in raws], self._genesis.hash, versions, releases, statements)

    def _follow_rules(self) -> State:
        """Return the state under the last rules in the bundle, with the rules and T of each release on the way."""
        state, tail = start(self._genesis), list[_Entry]()
        for found in self._money:
            if not isinstance(found.entry.body, Witnessed):
                tail.append(found)
                continue
            vouched, cosigned = open_under(state, found.entry.body.note)
            state, tail = self._settled(vouched, tail, time_of(cosigned)), []
        for found in tail:
            state = self._settled(in_force(state, found.entry.time), [found], found.entry.time)
        return state

    def _settled(self, state: State, tail: list[_Entry], t: int) -> State:
        for found in tail:
            body = found.entry.body
            if isinstance(body, Release):
                self._dated[found.index] = (state.policy, t)
            elif isinstance(body, Document) and found.entry.kind is EntryKind.RULE:
                signed = Signed.from_bytes(_file(self._files, f"statements/{body.statement.hex()}.json"))
                if signed.digest != body.statement:
                    raise MalformedError("STATEMENT_OTHER", "expected the rules document that the entry names")
                state = succeed_by(state, Pending(found.index, found.entry, {signed.digest: signed}), t)
        return state

    def check_releases(self) -> Refused | None:
        """Judge what one withdrawal's own papers can show: people, transaction, signatures."""
        signed = Signed.from_bytes(_file(self._files, "withdrawal.json"))
        if signed.digest != self._digest:
            raise MalformedError("WITHDRAWAL_OTHER", f"expected the withdrawal {self._digest.hex()}")
        releases = [e for e in self._money if isinstance(e.entry.body, Release)]
        ours = [e for e in releases if isinstance(e.entry.body, Release) and e.entry.body.txid == self._txid()]
        refusals = [self._check_release(found, signed) for found in ours or releases]
        if "transaction.bin" in self._files and not ours:
            return Refused("RELEASE_MISSING", "a release of the transaction", "none")
        return None if not refusals or None in refusals else refusals[0]

    def _check_release(self, found: _Entry, signed: Signed) -> Refused | None:
        release = found.entry.body
        assert isinstance(release, Release)  # noqa: S101 - the caller chose it by that
        withdrawal = read_withdrawal(signed)
        statements = [Signed.from_bytes(_file(self._files, f"statements/{d.hex()}.json")) for d in release.approvals]
        if tuple(s.digest for s in statements) != release.approvals or release.withdrawal_digest != self._digest:
            raise MalformedError("STATEMENT_OTHER", "expected the withdrawal and approvals that the release names")
        approvals = tuple((read_approval(s), s) for s in statements)
        policy, t = self._dated[found.index]
        if refused := verify_people(policy, withdrawal, signed, approvals, t):
            return refused
        wallet = self._state.genesis.wallet(release.wallet_id)
        if wallet is None or "psbt.bin" not in self._files:
            return Refused("PSBT_MISSING", "the PSBT of the release", "none")
        book, psbt = ScriptBook(wallet.wallet), parse(self._files["psbt.bin"])
        highest = max((index for index, _ in release.change), default=0)
        facts = read_facts(psbt, book, ShapeLimits(min(highest, MAX_CHANGE_INDEX), 0, len(psbt.outputs)))
        if isinstance(facts, Refused):
            return facts
        if release != release_of(withdrawal, release.approvals, facts, release.family, release.time):
            return Refused("RELEASE_MISMATCH", "a release of exactly this transaction", "another")
        if refused := check_matches(withdrawal, facts, wallet.wallet):
            return refused
        if "transaction.bin" not in self._files:
            return None
        transaction = parse_transaction(self._files["transaction.bin"])
        if transaction.unsigned() != psbt.transaction:
            return Refused("TRANSACTION_OTHER", f"the transaction {release.txid[::-1].hex()}", transaction.txid_hex)
        return check_multisig(transaction, psbt, facts, book)

    def _txid(self) -> bytes:
        """Return the txid, as releases name it, of the exported transaction, or of the PSBT where none was finished."""
        if "transaction.bin" in self._files:
            return parse_transaction(self._files["transaction.bin"]).unsigned().txid
        return parse(self._files["psbt.bin"]).transaction.txid if "psbt.bin" in self._files else b""

    def _places(self, log: Log) -> list[int]:
        names = [name for name in self._files if name.startswith(f"{log.value}/") and name.endswith(".json")]
        return sorted(int(name.removeprefix(f"{log.value}/").removesuffix(".json")) for name in names)

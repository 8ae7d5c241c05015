"""The demo: one story on real parts, from key ceremony to a confirmed payment and a log that anyone can verify.

    python3 dev.py demo [--json] [--keep]

It starts two OpenBao servers, a witness, a coordinator and three nodes on loopback, in a directory of its own, and ends
them. W = 3, w = 2, f = 0 and everything on one machine: fine to look at, unsafe to keep money in.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from custody.address import address_of
from custody.audit import inclusion_proof, leaf_hash
from custody.bundle import Bundle, parse_bundle
from custody.canonical import Json
from custody.psbt import Psbt, PsbtInput, PsbtOutput, parse, serialize
from custody.psbt_fields import Field, FieldMap
from custody.transaction import TxOut
from custody.units import Sats, btc_text
from custody.wallet import Network
from custody.words import word_rows
from deploy.stack import Stack, build

SMALL_SATS, LARGE_SATS, TAMPERED_SATS = Sats(2_500_000), Sats(250_000_000), Sats(150_000_000)
PAYEE_SCRIPT, STRANGER_SCRIPT = b"\x00\x14" + bytes(range(20)), b"\x00\x14" + b"\xee" * 20
DEPOSITS = 3
COINBASE_MATURITY_BLOCKS = 100
AUDIT_MODIFIED = 11  # exit code of `keyturn audit verify`


def main() -> int:
    """Run the demo; return 0 when every step went as told."""
    parser = argparse.ArgumentParser(prog="demo", description="The whole story on real parts.")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--keep", action="store_true", help="leave it running and say how to talk to it")
    args = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    directory = Path(tempfile.mkdtemp(prefix="keyturn-demo-"))
    stack = build(directory, say)
    try:
        stack.start()
        told = _story(stack)
        is_fine = _is_fine(told)
        say("done" if is_fine else "NOT as it should be")
        if args.json:
            print(json.dumps(told, sort_keys=True), flush=True)
        if args.keep:
            _keep(stack)
    finally:
        stack.stop()
        if not args.keep:
            shutil.rmtree(directory)
    return 0 if is_fine else 1


def _story(stack: Stack) -> dict[str, Json]:
    _fund(stack)
    small = _small(stack)
    large = _large(stack)
    refused = _lies(stack)
    audit, tampered = _audit(stack)
    return {"small": small, "large": large, "refused": refused, "audit": audit, "tampered_audit": tampered}


def _fund(stack: Stack) -> None:
    for _ in range(DEPOSITS):
        address = stack.keyturn("alice", "wallet", "address")["address"]
        stack.keyturn("alice", "chain", "mine", "1", "--to", address)
    stack.keyturn("alice", "chain", "mine", str(COINBASE_MATURITY_BLOCKS))
    stack.say(f"funded by mining to addresses that alice's own program derived, last {address}")


def _small(stack: Stack) -> dict[str, Json]:
    stack.say(f"(a) alice asks for {btc_text(SMALL_SATS)} BTC: policy alone allows it, two Vault nodes sign,")
    stack.say("    alpha's key inside its vault, behind a judge of its own")
    _propose(stack, "small-1", SMALL_SATS)
    return _confirmed(stack, "small-1")


def _large(stack: Stack) -> dict[str, Json]:
    stack.say(f"(b) alice asks for {btc_text(LARGE_SATS)} BTC: two people and the offline node first")
    asked = _propose(stack, "large-1", LARGE_SATS)
    stack.say("    the approvers and the offline node's screen show the same words:")
    for row in word_rows(bytes.fromhex(asked["digest"])).splitlines():
        stack.say(f"      {row}")
    bundle = _approved_bundle(stack, "large-1")
    stack.say(f"    file out ({bundle.stat().st_size:,} bytes), carried to the offline node, judged and signed there")
    answer = stack.directory / "large-1.answer.json"
    stack.signer("cold", "offline", str(bundle), "--out", str(answer), "--yes")
    stack.keyturn("alice", "bundle", "import", str(answer))
    stack.say("    file in: its signature verified; now a Vault node may sign")
    return _confirmed(stack, "large-1")


def _propose(stack: Stack, withdrawal_id: str, amount: Sats) -> dict[str, Any]:
    to = f"{address_of(PAYEE_SCRIPT, Network.REGTEST)}={amount}:invoice {withdrawal_id}"
    return stack.keyturn("alice", "propose", "--to", to, "--id", withdrawal_id, "--yes")


def _approved_bundle(stack: Stack, withdrawal_id: str) -> Path:
    """Have two people approve and write the offline node's bundle to a file."""
    for person in ("bob", "carol"):
        stack.keyturn(person, "approve", f"alice/{withdrawal_id}", "--yes")
        stack.say(f"    {person} approved what their own program showed")
    stack.keyturn("alice", "watch", withdrawal_id, "--until", "signing", "--timeout", "30")
    path = stack.directory / f"{withdrawal_id}.bundle.json"
    stack.keyturn("alice", "bundle", "export", withdrawal_id, "--node", "cold", "--out", str(path))
    return path


def _confirmed(stack: Stack, withdrawal_id: str) -> dict[str, Json]:
    stack.keyturn("alice", "watch", withdrawal_id, "--until", "broadcast", "--timeout", "30")
    stack.keyturn("alice", "chain", "mine", "1")
    seen = stack.keyturn("alice", "watch", withdrawal_id, "--until", "confirmed", "--timeout", "30")
    stack.say(f"    {seen['txid']} accepted by Bitcoin Core's consensus code and confirmed")
    return {"txid": str(seen["txid"]), "status": str(seen["stage"])}


def _lies(stack: Stack) -> list[Json]:
    """A coordinator that lies in a bundle: the offline node judges each and refuses by code."""
    stack.say("(c) a lying coordinator hands the offline node three tampered bundles")
    _propose(stack, "lie-1", TAMPERED_SATS)
    honest = parse_bundle(_approved_bundle(stack, "lie-1").read_bytes())
    lies = {
        "change to a stranger": change_to_stranger(honest),
        "a false amount": false_amount(honest),
        "a RELEASE for another transaction": another_release(honest),
    }
    codes: list[Json] = []
    for name, bundle in lies.items():
        path = stack.directory / f"lie-{len(codes)}.json"
        path.write_bytes(bundle.to_bytes())
        told = stack.signer("cold", "offline", str(path), "--out", f"{path}.answer", "--yes")
        stack.say(f"    {name}: refused, {told.get('refused', 'NOT REFUSED')}")
        codes.append(str(told.get("refused", "")))
    stack.keyturn("bob", "reject", "alice/lie-1", "--yes")
    return codes


def change_to_stranger(bundle: Bundle) -> Bundle:
    """Return the bundle with its change output paying somebody else."""
    psbt = parse(bundle.psbt)
    changed = next(at for at, output in enumerate(psbt.outputs) if output.fields)
    outputs = list(psbt.transaction.outputs)
    outputs[changed] = TxOut(outputs[changed].amount, STRANGER_SCRIPT)
    transaction = replace(psbt.transaction, outputs=tuple(outputs))
    maps = tuple(PsbtOutput(()) if at == changed else found for at, found in enumerate(psbt.outputs))
    fields = FieldMap((Field(b"\0", transaction.serialize_stripped()),))
    return replace(bundle, psbt=serialize(Psbt(fields, transaction, psbt.inputs, maps)))


def false_amount(bundle: Bundle) -> Bundle:
    """Return the bundle with a witness_utxo that claims fewer sats than the coin has (CVE-2020-14199)."""
    psbt = parse(bundle.psbt)
    spent = psbt.inputs[0].witness_utxo
    if spent is None:
        raise ValueError("expected our own PSBT")
    lie = TxOut(Sats(spent.amount - 1), spent.script).serialize()
    fields = tuple(Field(f.key, lie) if f.key == b"\x01" else f for f in psbt.inputs[0].fields)
    return replace(bundle, psbt=serialize(replace(psbt, inputs=(PsbtInput(fields), *psbt.inputs[1:]))))


def another_release(bundle: Bundle) -> Bundle:
    """Return the bundle with the RELEASE, and its true proof, of the first withdrawal in the log."""
    leaves = [leaf_hash(raw) for raw in bundle.log.entries]
    return replace(bundle, release_index=0, inclusion=inclusion_proof(leaves, 0, len(leaves)))


def _audit(stack: Stack) -> tuple[str, str]:
    """Export the logs, verify them offline, then flip one byte in a copy."""
    export, known = stack.directory / "export.jsonl", stack.directory / "known.checkpoint"
    stack.keyturn("bob", "audit", "checkpoint", "--out", str(known))
    stack.keyturn("alice", "audit", "export", "--out", str(export))
    verdict = stack.keyturn("bob", "audit", "verify", str(export), "--known", str(known))["verdict"]
    raw = bytearray(export.read_bytes())
    raw[raw.index(str(LARGE_SATS).encode())] ^= 1
    copy = stack.directory / "tampered.jsonl"
    copy.write_bytes(raw)
    told = stack.keyturn("bob", "audit", "verify", str(copy), expected=AUDIT_MODIFIED)
    tampered = f"{told['verdict']}({told['index']})"
    stack.say(f"(d) audit of {len(raw):,} bytes: {verdict}; with one byte flipped in a copy: {tampered}")
    return str(verdict), tampered


def _is_fine(told: Mapping[str, Json]) -> bool:
    statuses = [told[name].get("status") for name in ("small", "large") if isinstance(told[name], dict)]  # type: ignore[union-attr]  # just looked
    refused = told["refused"] == ["OUTPUT_NOT_ASKED", "AMOUNT_LIE", "RELEASE_MISMATCH"]
    audits = told["audit"] == "OK" and str(told["tampered_audit"]).startswith("MODIFIED(")
    return statuses == ["confirmed", "confirmed"] and refused and audits


def _keep(stack: Stack) -> None:
    print(f"\nrunning in {stack.directory}; coordinator at {stack.address}. As alice:")
    print(f"  .venv/bin/keyturn --config {stack.person('alice')}/keyturn.toml list")
    print(f"  .venv/bin/keyturn --config {stack.person('alice')}/keyturn.toml propose --to ADDRESS=SATS")
    print("Ctrl-C ends it; the directory stays.", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())

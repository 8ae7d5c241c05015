"""The demo: one story on real parts, from key ceremony to a confirmed payment and a log that anyone can verify.

    python3 dev.py demo [--json] [--keep]

It starts two OpenBao servers, a witness, a coordinator and three nodes on loopback, in a directory of its own, and ends
them. W = 1, w = 1, f = 0 and everything on one machine: fine to look at, unsafe to keep money in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from custody.address import address_of
from custody.audit import ExportKeys, verify_export
from custody.bundle import Bundle, parse_bundle
from custody.canonical import Json
from custody.follow import witness_keys
from custody.psbt import Psbt, PsbtInput, PsbtOutput, parse, serialize
from custody.psbt_fields import Field, FieldMap
from custody.transaction import TxOut
from custody.units import Sats, btc_text
from custody.wallet import Network, ScriptBook
from custody.words import word_rows
from deploy.operations import Operations
from deploy.stack import Stack, build

SMALL_SATS, LARGE_SATS, TAMPERED_SATS = Sats(2_500_000), Sats(250_000_000), Sats(150_000_000)
PAYEE_SCRIPT, STRANGER_SCRIPT = b"\x00\x14" + bytes(range(20)), b"\x00\x14" + b"\xee" * 20
DEPOSITS = 3
COINBASE_MATURITY_BLOCKS = 100


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
        told = asyncio.run(_story(stack))
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


async def _story(stack: Stack) -> dict[str, Json]:
    async with Operations(stack) as operations:
        await _fund(operations)
        small = await _small(operations)
        large = await _large(operations)
        refused = await _lies(operations)
        audit, tampered = await _audit(operations)
    return {"small": small, "large": large, "refused": refused, "audit": audit, "tampered_audit": tampered}


async def _fund(operations: Operations) -> None:
    book = ScriptBook(operations.wallet)
    for index in range(DEPOSITS):
        await operations.mine(1, book.script(0, index).script)
    await operations.mine(COINBASE_MATURITY_BLOCKS, PAYEE_SCRIPT)
    operations.say(
        f"funded by mining to addresses that we derived ourselves, first {_address(book.script(0, 0).script)}"
    )


async def _small(operations: Operations) -> dict[str, Json]:
    operations.say(f"(a) alice asks for {btc_text(SMALL_SATS)} BTC: policy alone allows it, two Vault nodes sign")
    digest = await operations.propose("small-1", [(_address(PAYEE_SCRIPT), SMALL_SATS)])
    return await _confirmed(operations, digest)


async def _large(operations: Operations) -> dict[str, Json]:
    operations.say(f"(b) alice asks for {btc_text(LARGE_SATS)} BTC: two people and the offline node first")
    digest = await operations.propose("large-1", [(_address(PAYEE_SCRIPT), LARGE_SATS)])
    operations.say("    the approvers and the offline node's screen show the same words:")
    for row in word_rows(digest).splitlines():
        operations.say(f"      {row}")
    for person in ("bob", "carol"):
        await operations.approve(digest, person)
        operations.say(f"    {person} approved what their own program showed")
    bundle = await operations.export_bundle(digest, "cold")
    path = operations.stack.directory / "to-cold.json"
    path.write_bytes(bundle)
    operations.say(f"    file out ({len(bundle):,} bytes), carried to the offline node, judged and signed there")
    answer_path = operations.stack.directory / "from-cold.json"
    operations.stack.signer("cold", "offline", str(path), "--out", str(answer_path), "--yes")
    await operations.import_answer(answer_path.read_bytes())
    operations.say("    file in: its signature verified; now a Vault node may sign")
    return await _confirmed(operations, digest)


async def _confirmed(operations: Operations, digest: bytes) -> dict[str, Json]:
    await operations.until(digest, "BROADCAST")
    await operations.mine(1, PAYEE_SCRIPT)
    view = await operations.until(digest, "CONFIRMED")
    txid = view.txid[::-1].hex()
    operations.say(f"    {txid} accepted by Bitcoin Core's consensus code and confirmed")
    return {"txid": txid, "status": "confirmed"}


async def _lies(operations: Operations) -> list[Json]:
    """A coordinator that lies in a bundle: the offline node judges each and refuses by code."""
    operations.say("(c) a lying coordinator hands the offline node three tampered bundles")
    digest = await operations.propose("lie-1", [(_address(PAYEE_SCRIPT), TAMPERED_SATS)])
    for person in ("bob", "carol"):
        await operations.approve(digest, person)
    honest = parse_bundle(await operations.export_bundle(digest, "cold"))
    lies = {
        "change to a stranger": change_to_stranger(honest),
        "a false amount": false_amount(honest),
        "a RELEASE for another transaction": await _another_release(operations, honest),
    }
    codes: list[Json] = []
    for name, bundle in lies.items():
        path = operations.stack.directory / "lie.json"
        path.write_bytes(bundle.to_bytes())
        told = operations.stack.signer("cold", "offline", str(path), "--out", str(path) + ".answer", "--yes")
        operations.say(f"    {name}: refused, {told.get('refused', 'NOT REFUSED')}")
        codes.append(str(told.get("refused", "")))
    await operations.reject(digest, "bob")
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


async def _another_release(operations: Operations, bundle: Bundle) -> Bundle:
    size = bundle.log.first + len(bundle.log.entries)
    return replace(bundle, release_index=0, inclusion=await operations.inclusion(0, size))


async def _audit(operations: Operations) -> tuple[str, str]:
    """Export the logs, verify them with nothing but pinned keys, then flip one byte in a copy."""
    export = await operations.export()
    genesis = operations.stack.genesis
    roots = genesis.policy.roots
    keys = ExportKeys(genesis.hash, roots.log_key, witness_keys(genesis.policy), roots.w)
    known = await operations.checkpoint()
    verdict = verify_export(export, keys, known=known)
    at = export.index(str(SMALL_SATS).encode())
    flipped = export[:at] + bytes([export[at] ^ 1]) + export[at + 1 :]
    tampered = verify_export(flipped, keys)
    operations.say(f"(d) audit of {len(export):,} bytes: {verdict}; with one byte flipped in a copy: {tampered}")
    return str(verdict), str(tampered)


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


def _address(script: bytes) -> str:
    return address_of(script, Network.REGTEST)


if __name__ == "__main__":
    sys.exit(main())

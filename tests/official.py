"""What our code says to every official vector: one outcome each, in the order of the files of tests/vectors.

An outcome is OK (the code did exactly what the vector demands of a valid one), the code of a refusal, or WRONG.
`tests.vectors_doc` pins and counts them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pbk
import wallycore
from embit.bip32 import HDKey
from embit.networks import NETWORKS
from pbk.script import PrecomputedTransactionData

from console.wallet_files import bsms, bsms_sealed
from coordinator.chain.check import check_transaction
from coordinator.chain.relay import NextBlock
from custody import curve
from custody.address import address_of, script_of
from custody.bip32 import parse_extended_key
from custody.bip322 import message_hash, read_proof, to_sign, to_spend
from custody.errors import MalformedError, Refused
from custody.facts import Facts, ShapeLimits, read_facts
from custody.mnemonic import to_entropy, to_seed, to_words
from custody.psbt import from_base64, parse, serialize
from custody.scripts import multisig_script, output_key
from custody.sighash import segwit_digests
from custody.transaction import OutPoint, TxOut, parse_transaction
from custody.units import MAX_MONEY_SATS, Sats
from custody.wallet import Network, descriptor_checksum, parse_key, parse_wallet
from custody.wallet_policy import WalletPolicy, from_policy
from tests.fakes.psbts import BOOK, changed, put

ROOT = Path(__file__).resolve().parents[1]
VECTORS = ROOT / "tests" / "vectors"
OK, WRONG = "OK", "WRONG"
CHAINS = {"main": "mainnet", "test": "testnet4", "testnet4": "testnet4", "signet": "signet", "regtest": "regtest"}
IN_SIGHASH = b"\x03"


def load(path: str) -> Any:
    """Return a JSON file of the vectors."""
    return json.loads((VECTORS / path).read_text(encoding="utf-8"))


def said(judge: Callable[[], object]) -> str:
    """Return OK where `judge` holds, WRONG where it does not, else the code with which it refused."""
    try:
        answer = judge()
    except MalformedError as error:
        return error.code
    if isinstance(answer, Refused):
        return answer.code
    return OK if answer else WRONG


def bip32(part: str) -> list[str]:
    """BIP-32: public keys, each read with its depth; private and broken ones."""
    if part == "valid":
        rows = load("bip32/vectors.json")["valid"]
        return [said(partial(depth_is, v["xpub"], v["path"].count("/"))) for v in rows]
    return [said(partial(depth_is, v["key"], 0)) for v in load("bip32/vectors.json")["invalid"]]


def depth_is(xpub: str, depth: int) -> bool:
    """Return whether a public key is read with this depth."""
    return parse_extended_key(xpub).depth == depth


def bip39(_: str) -> list[str]:
    """BIP-39: words, entropy, seed under the passphrase TREZOR, and the master key of BIP-32."""

    def holds(entropy: str, words: str, seed: str, xprv: str) -> bool:
        listed = tuple(words.split())
        made = to_seed(listed, "TREZOR")
        master = HDKey.from_seed(made, version=NETWORKS["main"]["xprv"]).to_base58()
        return (to_words(bytes.fromhex(entropy)), to_entropy(listed).hex(), made.hex(), master) == (
            listed,
            entropy,
            seed,
            xprv,
        )

    return [said(partial(holds, *row)) for row in load("bip39/trezor-vectors.json")["english"]]


def bip67(_: str) -> list[str]:
    """BIP-67: sorted keys and the script they make; Core's own as well."""
    rows = [(v["list"], v["m"], v["script"]) for v in load("bip67/vectors.json")["vectors"]]
    rows += [(v["keys"], 2, v["script"]) for v in load("core/rpc_bip67.json")]

    def holds(keys: list[str], threshold: int, script: str) -> bool:
        return multisig_script(threshold, tuple(sorted(map(bytes.fromhex, keys)))).hex() == script

    return [said(partial(holds, *row)) for row in rows]


def bip143(_: str) -> list[str]:
    """BIP-143: each segwit signature of the five examples, by its sighash type; those of SIGHASH_ALL byte for byte."""
    examples = load("bip143/vectors.json")["examples"]
    spends = {
        0: ("76a9141d0f172a0ecb48aee1be1f2687d2963ae33f71a188ac", 1, 600_000_000),
        1: ("76a91479091972186c449eb1ded22b78e40d009bdf008988ac", 0, 1_000_000_000),
        3: (examples[3]["witness_scripts"][0], 0, 987_654_321),
        4: (examples[4]["preimages"][0][2 * 105 : -2 * 52], 0, 200_000),  # its script code, as the BIP hashes it
    }

    def judged(number: int, at: int, kind: int) -> object:
        if kind != 1:  # a PSBT of ours that asks for this type
            raw = changed(lambda psbt: put(psbt.inputs[0], IN_SIGHASH, kind.to_bytes(4, "little")))
            return read_facts(parse(raw), BOOK, ShapeLimits())
        script, place, amount = spends[number]
        transaction = parse_transaction(bytes.fromhex(examples[number]["unsigned"][0]))
        digests = segwit_digests(transaction, [(bytes.fromhex(script), amount)] * len(transaction.inputs))
        return digests[place].hex() == examples[number]["sighashes"][at]

    kinds = [
        (number, at, int(signature[-2:], 16))
        for number in (0, 1, 3)
        for at, signature in enumerate(examples[number]["signatures"])
    ]
    kinds += [(2, at, kind) for at, kind in enumerate((3, 3, 0x83, 0x83))]  # behind a legacy input's signature
    kinds.append((4, 0, 1))  # no FindAndDelete; its second transaction is not in vectors.json
    return [said(partial(judged, *row)) for row in sorted(kinds)]


def segwit(number: int, part: str) -> list[str]:
    """BIP-173, BIP-350: addresses of their text, to script and back."""
    (path,) = (VECTORS / f"bip{number}").glob("*.txt")
    text = path.read_text(encoding="utf-8").split("The following list gives valid segwit addresses")[1]
    valid, invalid = text.split("The following list gives invalid segwit addresses")

    def network(address: str) -> Network:
        return Network.MAINNET if address.lower().startswith("bc1") else Network.TESTNET4

    def holds(address: str, script: str) -> bool:
        found = script_of(address, network(address))
        return found.hex() == script and address_of(found, network(address)) == address.lower()

    if part == "valid":
        return [said(partial(holds, *pair)) for pair in re.findall(r"\* <tt>(\w+)</tt>: <tt>([0-9a-f]+)</tt>", valid)]
    return [said(partial(holds, address, "")) for address in re.findall(r"\* <tt>(\w+)</tt>", invalid)]


def kept(text: str) -> bool:
    """Return whether a PSBT in base64 is read and written back byte for byte."""
    raw = from_base64(text)
    return serialize(parse(raw)) == raw


def facts(text: str) -> Facts | Refused:
    """Return what the wallet of the tests finds in a PSBT in base64."""
    return read_facts(parse(from_base64(text)), BOOK, ShapeLimits())


def psbt(number: int, part: str) -> list[str]:
    """BIP-174, 370, 371, 373: read and written back, or refused."""
    texts = [v["base64"] for v in load(f"bip{number}/vectors.json")["vectors"] if v["section"] == part and v["base64"]]
    if part == "fails_signer":  # well-formed, and no signature may come of it
        return [said(partial(facts, text)) for text in texts]
    return [said(partial(kept, text)) for text in texts]


def core_psbt(part: str) -> list[str]:
    """Core rpc_psbt.json; roles: every PSBT that a signer, combiner, finalizer or extractor takes or gives."""
    core = load("core/rpc_psbt.json")
    if part == "roles":
        texts = [v[key] for v in core["signer"] for key in ("psbt", "result")]
        texts += [text for v in core["combiner"] for text in (*v["combine"], v["result"])]
        texts += [v[key] for v in core["finalizer"] for key in ("finalize", "result")]
        texts += [v["extract"] for v in core["extractor"]]
    elif part == "valid":
        texts = core["valid"]
    else:
        texts = [*core["invalid"], *(text for text, _ in core["invalid_with_msg"])]
    return [said(partial(kept, text)) for text in texts]


def bip340(part: str) -> list[str]:
    """BIP-340: verdict, and where the secret is given the signature; invalid: those whose verdict is FALSE."""

    def holds(row: dict[str, str]) -> object:
        key, message, signature = (bytes.fromhex(row[name]) for name in ("public key", "message", "signature"))
        if len(message) != 32:
            return Refused("DIGEST_SIZE", "32 bytes", f"{len(message)}")
        verdict = curve.schnorr_verify(key, message, signature)
        if part == "invalid":
            return WRONG if verdict else Refused("SIGNATURE_INVALID", "a signature", "none")
        if not row["secret key"]:
            return verdict
        made = curve.schnorr_sign(bytes.fromhex(row["secret key"]), message, bytes.fromhex(row["aux_rand"]))
        return verdict and made == signature

    with (VECTORS / "bip340/test-vectors.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["verification result"] == "TRUE") == (part == "valid")]
    return [said(partial(holds, row)) for row in rows]


def bip341(_: str) -> list[str]:
    """BIP-341: output key, script and address of each tree (the sighashes: tests/unit/test_scripts.py)."""

    def holds(vector: Any) -> bool:
        root = bytes.fromhex(vector["intermediary"]["merkleRoot"] or "")
        script = b"\x51\x20" + output_key(bytes.fromhex(vector["given"]["internalPubkey"]), root)[1:]
        expected = vector["expected"]
        return (script.hex(), address_of(script, Network.MAINNET)) == (
            expected["scriptPubKey"],
            expected["bip350Address"],
        )

    return [said(partial(holds, v)) for v in load("bip341/wallet-test-vectors.json")["scriptPubKey"]]


def descriptors(number: int, part: str) -> list[str]:
    """BIP-380 to 390: descriptors with their checksum added where they have none, key expressions as keys."""

    def judged(text: str) -> object:
        if "(" not in text:
            return parse_key(text, Network.MAINNET)
        if "#" not in text:
            text = f"{text}#{descriptor_checksum(text)}"
        elif part == "valid":  # the checksum is what the vector is about; that it holds comes before the template
            body, _, checksum = text.partition("#")
            if descriptor_checksum(body) != checksum:
                return False
        return parse_wallet(text, Network.MAINNET)

    return [said(partial(judged, v["descriptor"])) for v in load(f"bip380-390/bip{number}.json")[part]]


def bip388(part: str) -> list[str]:
    """BIP-388: template and keys to the descriptor of the BIP, with h for '."""

    def holds(vector: Any) -> bool:
        policy = WalletPolicy(vector["template"], tuple(vector.get("keys_info", ())))
        expected: str = vector.get("descriptor", "").replace("'", "h")
        return from_policy(policy, Network.MAINNET).descriptor.partition("#")[0] == expected

    return [said(partial(holds, v)) for v in load("bip388/vectors.json")[part]]


def bip129(part: str) -> list[str]:
    """BIP-129: records read and written again, sealed files opened with the session's token and sealed again."""
    items = load("bip129/vectors.json")["items"]
    tokens = [bytes.fromhex(v["value"]) for v in items if "(hex)" in v.get("field", "") and "TOKEN" in v["field"]]

    def opens(sealed: str, token: bytes) -> bool:
        try:
            return bsms_sealed.seal(bsms_sealed.unseal(sealed, token), token) == sealed
        except MalformedError:
            return False

    def holds(name: str, text: str) -> bool:
        if part == "sealed files":
            return sum(opens(text, token) for token in tokens) == 1  # by its own token and no other
        if part == "key records":
            return bsms.read_key_record(text, Network.MAINNET).description == text.split("\n")[3]
        written = bsms.write(bsms.read(text, Network.MAINNET)).replace("h", "'")  # the vectors have no checksum
        return re.sub("#.*", "", written) == text.replace("h", "'")

    wanted = {"key records": "_key.bsms", "descriptor records": "wallet.bsms", "sealed files": ".dat"}[part]
    files = [(v["file"], v["content"]) for v in items if wanted in v.get("file", "")]
    return [said(partial(holds, *file)) for file in files]


def key_io(part: str) -> list[str]:
    """Core key_io: addresses to script and back; invalid ones on every network."""

    def holds(text: str, script: str, meta: Any) -> bool:
        network = Network(CHAINS[meta["chain"]])
        return script_of(text, network).hex() == script and address_of(bytes.fromhex(script), network) == text

    def codes(text: str) -> str:
        found = {said(partial(script_of, text, network)) for network in Network}
        return WRONG if OK in found else min(found)

    if part == "valid":
        return [said(partial(holds, *row)) for row in load("core/key_io_valid.json")]
    return [codes(text) for (text,) in load("core/key_io_invalid.json")]


FLAGS = {
    name: int(getattr(pbk.ScriptVerificationFlags, name))
    for name in ("P2SH", "DERSIG", "NULLDUMMY", "CHECKLOCKTIMEVERIFY", "CHECKSEQUENCEVERIFY", "WITNESS", "TAPROOT")
}


def scripts_hold(raw: bytes, prevouts: list[Any], flags: set[str]) -> bool:
    """Return whether libbitcoinkernel takes every input of `raw` under `flags`."""
    transaction, kernel_tx = parse_transaction(raw), pbk.Transaction(raw)
    spent = {
        OutPoint(bytes.fromhex(p[0])[::-1], p[1] & 0xFFFFFFFF): (assembled(p[2]), (p[3:] or [0])[0]) for p in prevouts
    }
    coins = [spent[txin.outpoint] for txin in transaction.inputs]
    scripts = [pbk.ScriptPubkey(script) for script, _ in coins]
    outputs = [pbk.TransactionOutput(script, amount) for script, (_, amount) in zip(scripts, coins, strict=True)]
    shared = PrecomputedTransactionData(kernel_tx, outputs)
    mask = sum(FLAGS[name] for name in flags)
    return all(
        script.verify(amount, kernel_tx, shared, at, mask)
        for at, (script, (_, amount)) in enumerate(zip(scripts, coins, strict=True))
    )


def bip322(part: str) -> list[str]:
    """BIP-322: the two transactions of a message, and proofs of every form, their scripts run by the kernel."""
    files = [load(f"bip322/{name}-test-vectors.json") for name in ("basic", "generated")]
    if part == "transactions":
        return [said(partial(transactions_are, row)) for row in files[0]["tx_hashes"]]
    kinds = ("error",) if part == "invalid" else ("simple", "full", "proof_of_funds")
    rows = [row for file in files for kind in kinds for row in file.get(kind, ())]
    proofs = [(row, text) for row in rows for text in row.get("bip322_signatures", [row.get("signature")])]
    return [said(partial(proof_holds, row["address"], row["message"], text, part == "invalid")) for row, text in proofs]


def transactions_are(row: dict[str, str]) -> bool:
    """Return whether both transactions of a message have the vector's ids."""
    script, message = script_of(row["address"], Network.MAINNET), row["message"].encode()
    made = (message_hash(message).hex(), to_spend(script, message).txid_hex, to_sign(script, message).txid_hex)
    return made == (row["message_hash"], row["to_spend_tx_hash"], row["to_sign_tx_hash"])


def proof_holds(address: str, message: str, text: str, is_invalid: bool, network: Network = Network.MAINNET) -> object:
    """Return whether a proof satisfies every script that it spends."""
    signed, spent = read_proof(text, script_of(address, network), message.encode())
    kernel_tx = pbk.Transaction(signed.serialize())
    scripts = [pbk.ScriptPubkey(output.script) for output in spent]
    outputs = [pbk.TransactionOutput(script, o.amount) for script, o in zip(scripts, spent, strict=True)]
    shared = PrecomputedTransactionData(kernel_tx, outputs)
    holds = all(
        script.verify(output.amount, kernel_tx, shared, at, pbk.ScriptVerificationFlags.ALL)
        for at, (script, output) in enumerate(zip(scripts, spent, strict=True))
    )
    return holds or (Refused("SCRIPT_FAILS", "a script that holds", "none") if is_invalid else False)


def assembled(text: str) -> bytes:
    """Return the script that Core's test files write as words."""
    script = bytearray()
    for word in text.split():
        if word.startswith("0x"):
            script += bytes.fromhex(word[2:])
        elif word.lstrip("-").isdigit():
            number = int(word)
            if -1 <= number <= 16:
                script.append(0x50 + number if number else 0)
            else:
                size = (number.bit_length() + 8) // 8  # one more bit for the sign; no test has a negative one
                script += bytes([size]) + number.to_bytes(size, "little")
        else:
            script.append(getattr(wallycore, f"OP_{word.removeprefix('OP_')}"))
    return bytes(script)


def tx_rows(part: str) -> list[tuple[list[Any], bytes, set[str]]]:
    """Return (previous outputs, transaction, flags): those left out in tx_valid.json, those set in tx_invalid.json."""
    rows = [row for row in load(f"core/tx_{part}.json") if len(row) == 3]
    return [(prevouts, bytes.fromhex(raw), set(flags.split(",")) - {"NONE"}) for prevouts, raw, flags in rows]


def tx_codec(part: str) -> list[str]:
    """Core tx_valid, tx_invalid: each transaction read and written back byte for byte."""

    def holds(raw: bytes) -> bool:
        return parse_transaction(raw).serialize() == raw

    return [said(partial(holds, raw)) for _, raw, _ in tx_rows(part)]


def tx(part: str) -> list[str]:
    """Core tx_valid, tx_invalid: the kernel's verdict on every input under the vector's flags."""

    def judged(prevouts: list[Any], raw: bytes, flags: set[str]) -> object:
        if part == "valid":
            left_out = flags | ({"WITNESS", "TAPROOT"} if flags & {"P2SH", "WITNESS"} else set())
            return scripts_hold(raw, prevouts, FLAGS.keys() - left_out)
        if flags <= FLAGS.keys():
            implied = {"P2SH"} if "WITNESS" in flags else set()
            return scripts_hold(raw, prevouts, flags | implied) or Refused(
                "SCRIPT_FAILS", "a script that holds", "none"
            )
        if "BADTX" not in flags:
            return scripts_hold(raw, prevouts, flags & FLAGS.keys()) and Refused("NO_KERNEL_FLAG", "a flag", "none")
        inputs = parse_transaction(raw).inputs
        spent = [TxOut(Sats(MAX_MONEY_SATS if not at else 0), b"") for at in range(len(inputs))]
        return check_transaction(raw, spent, NextBlock(height=900_000, median_time=2_000_000_000)) or True

    return [said(partial(judged, *row)) for row in tx_rows(part)]


Judge = Callable[[str], list[str]]
SETS: dict[str, tuple[Judge, tuple[str, ...]]] = {
    "BIP-32": (bip32, ("valid", "invalid")),
    "BIP-39": (bip39, ("valid",)),
    "BIP-67": (bip67, ("valid",)),
    "BIP-143": (bip143, ("valid",)),
    "BIP-173": (partial(segwit, 173), ("valid", "invalid")),
    "BIP-350": (partial(segwit, 350), ("valid", "invalid")),
    "BIP-174": (partial(psbt, 174), ("valid", "workflow", "invalid", "fails_signer")),
    "BIP-370": (partial(psbt, 370), ("valid", "locktime", "invalid")),
    "BIP-371": (partial(psbt, 371), ("valid", "invalid")),
    "BIP-373": (partial(psbt, 373), ("valid", "invalid")),
    "BIP-340": (bip340, ("valid", "invalid")),
    "BIP-341": (bip341, ("valid",)),
    **{f"BIP-{n}": (partial(descriptors, n), ("valid", "invalid")) for n in (*range(380, 388), 389, 390)},
    "BIP-322": (bip322, ("transactions", "valid", "invalid")),
    "BIP-388": (bip388, ("valid", "invalid")),
    "BIP-129": (bip129, ("key records", "descriptor records", "sealed files")),
    "Core rpc_psbt": (core_psbt, ("valid", "roles", "invalid")),
    "Core key_io": (key_io, ("valid", "invalid")),
    "Core tx, bytes": (tx_codec, ("valid", "invalid")),
    "Core tx": (tx, ("valid", "invalid")),
}
MUST_BE_REFUSED = ("invalid", "fails_signer")


def outcomes() -> dict[str, list[str]]:
    """Return "set, list" -> what we say to each of its vectors, in order."""
    return {f"{name}, {part}": judge(part) for name, (judge, parts) in SETS.items() for part in parts}

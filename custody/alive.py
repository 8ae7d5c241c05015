"""Proof of life: a node's key signs one fixed sentence, so that a key that is lost is noticed before it is needed.

The sentence names genesis, node, time and a nonce, and nothing that anybody else chose. It is signed as a BIP-322
message of the single-key address (P2WPKH) that the node's key has at 0/0: any BIP-322 verifier can check it, and no
coin of the wallet can be spent by it, because no coin of the wallet is at that address.
"""

from __future__ import annotations

from dataclasses import dataclass

from embit.hashes import hash160

from custody import curve
from custody.address import address_of
from custody.bip32 import parse_extended_key
from custody.bip322 import Form, read_proof, spent_outputs, to_sign, write_proof
from custody.canonical import Json, decode
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.genesis import Genesis
from custody.policy import Policy
from custody.sighash import segwit_digests
from custody.statements import Kind, Signed
from custody.wallet import RECEIVE, KeyOrigin

SENTENCE = "keyturn proof of life {genesis} {node} {time} {nonce}"
NONCE_BYTES = 16
PATH = (RECEIVE, 0)
MAX_PROOF_CHARS = 400  # a signature and a key in base64 are under 200
_SIGHASH_ALL = b"\x01"


@dataclass(frozen=True, slots=True)
class Life:
    """One proof of life. genesis: 32 bytes.  at: UTC seconds, the node's clock.  nonce: 16 bytes.  proof: `smp...`."""

    genesis: bytes
    node: str
    at: int
    nonce: bytes
    proof: str = ""

    @property
    def sentence(self) -> str:
        """What is signed."""
        return SENTENCE.format(genesis=self.genesis.hex(), node=self.node, time=self.at, nonce=self.nonce.hex())

    def to_json(self) -> Json:
        """Return the statement that the node's identity key signs."""
        return {
            "genesis": self.genesis.hex(),
            "node": self.node,
            "at": self.at,
            "nonce": self.nonce.hex(),
            "proof": self.proof,
        }


@dataclass(frozen=True, slots=True)
class Breath:
    """What a node's key has to sign. pubkey: 33 bytes.  script: of its address.  digest: 32 bytes (BIP-143)."""

    pubkey: bytes
    script: bytes
    digest: bytes


def read_life(signed: Signed) -> Life:
    """Return the proof of life inside `signed`; nothing in it is judged here.

    Raises:
        MalformedError: STATEMENT_KIND or a FIELD_ code.
    """
    if signed.kind is not Kind.ALIVE:
        raise MalformedError("STATEMENT_KIND", f"expected a proof of life, found {signed.kind.name}")
    return _read(signed.raw)


def read_unsigned(raw: bytes) -> Life:
    """Return the proof of life whose canonical bytes are `raw`, its sentence not signed yet.

    Raises:
        MalformedError: a FIELD_ code; ALIVE_SIGNED where there is a signature already.
    """
    life = _read(raw)
    if life.proof:
        raise MalformedError("ALIVE_SIGNED", "expected a proof of life without its signature")
    return life


def _read(raw: bytes) -> Life:
    fields = Fields(decode(raw), "alive")
    life = Life(
        genesis=fields.hex("genesis", 32),
        node=fields.name("node"),
        at=fields.time("at"),
        nonce=fields.hex("nonce", NONCE_BYTES),
        proof=fields.text("proof", MAX_PROOF_CHARS),
    )
    fields.done()
    return life


def breath_of(genesis: Genesis, life: Life) -> Breath | None:
    """Return what the key of the node that `life` names has to sign, or None where the genesis has no such node."""
    key = key_of(genesis, life.node)
    if key is None:
        return None
    pubkey = parse_extended_key(key.xpub).child(PATH[0]).child(PATH[1]).pubkey
    program = hash160(pubkey)
    script = b"\x00\x14" + program
    code = b"\x76\xa9\x14" + program + b"\x88\xac"  # BIP-143: of P2WPKH
    digest = segwit_digests(to_sign(script, life.sentence.encode()), [(code, 0)])[0]
    return Breath(pubkey, script, digest)


def proof_of(breath: Breath, life: Life, signature: bytes) -> str:
    """Return the BIP-322 proof with `signature` (DER and sighash byte)."""
    signed = to_sign(breath.script, life.sentence.encode()).with_witnesses([(signature, breath.pubkey)])
    return write_proof(Form.SIMPLE, signed, spent_outputs(breath.script))


def check_life(genesis: Genesis, policy: Policy, signed: Signed) -> Life | Refused:
    """Return the proof of life in `signed` if it proves what it says, else why not.

    Args:
        genesis: pinned; names the node's key.
        policy: the rules in force; pin the node's identity.
        signed: as it came.
    """
    # Plan: 1 of this genesis · 2 signed by the node · 3 the sentence is signed by the node's bitcoin key.
    life = read_life(signed)
    node, breath = policy.roots.node(life.node), breath_of(genesis, life)
    if life.genesis != genesis.hash or node is None or breath is None:
        return Refused("ALIVE_OTHER", "a node of this genesis that holds a key", life.node)
    if not signed.signed_by(node.identity):
        return Refused("ALIVE_SIGNATURE", f"the identity key of node {life.node}", "another")
    proven, _ = read_proof(life.proof, breath.script, life.sentence.encode())
    witness = proven.inputs[0].witness
    if len(witness) != 2 or witness[1] != breath.pubkey or witness[0][-1:] != _SIGHASH_ALL:
        return Refused("ALIVE_PROOF", f"a signature by the key of node {life.node}", "another witness")
    if not curve.ecdsa_verify(breath.pubkey, breath.digest, witness[0][:-1]):
        return Refused("ALIVE_PROOF", f"a signature by the key of node {life.node}", "one that does not hold")
    return life


def key_of(genesis: Genesis, node: str) -> KeyOrigin | None:
    """Return the key of `node`, the same in each wallet that it has a part in, or None."""
    found = ((wallet, wallet.key_index(node)) for wallet in genesis.wallets)
    return next((wallet.wallet.keys[at] for wallet, at in found if at is not None), None)


def life_address(genesis: Genesis, life: Life) -> str:
    """Return the address that the proof is for, for other verifiers; empty where there is none."""
    breath = breath_of(genesis, life)
    return "" if breath is None else address_of(breath.script, genesis.network)

"""The same jobs by embit, libwally and BDK, with the calls that their users make.

Where a peer has no function for a step, the shortest loop over its own functions stands here. Each result is compared
with ours before anything is timed: see `benchmarks.psbt`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cached_property

import bdkpython as bdk
import wallycore as wally
from embit.bip32 import HDKey
from embit.descriptor import Descriptor
from embit.ec import Signature as EmbitSignature
from embit.finalizer import finalize_psbt
from embit.networks import NETWORKS
from embit.psbt import PSBT
from embit.transaction import SIGHASH

from benchmarks._cases import Case
from signer_node.seed import account_path

Job = Callable[[], object]


class Embit:
    """embit 0.8: parse, its own `verify`, scripts by `Descriptor.derive`, `sign_with`, `finalize_psbt`.

    Signer, as ours: previous transactions re-hashed, the script of each input and of change derived again, its own key
    of each input derived again, each coin once, the fee known; signatures out, with the low R that `sign_with` grinds
    for. Left out: a second library's opinion on what was signed, which ours is measured without too, and whether
    outputs without hints are change, which ours looks up.
    Coordinator, as ours: previous transactions re-hashed (ours holds that PSBT byte for byte against its own), one
    transaction in all, each signature of type ALL by a key of the script, valid. Left out: whether the scripts are the
    wallet's, which ours knows from its session.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._root = HDKey.from_seed(case.seeds[0], version=NETWORKS["regtest"]["xprv"])
        self.descriptor = Descriptor.from_string(case.wallet.descriptor.partition("#")[0].replace("<0;1>", "{0,1}"))

    def sign(self) -> list[bytes]:
        """Return the signatures after the checks that `read_facts` makes."""
        psbt = PSBT.parse(self._case.raw)
        psbt.verify()  # previous transactions hash to their outpoints, amounts agree
        for scope in psbt.inputs:
            self._check(scope, scope.utxo.script_pubkey)
        for scope in psbt.outputs:
            if scope.bip32_derivations:
                self._check(scope, scope.script_pubkey)
        if psbt.fee() < 0 or len({(scope.txid, scope.vout) for scope in psbt.inputs}) != len(psbt.inputs):
            raise ValueError("embit sees money from nowhere, or a coin twice")
        psbt.sign_with(self._root)
        return [signature for scope in psbt.inputs for signature in scope.partial_sigs.values()]

    def coordinate(self, *, hoisted: bool = False) -> bytes:
        """Return the final transaction of m signed PSBTs. hoisted: by a caller who knows to take `psbt.tx` once."""
        psbts = [PSBT.parse(raw) for raw in self._case.signed]
        first = psbts[0]
        for psbt in psbts:
            psbt.verify()
            if psbt.tx.txid() != first.tx.txid():
                raise ValueError("embit sees two transactions")
            self._verify(psbt, hoisted=hoisted)
        for other in psbts[1:]:
            for mine, theirs in zip(first.inputs, other.inputs, strict=True):
                mine.update(theirs)
        return bytes(finalize_psbt(first).serialize())

    def sighashes(self) -> Job:
        """Return the job of all digests, over a PSBT that is parsed already."""
        psbt = PSBT.parse(self._case.raw)
        return lambda: [psbt.sighash(at) for at in range(len(psbt.inputs))]

    def derive(self, branch: int, index: int) -> tuple[bytes, bytes]:
        """Return both scripts at branch/index, as a `WalletScript` has them."""
        derived = self.descriptor.derive(index, branch_index=branch)
        return bytes(derived.script_pubkey().data), bytes(derived.witness_script().data)

    def _check(self, scope: object, script: object) -> None:
        path = next(iter(scope.bip32_derivations.values())).derivation  # type: ignore[attr-defined]  # untyped
        derived = self.descriptor.derive(path[-1], branch_index=path[-2])
        if derived.witness_script() != scope.witness_script or derived.script_pubkey() != script:  # type: ignore[attr-defined]
            raise ValueError("embit derives another script")

    def _verify(self, psbt: PSBT, *, hoisted: bool) -> None:
        transaction = psbt.tx
        for at, scope in enumerate(psbt.inputs):
            for pubkey, signature in scope.partial_sigs.items():
                if signature[-1] != SIGHASH.ALL or pubkey.sec() not in scope.witness_script.data:
                    raise ValueError("embit sees a signature of another type or key")
                if hoisted:
                    digest = transaction.sighash_segwit(at, scope.witness_script, scope.utxo.value)
                else:
                    digest = psbt.sighash(at)
                if not pubkey.verify(EmbitSignature.parse(signature[:-1]), digest):
                    raise ValueError("embit refuses a signature")


class Wally:
    """libwally 1.5 with its signing cache, which keeps its sighashes linear; it checks no script against a wallet."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._root = wally.bip32_key_from_seed(case.seeds[0], wally.BIP32_VER_TEST_PRIVATE, 0)
        self._scripts = [case.book.script(fact.branch, fact.index) for fact in case.facts.inputs]

    def sign(self) -> bytes:
        """Return the signed PSBT; without any check."""
        psbt = self._parse(self._case.raw)
        wally.psbt_signing_cache_enable(psbt, 0)
        wally.psbt_sign_bip32(psbt, self._root, 0)
        return bytes(wally.psbt_to_bytes(psbt, 0))

    def coordinate(self) -> bytes:
        """Return the final transaction of m signed PSBTs, each signature verified."""
        psbts = [self._parse(raw) for raw in self._case.signed]
        for cosigner, psbt in enumerate(psbts):
            digests = self._digests(psbt)
            for at, digest in enumerate(digests):
                pubkey = self._scripts[at].pubkeys[cosigner]
                der = wally.psbt_get_input_signature(psbt, at, 0)[:-1]
                wally.ec_sig_verify(pubkey, digest, wally.EC_FLAG_ECDSA, wally.ec_sig_from_der(der))
        for other in psbts[1:]:
            wally.psbt_combine(psbts[0], other)
        wally.psbt_finalize(psbts[0], 0)
        final = wally.psbt_extract(psbts[0], wally.WALLY_PSBT_EXTRACT_FINAL)
        return bytes(wally.tx_to_bytes(final, wally.WALLY_TX_FLAG_USE_WITNESS))

    def sighashes(self) -> Job:
        """Return the job of all digests, over a PSBT that is parsed already."""
        psbt = self._parse(self._case.raw)
        return lambda: self._digests(psbt)

    def _parse(self, raw: bytes) -> object:
        return wally.psbt_from_bytes(raw, wally.WALLY_PSBT_PARSE_FLAG_STRICT)

    def _digests(self, psbt: object) -> list[bytes]:
        wally.psbt_signing_cache_enable(psbt, 0)
        unsigned = wally.psbt_extract(psbt, wally.WALLY_PSBT_EXTRACT_NON_FINAL)
        found = [
            bytes(wally.psbt_get_input_signature_hash(psbt, at, unsigned, script.witness_script, 0))
            for at, script in enumerate(self._scripts)
        ]
        wally.psbt_signing_cache_disable(psbt)
        return found


class Bdk:
    """bdkpython 3.1; base64 is its only way in and out, and its finalizer verifies what it finalizes."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._raw = base64.b64encode(case.raw).decode()
        self._signed = [base64.b64encode(raw).decode() for raw in case.signed]

    def sign(self) -> str:
        """Return the signed PSBT; BDK checks what its wallet checks."""
        psbt = bdk.Psbt(self._raw)
        self._wallet.sign(psbt, self._options)
        return str(psbt.serialize())

    def coordinate(self) -> bytes:
        """Return the final transaction of m signed PSBTs."""
        first, *others = [bdk.Psbt(text) for text in self._signed]
        for other in others:
            first = first.combine(other)
        finalized = first.finalize()
        if not finalized.could_finalize:
            raise ValueError("BDK could not finalize")
        return bytes(finalized.psbt.extract_tx_unchecked_fee_rate().serialize())

    @cached_property
    def _options(self) -> bdk.SignOptions:
        return bdk.SignOptions(
            trust_witness_utxo=False,
            assume_height=None,
            allow_all_sighashes=False,
            try_finalize=False,
            sign_with_tap_internal_key=False,
            allow_grinding=True,
        )

    @cached_property
    def _wallet(self) -> bdk.Wallet:
        master = wally.bip32_key_from_seed(self._case.seeds[0], wally.BIP32_VER_TEST_PRIVATE, 0)
        path = list(account_path(self._case.wallet.network))
        account = wally.bip32_key_from_parent_path(master, path, wally.BIP32_FLAG_KEY_PRIVATE)
        private = wally.bip32_key_to_base58(account, wally.BIP32_FLAG_KEY_PRIVATE)
        body = self._case.wallet.descriptor.partition("#")[0].replace(self._case.wallet.keys[0].xpub, private)
        receive, change = (bdk.Descriptor(body.replace("<0;1>", branch), bdk.NetworkKind.TEST) for branch in "01")
        wallet = bdk.Wallet(receive, change, bdk.Network.REGTEST, bdk.Persister.new_in_memory())
        highest = max(fact.index for fact in self._case.facts.inputs)
        for keychain in (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL):
            wallet.reveal_addresses_to(keychain, highest)
        return wallet

"""A wallet that comes after the genesis, in the same form: who signs it, when it counts, and what is left of it.

Its document names the genesis and is signed by every node that holds a key of it and by the change quorum in force. It
gives nobody anything by itself: rules must name it, which loosens and waits, and a node signs for it only once it was
pinned there by a command given on the node itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from custody.canonical import Json, decode, encode
from custody.consent import CHANGE, Share, shares
from custody.errors import MalformedError, Refused
from custody.fields import Fields
from custody.genesis import (
    MAX_WALLETS,
    Genesis,
    GenesisWallet,
    check_production,
    read_key_record,
    read_wallet,
    wallet_json,
)
from custody.policy import Policy
from custody.statements import Kind, Signed

SCHEMA = "keyturn-wallet/1"


def compose_wallet(genesis: Genesis, wallet: GenesisWallet) -> Signed:
    """Return the document of a later wallet, without signatures."""
    document: Json = {"schema": SCHEMA, "genesis": genesis.hash.hex(), "wallet": wallet_json(wallet)}
    return Signed(Kind.WALLET, encode(document), ())


def read_later_wallet(signed: Signed, genesis: Genesis) -> GenesisWallet:
    """Return the wallet inside `signed`, proven in itself and of `genesis`; who signed it is another question.

    Raises:
        MalformedError: STATEMENT_KIND, WALLET_SCHEMA, GENESIS_OTHER, or what `read_wallet` says.
    """
    if signed.kind is not Kind.WALLET:
        raise MalformedError("STATEMENT_KIND", f"expected the document of a wallet, found {signed.kind.name}")
    fields = Fields(decode(signed.raw), "document")
    if (schema := fields.text("schema")) != SCHEMA:
        raise MalformedError("WALLET_SCHEMA", f"expected {SCHEMA}, found {schema[:40]!r}")
    if (named := fields.hex("genesis", 32)) != genesis.hash:
        raise MalformedError("GENESIS_OTHER", f"expected a wallet under {genesis.hash.hex()}, found {named.hex()}")
    wallet = read_wallet(fields.fields("wallet"), genesis.network)
    fields.done()
    return replace(wallet, document=signed.digest)


@dataclass(frozen=True, slots=True)
class Signers:
    """Who a wallet's document still lacks. nodes: by name.  share: of the change quorum."""

    nodes: tuple[str, ...]
    share: Share

    @property
    def missing(self) -> int:
        """How many signatures are missing at least."""
        return len(self.nodes) + self.share.missing


def signers_of(policy: Policy, wallet: GenesisWallet, signed: Signed, t: int) -> Signers:
    """Return who must still sign the document of `wallet` under `policy` at `t` (UTC seconds)."""
    nodes = tuple(sorted(name for name, key in node_keys(wallet).items() if not signed.signed_by(key)))
    (share,) = shares(policy, (CHANGE,), signed, t)
    return Signers(nodes, share)


def node_keys(wallet: GenesisWallet) -> dict[str, bytes]:
    """Return the identity key (32 bytes) of each node that holds a key of `wallet`, by its name."""
    records = (read_key_record(slot.record) for slot in wallet.slots if slot.record is not None)
    return {record.node: record.identity for record in records}


def wallet_fits(genesis: Genesis, policy: Policy, signed: Signed) -> GenesisWallet | Refused:
    """Return the wallet of `signed` where it may stand beside those of `genesis` under `policy`; or why it may not.

    Codes: WALLET_KNOWN, WALLETS_TOO_MANY, WALLET_NODE, GENESIS_F, GENESIS_HOST, or what `read_later_wallet` says.
    """
    try:
        wallet = read_later_wallet(signed, genesis)
        check_production(replace(genesis, wallets=(wallet,)), policy)
    except MalformedError as error:
        return Refused(error.code, "a wallet in the form of the genesis", error.message)
    known = {w.name for w in genesis.wallets}, {w.wallet.wallet_id for w in genesis.wallets}
    if wallet.name in known[0] or wallet.wallet.wallet_id in known[1]:
        return Refused("WALLET_KNOWN", "a new name and new scripts", wallet.name)
    if len(genesis.wallets) >= MAX_WALLETS:
        return Refused("WALLETS_TOO_MANY", f"at most {MAX_WALLETS} wallets", str(len(genesis.wallets) + 1))
    for name, identity in node_keys(wallet).items():
        node = policy.roots.node(name)
        if node is None or node.identity != identity:
            return Refused("WALLET_NODE", f"node {name} in the rules' roots with its record's identity", "another")
    return wallet


def wallet_stands(genesis: Genesis, policy: Policy, signed: Signed, t: int) -> GenesisWallet | Refused:
    """Return the wallet that `signed` adds when witnesses first see it at `t`, or why it adds none.

    Args:
        genesis: with the wallets so far.
        policy: in force at `t`.
        signed: the document with the signatures of nodes and admins.
        t: UTC seconds.
    """
    wallet = wallet_fits(genesis, policy, signed)
    if isinstance(wallet, Refused):
        return wallet
    lack = signers_of(policy, wallet, signed, t)
    if lack.nodes:
        return Refused(
            "WALLET_UNSIGNED", "the signature of every node of the wallet", f"none of {', '.join(lack.nodes)}"
        )
    if lack.share.missing:
        return Refused(
            "RULES_QUORUM", f"{lack.share.missing} more of the {CHANGE}", ", ".join(lack.share.have) or "none"
        )
    return wallet

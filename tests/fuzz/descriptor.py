"""Target: descriptors and key expressions. One wallet, one spelling; a second implementation derives the same scripts.

Checksums and base58 are made right again after most changes: else nothing behind them is ever reached.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from random import Random

import wallycore
from embit.descriptor import Descriptor
from embit.descriptor.checksum import add_checksum
from embit.descriptor.errors import DescriptorError

from custody.base58 import decode_check, encode_check
from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import KeyOrigin, Network, Wallet, parse_key, parse_wallet
from signer_node.seed import key_material
from tests.fakes.psbts import WALLET, seed_of, wallet_of
from tests.fuzz.psbts import VECTORS
from tests.fuzz.refusal import attempt
from tests.fuzz.target import ByteMutator

KEY_CODES = frozenset(
    {"BASE58", "BASE58_CHECKSUM", "DESCRIPTOR_KEY", "DESCRIPTOR_NETWORK", "DESCRIPTOR_PRIVATE_KEY", "EXTENDED_KEY"}
)
CODES = KEY_CODES | {
    *("DESCRIPTOR_CHARACTER", "DESCRIPTOR_CHECKSUM", "DESCRIPTOR_DUPLICATE_KEY", "DESCRIPTOR_TEMPLATE"),
    *("DESCRIPTOR_THRESHOLD", "DESCRIPTOR_TOO_LONG"),
}
NO_OFFSET = -1
WALLY_NETWORKS = {
    Network.REGTEST: wallycore.WALLY_NETWORK_BITCOIN_REGTEST,
    Network.MAINNET: wallycore.WALLY_NETWORK_BITCOIN_MAINNET,
}
Derive = Callable[[int, int], bytes]
PLACES = ((0, 0), (1, 7))
_TOKEN = re.compile(r"[A-Za-z0-9_]+|<0;1>|.")
_XPUB = re.compile(r"[xt]pub[1-9A-HJ-NP-Za-km-z]{107}")
_SECRET = re.compile(r"[xtyzuvYZUV]prv[1-9A-HJ-NP-Za-km-z]{20,}")


def seeds() -> Iterator[bytes]:
    """Yield wallets of one to three keys on both kinds of network, key expressions, and the vectors of BIP-380 on."""
    for template in Template:
        yield from (wallet_of(m, n, template=template).descriptor.encode() for m, n in ((1, 1), (2, 3)))
    mainnet = [key_material(seed_of(at), Network.MAINNET).key for at in range(2)]
    yield _summed(f"wsh(sortedmulti(1,{mainnet[0]}/<0;1>/*,{mainnet[1]}/<0;1>/*))").encode()
    yield from (key.encode() for key in (mainnet[0], WALLET.keys[0].expression))
    for path in sorted((VECTORS / "bip380-390").glob("*.json")):
        found = json.loads(path.read_text())
        yield from (each["descriptor"].encode() for each in (*found["valid"], *found["invalid"]))


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with tokens or an extended key changed and, mostly, with the checksum of what it then says."""
    body, hash_sign, checksum = raw.decode("utf-8", "replace").partition("#")
    tokens = _TOKEN.findall(body) or [""]
    for _ in range(random.choice((1, 1, 2))):
        _change(tokens, random, mutate_bytes)
    changed = "".join(tokens)
    if not hash_sign or random.random() < 0.2:
        return mutate_bytes(f"{changed}{hash_sign}{checksum}".encode())
    return _summed(changed).encode()


def check(raw: bytes) -> None:
    """Read `raw` as a descriptor and as a key, of either kind of network."""
    text = raw.decode("utf-8", "surrogateescape")
    for network in WALLY_NETWORKS:
        found = attempt(lambda network=network: parse_wallet(text, network), CODES, NO_OFFSET)  # type: ignore[misc]
        if isinstance(found, Wallet):
            _check_wallet(found)
        else:
            _check_silence(text, found)
        if isinstance(found, Wallet) or found.code != "DESCRIPTOR_NETWORK":
            break
    if "(" not in text:
        key = attempt(lambda: parse_key(text, Network.REGTEST), KEY_CODES, NO_OFFSET)
        if isinstance(key, KeyOrigin):
            assert parse_key(key.expression, Network.REGTEST) == key
            assert key.expression == text.replace("'", "h")
        else:
            _check_silence(text, key)


def _check_wallet(wallet: Wallet) -> None:
    """The normal form is a fixed point, and others derive the same scripts: libwally, of taproot embit."""
    assert parse_wallet(wallet.descriptor, wallet.network) == wallet
    assert 1 <= wallet.threshold <= len(wallet.keys)
    derive = _by_embit(wallet) if wallet.template.is_taproot else _by_wally(wallet)
    for branch, index in PLACES:
        theirs = derive(branch, index)
        assert theirs == wallet.script(branch, index).script, f"others derive {theirs.hex()}"


def _by_wally(wallet: Wallet) -> Derive:
    parsed = wallycore.descriptor_parse(wallet.descriptor, None, WALLY_NETWORKS[wallet.network], 0)
    return lambda branch, index: bytes(wallycore.descriptor_to_script(parsed, 0, 0, 0, branch, index, 0))


def _by_embit(wallet: Wallet) -> Derive:
    parsed = Descriptor.from_string(wallet.descriptor.partition("#")[0])
    return lambda branch, index: bytes(parsed.derive(index, branch_index=branch).script_pubkey().data)


def _check_silence(text: str, refusal: MalformedError) -> None:
    """A refusal never repeats what may be a private key."""
    said = str(refusal)
    assert all(secret not in said for secret in _SECRET.findall(text)), "a private key stands in the refusal"


def _change(tokens: list[str], random: Random, mutate_bytes: ByteMutator) -> None:
    at, kind = random.randrange(len(tokens)), random.randrange(6)
    keys = [place for place, token in enumerate(tokens) if _XPUB.fullmatch(token)]
    if kind <= 1 and keys:
        at = random.choice(keys)
        tokens[at] = random.choice((_resealed(tokens[at], mutate_bytes), tokens[random.choice(keys)]))
    elif kind == 2:
        tokens[at] = mutate_bytes(tokens[at].encode()).decode("utf-8", "replace")
    elif kind == 3:
        tokens.insert(at, random.choice(tokens))
    elif kind == 4 and len(tokens) > 1:
        del tokens[at]
    elif tokens[at].isdigit():
        tokens[at] = str(random.choice((0, 1, 2, 3, 15, 16, 20, 99, 2**31 - 1, 2**31, 10**10)))
    else:
        tokens[at] = random.choice(
            ("h", "'", "/", "<0;1>", "*", ",", "[", "]", "(", ")", "wsh", "sh", "tr", "multi_a", "sortedmulti_a")
        )


def _resealed(xpub: str, mutate_bytes: ByteMutator) -> str:
    """Return the extended key with its payload changed and the checksum of that."""
    try:
        return encode_check(mutate_bytes(decode_check(xpub)))
    except MalformedError:
        return xpub


def _summed(body: str) -> str:
    """Return `body` with its checksum by embit, which is not instrumented; as it is where it can have none."""
    try:
        return str(add_checksum(body))
    except DescriptorError:
        return body

"""An m-of-n wallet: its descriptor, its keys, the scripts it recognises as its own by deriving them again.

`TEMPLATE(m,[fingerprint/path]xpub/<0;1>/*,...)#checksum` (BIP-380, 389), where the template is one of
`custody.scripts`. Branch 0 receives, branch 1 is change. Nothing here holds a private key; one that is pasted in is
refused without being echoed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import xor
from typing import Protocol

from custody import curve
from custody.bip32 import Children, parse_extended_key
from custody.canonical import encode, tagged_hash
from custody.errors import MalformedError
from custody.psbt_skim import Known, Tail
from custody.quick import quick
from custody.reader import sized
from custody.scripts import Template, make_scripts

MAX_DESCRIPTOR_CHARS = 4096  # 15 keys with origins are about 2,200
MAX_KEYS = (
    15  # BIP-383 allows 20 in wsh; above 15 a multisig input no longer relays well (policy of 3,600-byte scripts)
)
MAX_INDEX = 2**31 - 1
MAX_KEPT_SCRIPTS = 20_000  # about 15 MB for 2-of-3; a transaction has at most a few thousand of ours
RECEIVE, CHANGE = 0, 1
WALLET_TAG = "keyturn/wallet/v1"
_TEMPLATES = {one: re.compile(re.escape(one.fill("@")).replace("@", "([1-9][0-9]?),(.+)")) for one in Template}
_KEY = re.compile(r"(\[([0-9a-f]{8})((?:/(?:0|[1-9][0-9]{0,9})[h']?)*)\]([1-9A-HJ-NP-Za-km-z]+))/<0;1>/\*")
# Only where a key begins: one xpub in ten thousand spells one of these by chance further on.
_PRIVATE = re.compile(r"(?:^|[(,\]])(?:[xtyzuvYZUV]prv|[5KL9c][1-9A-HJ-NP-Za-km-z]{50,51}(?=$|[/,)#]))")
_INPUT_CHARSET = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
_CHECKSUM_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)
_STEPS = tuple(reduce(xor, (g for bit, g in enumerate(_GENERATOR) if top >> bit & 1), 0) for top in range(32))


class Network(Enum):
    """A Bitcoin network."""

    MAINNET = "mainnet"
    TESTNET4 = "testnet4"
    SIGNET = "signet"
    REGTEST = "regtest"

    @property
    def hrp(self) -> str:
        """The human-readable part of its segwit addresses (BIP-173)."""
        return {"mainnet": "bc", "regtest": "bcrt"}.get(self.value, "tb")

    @property
    def is_mainnet(self) -> bool:
        """Whether its coins have value; decides key and address version bytes."""
        return self is Network.MAINNET


@dataclass(frozen=True, slots=True)
class KeyOrigin:
    """One cosigner. fingerprint: 4 bytes, of its master key.  path: from there to `xpub`, hardened ones + 2^31.

    expression: `[fingerprint/path]xpub` as it stands in the descriptor.
    """

    fingerprint: bytes
    path: tuple[int, ...]
    xpub: str
    expression: str

    @property
    def origin(self) -> bytes:
        """Fingerprint and path as PSBT fields write them: 4 bytes, then 4 little-endian bytes per step (BIP-174)."""
        return self.fingerprint + b"".join(step.to_bytes(4, "little") for step in self.path)


@dataclass(frozen=True, slots=True)
class WalletScript:
    """One script of a wallet.

    script: scriptPubKey.  witness_script: what it commits to, in the end: of BIP-141, or the tapleaf (BIP-342).
    pubkeys: in wallet.keys order; 33 bytes each, 32 (x-only) in taproot.  points: the same keys as `curve.Verifier`
    takes them.  order: places in `pubkeys`, as the script lists them.
    redeem_script, control_block, leaf_hash: see `custody.scripts`; empty where the template has none.
    """

    branch: int
    index: int
    script: bytes
    witness_script: bytes
    pubkeys: tuple[bytes, ...]
    points: tuple[bytes, ...]
    order: tuple[int, ...]
    redeem_script: bytes = b""
    control_block: bytes = b""
    leaf_hash: bytes = b""

    @property
    def script_sig(self) -> bytes:
        """What a signed input holds outside its witness: the push of the redeem script, where there is one."""
        return sized(self.redeem_script) if self.redeem_script else b""


_wallet_script = quick(WalletScript)


class Place(Protocol):
    """Where a script stands in a wallet: an `InputFact`, a `WalletScript`."""

    @property
    def branch(self) -> int:
        """0 receives, 1 is change."""

    @property
    def index(self) -> int:
        """On that branch."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet. descriptor: normalised, with checksum.  wallet_id: 32 bytes, tagged hash of network and descriptor."""

    descriptor: str
    network: Network
    threshold: int
    keys: tuple[KeyOrigin, ...]
    wallet_id: bytes
    template: Template = Template.WSH

    def script(self, branch: int, index: int) -> WalletScript:
        """Return the script at branch/index, derived anew; `ScriptBook` caches."""
        return ScriptBook(self).script(branch, index)


class ScriptBook:
    """The scripts of one wallet, derived once each: an explicit cache that is passed to whoever needs many.

    known: what `parse` need not prove again, of all scripts in the cache: their keys, and what we write behind them.
    """

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        template = self._template = wallet.template
        self._is_taproot, self._sorts_keys = template.is_taproot, template.sorts_keys
        self._script_bytes = template.script_bytes
        self._points: set[bytes] = set()
        self._tails: dict[bytes, Tail] = {}
        self.known = Known(self._points, self._tails)
        self._accounts = Children.of(parse_extended_key(key.xpub) for key in wallet.keys)
        self._branches: dict[int, Children] = {}  # each once it is asked for
        self._scripts: dict[tuple[int, int], WalletScript] = {}
        self._places: dict[bytes, int] = {}  # script -> branch and index in one number: a window can be long
        self._known_below = [0, 0]

    def script(self, branch: int, index: int) -> WalletScript:
        """Return the script at branch/index.

        Raises:
            MalformedError: SCRIPT_INDEX for a branch other than 0 and 1 or an index beyond 2^31 - 1.
        """
        found = self._scripts.get((branch, index))
        if found is not None:
            return found
        if branch not in (RECEIVE, CHANGE) or not 0 <= index <= MAX_INDEX:
            raise MalformedError(
                "SCRIPT_INDEX", f"expected branch 0 or 1 and an index below 2^31, found {branch}/{index}"
            )
        return self._keep(self._derive(branch, index))

    def of(self, places: Iterable[Place]) -> list[WalletScript]:
        """Return the script of each of `places`, as `script` does."""
        kept, script = self._scripts, self.script
        return [kept.get((at.branch, at.index)) or script(at.branch, at.index) for at in places]

    def recognise(self, script: bytes, branch: int, index: int) -> WalletScript | None:
        """Return the script at branch/index if it is `script`, else None.

        For places that others name: what is not ours is never kept, and a place that cannot be is not ours.
        """
        known = self._scripts.get((branch, index))
        if known is not None:
            if script not in self._tails and known.script == script and not known.leaf_hash:
                self._tails[script] = self._tail(known)
            return known if known.script == script else None
        if len(script) != self._script_bytes or branch not in (RECEIVE, CHANGE) or not 0 <= index <= MAX_INDEX:
            return None
        found = self._derive(branch, index)
        return self._keep(found) if found.script == script else None

    def find(self, script: bytes, branch: int, below_index: int) -> tuple[int, int] | None:
        """Return (branch, index) of `script` where it is one of the scripts of `branch` with index < `below_index`."""
        if len(script) != self._script_bytes:
            return None
        for index in range(self._known_below[branch], below_index):
            self._places[self._derive(branch, index).script] = index << 1 | branch
        self._known_below[branch] = max(self._known_below[branch], below_index)
        place = self._places.get(script)
        if place is None or place & 1 != branch or place >> 1 >= below_index:
            return None
        return branch, place >> 1

    def _derive(self, branch: int, index: int) -> WalletScript:
        children = self._branches.get(branch)
        if children is None:
            children = self._branches[branch] = self._accounts.below(branch)
        pubkeys, points = zip(*children.at(index), strict=True)
        if self._is_taproot:
            pubkeys, points = tuple(key[1:] for key in pubkeys), tuple(map(curve.even_point, points))
        order = tuple(range(len(pubkeys)))
        if self._sorts_keys:
            order = tuple(sorted(order, key=pubkeys.__getitem__))  # BIP-67
        made = make_scripts(self._template, self.wallet.threshold, tuple(map(pubkeys.__getitem__, order)))
        return _wallet_script(
            branch,
            index,
            made.script,
            made.witness_script,
            pubkeys,
            points,
            order,
            made.redeem_script,
            made.control_block,
            made.leaf_hash,
        )

    def _tail(self, found: WalletScript) -> Tail:
        """Return what `custody.updater.build` writes behind the spent output of an input: BIP-174 types 3 to 6."""
        place = found.branch.to_bytes(4, "little") + found.index.to_bytes(4, "little")
        origins = {b"\x06" + found.pubkeys[at]: self.wallet.keys[at].origin + place for at in found.order}
        redeem = {b"\x04": found.redeem_script} if found.redeem_script else {}
        values = {b"\x03": b"\x01\0\0\0", **redeem, b"\x05": found.witness_script, **origins}
        raw = b"".join(sized(key) + sized(value) for key, value in values.items()) + b"\0"
        head = b"\x01\x01" + bytes([9 + len(found.script)])
        return Tail(head, raw, sum({1 << key[0] for key in values}), found.script, found.branch, found.index)

    def _keep(self, found: WalletScript) -> WalletScript:
        if len(self._scripts) >= MAX_KEPT_SCRIPTS:
            self._scripts.clear()
            self._points.clear()
            self._tails.clear()
        self._points.update(found.pubkeys)
        self._scripts[found.branch, found.index] = found
        return found


def parse_wallet(descriptor: str, network: Network) -> Wallet:
    """Return the wallet that `descriptor` describes.

    Raises:
        MalformedError: DESCRIPTOR_TOO_LONG, DESCRIPTOR_PRIVATE_KEY, DESCRIPTOR_CHARACTER, DESCRIPTOR_CHECKSUM,
            DESCRIPTOR_TEMPLATE, DESCRIPTOR_KEY, DESCRIPTOR_NETWORK, DESCRIPTOR_THRESHOLD, DESCRIPTOR_DUPLICATE_KEY,
            EXTENDED_KEY or a BASE58 code.
    """
    # Plan: 1 size, secrets · 2 checksum · 3 template · 4 each key · 5 keys are distinct · 6 normal form.
    if len(descriptor) > MAX_DESCRIPTOR_CHARS:
        raise MalformedError("DESCRIPTOR_TOO_LONG", f"expected at most {MAX_DESCRIPTOR_CHARS} characters")
    if _PRIVATE.search(descriptor):
        raise MalformedError("DESCRIPTOR_PRIVATE_KEY", "expected public keys only")
    body, _, checksum = descriptor.partition("#")
    if checksum != descriptor_checksum(body):
        raise MalformedError("DESCRIPTOR_CHECKSUM", "expected the BIP-380 checksum of this descriptor")
    template, threshold, listed = _read_template(body)
    keys = tuple(_read_key(text, network) for text in listed.split(","))
    if not threshold <= len(keys) <= MAX_KEYS:
        raise MalformedError("DESCRIPTOR_THRESHOLD", f"expected m <= n <= {MAX_KEYS}, found {threshold} of {len(keys)}")
    _check_distinct(keys)
    return make_wallet(threshold, keys, network, template)


def make_wallet(
    threshold: int, keys: tuple[KeyOrigin, ...], network: Network, template: Template = Template.WSH
) -> Wallet:
    """Return the wallet of these keys with its normalised descriptor."""
    listed = ",".join(f"{key.expression}/<0;1>/*" for key in keys)
    body = template.fill(f"{threshold},{listed}")
    descriptor = f"{body}#{descriptor_checksum(body)}"
    wallet_id = tagged_hash(WALLET_TAG, encode({"network": network.value, "descriptor": descriptor}))
    return Wallet(descriptor, network, threshold, keys, wallet_id, template)


def parse_key(expression: str, network: Network) -> KeyOrigin:
    """Return the key written `[fingerprint/path]xpub`. Raises as `parse_wallet`."""
    if _PRIVATE.search(expression):
        raise MalformedError("DESCRIPTOR_PRIVATE_KEY", "expected a public key")
    return _read_key(expression + "/<0;1>/*", network)


def descriptor_checksum(body: str) -> str:
    """Return the 8-character checksum of a descriptor without `#` (BIP-380).

    Raises:
        MalformedError: DESCRIPTOR_CHARACTER.
    """
    symbols: list[int] = []
    groups: list[int] = []
    for char in body:
        value = _INPUT_CHARSET.find(char)
        if value < 0:
            raise MalformedError("DESCRIPTOR_CHARACTER", "expected only the characters of BIP-380")
        symbols.append(value & 31)
        groups.append(value >> 5)
        if len(groups) == 3:
            symbols.append(groups[0] * 9 + groups[1] * 3 + groups[2])
            groups = []
    if len(groups) == 1:
        symbols.append(groups[0])
    elif len(groups) == 2:
        symbols.append(groups[0] * 3 + groups[1])
    state = _polymod([*symbols, 0, 0, 0, 0, 0, 0, 0, 0]) ^ 1
    return "".join(_CHECKSUM_CHARSET[state >> 5 * (7 - at) & 31] for at in range(8))


def _polymod(symbols: list[int]) -> int:
    state = 1
    for value in symbols:
        state = (state & 0x7FFFFFFFF) << 5 ^ value ^ _STEPS[state >> 35]
    return state


def _read_template(body: str) -> tuple[Template, int, str]:
    """Return the template of a descriptor, its threshold and the text of its keys, or refuse it."""
    for template, pattern in _TEMPLATES.items():
        if found := pattern.fullmatch(body):
            return template, int(found[1]), found[2]
    forms = " or ".join(one.fill("m,[origin]xpub/<0;1>/*,...") for one in Template)
    raise MalformedError("DESCRIPTOR_TEMPLATE", f"expected {forms}")


def _read_key(text: str, network: Network) -> KeyOrigin:
    found = _KEY.fullmatch(text)
    if found is None:
        raise MalformedError("DESCRIPTOR_KEY", "expected [fingerprint/path]xpub/<0;1>/*")
    expression, fingerprint, path_text, xpub = found[1], found[2], found[3], found[4]
    path = tuple(_read_step(step) for step in path_text.split("/")[1:])
    extended = parse_extended_key(xpub)
    if extended.is_mainnet is not network.is_mainnet:
        raise MalformedError("DESCRIPTOR_NETWORK", f"expected a key of {network.value}")
    if extended.depth != len(path):
        raise MalformedError("DESCRIPTOR_KEY", f"expected an xpub of depth {len(path)}, found {extended.depth}")
    return KeyOrigin(bytes.fromhex(fingerprint), path, xpub, expression.replace("'", "h"))


def _read_step(step: str) -> int:
    index = int(step.rstrip("h'"))
    if index > MAX_INDEX:
        raise MalformedError("DESCRIPTOR_KEY", f"expected path steps below 2^31, found {index}")
    return index + 2**31 if step[-1] in "h'" else index


def _check_distinct(keys: tuple[KeyOrigin, ...]) -> None:
    xonly = {parse_extended_key(key.xpub).pubkey[1:] for key in keys}  # who has a secret has that of -P too
    if len(xonly) != len(keys):
        raise MalformedError("DESCRIPTOR_DUPLICATE_KEY", "expected a different key in each place")

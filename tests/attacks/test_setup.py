"""Attacks on the making of a wallet: keys, descriptors and the document that people sign.

A descriptor is frozen by the genesis hash, which every node's record and twelve compared words stand behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody.base58 import decode_check, encode_check
from custody.canonical import decode, encode
from custody.errors import MalformedError
from custody.genesis import Genesis, check_signed, parse_genesis
from custody.statements import Kind, Signed
from custody.wallet import Network, descriptor_checksum, make_wallet, parse_key, parse_wallet
from custody.words import words
from tests.fakes.cleared import descriptor_key
from tests.fakes.rules import seed_of
from tests.world import make_genesis

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
KEYS = tuple(descriptor_key(seed_of(f"setup {at}")) for at in range(3))
WALLET = make_wallet(2, tuple(parse_key(key, Network.REGTEST) for key in KEYS), Network.REGTEST)
BODY = WALLET.descriptor.partition("#")[0]
GENESIS = make_genesis()
LIMIT_S = 0.5  # far above the milliseconds it takes, far below what embit needed


def summed(body: str) -> str:
    """Return `body` with its checksum."""
    return f"{body}#{descriptor_checksum(body)}"


def code_of(descriptor: str, network: Network = Network.REGTEST) -> str:
    """Return the code with which `descriptor` is refused, or OK."""
    try:
        parse_wallet(descriptor, network)
    except MalformedError as error:
        return error.code
    return "OK"


def wsh(*keys: str, threshold: int = 2) -> str:
    """Return the descriptor of `keys` with its checksum."""
    return summed(f"wsh(sortedmulti({threshold},{','.join(f'{key}/<0;1>/*' for key in keys)}))")


def forged(change: Callable[[dict[str, Any]], object]) -> Genesis | str:
    """Return the genesis after `change` of its document under the old signatures, or the code of its refusal."""
    document: Any = decode(GENESIS.signed.raw)
    change(document)
    try:
        return parse_genesis(replace(GENESIS.signed, raw=encode(document)))
    except MalformedError as error:
        return error.code


def with_keys(document: dict[str, Any], threshold: int, keys: list[str]) -> None:
    """Make the document's wallet another one, its rules naming it."""
    wallet = make_wallet(threshold, tuple(parse_key(key, Network.REGTEST) for key in keys), Network.REGTEST)
    document["wallets"][0]["descriptor"] = wallet.descriptor
    document["rules"]["wallets"]["treasury"]["wallet_id"] = wallet.wallet_id.hex()


def own_keys(document: dict[str, Any]) -> list[str]:
    """Return the keys of the document's slots."""
    return [slot["record"]["statement"]["key"] for slot in document["wallets"][0]["slots"]]


def test_atk_074_cosigner_key_swapped_in_transit_breaks_its_record_or_the_words() -> None:
    """A key in the descriptor must be the one its node signed; swapping whole records changes the compared words."""

    def another_key(document: dict[str, Any]) -> None:
        with_keys(document, 2, [KEYS[0], *own_keys(document)[1:]])

    def another_key_and_record(document: dict[str, Any]) -> None:
        another_key(document)
        document["wallets"][0]["slots"][0]["record"]["statement"]["key"] = KEYS[0]

    def records_swapped(document: dict[str, Any]) -> None:
        slots = document["wallets"][0]["slots"]
        slots[0], slots[1] = slots[1], slots[0]
        with_keys(document, 2, own_keys(document))

    assert forged(another_key) == "GENESIS_SLOT"
    assert forged(another_key_and_record) == "RECORD_SIGNATURE"
    swapped = forged(records_swapped)
    assert isinstance(swapped, Genesis)
    assert words(swapped.hash) != words(GENESIS.hash)
    with pytest.raises(MalformedError, match="GENESIS_UNSIGNED"):
        check_signed(swapped)


@pytest.mark.parametrize("lie", ["threshold", "key added", "order"])
def test_atk_075_wallet_changed_after_signing_is_refused_or_another_genesis(lie: str) -> None:
    """Threshold, number and order of keys are all bound by slots, wallet id and hash."""

    def change(document: dict[str, Any]) -> None:
        keys = own_keys(document)
        changed = {"threshold": (1, keys), "key added": (2, [*keys, KEYS[0]]), "order": (2, keys[::-1])}[lie]
        with_keys(document, *changed)

    found = forged(change)

    if lie == "threshold":
        assert isinstance(found, Genesis)
        assert words(found.hash) != words(GENESIS.hash)
        with pytest.raises(MalformedError, match="GENESIS_UNSIGNED"):
            check_signed(found)
    else:
        assert found == "GENESIS_SLOT"


def test_atk_075_plain_multi_is_no_template_of_ours() -> None:
    """Multi and sortedmulti of the same keys pay to different scripts; only one of them is ours."""
    assert code_of(summed(BODY.replace("sortedmulti", "multi"))) == "DESCRIPTOR_TEMPLATE"


def test_atk_076_one_key_in_two_slots_is_refused_under_any_origin() -> None:
    """Keys are compared as keys: another fingerprint, path or spelling does not make a second one."""
    xpub = KEYS[0].partition("]")[2]
    elsewhere = f"[00000000/0h/1h/2h/3h]{xpub}"

    assert code_of(wsh(KEYS[0], KEYS[1], KEYS[0])) == "DESCRIPTOR_DUPLICATE_KEY"
    assert code_of(wsh(KEYS[0], KEYS[1], elsewhere)) == "DESCRIPTOR_DUPLICATE_KEY"
    assert code_of(wsh(KEYS[0], KEYS[1], KEYS[0].replace("h/", "'/"))) == "DESCRIPTOR_DUPLICATE_KEY"


def test_atk_076_one_key_with_another_chain_code_is_refused() -> None:
    """The chain code is no part of who can sign."""
    raw = bytearray(decode_check(KEYS[0].partition("]")[2]))
    raw[13] ^= 1

    twin = KEYS[0].partition("]")[0] + "]" + encode_check(bytes(raw))

    assert code_of(wsh(KEYS[0], KEYS[1], twin)) == "DESCRIPTOR_DUPLICATE_KEY"


def test_atk_076_one_key_and_its_negative_are_one_person() -> None:
    """Who has the secret of P has that of -P; in taproot the two are even written alike."""
    raw = bytearray(decode_check(KEYS[0].partition("]")[2]))
    raw[45] ^= 1

    twin = KEYS[0].partition("]")[0] + "]" + encode_check(bytes(raw))

    assert code_of(wsh(KEYS[0], KEYS[1], twin)) == "DESCRIPTOR_DUPLICATE_KEY"


@pytest.mark.parametrize("checksum", ["", "#", "#aaaaaaaa", "#" + "q" * 8, "#{0}q", "#{1}", "##{0}", "#{0}#{0}"])
def test_atk_077_descriptor_without_its_checksum_is_refused(checksum: str) -> None:
    """Missing, empty, invented, too long, too short, twice."""
    right = descriptor_checksum(BODY)

    assert code_of(BODY + checksum.format(right, right[:-1])) == "DESCRIPTOR_CHECKSUM"
    assert code_of(f"{BODY}#{right}") == "OK"


NUMS = "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0"
UNSOUND = [
    "tr(NUMS,multi_a(0,K))",
    "tr(K)",
    "wsh(andor(n:older(1),pk(K),pk(K)))",
    "wsh(t:or_c(pk(K),v:pk(K)))",
    "wsh(multi(1,K))",
    "wsh(pk(K))",
    "wsh(sortedmulti(0,K,K))",
    "sh(sortedmulti(2,K,K))",
    "sh(wsh(sh(wsh(sortedmulti(2,K,K)))))",
    "sh(wsh(multi(2,K,K)))",
    "sh(multi_a(2,K,K))",
    "wsh(multi_a(2,K,K))",
    "tr(sortedmulti_a(2,K,K))",
    "tr(K,sortedmulti_a(2,K,K))",
    f"tr({NUMS},sortedmulti(2,K,K))",
    f"tr({NUMS},multi_a(0,K,K))",
    f"tr({NUMS},{{multi_a(2,K,K),pk(K)}})",
    f"tr({NUMS},pk(K))",
    f"tr({NUMS})",
    f"tr(02{NUMS},multi_a(2,K,K))",
    f"tr({NUMS.upper()},multi_a(2,K,K))",
    f"tr({NUMS[:-1]}1,multi_a(2,K,K))",
    f"tr({NUMS}/<0;1>/*,multi_a(2,K,K))",
    "wpkh(K)",
    "pkh(K)",
    "combo(K)",
    "raw(51)",
    "addr(bcrt1q)",
    "sortedmulti(2,K,K)",
    "wsh(wsh(sortedmulti(2,K,K)))",
    "wsh(sortedmulti(2,K,K),K)",
]


@pytest.mark.parametrize("body", UNSOUND)
def test_atk_078_script_outside_the_template_is_refused(body: str) -> None:
    """Four templates are read; what anyone can spend, or nobody, has no way in."""
    keys = iter([f"{key}/<0;1>/*" for key in (*KEYS, *KEYS)])
    filled = "".join(next(keys) if char == "K" else char for char in body)

    assert code_of(summed(filled)) in {"DESCRIPTOR_TEMPLATE", "DESCRIPTOR_KEY"}


def test_atk_079_uncompressed_and_bare_keys_are_refused() -> None:
    """Only extended keys of compressed points have children."""
    uncompressed = "04" + "11" * 64
    raw = bytearray(decode_check(KEYS[0].partition("]")[2]))
    raw[45] = 0x04
    broken = KEYS[0].partition("]")[0] + "]" + encode_check(bytes(raw))

    assert code_of(wsh(KEYS[0], KEYS[1], uncompressed)) == "DESCRIPTOR_KEY"
    assert code_of(wsh(KEYS[0], KEYS[1], "[00000000]" + "02" + "11" * 32)) == "DESCRIPTOR_KEY"
    assert code_of(wsh(KEYS[0], KEYS[1], broken)) == "EXTENDED_KEY"


@pytest.mark.parametrize(("count", "code"), [(15, "OK"), (16, "DESCRIPTOR_THRESHOLD")])
def test_atk_079_more_keys_than_relay_is_refused(count: int, code: str) -> None:
    """15 keys stand, 16 do not: the coins would be hard to move."""
    keys = [descriptor_key(seed_of(f"many {at}")) for at in range(count)]

    assert code_of(wsh(*keys, threshold=count // 2)) == code


@pytest.mark.parametrize(
    "step", ["-0h", "1_0h", "\u0661h", "2147483648", "2147483648h", "048h", "48H", "48hh", " 48h", "+48h", "0x30h", "h"]
)
def test_atk_080_path_that_reads_two_ways_is_refused(step: str) -> None:
    """A step is a plain number below 2^31 with at most one mark."""
    found = KEYS[0].replace("/48h", f"/{step}", 1)

    with pytest.raises(MalformedError, match=r"^DESCRIPTOR_KEY"):
        parse_key(found, Network.REGTEST)


def test_atk_081_keys_of_another_network_are_refused() -> None:
    """One network per wallet; SLIP-132 spellings are no keys."""
    mainnet = reversion(KEYS[2], "0488b21e")

    assert code_of(wsh(KEYS[0], KEYS[1], mainnet)) == "DESCRIPTOR_NETWORK"
    assert code_of(WALLET.descriptor, Network.MAINNET) == "DESCRIPTOR_NETWORK"
    for slip132 in ("02575483", "02aa7ed3", "045f1cf6", "04b24746"):
        assert code_of(wsh(KEYS[0], KEYS[1], reversion(KEYS[2], slip132))) == "EXTENDED_KEY"


def reversion(key: str, version: str) -> str:
    """Return `key` with other version bytes (hex)."""
    origin, _, xpub = key.partition("]")
    return f"{origin}]{encode_check(bytes.fromhex(version) + decode_check(xpub)[4:])}"


XPRV = json.loads((VECTORS / "bip32/vectors.json").read_text())["valid"][0]["xprv"]
PRIVATE = {
    "xprv": XPRV,
    "tprv": encode_check(bytes.fromhex("04358394") + decode_check(XPRV)[4:]),
    "zprv": encode_check(bytes.fromhex("04b2430c") + decode_check(XPRV)[4:]),
    "WIF": "L4rK1yDtCWekvXuE6oXD9jCYfFNV2cWRpVuPLBcCU2z8TrisoyY1",
    "test WIF": "cP53pDbR5WtAD8dYAW9hhTjuvvTVaEiQBdrz9XPrgLBeRFiyCbQr",
    "uncompressed WIF": "5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss",
}


@pytest.mark.parametrize("name", PRIVATE)
def test_atk_082_private_key_pasted_in_is_refused_and_never_echoed(name: str) -> None:
    """As a cosigner, with or without origin, and where a public key expression is asked for."""
    secret = PRIVATE[name]
    for attempt in (
        lambda: parse_wallet(wsh(KEYS[0], KEYS[1], f"[00000000]{secret}"), Network.REGTEST),
        lambda: parse_wallet(wsh(secret, KEYS[1], KEYS[2]), Network.REGTEST),
        lambda: parse_key(f"[00000000]{secret}", Network.REGTEST),
        lambda: parse_key(secret, Network.REGTEST),
    ):
        with pytest.raises(MalformedError) as raised:
            attempt()
        assert raised.value.code == "DESCRIPTOR_PRIVATE_KEY"
        assert secret[:12] not in repr(raised.value)


def test_atk_082_private_key_in_a_genesis_is_refused_and_never_echoed() -> None:
    """Also where it hides in a document of many keys."""
    secret = PRIVATE["tprv"]

    def change(document: dict[str, Any]) -> None:
        body = document["wallets"][0]["descriptor"].partition("#")[0]
        document["wallets"][0]["descriptor"] = summed(body.replace(own_keys(document)[0].partition("]")[2], secret))

    assert forged(change) == "DESCRIPTOR_PRIVATE_KEY"


BOMBS = {
    "doubling wrappers": "wsh(" + "tv" * 2_000 + ":pk(K))",
    "deep nesting": "wsh(" * 1_000 + ")" * 100,
    "many commas": "wsh(sortedmulti(2," + "," * 4_000 + "))",
    "a long path": "wsh(sortedmulti(2,[00000000" + "/0" * 1_900 + "]@/<0;1>/*))",
    "many brackets": "wsh(sortedmulti(1," + "[" * 4_000 + "))",
    "a megabyte": "wsh(sortedmulti(2," + "a" * 1_000_000 + "))",
}


@pytest.mark.parametrize("name", BOMBS)
def test_atk_083_descriptor_bomb_is_answered_at_once(name: str) -> None:
    """What takes other parsers seconds or their stack is refused in milliseconds."""
    body = BOMBS[name]
    text = summed(body) if len(body) < 10_000 else body

    started = time.process_time()
    code = code_of(text)

    assert code in {"DESCRIPTOR_TEMPLATE", "DESCRIPTOR_KEY", "DESCRIPTOR_TOO_LONG"}
    assert time.process_time() - started < LIMIT_S


def test_atk_083_largest_wallet_is_read_at_once() -> None:
    """The bound leaves room for what is allowed."""
    keys = [descriptor_key(seed_of(f"many {at}")) for at in range(15)]
    text = wsh(*keys, threshold=8)

    started = time.process_time()
    assert len(parse_wallet(text, Network.REGTEST).keys) == 15
    assert time.process_time() - started < LIMIT_S


def test_atk_074_signed_genesis_of_another_document_is_not_this_one() -> None:
    """The signatures are over the bytes: one changed label and nobody has signed."""
    changed = forged(lambda document: document["rules"].update(policy_id="other"))

    assert isinstance(changed, Genesis)
    assert changed.signed.endorsements == GENESIS.signed.endorsements
    with pytest.raises(MalformedError, match="GENESIS_UNSIGNED"):
        check_signed(changed)
    assert Signed(Kind.GENESIS, changed.signed.raw, ()).digest != GENESIS.hash

"""Wallet files of other programs: each format there and back, and what makes one refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from console.cli.wallet_files import same_scripts
from console.wallet_files import FORMATS, MAX_WALLET_FILE_BYTES, bsms, bsms_sealed, format_named, read_wallet_file
from console.wallet_files.named import UNNAMED, NamedWallet
from console.wallet_files.sheet import sheet
from console.wallet_files.slip132 import to_multisig, to_plain
from custody.errors import MalformedError
from custody.scripts import Template
from custody.wallet import Network, make_wallet
from tests.fakes.psbts import wallet_of

WALLET = wallet_of()
NAMED = NamedWallet("treasury", WALLET)
SEGWIT = (Template.WSH, Template.SH_WSH)
TAPROOT = {"descriptor", "sparrow", "core", "bsms", "specter"}  # the formats that are descriptors
NAMELESS = {"descriptor", "sparrow", "core", "bsms", "electrum"}
Change = Callable[[str], str]


def text_of(name: str) -> str:
    """Return the treasury in one format."""
    return FORMATS[name].write(NAMED)


def code_of(text: str, network: Network = Network.REGTEST) -> str:
    """Return the code with which a file is refused, or OK."""
    try:
        read_wallet_file(text.encode(), network)
    except MalformedError as error:
        return error.code
    return "OK"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("template", Template)
@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (2, 3), (15, 15)])
def test_read_given_what_write_wrote_returns_the_wallet(
    name: str, template: Template, threshold: int, count: int
) -> None:
    """In every format that has words for its template; the others refuse to write it."""
    wallet = wallet_of(threshold, count, template=template)
    if template not in SEGWIT and name not in TAPROOT:
        with pytest.raises(MalformedError, match="TEMPLATE"):
            FORMATS[name].write(NamedWallet("treasury", wallet))
        return

    text = FORMATS[name].write(NamedWallet("treasury", wallet))
    kind, found = read_wallet_file(text.encode(), Network.REGTEST)

    assert found == NamedWallet(UNNAMED if name in NAMELESS else "treasury", wallet)
    assert kind == ("descriptor" if name == "sparrow" else name)


def of_json(name: str, change: Callable[[dict[str, object]], object]) -> Change:
    """Return a change of one field of a JSON file."""

    def changed(_: str) -> str:
        found = json.loads(text_of(name))
        change(found)
        return json.dumps(found)

    return changed


def swap(old: str, new: str) -> Change:
    """Return a change of the first `old` to `new`."""
    return lambda text: text.replace(old, new, 1)


def stretched(text: str) -> str:
    """Return a file that is longer than any wallet's."""
    return text + " " * MAX_WALLET_FILE_BYTES


CHANGES: dict[str, tuple[str, Change, str]] = {
    "windows line ends": ("coldcard", lambda text: text.replace("\n", "\r\n"), "OK"),
    "too long": ("descriptor", stretched, "WALLET_FILE_TEXT"),
    "nothing": ("descriptor", lambda _: "# empty\n", "WALLET_FILE_EMPTY"),
    "one character of the descriptor": ("descriptor", swap("sortedmulti(2", "sortedmulti(1"), "DESCRIPTOR_CHECKSUM"),
    "two wallets": ("sparrow", lambda text: text + wallet_of(tag="another").descriptor, "WALLET_FILE_SEVERAL"),
    "core: change of another wallet": ("core", lambda _: core_mixed(), "WALLET_FILE_SEVERAL"),
    "core: not a list of requests": ("core", lambda _: "[\n1]", "WALLET_FILE_JSON"),
    "bsms: another version": ("bsms", swap("BSMS 1.0", "BSMS 2.0"), "BSMS_VERSION"),
    "bsms: other branches": ("bsms", swap("/0/*,/1/*", "/2/*,/3/*"), "BSMS_PATHS"),
    "bsms: another address": ("bsms", swap("bcrt1", "bcrt2"), "BSMS_ADDRESS"),
    "bsms: a line more": ("bsms", lambda text: text + "\nmore", "BSMS_LINES"),
    "coldcard: a key missing": ("coldcard", lambda text: text.rpartition("Derivation")[0], "WALLET_FILE_POLICY"),
    "coldcard: 4 of 3": ("coldcard", swap("2 of 3", "4 of 3"), "WALLET_FILE_POLICY"),
    "coldcard: no derivation": ("coldcard", lambda text: text.replace("Derivation", "# "), "WALLET_FILE_DERIVATION"),
    "coldcard: another derivation": ("coldcard", swap("m/48'", "m/48'/0'"), "DESCRIPTOR_KEY"),
    "coldcard: an old script": ("coldcard", swap("P2WSH", "P2SH"), "WALLET_FILE_TEMPLATE"),
    "coldcard: a line of noise": ("coldcard", lambda text: text + "noise\n", "WALLET_FILE_LINE"),
    "coldcard: an unknown label": ("coldcard", lambda text: text + "Colour: red\n", "WALLET_FILE_LINE"),
    "json: a duplicate key": ("specter", swap('"label"', '"label": "x", "label"'), "WALLET_FILE_JSON"),
    "json: of nobody": ("specter", of_json("specter", lambda f: f.pop("descriptor")), "WALLET_FILE_KIND"),
    "caravan: another network": ("caravan", swap("regtest", "mainnet"), "WALLET_FILE_NETWORK"),
    "caravan: an old script": ("caravan", swap('"P2WSH"', '"P2SH"'), "WALLET_FILE_TEMPLATE"),
    "caravan: more keys than listed": ("caravan", swap('"totalSigners": 3', '"totalSigners": 4'), "WALLET_FILE_POLICY"),
    "caravan: none needed": ("caravan", swap('"requiredSigners": 2', '"requiredSigners": 0'), "WALLET_FILE_POLICY"),
    "electrum: single signer": ("electrum", swap("2of3", "standard"), "WALLET_FILE_POLICY"),
    "electrum: a keystore missing": ("electrum", of_json("electrum", lambda f: f.pop("x3/")), "WALLET_FILE_POLICY"),
    "electrum: one key of another script": (
        "electrum",
        lambda text: text.replace("Vpub", "Upub", 1),
        "BASE58_CHECKSUM",
    ),
    "bip388: out of order": ("bip388", swap("@0/**,@1/**", "@1/**,@0/**"), "POLICY_ORDER"),
}


def core_mixed() -> str:
    """Return our receiving branch with another wallet's change: whoever imports it gives the change away."""
    ours = json.loads(text_of("core"))
    theirs = json.loads(FORMATS["core"].write(NamedWallet("other", wallet_of(tag="another"))))
    return json.dumps([ours[0], theirs[1]])


@pytest.mark.parametrize("change", CHANGES)
def test_read_given_one_change_refuses_with_its_code(change: str) -> None:
    """One valid file, one change, one code."""
    name, changed, code = CHANGES[change]

    assert code_of(changed(text_of(name))) == code


@pytest.mark.parametrize("name", FORMATS)
def test_read_given_a_file_of_another_network_refuses(name: str) -> None:
    """Keys of a test network are not mainnet's."""
    assert code_of(text_of(name), Network.MAINNET) in {"DESCRIPTOR_NETWORK", "WALLET_FILE_NETWORK"}


@pytest.mark.parametrize(
    "secret",
    [
        "xprv9s21ZrQH143K2JF8RafpqtKiTbsbaxEeUaMnNHsm5o6wCW3z8ySyH4UxFVSfZ8n7ESu7fgir8i",
        " ".join(["abandon"] * 11 + ["about"]),
    ],
)
def test_atk_079_read_given_a_file_with_a_secret_refuses_and_does_not_repeat_it(secret: str) -> None:
    """A private key, or seed words, in any field of any format."""
    with pytest.raises(MalformedError) as refused:
        read_wallet_file(text_of("caravan").replace("treasury", secret).encode(), Network.REGTEST)

    assert refused.value.code == "WALLET_FILE_SECRET"
    assert secret[:20] not in str(refused.value)


def test_electrum_given_a_file_with_a_private_key_refuses() -> None:
    """Electrum's own format has a place for one, whatever its version bytes."""
    found = json.loads(text_of("electrum"))
    found["x1/"]["seed"] = "twelve words"

    assert code_of(json.dumps(found)) == "WALLET_FILE_SECRET"


@pytest.mark.parametrize("template", SEGWIT)
def test_slip_132_given_a_key_of_another_script_refuses(template: Template) -> None:
    """The version bytes are a statement about the script; where they contradict the file, nothing is assumed."""
    other = next(one for one in SEGWIT if one is not template)
    key = WALLET.keys[0].xpub

    assert to_plain(to_multisig(key, template), template) == key
    with pytest.raises(MalformedError, match="WALLET_FILE_SCRIPT"):
        to_plain(to_multisig(key, template), other)


def test_unseal_given_another_token_or_a_changed_digit_refuses() -> None:
    """The MAC is over token and text."""
    token = bytes(range(8))
    sealed = bsms_sealed.seal(bsms.write(NAMED), token)

    assert bsms.read(bsms_sealed.unseal(sealed, token), Network.REGTEST).wallet == WALLET
    for changed, key in ((sealed, bytes(8)), (sealed[:-1] + format(int(sealed[-1], 16) ^ 1, "x"), token)):
        with pytest.raises(MalformedError, match="BSMS_MAC"):
            bsms_sealed.unseal(changed, key)


def test_format_named_given_nunchuk_returns_bsms_and_given_a_stranger_lists_the_known() -> None:
    """A format is one of a list."""
    assert format_named("nunchuk") is FORMATS["bsms"]
    with pytest.raises(MalformedError, match="expected one of descriptor, sparrow"):
        format_named("wallet.dat")


def test_same_scripts_given_keys_in_another_order_holds_only_where_the_script_sorts_them() -> None:
    """The sorted templates forget the order, the other does not."""
    for template in Template:
        wallet = wallet_of(template=template)
        turned = make_wallet(wallet.threshold, wallet.keys[::-1], wallet.network, template)
        assert same_scripts(wallet, turned) is template.sorts_keys
    assert not same_scripts(WALLET, wallet_of(3, 3))


def test_sheet_given_a_wallet_is_the_same_pdf_each_time() -> None:
    """Two prints can be compared; a name in any script is no reason to fail."""
    named = NamedWallet("金库", WALLET)

    assert sheet(named) == sheet(named)
    assert sheet(named).startswith(b"%PDF-")

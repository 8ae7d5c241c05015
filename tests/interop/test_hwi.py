"""The Hardware Wallet Interface itself, in its own environment; no device is plugged in where tests run.

`python3 dev.py test` installs it; these tests fail where it could not.
"""

from __future__ import annotations

import ctypes.util
import os
from pathlib import Path

import pytest

import dev
from console.devices.dialects import DIALECTS
from console.devices.hwi import Hwi
from console.devices.outgoing import prepare
from custody.errors import UnavailableError
from custody.psbt import from_base64
from custody.wallet import Network
from tests.fakes.psbts import WALLET, valid

pytestmark = pytest.mark.slow


@pytest.fixture
def program() -> Path:
    """Return HWI's command, or say why there is none."""
    found = dev.HWI_VENV / "bin" / "hwi"
    if failed := os.environ.get("KEYTURN_MISSING_USB-1.0"):
        pytest.fail(failed)
    if not found.exists() or ctypes.util.find_library("usb-1.0") is None:
        pytest.skip("no HWI here: `python3 dev.py hwi`, `apt-get install libusb-1.0-0`")
    return found


def test_hwi_given_no_device_lists_none(program: Path) -> None:
    """The call that a person makes first."""
    assert Hwi(program, Network.REGTEST).devices() == []


@pytest.mark.parametrize("name", ["ledger", "trezor"])
def test_hwi_given_our_psbt_looks_for_its_device_and_says_there_is_none(program: Path, name: str) -> None:
    """It reads our command and PSBT from its standard input, and its refusal arrives with its words."""
    content = from_base64(prepare(valid(), WALLET, DIALECTS[name]).decode())

    with pytest.raises(UnavailableError, match=r"HWI_REFUSED: .*Could not find device"):
        Hwi(program, Network.REGTEST).sign(content, WALLET.keys[2].fingerprint)

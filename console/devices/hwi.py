"""Signers on a USB cable, by the Hardware Wallet Interface: another program, in an environment of its own.

It is given a PSBT on its standard input and answers with one; it is believed for nothing but that.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

from custody.errors import MalformedError, UnavailableError
from custody.psbt import from_base64
from custody.wallet import Network

TIMEOUT_S = 600.0  # a person reads every output on a small screen and holds a button
MAX_ANSWER_BYTES = 8 * 1024 * 1024  # a PSBT of 2 MiB in base64, twice over
_CHAINS = {
    Network.MAINNET: "main",
    Network.TESTNET4: "testnet4",
    Network.SIGNET: "signet",
    Network.REGTEST: "regtest",
}


class Hwi:
    """One installation of HWI. program: its command."""

    def __init__(self, program: Path, network: Network, timeout_s: float = TIMEOUT_S) -> None:
        self._command = [str(program), "--chain", _CHAINS[network]]
        self._timeout_s = timeout_s

    def devices(self) -> list[dict[str, Any]]:
        """Return what is plugged in, as HWI describes it: type, path, fingerprint, or an error.

        Raises:
            UnavailableError: HWI_MISSING, HWI_TIMEOUT, HWI_ANSWER.
        """
        found = self._run(["enumerate"], "")
        if not isinstance(found, list):
            raise UnavailableError("HWI_ANSWER", "expected a list of devices")
        return [one for one in found if isinstance(one, dict)]

    def sign(self, psbt: bytes, fingerprint: bytes) -> bytes:
        """Return the PSBT that the device with this master fingerprint (4 bytes) gave back.

        Raises:
            UnavailableError: HWI_MISSING, HWI_TIMEOUT, HWI_ANSWER, HWI_REFUSED with what the device says.
            MalformedError: a code of `from_base64`.
        """
        line = f"--fingerprint {fingerprint.hex()} signtx {b64encode(psbt).decode()}"
        found = self._run(["--stdin"], line + "\n\n")  # an argument may not be as long as a PSBT
        answer = found.get("psbt") if isinstance(found, dict) else None
        if not isinstance(answer, str):
            said = str(found.get("error", "no PSBT")) if isinstance(found, dict) else "no PSBT"
            raise UnavailableError("HWI_REFUSED", f"expected a PSBT from the device, found: {said[:200]}")
        return from_base64(answer)

    def _run(self, arguments: list[str], typed: str) -> Any:
        try:
            done = subprocess.run(  # noqa: S603  # the program that the user named
                [*self._command, *arguments],
                input=typed.encode(),
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError("HWI_TIMEOUT", f"expected an answer within {self._timeout_s:.0f} s") from error
        except OSError as error:
            raise UnavailableError("HWI_MISSING", f"expected HWI at {self._command[0]}: {error.strerror}") from error
        if len(done.stdout) > MAX_ANSWER_BYTES:
            raise UnavailableError("HWI_ANSWER", f"expected at most {MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(done.stdout)
        except (ValueError, RecursionError) as error:
            raise UnavailableError("HWI_ANSWER", "expected JSON from HWI") from error


def fingerprint_of(text: str) -> bytes:
    """Return a master fingerprint. Raises MalformedError FINGERPRINT."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 4:
        raise MalformedError("FINGERPRINT", "expected 8 hex digits")
    return found

"""A wallet on paper: its descriptor with a QR code, its keys, its first addresses. It holds no secret.

Whoever has m of the seeds and this sheet can restore the wallet with any program; whoever has the sheet alone can see
every payment and spend none.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime

import segno
from fpdf import FPDF
from fpdf.enums import WrapMode, XPos, YPos

from console.plain import plain
from console.wallet_files.named import NamedWallet, path_text
from custody.address import address_of
from custody.wallet import CHANGE, RECEIVE

RECEIVE_ADDRESSES, CHANGE_ADDRESSES = 5, 2  # enough to compare with another program's screen
QR_MM = 70  # a phone reads a descriptor of 15 keys at this size
_LATIN = "latin-1"  # what PDF's own fonts can show; anything else is printed by its number
_NOTE = (
    "This sheet holds no secret. With {m} of the {n} seeds it restores the wallet in any program that reads "
    "descriptors; without a seed it shows every payment and can spend none. Keep one copy with each seed backup."
)


def sheet(named: NamedWallet) -> bytes:
    """Return the PDF: the same bytes for the same wallet."""
    wallet, page = named.wallet, FPDF(format="A4")
    page.set_creation_date(datetime.fromtimestamp(0, UTC))
    page.set_title(_shown(f"Wallet {named.name}"))
    page.set_auto_page_break(auto=True, margin=15)
    page.add_page()
    _line(page, f"Wallet {named.name}", 18, "B")
    _line(page, f"{wallet.threshold} of {len(wallet.keys)} keys, {wallet.template.form}, {wallet.network.value}", 11)
    _line(page, f"wallet id {wallet.wallet_id.hex()}", 8)
    _line(page, _NOTE.format(m=wallet.threshold, n=len(wallet.keys)), 9)
    _title(page, "Descriptor")
    _mono(page, wallet.descriptor)
    page.image(_qr(wallet.descriptor), w=QR_MM, h=QR_MM)
    _title(page, "Keys")
    for at, key in enumerate(wallet.keys, 1):
        _line(page, f"{at}   {key.fingerprint.hex()}   {path_text(key)}   held by ______________________", 9)
        _mono(page, key.xpub)
    _title(page, "First addresses")
    for branch, count, what in ((RECEIVE, RECEIVE_ADDRESSES, "receive"), (CHANGE, CHANGE_ADDRESSES, "change")):
        for index in range(count):
            address = address_of(wallet.script(branch, index).script, wallet.network)
            groups = " ".join(address[at : at + 4] for at in range(0, len(address), 4))
            _mono(page, f"{what} {index}  {groups}")
    return bytes(page.output())


def _title(page: FPDF, text: str) -> None:
    page.ln(3)
    _line(page, text, 12, "B")


def _line(page: FPDF, text: str, points: int, style: str = "") -> None:
    page.set_font("helvetica", style, points)
    page.multi_cell(0, points * 0.5, _shown(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _mono(page: FPDF, text: str) -> None:
    page.set_font("courier", "", 8)
    page.multi_cell(0, 4, _shown(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT, wrapmode=WrapMode.CHAR)


def _shown(text: str) -> str:
    return plain(text).encode(_LATIN, "backslashreplace").decode(_LATIN)


def _qr(text: str) -> io.BytesIO:
    found = io.BytesIO()
    segno.make(text, error="l", boost_error=False, micro=False).save(found, kind="png", scale=4, border=4)
    found.seek(0)
    return found

"""Bytewords (BCR-2020-012), the minimal style alone: two letters for each byte, four bytes of CRC-32 behind them."""

from __future__ import annotations

from zlib import crc32

from custody.errors import MalformedError

CHECKSUM_BYTES = 4
# First and last letter of each of the 256 words, in the order of the words.
_PAIRS = (
    "aeadaoaxaaahamatayasbkbdbnbtbabsbebybgbwbbbzcmchcscfcycwcecackctcxclcpcndkdadsdidedtdrdndwdpdmdl"
    "dyeheyeoeeecenemetesftfrfnfsfmfhfzfpfwfxfyfefgflfdgagegrgsgtglgwgdgygmgughgohfhghdhkhthphhhlhyhe"
    "hnhsidiaieihiyioisinimjejzjnjtjljojsjpjkjykpkoktkskkknkgkekikblblalylflslrlplnltloldlelulklgmnmy"
    "mhmemomumwmdmtmsmknlnyndnsntnnnenboyoeotoxonolospdptpkpypspmplpepfpaprqdqzrerprlrorhrdrkrfryrnrs"
    "rtsesasrssskswstspsosgsbsfsntotktitttdtetytltbtstptatnuyuoutueurvtvyvovlvevwvavdvswlwdwmwpwewyws"
    "wtwnwzwfwkykynylyaytzszoztzczezm"
)
_LETTERS = tuple(_PAIRS[at : at + 2] for at in range(0, len(_PAIRS), 2))
_BYTES = {letters: value for value, letters in enumerate(_LETTERS)}


def encode(content: bytes) -> str:
    """Return `content` with its checksum, in lower-case letters."""
    checked = content + crc32(content).to_bytes(CHECKSUM_BYTES, "big")
    return "".join(_LETTERS[value] for value in checked)


def decode(text: str) -> bytes:
    """Return what lower-case `text` holds.

    Raises:
        MalformedError: BYTEWORDS for letters that are no word, FRAME_CHECKSUM where one was misread.
    """
    found = bytes(_BYTES.get(text[at : at + 2], 0) for at in range(0, len(text), 2))
    if any(text[at : at + 2] not in _BYTES for at in range(0, len(text), 2)) or len(found) <= CHECKSUM_BYTES:
        raise MalformedError("BYTEWORDS", "expected pairs of letters that name bytes, and a checksum behind them")
    content, checksum = found[:-CHECKSUM_BYTES], found[-CHECKSUM_BYTES:]
    if crc32(content).to_bytes(CHECKSUM_BYTES, "big") != checksum:
        raise MalformedError("FRAME_CHECKSUM", "expected the checksum of this frame, found another")
    return content

"""Checked whole numbers: money is never a float, never negative, never above 21 million coins."""

from __future__ import annotations

from typing import NewType

from custody.errors import MalformedError

Sats = NewType("Sats", int)
VBytes = NewType("VBytes", int)
SatsPerVByte = NewType("SatsPerVByte", int)

SATS_PER_BTC = 100_000_000
MAX_MONEY_SATS = 21_000_000 * SATS_PER_BTC  # consensus: MoneyRange in Bitcoin Core's amount.h
MAX_TIME_S = 2**40  # far beyond any date we mean; keeps every integer inside JSON's exact range


def sats(value: object) -> Sats:
    """Return `value` as an amount.

    Raises:
        MalformedError: AMOUNT_NOT_WHOLE or AMOUNT_OUT_OF_RANGE.
    """
    if type(value) is not int:
        raise MalformedError("AMOUNT_NOT_WHOLE", f"expected whole sats, found {type(value).__name__}")
    if not 0 <= value <= MAX_MONEY_SATS:
        raise MalformedError("AMOUNT_OUT_OF_RANGE", f"expected 0..{MAX_MONEY_SATS} sats, found {value}")
    return Sats(value)


def utc_seconds(value: object) -> int:
    """Return `value` as UTC seconds since 1970.

    Raises:
        MalformedError: TIME_OUT_OF_RANGE.
    """
    if type(value) is not int or not 0 <= value <= MAX_TIME_S:
        raise MalformedError("TIME_OUT_OF_RANGE", f"expected UTC seconds 0..{MAX_TIME_S}, found {value!r}")
    return value


def btc_text(amount: Sats) -> str:
    """Return `amount` as people read it: eight decimals, no rounding ("1.50000000")."""
    return f"{amount // SATS_PER_BTC}.{amount % SATS_PER_BTC:08d}"

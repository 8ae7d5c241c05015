"""Signers of other makers: what each takes, what comes back from it, and HWI for those on a USB cable.

A key of theirs is a declared key of a wallet: it has no judge, so a wallet may hold at most m-1 of them. Nothing that
comes back is believed but signatures, each verified over our own transaction.
"""

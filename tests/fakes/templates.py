"""A wallet of each template, and a spend of each: what is tested of one is tested of all."""

from __future__ import annotations

from functools import cache

import pytest

from custody import curve
from custody.psbt import Psbt
from custody.scripts import Template
from custody.wallet import ScriptBook
from tests.fakes.psbts import spend, wallet_of

OTHERS = (Template.SH_WSH, Template.TR, Template.TR_SORTED)
TAPROOT = (Template.TR, Template.TR_SORTED)
BOOKS = {template: ScriptBook(wallet_of(template=template)) for template in Template}
# Where the descriptor's order of keys is not the sorted one: elsewhere two templates have one script.
CHANGE_AT = next(at for at in range(20) if BOOKS[Template.TR_SORTED].script(1, at).order != (0, 1, 2))
SECRET = bytes([5]) * 32
XONLY = curve.public_key(SECRET)[1:]  # of a secret that the attacker has
each_other = pytest.mark.parametrize("template", OTHERS, ids=lambda one: one.name)
each_taproot = pytest.mark.parametrize("template", TAPROOT, ids=lambda one: one.name)


@cache
def spend_of(template: Template) -> Psbt:
    """Return a spend of two coins with change."""
    return spend(2, CHANGE_AT, book=BOOKS[template])

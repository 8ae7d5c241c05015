"""PSBTs to begin with, and mutations of a PSBT map by map: what bytes alone would take ages to get past.

A mutation may break anything. Some are sealed again, so that inputs still name their previous transactions by hash and
what lies behind that check is reached.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random

from custody.errors import MalformedError
from custody.psbt import MAGIC, convert, from_base64, serialize
from custody.psbt_fields import GLOBAL_TRANSACTION, IN_PREVIOUS, IN_PREVIOUS_TXID
from custody.reader import Reader, sized
from custody.scripts import Template
from custody.signatures import with_signatures
from custody.transaction import hash256
from custody.wallet import ScriptBook
from tests.fakes.psbts import Pair, signed_by, spend, valid, wallet_of
from tests.fuzz.target import MAX_INPUT_BYTES, ByteMutator

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
Maps = list[list[Pair]]
_FIRST_TXID_AT = 5  # in an unsigned transaction with fewer than 253 inputs: version, count
_INPUT_BYTES = 41  # unsigned: outpoint, empty scriptSig, sequence
_LAST_TYPE = 0x20  # beyond the last type that any BIP gives to a field of a map


@cache
def vectors() -> tuple[bytes, ...]:
    """Return the PSBTs of BIP-174, 370, 371 and Bitcoin Core, valid and not, that are short enough."""
    texts = [
        vector["base64"]
        for number in (174, 370, 371)
        for vector in json.loads((VECTORS / f"bip{number}/vectors.json").read_text())["vectors"]
    ]
    core = json.loads((VECTORS / "core/rpc_psbt.json").read_text())
    texts += [*core["valid"], *core["invalid"], *(text for text, _ in core["invalid_with_msg"])]
    found = dict.fromkeys(_bytes_of(text) for text in texts if text)
    return tuple(raw for raw in found if 0 < len(raw) <= MAX_INPUT_BYTES)


@cache
def own() -> tuple[bytes, ...]:
    """Return PSBTs of our builder in both versions: unsigned and signed, of each template."""
    ours = valid()
    built = [spend(1), ours, with_signatures(ours, (*signed_by(1, ours), *signed_by(2, ours)))]
    for template in Template:
        book = ScriptBook(wallet_of(template=template))
        small = spend(1, book=book)
        built.append(with_signatures(small, signed_by(2, small, book=book)))
    return tuple(serialize(convert(psbt, version)) for psbt in built for version in (0, 2))


def mutate(raw: bytes, random: Random, mutate_bytes: ByteMutator) -> bytes:
    """Return `raw` with one to three changes of its maps, or of its bytes where it has no maps."""
    maps = split(raw)
    if maps is None or random.random() < 0.3:
        return mutate_bytes(raw)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(maps, random, mutate_bytes)
    if random.random() < 0.5:
        _seal(maps)
    return MAGIC + b"".join(b"".join(sized(k) + sized(v) for k, v in pairs) + b"\0" for pairs in maps)


def split(raw: bytes) -> Maps | None:
    """Return the maps of `raw` as lists of pairs, or None where it does not consist of whole maps."""
    if not raw.startswith(MAGIC):
        return None
    reader, maps = Reader(raw), []
    reader.take(len(MAGIC))
    try:
        while reader.left:
            pairs: list[Pair] = []
            while key := reader.sized():
                pairs.append((key, reader.sized()))
            maps.append(pairs)
    except MalformedError:
        return None
    return maps or None


def _change(maps: Maps, random: Random, mutate_bytes: ByteMutator) -> None:
    """Change one thing: a value, a key, a type; or add, drop, repeat or move a pair, or a map."""
    pairs = random.choice(maps)
    if not pairs or random.random() < 0.15:
        pairs.insert(random.randint(0, len(pairs)), random.choice(_donors()))
        return
    at = random.randrange(len(pairs))
    key, value = pairs[at]
    kind = random.randrange(10)
    if kind <= 2:
        pairs[at] = (key, mutate_bytes(value))
    elif kind == 3:
        pairs[at] = (key[:1] + mutate_bytes(key[1:]), value)
    elif kind == 4:
        pairs[at] = (bytes([random.randrange(_LAST_TYPE)]) + key[1:], value)
    elif kind == 5:
        del pairs[at]
    elif kind == 6:
        random.choice(maps).append((key, value))
    elif kind == 7:
        random.shuffle(pairs)
    elif kind == 8 and len(maps) > 1:
        maps.remove(pairs)
    else:
        maps.insert(random.randrange(len(maps)), list(pairs))


def _seal(maps: Maps) -> None:
    """Make inputs name the previous transactions that stand in them, in the unsigned transaction and in version 2."""
    unsigned = next((value for key, value in maps[0] if key == bytes([GLOBAL_TRANSACTION])), b"")
    for number, pairs in enumerate(maps[1:]):
        txid = next((hash256(value) for key, value in pairs if key == bytes([IN_PREVIOUS])), None)
        if txid is None:
            continue
        at = _FIRST_TXID_AT + number * _INPUT_BYTES
        if at + _INPUT_BYTES <= len(unsigned):
            unsigned = unsigned[:at] + txid + unsigned[at + 32 :]
        pairs[:] = [(key, txid if key == bytes([IN_PREVIOUS_TXID]) else value) for key, value in pairs]
    maps[0] = [(key, unsigned if key == bytes([GLOBAL_TRANSACTION]) else value) for key, value in maps[0]]


@cache
def _donors() -> tuple[Pair, ...]:
    """Return every pair that stands in a seed."""
    maps = (found for raw in (*vectors(), *own()) for found in split(raw) or ())
    return tuple(dict.fromkeys(pair for pairs in maps for pair in pairs))


def _bytes_of(text: str) -> bytes:
    try:
        return from_base64(text)
    except MalformedError:
        return b""

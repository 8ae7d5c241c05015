"""The port Backend, every adapter: signs all that was cleared or nothing, the same bytes everywhere; shows no seed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from custody import curve
from custody.canonical import decode, encode
from custody.errors import ConflictError, CustodyError, IntegrityError
from custody.mnemonic import to_seed, to_words
from custody.wallet import Network
from signer_node.backends import signing
from signer_node.backends.port import Backend, BackendRefused, State
from signer_node.branch import Branch, branches
from signer_node.judge import Cleared
from tests.contracts.conftest import PASSPHRASE, SEED, Place
from tests.fakes.cleared import ClearedInputs, cleared, descriptor_key, schnorr_by_wally, taproot
from tests.fakes.today import Today
from tests.fakes.vault_nodes import VaultNode

OTHER = bytes(range(7, 39))


async def test_sign_when_all_is_cleared_gives_one_valid_signature_per_input(place: Place) -> None:
    """Signatures come in input order, by our key, over the cleared digest, with SIGHASH_ALL."""
    asked = place.asked(5)

    signed = await place.open().sign(asked)

    assert [one.input_index for one in signed] == [0, 1, 2, 3, 4]
    for one, digest, pubkey in zip(signed, asked.digests, asked.pubkeys, strict=True):
        assert one.pubkey == pubkey
        assert one.signature[-1:] == b"\x01"
        assert curve.ecdsa_verify(pubkey, digest, one.signature[:-1])


async def test_sign_when_keys_are_x_only_gives_bip340_signatures(seed_place: Place) -> None:
    """64 bytes each, no sighash byte; what a third library makes of the same secret, byte for byte."""
    asked = taproot(cleared(SEED, 5))

    signed = await seed_place.open().sign(asked)

    assert [(one.input_index, one.pubkey) for one in signed] == list(enumerate(asked.pubkeys))
    for one, path, digest in zip(signed, asked.paths, asked.digests, strict=True):
        assert one.signature == schnorr_by_wally(SEED, path, digest)
        assert curve.schnorr_verify(one.pubkey, digest, one.signature)


async def test_sign_when_repeated_gives_the_same_bytes(place: Place) -> None:
    """Also side by side, from one backend and from a new one."""
    backend, again, asked = place.open(), place.open(), place.asked(3)
    first, *others = await asyncio.gather(*(one.sign(asked) for one in (backend, backend, again)))

    assert others == [first, first]


@pytest.mark.slow
@pytest.mark.parametrize("node", ["good", "taproot"], ids=["ecdsa", "schnorr"])
async def test_sign_when_the_bundle_is_the_same_gives_the_same_bytes_from_every_backend(
    file_place: Place,
    kv_place: Place,
    transit_place: Place,
    engine_place: Place,
    today: Today,
    taproot_today: Today,
    node: str,
) -> None:
    """Where a key lives, and whether the bundle is judged there once more, changes nothing about what it signs."""
    asked = (today if node == "good" else taproot_today).cleared(inputs=4)
    first = await engine_place.open(node).sign(asked)

    others = [await one.open().sign(asked) for one in (file_place, kv_place, transit_place)]

    assert len(first) == 4
    assert others == [first, first, first]


async def test_public_when_asked_is_what_a_third_library_derives(place: Place) -> None:
    """Fingerprint, path and xpub agree with libwally's for the same seed."""
    assert (await place.open().public()).key == descriptor_key(SEED)


WRONG: dict[str, tuple[Callable[[ClearedInputs], ClearedInputs], str]] = {
    "another_seeds_key": (lambda c: replace(c, pubkeys=(*c.pubkeys[:2], cleared(OTHER).pubkeys[2])), "KEY_NOT_MINE"),
    "another_index": (lambda c: replace(c, paths=((0, 0), (1, 7), (0, 15))), "KEY_NOT_MINE"),
    "swapped_keys": (lambda c: replace(c, pubkeys=c.pubkeys[::-1]), "KEY_NOT_MINE"),
    "another_seeds_x_only_key": (
        lambda c: replace(taproot(c), pubkeys=(*taproot(c).pubkeys[:2], cleared(OTHER).pubkeys[2][1:])),
        "KEY_NOT_MINE",
    ),
    "keys_of_two_kinds": (lambda c: replace(c, pubkeys=(*c.pubkeys[:2], c.pubkeys[2][1:])), "CLEARED_SHAPE"),
    "nothing": (lambda c: ClearedInputs((), (), ()), "CLEARED_SHAPE"),
    "one_key_less": (lambda c: replace(c, pubkeys=c.pubkeys[:2]), "CLEARED_SHAPE"),
    "short_digest": (lambda c: replace(c, digests=(*c.digests[:2], b"\0" * 31)), "CLEARED_SHAPE"),
    "third_branch": (lambda c: replace(c, paths=((0, 0), (2, 7), (0, 14))), "CLEARED_SHAPE"),
    "hardened_index": (lambda c: replace(c, paths=((0, 0), (1, 7), (0, 2**31))), "CLEARED_SHAPE"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_sign_when_a_key_or_shape_is_wrong_signs_nothing(
    seed_place: Place, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last input is the wrong one; not even the inputs before it are signed."""
    change, code = WRONG[wrong]
    signed: list[bytes] = []
    monkeypatch.setattr(curve, "ecdsa_sign_children", lambda jobs: signed.extend(digest for _, _, digest in jobs))
    monkeypatch.setattr(curve, "schnorr_sign", lambda secret, digest: signed.append(digest))

    with pytest.raises(CustodyError) as refused:
        await seed_place.open().sign(change(cleared(SEED)))

    assert refused.value.code == code
    assert signed == []


@pytest.mark.parametrize("kind", ["ecdsa", "schnorr"])
async def test_sign_when_the_second_library_disagrees_releases_nothing(
    seed_place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the signing library costs the call, never a signature that leaks the key."""
    monkeypatch.setattr(curve, "schnorr_verify_second", lambda pubkey, digest, signature: False)
    monkeypatch.setattr(curve.SecondVerifier, "verify", lambda self, pubkey, digest, der: False)
    asked = cleared(SEED) if kind == "ecdsa" else taproot(cleared(SEED))

    with pytest.raises(CustodyError) as refused:
        await seed_place.open().sign(asked)

    assert refused.value.code == "SIGNATURE_WRONG"


OTHER_WORDS: dict[str, tuple[Callable[[Cleared], Cleared], str]] = {
    "keys": (lambda c: replace(c, pubkeys=(*c.pubkeys[:2], cleared(OTHER).pubkeys[2])), "KEY_NOT_MINE"),
    "order": (lambda c: replace(c, pubkeys=c.pubkeys[::-1]), "KEY_NOT_MINE"),
    "digests": (lambda c: replace(c, digests=(*c.digests[:2], bytes(32))), "SIGNATURE_WRONG"),
    "shape": (lambda c: replace(c, pubkeys=c.pubkeys[:2]), "CLEARED_SHAPE"),
}


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHER_WORDS)
async def test_sign_when_the_engine_answers_for_another_transaction_takes_nothing(
    engine_place: Place, today: Today, other: str
) -> None:
    """What the engine signs is held against what this node cleared, key by key and digest by digest."""
    change, code = OTHER_WORDS[other]

    with pytest.raises(CustodyError) as refused:
        await engine_place.open().sign(change(today.cleared(inputs=3)))

    assert refused.value.code == code


def test_make_key_when_there_is_one_changes_nothing(place: Place) -> None:
    """The second ceremony is refused, and the first key stays."""
    first = place.make("made-twice")

    with pytest.raises(ConflictError) as refused:
        place.make("made-twice", OTHER)

    assert refused.value.code == "SEED_EXISTS"
    assert asyncio.run(place.open("made-twice").public()) == first


def test_keep_seed_of_words_signs_as_any_other_and_is_never_overwritten(seed_place: Place) -> None:
    """A seed of BIP-39 (64 bytes) lives where keys live: libwally knows its public half; a second one is refused."""
    seed = to_seed(to_words(bytes(range(16))), "pass")
    place = seed_place
    kept = place.keep("words", seed)

    assert kept.key == descriptor_key(seed)
    signatures = asyncio.run(place.open("words").sign(cleared(seed)))
    assert [s.pubkey for s in signatures] == list(cleared(seed).pubkeys)
    with pytest.raises(ConflictError) as refused:
        place.keep("words", to_seed(to_words(bytes(16)), "pass"))
    assert refused.value.code == "SEED_EXISTS"
    assert asyncio.run(place.open("words").public()) == kept


async def test_health_when_all_is_well_is_ready(place: Place) -> None:
    """And it stays so inside the backend's context, which keeps its login fresh."""
    async with place.open() as backend:
        assert (await backend.health()).state is State.READY
        assert len(await backend.sign(place.asked(3))) == 3
        assert (await backend.health()).state is State.READY


async def test_backend_when_there_is_no_seed_never_makes_one(place: Place) -> None:
    """A missing seed is INTEGRITY to health and an error to sign, before and after."""
    backend = place.open("empty")

    with pytest.raises(CustodyError) as refused:
        await backend.sign(cleared(SEED))

    assert refused.value.code in ("SEED_MISSING", "FILE_MISSING")
    assert (await backend.health()).state is State.INTEGRITY


async def test_sign_when_what_is_stored_was_tampered_with_is_integrity(seed_place: Place) -> None:
    """A changed blob, file or secret gives no signature, and its state says that nobody should retry."""
    await asyncio.to_thread(_store_damaged, seed_place)

    with pytest.raises(CustodyError) as refused:
        await seed_place.open("broken").sign(cleared(SEED))

    assert refused.value.code in ("SEAL_BROKEN", "SEED_SIZE", "SEED_BROKEN")
    if seed_place.scheme == "vault-transit":
        assert (await seed_place.open("broken").health()).state is State.INTEGRITY


def test_backend_when_looked_at_has_no_way_to_a_key(place: Place) -> None:
    """The public surface is the port; its repr, and that of its access, show no secret."""
    backend = place.open()
    asyncio.run(backend.sign(place.asked(1)))

    assert {name for name in dir(backend) if not name.startswith("_")} == {"sign", "public", "health"}
    _assert_no_seed(repr(backend) + repr(vars(backend)) + repr(place.signer("good")))


async def test_seed_when_used_is_in_no_log_exception_or_file(
    place: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every library at DEBUG, every failure's full traceback, the server's logs and our files: no seed."""
    caplog.set_level(logging.DEBUG)
    backend = place.open()
    text = repr(await backend.sign(place.asked(2))) + repr(await backend.public()) + repr(await backend.health())
    with pytest.raises((CustodyError, BackendRefused)) as refused:
        await backend.sign(cleared(OTHER))
    text += "".join(traceback.format_exception(refused.value)) + repr(vars(refused.value))

    printed = capfd.readouterr()
    _assert_no_seed(text + caplog.text + printed.out + printed.err)
    for path in place.directory.rglob("*"):
        if path.is_file() and "data" not in path.parts:  # raft's own files are under the server's seal; checked below
            _assert_no_seed(path.read_bytes().decode("latin-1"))


@pytest.mark.slow
def test_seed_when_at_rest_is_not_in_clear_on_the_servers_disk(
    kv_place: Place, transit_place: Place, engine_place: Place
) -> None:
    """Raft's files hold it only under the barrier."""
    for one in (kv_place, transit_place, engine_place):
        files = [path for path in (one.directory / "bao" / "data").rglob("*") if path.is_file()]
        assert files
        for path in files:
            _assert_no_seed(path.read_bytes().decode("latin-1"))


@pytest.mark.parametrize("asked", [cleared(SEED), cleared(OTHER)], ids=["signed", "refused"])
async def test_sign_when_done_has_wiped_the_seed(
    seed_place: Place, asked: ClearedInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytearray that the seed came in holds zeros after the call, also when it refused to sign."""
    seen: list[bytearray] = []

    def spy(seed: bytearray, network: Network, numbers: tuple[int, ...]) -> tuple[Branch, ...]:
        assert seed == SEED
        seen.append(seed)
        return branches(seed, network, numbers)

    monkeypatch.setattr(signing, "branches", spy)
    with contextlib.suppress(IntegrityError):
        await seed_place.open().sign(asked)

    assert seen == [bytearray(32)]


def _store_damaged(place: Place) -> None:
    """Leave the node `broken` with a seed that was changed after it was made."""
    if place.server is not None and place.scheme == "vault-kv":
        token = VaultNode(place.server, "kv", "broken", place.directory).token("keysmith")
        place.server.call("POST", "keyturn/data/signers/broken/seed", token, _KV_DAMAGED)
        return
    place.make("broken")
    path = Path(place.directory, "broken" if place.scheme == "sealed-file" else "broken.blob")
    path.write_bytes(_flipped(path.read_bytes(), place.scheme))


_KV_DAMAGED = {"options": {"cas": 0}, "data": {"seed": SEED[:31].hex()}}


def _flipped(raw: bytes, scheme: str) -> bytes:
    if scheme == "sealed-file":
        value = decode(raw)
        assert isinstance(value, dict)
        last = "0" if str(value["sealed"])[-1] != "0" else "1"
        return encode({**value, "sealed": str(value["sealed"])[:-1] + last})
    version, sealed = raw.decode().rsplit(":", 1)
    blob = bytearray(base64.b64decode(sealed))
    blob[20] ^= 1
    return f"{version}:{base64.b64encode(blob).decode()}".encode()


def _assert_no_seed(text: str) -> None:
    for secret in (SEED, PASSPHRASE):
        for spelling in (secret.hex(), base64.b64encode(secret).decode(), secret.decode("latin-1"), repr(secret)):
            assert spelling not in text


def test_backend_when_typed_is_the_port(place: Place) -> None:
    """Each adapter is a Backend to the type checker and to whoever awaits it."""
    backend: Backend = place.open()

    assert all(asyncio.iscoroutinefunction(getattr(backend, name)) for name in ("sign", "public", "health"))

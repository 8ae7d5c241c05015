"""Where a node's key lives, chosen by URI scheme. A new backend is one module and one line here.

Modules load when their scheme is first used: an offline node has no hvac to import.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

from custody.errors import MalformedError
from custody.statements import Signed
from signer_node.backends.port import Access, Adapter, Backend, Judging
from signer_node.seed import Entropy, KeyMaterial

SCHEMES: Mapping[str, str] = {
    "sealed-file": "signer_node.backends.sealed_file",
    "vault-engine": "signer_node.backends.vault_engine",
    "vault-kv": "signer_node.backends.vault_kv",
    "vault-transit": "signer_node.backends.vault_transit",
}


def open_backend(uri: str, access: Access) -> Backend:
    """Return the backend that `uri` names; nothing is read or dialled before its first use.

    Raises:
        MalformedError: BACKEND_URI.
    """
    return _adapter(uri).open_backend(uri, access)


async def make_key(uri: str, access: Access, entropy: Entropy = os.urandom) -> KeyMaterial:
    """Make this node's seed where `uri` says it lives, once, and return its public half.

    Args:
        uri: as for `open_backend`.
        access: for vault-*, that of a keysmith, which can write a seed and cannot read one.
        entropy: the machine's own; another one only in tests.

    Raises:
        MalformedError: BACKEND_URI.
        ConflictError: SEED_EXISTS: there is one already; it was neither read nor changed.
        CustodyError: nothing is promised about a seed that was on its way; `Backend.public` tells.
    """
    return await asyncio.to_thread(_adapter(uri).make_key, uri, access, entropy)


async def keep_seed(uri: str, access: Access, seed: bytearray) -> KeyMaterial:
    """Keep a seed of words where `uri` says it lives, once, and return its public half.

    Args:
        uri: as for `open_backend`.
        access: as for `make_key`.
        seed: 64 bytes; stays the caller's.

    Raises:
        MalformedError: BACKEND_URI, or BACKEND_KEEPS_NONE: there every key is made where it lives.
        ConflictError: SEED_EXISTS.
    """
    keep = keeper_of(uri)
    return await asyncio.to_thread(keep, uri, access, seed)


async def pin_document(uri: str, access: Access, signed: Signed) -> None:
    """Pin a genesis or a later wallet on the backend too, where it judges for itself; the others have nothing to pin.

    Args:
        uri: as for `open_backend`.
        access: that of a keysmith.
        signed: the document that this node is about to pin itself.

    Raises:
        ConflictError: GENESIS_PINNED: another genesis is pinned there.
        IntegrityError: what the backend finds wrong with it, by code.
    """
    adapter = _adapter(uri)
    if isinstance(adapter, Judging):
        await asyncio.to_thread(adapter.pin_document, uri, access, signed)


def keeper_of(uri: str) -> Callable[[str, Access, bytearray], KeyMaterial]:
    """Return what keeps a seed where `uri` says.

    Raises:
        MalformedError: BACKEND_URI, or BACKEND_KEEPS_NONE: there every key is made where it lives.
    """
    keep: Callable[[str, Access, bytearray], KeyMaterial] | None = getattr(_adapter(uri), "keep_seed", None)
    if keep is None:
        raise MalformedError(
            "BACKEND_KEEPS_NONE", f"expected a backend that takes a seed, found {urlsplit(uri).scheme}"
        )
    return keep


def _adapter(uri: str) -> Adapter:
    module = SCHEMES.get(urlsplit(uri).scheme)
    if module is None:
        raise MalformedError(
            "BACKEND_URI", f"expected one of {', '.join(SCHEMES)}, found {urlsplit(uri).scheme[:20]!r}"
        )
    return cast(Adapter, importlib.import_module(module))

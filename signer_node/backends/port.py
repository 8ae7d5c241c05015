"""The port behind which a node's key lives.

A backend is trusted with one key and with nothing else. It signs what the judge cleared, whole or not at all; there is
no way through this port to a key, to a seed, or to a signature over a digest of the caller's choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from custody.errors import CustodyError, Refused
from custody.signatures import InputSignature
from custody.statements import Signed
from custody.wallet import Network
from signer_node.seed import Entropy, KeyMaterial


class Cleared(Protocol):
    """What the judge allows to be signed; only `signer_node.judge` makes one.

    digests: 32 bytes each, BIP-143 or BIP-341 sighash per input.  paths: (branch, index) per input.
    pubkeys: this node's key in that input's script: 33 bytes each, compressed, to sign by ECDSA; or 32 bytes each,
        x-only, to sign by BIP-340.
    withdrawal_digest: 32 bytes.  raw_bundle: what was judged, whole, for a backend that judges it again.
    """

    @property
    def digests(self) -> tuple[bytes, ...]: ...  # noqa: D102 - see the class

    @property
    def paths(self) -> tuple[tuple[int, int], ...]: ...  # noqa: D102

    @property
    def pubkeys(self) -> tuple[bytes, ...]: ...  # noqa: D102

    @property
    def withdrawal_digest(self) -> bytes: ...  # noqa: D102

    @property
    def raw_bundle(self) -> bytes: ...  # noqa: D102


class State(Enum):
    """Whether a backend can sign now, and if not, whose turn it is."""

    READY = "ready"
    SEALED = "sealed"  # people unseal it; the session goes on with other signers
    UNREACHABLE = "unreachable"  # heals by itself, or the machine is down
    DENIED = "denied"  # the token or login is refused, or policy forbids: on purpose?
    ENGINE_DOWN = "engine_down"  # the mount is there, what serves it is not
    INTEGRITY = "integrity"  # tampering, a wrong key, or an intercepted credential: nobody retries
    CLOCK = "clock"  # the two clocks differ by more than lifetimes tolerate


@dataclass(frozen=True, slots=True)
class BackendState:
    """A state and why: a stable code, and words for people; never a secret."""

    state: State
    code: str = ""
    detail: str = ""


class BackendRefused(Exception):
    """A backend that judges for itself says no to what the node cleared: an answer, not a breakage.

    Attributes:
        refused: why.
    """

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


class Backend(Protocol):
    """One key. `async with` it while the node runs: that keeps its login fresh and gives it back at the end."""

    async def sign(self, cleared: Cleared) -> tuple[InputSignature, ...]:
        """Return one signature per input, verified by a second library, in input order.

        Deterministic (RFC 6979; BIP-340 with zero aux), so repeating a call is safe and gives the same bytes. All or
        nothing.

        Raises:
            CustodyError: no signature was released; `state_of` says what it means.
            BackendRefused: no signature was released, and none will be for this bundle as things stand.
        """

    async def public(self) -> KeyMaterial:
        """Return the public half of the key, derived anew from where the key lives."""

    async def health(self) -> BackendState:
        """Return whether `sign` would work now. Never raises for a state that the enum names; shows no secret."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class VaultAccess:
    """How a node gets into its Vault or OpenBao.

    ca_path: PEM of the only authority that the server's certificate may come from.
    role, role_id: its AppRole.  wrapped: gives a wrapping token around a fresh secret_id, once each.
    is_waiting: whether somebody brought one that was not taken yet.
    """

    ca_path: Path
    role: str
    role_id: str
    wrapped: Callable[[], str]
    is_waiting: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class VaultCertificate:
    """How a node gets in by its TLS certificate: as VaultAccess, with PEM files that may be replaced at any time."""

    ca_path: Path
    role: str
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Access:
    """What opening a backend needs beyond its URI. No secret stands in it, only where to ask for one.

    passphrase: for sealed-file; gives a new bytearray that the backend wipes.  vault: for vault-*.
    history: gives deltas of what the node followed from a size on, for vault-engine, which follows for itself.
    """

    node: str
    network: Network
    passphrase: Callable[[], bytearray] | None = None
    vault: VaultAccess | VaultCertificate | None = None
    history: Callable[[int], Iterable[bytes]] | None = None


class Adapter(Protocol):
    """What a backend module offers the registry."""

    def open_backend(self, uri: str, access: Access) -> Backend:
        """Return the backend that `uri` names; reads and dials nothing yet."""

    def make_key(self, uri: str, access: Access, entropy: Entropy) -> KeyMaterial:
        """Make the seed where it will live, once, and return its public half; blocks.

        Raises:
            ConflictError: SEED_EXISTS: there is one already; it was neither read nor changed.
        """


@runtime_checkable
class Judging(Protocol):
    """What a module offers beside `Adapter` where its backend judges for itself and so has a root of its own."""

    def pin_document(self, uri: str, access: Access, signed: Signed) -> None:
        """Make a genesis the backend's root for ever, or let it sign for a later wallet; blocks.

        Args:
            uri: as for `open_backend`.
            access: a keysmith's, as for `make_key`.
            signed: the document, as people compared its digest.

        Raises:
            ConflictError: GENESIS_PINNED: another genesis is.
        """


STATES: Mapping[str, State] = {
    "VAULT_SEALED": State.SEALED,
    "VAULT_NOT_INITIALISED": State.SEALED,
    "VAULT_UNREACHABLE": State.UNREACHABLE,
    "VAULT_AUDIT_BLOCKED": State.UNREACHABLE,
    "VAULT_THROTTLED": State.UNREACHABLE,
    "VAULT_UNEXPECTED": State.UNREACHABLE,
    "VAULT_DENIED": State.DENIED,
    "VAULT_LOGIN_REFUSED": State.DENIED,
    "VAULT_NO_CREDENTIAL": State.DENIED,
    "VAULT_CERTIFICATE": State.DENIED,
    "VAULT_ENGINE_DOWN": State.ENGINE_DOWN,
    "ENGINE_BEHIND": State.UNREACHABLE,
    "VAULT_CLOCK": State.CLOCK,
}


def state_of(error: CustodyError) -> BackendState:
    """Return what `error` says of the backend. A code that nobody listed is INTEGRITY: unknown means stop."""
    return BackendState(STATES.get(error.code, State.INTEGRITY), error.code, str(error))


async def probed(probe: Callable[[], None]) -> BackendState:
    """Return READY if the blocking `probe` passes, else the state of what it raised."""
    try:
        await asyncio.to_thread(probe)
    except CustodyError as error:
        return state_of(error)
    return BackendState(State.READY)

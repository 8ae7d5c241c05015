"""Nodes of a real OpenBao server, as tests need them: their URIs and how each of their roles logs in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from custody.wallet import Network
from deploy.engine import engine_mount
from deploy.openbao import Role, Server
from signer_node.backends.port import Access, VaultAccess, VaultCertificate


@dataclass(frozen=True, slots=True)
class VaultNode:
    """One node on `server`. kind: kv, transit or engine."""

    server: Server
    kind: str
    name: str
    directory: Path

    @property
    def uri(self) -> str:
        """The backend URI of this node's key."""
        if self.kind == "engine":
            return f"vault-engine://{self.server.authority}/{engine_mount(self.name)}"
        if self.kind == "kv":
            return f"vault-kv://{self.server.authority}/keyturn/signers/{self.name}/seed"
        return f"vault-transit://{self.server.authority}/seed-{self.name}?blob={self.blob}"

    @property
    def blob(self) -> Path:
        """Where a transit node keeps its sealed seed."""
        return self.directory / f"{self.name}.blob"

    def role(self, job: str = "signer") -> Role:
        """Return the role for `job`: signer or keysmith."""
        return Role(f"{job}-{self.kind}", self.name)

    def access(self, job: str = "signer") -> Access:
        """Return the access of `job`; each login gets a fresh wrapped secret_id."""
        role = self.role(job)
        return Access(self.name, Network.REGTEST, vault=self.vault_access(role))

    def vault_access(self, role: Role) -> VaultAccess:
        """Return how `role` logs in."""
        return VaultAccess(
            self.server.ca_path, role.name, self.server.role_ids[role.name], lambda: self.server.wrapped_secret(role)
        )

    def certificate_access(self, certificate: Path, key: Path) -> Access:
        """Return the access of a signer that enters by its certificate."""
        role = self.role().name
        return Access(self.name, Network.REGTEST, vault=VaultCertificate(self.server.ca_path, role, certificate, key))

    def token(self, job: str = "signer") -> str:
        """Return a token of `job`, logged in by plain calls."""
        role, server = self.role(job), self.server
        secret = server.call("POST", "sys/wrapping/unwrap", server.wrapped_secret(role), {})["data"]["secret_id"]
        body = {"role_id": server.role_ids[role.name], "secret_id": secret}
        return str(server.call("POST", "auth/approle/login", "", body)["auth"]["client_token"])


def roles(kind: str, names: tuple[str, ...]) -> tuple[Role, ...]:
    """Return the signer and keysmith roles of `names`."""
    return tuple(Role(f"{job}-{kind}", name) for name in names for job in ("signer", "keysmith"))

"""Hand a node the wrapping token that somebody made for it: checked before it is put where the node takes it.

A token that was used, has expired or was made for another role is refused here, where a person sees it, and does not
turn a running node's state into an incident. The token is not used up by the check.
"""

from __future__ import annotations

import time

from custody.errors import CustodyError, IntegrityError, MalformedError
from signer_node.backends.private_file import write_private_once
from signer_node.backends.vault_client import vault_parts, wire_to
from signer_node.backends.vault_login import check_wrapped
from signer_node.ceremony import vault_access_of
from signer_node.config import NodeConfig, VaultConfig

TAKEN_WITHIN_S = 10.0  # a running node looks every 2 s


def bring(config: NodeConfig, wrapped: str, keysmith: bool = False, within_s: float = TAKEN_WITHIN_S) -> bool:
    """Put `wrapped` where this node looks for it; return whether the running node took it within `within_s` seconds.

    Args:
        config: of this node.
        wrapped: the wrapping token.
        keysmith: for the role that makes the key, which `record` takes, instead of the one that signs.
        within_s: 0 for not waiting.

    Raises:
        MalformedError: CREDENTIAL_NONE where this node brings no secret_id to its Vault.
        IntegrityError: WRAP_FOREIGN, or WRAP_USED: nothing was put there.
        CustodyError: the server cannot be asked.
    """
    vault = config.keysmith if keysmith else config.vault
    if not isinstance(vault, VaultConfig):
        raise MalformedError("CREDENTIAL_NONE", "expected a node that enters Vault by an AppRole")
    wire = wire_to(vault_parts(config.backend)[0], vault_access_of(vault))
    try:
        check_wrapped(wire, vault.role, wrapped)
    except CustodyError as error:
        if error.code != "VAULT_INTEGRITY":
            raise
        raise IntegrityError("WRAP_USED", "expected an unused wrapping token, found one used or expired") from None
    finally:
        wire.close()
    path = vault.wrapped_secret_id
    path.unlink(missing_ok=True)  # one that nobody took, older than this
    write_private_once(path, wrapped.encode())
    end = time.monotonic() + within_s
    while path.exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not path.exists()

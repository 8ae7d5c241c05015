"""The server that demo and tests start is set up as production is: TLS 1.3, sealed, audited, without a root token."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
from pathlib import Path

import pytest

from custody.errors import UnavailableError
from deploy.openbao import POLICIES, policy_text, start
from tests.integration.conftest import Bao

pytestmark = pytest.mark.slow


def test_server_when_started_is_alone_in_its_process_group(bao: Bao) -> None:
    """A signal to our group does not reach it, and it was given no variable of our environment."""
    pid = bao.server.process.pid
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

    assert os.getpgid(pid) == pid != os.getpgid(0)
    assert [one for one in variables if one] == [f"HOME={bao.server.directory}".encode()]


def test_server_when_started_keeps_its_files_private_and_no_token_on_disk(bao: Bao) -> None:
    """Every file is for its owner only, and none holds a token of this server."""
    tokens = [
        bao.server.operator_token,
        bao.server.breakglass_token,
        bao.server.recovery_key,
        *bao.server.introducers.values(),
    ]
    files = [path for path in bao.server.directory.rglob("*") if path.is_file()]

    assert {"server.hcl", "audit.log", "unseal.key", "server.log"} <= {path.name for path in files}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        content = path.read_bytes()
        assert not [token for token in tokens if token.encode() in content], path


def test_server_when_asked_with_an_older_tls_refuses(bao: Bao) -> None:
    """TLS 1.2 gets no answer."""
    context = ssl.create_default_context(cafile=str(bao.server.ca_path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    port = int(bao.server.authority.rpartition(":")[2])

    with (
        socket.create_connection(("127.0.0.1", port), 2) as raw,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


def test_server_when_set_up_has_revoked_its_root_token(bao: Bao) -> None:
    """The audit log shows each root's last act: to revoke itself; and nobody can initialise the server again."""
    acts = [json.loads(line) for line in bao.server.audit_log.read_text().splitlines()]
    by_root = [act["request"]["path"] for act in acts if act.get("auth", {}).get("policies") == ["root"]]

    assert by_root[-1] == "auth/token/revoke-self"
    with pytest.raises(UnavailableError, match="400"):
        bao.server.call("PUT", "sys/init", body={"recovery_shares": 1, "recovery_threshold": 1})


def test_server_when_root_is_needed_makes_it_from_the_recovery_key_and_gives_it_back(bao: Bao) -> None:
    """Two holders together: the break-glass token begins, the recovery key finishes."""
    root = bao.server.root_token()

    assert bao.server.call("GET", "auth/token/lookup-self", root)["data"]["policies"] == ["root"]
    bao.server.call("POST", "auth/token/revoke-self", root, {})
    with pytest.raises(UnavailableError, match="403"):
        bao.server.call("GET", "auth/token/lookup-self", root)


def test_server_when_asked_for_its_policies_has_those_of_the_files(bao: Bao) -> None:
    """The policy files are applied as they are, but for the node's name: no placeholder is left."""
    for path in POLICIES.glob("*.hcl"):
        assert "{{" not in policy_text(path.stem, "kv-1")


def test_start_when_the_directory_holds_a_server_refuses(bao: Bao) -> None:
    """A second server on the same data is never begun."""
    with pytest.raises(FileExistsError):
        start(bao.server.directory, bao.ca)

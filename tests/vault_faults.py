"""What a node sees when its Vault fails, as one table: the tests expect it, and docs/vault-faults.md shows it.

`.venv/bin/python -m tests.vault_faults` rewrites the table in the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "vault-faults.md"
BEGIN, END = "<!-- faults: made by tests/vault_faults.py -->", "<!-- end of faults -->"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. state, code: what the node reports meanwhile; code "" where it goes on.  test: that shows it.

    routing: what becomes of a withdrawal.  cure: what ends it.
    """

    name: str
    state: str
    code: str
    routing: str
    cure: str
    test: str


_OTHERS = "the other signers sign"
_GOES_ON = "nobody notices"
_ROUTED = "integration/test_vault_routing.py::test_routing_when_its_vault_fails_then_others_sign_and_it_comes_back"

SEALED = Fault("the server is sealed while nodes sign", "sealed", "VAULT_SEALED", _OTHERS,
               "people unseal it; the node's login lives on", _ROUTED)  # fmt: skip
KILLED = Fault("the server is killed (SIGKILL)", "unreachable", "VAULT_UNREACHABLE", _OTHERS,
               "it is started again, and unsealed where no seal does that", _ROUTED)  # fmt: skip
FROZEN = Fault("the server hangs (SIGSTOP)", "unreachable", "VAULT_UNREACHABLE", _OTHERS,
               "it goes on or is killed", _ROUTED)  # fmt: skip
AUDIT_FULL = Fault("the disk of the audit log is full", "unreachable", "VAULT_AUDIT_BLOCKED", _OTHERS,
                   "there is room again; the server answers nothing that it cannot log", _ROUTED)  # fmt: skip
_ENGINE = "integration/test_vault_routing.py::test_routing_when_its_engine_fails_then_others_sign_and_it_comes_back"
PLUGIN_FROZEN = Fault("the engine's plugin hangs (SIGSTOP)", "engine_down", "VAULT_ENGINE_DOWN", _OTHERS,
                      "its process is killed, never reloaded; the server starts it again", _ENGINE)  # fmt: skip
PLUGIN_CHANGED = Fault("the engine's file was changed", "engine_down", "VAULT_ENGINE_DOWN", _OTHERS,
                       "the file that was pinned; the server starts no other", _ENGINE)  # fmt: skip
PLUGIN_ROUTED = (PLUGIN_FROZEN, PLUGIN_CHANGED)
ROUTED = (SEALED, KILLED, FROZEN, AUDIT_FULL)

FAULTS = (
    *ROUTED,
    Fault("every token of the node is revoked", "ready", "", _GOES_ON, "it logs in anew, once",
          "integration/test_openbao_failures.py::test_sign_when_its_token_was_revoked_logs_in_anew_once"),
    Fault("policy forbids what the node asks", "denied", "VAULT_DENIED", _OTHERS,
          "another policy; the node does not argue",
          "integration/test_openbao_failures.py::test_sign_when_policy_forbids_is_denied_without_a_retry"),
    Fault("the wrapping token has expired", "integrity", "WRAP_USED", _OTHERS,
          "a fresh one, after it is known who had the old one",
          "attacks/test_vault.py::test_atk_111_wrapping_token_expired_is_an_incident"),
    Fault("the wrapping token was used by somebody else", "integrity", "WRAP_USED", _OTHERS,
          "as above, and the role's secret_ids are destroyed",
          "attacks/test_vault.py::test_atk_111_wrapping_token_used_before_us_is_an_incident"),
    Fault("the credential ran out and nobody brought another", "denied", "VAULT_NO_CREDENTIAL", _OTHERS,
          "`signer_node credential`; the running node takes it within 2 s",
          "attacks/test_vault.py::test_atk_111_interception_stays_in_view_until_a_fresh_token_comes"),
    Fault("the node's certificate has expired", "denied", "VAULT_CERTIFICATE", _OTHERS,
          "a new one in the same files; no restart",
          "integration/test_openbao_logins.py"
          "::test_certificate_when_it_has_expired_is_refused_until_its_file_is_replaced"),
    Fault("the node calls from another address than its role's", "denied", "VAULT_LOGIN_REFUSED", _OTHERS,
          "another address in the role ([moving-a-node.md](moving-a-node.md))",
          "integration/test_openbao_logins.py::test_login_from_another_address_than_the_roles_is_refused"),
    Fault("logins are refused three times", "denied", "VAULT_LOGIN_REFUSED", _OTHERS,
          "whatever they were refused for; the node waits a minute",
          "integration/test_openbao_failures.py::test_session_when_logins_are_refused_locks_itself_out"),
    Fault("the server's certificate is of another authority", "integrity", "VAULT_UNTRUSTED", _OTHERS,
          "people find out who answers there; nothing was sent",
          "integration/test_openbao_failures.py"
          "::test_session_when_the_server_is_of_another_authority_says_nothing_to_it"),
    Fault("the clocks differ by more than 30 s", "clock", "VAULT_CLOCK", _OTHERS, "the clock is set",
          "integration/test_openbao_failures.py::test_session_when_clocks_differ_says_so"),
    Fault("the sealed seed was changed", "integrity", "SEED_BROKEN", _OTHERS,
          "the blob from a backup; nobody retries",
          "contracts/test_backends.py::test_sign_when_what_is_stored_was_tampered_with_is_integrity"),
    *PLUGIN_ROUTED,
    Fault("the engine's plugin is killed", "ready", "", _GOES_ON, "the server starts it again at the next call",
          "integration/test_engine.py::test_sign_when_the_plugin_was_killed_gives_the_same_bytes"),
    Fault("the engine was set back by a snapshot", "ready", "", _GOES_ON, "its node tells it the log since",
          "integration/test_engine.py"
          "::test_sign_when_the_snapshot_was_restored_waits_for_the_history_and_then_signs_the_same"),
    Fault("the leader of three servers with engines is killed", "ready", "",
          "at most one call fails and is made again", "an election; the next leader starts its own plugin",
          "integration/test_engine_cluster.py::test_engine_when_the_leader_dies_signs_the_same_at_the_next"),
    Fault("the leader of three servers is killed", "ready", "", "at most one call fails and is made again",
          "an election, in about 2 s",
          "integration/test_openbao_cluster.py::test_sign_when_the_leader_dies_goes_on_with_the_next"),
    Fault("a standby of three servers is killed", "ready", "", _GOES_ON, "nothing has to be done",
          "integration/test_openbao_cluster.py::test_sign_when_a_standby_dies_notices_nothing"),
    Fault("a snapshot is put back into a new server", "ready", "", _GOES_ON,
          "the same seeds and logins: snapshot and unseal key have different holders",
          "integration/test_openbao_cluster.py"
          "::test_snapshot_when_put_back_into_a_new_server_gives_the_same_key_and_logins"),
)  # fmt: skip


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| fault | the node reports | a withdrawal meanwhile | what ends it | test |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        said = f"{fault.state.upper()}" + (f" `{fault.code}`" if fault.code else "")
        name = fault.test.partition("::")[2]
        lines.append(f"| {fault.name} | {said} | {fault.routing} | {fault.cure} | `{name}` |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return the document `text` with the table as it is here."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")

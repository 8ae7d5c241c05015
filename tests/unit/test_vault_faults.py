"""The table of faults: the document shows it, every test that it names exists, and states are what codes say."""

from __future__ import annotations

import pytest

from custody.errors import CustodyError
from signer_node.backends.port import state_of
from tests.vault_faults import DOCUMENT, FAULTS, ROOT, Fault, updated


def test_document_when_the_table_changed_was_made_anew() -> None:
    """`.venv/bin/python -m tests.vault_faults` after a change."""
    text = DOCUMENT.read_text(encoding="utf-8")

    assert updated(text) == text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_fault_when_it_names_a_test_and_a_code_both_are_real(fault: Fault) -> None:
    """No row without a test, and no state but that of its code."""
    path, _, name = fault.test.partition("::")

    assert f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert fault.state == (state_of(CustodyError(fault.code, "")).state.value if fault.code else "ready")

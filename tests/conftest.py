"""The running stacks that tests share; a run that asks for none starts none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.crash.light_stack import Light


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Light]:
    """Return a real stack: coordinator, witness, two online nodes, an offline one, each its own process."""
    from tests.crash.light_stack import start  # only here: most runs need none of its servers

    running = start(tmp_path_factory.mktemp("light") / "stack")
    yield running
    running.stack.stop()
    running.loop.close()


@pytest.fixture(scope="session")
def vaulted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Light]:
    """Return a real stack of three online nodes, two of which have their keys in OpenBao."""
    from tests.vaulted import start, stop  # as above

    running = start(tmp_path_factory.mktemp("vaulted") / "stack")
    yield running
    stop(running)

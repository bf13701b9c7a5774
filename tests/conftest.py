"""One real control plane for a test session (and worker); a test that breaks it for others starts its own."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.cluster.controlplane import ControlPlane, ControlPlaneUnavailable

# The same examples in every run, so that a change fails by its own fault alone; `just test-torture` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane. Skips where none can be had, unless CI_REQUIRE_CLUSTER=1: then it fails."""
    plane = ControlPlane()
    try:
        plane.start()
    except ControlPlaneUnavailable as reason:
        if os.environ.get("CI_REQUIRE_CLUSTER") == "1":
            pytest.fail(f"no control plane: {reason}")
        pytest.skip(f"no control plane: {reason}")
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """A handler that a test leaves behind writes to that test's captured stream, which is closed."""
    before = logging.getLogger().handlers[:]
    yield
    assert logging.getLogger().handlers == before


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: three a core, since most tests wait for a program most of the time."""
    return 3 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait longest begin first, so that none is left alone at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("e2e", "monitoring"))

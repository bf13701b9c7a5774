"""The image and a bare Debian 11 as folders to run in. `just test-executable` builds both; these tests need root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cvji import __version__

REPOSITORY = Path(__file__).parents[2]


def buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def container_of(image: str) -> Iterator[str]:
    name = buildah("from", "--pull-never", image)
    try:
        yield name
    finally:
        buildah("rm", name)


@pytest.fixture(scope="session")
def image() -> str:
    """The image's name."""
    return os.environ.get("CVJI_IMAGE", f"localhost/cv-job-informer:{__version__}")


@pytest.fixture
def container(image: str) -> Iterator[str]:
    with container_of(image) as name:
        yield name


@pytest.fixture
def root(container: str) -> Path:
    """The image's root file system, of this test alone."""
    return Path(buildah("mount", container))


@pytest.fixture
def bare() -> Iterator[Path]:
    """A Debian 11 with nothing but what every Debian has; the one-file executable is its /cvji."""
    with container_of(os.environ.get("BUILDER_IMAGE", "localhost/debian11")) as name:
        folder = Path(buildah("mount", name))
        (folder / "cvji").write_bytes((REPOSITORY / "dist/cvji").read_bytes())
        (folder / "cvji").chmod(0o755)
        yield folder

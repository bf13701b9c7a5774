"""Helm, built from its Go module into the cache that the control plane is kept in."""

import re
from pathlib import Path

from tests.cluster.binary import go_binary

SOURCE = Path(__file__).parent
PACKAGE = "helm.sh/helm/v4/cmd/helm"


def helm_binary() -> Path:
    """The helm command of the version in go.mod. Raises BuildUnavailable if it cannot be built."""
    found = re.search(r"^\s*(?:require )?helm\.sh/helm/v4 (v\S+)", (SOURCE / "go.mod").read_text(), re.MULTILINE)
    assert found, "go.mod requires helm.sh/helm/v4"
    return go_binary("helm", SOURCE, PACKAGE, {"helm.sh/helm/v4/internal/version.version": found.group(1)})

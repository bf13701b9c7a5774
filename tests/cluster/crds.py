"""The custom kinds that count as jobs, and the nodes' inventories, as the smallest CRDs that serve them.

Schemas are open: the tests are about what objects of foreign controllers say, not about what their schemas allow.
"""

from pathlib import Path
from typing import Any

import yaml

from tests.simulator.kinds import JOB_KINDS, NODE_KINDS, SPARK


def crd(group: str, version: str, kind: str, plural: str, namespaced: bool = True) -> dict[str, Any]:
    """A CustomResourceDefinition that takes any content and has a status subresource."""
    metadata: dict[str, Any] = {"name": f"{plural}.{group}"}
    if group.endswith((".k8s.io", ".x-k8s.io")):
        # The API server refuses names of Kubernetes' own domain without a word on their approval.
        metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test's copy"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }


def all_crds() -> list[dict[str, Any]]:
    """The definition of every kind that Kubernetes does not bring along."""
    return [own_crd(), *report_crds(), *(crd(*kind) for kind in [*JOB_KINDS, SPARK, *NODE_KINDS[1:]])]


def own_crd() -> dict[str, Any]:
    """NodeInterfaceState as the project installs it."""
    return _chart_crd("nodeinterfacestates")


def report_crds() -> list[dict[str, Any]]:
    """JobReport and NodeReport as the project installs them."""
    return [_chart_crd("jobreports"), _chart_crd("nodereports")]


def _chart_crd(plural: str) -> dict[str, Any]:
    file = Path(__file__).parents[2] / f"manifests/chart/files/crds/{plural}.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found

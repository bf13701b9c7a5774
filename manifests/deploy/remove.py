"""`just delete`: everything that a deploy and the program made; the CRDs if asked, the namespace if it is ours."""

from __future__ import annotations

import json
import re

from .cluster import OURS, PLACE, RELEASE, Cluster, Failed, needs, say
from .settings import Settings

STATES = "nodeinterfacestates.cloudvision.arista.io"
CRDS = (STATES, "jobreports.cloudvision.arista.io", "nodereports.cloudvision.arista.io")
CREATED = "cvji.arista.io/namespace-created"  # annotation: the namespace is ours to delete
REVIEWS = "authorization.k8s.io/v1"
RBAC, ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
WORKLOADS = ["deployments.apps", "daemonsets.apps"]
NAMESPACED = [*WORKLOADS, "poddisruptionbudgets.policy", "serviceaccounts", "configmaps", "secrets"]
NAMESPACED += [f"roles.{RBAC}", f"rolebindings.{RBAC}"]
CLUSTERWIDE = [f"clusterroles.{RBAC}", f"clusterrolebindings.{RBAC}"]
POLICIES = [f"validatingadmissionpolicies.{ADMISSION}", f"validatingadmissionpolicybindings.{ADMISSION}"]


def served(cluster: Cluster) -> list[str]:
    """The kinds of ours without a namespace that the cluster has: the policies from Kubernetes 1.30 on."""
    found = cluster.kubectl("get", "--raw", f"/apis/{ADMISSION}/v1", check=False)
    return CLUSTERWIDE + (POLICIES if '"validatingadmissionpolicies"' in found else [])


def check_permission(cluster: Cluster, verb: str) -> None:
    """The user may do what follows. Raises Failed with everything that is missing."""
    reviews = []
    for kind in ["namespaces", "customresourcedefinitions.apiextensions.k8s.io", *served(cluster), *NAMESPACED]:
        resource, _, group = kind.partition(".")
        asked = {"verb": verb, "resource": resource, "group": group, "namespace": PLACE if kind in NAMESPACED else ""}
        reviews.append({"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}})
    request = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": REVIEWS, **item} for item in reviews]}
    # kubectl can-i asks one thing at a time. Nothing is stored.
    answer = 'jsonpath={.status.allowed} {.spec.resourceAttributes.resource}{"\\n"}'
    lines = cluster.kubectl("create", "-f", "-", "-o", answer, stdin=json.dumps(request)).splitlines()
    denied = [line.split()[-1] for line in lines if not line.startswith("true ")]
    if denied:
        raise Failed(f"you may not {verb} {' '.join(denied)} in this cluster: its administrator must do this")


def delete(settings: Settings) -> None:
    """All of it. Raises Failed."""
    needs("helm", "https://helm.sh/docs/intro/install")
    cluster = Cluster(settings)
    cluster.reach()
    check_permission(cluster, "delete")
    # The informer first: it is not to see its node states go and take the nodes out of CloudVision.
    for kind in WORKLOADS:
        try:
            gone = ("--ignore-not-found", "--cascade=foreground", "--timeout=2m")
            cluster.kubectl("delete", kind, "-l", OURS, *gone, show=True)
        except Failed:
            say(f"Pods of {kind} are still ending, on nodes that are down perhaps.")
    cluster.helm("uninstall", RELEASE, "--ignore-not-found")
    rest = ",".join(["pods", *NAMESPACED, "leases.coordination.k8s.io"])
    cluster.kubectl("delete", rest, "-l", OURS, "--ignore-not-found", "--wait=false", show=True)
    cluster.kubectl("delete", ",".join(served(cluster)), "-l", OURS, "--ignore-not-found", show=True)
    # A Role in the one namespace that is watched is the release's, and went with it.
    for crd in filter(lambda name: cluster.exists("crd", name), CRDS):
        plural, _, group = crd.partition(".")
        # One request for all: one for each takes minutes where there are thousands of reports.
        cluster.kubectl("delete", "--raw", f"/apis/{group}/v1/namespaces/{PLACE}/{plural}", check=False)
        if settings.on["DELETE_CRD"]:
            cluster.kubectl("delete", "crd", crd, show=True)
    delete_namespace(cluster)
    stay = [name.partition(".")[0] for name in CRDS if cluster.exists("crd", name)]
    if stay:
        say(f"These CRDs stay: {' '.join(stay)}.")
        say("`just delete crd=true` removes them, with every object of their kinds.")
    say("Removed. CloudVision keeps what was last reported.")


def delete_namespace(cluster: Cluster) -> None:
    """Only what `just deploy` made, and only where nothing else is in it."""
    found = cluster.objects("namespace", PLACE)
    if not found:
        return
    if CREATED not in found[0]["metadata"].get("annotations", {}):
        say(f"Namespace {PLACE} stays: it was there before the first deploy.")
    elif left := inhabitants(cluster):
        say(f"Namespace {PLACE} stays, as there is more in it: {' '.join(left[:5])}")
    else:
        cluster.kubectl("delete", "namespace", PLACE, "--timeout=2m", show=True)


def inhabitants(cluster: Cluster) -> list[str]:
    """What would go with the namespace, but for what every namespace has."""
    everyones = r"configmap/(kube-root-ca\.crt|openshift-service-ca\.crt)|serviceaccount/default"
    passing = r"events(\..*)?|endpoints|endpointslices\..*"
    try:
        kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name").split()
        wanted = ",".join(kind for kind in kinds if not re.fullmatch(passing, kind))
        found = cluster.kubectl("get", wanted, "--ignore-not-found", "-o", "name").split()
    except Failed:
        return ["perhaps objects that could not be listed"]
    return [name for name in found if not re.fullmatch(everyones, name)]

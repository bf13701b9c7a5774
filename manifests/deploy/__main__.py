"""The commands. Exit codes: 0 done, 1 failed, 2 wrong settings."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .cluster import OURS, PLACE, SELECTORS, Cluster, Failed, needs, run
from .settings import HELP, NEWEST, SECRET, Object, Settings, Wrong

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "cvji"
GET_HELM = "helm.sh/docs/intro/install; without it, apply the YAML of a release or of `just manifests`"
GROUP = "cloudvision.arista.io"
KINDS = ("nodeinterfacestates", "jobreports", "nodereports")
CRDS = tuple(f"{kind}.{GROUP}" for kind in KINDS)
CRD_API = "apiextensions.k8s.io/v1"
APPLY = ("apply", "--server-side", "--force-conflicts", "-f", "-")
OWNER = ("--field-manager=cvji-deploy",)  # of what is not the release's
CREATED = "cvji.arista.io/namespace-created"  # annotation: the namespace is ours to delete
LABELS = {
    **dict(label.split("=") for label in OURS.split(",")),
    "app.kubernetes.io/component": "informer",
    "app.kubernetes.io/part-of": "cloudvision",
    "app.kubernetes.io/managed-by": "cvji-deploy",
}
# What versions before the chart applied; its CRDs, and so the records in them, become the release's.
KUSTOMIZED = f"{OURS},app.kubernetes.io/managed-by=kustomize"
RULES = "roles,rolebindings,clusterroles,clusterrolebindings"
REST = f"poddisruptionbudgets,serviceaccounts,configmaps,secrets,leases,{RULES}"


class Release:
    """The chart with the settings, in a cluster or not."""

    def __init__(self, settings: Settings) -> None:
        """Raises Failed where there is no helm."""
        needs("helm", GET_HELM)
        self.settings = settings
        self.cluster = Cluster(settings)

    def chart(self) -> list[str]:
        """The arguments of helm; the settings' values go to its standard input."""
        files = ["-f", self.settings.of["VALUES"]] if self.settings.of["VALUES"] else []
        sets = [f"--set={item}" for item in self.settings.sets]
        return [RELEASE, str(ROOT / "manifests/chart"), *files, "-f", "-", *sets]

    def rendered(self) -> str:
        """The chart's YAML. Raises Wrong where its schema refuses the values."""
        how = (
            *self.chart(),
            "--set=namespace.create=true",
            "--kube-version",
            self.settings.of["KUBE_VERSION"] or NEWEST,
        )
        try:
            return self.cluster.helm("template", *how, stdin=self.settings.values())
        except Failed as error:
            raise Wrong(self.settings.explained(str(error))) from None

    def upgrade(self, *more: str) -> str:
        """`helm upgrade --install`; what it prints. Raises Failed."""
        if not self.cluster.helm("version", "--short").startswith("v3."):
            more += ("--force-conflicts",)  # Helm 4 applies on the server
        how = ("--install", *self.chart(), "--history-max=5", *more)
        return self.cluster.helm("upgrade", *how, stdin=self.settings.values())

    def checked(self, *more: str) -> tuple[str, int]:
        """The objects as Helm and the API server, with its admission, take them; which revision they will be."""
        try:
            tried = json.loads(self.upgrade(*more, "--dry-run=server", "-o", "json"))
        except Failed as error:
            mend = f"; `helm -n {PLACE} rollback {RELEASE}` or `uninstall {RELEASE}` ends one that was interrupted"
            last = str(error).splitlines()[-1] + (mend if "another operation" in str(error) else "")
            raise Failed(f"the cluster refuses: {last}") from None
        manifest: str = tried["manifest"]
        objects = f"{manifest}\n---\n{self.beside(manifest)}"
        self.cluster.dry_run(*APPLY, "--field-manager=helm", stdin=objects)
        return manifest, tried["version"]

    def beside(self, manifest: str) -> str:
        """Namespace and Secret: what the release must not hold."""
        meta: Object = {"name": PLACE, "labels": dict(LABELS)}
        if "kind: DaemonSet" in manifest:
            meta["labels"]["pod-security.kubernetes.io/enforce"] = "privileged"
        found = self.cluster.found("namespace", PLACE)
        if not found or CREATED in found[0]["metadata"].get("annotations", {}):
            meta["annotations"] = {CREATED: "true"}
        items: list[Object] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}]
        if self.settings.token:
            data = {"api-token": self.settings.token, "api-server": self.settings.of["API_SERVER"]}
            if self.settings.of["API_CA_FILE"]:
                data["api-ca"] = self.settings.file("API_CA_FILE")
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items() if value}
            meta = {"name": SECRET, "namespace": PLACE, "labels": LABELS}
            items.append({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": encoded})
        return listed(items)

    def put_back(self, before: list[Object]) -> None:
        """The Secret as it was found before beside() was applied, or no Secret where there was none. Raises Failed."""
        if not self.settings.token:
            return  # beside() left it alone
        if not before:
            self.cluster.kubectl("delete", "secret", SECRET, "--ignore-not-found")
            return
        (old,) = before
        meta = {"name": SECRET, "namespace": PLACE, "labels": old["metadata"].get("labels", {})}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": old.get("data", {})}
        self.cluster.kubectl(*APPLY, *OWNER, stdin=listed([secret]))

    def find_kinds(self) -> None:
        """The resources of JOB_KINDS, as the cluster names them. Raises Failed."""
        for number, kind in enumerate(self.settings.kinds()):
            rows = self.cluster.kubectl("api-resources", f"--api-group={kind['group']}", "--no-headers").splitlines()
            names = [row.split()[0] for row in rows if row.split()[-1] == kind["kind"]]
            if not names:
                known = f"{kind['group']}/{kind['kind']}"
                raise Failed(f"JOB_KINDS: the cluster does not serve {known}: install its CRD first")
            self.settings.sets.append(f"jobs.kinds[{number}].resource={names[0]}")

    def image(self) -> None:
        """Build and push as asked; a pushed image is deployed by its digest. Raises Failed."""
        names = ("IMAGE_TAG", "REGISTRY", "ENGINE", "PLATFORMS")
        os.environ.update({name: self.settings.of[name] for name in names if self.settings.of[name]})
        os.environ["PUSH"] = "true" if self.settings.on["PUSH"] else ""
        if not self.settings.on["SKIP_BUILD"] and subprocess.run(["just", "image"], cwd=ROOT, check=False).returncode:
            raise Failed("the image could not be built; nothing was changed in the cluster")
        if self.settings.on["PUSH"]:
            try:
                self.settings.sets.append(f"image.digest={run(str(ROOT / 'build/push.sh')).strip()}")
            except Failed as error:
                raise Failed(f"{error}\nthe image could not be pushed; nothing was changed in the cluster") from None


def listed(items: list[Object]) -> str:
    """Objects for kubectl's standard input."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def deploy(settings: Settings) -> None:
    """Check everything, then change. Raises Wrong or Failed; the revision before is back then."""
    release = Release(settings)
    cluster = release.cluster
    settings.check()
    release.rendered()
    cluster.reach()
    release.find_kinds()
    old = cluster.found("crds,deployments", "-l", KUSTOMIZED)
    take = ("--take-ownership",) if old else ()
    manifest, revision = release.checked(*take)
    release.image()

    before = cluster.found("secret", SECRET)
    cluster.kubectl(*APPLY, *OWNER, stdin=release.beside(manifest))
    try:
        if old:
            cluster.kubectl("delete", f"deployments,daemonsets,{REST}", "-l", KUSTOMIZED, "--ignore-not-found")
        notes = release.upgrade(*take)
        cluster.wait_for("deployment/cv-job-informer", SELECTORS["job"])
        if "kind: DaemonSet" in manifest:
            cluster.wait_for("daemonset/cv-interface-discovery", SELECTORS["node"])
    except Failed as error:
        # Not --atomic, which removes the pods before anybody can see what ails them.
        done = "was removed again; namespace and CRDs stay" if revision == 1 else "and its Secret are as before"
        # The revision is named, as Helm's own choice is one too early where no new one was recorded.
        back = (
            ("rollback", RELEASE, str(revision - 1)) if revision > 1 else ("uninstall", RELEASE, "--ignore-not-found")
        )
        try:
            release.put_back(before)  # first: the old pods are not to send the new token to the old server
            cluster.helm(*back)
        except Failed as why:
            done = f"could not be put back: {why}"
        raise Failed(f"{error}; release {RELEASE} {done}") from None
    if old:  # give up the hold on fields of the CRDs
        bare = [
            {"apiVersion": CRD_API, "kind": "CustomResourceDefinition", "metadata": {"name": name}} for name in CRDS
        ]
        cluster.kubectl(*APPLY, *OWNER, "--validate=false", stdin=listed(bare))
    if "kind: DaemonSet" not in manifest and cluster.found("crd", CRDS[0]):
        cluster.kubectl("delete", CRDS[0], "-l", OURS)
    print(notes[notes.find("NOTES:") :])
    cluster.kubectl("get", "deployments,daemonsets", "-l", OURS, "-o", "wide", show=True)


def delete(settings: Settings) -> None:
    """Everything that a deploy and the program made; the CRDs if asked, the namespace if it is ours. Raises Failed."""
    cluster = Release(settings).cluster
    cluster.reach()
    everything = f"deployments,daemonsets,pods,{REST}"
    cluster.dry_run("delete", everything, "-l", OURS, "--ignore-not-found")
    try:
        # The informer first: it is not to see its node states go and take the nodes out of CloudVision.
        gone = ("--ignore-not-found", "--cascade=foreground", "--timeout=2m")
        cluster.kubectl("delete", "deployments,daemonsets", "-l", OURS, *gone, show=True)
    except Failed:
        print("Pods are still ending, on nodes that are down perhaps.")
    cluster.helm("uninstall", RELEASE, "--ignore-not-found")
    cluster.kubectl("delete", everything, "-l", OURS, "--ignore-not-found", "--wait=false", show=True)
    for kind in KINDS:
        if cluster.found("crd", f"{kind}.{GROUP}"):
            # One request for all: one for each takes minutes where there are thousands of reports.
            cluster.kubectl("delete", "--raw", f"/apis/{GROUP}/v1/namespaces/{PLACE}/{kind}")
            if settings.on["DELETE_CRD"]:
                cluster.kubectl("delete", "crd", f"{kind}.{GROUP}", show=True)
            else:
                print(f"The CRD {kind} stays; `just delete crd=true` removes it, with every object of its kind.")
    delete_namespace(cluster)
    print("Removed. CloudVision keeps what was last reported.")


def delete_namespace(cluster: Cluster) -> None:
    """Only what `just deploy` made, and only where there is no more in it than every namespace has."""
    found = cluster.found("namespace", PLACE)
    if not found:
        return
    if CREATED not in found[0]["metadata"].get("annotations", {}):
        print(f"Namespace {PLACE} stays: it was there before the first deploy.")
        return
    everyones = r"configmap/(kube-root-ca|openshift-service-ca)\.crt|serviceaccount/default|(event|endpoint).*"
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name").split()
    names = cluster.kubectl("get", ",".join(kinds), "--ignore-not-found", "-o", "name").split()
    if left := [name for name in names if not re.fullmatch(everyones, name)]:
        print(f"Namespace {PLACE} stays, as there is more in it: {' '.join(left[:5])}")
    else:
        cluster.kubectl("delete", "namespace", PLACE, "--timeout=2m", show=True)


def look(settings: Settings, *commands: tuple[str, ...]) -> Cluster:
    """kubectl's answers on the workloads, or on COMPONENT's. Raises Failed where there are none."""
    cluster, selector = Cluster(settings), SELECTORS[settings.of["COMPONENT"]]
    cluster.reach()
    if not cluster.found("deployments,daemonsets", "-l", selector):
        raise Failed(f"nothing of it runs in namespace {PLACE}: `just deploy` makes one")
    for command in commands:
        cluster.kubectl(*command, "-l", selector, show=True)
    return cluster


def status(settings: Settings) -> None:
    """What runs, where, which informer is the leader."""
    kinds = "deployments,daemonsets,poddisruptionbudgets"
    cluster = look(settings, ("get", kinds, "-o", "wide"), ("get", "pods", "-o", "wide"))
    if settings.of["COMPONENT"] != "node":
        cluster.kubectl("get", "lease", "cv-job-informer", "--ignore-not-found", show=True)  # its holder leads
        print(f"What was reported to CloudVision: kubectl -n {PLACE} get jobreports,nodereports")
    if settings.of["COMPONENT"] != "job" and cluster.found("crd", CRDS[0]):
        cluster.kubectl("get", KINDS[0], show=True)


def restart(settings: Settings) -> None:
    """Replace the pods, one after another."""
    cluster = look(settings, ("rollout", "restart", "deployments,daemonsets"))
    for item in cluster.found("deployments,daemonsets", "-l", SELECTORS[settings.of["COMPONENT"]]):
        component = "job" if item["kind"] == "Deployment" else "node"
        cluster.wait_for(f"{item['kind'].lower()}/{item['metadata']['name']}", SELECTORS[component])


def logs(settings: Settings) -> None:
    """What the pods wrote."""
    how = ("--prefix", f"--tail={settings.of['TAIL'] or 100}", "--max-log-requests=1000")
    look(settings, ("logs", *how, *(("-f",) if settings.on["FOLLOW"] else ())))


def manifests(settings: Settings) -> None:
    """The chart as YAML with the settings, for those without Helm; the Secret is theirs to make. With PUSH, the chart
    goes to REGISTRY too.
    """
    if not settings.of["VALUES"]:
        settings.of["LOCATION"] = settings.of["LOCATION"] or "CHANGE-ME"
    release = Release(settings)
    text = release.rendered()
    if settings.kinds():
        try:
            release.cluster.reach()
        except Failed as why:
            raise Wrong(f"JOB_KINDS: {why}; without it, give jobs.kinds, each with its resource, in VALUES") from None
        release.find_kinds()
        text = release.rendered()
    print(text.rstrip())
    if settings.on["PUSH"]:
        place = f"oci://{settings.of['REGISTRY']}/charts"
        with tempfile.TemporaryDirectory() as folder:
            run("helm", "package", str(ROOT / "manifests/chart"), "-d", folder)
            (package,) = Path(folder).iterdir()
            run("helm", "push", str(package), place)
        print(f"pushed {package.name} to {place}", file=sys.stderr)


COMMANDS: dict[str, Callable[[Settings], object]] = {
    "deploy": deploy,
    "manifests": manifests,
    "delete": delete,
    "status": status,
    "logs": logs,
    "restart": restart,
    "describe": lambda settings: look(settings, ("describe", "deployments,daemonsets,pods")),
}


def main(command: str = "help", *arguments: str) -> int:
    """The exit code of a command."""
    if command not in COMMANDS or {"--help", "-h"} & set(arguments):
        print(HELP)
        return 0 if command in (*COMMANDS, "help") else 2
    try:
        COMMANDS[command](Settings(os.environ, list(arguments)))
    except (Wrong, Failed) as error:
        *more, last = str(error).splitlines()
        print("\n".join([*more, f"{command}: {last}"]), file=sys.stderr)
        return 2 if isinstance(error, Wrong) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""`just deploy` and `just manifests`: from settings to running pods, or to YAML."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

from .cluster import OURS, PLACE, RELEASE, SELECTORS, Cluster, Failed, needs, run, say
from .remove import CRDS, CREATED, NAMESPACED, STATES, check_permission, served
from .settings import SECRET, Object, Settings, Wrong

ROOT = Path(__file__).resolve().parents[2]
GET_HELM = "https://helm.sh/docs/intro/install; without it, apply the YAML of a release or of `just manifests`"
KUSTOMIZED = f"{OURS},app.kubernetes.io/managed-by=kustomize"  # by versions before the chart


class Installation:
    """One deploy."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cluster = Cluster(settings)
        self.takes_over = False  # from kustomize

    def deploy(self) -> None:
        """Check everything, then change. Raises Wrong or Failed; the revision before is back then."""
        needs("helm", GET_HELM)
        self.settings.check()
        self.check_values()
        self.cluster.reach()
        self.find_kinds()
        check_permission(self.cluster, "create")
        self.takes_over = self.cluster.exists("crds,deployments", "-l", KUSTOMIZED)
        before = self.revision()
        self.check_objects()
        self.settings.digest = self.image()

        self.make_namespace()
        if self.settings.token:
            self.cluster.apply(json.dumps(self.secret()))
        try:
            self.establish_crds()
            self.upgrade()
            self.cluster.wait_for("deployment/cv-job-informer", SELECTORS["job"])
            discovery = self.cluster.exists("daemonset", "cv-interface-discovery")
            if discovery:
                self.cluster.wait_for("daemonset/cv-interface-discovery", SELECTORS["node"])
        except Failed as error:
            raise Failed(f"{error}; {self.undo(before)}") from None
        if self.takes_over:
            self.leave_kustomize()
        if not discovery:
            self.cluster.kubectl("delete", STATES, "-l", OURS, "--ignore-not-found", check=False)
        self.say_what_runs()

    def manifests(self) -> None:
        """Print the chart as YAML with the settings, for those without Helm; the Secret is theirs to make."""
        needs("helm", GET_HELM)
        if not self.settings.of["VALUES"]:
            self.settings.of["LOCATION"] = self.settings.of["LOCATION"] or "CHANGE-ME"
        self.check_values()
        say(self.rendered("--set=namespace.create=true").rstrip())

    # --- the chart ----------------------------------------------------------------------------------------------------

    def chart(self) -> list[str]:
        """The arguments of helm that name release, chart and values; the settings' values go to its standard input."""
        files = ["-f", self.settings.of["VALUES"]] if self.settings.of["VALUES"] else []
        sets = [f"--set={item}" for item in self.settings.sets]
        return [RELEASE, str(ROOT / "manifests/chart"), *files, "-f", "-", *sets]

    def rendered(self, *more: str) -> str:
        """The chart's objects, as YAML."""
        version = ["--kube-version", self.cluster.version] if self.cluster.version else []
        return self.cluster.helm("template", *self.chart(), *version, *more, stdin=self.settings.values())

    def upgrade(self, *more: str) -> None:
        """`helm upgrade --install`.

        Without --atomic, which removes the pods before anybody can see what ails them: see undo().
        """
        if not self.cluster.helm("version", "--short").startswith("v3."):
            more += ("--force-conflicts",)  # Helm 4 applies on the server
        if self.takes_over:
            more += ("--take-ownership",)
        how = ("--install", *self.chart(), "--history-max=5", "--hide-notes", *more)
        self.cluster.helm("upgrade", *how, stdin=self.settings.values())

    def establish_crds(self) -> None:
        """Before the first release: an informer that starts before they are served has no records for a minute."""
        found = self.rendered()
        if "kind: CustomResourceDefinition" not in found or all(self.cluster.exists("crd", name) for name in CRDS):
            return
        self.cluster.apply(self.rendered("--show-only=templates/crds.yaml"), manager="helm")
        owner = (f"meta.helm.sh/release-name={RELEASE}", f"meta.helm.sh/release-namespace={PLACE}")
        self.cluster.kubectl("annotate", "crd", *CRDS, *owner, "--field-manager=helm")
        try:
            self.cluster.kubectl("wait", "crd", *CRDS, "--for=condition=Established", "--timeout=1m")
        except Failed:
            raise Failed("the cluster does not establish the CRDs: `kubectl describe crd` says why") from None

    def revision(self) -> str:
        """The release's last good revision, "" before the first. Raises Failed where a deploy was interrupted."""
        history = json.loads(self.cluster.helm("history", RELEASE, "-o", "json", check=False) or "[]")
        good = [str(item["revision"]) for item in history if item["status"] in ("deployed", "superseded")]
        if history and history[-1]["status"].startswith("pending"):
            mend = f"rollback {RELEASE} {good[-1]}" if good else f"uninstall {RELEASE}"
            raise Failed(f"an earlier deploy still runs, or was interrupted: `helm -n {PLACE} {mend}` ends it")
        return good[-1] if good else ""

    def undo(self, before: str) -> str:
        """Back to the revision before, or to nothing; what was done."""
        if before:
            self.cluster.helm("rollback", RELEASE, before, check=False)
            return f"revision {before} of release {RELEASE} is back"
        self.cluster.helm("uninstall", RELEASE, "--ignore-not-found", check=False)
        return "the release was removed again; namespace, Secret and CRDs stay"

    # --- checks -------------------------------------------------------------------------------------------------------

    def check_values(self) -> None:
        """The chart's schema. Raises Wrong."""
        try:
            self.rendered()
        except Failed as error:
            raise Wrong(self.settings.explained(str(error))) from None

    def find_kinds(self) -> None:
        """The resources of JOB_KINDS, as the cluster names them. Raises Failed."""
        for kind in self.settings.kinds:
            query = ("api-resources", f"--api-group={kind['group']}", "--no-headers")
            rows = [line.split() for line in self.cluster.kubectl(*query, check=False).splitlines()]
            names = [row[0] for row in rows if row[-1:] == [kind["kind"]]]
            if not names:
                known = f"{kind['group']}/{kind['kind']}"
                raise Failed(f"JOB_KINDS: the cluster does not serve {known}: install its CRD first")
            kind["resource"] = names[0]

    def check_objects(self) -> None:
        """The API server's own opinion, admission and privilege escalation included. Raises Failed."""
        for check in (self.dry_apply, self.dry_upgrade):
            try:
                check()
            except Failed as error:
                # Before the first time, nothing can be tried in a namespace that is not there.
                lines = [line for line in str(error).splitlines() if f'namespaces "{PLACE}" not found' not in line]
                if lines:
                    raise Failed(f"the cluster refuses: {lines[0].removeprefix('Error: ')}") from None

    def dry_apply(self) -> None:
        """Whether the API server takes the objects. Raises Failed."""
        self.cluster.apply(self.rendered(), "--dry-run=server", manager="helm")

    def dry_upgrade(self) -> None:
        """Whether Helm may: objects of another release are refused. Raises Failed."""
        self.upgrade("--dry-run=server")

    # --- what is not the chart's --------------------------------------------------------------------------------------

    def image(self) -> str:
        """Build and push as asked; the pushed image's digest, "" if none was. Raises Failed."""
        names = ("IMAGE_TAG", "REGISTRY", "ENGINE", "PLATFORMS")
        settings = {**os.environ, **{name: self.settings.of[name] for name in names if self.settings.of[name]}}
        settings["PUSH"] = "true" if self.settings.on["PUSH"] else ""
        build = not self.settings.on["SKIP_BUILD"]
        if build and subprocess.run(["just", "image"], cwd=ROOT, env=settings, check=False).returncode != 0:
            raise Failed("the image could not be built; nothing was changed in the cluster")
        if not self.settings.on["PUSH"]:
            return ""
        try:
            return run(str(ROOT / "build/push.sh"), environment=settings).split()[-1]
        except (Failed, IndexError) as error:
            raise Failed(f"{error}\nthe image could not be pushed; nothing was changed in the cluster") from None

    def make_namespace(self) -> None:
        """With the Pod Security level that discovery needs. Which namespaces are ours to delete is an annotation."""
        found = self.cluster.objects("namespace", PLACE)
        metadata: Object = {"name": PLACE, "labels": labels("namespace")}
        if not found or CREATED in found[0]["metadata"].get("annotations", {}):
            metadata["annotations"] = {CREATED: "true"}
        if "kind: DaemonSet" in self.rendered():
            metadata["labels"]["pod-security.kubernetes.io/enforce"] = "privileged"
        self.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    def secret(self) -> Object:
        """What is sensitive, for a pipe alone: in no argument, file or release."""
        data = {"api-token": self.settings.token, "api-server": self.settings.of["API_SERVER"]}
        if self.settings.of["API_CA_FILE"]:
            data["api-ca"] = self.settings.authority()
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items() if value}
        metadata = {"name": SECRET, "namespace": PLACE, "labels": labels("informer")}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}

    def leave_kustomize(self) -> None:
        """Remove what versions before the chart applied and the chart lacks, and give up their hold on fields."""
        kinds = [*NAMESPACED, *served(self.cluster)]
        namespaced, clusterwide = ",".join(NAMESPACED), ",".join(kinds[len(NAMESPACED) :])
        for some in (namespaced, clusterwide):
            self.cluster.kubectl("delete", some, "-l", KUSTOMIZED, "--ignore-not-found")
        bare = [
            {key: item[key] for key in ("apiVersion", "kind")}
            | {"metadata": {key: item["metadata"][key] for key in ("name", "namespace") if key in item["metadata"]}}
            for item in self.cluster.objects(
                ",".join([*kinds, "crds"]), "-l", f"{OURS},app.kubernetes.io/managed-by=Helm"
            )
        ]
        self.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": bare}), "--validate=false")

    def say_what_runs(self) -> None:
        """The workloads, each with its image."""
        say(f"\nNamespace {PLACE} runs:")
        for item in self.cluster.objects("deployments,daemonsets", "-l", OURS):
            status, image = item["status"], item["spec"]["template"]["spec"]["containers"][0]["image"]
            ready = status.get("readyReplicas", status.get("numberReady", 0))
            wanted = status.get("replicas", status.get("desiredNumberScheduled", 0))
            say(f"  {item['kind']} {item['metadata']['name']}: {ready} of {wanted} ready, {image}")
        say("Another `just deploy` takes a new token in, without a restart.")
        say("Next: `just status`, `just logs COMPONENT=job` (each report is one line), `just help` for every setting.")


def labels(component: str) -> dict[str, str]:
    """The labels of what is not the chart's."""
    return {
        "app": "cv-job-informer",
        "app.kubernetes.io/name": "cvji",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "cloudvision",
        "app.kubernetes.io/managed-by": "cvji-deploy",
    }

"""The settings of the deployed informer, for commands that are to judge as it does.

They are this process's own environment where it runs in the informer's pod, else those of the Deployment.
"""

from collections.abc import Mapping

import msgspec

from cvji.jobs.nics import Mode
from cvji.jobs.owners import OwnerPolicy
from cvji.jobs.policy import MAX_WAIT, Policy
from cvji.kube.client import Api, ApiError
from cvji.kube.objects import Wire
from cvji.kube.reading import one, pages
from cvji.settings import NodeConfigMode, SettingsError, duration, job_kinds, namespaces

NAMESPACE = "cloudvision"
LABELS = "app=cv-job-informer,app.kubernetes.io/component=informer"


class _Reference(Wire):
    name: str = ""


class _Source(Wire):
    config_map_ref: _Reference | None = None


class _Variable(Wire):
    name: str = ""
    value: str = ""


class _Container(Wire):
    env_from: list[_Source] | None = None
    env: list[_Variable] | None = None


class _PodSpec(Wire):
    containers: list[_Container]


class _Template(Wire):
    spec: _PodSpec


class _DeploymentSpec(Wire):
    template: _Template


class _Deployment(Wire):
    spec: _DeploymentSpec


class _ConfigMap(Wire):
    data: dict[str, str] | None = None


class Deployed(msgspec.Struct, frozen=True):
    """Settings by their names, and what could not be read of them ("" if all could)."""

    values: Mapping[str, str]
    unread: str = ""

    def get(self, name: str) -> str:
        """A setting; "" where it has its default."""
        return self.values.get(name, "").strip()

    def location(self) -> str:
        """LOCATION. Raises SettingsError if it is not known."""
        if not (found := self.get("LOCATION")):
            raise SettingsError(
                "LOCATION is not known: give this site's name in CloudVision, by --location or LOCATION"
            )
        return found

    def policy(self) -> Policy:
        """The rules that the informer goes by. Raises SettingsError."""
        wait = self.get("START_MAX_WAIT").lower()
        delay = self.get("STABILITY_DELAY")
        try:
            return Policy(
                Mode(self.get("JOBCONFIG_MODE").lower() or "interface"),
                OwnerPolicy(self.get("JOB_OWNER").lower() or "root"),
                duration(delay) if delay else Policy().stability_delay,
                float("inf") if wait == "never" else duration(wait) if wait else MAX_WAIT,
            )
        except ValueError as err:
            raise SettingsError(f"the informer's settings: {err}") from None

    def kinds(self) -> tuple[tuple[str, str], ...]:
        """JOB_KINDS. Raises SettingsError."""
        return job_kinds([self.get("JOB_KINDS")])

    def namespaces(self) -> tuple[str, ...]:
        """NAMESPACE: those that are watched, none for all. Raises SettingsError."""
        return namespaces(self.get("NAMESPACE"))

    def nodeconfig(self) -> NodeConfigMode:
        """NODECONFIG_MODE. Raises SettingsError."""
        try:
            return NodeConfigMode(self.get("NODECONFIG_MODE").lower() or "discovery")
        except ValueError as err:
            raise SettingsError(f"NODECONFIG_MODE: {err}") from None


def read(api: Api, namespace: str, environment: Mapping[str, str]) -> Deployed:
    """The settings, as far as they can be read; `environment` comes first where it has a LOCATION."""
    if environment.get("LOCATION"):
        return Deployed(dict(environment))
    try:
        return Deployed(_of_deployment(api, namespace))
    except ApiError as err:
        return Deployed({}, f"the informer's settings in namespace {namespace}: {err}; its defaults are assumed")


def _of_deployment(api: Api, namespace: str) -> dict[str, str]:
    found: dict[str, str] = {}
    deployments = list(pages(api, f"/apis/apps/v1/namespaces/{namespace}/deployments", {"labelSelector": LABELS}))
    if not deployments:
        raise ApiError(404, "there is no Deployment of the informer")
    try:
        container = msgspec.json.decode(deployments[0], type=_Deployment).spec.template.spec.containers[0]
        for source in container.env_from or ():
            if source.config_map_ref:
                path = f"/api/v1/namespaces/{namespace}/configmaps/{source.config_map_ref.name}"
                found.update(msgspec.json.decode(one(api, path) or b"{}", type=_ConfigMap).data or {})
    except (msgspec.MsgspecError, UnicodeError, RecursionError, IndexError) as err:
        raise ApiError(0, f"the informer's Deployment cannot be read: {err}") from None
    # The kubelet reads $$ as $; the chart writes a LOCATION so.
    found.update({variable.name: variable.value.replace("$$", "$") for variable in container.env or ()})
    return found

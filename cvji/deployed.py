"""The settings of the deployed informer, for commands that are to judge as it does.

They are this process's own environment in the informer's pod, else those of the Deployment: on a laptop, variables of
these names are for other commands.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cvji.commands import InformerSettings
from cvji.jobs.policy import Policy
from cvji.kube.client import Api, ApiError
from cvji.kube.objects import Wire
from cvji.kube.reading import one, pages
from cvji.settings import NodeConfigMode, SettingsError, declared

DECLARED = {one.field: one for one in declared(InformerSettings)}
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
        return Policy(
            self._value("jobconfig_mode"),
            self._value("job_owner"),
            self._value("stability_delay"),
            self._value("start_max_wait"),
        )

    def kinds(self) -> tuple[tuple[str, str], ...]:
        """JOB_KINDS. Raises SettingsError."""
        found: tuple[tuple[str, str], ...] = self._value("job_kinds")
        return found

    def namespaces(self) -> tuple[str, ...]:
        """NAMESPACE: those that are watched, none for all. Raises SettingsError."""
        found: tuple[str, ...] = self._value("namespace")
        return found

    def nodeconfig(self) -> NodeConfigMode:
        """NODECONFIG_MODE. Raises SettingsError."""
        found: NodeConfigMode = self._value("nodeconfig_mode")
        return found

    def _value(self, field: str) -> Any:
        """A field of InformerSettings, as the informer reads it. Raises SettingsError."""
        one = DECLARED[field]
        text = self.get(one.env)
        return one.value(text) if text else one.default


def read(api: Api, namespace: str, environment: Mapping[str, str]) -> Deployed:
    """The settings of the informer in a namespace, as far as they can be read; `environment` is this process's own."""
    if _is_informers(environment, namespace):
        return Deployed(dict(environment))
    try:
        return Deployed(_of_deployment(api, namespace))
    except ApiError as err:
        return Deployed({}, f"the informer's settings in namespace {namespace}: {err}; its defaults are assumed")


def _is_informers(environment: Mapping[str, str], namespace: str) -> bool:
    """Whether it is that of the informer's pod: what the kubelet sets in every pod, and the chart in this one."""
    names = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "LOCATION")
    return all(environment.get(name) for name in names) and environment.get("STATE_NAMESPACE") == namespace


def _of_deployment(api: Api, namespace: str) -> dict[str, str]:
    found: dict[str, str] = {}
    deployments = list(pages(api, f"/apis/apps/v1/namespaces/{namespace}/deployments", {"labelSelector": LABELS}))
    if not deployments:
        raise ApiError(404, "there is no Deployment of the informer: give its namespace by --state-namespace")
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

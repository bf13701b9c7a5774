"""The chart's values: each arrives where it should, and a wrong one is refused with its name."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import yaml

from cvji import __version__
from tests.deploy.rendered import CHART, NEEDED, Object, merged, names, one, render, template

DIGEST = "sha256:" + "0123456789abcdef" * 4
TOLERATION = {"key": "gpu", "operator": "Exists"}
ZONE = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": ZONE}}
RESOURCES = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
EXTRA_ENV = [{"name": "SSL_CERT_DIR", "value": "/certs"}]
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
INFORMER, DISCOVERY = ("Deployment", "cv-job-informer"), ("DaemonSet", "cv-interface-discovery")
Look = Callable[[list[Object]], object]


def at(kind: str, name: str, *path: str | int) -> Look:
    """What an object holds at a path; None where there is nothing."""

    def look(objects: list[Object]) -> object:
        found: Any = one(objects, kind, name)
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError):
                return None
        return found

    return look


def meta(workload: tuple[str, str], *path: str) -> Look:
    return at(*workload, "metadata", *path)


def pod(workload: tuple[str, str], *path: str | int) -> Look:
    return at(*workload, "spec", "template", "spec", *path)


def pod_meta(workload: tuple[str, str], *path: str) -> Look:
    return at(*workload, "spec", "template", "metadata", *path)


def container(workload: tuple[str, str], *path: str | int) -> Look:
    return pod(workload, "containers", 0, *path)


def env(name: str, workload: tuple[str, str] = INFORMER) -> Look:
    """A variable: its value, else what it comes from."""

    def look(objects: list[Object]) -> object:
        variables: Any = container(workload, "env")(objects)
        found = [item.get("value", item.get("valueFrom")) for item in variables if item["name"] == name]
        return found[0] if found else None

    return look


def there(name: str) -> Look:
    """Whether KIND/NAME is rendered."""
    return lambda objects: name in names(objects)


def key(secret: str, of: str) -> Object:
    return {"secretKeyRef": {"name": secret, "key": of}}


def volume(name: str) -> Look:
    return lambda objects: [item for item in pod(INFORMER, "volumes")(objects) if item["name"] == name]  # type: ignore[attr-defined]


CRD_KEEP = at(
    "CustomResourceDefinition",
    "jobreports.cloudvision.arista.io",
    "metadata",
    "annotations",
    "helm.sh/resource-policy",
)
RULES = at("ClusterRole", "cv-job-informer", "rules", -1)
POD_MONITOR = ("PodMonitor", "cv-job-informer")
DASHBOARD = ("ConfigMap", "cv-job-informer-dashboard")
ALERTS = at("PrometheusRule", "cv-job-informer", "spec", "groups", 0, "rules", 0, "alert")
POLICY = ("NetworkPolicy", "cv-job-informer")
WATCHED = at("Role", "cv-job-informer-jobs", "metadata", "namespace")

# (value, what it is set to, where it arrives, as what); further values that it needs are set beside it.
ARRIVALS: list[tuple[str, object, Look, object]] = [
    ("location", "Büro 'a' $(POD_NAME)", env("LOCATION"), "Büro 'a' $$(POD_NAME)"),
    ("cloudvision.server", "cv:8443", env("API_SERVER"), "cv:8443"),
    ("cloudvision.server", "", env("API_SERVER"), key("cv-job-informer-api-credentials", "api-server")),
    ("cloudvision.secret", "mine", pod(INFORMER, "volumes", 0, "secret", "secretName"), "mine"),
    ("cloudvision.ca.configMap", "ca", volume("ca"), [{"name": "ca", "configMap": {"name": "ca"}}]),
    ("cloudvision.ca.secret", "ca", pod(INFORMER, "volumes", 1, "secret", "secretName"), "ca"),
    ("cloudvision.ca.key", "root.pem", env("API_CA_FILE"), "/etc/cvji/ca/root.pem"),
    ("cloudvision.insecureSkipVerify", True, env("API_INSECURE_SKIP_VERIFY"), "true"),
    ("jobs.namespaces", ["a"], env("NAMESPACE"), "a"),
    ("jobs.namespaces", ["a"], WATCHED, "a"),
    ("jobs.namespaces", ["a"], there("ClusterRole/cv-job-informer"), False),
    ("jobs.namespaces", ["a", "b"], env("NAMESPACE"), "a,b"),
    ("jobs.namespaces", ["a", "b"], there("ClusterRole/cv-job-informer"), True),
    ("jobs.mode", "node", env("JOBCONFIG_MODE"), "node"),
    ("jobs.owner", "direct", env("JOB_OWNER"), "direct"),
    ("jobs.kinds", [{"group": "a.b", "kind": "C", "resource": "cs"}], env("JOB_KINDS"), "a.b/C"),
    (
        "jobs.kinds",
        [{"group": "a.b", "kind": "C", "resource": "cs"}],
        RULES,
        {"apiGroups": ["a.b"], "resources": ["cs"], "verbs": ["list", "watch"]},
    ),
    ("jobs.stabilityDelay", "7s", env("STABILITY_DELAY"), "7s"),
    ("jobs.startMaxWait", "never", env("START_MAX_WAIT"), "never"),
    ("jobs.kindRetry", 45, env("KIND_RETRY"), "45"),
    ("jobs.resyncInterval", "1h30m", env("RESYNC_INTERVAL"), "1h30m"),
    ("jobs.reportHistory", 0, env("REPORT_HISTORY"), "0"),
    ("jobs.events", False, env("EVENTS"), "false"),
    ("jobs.events", False, at("ClusterRole", "cv-job-informer", "rules", -1, "apiGroups"), ["ray.io"]),
    ("nodes.mode", "disabled", env("NODECONFIG_MODE"), "disabled"),
    ("nodes.mode", "disabled", there("DaemonSet/cv-interface-discovery"), False),
    ("nodes.mode", "sriovoperator", there("ClusterRole/cv-job-informer-sriov"), True),
    ("nodes.interfaceType", "vf", env("NODE_INTERFACE_TYPE"), "vf"),
    ("log.level", "debug", env("LOG_LEVEL"), "debug"),
    ("log.level", "debug", env("LOG_LEVEL", DISCOVERY), "debug"),
    ("log.format", "json", env("LOG_FORMAT"), "json"),
    ("log.format", "json", env("LOG_FORMAT", DISCOVERY), "json"),
    ("image.repository", "r.example.com:5000/x/cvji", container(INFORMER, "image"), f"r.example.com:5000/x/cvji:{__version__}"),
    ("image.tag", "v7", container(DISCOVERY, "image"), "cv-job-informer:v7"),
    ("image.digest", DIGEST, container(INFORMER, "image"), f"cv-job-informer@{DIGEST}"),
    ("image.pullPolicy", "Always", container(DISCOVERY, "imagePullPolicy"), "Always"),
    ("image.pullSecrets", ["a", "b"], pod(INFORMER, "imagePullSecrets"), [{"name": "a"}, {"name": "b"}]),
    ("image.pullSecrets", ["a"], pod(DISCOVERY, "imagePullSecrets"), [{"name": "a"}]),
    ("proxy.https", "http://proxy:3128", env("HTTPS_PROXY"), "http://proxy:3128"),
    ("proxy.https", "http://proxy:3128", env("NO_PROXY"), "$(KUBERNETES_SERVICE_HOST)"),
    ("proxy.https", "http://proxy:3128", env("HTTPS_PROXY", DISCOVERY), None),
    ("proxy.http", "http://proxy:3128", env("HTTP_PROXY"), "http://proxy:3128"),
    ("proxy.noProxy", "10.0.0.0/8,.local", env("NO_PROXY"), "$(KUBERNETES_SERVICE_HOST),10.0.0.0/8,.local"),
    ("proxy.secret", "proxy", env("HTTPS_PROXY"), key("proxy", "HTTPS_PROXY")),
    ("informer.replicas", 3, at(*INFORMER, "spec", "replicas"), 3),
    ("informer.replicas", 1, there("PodDisruptionBudget/cv-job-informer"), False),
    ("informer.size", "large", container(INFORMER, "resources", "limits", "memory"), "1Gi"),
    ("informer.size", "medium", container(INFORMER, "resources", "requests", "memory"), "192Mi"),
    ("informer.size", "small", container(INFORMER, "resources", "limits", "memory"), "256Mi"),
    ("informer.podDisruptionBudget", False, there("PodDisruptionBudget/cv-job-informer"), False),
    ("discovery.privileged", False, container(DISCOVERY, "securityContext", "privileged"), None),
    ("discovery.privileged", True, container(DISCOVERY, "securityContext", "privileged"), True),
    ("discovery.interval", "5m", env("DISCOVERY_INTERVAL", DISCOVERY), "5m"),
    (
        "discovery.maxUnavailable",
        "25%",
        at(*DISCOVERY, "spec", "updateStrategy", "rollingUpdate", "maxUnavailable"),
        "25%",
    ),
    ("discovery.nodeRestriction", "never", there("ValidatingAdmissionPolicy/cv-interface-discovery"), False),
    ("crds.install", False, there("CustomResourceDefinition/jobreports.cloudvision.arista.io"), False),
    ("crds.keep", True, CRD_KEEP, "keep"),
    ("crds.keep", False, CRD_KEEP, None),
    (
        "namespace.create",
        True,
        at("Namespace", "cloudvision", "metadata", "labels", "pod-security.kubernetes.io/enforce"),
        "privileged",
    ),
    ("monitoring.podMonitor", True, at(*POD_MONITOR, "spec", "podMetricsEndpoints", 0, "port"), "health"),
    ("monitoring.interval", "1m", at(*POD_MONITOR, "spec", "podMetricsEndpoints", 0, "interval"), "1m"),
    ("monitoring.prometheusRule", True, ALERTS, "CvjiNobodyReports"),
    ("monitoring.dashboard", True, meta(DASHBOARD, "labels", "grafana_dashboard"), "1"),
    (
        "monitoring.dashboard",
        True,
        at(*DASHBOARD, "data", "dashboard.json"),
        (CHART / "files/monitoring/dashboard.json").read_text().strip(),
    ),
    ("monitoring.labels", {"release": "prometheus"}, meta(POD_MONITOR, "labels", "release"), "prometheus"),
    ("networkPolicy.enabled", True, at(*POLICY, "spec", "policyTypes"), ["Ingress", "Egress"]),
    (
        "networkPolicy.egressPorts",
        [8443],
        at(*POLICY, "spec", "egress", 0, "ports", -1),
        {"protocol": "TCP", "port": 8443},
    ),
    ("networkPolicy.metricsFrom", [PEER], at(*POLICY, "spec", "ingress", 0, "from"), [PEER]),
    ("commonLabels", {"team": "net"}, meta(INFORMER, "labels", "team"), "net"),
    ("commonLabels", {"team": "net"}, pod_meta(DISCOVERY, "labels", "team"), "net"),
    ("commonAnnotations", {"owner": "net"}, meta(("Role", "cv-job-informer"), "annotations", "owner"), "net"),
    *(
        row
        for prefix, workload in (("informer", INFORMER), ("discovery", DISCOVERY))
        for row in (
            (f"{prefix}.resources", RESOURCES, container(workload, "resources"), RESOURCES),
            (f"{prefix}.nodeSelector", {"a": "b"}, pod(workload, "nodeSelector"), {"a": "b", "kubernetes.io/os": "linux"}),
            (f"{prefix}.tolerations", [TOLERATION], pod(workload, "tolerations"), [TOLERATION]),
            (f"{prefix}.affinity", AFFINITY, pod(workload, "affinity"), AFFINITY),
            (f"{prefix}.priorityClassName", "high", pod(workload, "priorityClassName"), "high"),
            (f"{prefix}.annotations", {"a": "b"}, meta(workload, "annotations"), {"a": "b"}),
            (f"{prefix}.podAnnotations", {"a": "b"}, pod_meta(workload, "annotations"), {"a": "b"}),
            (f"{prefix}.podLabels", {"a": "b"}, pod_meta(workload, "labels", "a"), "b"),
            (f"{prefix}.extraEnv", EXTRA_ENV, env("SSL_CERT_DIR", workload), "/certs"),
        )
    ),
]  # fmt: skip
BESIDE: dict[str, Object] = {
    "cloudvision.ca.key": {"cloudvision": {"ca": {"configMap": "ca"}}},
    "monitoring.interval": {"monitoring": {"podMonitor": True}},
    "monitoring.labels": {"monitoring": {"podMonitor": True}},
    "networkPolicy.egressPorts": {"networkPolicy": {"enabled": True}},
    "networkPolicy.metricsFrom": {"networkPolicy": {"enabled": True}},
}


def setting(path: str, value: object) -> Object:
    for part in reversed(path.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def all_at_once() -> Object:
    found: Object = {}
    for path, value, *_ in ARRIVALS:
        if path not in ("cloudvision.ca.secret", "nodes.mode", "crds.install", "discovery.nodeRestriction"):
            found = merged(found, setting(path, value))
    return found


EVERYTHING = all_at_once()


@pytest.mark.parametrize(
    ("path", "value", "look", "expected"), ARRIVALS, ids=[f"{row[0]}-{number}" for number, row in enumerate(ARRIVALS)]
)
def test_a_value_arrives_where_it_should(path: str, value: object, look: Look, expected: object) -> None:
    assert look(render(merged(BESIDE.get(path, {}), setting(path, value)))) == expected


def leaves(values: Object, schema: Object, path: str = "") -> set[str]:
    """The paths of the values that are no groups: a group's schema names its parts."""
    found = set()
    for name, value in values.items():
        inner = schema["properties"][name]
        group = isinstance(value, dict) and "properties" in inner and name not in ("affinity", "resources")
        found |= leaves(value, inner, f"{path}{name}.") if group else {path + name}
    return found


def documents() -> tuple[Object, Object]:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return values, json.loads((CHART / "values.schema.json").read_text())


def test_every_value_is_in_the_list_above() -> None:
    assert {row[0] for row in ARRIVALS} == leaves(*documents())


def test_every_value_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    values = [(before, line) for before, line in pairwise(lines) if re.match(r" *\w+: \S", line)]
    assert len(values) > 60
    assert [line for before, line in values if not before.strip().startswith("#")] == []


def test_a_value_that_the_chart_does_not_know_has_no_place_in_its_schema() -> None:
    def closed(schema: Object) -> bool:
        inner = schema.get("properties", {})
        return not inner or (
            schema.get("additionalProperties") is False and all(closed(item) for item in inner.values())
        )

    values, schema = documents()
    assert closed(schema)
    assert set(values) == set(schema["properties"]) - {"global"}  # `global` is Helm's


WRONG: list[tuple[Object, str, str]] = [
    ({"location": ""}, "/location", "does not match"),
    ({"location": "a\nb"}, "/location", "does not match"),
    ({"apiToken": "secret"}, "", "additional properties 'apiToken' not allowed"),
    ({"cloudvision": {"token": "secret"}}, "/cloudvision", "additional properties 'token' not allowed"),
    ({"cloudvision": {"server": "https://cv"}}, "/cloudvision/server", "does not match"),
    ({"cloudvision": {"server": "cv:0"}}, "/cloudvision/server", "does not match"),
    ({"cloudvision": {"server": "cv:65536"}}, "/cloudvision/server", "does not match"),
    ({"cloudvision": {"server": "a..b"}}, "/cloudvision/server", "'not' failed"),
    ({"cloudvision": {"ca": {"secret": "a", "configMap": "b"}}}, "/cloudvision/ca", "'not' failed"),
    ({"cloudvision": {"insecureSkipVerify": "yes"}}, "/cloudvision/insecureSkipVerify", "got string, want boolean"),
    ({"jobs": {"namespaces": ["Team_A"]}}, "/jobs/namespaces/0", "does not match"),
    ({"jobs": {"namespaces": "team-a"}}, "/jobs/namespaces", "got string, want array"),
    ({"jobs": {"mode": "macs"}}, "/jobs/mode", "must be one of 'interface', 'node'"),
    ({"jobs": {"owner": "boss"}}, "/jobs/owner", "must be one of 'root', 'direct'"),
    ({"jobs": {"kinds": [{"group": "a.b", "kind": "C"}]}}, "/jobs/kinds/0", "missing property 'resource'"),
    ({"jobs": {"kinds": [{"group": "a", "kind": "C", "resource": "*"}]}}, "/jobs/kinds/0/resource", "does not match"),
    ({"jobs": {"stabilityDelay": "soon"}}, "/jobs/stabilityDelay", "does not match"),
    ({"jobs": {"stabilityDelay": "never"}}, "/jobs/stabilityDelay", "does not match"),
    ({"jobs": {"startMaxWait": ""}}, "/jobs/startMaxWait", "minLength"),
    ({"jobs": {"reportHistory": "1d"}}, "/jobs/reportHistory", "does not match"),
    ({"nodes": {"mode": "auto"}}, "/nodes/mode", "must be one of 'discovery', 'sriovoperator', 'disabled'"),
    ({"log": {"level": "loud"}}, "/log/level", "must be one of"),
    ({"image": {"repository": "https://r.example.com/x"}}, "/image/repository", "does not match"),
    ({"image": {"repository": "x', newTag: 'y"}}, "/image/repository", "does not match"),
    ({"image": {"tag": "a b"}}, "/image/tag", "does not match"),
    ({"image": {"digest": "sha256:12"}}, "/image/digest", "does not match"),
    ({"image": {"pullSecrets": ["a}]"]}}, "/image/pullSecrets/0", "does not match"),
    ({"proxy": {"https": "http://user:secret@proxy"}}, "/proxy/https", "does not match"),
    ({"informer": {"replicas": 0}}, "/informer/replicas", "minimum: got 0, want 1"),
    ({"informer": {"size": "huge"}}, "/informer/size", "must be one of 'small', 'medium', 'large'"),
    ({"informer": {"resources": {"limits": {"memory": "lots"}}}}, "/informer/resources/limits/memory", "does not match"),
    ({"informer": {"podLabels": {"app": "x"}}}, "/informer/podLabels/app", "false schema"),
    ({"informer": {"extraEnv": [{"name": "API_TOKEN"}]}}, "/informer/extraEnv/0/name", "'not' failed"),
    ({"informer": {"nodeSelector": {"a": 1}}}, "/informer/nodeSelector/a", "got number, want string"),
    ({"discovery": {"interval": 0}}, "/discovery/interval", "minimum: got 0, want 1"),
    ({"discovery": {"interval": "500ms"}}, "/discovery/interval", "'not' failed"),
    ({"jobs": {"kindRetry": 0}}, "/jobs/kindRetry", "minimum: got 0, want 1"),
    ({"discovery": {"maxUnavailable": "10"}}, "/discovery/maxUnavailable", "does not match"),
    ({"discovery": {"nodeRestriction": "yes"}}, "/discovery/nodeRestriction", "must be one of"),
    ({"networkPolicy": {"egressPorts": [70000]}}, "/networkPolicy/egressPorts/0", "maximum: got 70,000"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "pointer", "why"), WRONG, ids=[f"{row[1]}-{number}" for number, row in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_with_its_name(values: Object, pointer: str, why: str) -> None:
    done = template(merged(NEEDED, values))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"- at '{pointer}': ")]
    assert why in line


def test_without_a_location_nothing_is_rendered() -> None:
    assert "- at '/location': " in template({}).stderr


def test_both_objects_of_everything_at_once_keep_the_labels_that_select_them() -> None:
    objects = render(EVERYTHING)
    for workload in (INFORMER, DISCOVERY):
        found = one(objects, *workload)["spec"]
        assert found["template"]["metadata"]["labels"].items() >= found["selector"]["matchLabels"].items()


def test_a_network_policy_lets_out_to_the_ports_that_other_values_name() -> None:
    proxy = {"https": "http://proxy:3128/", "http": "http://[fd00::1]"}
    values = {"networkPolicy": {"enabled": True}, "cloudvision": {"server": "cv:8443"}, "proxy": proxy}
    (rule,) = one(render(values), *POLICY)["spec"]["egress"]
    ports = [port["port"] for port in rule["ports"]]
    assert [port for port in ports if port not in (53, 5353)] == [443, 6443, 8443, 3128]


def test_a_network_policy_lets_out_to_dns_on_openshift_too() -> None:
    (rule,) = one(render({"networkPolicy": {"enabled": True}}), *POLICY)["spec"]["egress"]
    asked = {(port["protocol"], port["port"]) for port in rule["ports"]}
    assert asked >= {(protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)}


@pytest.mark.parametrize(
    ("release", "served"),
    [("v1.29.9-gke.1000", False), ("v1.30.0-eks-036c24b", True), ("v1.30.2+k3s1", True), ("v1.36.0-rc.1", True)],
)
def test_vendors_versions_of_kubernetes_are_understood(release: str, served: bool) -> None:
    found = names(render(kubernetes=release))
    assert ("ValidatingAdmissionPolicy/cv-interface-discovery" in found) == served


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    assert "requires kubeVersion: >=1.24.0-0" in template(NEEDED, kubernetes="v1.23.17").stderr

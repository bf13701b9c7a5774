"""The kinds that a simulated API server serves: group, version, kind, plural."""

import msgspec

CRDS = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
CORE_KINDS = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Event", "events"),
    ("", "v1", "Node", "nodes"),
    ("apps", "v1", "Deployment", "deployments"),
    ("batch", "v1", "Job", "jobs"),
    ("coordination.k8s.io", "v1", "Lease", "leases"),
    CRDS,
]
CLAIMS = ("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
RUN_AI = ("Training", "Inference", "Interactive", "Distributed", "DistributedInference", "External")
JOB_KINDS = [
    *(
        ("kubeflow.org", "v1", kind, kind.lower() + "s")
        for kind in ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob")
    ),
    ("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"),
    ("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets"),
    ("argoproj.io", "v1alpha1", "Workflow", "workflows"),
    ("run.ai", "v1", "RunaiJob", "runaijobs"),
    *(("run.ai", "v2alpha1", f"{name}Workload", f"{name.lower()}workloads") for name in RUN_AI),
    ("run.ai", "v2alpha1", "WorkloadRunner", "workloadrunners"),
    ("batch.volcano.sh", "v1alpha1", "Job", "jobs"),
    ("ray.io", "v1", "RayJob", "rayjobs"),
    ("ray.io", "v1", "RayCluster", "rayclusters"),
]
# A kind that operators add by JOB_KINDS.
SPARK = ("sparkoperator.k8s.io", "v1beta2", "SparkApplication", "sparkapplications")
NODE_KINDS = [
    ("cloudvision.arista.io", "v1", "NodeInterfaceState", "nodeinterfacestates"),
    ("sriovnetwork.openshift.io", "v1", "SriovNetworkNodeState", "sriovnetworknodestates"),
]
REPORT_KINDS = [
    ("cloudvision.arista.io", "v1", "JobReport", "jobreports"),
    ("cloudvision.arista.io", "v1", "NodeReport", "nodereports"),
]
BUILT_IN = {CLAIMS[0], *(kind[0] for kind in CORE_KINDS)}  # groups
CLUSTER_SCOPED = {"nodes", CRDS[3]}


class Kind(msgspec.Struct, frozen=True):
    """A served resource."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def crd(self) -> str:
        """The name of the CRD that defines it; "" where none does."""
        return "" if self.group in BUILT_IN else f"{self.plural}.{self.group}"

    @property
    def namespaced(self) -> bool:
        return self.plural not in CLUSTER_SCOPED

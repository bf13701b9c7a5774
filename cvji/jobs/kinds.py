"""The registry of job kinds: which kinds are jobs, how each says that it ended, where its times are.

One table is the single source for reading job objects, for what is watched and for the RBAC that the
manifests grant. It is keyed by group and kind: `Job` is batch's and Volcano's. Knows no API and no clock.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from cvji.jobs.report import End, JobState
from cvji.kube.objects import Condition, JobObject, Short, Time, Wire, known_time

StatusT = TypeVar("StatusT")
POD = ("", "Pod")


class Job(msgspec.Struct, frozen=True, gc=False):
    """A job object, understood. Times are seconds since the epoch.

    `owner` is the uid of the object that manages it, if that is of a known kind. `end_if_deleted` is an end that
    counts only once the object is deleted. `stopped` says that it is suspended, or stopped in a way that may resume.
    """

    kind: "Kind"
    uid: str
    name: str
    namespace: str
    owner: str | None
    owner_kind: tuple[str, str] | None
    created: int | None
    started: int | None
    end: End | None
    end_if_deleted: End | None
    stopped: bool


class Meaning(msgspec.Struct, frozen=True):
    """What a job's status says; see Job."""

    started: int | None = None
    end: End | None = None
    end_if_deleted: End | None = None
    stopped: bool = False


class Reading(Generic[StatusT]):
    """One way in which operators write a job's status: its struct, and what that struct means."""

    def __init__(self, status: type[StatusT], understand: Callable[[StatusT], Meaning]) -> None:
        # JobObject[...] is made at run time, which the type checker cannot follow.
        self._decoder: msgspec.json.Decoder[JobObject[Any]] = msgspec.json.Decoder(JobObject[status])  # type: ignore[valid-type]
        self._understand = understand

    def read(self, raw: bytes | msgspec.Raw) -> tuple[JobObject[Any], Meaning]:
        """Decode one object. Raises msgspec.ValidationError (naming the field) or msgspec.DecodeError."""
        found = self._decoder.decode(raw)
        return found, Meaning() if found.status is None else self._understand(found.status)


class Kind(msgspec.Struct, frozen=True, gc=False):
    """A row of the registry. `plural` is for RBAC alone: what is watched comes from API discovery.

    With `ends_with_children`, an object that says nothing of its end ends when its child jobs have.
    """

    group: str
    kind: str
    plural: str
    reading: Reading[Any]
    ends_with_children: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Group and kind: what an ownerReference names."""
        return (self.group, self.kind)

    def __str__(self) -> str:
        return f"{self.group}/{self.kind}"


class Registry:
    """The job kinds in force: the built-in table and what the operator added."""

    def __init__(self, extra: Iterable[tuple[str, str]] = ()) -> None:
        table = {kind.key: kind for kind in BUILT_IN}
        for group, kind in extra:
            table.setdefault((group, kind), Kind(group, kind, kind.lower() + "s", GENERIC))
        self._table = table
        self.owners = frozenset({*table, POD})  # a pod may own a job's pods and objects, as a Spark driver does

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._table.values())

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._table

    def read(self, kind: Kind, raw: bytes | msgspec.Raw) -> Job:
        """Understand one object of `kind`. Raises msgspec.ValidationError or msgspec.DecodeError."""
        found, meaning = kind.reading.read(raw)
        meta, spec = found.metadata, found.spec
        owner = meta.owner(self.owners)
        suspended = bool(spec and (spec.suspend or (spec.run_policy and spec.run_policy.suspend)))
        return Job(
            kind=kind,
            uid=sys.intern(meta.uid),
            name=meta.name,
            namespace=sys.intern(meta.namespace),
            owner=sys.intern(owner.uid) if owner else None,
            owner_kind=(owner.group, owner.kind) if owner else None,
            created=known_time(meta.creation_timestamp),
            started=meaning.started,
            end=meaning.end,
            end_if_deleted=meaning.end_if_deleted,
            stopped=suspended or meaning.stopped,
        )


# --- readings ---------------------------------------------------------------------------------------

# batch SuccessCriteriaMet and FailureTarget announce an end and are not one (KEP-3998, KEP-3329).
SUCCEEDED = frozenset({"Complete", "Completed", "Succeeded"})
FAILED = frozenset({"Failed"})


def _condition_end(conditions: list[Condition] | None, completed: Time | None) -> End | None:
    for condition in conditions or ():
        if condition.status == "True" and (condition.type in SUCCEEDED or condition.type in FAILED):
            state = JobState.COMPLETED if condition.type in SUCCEEDED else JobState.FAILED
            return End(state, known_time(completed) or known_time(condition.last_transition_time))
    return None


class ConditionsStatus(Wire):
    """batch, kubeflow.org, trainer.kubeflow.org and jobset.x-k8s.io: conditions with a type."""

    conditions: list[Condition] | None = None
    start_time: Time | None = None
    completion_time: Time | None = None
    terminal_state: Short | None = None


def _read_conditions(status: ConditionsStatus) -> Meaning:
    end = _condition_end(status.conditions, status.completion_time)
    if end is None and status.terminal_state in SUCCEEDED | FAILED:
        succeeded = status.terminal_state in SUCCEEDED
        end = End(JobState.COMPLETED if succeeded else JobState.FAILED, known_time(status.completion_time))
    return Meaning(known_time(status.start_time), end)


class WorkflowStatus(Wire):
    """argoproj.io Workflow; finishedAt is an explicit null while it runs."""

    phase: Short = ""
    started_at: Time | None = None
    finished_at: Time | None = None


# In lower case: operators differ in how they write the same word.
PHASE_ENDS = {
    "succeeded": JobState.COMPLETED,
    "completed": JobState.COMPLETED,
    "complete": JobState.COMPLETED,
    "failed": JobState.FAILED,
    "error": JobState.FAILED,
    "stopped": JobState.CANCELLED,  # run.ai: by its user
}
PHASE_STOPS = frozenset({"preempted", "suspended", "aborted"})


def _read_workflow(status: WorkflowStatus) -> Meaning:
    state = PHASE_ENDS.get(status.phase.lower())
    end = End(state, known_time(status.finished_at)) if state else None
    return Meaning(known_time(status.started_at), end)


class VolcanoState(Wire):
    """batch.volcano.sh JobState."""

    phase: Short = ""
    last_transition_time: Time | None = None


class VolcanoStatus(Wire):
    """batch.volcano.sh JobStatus: `state` is an object."""

    state: VolcanoState | None = None


VOLCANO_ENDS = {"Completed": JobState.COMPLETED, "Failed": JobState.FAILED, "Terminated": JobState.FAILED}


def _read_volcano(status: VolcanoStatus) -> Meaning:
    if status.state is None:
        return Meaning()
    state = VOLCANO_ENDS.get(status.state.phase)
    end = End(state, known_time(status.state.last_transition_time)) if state else None
    return Meaning(end=end, stopped=status.state.phase == "Aborted")  # ResumeJob starts it again


class RayJobInfo(Wire):
    """ray.io RayJobInfo: what the cluster's own job server says."""

    end_time: Time | None = None


class RayJobStatus(Wire):
    """ray.io RayJobStatus."""

    job_status: Short = ""
    job_deployment_status: Short = ""
    start_time: Time | None = None
    end_time: Time | None = None
    ray_job_info: RayJobInfo | None = None


RAY_ENDS = {"SUCCEEDED": JobState.COMPLETED, "STOPPED": JobState.CANCELLED}
RAY_DEPLOYMENT_ENDS = frozenset({"Complete", "Failed"})
RAY_DEPLOYMENT_STOPS = frozenset({"Suspending", "Suspended"})


def _read_rayjob(status: RayJobStatus) -> Meaning:
    """KubeRay PR 1762, issue 3553: jobDeploymentStatus can stay Running for ever after the job's own end.

    FAILED is the end of an attempt, and of the job only where the deployment has ended too, or with its deletion.
    """
    at = known_time(status.end_time) or known_time(status.ray_job_info.end_time if status.ray_job_info else None)
    stopped = status.job_deployment_status in RAY_DEPLOYMENT_STOPS
    state = None if stopped else RAY_ENDS.get(status.job_status)
    if state is None and status.job_deployment_status in RAY_DEPLOYMENT_ENDS:
        state = JobState.FAILED
    return Meaning(
        started=known_time(status.start_time),
        end=End(state, at) if state else None,
        end_if_deleted=End(JobState.FAILED, at) if status.job_status == "FAILED" else None,
        stopped=stopped,
    )


class RayClusterStatus(Wire):
    """ray.io RayClusterStatus."""

    state: Short = ""


def _read_raycluster(status: RayClusterStatus) -> Meaning:
    return Meaning(end=End(JobState.FAILED) if status.state.lower() == "failed" else None)


class GenericState(Wire):
    """A state that is an object with a phase in it."""

    phase: Short | None = None


class GenericStatus(Wire):
    """Kinds whose status is known only by convention: conditions, else a phase or state."""

    conditions: list[Condition] | None = None
    phase: Short | None = None
    state: Short | GenericState | None = None
    start_time: Time | None = None
    started_at: Time | None = None
    completion_time: Time | None = None
    finished_at: Time | None = None
    end_time: Time | None = None


def _read_generic(status: GenericStatus) -> Meaning:
    ended_at = status.completion_time or status.finished_at or status.end_time
    state = status.state.phase if isinstance(status.state, GenericState) else status.state
    word = (status.phase or state or "").lower()
    end = _condition_end(status.conditions, ended_at)
    if end is None and word in PHASE_ENDS:
        end = End(PHASE_ENDS[word], known_time(ended_at))
    return Meaning(known_time(status.start_time or status.started_at), end, stopped=word in PHASE_STOPS)


CONDITIONS = Reading(ConditionsStatus, _read_conditions)
WORKFLOW = Reading(WorkflowStatus, _read_workflow)
VOLCANO = Reading(VolcanoStatus, _read_volcano)
RAYJOB = Reading(RayJobStatus, _read_rayjob)
RAYCLUSTER = Reading(RayClusterStatus, _read_raycluster)
GENERIC = Reading(GenericStatus, _read_generic)

BUILT_IN: tuple[Kind, ...] = (
    Kind("batch", "Job", "jobs", CONDITIONS),
    Kind("kubeflow.org", "PyTorchJob", "pytorchjobs", CONDITIONS),
    Kind("kubeflow.org", "TFJob", "tfjobs", CONDITIONS),
    Kind("kubeflow.org", "MPIJob", "mpijobs", CONDITIONS),
    Kind("kubeflow.org", "XGBoostJob", "xgboostjobs", CONDITIONS),
    Kind("kubeflow.org", "PaddleJob", "paddlejobs", CONDITIONS),
    Kind("kubeflow.org", "JAXJob", "jaxjobs", CONDITIONS),
    Kind("trainer.kubeflow.org", "TrainJob", "trainjobs", CONDITIONS),
    Kind("jobset.x-k8s.io", "JobSet", "jobsets", CONDITIONS),
    # WorkflowTemplate and CronWorkflow own Workflows and are templates, not jobs: not in the table,
    # so that the climb stops below them.
    Kind("argoproj.io", "Workflow", "workflows", WORKFLOW),
    # No public object of run.ai's carries a status: read by convention, ended when their children have.
    Kind("run.ai", "RunaiJob", "runaijobs", GENERIC, ends_with_children=True),
    Kind("run.ai", "TrainingWorkload", "trainingworkloads", GENERIC, ends_with_children=True),
    Kind("run.ai", "InferenceWorkload", "inferenceworkloads", GENERIC, ends_with_children=True),
    Kind("run.ai", "InteractiveWorkload", "interactiveworkloads", GENERIC, ends_with_children=True),
    Kind("run.ai", "DistributedWorkload", "distributedworkloads", GENERIC, ends_with_children=True),
    Kind(
        "run.ai",
        "DistributedInferenceWorkload",
        "distributedinferenceworkloads",
        GENERIC,
        ends_with_children=True,
    ),
    Kind("run.ai", "ExternalWorkload", "externalworkloads", GENERIC, ends_with_children=True),
    Kind("run.ai", "WorkloadRunner", "workloadrunners", GENERIC, ends_with_children=True),
    Kind("batch.volcano.sh", "Job", "jobs", VOLCANO),
    Kind("ray.io", "RayJob", "rayjobs", RAYJOB),
    Kind("ray.io", "RayCluster", "rayclusters", RAYCLUSTER),
)

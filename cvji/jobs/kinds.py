"""The registry of job kinds: which kinds are jobs, how each says that it ended, where its times are.

One table is the single source for reading job objects, for what is watched and for the RBAC that the
manifests grant. It is keyed by group and kind: `Job` is batch's and Volcano's. Knows no API and no clock.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from cvji.jobs.report import End, JobState
from cvji.kube.objects import Condition, JobObject, Short, Time, Wire, known_time

StatusT = TypeVar("StatusT")


class Job(msgspec.Struct, frozen=True, gc=False):
    """A job object, understood. `owner` is the controller's uid, if that is of a known kind."""

    kind: "Kind"
    uid: str
    name: str
    namespace: str
    owner: str | None
    owner_kind: tuple[str, str] | None
    created: datetime | None
    started: datetime | None
    end: End | None
    suspended: bool
    deleting: bool


class Verdict(msgspec.Struct, frozen=True):
    """What a status says: when the job started, and how it ended."""

    started: datetime | None = None
    end: End | None = None


class Reading(Generic[StatusT]):
    """One way in which operators write a job's status: its struct, and what that struct means."""

    def __init__(self, status: type[StatusT], judge: Callable[[StatusT], Verdict]) -> None:
        # JobObject[...] is made at run time, which the type checker cannot follow.
        self._decoder: msgspec.json.Decoder[JobObject[Any]] = msgspec.json.Decoder(JobObject[status])  # type: ignore[valid-type]
        self._judge = judge

    def read(self, raw: bytes | msgspec.Raw) -> tuple[JobObject[Any], Verdict]:
        """Decode one object. Raises msgspec.ValidationError (naming the field) or msgspec.DecodeError."""
        found = self._decoder.decode(raw)
        return found, Verdict() if found.status is None else self._judge(found.status)


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

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._table.values())

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._table

    def read(self, kind: Kind, raw: bytes | msgspec.Raw) -> Job:
        """Understand one object of `kind`. Raises msgspec.ValidationError or msgspec.DecodeError."""
        found, verdict = kind.reading.read(raw)
        meta, spec = found.metadata, found.spec
        owner = meta.controller()
        if owner is not None and (owner.group, owner.kind) not in self._table:
            owner = None
        return Job(
            kind=kind,
            uid=meta.uid,
            name=meta.name,
            namespace=meta.namespace,
            owner=owner.uid if owner else None,
            owner_kind=(owner.group, owner.kind) if owner else None,
            created=known_time(meta.creation_timestamp),
            started=verdict.started,
            end=verdict.end,
            suspended=bool(spec and (spec.suspend or (spec.run_policy and spec.run_policy.suspend))),
            deleting=meta.deletion_timestamp is not None,
        )


# --- readings ---------------------------------------------------------------------------------------

# batch SuccessCriteriaMet and FailureTarget announce an end and are not one (KEP-3998, KEP-3329).
SUCCEEDED = frozenset({"Complete", "Completed", "Succeeded"})
FAILED = frozenset({"Failed"})


def _condition_end(conditions: list[Condition] | None, completed: datetime | None) -> End | None:
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


def _judge_conditions(status: ConditionsStatus) -> Verdict:
    end = _condition_end(status.conditions, status.completion_time)
    if end is None and status.terminal_state in SUCCEEDED | FAILED:
        succeeded = status.terminal_state in SUCCEEDED
        end = End(JobState.COMPLETED if succeeded else JobState.FAILED, known_time(status.completion_time))
    return Verdict(known_time(status.start_time), end)


class WorkflowStatus(Wire):
    """argoproj.io Workflow; finishedAt is an explicit null while it runs."""

    phase: Short = ""
    started_at: Time | None = None
    finished_at: Time | None = None


PHASE_ENDS = {
    "Succeeded": JobState.COMPLETED,
    "Completed": JobState.COMPLETED,
    "Complete": JobState.COMPLETED,
    "Failed": JobState.FAILED,
    "Error": JobState.FAILED,
}


def _judge_workflow(status: WorkflowStatus) -> Verdict:
    state = PHASE_ENDS.get(status.phase)
    end = End(state, known_time(status.finished_at)) if state else None
    return Verdict(known_time(status.started_at), end)


class VolcanoState(Wire):
    """batch.volcano.sh JobState."""

    phase: Short = ""
    last_transition_time: Time | None = None


class VolcanoStatus(Wire):
    """batch.volcano.sh JobStatus: `state` is an object."""

    state: VolcanoState | None = None


# Aborted can be resumed (ResumeJob); then the job starts anew.
VOLCANO_ENDS = {
    "Completed": JobState.COMPLETED,
    "Failed": JobState.FAILED,
    "Terminated": JobState.FAILED,
    "Aborted": JobState.CANCELLED,
}


def _judge_volcano(status: VolcanoStatus) -> Verdict:
    state = VOLCANO_ENDS.get(status.state.phase) if status.state else None
    end = End(state, known_time(status.state.last_transition_time)) if status.state and state else None
    return Verdict(end=end)


class RayJobStatus(Wire):
    """ray.io RayJobStatus."""

    job_status: Short = ""
    job_deployment_status: Short = ""
    start_time: Time | None = None
    end_time: Time | None = None


RAY_ENDS = {"SUCCEEDED": JobState.COMPLETED, "STOPPED": JobState.CANCELLED}


def _judge_rayjob(status: RayJobStatus) -> Verdict:
    # jobDeploymentStatus decides: jobStatus is FAILED between attempts too, and can stay RUNNING for ever.
    end = None
    if status.job_deployment_status in ("Complete", "Failed"):
        end = End(RAY_ENDS.get(status.job_status, JobState.FAILED), known_time(status.end_time))
    return Verdict(known_time(status.start_time), end)


class RayClusterStatus(Wire):
    """ray.io RayClusterStatus."""

    state: Short = ""


def _judge_raycluster(status: RayClusterStatus) -> Verdict:
    return Verdict(end=End(JobState.FAILED) if status.state == "failed" else None)


class GenericState(Wire):
    """A state that is an object with a phase in it."""

    phase: Short | None = None


class GenericStatus(Wire):
    """Kinds whose status is known only by habit: conditions, else a phase or state."""

    conditions: list[Condition] | None = None
    phase: Short | None = None
    state: Short | GenericState | None = None
    start_time: Time | None = None
    started_at: Time | None = None
    completion_time: Time | None = None
    finished_at: Time | None = None
    end_time: Time | None = None


def _judge_generic(status: GenericStatus) -> Verdict:
    ended_at = status.completion_time or status.finished_at or status.end_time
    end = _condition_end(status.conditions, ended_at)
    if end is None:
        state = status.state.phase if isinstance(status.state, GenericState) else status.state
        word = status.phase or state or ""
        if word in PHASE_ENDS:
            end = End(PHASE_ENDS[word], known_time(ended_at))
    return Verdict(known_time(status.start_time or status.started_at), end)


CONDITIONS = Reading(ConditionsStatus, _judge_conditions)
WORKFLOW = Reading(WorkflowStatus, _judge_workflow)
VOLCANO = Reading(VolcanoStatus, _judge_volcano)
RAYJOB = Reading(RayJobStatus, _judge_rayjob)
RAYCLUSTER = Reading(RayClusterStatus, _judge_raycluster)
GENERIC = Reading(GenericStatus, _judge_generic)

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
    # No public object of run.ai's carries a status: read by habit, ended by its children.
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
    Kind("batch.volcano.sh", "Job", "jobs", VOLCANO),
    Kind("ray.io", "RayJob", "rayjobs", RAYJOB),
    Kind("ray.io", "RayCluster", "rayclusters", RAYCLUSTER),
)

"""When a run is reported and how it ends, where delays, clocks and owners make it hard. One body for each cluster."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.in_process import InProcess, relay_to
from tests.e2e.kit import Stage
from tests.e2e.test_runs import (
    BATCH,
    CLUSTER,
    RUN_AI,
    TORCH,
    VOLCANO,
    WORKFLOW,
    begin,
    finish,
    mac,
    macs,
)
from tests.simulator.kinds import SPARK
from tests.simulator.objects import Object, job, pod, pod_status, running
from tests.simulator.proxy import Relay

RAY_JOB = ("ray.io", "RayJob")


# --- ends and deletions that are seen together --------------------------------------------------------


def begin_many(informer: InProcess, kind: tuple[str, str], count: int, start: str) -> list[tuple[Object, Object]]:
    """Jobs j0, j1, ... of one pod each, reported RUNNING; each with its pod."""
    found = []
    for number in range(count):
        made = informer.cluster.create(job(*kind, f"j{number}"), running(*kind, start))
        found.append((made, informer.cluster.run_pod(pod(f"j{number}-0", made, mac(number)), start)))
    informer.advance(6)
    assert [informer.states(f"j{number}") for number in range(count)] == [
        [("RUNNING", macs(number))] for number in range(count)
    ]
    return found


def end_and_go(informer: InProcess, kind: tuple[str, str], made: Object, runs: Object, start: str) -> None:
    """The job completes, and is deleted at once with its pod."""
    informer.cluster.set_status(runs, pod_status("Succeeded", start, informer.stamp()))
    finish(informer, kind, made, start)
    informer.cluster.delete(made)
    informer.cluster.delete(runs, missing_ok=True)  # a real garbage collector may have been first


@pytest.fixture
def cut_off(stage: Stage) -> Iterator[tuple[InProcess, Relay]]:
    """An informer whose connections to the API server can be cut."""
    with relay_to(stage.cluster.server) as (relay, server), InProcess(stage, server=server) as informer:
        yield informer, relay


@pytest.mark.parametrize("kind", [BATCH, TORCH, VOLCANO], ids="-".join)
def test_jobs_that_complete_and_are_deleted_while_the_api_server_is_away_are_completed(
    cut_off: tuple[InProcess, Relay], kind: tuple[str, str]
) -> None:
    informer, relay = cut_off
    start = informer.stamp()
    jobs = begin_many(informer, kind, 10, start)
    relay.refuse()
    end = informer.stamp()
    for made, runs in jobs:
        end_and_go(informer, kind, made, runs, start)
    informer.turn(3)
    relay.resume()
    found = [informer.runs(f"j{number}") for number in range(10)]
    assert [[(run.state, run.end) for run in runs] for runs in found] == [[("COMPLETED", end)]] * 10


def test_jobs_without_a_time_to_live_that_end_in_a_burst_are_all_completed(informer: InProcess) -> None:
    start = informer.stamp()
    jobs = begin_many(informer, BATCH, 150, start)
    end = informer.stamp()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: end_and_go(informer, BATCH, pair[0], pair[1], start), jobs))
    informer.advance(6)
    found = [informer.runs(f"j{number}") for number in range(150)]
    assert [[(run.state, run.end) for run in runs] for runs in found] == [[("COMPLETED", end)]] * 150


# --- with a part of the pods --------------------------------------------------------------------------


def test_a_gang_that_is_not_complete_is_reported_after_a_minute_with_what_it_holds(informer: InProcess) -> None:
    start = informer.stamp()
    made = informer.cluster.create(job(*VOLCANO, "gang"), running(*VOLCANO, start))
    pods = [informer.cluster.run_pod(pod(f"gang-{number}", made, mac(number)), start) for number in (0, 1)]
    informer.cluster.create(pod("gang-2", made, node=""), {"phase": "Pending"})
    informer.advance(58)
    assert informer.runs("gang") == []
    informer.advance(4)
    assert informer.states("gang") == [("RUNNING", macs(0, 1))]
    for runs in pods:
        informer.cluster.set_status(runs, pod_status("Succeeded", start, informer.stamp()))
    finish(informer, VOLCANO, made, start)
    (run,) = informer.runs("gang")
    assert (run.state, run.macs, run.start, run.end) == ("COMPLETED", macs(0, 1), start, informer.stamp())


def indexed(index: int, made: Object, number: int) -> Object:
    found = pod(f"indexed-{index}", made, mac(number))
    place = {"batch.kubernetes.io/job-completion-index": str(index)}
    found["metadata"]["annotations"] |= place
    found["metadata"]["labels"] = place
    return found


def test_an_index_that_failed_for_good_does_not_keep_the_others_from_being_reported(informer: InProcess) -> None:
    start = informer.stamp()
    wanted = job(*BATCH, "indexed")
    wanted["spec"] |= {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": 0}
    made = informer.cluster.create(wanted, running(*BATCH, start))
    pods = [informer.cluster.run_pod(indexed(number, made, number), start) for number in range(3)]
    informer.advance(2)
    informer.cluster.set_status(pods[1], pod_status("Failed", start, informer.stamp()))
    informer.advance(56)
    assert informer.runs("indexed") == []
    informer.advance(4)
    assert informer.states("indexed") == [("RUNNING", macs(0, 2))]
    for runs in (pods[0], pods[2]):
        informer.cluster.set_status(runs, pod_status("Succeeded", start, informer.stamp()))
    finish(informer, BATCH, made, start, "FAILED")
    (run,) = informer.runs("indexed")
    assert (run.state, run.macs, run.start, run.end) == ("FAILED", macs(0, 2), start, informer.stamp())


@pytest.mark.parametrize(("ahead", "wait"), [(4.0, 1.5), (60.0, 11.0)])
def test_a_retry_is_one_whatever_the_clocks_of_the_nodes_say(informer: InProcess, ahead: float, wait: float) -> None:
    """The numbers in the names of a Workflow's pods are hashes, not places."""
    start = informer.stamp()
    made = informer.cluster.create(job(*WORKFLOW, "wf"), running(*WORKFLOW, start))
    first = informer.cluster.run_pod(pod("wf-main-2069127366", made, mac(1)), informer.stamp(ahead))
    informer.elapse(2)
    informer.cluster.set_status(first, pod_status("Failed", informer.stamp(ahead - 2), informer.stamp(ahead)))
    informer.elapse(wait)
    began = informer.stamp()
    second = informer.cluster.run_pod(pod("wf-main-3713543391", made, mac(2)), began)
    informer.advance(6)
    assert informer.states("wf") == [("RUNNING", macs(2))]
    informer.cluster.set_status(second, pod_status("Succeeded", began, informer.stamp()))
    finish(informer, WORKFLOW, made, start)
    (run,) = informer.runs("wf")
    assert (run.state, run.macs, run.end) == ("COMPLETED", macs(2), informer.stamp())


# --- what never ran -----------------------------------------------------------------------------------


def test_a_container_that_never_started_is_not_a_run(informer: InProcess) -> None:
    """containerd and StartError: startedAt is 1970."""
    start = informer.stamp()
    made = informer.cluster.create(job(*BATCH, "never"), running(*BATCH, start))
    status = pod_status("Failed", "1970-01-01T00:00:00Z", informer.stamp())
    status["containerStatuses"][0]["state"]["terminated"] |= {"reason": "StartError", "exitCode": 128}
    status["startTime"] = start
    informer.cluster.create(pod("never-0", made, mac(1)), status)
    informer.advance(70)
    finish(informer, BATCH, made, start, "FAILED")
    informer.advance(10)
    assert informer.runs("never") == []


@pytest.mark.parametrize("first", ["Aborted", "Running"])
def test_a_run_too_short_to_count_whose_pods_never_all_ran_is_never_sent(stage: Stage, first: str) -> None:
    """Whatever the job's state was when an informer first saw it."""
    informer = InProcess(stage)
    status = {"state": {"phase": first, "lastTransitionTime": informer.stamp()}}
    made = informer.cluster.create(job(*VOLCANO, "short"), status)
    with informer:
        informer.advance(10)
        start = informer.stamp()
        informer.cluster.set_status(made, running(*VOLCANO, start))
        runs = informer.cluster.run_pod(pod("short-0", made, mac(1)), start)
        informer.cluster.create(pod("short-1", made, node=""), {"phase": "Pending"})
        informer.advance(20)
        informer.cluster.set_status(runs, pod_status("Succeeded", start, informer.stamp()))
        finish(informer, VOLCANO, made, start)
        informer.advance(70)
        assert informer.runs("short") == []


# --- owners and kinds ---------------------------------------------------------------------------------


def test_a_ray_cluster_that_outlives_its_job_is_a_job_of_its_own(informer: InProcess) -> None:
    """It serves another RayJob by clusterSelector, which owns none of its pods."""
    start = informer.stamp()
    made = informer.cluster.create(job(*RAY_JOB, "first"), running(*RAY_JOB, start))
    cluster = informer.cluster.create(job(*CLUSTER, "shared", owner=made), running(*CLUSTER, start))
    for number in (1, 2):
        informer.cluster.run_pod(pod(f"shared-{number}", cluster, mac(number)), start)
    informer.advance(6)
    assert informer.states("first") == [("RUNNING", macs(1, 2))]
    finish(informer, RAY_JOB, made, start)
    end = informer.stamp()
    other = job(*RAY_JOB, "second")
    other["spec"]["clusterSelector"] = {"ray.io/cluster": "shared"}
    informer.cluster.create(other, running(*RAY_JOB, end))
    informer.advance(55)
    assert informer.runs("shared") == []
    informer.advance(15)
    (run,) = informer.runs("first")
    assert (run.state, run.macs, run.end) == ("COMPLETED", macs(1, 2), end)
    assert informer.states("shared") == [("RUNNING", macs(1, 2))]
    assert informer.runs("shared")[0].id == cluster["metadata"]["uid"]
    assert informer.runs("second") == []
    informer.cluster.delete(cluster)
    assert informer.states("shared") == [("CANCELLED", macs(1, 2))]


@pytest.fixture
def with_spark(stage: Stage) -> Iterator[InProcess]:
    """An informer with JOB_KINDS=sparkoperator.k8s.io/SparkApplication."""
    with InProcess(stage, job_kinds=((SPARK[0], SPARK[2]),)) as informer:
        yield informer


def test_pods_that_a_pod_owns_belong_to_its_job(with_spark: InProcess) -> None:
    informer = with_spark
    start = informer.stamp()
    made = informer.cluster.create(job(SPARK[0], SPARK[2], "pi"))
    driver = informer.cluster.run_pod(pod("pi-driver", made, mac(1)), start)
    for number in (2, 3):
        informer.cluster.run_pod(
            pod(f"pi-exec-{number}", {"apiVersion": "v1", "kind": "Pod", **driver}, mac(number)), start
        )
    informer.advance(6)
    assert informer.states("pi") == [("RUNNING", macs(1, 2, 3))]
    informer.cluster.delete(made)
    assert informer.states("pi") == [("CANCELLED", macs(1, 2, 3))]


def ray_status(start: str, end: str, where: str) -> Object:
    """jobDeploymentStatus can stay Running for ever (KubeRay issue 3553)."""
    status: dict[str, Any] = {"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED", "startTime": start}
    return status | ({"endTime": end} if where == "endTime" else {"rayJobInfo": {"startTime": start, "endTime": end}})


@pytest.mark.parametrize("where", ["endTime", "rayJobInfo.endTime"])
def test_a_ray_job_that_succeeded_has_ended_whatever_its_deployment_status(informer: InProcess, where: str) -> None:
    start = informer.stamp()
    made, _ = begin(informer, RAY_JOB, "ray", 1)
    end = informer.stamp()
    informer.cluster.set_status(made, ray_status(start, end, where))
    (run,) = informer.runs("ray")
    assert (run.state, run.start, run.end) == ("COMPLETED", start, end)
    informer.advance(120)
    informer.cluster.delete(made)
    assert informer.runs("ray") == [run]


@pytest.mark.parametrize("kind", RUN_AI, ids="-".join)
def test_a_run_ai_workload_ends_in_any_letter_case(informer: InProcess, kind: tuple[str, str]) -> None:
    for number, phase in enumerate(("completed", "COMPLETED", "succeeded", "Succeeded")):
        start = informer.stamp()
        made, (runs,) = begin(informer, kind, f"w{number}", number)
        end = informer.stamp()
        informer.cluster.set_status(runs, pod_status("Succeeded", start, end))
        informer.cluster.set_status(made, {"phase": phase})
        (run,) = informer.runs(f"w{number}")
        assert (run.state, run.macs, run.start, run.end) == ("COMPLETED", macs(number), start, end)


@pytest.mark.parametrize("kind", RUN_AI, ids="-".join)
def test_a_run_ai_workload_that_is_stopped_with_its_pods_gone_is_cancelled(
    informer: InProcess, kind: tuple[str, str]
) -> None:
    made, (runs,) = begin(informer, kind, "w", 1)
    informer.cluster.delete(runs)
    informer.cluster.set_status(made, {"phase": "Stopped"})
    assert informer.states("w") == [("CANCELLED", macs(1))]
    informer.advance(600)
    informer.cluster.delete(made)
    assert informer.states("w") == [("CANCELLED", macs(1))]

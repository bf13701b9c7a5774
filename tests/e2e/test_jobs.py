"""A job in Kubernetes is a right entry in CloudVision; one body for a simulated and a real cluster."""

from typing import Any

import pytest

from tests.e2e.kit import Stage, stamp
from tests.simulator.kinds import JOB_KINDS
from tests.simulator.objects import Object, ended, job, pod, pod_status, running

ALL_KINDS = [("batch", "Job"), *((group, kind) for group, _, kind, _ in JOB_KINDS)]


def mac(number: int) -> str:
    return f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"


def test_each_kind_reaches_running_and_each_of_its_ends(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    expected: list[tuple[str, str, str | None, Any]] = []
    start, end = stamp(-100), stamp(-10)
    for number, (group, kind) in enumerate(ALL_KINDS):
        for state in ("COMPLETED", "FAILED", "CANCELLED"):
            name = f"{kind.lower()}-{group.replace('.', '-')}-{state.lower()}"
            made = cluster.create(job(group, kind, name))
            if begun := running(group, kind, start):
                made = cluster.set_status(made, begun)
            cluster.run_pod(pod(f"{name}-0", made, mac(number)), start)
            expected.append((name, state, end if group != "ray.io" or kind != "RayCluster" else None, made))
    for name, *_ in expected:
        (entry,) = stage.wait_for_states(name, "RUNNING")
        assert entry["start_time"] == start
        assert "end_time" not in entry
    for _, state, _, made in expected:
        status = ending(made, state, start, end)
        if status is None:
            cluster.delete(made)
        else:
            cluster.set_status(made, status)
    for name, state, at, made in expected:
        reported = ending(made, state, start, end) is not None
        entry = stage.wait_for_states(name, "RUNNING", state if reported else "CANCELLED")[-1]
        assert entry["start_time"] == start
        assert entry["interfaces"]["values"]
        if at and reported:
            assert entry["end_time"] == at


def ending(made: Object, state: str, start: str, end: str) -> Object | None:
    return ended(made["apiVersion"].split("/")[0], made["kind"], state, start, end)


START, END = stamp(-100), stamp(-10)


def conditions(*types: str, at: str = END) -> Object:
    found = [{"type": name, "status": "True", "lastTransitionTime": at, "reason": "R", "message": ""} for name in types]
    return {"conditions": found}


def volcano(phase: str) -> Object:
    return {"state": {"phase": phase, "lastTransitionTime": END}, "conditions": [{"status": phase}]}


def ray(deployment: str, state: str) -> Object:
    return {"jobDeploymentStatus": deployment, "jobStatus": state, "startTime": START, "endTime": END}


KUBEFLOW = [(group, kind) for group, _, kind, _ in JOB_KINDS if group == "kubeflow.org"]
RUN_AI = [(group, kind) for group, _, kind, _ in JOB_KINDS if group == "run.ai"]
# Statuses that are no end, then one that is; with the state that is then reported. Each as its operator writes it.
WORDS: list[tuple[tuple[str, str], list[Object], Object, str]] = [
    (("batch.volcano.sh", "Job"), [volcano("Restarting"), volcano("Terminating")], volcano("Terminated"), "FAILED"),
    (("batch.volcano.sh", "Job"), [volcano("Completing")], volcano("Completed"), "COMPLETED"),
    (("argoproj.io", "Workflow"), [{"phase": "Running"}], {"phase": "Failed", "finishedAt": END}, "FAILED"),
    (("argoproj.io", "Workflow"), [], {"phase": "Error", "finishedAt": END}, "FAILED"),
    (("ray.io", "RayJob"), [ray("Retrying", "FAILED"), ray("Running", "FAILED")], ray("Failed", "FAILED"), "FAILED"),
    (("ray.io", "RayJob"), [ray("Running", "RUNNING")], ray("Running", "SUCCEEDED"), "COMPLETED"),
    (("ray.io", "RayJob"), [], ray("Complete", "FAILED"), "FAILED"),
    (("ray.io", "RayJob"), [], ray("Failed", "RUNNING"), "FAILED"),
    (("ray.io", "RayJob"), [ray("Suspended", "PENDING")], ray("Running", "STOPPED"), "CANCELLED"),
    (("ray.io", "RayCluster"), [{"state": "ready"}, {"state": "suspended"}], {"state": "failed"}, "FAILED"),
    (("jobset.x-k8s.io", "JobSet"), [conditions("StartupPolicyCompleted")], conditions("Failed"), "FAILED"),
    (
        ("jobset.x-k8s.io", "JobSet"),
        [{"terminalState": ""}],
        {"terminalState": "Completed", **conditions("Completed")},
        "COMPLETED",
    ),
    (("trainer.kubeflow.org", "TrainJob"), [conditions("Created", "Suspended")], conditions("Complete"), "COMPLETED"),
    *((kind, [conditions("Created", "Restarting")], conditions("Created", "Failed"), "FAILED") for kind in KUBEFLOW),
    *((kind, [{"phase": "Running"}], {"phase": "Error", "completionTime": END}, "FAILED") for kind in RUN_AI),
    *((kind, [], {"phase": "Completed", "completionTime": END}, "COMPLETED") for kind in RUN_AI),
    *((kind, [], conditions("Succeeded"), "COMPLETED") for kind in RUN_AI),
    *((kind, [], {"phase": "stopped", "completionTime": END}, "CANCELLED") for kind in RUN_AI),
]


def test_every_further_word_for_an_end_and_for_what_is_none(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer(START_MAX_WAIT="60s")
    made = []
    for number, (kind, *_) in enumerate(WORDS):
        name = f"j{number:02}-{kind[1].lower()}"
        owner = cluster.create(job(*kind, name))
        made.append((name, owner, cluster.run_pod(pod(f"{name}-0", owner, mac(number)), START)))
    for (name, owner, _), (_, no_ends, _, _) in zip(made, WORDS, strict=True):
        stage.wait_for_states(name, "RUNNING")
        for status in no_ends:
            cluster.set_status(owner, status)
    for (name, owner, runs), (kind, _, status, state) in zip(made, WORDS, strict=True):
        if kind == ("ray.io", "RayCluster"):  # no time of its own: its pods have
            cluster.set_status(runs, pod_status("Failed", START, END))
            later = cluster.create(job("batch", "Job", "later"))
            cluster.run_pod(pod("later-0", later, mac(99)), START)
            stage.wait_for_states("later", "RUNNING")  # pods are watched in order: the failed one has been seen
        cluster.set_status(owner, status)
        first, last = stage.wait_for_states(name, "RUNNING", state)
        assert last["end_time"] == END, name
        assert first["start_time"] == last["start_time"] == START, name


def test_a_run_ai_workload_without_a_status_ends_with_its_child(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    children = []
    for number, kind in enumerate(RUN_AI):
        owner = cluster.create(job(*kind, f"w-{kind[1].lower()}"))
        child = cluster.create(job("kubeflow.org", "PyTorchJob", f"c-{kind[1].lower()}", owner=owner))
        child = cluster.set_status(child, running("kubeflow.org", "PyTorchJob", START))
        cluster.run_pod(pod(f"c-{number}-0", child, mac(number)), START)
        children.append((owner["metadata"]["name"], child))
    for number, (name, child) in enumerate(children):
        stage.wait_for_states(name, "RUNNING")
        state = "FAILED" if number % 2 else "COMPLETED"
        cluster.set_status(child, ended("kubeflow.org", "PyTorchJob", state, START, END) or {})
        last = stage.wait_for_states(name, "RUNNING", state)[-1]
        assert (last["start_time"], last["end_time"]) == (START, END)
    assert len(stage.cloudvision.jobs) == len(RUN_AI)


def test_an_mpi_job_is_its_workers_and_its_launcher(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    mpi = cluster.create(job("kubeflow.org", "MPIJob", "mpi"))
    mpi = cluster.set_status(mpi, running("kubeflow.org", "MPIJob", START))
    launcher = cluster.create(job("batch", "Job", "mpi-launcher", owner=mpi))
    cluster.run_pod(pod("mpi-launcher-x", launcher, mac(1)))
    for number in (2, 3):
        cluster.run_pod(pod(f"mpi-worker-{number}", mpi, mac(number)))
    (entry,) = stage.wait_for_states("mpi", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(1), mac(2), mac(3)]
    cluster.set_status(launcher, ended("batch", "Job", "COMPLETED", START, END) or {})
    cluster.set_status(mpi, ended("kubeflow.org", "MPIJob", "COMPLETED", START, END) or {})
    stage.wait_for_states("mpi", "RUNNING", "COMPLETED")
    assert len(stage.cloudvision.jobs) == 1


GENERIC: list[tuple[Object, str, str | None]] = [
    ({"phase": "Succeeded", "finishedAt": END}, "COMPLETED", END),
    ({"phase": "Failed", "endTime": END}, "FAILED", END),
    ({"state": "Completed", "completionTime": END}, "COMPLETED", END),
    ({"state": {"phase": "Error"}}, "FAILED", None),
    (conditions("Ready", "Complete"), "COMPLETED", END),
    (conditions("Failed"), "FAILED", END),
]


def test_kinds_that_the_operator_adds(kubernetes: Any, simulated: Stage) -> None:
    kubernetes.serve("example.com", "v1", "Training", "trainings")
    kubernetes.serve("example.org", "v2", "Fitting", "fittingses")  # no English rule gives that plural
    simulated.informer("--job-kind", "example.com/Training", "--job-kind", "example.org/Fitting")
    kinds = [("example.com/v1", "Training", "trainings"), ("example.org/v2", "Fitting", "fittingses")]
    made = []
    for number, (status, state, at) in enumerate(GENERIC):
        version, kind, plural = kinds[number % 2]
        name = f"own-{number}"
        meta = {"name": name, "namespace": "team", "uid": f"uid-{name}"}
        owner = kubernetes.create({"apiVersion": version, "kind": kind, "metadata": meta})
        simulated.cluster.run_pod(pod(f"{name}-0", owner, mac(number)), START)
        made.append((name, version.partition("/")[0], plural, status, state, at))
    for name, group, plural, status, state, at in made:
        simulated.wait_for_states(name, "RUNNING")
        kubernetes.patch(group, plural, "team", name, {"status": {"startTime": START, **status}})
        last = simulated.wait_for_states(name, "RUNNING", state)[-1]
        assert at is None or last["end_time"] == at
        assert last["start_time"] == START


def test_a_train_job_is_one_entry_and_a_ray_job_succeeds(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    train = cluster.create(job("trainer.kubeflow.org", "TrainJob", "llm"))
    jobset = cluster.create(job("jobset.x-k8s.io", "JobSet", "llm", owner=train))
    for number in range(2):
        child = cluster.create(job("batch", "Job", f"llm-node-{number}", owner=jobset))
        for index in range(2):
            serial = number * 2 + index
            cluster.run_pod(pod(f"llm-node-{number}-{index}", child, mac(serial)))
    ray = cluster.create(job("ray.io", "RayJob", "tune"))
    ray = cluster.set_status(ray, running("ray.io", "RayJob", stamp(-5)))
    ray_cluster = cluster.create(job("ray.io", "RayCluster", "tune-abcde", owner=ray))
    cluster.run_pod(pod("tune-head", ray_cluster, mac(77)))
    (entry,) = stage.wait_for_states("llm", "RUNNING")
    assert entry["interfaces"]["values"] == [mac(n) for n in range(4)]
    assert entry["key"]["id"] == train["metadata"]["uid"]
    stage.wait_for_states("tune", "RUNNING")
    cluster.set_status(ray, ended("ray.io", "RayJob", "COMPLETED", stamp(-5), stamp()) or {})
    cluster.set_status(train, ended("trainer.kubeflow.org", "TrainJob", "COMPLETED", stamp(-5), stamp()) or {})
    stage.wait_for_states("llm", "RUNNING", "COMPLETED")
    stage.wait_for_states("tune", "RUNNING", "COMPLETED")
    assert {entry["name"] for entry in stage.cloudvision.jobs.values()} == {"llm", "tune"}


def test_direct_owners(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer(JOB_OWNER="direct")
    jobset = cluster.create(job("jobset.x-k8s.io", "JobSet", "set"))
    for number in range(2):
        child = cluster.create(job("batch", "Job", f"set-{number}", owner=jobset))
        cluster.run_pod(pod(f"set-{number}-0", child, mac(number)))
    for number in range(2):
        (entry,) = stage.wait_for_states(f"set-{number}", "RUNNING")
        assert entry["interfaces"]["values"] == [mac(number)]
    assert len(stage.cloudvision.jobs) == 2


def test_node_mode_and_one_namespace(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer(JOBCONFIG_MODE="node", NAMESPACE="team")
    for namespace in ("other", "team"):
        made = cluster.create(job("kubeflow.org", "PyTorchJob", f"in-{namespace}", namespace))
        for node in ("n2", "n1"):
            cluster.run_pod(pod(f"in-{namespace}-{node}", made, mac(1), namespace=namespace, node=node))
    (entry,) = stage.wait_for_states("in-team", "RUNNING")
    assert entry["nodes"]["values"] == ["n1", "n2"]
    assert "interfaces" not in entry
    assert stage.cloudvision.states("in-other") == []


def test_a_nic_gained_a_pod_replaced_and_an_end(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    made = cluster.create(job("kubeflow.org", "PyTorchJob", "grow"))
    first = cluster.run_pod(pod("grow-0", made, mac(1)))
    stage.wait_for_states("grow", "RUNNING")
    second = cluster.run_pod(pod("grow-1", made, mac(2), mac(3)))
    entry = stage.wait_for_states("grow", "RUNNING", "RUNNING")[-1]
    assert entry["interfaces"]["values"] == [mac(1), mac(2), mac(3)]
    cluster.delete(first)
    entry = stage.wait_for_states("grow", *["RUNNING"] * 3)[-1]
    assert entry["interfaces"]["values"] == [mac(2), mac(3)]
    cluster.set_status(second, pod_status("Succeeded", stamp(-3), stamp()))
    cluster.set_status(made, ended("kubeflow.org", "PyTorchJob", "COMPLETED", stamp(-3), stamp()) or {})
    entry = stage.wait_for_states("grow", *["RUNNING"] * 3, "COMPLETED")[-1]
    assert entry["interfaces"]["values"] == [mac(2), mac(3)]


def test_one_name_in_two_namespaces_is_two_jobs(stage: Stage) -> None:
    cluster = stage.cluster
    stage.informer()
    for number, namespace in enumerate(("team", "other")):
        made = cluster.create(job("kubeflow.org", "PyTorchJob", "train", namespace))
        cluster.run_pod(pod("train-worker-0", made, mac(number), namespace=namespace))
    stage.wait_for_states("train", "RUNNING", "RUNNING")
    held = [entry["interfaces"]["values"] for entry in stage.cloudvision.jobs.values()]
    assert sorted(held) == [[mac(0)], [mac(1)]]


def test_what_never_started_is_never_sent_and_what_ended_is_not_sent_again(stage: Stage) -> None:
    cluster, kind = stage.cluster, ("kubeflow.org", "PyTorchJob")
    stage.informer()
    early, gone, done = (cluster.create(job(*kind, name)) for name in ("early", "gone", "done"))
    for number, made in enumerate((early, gone)):  # their pods wait for a node that is not there
        waits = pod(f"{made['metadata']['name']}-0", made, mac(number), node="")
        cluster.create(waits, {"phase": "Pending"})
    cluster.run_pod(pod("done-0", done, mac(2)))
    stage.wait_for_states("done", "RUNNING")
    cluster.set_status(done, ended(*kind, "COMPLETED", stamp(-5), stamp()) or {})
    cluster.set_status(early, ended(*kind, "FAILED", stamp(-5), stamp()) or {})
    cluster.delete(gone)
    stage.wait_for_states("done", "RUNNING", "COMPLETED")
    for made in (done, early):
        cluster.delete(made)
    last = cluster.create(job(*kind, "last"))  # once it is reported, all before it has been judged
    cluster.run_pod(pod("last-0", last, mac(3)))
    stage.wait_for_states("last", "RUNNING")
    assert stage.cloudvision.states("done") == ["RUNNING", "COMPLETED"]
    assert {entry["name"] for entry in stage.cloudvision.jobs.values()} == {"done", "last"}


@pytest.mark.parametrize("verbs", [("list",), ("watch",)])
def test_a_forbidden_kind_is_said_once_and_stops_nothing(kubernetes: Any, simulated: Stage, verbs: tuple[str]) -> None:
    kubernetes.forbid("ray.io", "rayjobs", *verbs)
    program = simulated.informer()
    made = simulated.cluster.create(job("ray.io", "RayCluster", "alone"))
    simulated.cluster.run_pod(pod("alone-0", made, mac(1)))
    simulated.wait_for_states("alone", "RUNNING")
    program.wait_for_log("rayjobs is forbidden")
    assert program.log.count("rayjobs is forbidden") == 1

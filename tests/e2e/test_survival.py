"""Restarts, failovers and outages: nothing is lost and nothing goes back. One body for each kind of cluster."""

import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kit import Program, Stage, free_port, scrape, stamp, write_kubeconfig
from tests.e2e.test_nodes import DISCOVERY, create, node_state
from tests.simulator.kinds import SPARK
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import Object, ended, job, pod
from tests.simulator.server import Fault

TORCH = ("kubeflow.org", "PyTorchJob")
STATE: dict[str, Any] = {"STATE_NAMESPACE": "cloudvision"}
LEADER: dict[str, Any] = {**STATE, "LEADER_ELECT": "true"}


def mac(number: int) -> str:
    return f"02:00:00:00:03:{number:02x}"


def start(stage: Stage, name: str, number: int = 1) -> Object:
    made = stage.cluster.create(job(*TORCH, name), {"startTime": stamp(-30)})
    stage.cluster.run_pod(pod(f"{name}-0", made, mac(number)), stamp(-30))
    return made


def end(stage: Stage, made: Object, state: str = "COMPLETED") -> None:
    stage.cluster.set_status(made, ended(*TORCH, state, stamp(-30), stamp()) or {})


RECORDS = "/apis/cloudvision.arista.io/v1/namespaces/cloudvision"


def records(stage: Stage, plural: str = "jobreports") -> dict[str, Object]:
    """The records in the cluster, by name."""
    found = stage.cluster.call("GET", f"{RECORDS}/{plural}")["items"]
    return {item["metadata"]["name"]: item for item in found}


def is_delivered(record: Object) -> bool:
    status = record.get("status", {})
    (condition,) = status.get("conditions") or [{"status": "False"}]
    seen: bool = status.get("observedGeneration") == record["metadata"]["generation"] and condition["status"] == "True"
    return seen


def recorded(stage: Stage, program: Program) -> None:
    """Wait until it stands in the cluster that CloudVision holds everything."""

    def all_delivered() -> bool:
        found = [*records(stage).values(), *records(stage, "nodereports").values()]
        return bool(found) and all(map(is_delivered, found))

    program.wait_for(all_delivered, 30)


def test_what_happened_while_no_informer_ran(stage: Stage) -> None:
    first = stage.informer(**STATE)
    made = {name: start(stage, name, number) for number, name in enumerate(("deleted", "finished", "goes-on"))}
    nodes = [create(stage, node_state(*DISCOVERY, f"n{n}", mac(40 + n))) for n in range(2)]
    old = {name: stage.wait_for_states(name, "RUNNING")[0] for name in made}
    stage.cloudvision.wait_for(lambda: len(stage.cloudvision.nodes) == 2)
    recorded(stage, first)
    first.kill()
    stage.cluster.delete(made["deleted"])
    end(stage, made["finished"], "FAILED")
    for name in ("deleted", "finished"):
        items = stage.cluster.call("GET", "/api/v1/namespaces/team/pods")["items"]
        for item in items:
            if item["metadata"]["name"] == f"{name}-0":
                stage.cluster.delete({"apiVersion": "v1", "kind": "Pod", **item})
    stage.cluster.delete(nodes[0])
    stage.informer(**STATE)
    for name, state in (("deleted", "CANCELLED"), ("finished", "FAILED")):
        entry = stage.wait_for_states(name, "RUNNING", state, timeout=10)[-1]
        assert entry["start_time"] == old[name]["start_time"]
        assert entry["interfaces"] == old[name]["interfaces"]
    stage.cloudvision.wait_for(lambda: set(stage.cloudvision.nodes) == {"n1"}, 10)
    end(stage, made["goes-on"])
    stage.wait_for_states("goes-on", "RUNNING", "COMPLETED")
    assert [len(stage.cloudvision.node_history[node]) for node in ("n0", "n1")] == [2, 1]


def test_a_change_of_mode_over_a_restart_empties_the_list_of_the_old_mode(stage: Stage) -> None:
    first = stage.informer(**STATE)
    made = start(stage, "a")
    stage.wait_for_runs("a", "RUNNING")
    recorded(stage, first)
    assert first.stop() == 0
    stage.informer(**STATE, JOBCONFIG_MODE="node")
    stage.cloudvision.wait_for(lambda: stage.cloudvision.runs("a")[0].nodes)
    (run,) = stage.cloudvision.runs("a")
    assert (run.state, run.macs, run.nodes) == ("RUNNING", (), ("worker-0",))
    end(stage, made)
    (run,) = stage.wait_for_runs("a", "COMPLETED")
    assert (run.macs, run.nodes) == ((), ("worker-0",))


def test_finished_jobs_are_not_sent_again_at_every_start(stage: Stage) -> None:
    made = start(stage, "before")
    end(stage, made)
    program = stage.informer(**STATE)
    stage.wait_for_states("before", "COMPLETED")  # it ended before the first start of all
    recorded(stage, program)
    for number in range(2):
        assert program.stop() == 0
        program = stage.informer(**STATE)
        start(stage, f"marker-{number}", 9)
        stage.wait_for_states(f"marker-{number}", "RUNNING")
    assert stage.cloudvision.states("before") == ["COMPLETED"]
    assert stage.cloudvision.states("marker-0") == ["RUNNING"]


def test_killed_between_acceptance_and_record_repeats_at_most_once(stage: Stage) -> None:
    cloudvision = stage.cloudvision
    cloudvision.faults.append(Fault(drop=True, after=True))
    program = stage.informer(**STATE)
    made = start(stage, "a")
    cloudvision.wait_for(lambda: cloudvision.states("a") == ["RUNNING"])
    program.kill()  # CloudVision took it, and nobody knows
    end(stage, made)
    program = stage.informer(**STATE)
    cloudvision.wait_for(lambda: cloudvision.states("a")[-1:] == ["COMPLETED"])
    recorded(stage, program)
    assert cloudvision.states("a") in (["RUNNING", "COMPLETED"], ["RUNNING", "RUNNING", "COMPLETED"])


def test_a_report_under_way_when_killed_is_sent_after_the_restart_though_the_job_is_gone(stage: Stage) -> None:
    program = stage.informer(**STATE)
    made = start(stage, "a")
    stage.wait_for_states("a", "RUNNING")
    stage.cloudvision.refuse()
    end(stage, made, "FAILED")
    program.wait_for_log("a is FAILED")
    program.wait_for_log("CloudVision is away")
    program.kill()
    stage.cluster.delete(made)
    stage.cloudvision.resume()
    stage.informer(**STATE)
    entry = stage.wait_for_states("a", "RUNNING", "FAILED")[-1]
    assert entry["interfaces"]["values"] == [mac(1)]


def test_a_standby_takes_over_from_a_killed_leader(stage: Stage) -> None:
    leader = stage.informer(**LEADER)
    standby = stage.informer(**LEADER, ready=False)
    standby.wait_for_log("standing by")
    made = start(stage, "a")
    stage.wait_for_states("a", "RUNNING")
    recorded(stage, leader)
    leader.kill()
    end(stage, made)
    stage.wait_for_states("a", "RUNNING", "COMPLETED", timeout=20)
    assert "reporting from now on" in standby.log


def test_a_stopped_leader_hands_over_at_once(stage: Stage) -> None:
    leader = stage.informer(**LEADER)
    standby = stage.informer(**LEADER, ready=False)
    standby.wait_for_log("standing by")
    assert leader.stop() == 0
    standby.wait_for_log("reporting from now on", 8)
    start(stage, "a")
    stage.wait_for_states("a", "RUNNING")


def test_a_leader_paused_past_its_lease_sends_nothing_more(stage: Stage) -> None:
    paused = stage.informer(**LEADER, LOG_LEVEL="debug")
    standby = stage.informer(**LEADER, ready=False)
    standby.wait_for_log("standing by")
    made = start(stage, "a")
    stage.wait_for_states("a", "RUNNING")
    recorded(stage, paused)
    paused.process.send_signal(signal.SIGSTOP)
    end(stage, made)
    stage.wait_for_states("a", "RUNNING", "COMPLETED", timeout=30)
    before = paused.log.count("delivered")
    paused.process.send_signal(signal.SIGCONT)
    assert paused.process.wait(20) == 1
    assert paused.log.count("delivered") == before
    start(stage, "b")
    stage.wait_for_states("b", "RUNNING")
    assert stage.cloudvision.states("a") == ["RUNNING", "COMPLETED"]


def test_a_standby_whose_watches_went_silent_does_not_report_from_memory(
    kubernetes: KubernetesSimulator, simulated: Stage, tmp_path: Path
) -> None:
    """As when the leader's node and the API server that the standby was connected to fail together."""
    leader = simulated.informer(**LEADER)
    folder = tmp_path / "deaf"
    folder.mkdir()
    file = write_kubeconfig(folder, f"http://{kubernetes.address}", {"token": "deaf"})
    standby = simulated.informer(ready=False, KUBECONFIG=str(file), **LEADER)
    standby.wait_for_log("standing by")
    made = {name: start(simulated, name, number) for number, name in enumerate(("ends", "goes", "stays"))}
    nodes = [create(simulated, node_state(*DISCOVERY, "n0", mac(40)))]
    for name in made:
        simulated.wait_for_states(name, "RUNNING")
    seen = {event: kubernetes.counts[event] for event in ("list pytorchjobs", "list pods")}
    kubernetes.stall(token="deaf")
    end(simulated, made["ends"])
    end(simulated, made["goes"], "FAILED")
    simulated.wait_for_states("ends", "RUNNING", "COMPLETED")
    simulated.wait_for_states("goes", "RUNNING", "FAILED")
    simulated.cluster.delete(made["goes"])
    start(simulated, "new", 5)
    simulated.wait_for_states("new", "RUNNING")
    nodes.append(create(simulated, node_state(*DISCOVERY, "n1", mac(41))))
    simulated.cloudvision.wait_for(lambda: set(simulated.cloudvision.nodes) == {"n0", "n1"})
    recorded(simulated, leader)
    leader.kill()
    standby.wait_for_log("reporting from now on", 25)
    assert {event: kubernetes.counts[event] for event in seen} == {event: count + 1 for event, count in seen.items()}
    start(simulated, "last", 6)
    kubernetes.stall(False, token="deaf")
    simulated.wait_for_states("last", "RUNNING")
    assert [simulated.cloudvision.states(name) for name in ("ends", "goes", "stays", "new")] == [
        ["RUNNING", "COMPLETED"],
        ["RUNNING", "FAILED"],
        ["RUNNING"],
        ["RUNNING"],
    ]
    assert [len(simulated.cloudvision.node_history[node]) for node in ("n0", "n1")] == [1, 1]


def test_a_record_that_cannot_be_read_stops_nothing(stage: Stage) -> None:
    program = stage.informer(**STATE)
    made = start(stage, "a")
    stage.wait_for_states("a", "RUNNING")
    recorded(stage, program)
    program.kill()
    (name,) = records(stage)
    stage.cluster.call("PATCH", f"{RECORDS}/jobreports/{name}", {"spec": {"interfaces": ["00:00:00:00:00:00"]}})
    program = stage.informer(**STATE)
    assert f"JobReport {name}: spec.interfaces[0] is no MAC address" in program.log
    end(stage, made)
    stage.cloudvision.wait_for(lambda: stage.cloudvision.states("a")[-1] == "COMPLETED")
    recorded(stage, program)


def test_records_deleted_or_edited_by_hand_are_written_again(stage: Stage) -> None:
    program = stage.informer(**STATE, RESYNC_INTERVAL="1s")
    made = [start(stage, name, number) for number, name in enumerate("ab")]
    stage.cloudvision.wait_for(lambda: all(stage.cloudvision.states(name) for name in "ab"))
    recorded(stage, program)
    first, second = records(stage)
    stage.cluster.call("DELETE", f"{RECORDS}/jobreports/{first}")
    stage.cluster.call("PATCH", f"{RECORDS}/jobreports/{second}", {"spec": {"interfaces": [mac(9)]}})

    def healed() -> bool:
        found = records(stage)
        macs = sorted(mac for item in found.values() for mac in item["spec"]["interfaces"])
        return set(found) == {first, second} and macs == [mac(0), mac(1)] and all(map(is_delivered, found.values()))

    program.wait_for(healed)
    for one in made:
        end(stage, one)
    stage.cloudvision.wait_for(lambda: all(stage.cloudvision.states(name)[-1] == "COMPLETED" for name in "ab"))


def test_what_a_record_cannot_hold_is_reported_all_the_same(kubernetes: KubernetesSimulator, simulated: Stage) -> None:
    program = simulated.informer(**STATE)
    made = start(simulated, "a")
    kubernetes.faults.append(Fault(413, methods=frozenset({"POST"})))  # the next is the record
    simulated.wait_for_states("a", "RUNNING")
    assert "too large to be remembered" in program.log
    end(simulated, made)
    simulated.wait_for_states("a", "RUNNING", "COMPLETED")


def test_while_cloudvision_is_away_the_records_say_what_waits_and_why(stage: Stage) -> None:
    program = stage.informer(**STATE)
    made = start(stage, "a")
    stage.wait_for_states("a", "RUNNING")
    recorded(stage, program)
    stage.cloudvision.refuse()
    end(stage, made)

    def waits() -> bool:
        ((condition,),) = (record["status"]["conditions"] for record in records(stage).values())
        return bool(condition["message"]) and (condition["status"], condition["reason"]) == ("False", "Unreachable")

    program.wait_for(waits, 40)
    stage.cluster.delete(made)
    stage.cloudvision.resume()
    stage.wait_for_states("a", "RUNNING", "COMPLETED", timeout=40)
    recorded(stage, program)


def test_a_stop_waits_for_nothing_that_cloudvision_refuses(simulated: Stage) -> None:
    program = simulated.informer(**STATE)
    simulated.cloudvision.faults.append(Fault(400))
    start(simulated, "refused")
    program.wait_for_log("CloudVision refused job refused")
    start(simulated, "taken", 2)
    simulated.wait_for_states("taken", "RUNNING")
    assert program.stop(timeout=8) == 0
    assert "stopped with 1 reports undelivered" in program.log
    found = {item["spec"]["job"]["name"]: item for item in records(simulated).values()}
    (condition,) = found["refused"]["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Refused")
    assert is_delivered(found["taken"])


def test_resync_repeats_what_runs_and_heals_what_was_lost(stage: Stage) -> None:
    start(stage, "a")
    create(stage, node_state(*DISCOVERY, "n0", mac(7)))
    stage.informer(**STATE, RESYNC_INTERVAL="1s")
    stage.wait_for_states("a", "RUNNING", "RUNNING", "RUNNING")
    stage.cloudvision.wait_for(lambda: len(stage.cloudvision.node_history.get("n0", [])) > 2)
    assert len({str(entry) for entry in stage.cloudvision.by_name("a")}) == 1


@pytest.mark.parametrize("verb", ["create", "list"])
def test_without_permission_for_records_everything_is_reported_and_the_reason_is_logged(
    kubernetes: Any, simulated: Stage, verb: str
) -> None:
    kubernetes.forbid("cloudvision.arista.io", "jobreports", verb)
    program = simulated.informer(**STATE)
    start(simulated, "a")
    simulated.wait_for_states("a", "RUNNING")
    assert "nothing is remembered" in program.log


def test_nothing_is_decided_about_runs_before_the_pods_are_listed(kubernetes: Any, simulated: Stage) -> None:
    first = simulated.informer(**STATE)
    start(simulated, "a")
    simulated.wait_for_states("a", "RUNNING")
    recorded(simulated, first)
    assert first.stop() == 0
    kubernetes.forbid("", "pods", "list")
    port = free_port()
    program = simulated.informer(**STATE, HEALTH_ADDRESS=f"127.0.0.1:{port}", ready=False)
    program.wait_for_log("pods is forbidden")
    program.wait_for(lambda: said(port, "readyz") == (503, "waiting for the first lists of pods\n"))


def said(port: int, path: str) -> tuple[int, str]:
    """A probe's answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except urllib.error.URLError:
        return 0, ""


def test_what_is_not_followed_any_more_after_a_restart_is_left_alone_or_ends(stage: Stage) -> None:
    first = stage.informer(**STATE, JOB_KINDS=f"{SPARK[0]}/{SPARK[2]}")
    made = stage.cluster.create(job(SPARK[0], SPARK[2], "a"))
    stage.cluster.run_pod(pod("a-0", made, mac(1)), stamp(-30))
    create(stage, node_state(*DISCOVERY, "n0", mac(40)))
    stage.wait_for_states("a", "RUNNING")
    stage.cloudvision.wait_for(lambda: stage.cloudvision.nodes)
    recorded(stage, first)
    assert first.stop() == 0
    program = stage.informer(**STATE, NODECONFIG_MODE="disabled", RESYNC_INTERVAL="1s")
    stage.wait_for_states("a", "RUNNING", "CANCELLED")
    start(stage, "b", 2)
    stage.cloudvision.wait_for(lambda: len(stage.cloudvision.by_name("b")) > 3)  # so many rounds of resync
    assert len(stage.cloudvision.node_history["n0"]) == 1
    program.wait_for(lambda: not records(stage, "nodereports"))


def test_health_and_metrics(simulated: Stage) -> None:
    port = free_port()
    program = simulated.informer(**LEADER, HEALTH_ADDRESS=f"127.0.0.1:{port}")
    start(simulated, "a")
    simulated.wait_for_states("a", "RUNNING")
    for path in ("healthz", "readyz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            assert answer.status == 200
    # CloudVision has the report a moment before the program has the answer.
    program.wait_for(lambda: scrape(port)["cvji_outbox_depth"] == 0)
    metrics = scrape(port)
    assert metrics['cvji_reports_total{outcome="delivered"}'] == 1
    assert metrics["cvji_leader"] == 1
    assert metrics['cvji_jobs{state="running"}'] == 1
    assert metrics["cvji_delivery_seconds_count"] == 1
    assert metrics["cvji_outbox_oldest_seconds"] == 0
    assert metrics['cvji_decode_failures_total{resource="pods"}'] == 0
    assert 'cvji_watch_silence_seconds{resource="pods"}' in metrics
    assert any(name.startswith("cvji_build_info{") for name in metrics)
    assert not any(simulated.cloudvision.token in name for name in metrics)
    assert program.stop() == 0

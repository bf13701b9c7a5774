"""`cvji check` against a CloudVision over TLS, and the whole of it on a real API server."""

import json
import os
import subprocess
import time

import pytest

from cvji import check
from cvji.checks.result import Level, Result
from cvji.checks.site import Site
from cvji.cloudvision.client import Token
from cvji.deployed import Deployed
from cvji.settings import CloudVision
from tests.e2e.kit import EXECUTABLE, Stage, free_port
from tests.simulator.cloudvision import CloudVisionSimulator, Fault
from tests.unit.test_check import sound, wrong

TOKEN = "secret-token-of-the-simulator"


def checked(simulator: CloudVisionSimulator, token: str = TOKEN, address: str = "", **more: object) -> list[Result]:
    """Every result, with a CloudVision beside a sound cluster."""
    api = sound()
    ahead, before = more.pop("ahead", 0.0), more.pop("before", 0.0)
    assert isinstance(ahead, float)
    assert isinstance(before, float)
    now = time.time() + ahead
    times = iter([now - before, now])
    api.time = now
    lease = api.answers["/apis/coordination.k8s.io/v1/namespaces/cloudvision/leases/cv-job-informer"]
    lease["spec"]["renewTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    ca_file = str(more.pop("ca_file", simulator.ca_file))
    server = CloudVision(address or simulator.address, ca_file, bool(more.pop("insecure", False)))
    settings = Deployed({"LOCATION": "lab"})
    return list(check.run(Site(api, "cloudvision", settings, lambda: next(times, now), {}, server, Token(token))))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


def test_a_sound_cloudvision_is_ok_and_its_certificate_is_described() -> None:
    with CloudVisionSimulator(certificate_days=90) as simulator:
        results = checked(simulator)
    assert wrong(results) == []
    lines = {result.name: result.message for result in results}
    assert lines["cloudvision certificate"] == "signed by simulator CA, valid for 90 more days"
    assert lines["cloudvision token"] == "is accepted, and may read"
    assert lines["cloudvision writing"].startswith("the last report was accepted")
    assert not [request for request in simulator.requests if request.method != "GET"]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_each_fault_of_cloudvision_has_its_line_and_no_other() -> None:
    with CloudVisionSimulator(certificate_days=90) as simulator:
        assert wrong(checked(simulator, token="other")) == [("cloudvision token", Level.FAILURE)]
        nobody = f"127.0.0.1:{free_port()}"
        assert wrong(checked(simulator, address=nobody)) == [("cloudvision", Level.FAILURE)]
        for unknown in ("cloudvision.invalid:443", f"{'x' * 64}.invalid"):
            assert wrong(checked(simulator, address=unknown)) == [("cloudvision name", Level.FAILURE)]
        with CloudVisionSimulator() as other:
            untrusted = checked(simulator, ca_file=other.ca_file)
        assert wrong(untrusted) == [("cloudvision certificate", Level.FAILURE)]
        assert wrong(checked(simulator, insecure=True)) == [("cloudvision certificate", Level.WARNING)]
        assert wrong(checked(simulator, ahead=300.0)) == [("clock of cloudvision", Level.FAILURE)]
        simulator.always = Fault(503, b'{"message":"upgrading"}')
        assert wrong(checked(simulator)) == [("cloudvision token", Level.WARNING)]
        simulator.always = None
        simulator.readable = False
        assert wrong(checked(simulator)) == []


def test_checks_that_took_long_before_cloudvision_is_asked_do_not_count_as_its_clock() -> None:
    with CloudVisionSimulator(certificate_days=90) as simulator:
        assert wrong(checked(simulator, before=120.0)) == []


def test_a_certificate_that_has_expired_or_soon_will() -> None:
    with CloudVisionSimulator(certificate_days=-1) as simulator:
        results = checked(simulator)
    assert wrong(results) == [("cloudvision certificate", Level.FAILURE)]
    assert "has expired" in next(result.message for result in results if result.level is Level.FAILURE)
    with CloudVisionSimulator(certificate_days=3) as simulator:
        assert wrong(checked(simulator)) == [("cloudvision certificate", Level.WARNING)]


def test_no_line_shows_the_token() -> None:
    with CloudVisionSimulator() as simulator:
        simulator.always = Fault(400, json.dumps({"message": f"what is {TOKEN}"}).encode())
        text = "\n".join(map(check.line, checked(simulator)))
    assert TOKEN not in text
    assert "***" in text


@pytest.mark.cluster
def test_the_whole_of_it_on_a_real_api_server(real: Stage) -> None:
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    clean |= {"KUBECONFIG": str(real.cluster.kubeconfig), "NO_PROXY": "*", "API_SERVER": real.cloudvision.address}
    clean |= {"API_TOKEN": real.cloudvision.token, "API_CA_FILE": str(real.cloudvision.ca_file)}
    begun = time.monotonic()
    done = subprocess.run([EXECUTABLE, "check", "-o", "json"], env=clean, capture_output=True, text=True, check=False)
    took = time.monotonic() - begun
    assert done.returncode == 2, done.stderr
    found = {(result["name"], result["level"]) for result in json.loads(done.stdout)}
    assert {("kubernetes", "ok"), ("clock of kubernetes", "ok"), ("cloudvision token", "ok")} <= found
    assert {("informer", "failure"), ("leader", "skipped"), ("permissions", "failure")} <= found  # nothing is deployed
    assert {name for name, level in found if name.startswith("CRD") and level == "ok"} == {
        f"CRD {plural}.cloudvision.arista.io" for plural in ("jobreports", "nodereports", "nodeinterfacestates")
    }
    assert real.cloudvision.token not in done.stdout + done.stderr
    print(f"check took {took:.2f} s")
    assert took < 10  # 3 s by itself; other tests run beside

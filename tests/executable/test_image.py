"""The image from the inside, run by buildah as Kubernetes runs it: another user, a read-only root, nothing to run from /tmp."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import QUICK, Cluster, Program, stamp, write_kubeconfig
from tests.executable.conftest import REPOSITORY, buildah
from tests.simulator.cloudvision import CloudVisionSimulator
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.objects import ended, job, pod
from tests.sysfs.trees import mlx5_host

pytestmark = pytest.mark.executable
ENTRYPOINT = "/usr/lib/cvji/cvji"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Is /tmp inside."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def entered(container: str, root: Path, folder: Path, **env: str) -> list[str]:
    """What is written before the executable's own words to run it in the container."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    buildah("run", "--isolation", "chroot", container, "--", ENTRYPOINT, "--version")
    script = str(Path(__file__).with_name("enter.sh"))
    options = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
    return [
        "unshare",
        "-m",
        "-p",
        "--mount-proc",
        "--kill-child",
        script,
        str(root),
        str(folder),
        *options,
        container,
        "--",
    ]


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(container: str, root: Path, folder: Path) -> Run:
    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        words = [*entered(container, root, folder, **env), ENTRYPOINT, *arguments]
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)

    return run


def process_of(program: Program) -> Path:
    """The running executable's folder in /proc: buildah started a process that started it."""
    process = Path(f"/proc/{program.process.pid}")
    while (process / "comm").read_text() != "cvji\n":
        (child,) = [pid for file in process.glob("task/*/children") for pid in file.read_text().split()]
        process = Path("/proc", child)
    return process


def test_it_is_run_as_65532_by_the_executable_and_says_what_it_was_made_of(image: str, container: str) -> None:
    made = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert made["config"]["User"] == "65532:65532"
    assert made["config"]["Entrypoint"] == [ENTRYPOINT]
    labels = made["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"].startswith(commit.stdout.strip())
    assert labels["org.opencontainers.image.version"]
    shown = buildah("run", "--isolation", "chroot", container, "--", ENTRYPOINT, "--version")
    assert labels["org.opencontainers.image.revision"] in shown


def test_there_is_no_program_in_it_but_cvji(root: Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    programs = {path for path in files if path.stat().st_mode & 0o111 and ".so" not in path.name}
    assert programs == {root / ENTRYPOINT.lstrip("/")}
    assert not [path for path in files if path.suffix in (".py", ".pyc", ".sh")]
    assert not [path for path in files if path.stat().st_mode & 0o6000 or path.stat().st_mode & 0o002]


def test_the_version_of_a_read_only_image(run: Run) -> None:
    done = run("--version")
    assert done.stderr == ""
    assert done.stdout.startswith("cvji ")
    assert "commit" in done.stdout


def test_a_node_is_discovered_by_hand_in_it(run: Run, folder: Path) -> None:
    mlx5_host(folder / "sys")
    done = run("discover", "--once", "-o", "yaml", "--node-name", "gpu-1", "--sysfs-root", "/tmp/sys")
    assert done.stderr == ""
    assert "mac: 0c:42:a1:00:00:10" in done.stdout
    own = run("discover", "--once", "-o", "json", "--node-name", "gpu-1")
    assert own.returncode == 0, own.stderr
    assert json.loads(own.stdout)["status"]["syncStatus"]


def test_a_dry_run_of_the_informer_in_it(container: str, root: Path, folder: Path, tmp_path: Path) -> None:
    with KubernetesSimulator() as kubernetes:
        kubernetes.serve_all()
        server = f"http://{kubernetes.address}"
        cluster = Cluster(server, write_kubeconfig(folder, server))
        env = {"KUBECONFIG": "/tmp/kubeconfig", "LOCATION": "lab", **QUICK}
        before = entered(container, root, folder, **env)
        with Program("informer", "--dry-run", env={}, folder=tmp_path, before=before, executable=ENTRYPOINT) as program:
            program.wait_for_log("reporting from now on")
            process = process_of(program)
            assert "Uid:\t65532\t65532\t65532\t65532\nGid:\t65532\t65532" in (process / "status").read_text()
            for place in ("", "etc", "usr/lib/cvji", "tmp"):
                with pytest.raises(OSError, match="Read-only file system"):  # root's own attempt
                    (process / "root" / place / "written").touch()
            made = cluster.create(job("ray.io", "RayJob", "a"))
            cluster.run_pod(pod("a-0", made, "02:00:00:00:00:01"))
            program.wait_for(lambda: program.out.read_text().count("\n") == 1)
            cluster.set_status(made, ended("ray.io", "RayJob", "COMPLETED", stamp(-5), stamp()) or {})
            program.wait_for(lambda: program.out.read_text().count("\n") == 2)
            os.kill(int(process.name), signal.SIGTERM)
            assert program.process.wait(25) == 0
        cluster.close()
        states = [json.loads(line)["body"]["state"] for line in program.out.read_text().splitlines()]
        assert states == ["JOB_STATE_RUNNING", "JOB_STATE_COMPLETED"]


@pytest.fixture
def cloudvision() -> Iterator[CloudVisionSimulator]:
    with CloudVisionSimulator() as simulator:
        yield simulator


def test_a_report_over_tls_from_it(run: Run, folder: Path, cloudvision: CloudVisionSimulator) -> None:
    (folder / "ca.pem").write_bytes(cloudvision.ca_file.read_bytes())
    report = ("jobconfig", "send", "--id", "a", "--state", "RUNNING", "--node", "gpu-1", "--timeout", "5s")
    env = {"API_SERVER": cloudvision.address, "API_TOKEN": cloudvision.token, "LOCATION": "lab"}
    done = run(*report, API_CA_FILE="/tmp/ca.pem", **env)
    assert done.returncode == 0, done.stderr
    assert cloudvision.states("a") == ["RUNNING"]
    distrusted = run(*report, **env)  # by the image's own certificates
    assert distrusted.returncode == 1
    assert "certificate verify failed" in distrusted.stdout + distrusted.stderr
    assert cloudvision.rejected == []


def test_the_bill_of_materials_names_what_is_in_it_and_not_what_was_left_out(root: Path) -> None:
    document = json.loads((REPOSITORY / "dist/sbom.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    purls = {component["purl"] for component in document["components"]}
    names = {component["name"] for component in document["components"]}
    assert len(purls) == len(document["components"])
    assert names >= {"kubernetes", "msgspec", "typer", "urllib3", "openssl", "python3.11", "zlib"}
    assert names >= {file.name for file in (root / "var/lib/dpkg/status.d").iterdir()}
    assert names >= {"ca-certificates", "libc6", "libgcc-s1", "tzdata"}
    assert not names & {"aiohttp", "rich", "nuitka", "pytest"}

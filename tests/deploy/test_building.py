"""build/image.sh, build/push.sh and build/release.py: what they ask of engines, and what a release holds."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.deploy.rendered import ROOT, helm, names, needs
from tests.deploy.test_manifests import RESTRICTION

DIGEST = "sha256:" + "0123456789abcdef" * 4
ENGINE = """#!/bin/sh
echo "${{0##*/}} $*" >>{seen}
for word; do
    if [ "$before" = --digestfile ]; then echo {digest} >"$word"; fi
    before=$word
done
case "$*" in *imagetools*Digest*) echo {digest} ;; esac
"""
# What a CI may export; none of it belongs into a release.
EXPORTED = {
    "LOCATION": "elsewhere",
    "API_SERVER": "cv.example.com",
    "NAMESPACE": "team-a",
    "JOB_KINDS": "example.com/Training",
    "KUBE_VERSION": "1.26",
    "REGISTRY": "127.0.0.1:9/net",
    "PUSH": "true",
    "IMAGE_TAG": "v7",
}
BOTH = "linux/amd64,linux/arm64"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one commit, and engines that only write down what they are asked for."""
    needs("git")
    folder = tmp_path / "project"
    for name in ("build", "cvji", "manifests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Containerfile", "CHANGELOG.md", "pyproject.toml", "uv.lock", "justfile", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (tmp_path / "bin").mkdir()
    for name in ("docker", "buildah"):
        engine = tmp_path / "bin" / name
        engine.write_text(ENGINE.format(seen=tmp_path / "seen", digest=DIGEST))
        engine.chmod(0o755)
    git(folder, "init", "-q")
    commit(folder, "first")
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def run(project: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": f"{project.parent / 'bin'}:{os.environ['PATH']}", "HOME": str(project.parent)}
    return subprocess.run(command, cwd=project, env=path | env, capture_output=True, text=True, check=False)


def asked(project: Path) -> list[str]:
    return (project.parent / "seen").read_text().splitlines()


@pytest.mark.parametrize(
    ("engine", "env", "expected"),
    [
        ("docker", {}, "--tag cv-job-informer:v7 --load"),
        ("docker", {"PLATFORMS": BOTH}, f"--platform {BOTH} --output type=oci,dest=dist/image.oci.tar"),
        ("docker", {"PLATFORMS": BOTH, "PUSH": "true", "REGISTRY": "r.io/n"}, f"--tag r.io/n/cv-job-informer:v7 --platform {BOTH} --push"),
        ("buildah", {}, "--tag cv-job-informer:v7"),
        ("buildah", {"PLATFORMS": BOTH}, f"--manifest cv-job-informer:v7 --platform {BOTH}"),
    ],
)  # fmt: skip
def test_an_image_of_several_platforms_has_one_name(
    engine: str, env: dict[str, str], expected: str, project: Path
) -> None:
    done = run(project, "build/image.sh", "image", ENGINE=engine, IMAGE_TAG="v7", **env)
    assert done.returncode == 0, done.stderr
    assert expected in asked(project)[-1]


@pytest.mark.parametrize("platforms", ["", BOTH])
@pytest.mark.parametrize("engine", ["docker", "buildah"])
def test_a_push_prints_the_digest(engine: str, platforms: str, project: Path) -> None:
    if engine == "docker" and not platforms:
        tool = project.parent / "bin/docker"
        tool.write_text(
            tool.read_text() + f'case "$*" in *RepoDigests*) echo r.io/n/cv-job-informer@{DIGEST} ;; esac\n'
        )
    done = run(project, "build/push.sh", ENGINE=engine, REGISTRY="r.io/n", IMAGE_TAG="v7", PLATFORMS=platforms)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [DIGEST]


@pytest.mark.parametrize("platforms", ["", BOTH])
@pytest.mark.parametrize("engine", ["docker", "buildah"])
def test_a_push_without_a_digest_has_failed(engine: str, platforms: str, project: Path) -> None:
    tool = project.parent / "bin" / engine
    tool.write_text("#!/bin/sh\n")
    done = run(project, "build/push.sh", ENGINE=engine, REGISTRY="r.io/n", IMAGE_TAG="v7", PLATFORMS=platforms)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{engine} did not push r.io/n/cv-job-informer:v7\n"


def test_no_script_of_the_build_assumes_an_architecture() -> None:
    for file in [ROOT / "Containerfile", *(ROOT / "build").iterdir()]:
        if file.is_file():
            assert not {"x86_64", "amd64", "x86-64"} & set(uncommented(file).split()), file


def uncommented(file: Path) -> str:
    return "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))


# --- releases ---------------------------------------------------------------------------------------------------------------


def release(project: Path, version: str, **env: str) -> subprocess.CompletedProcess[str]:
    if not (project.parent / "bin/helm").exists():
        (project.parent / "bin/helm").symlink_to(helm())
    return run(project, sys.executable, "-B", "build/release.py", version, SKIP_BUILD="true", **env)


def test_a_release_writes_its_version_first_and_is_the_same_each_time_it_is_made(project: Path) -> None:
    done = release(project, "1.2.3")
    assert done.returncode == 0, done.stderr
    assert "git commit -am 'Release 1.2.3'" in done.stdout
    for name in ("cvji/__init__.py", "pyproject.toml", "uv.lock", "manifests/chart/Chart.yaml"):
        assert "1.2.3" in (project / name).read_text(), name
    assert "## [Unreleased]\n\n## [1.2.3] - 20" in (project / "CHANGELOG.md").read_text()
    assert not (project / "dist/release").exists()

    done = release(project, "1.2.3")
    assert done.returncode == 1
    assert "not committed" in done.stderr
    commit(project, "Release 1.2.3")
    made = []
    for env in ({}, EXPORTED):
        done = release(project, "1.2.3", **env)
        assert done.returncode == 0, done.stderr
        folder = project / "dist/release"
        made.append((folder / "SHA256SUMS").read_text())
        for file in folder.rglob("*"):
            os.utime(file)
    assert made[0] == made[1]
    sums = {name: digest for digest, name in (line.split("  ") for line in made[0].splitlines())}
    older = "cvji-1.2.3-kubernetes-1.24-to-1.29.yaml"
    assert set(sums) == {"cvji-1.2.3.tgz", "cvji-1.2.3.yaml", older, "NOTES.md"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    with tarfile.open(folder / "cvji-1.2.3.tgz") as archive:
        assert "cvji/values.schema.json" in archive.getnames()
    objects = [item for item in yaml.safe_load_all((folder / "cvji-1.2.3.yaml").read_text()) if item]
    assert {"Namespace/cloudvision", "Deployment/cv-job-informer"} <= names(objects)
    for_older = [item for item in yaml.safe_load_all((folder / older).read_text()) if item]
    assert names(objects) - names(for_older) == RESTRICTION
    shown = subprocess.run(
        [helm(), "show", "chart", folder / "cvji-1.2.3.tgz"], capture_output=True, text=True, check=True
    )
    assert yaml.safe_load(shown.stdout)["appVersion"] == "1.2.3"


@pytest.mark.parametrize("version", ["1.2", "one", "1.2.3; rm"])
def test_a_release_has_a_semantic_version(version: str, project: Path) -> None:
    done = release(project, version)
    assert done.returncode == 1
    assert "is not a semantic version" in done.stderr

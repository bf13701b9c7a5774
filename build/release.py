"""Makes dist/release/ of a version: chart, YAML, executable, image, bill of materials, checksums. Uploads nothing.

Everything is made from the commit alone, with its time, so that whoever builds the same commit has the same files.
SKIP_BUILD=true leaves out what needs a container engine: executable, image and bill of materials.
"""

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "manifests/chart"
RELEASE = ROOT / "dist/release"
SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", re.ASCII)
# The chart's YAML, by what its name ends in: a version of Kubernetes whose YAML is right for all that the file is for.
YAML = {"": "1.36", "-kubernetes-1.24-to-1.29": "1.24"}
# What finds programs and their caches. Nothing else is handed on to `just manifests`, whose settings are variables.
HANDED_ON = re.compile(r"PATH|HOME|TMPDIR|LD_LIBRARY_PATH|(HELM|XDG)_\w+")
# Where a version is written, as the line before and after it.
PLACES = {
    "cvji/__init__.py": r'^(__version__ = ")[^"]*(")$',
    "pyproject.toml": r'^(version = ")[^"]*(")$',
    "uv.lock": r'^(name = "cvji"\nversion = ")[^"]*(")$',
    "manifests/chart/Chart.yaml": r"^((?:version|appVersion): )\S+()$",
}


class Refused(Exception):  # noqa: N818 - a state of the checkout
    """No release can be made; the message says why."""


def git(*arguments: str) -> str:
    """What git prints. Raises Refused."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def versioned(version: str, day: str) -> dict[Path, str]:
    """The files in which a version has to be written and is not yet, as they should be. Raises Refused."""
    texts = {}
    for name, pattern in PLACES.items():
        path = ROOT / name
        text, count = re.subn(pattern, rf"\g<1>{version}\g<2>", path.read_text("utf-8"), flags=re.MULTILINE)
        if count == 0:
            raise Refused(f"{name} has no version")
        texts[path] = text
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    if f"\n## [{version}]" not in text:
        found = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        if found is None or not found[1].strip():
            raise Refused("CHANGELOG.md has nothing under [Unreleased]")
        text = text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{version}] - {day}\n", 1)
        texts[changelog] = text
    return {path: text for path, text in texts.items() if path.read_text("utf-8") != text}


def packed(folder: Path, name: str, time: int) -> bytes:
    """A folder as .tgz, as `helm package` makes it, but the same for the same content."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            entry = tarfile.TarInfo(f"{name}/{path.relative_to(folder)}")
            entry.size, entry.mode, entry.mtime = path.stat().st_size, 0o644, time
            with path.open("rb") as content:
                archive.addfile(entry, content)
    return gzip.compress(raw.getvalue(), mtime=time)


def chart_files(version: str, time: int) -> None:
    """The chart, and its YAML for those without Helm."""
    (RELEASE / f"cvji-{version}.tgz").write_bytes(packed(CHART, "cvji", time))
    environment = {name: value for name, value in os.environ.items() if HANDED_ON.fullmatch(name)}
    environment["PYTHONPATH"] = str(ROOT / "manifests")
    for end, kubernetes in YAML.items():
        command = [sys.executable, "-B", "-m", "deploy", "manifests", f"KUBE_VERSION={kubernetes}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr.strip())
        (RELEASE / f"cvji-{version}{end}.yaml").write_text(done.stdout)


def built_files(version: str) -> None:
    """The executable, its bill of materials and the image, by a container engine."""
    environment = {**os.environ, "IMAGE_TAG": version}
    for what in ("dist", "image"):  # the first empties dist/
        if subprocess.run([ROOT / "build/image.sh", what], env=environment, check=False).returncode != 0:
            raise Refused(f"build/image.sh {what} failed")
    RELEASE.mkdir(parents=True)
    machine = os.uname().machine
    shutil.copy2(ROOT / "dist/cvji", RELEASE / f"cvji-{version}-linux-{machine}")
    shutil.copy2(ROOT / "dist/sbom.json", RELEASE / f"cvji-{version}-linux-{machine}.cdx.json")


def checksums() -> str:
    """As `sha256sum -c` reads them."""
    files = sorted(path for path in RELEASE.iterdir() if path.name != "SHA256SUMS")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def release(version: str) -> None:
    """All of it, in two runs: the first writes the version for a commit, the second builds that commit."""
    if not SEMVER.fullmatch(version):
        raise Refused(f"{version} is not a semantic version, such as 1.2.3")
    if git("status", "--porcelain", "--untracked-files=no"):
        raise Refused("the checkout has changes that are not committed")
    time = int(git("log", "-1", "--format=%ct"))
    changed = versioned(version, datetime.now(UTC).strftime("%Y-%m-%d"))
    if changed:
        for path, text in changed.items():
            path.write_text(text, "utf-8")
        names = " ".join(str(path.relative_to(ROOT)) for path in changed)
        print(f"Version {version} is written to {names}.")
        print(f"Look at CHANGELOG.md, then: git commit -am 'Release {version}' && just release {version}")
        return
    os.environ["SOURCE_DATE_EPOCH"] = str(time)
    shutil.rmtree(RELEASE, ignore_errors=True)
    if os.environ.get("SKIP_BUILD", "").lower() not in ("true", "yes", "1"):
        built_files(version)
    RELEASE.mkdir(parents=True, exist_ok=True)
    chart_files(version, time)
    notes = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## |\Z)", changelog(), re.MULTILINE | re.DOTALL)
    (RELEASE / "NOTES.md").write_text(notes[1].strip() + "\n" if notes else "", "utf-8")
    (RELEASE / "SHA256SUMS").write_text(checksums())
    print(f"{RELEASE.relative_to(ROOT)}/ holds {', '.join(sorted(path.name for path in RELEASE.iterdir()))}")


def changelog() -> str:
    """CHANGELOG.md."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8")


if __name__ == "__main__":
    try:
        release(sys.argv[1].removeprefix("v"))
    except Refused as reason:
        sys.exit(f"release: {reason}")

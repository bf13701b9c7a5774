"""What `just deploy` and `just manifests` push, to a real OCI registry with TLS: Debian's docker-registry."""

import json
import os
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cvji import __version__
from tests.cluster.controlplane import wait_for
from tests.cluster.pki import make_pki
from tests.cluster.ports import free_ports
from tests.deploy.rendered import CHART, NEEDED, ROOT, helm, names, needs, render

pytestmark = pytest.mark.cluster
ACCEPT = ", ".join(f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index"))


class Registry:
    """A registry on loopback, and the environment in which Go programs trust it."""

    def __init__(self, address: str, folder: Path, authority: Path) -> None:
        self.address = address
        self.folder = folder
        self.env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "SSL_CERT_FILE": str(authority),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }
        (folder / "bin").mkdir()
        (folder / "bin/helm").symlink_to(helm())
        storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        (folder / "storage.conf").write_text(storage)
        self._tls = ssl.create_default_context(cafile=str(authority))

    def get(self, path: str) -> tuple[str, bytes]:
        """The digest and the body of a manifest, or of what else is at a path."""
        asked = urllib.request.Request(f"https://{self.address}/v2/{path}", headers={"Accept": ACCEPT})
        with urllib.request.urlopen(asked, context=self._tls) as answer:
            return answer.headers.get("Docker-Content-Digest", ""), answer.read()

    def answers(self) -> bool:
        try:
            return self.get("")[1] == b"{}"
        except OSError:
            return False

    def run(self, *command: str, **env: str) -> str:
        """What a program prints that succeeds."""
        done = subprocess.run(
            command, cwd=ROOT, env={**self.env, **env}, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    needs("docker-registry")
    pki = make_pki(tmp_path)
    (port,) = free_ports(1)
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(pki.server_certificate), "key": str(pki.server_key)},
        },
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(config))
    found = Registry(f"127.0.0.1:{port}", tmp_path, pki.ca)
    with subprocess.Popen(
        ["docker-registry", "serve", str(tmp_path / "registry.yaml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as program:
        try:
            wait_for("the registry", found.answers)
            yield found
        finally:
            program.kill()


def test_the_chart_is_pulled_as_it_was_pushed(registry: Registry) -> None:
    command = (sys.executable, "-B", "-m", "deploy", "manifests")
    place = f"{registry.address}/net"
    path = str(ROOT / "manifests")
    printed = registry.run(*command, "PUSH=true", f"REGISTRY={place}", "API_SERVER=cv", PYTHONPATH=path)
    assert "kind: Deployment" in printed
    chart = f"oci://{place}/charts/cvji"
    shown = registry.run("helm", "show", "values", chart, "--version", __version__)
    assert shown.strip() == (CHART / "values.yaml").read_text().strip()
    values = registry.folder / "values.json"
    values.write_text(json.dumps(NEEDED))
    text = registry.run("helm", "template", "cvji", chart, "--version", __version__, "-n", "cloudvision", f"-f{values}")
    assert names([item for item in yaml.safe_load_all(text) if item]) == names(render())


def small_image(registry: Registry, name: str, architecture: str) -> None:
    """An image with one file, as `just image` names it."""
    (registry.folder / "Containerfile").write_text("FROM scratch\nCOPY values.txt /\n")
    (registry.folder / "values.txt").write_text(architecture)
    to = ("--manifest", name) if name.endswith("-list") else ("--tag", name)
    file = str(registry.folder / "Containerfile")
    registry.run("buildah", "build", "-q", *to, "--platform", f"linux/{architecture}", "-f", file, str(registry.folder))


@pytest.mark.parametrize("platforms", [("amd64",), ("amd64", "arm64")])
def test_the_image_is_there_under_the_digest_that_is_deployed(registry: Registry, platforms: tuple[str, ...]) -> None:
    needs("buildah")
    several = len(platforms) > 1
    tag = "v1-list" if several else "v1"
    place = f"{registry.address}/net"
    for architecture in platforms:
        small_image(registry, f"{place}/cv-job-informer:{tag}", architecture)
    env = {"PLATFORMS": ",".join(f"linux/{one}" for one in platforms)} if several else {}
    printed = registry.run(str(ROOT / "build/push.sh"), REGISTRY=place, IMAGE_TAG=tag, ENGINE="buildah", **env).strip()
    digest, body = registry.get(f"net/cv-job-informer/manifests/{printed}")
    assert digest == printed
    assert registry.get(f"net/cv-job-informer/manifests/{tag}") == (digest, body)
    refused = subprocess.run(
        [str(ROOT / "build/push.sh")],
        env={
            **registry.env,
            "REGISTRY": place,
            "IMAGE_TAG": tag,
            "ENGINE": "buildah",
            **env,
            "SSL_CERT_FILE": "/dev/null",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    held = json.loads(body)
    if several:
        assert {item["platform"]["architecture"] for item in held["manifests"]} == set(platforms)
    else:
        assert len(held["layers"]) == 1

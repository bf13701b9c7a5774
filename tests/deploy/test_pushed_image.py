"""`just deploy` with PUSH: the image is built, pushed, and deployed by its digest. The tools are played."""

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.deploy.conftest import Deployer
from tests.deploy.test_deploy import everything, pods

pytestmark = pytest.mark.cluster

DIGEST = "sha256:" + "0123456789abcdef" * 4
JUST = """#!/bin/sh
echo "just $* $REGISTRY $IMAGE_TAG token=${API_TOKEN-}" >>"$HOME/tools"
exit ${JUST_FAILS-0}
"""
BUILDAH = """#!/bin/sh
echo "buildah $*" >>"$HOME/tools"
case "$1" in
    push) echo DIGEST >"$3" ;;
esac
"""


def with_tools(deployer: Deployer) -> None:
    """just's image recipe and buildah, played; docker and podman, here and of no use."""
    tools = {"just": JUST, "buildah": BUILDAH.replace("DIGEST", DIGEST)}
    for name, text in {**tools, "docker": "#!/bin/sh\nexit 1\n", "podman": "#!/bin/sh\nexit 1\n"}.items():
        tool = deployer.folder / "bin" / name
        tool.write_text(text)
        tool.chmod(0o755)


IMAGE = {"API_SERVER": "cv", "API_TOKEN": "x", "LOCATION": "dc1", "REGISTRY": "registry.example.com/net", "PUSH": "1"}


def test_the_image_is_built_pushed_and_deployed_by_its_digest(
    scheduled_plane: ControlPlane, deployer: Deployer
) -> None:
    with_tools(deployer)
    done = deployer.script("deploy", **IMAGE, IMAGE_TAG="v7", IMAGE_PULL_SECRET="pull")
    assert done.returncode == 0, done.stderr
    said = (deployer.folder / "tools").read_text().splitlines()
    assert said[0] == "just image registry.example.com/net v7 token="
    assert said[-1].endswith("docker://registry.example.com/net/cv-job-informer:v7")
    for component in ("informer", "interface-discovery"):
        for pod in pods(scheduled_plane, component):
            assert pod["spec"]["containers"][0]["image"] == f"registry.example.com/net/cv-job-informer@{DIGEST}"
            assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]


def test_an_image_that_cannot_be_built_changes_nothing(scheduled_plane: ControlPlane, deployer: Deployer) -> None:
    with_tools(deployer)
    done = deployer.script("deploy", **IMAGE, JUST_FAILS="1")
    assert done.returncode == 1
    assert done.stderr == "deploy: the image could not be built; nothing was changed in the cluster\n"
    assert everything(scheduled_plane) == []

"""Where credentials come from, and what comes along with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from cvji.kube.client import Api, ApiError
from cvji.kube.credentials import ServiceAccount
from cvji.settings import SettingsError
from tests.e2e.kit import write_kubeconfig
from tests.simulator.certs import make_tls

IN_POD = """
import sys
from pathlib import Path
from cvji.kube.credentials import ServiceAccount
found = ServiceAccount({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, Path(sys.argv[1]))
print(found.host, found.get_api_key_with_prefix("BearerToken"))
print([name for name in ("kubernetes", "pydantic", "websocket", "requests", "yaml") if name in sys.modules])
"""


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """A service account's folder, as the kubelet makes it."""
    ca_file = make_tls(tmp_path)[1]
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(ca_file.read_bytes())
    (folder / "token").write_text("one\n")
    return folder


def environment(host: str = "10.0.0.1", port: str = "443") -> dict[str, str]:
    return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}


def test_a_pods_credentials_are_read_without_the_kubernetes_package(account: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IN_POD, str(account)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["https://10.0.0.1:443 Bearer one", "[]"]


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [("10.0.0.1", "443", "https://10.0.0.1:443"), ("fd00::1", "6443", "https://[fd00::1]:6443")],
)
def test_the_api_server_of_a_pod(account: Path, host: str, port: str, url: str) -> None:
    assert ServiceAccount(environment(host, port), account).host == url


def test_a_token_that_the_kubelet_has_replaced_is_the_one_that_counts(account: Path) -> None:
    found = ServiceAccount(environment(), account)
    (account / "new").write_text("two")
    (account / "new").replace(account / "token")
    assert found.get_api_key_with_prefix("BearerToken") == "Bearer two"
    assert found.ssl_ca_cert == str(account / "ca.crt")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("token", None, "token cannot be read: No such file or directory"),
        ("token", b" \n", "token is empty"),
        ("token", b"\xff", "token cannot be read: not text"),
        ("ca.crt", None, "ca.crt holds no CA: .*No such file"),
        ("ca.crt", b"", "ca.crt holds no CA: "),
        ("ca.crt", b"hello", "ca.crt holds no CA: "),
    ],
)
def test_what_is_wrong_with_a_service_account_is_one_line(
    account: Path, file: str, content: bytes | None, says: str
) -> None:
    (account / file).unlink()
    if content is not None:
        (account / file).write_bytes(content)
    with pytest.raises(SettingsError, match=f"^Kubernetes credentials: .*{says}") as raised:
        ServiceAccount(environment(), account)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("host", "port"), [("", "443"), ("10.0.0.1", ""), ("10.0.0.1", "tcp://10.0.0.1:443")])
def test_a_pod_that_is_not_given_its_api_server(account: Path, host: str, port: str) -> None:
    with pytest.raises(SettingsError, match="KUBERNETES_SERVICE_HOST and _PORT"):
        ServiceAccount(environment(host, port), account)


def test_credentials_that_cannot_be_refreshed_cost_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "http://127.0.0.1:9")))
    api = Api()
    from kubernetes.config.config_exception import ConfigException

    def refresh(_: object) -> None:
        raise ConfigException("Token file exists but empty.")

    api._configuration.refresh_api_key_hook = refresh  # type: ignore[attr-defined]
    with pytest.raises(ApiError, match="Token file exists but empty"):
        api.get("/api")

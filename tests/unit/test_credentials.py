"""Where credentials come from, and what comes along with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from cvji.kube.client import Api, ApiError
from tests.e2e.kit import write_kubeconfig

IN_CLUSTER = """
import sys
from cvji.kube.client import load_configuration
from cvji.settings import SettingsError
try:
    load_configuration()
except SettingsError as err:
    print(err)
print([name for name in ("pydantic", "websocket", "requests", "yaml", "kubernetes.watch") if name in sys.modules])
"""


def test_a_pods_credentials_bring_no_models_along() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_CLUSTER],
        env={"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["Kubernetes credentials: Service token file does not exist.", "[]"]


def test_credentials_that_cannot_be_refreshed_cost_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, "http://127.0.0.1:9")))
    api = Api()
    from kubernetes.config.config_exception import ConfigException

    def refresh(_: object) -> None:
        raise ConfigException("Token file exists but empty.")

    api._configuration.refresh_api_key_hook = refresh  # type: ignore[attr-defined]
    with pytest.raises(ApiError, match="Token file exists but empty"):
        api.get("/api")

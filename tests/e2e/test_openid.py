"""OpenID Connect in a kubeconfig. Little used, so it is what a compiler could leave out."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kit import Program, write_kubeconfig
from tests.simulator.certs import make_tls
from tests.simulator.kubernetes import KubernetesSimulator
from tests.simulator.server import Handler


def token(expires_in: float) -> str:
    """A JWT; nobody here looks at its signature."""
    parts = ({"alg": "none"}, {"exp": int(time.time() + expires_in)}, {"signed": 0})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def lists_with(user: dict[str, Any], kubernetes: KubernetesSimulator, folder: Path) -> None:
    kubeconfig = write_kubeconfig(folder, f"http://{kubernetes.address}", user)
    env = {"KUBECONFIG": str(kubeconfig), "LOCATION": "lab"}
    with Program("informer", "--dry-run", env=env, folder=folder) as program:
        program.wait_for_log("reporting from now on")
        assert program.stop() == 0


class Issuer(Handler):
    """Knows one refresh token and what it is renewed to."""

    renewed = ""

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"token_endpoint": f"https://{self.headers['Host']}/token"}).encode())

    def do_POST(self) -> None:
        assert b"refresh_token=old" in self.body()
        fields = {"access_token": "a", "token_type": "Bearer", "id_token": self.renewed, "refresh_token": "new"}
        self.answer(200, json.dumps(fields).encode())


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Its URL and the file of its certificate authority."""
    context, ca_file = make_tls(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}", ca_file
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_open_id_connect_token_that_has_expired_is_renewed(
    tmp_path: Path, issuer: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, ca_file = issuer
    renewed = token(3600)
    monkeypatch.setattr(Issuer, "renewed", renewed)
    with KubernetesSimulator(renewed) as kubernetes:
        kubernetes.serve_all()
        config = {
            "client-id": "cvji",
            "client-secret": "s3cret",
            "id-token": token(-3600),
            "idp-certificate-authority": str(ca_file),
            "idp-issuer-url": url,
            "refresh-token": "old",
        }
        lists_with({"auth-provider": {"name": "oidc", "config": config}}, kubernetes, tmp_path)

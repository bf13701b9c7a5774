"""How a test speaks to an API server: one request, one answer; and what a kubeconfig of your own says.

Deliberately none of cvji's own client: the tests must not see the cluster through what they test.
"""

import base64
import http.client
import json
import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.binary import ControlPlaneUnavailable

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: {status} {text[:1000]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the API server, whatever its status."""

    status: int
    text: str
    warning: str = ""  # the Warning header (RFC 7234): an unknown field, a deprecated version

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Access:
    """A server and credentials that may do everything there."""

    server: str
    ca_file: Path
    token: str | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """Send one request on a connection of its own. `token` speaks as somebody else.

        Raises OSError or http.client.HTTPException when there is no answer.
        """
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if self.client_certificate is not None and token is None:
            context.load_cert_chain(self.client_certificate, self.client_key)
        url = urlsplit(self.server)
        headers = {"Accept": JSON}
        bearer = token or self.token
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        if body is not None:
            headers["Content-Type"] = content_type or (MERGE_PATCH if method == "PATCH" else JSON)
        connection = http.client.HTTPSConnection(url.hostname or "", url.port or 443, timeout=timeout, context=context)
        try:
            connection.request(
                method,
                url.path.rstrip("/") + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
            )
            answer = connection.getresponse()
            return Response(answer.status, answer.read().decode(), answer.getheader("Warning", ""))
        finally:
            connection.close()


def access_from_kubeconfig(kubeconfig: Path, folder: Path) -> Access:
    """Read the current context through kubectl; its certificates go to `folder`.

    Raises ControlPlaneUnavailable if kubectl is missing or the context has no token and no client certificate.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise ControlPlaneUnavailable("kubectl is not installed: it reads CVJI_TEST_KUBECONFIG")
    done = subprocess.run(
        [kubectl, "config", "view", "--raw", "--minify", "--flatten", "-o", "json"],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ControlPlaneUnavailable(f"CVJI_TEST_KUBECONFIG cannot be read: {done.stderr.strip()}")
    config = json.loads(done.stdout)
    cluster = config["clusters"][0]["cluster"]
    user = config["users"][0]["user"]

    def decoded(source: dict[str, Any], field: str) -> Path | None:
        if field not in source:
            return None
        path = folder / field
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(source[field]))
        return path

    ca_file = decoded(cluster, "certificate-authority-data")
    certificate = decoded(user, "client-certificate-data")
    if ca_file is None:
        raise ControlPlaneUnavailable("CVJI_TEST_KUBECONFIG names no certificate authority")
    if "token" not in user and certificate is None:
        raise ControlPlaneUnavailable("CVJI_TEST_KUBECONFIG holds neither a token nor a client certificate")
    key = decoded(user, "client-key-data")
    return Access(cluster["server"], ca_file, user.get("token"), certificate, key)

"""Who we are to the Kubernetes API: a pod's service account, read here, or a kubeconfig, read by `kubernetes`.

The only importer of the `kubernetes` package, which gives kubeconfig files and exec plugins. It costs 15 MB, and a pod
does without.
"""

import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cvji.settings import SettingsError

T = TypeVar("T")

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # where the kubelet puts a pod's token and the CA
# An exec plugin fetches a token within seconds; one that waits for somebody to log in never ends.
TIMEOUT = 30.0


class Configuration(Protocol):
    """What is used of kubernetes.client.Configuration."""

    host: str
    ssl_ca_cert: str | None
    cert_file: str | None
    key_file: str | None
    verify_ssl: bool
    proxy: str | None
    tls_server_name: str | None

    def get_api_key_with_prefix(self, identifier: str) -> str | None:
        """The Authorization header's value, refreshed when due."""
        ...


class ServiceAccount:
    """A pod's own credentials. The kubelet replaces the token in time: it is read at each call, as it is then."""

    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    proxy: str | None = None
    tls_server_name: str | None = None

    def __init__(self, environment: Mapping[str, str], folder: Path = ACCOUNT) -> None:
        """Raises SettingsError."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal():
            raise SettingsError("Kubernetes credentials: KUBERNETES_SERVICE_HOST and _PORT do not name an API server")
        self.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self.ssl_ca_cert: str | None = str(folder / "ca.crt")
        self._token_file = folder / "token"
        self.get_api_key_with_prefix("BearerToken")
        try:
            ssl.create_default_context(cafile=self.ssl_ca_cert)
        except OSError as err:  # ssl.SSLError is one
            raise SettingsError(f"Kubernetes credentials: {self.ssl_ca_cert} holds no CA: {one_line(err)}") from None

    def get_api_key_with_prefix(self, identifier: str) -> str | None:  # noqa: ARG002
        """The Authorization header's value. Raises SettingsError."""
        try:
            token = self._token_file.read_text("utf-8").strip()
        except (OSError, UnicodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "not text"
            raise SettingsError(f"Kubernetes credentials: {self._token_file} cannot be read: {reason}") from None
        if not token:
            raise SettingsError(f"Kubernetes credentials: {self._token_file} is empty")
        return f"Bearer {token}"


def load(context: str = "") -> Configuration:
    """Credentials by KUBECONFIG, else the pod's service account, else ~/.kube/config. Raises SettingsError."""
    files = os.environ.get("KUBECONFIG", "")
    if not files and not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return ServiceAccount(os.environ)
    source = files or "~/.kube/config"
    if not any(Path(name).expanduser().exists() for name in source.split(os.pathsep) if name):
        wanted = f"KUBECONFIG {files} does not exist" if files else "~/.kube/config does not exist"
        raise SettingsError(f"{wanted}: set KUBECONFIG to a kubeconfig file, or run inside a cluster")
    return _kubeconfig(source, context)


def _kubeconfig(files: str, context: str) -> Configuration:
    from kubernetes.client.configuration import Configuration as Given
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import load_kube_config

    found: Configuration = Given(proxy="", no_proxy="")  # proxy-url alone; the rest is http.py's
    try:
        load_kube_config(config_file=files, context=context or None, client_configuration=found, persist_config=False)
    except ConfigException as err:
        chosen = f", context {context!r} (KUBE_CONTEXT)" if context else ""
        raise SettingsError(f"Kubernetes credentials{chosen}: {one_line(err)}") from None
    except OSError as err:
        raise SettingsError(f"Kubernetes credentials: {err.filename}: {err.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise SettingsError(
            f"KUBECONFIG {files} is not a kubeconfig: something in it is not what it should be ({type(err).__name__})"
        ) from None
    except Exception as err:  # noqa: BLE001  YAML errors come from a package that only `kubernetes` imports
        raise SettingsError(f"KUBECONFIG {files} is not YAML: {one_line(err)}") from None
    return found


def one_line(err: Exception) -> str:
    """An error's text on one line, shortened."""
    return " ".join(str(err).split())[:300]


class TimedCall(Generic[T]):
    """A call that may never return: its result is waited for up to TIMEOUT seconds, by several callers at once.

    Each call takes a thread, so what it gave is used for `keep` seconds; an error is not kept.
    """

    def __init__(self, work: Callable[[], T], keep: float = 0.0) -> None:
        self._work, self._keep = work, keep
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None
        self._began = float("-inf")

    def __call__(self) -> T:
        """Raises what the work raises, TimeoutError, or SettingsError where the system gives no thread now."""
        with self._lock:
            pending = self._pending
            if pending is None or (pending.done() and (pending.exception() or not self._is_fresh())):
                pending, began = Future(), time.monotonic()
                try:
                    threading.Thread(target=self._run, args=(pending,), name="credentials", daemon=True).start()
                except RuntimeError as err:
                    raise SettingsError(f"Kubernetes credentials: {err}") from None
                self._pending, self._began = pending, began  # only now: without a thread it would never be done
        return pending.result(TIMEOUT)

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._began < self._keep

    def forget(self) -> None:
        """Do it again at the next call."""
        with self._lock:
            self._began = float("-inf")

    def _run(self, pending: "Future[T]") -> None:
        try:
            pending.set_result(self._work())
        except Exception as err:  # noqa: BLE001  handed to those that wait
            pending.set_exception(err)

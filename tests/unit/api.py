"""A Kubernetes API for commands that look once: answers by path, and refusals."""

import json
from collections.abc import Mapping
from typing import Any

from cvji.kube.client import Api, ApiError


class FakeApi(Api):
    """Answers what it was given; everything else is not found. No requests are made."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers: dict[str, Any] = dict(answers or {})
        self.asked: list[str] = []
        self.denied: set[tuple[str, str]] = set()  # verb and resource, for access reviews
        self.time: float | None = None
        self.username = ""

    @property
    def host(self) -> str:
        return "https://kubernetes.example"

    def put(self, path: str, *items: Any) -> None:
        """A list at this path."""
        self.answers[path] = {"metadata": {"resourceVersion": "1"}, "items": list(items)}

    def get(
        self,
        path: str,
        query: Mapping[str, str | int] | None = None,
        *,
        timeout: float = 0.0,
        silence: float = 0.0,
        accept: str = "application/json",
    ) -> bytes:
        self.asked.append(path)
        selector = str((query or {}).get("labelSelector", ""))
        found = self.answers.get(f"{path}?{selector.rpartition('component=')[2]}", self.answers.get(path))
        if isinstance(found, ApiError):
            raise found
        if found is None:
            raise ApiError(404, "not found")
        return json.dumps(found).encode()

    def server_time(self) -> float | None:
        return self.time

    def send(self, method: str, path: str, body: bytes | None, **_: Any) -> bytes:
        asked = json.loads(body or b"{}")
        if path.endswith("selfsubjectreviews"):
            return json.dumps({"status": {"userInfo": {"username": self.username}}}).encode()
        attributes = asked["spec"]["resourceAttributes"]
        allowed = (attributes["verb"], attributes["resource"]) not in self.denied
        return json.dumps({"status": {"allowed": allowed}}).encode()

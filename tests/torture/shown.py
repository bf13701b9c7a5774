"""What CloudVision holds, and held: requests are merged as its API does it, and each change is kept with its time."""

from collections import defaultdict
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """One run as CloudVision shows it from `at` on. Times are seconds since the epoch."""

    at: float
    name: str
    state: str
    start: float
    end: float | None
    macs: frozenset[str]
    nodes: frozenset[str]


class Shown:
    """By key, what CloudVision was brought to show."""

    def __init__(self) -> None:
        self.jobs: dict[str, list[Entry]] = defaultdict(list)
        self.nodes: dict[str, list[frozenset[str]]] = defaultdict(list)
        self.held: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []  # what the service or the design does not allow

    def take(self, method: str, path: str, body: bytes, at: float) -> None:
        """One request that arrived."""
        parts = urlsplit(path)
        if method == "DELETE":
            self.nodes[unquote(parse_qs(parts.query)["key.id"][0])].append(frozenset())
            return
        request = msgspec.json.decode(body)
        if parts.path.endswith("NodeConfig"):
            nics = request["data_interfaces"]["values"]
            self.nodes[request["key"]["id"]].append(frozenset(nic["mac_address"] for nic in nics))
            return
        self.set_job(request, at)

    def set_job(self, request: dict[str, Any], at: float) -> None:
        """Set merges: what is absent keeps its value, an empty list clears."""
        run = request["key"]["id"]
        held = self.held.setdefault(run, {})
        held.update({field: value for field, value in request.items() if value is not None})
        state = held["state"].removeprefix("JOB_STATE_")
        if (state == "RUNNING") != ("end_time" not in held):
            self.refused.append(f"{run}: {state} with end_time {held.get('end_time')}")
        if self.jobs[run] and self.jobs[run][-1].state != "RUNNING" and state != self.jobs[run][-1].state:
            self.refused.append(f"{run}: {self.jobs[run][-1].state} became {state}")
        self.jobs[run].append(
            Entry(
                at,
                held["name"],
                state,
                seconds(held["start_time"]),
                seconds(held["end_time"]) if "end_time" in held else None,
                frozenset(held.get("interfaces", {}).get("values", ())),
                frozenset(held.get("nodes", {}).get("values", ())),
            )
        )


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

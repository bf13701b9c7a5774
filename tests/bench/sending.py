"""Reports by hand, over one connection."""

import time
from collections.abc import Iterator
from pathlib import Path

from cvji.cloudvision import CloudVisionClient
from tests.bench.figures import Row, bench, percentiles
from tests.simulator.cloudvision import CloudVisionSimulator

SENDS = 10_000


@bench
def sends(folder: Path) -> Iterator[Row]:  # noqa: ARG001
    """10,000 jobs through one client object; the receiver, which checks each, shares this process's one core."""
    with CloudVisionSimulator() as cloudvision:
        waits = []
        with CloudVisionClient(cloudvision.address, cloudvision.token, api_ca_file=str(cloudvision.ca_file)) as client:
            began, used = time.monotonic(), time.thread_time()
            for number in range(SENDS):
                at = time.monotonic()
                client.send_jobconfig(
                    job_id=f"job-{number}",
                    job_name="train",
                    location="lab",
                    job_state="RUNNING",
                    interfaces=[f"02:00:00:00:{n:02x}:{number & 255:02x}" for n in range(8)],
                )
                waits.append(time.monotonic() - at)
            took, used = time.monotonic() - began, time.thread_time() - used
        assert len(cloudvision.jobs) == SENDS
        yield Row("CloudVisionClient", "sends a second", SENDS / took, note=f"{SENDS:,} sends of 8 MACs")
        yield Row("CloudVisionClient", "CPU of the client's thread", used / SENDS * 1e6, "µs/send")
        yield Row("CloudVisionClient", "connections", cloudvision.most_connections, most=1)
        yield from percentiles("CloudVisionClient", "a send", waits)

"""A tenant scheduler that reports its own jobs: one connection, errors that say what is wrong."""

import os

from cvji.cloudvision import CloudVisionClient, DeliveryError, InvalidReportError

client = CloudVisionClient(
    os.environ["API_SERVER"], os.environ["API_TOKEN"], api_ca_file=os.environ.get("API_CA_FILE", "")
)
job = {"job_id": "tenant-7-42", "job_name": "llm", "location": "dc1", "start_time": "2026-01-31T12:00:00Z"}
macs = ["0c:42:a1:00:00:10", "0c:42:a1:00:00:11"]

with client:
    try:
        client.send_jobconfig(**job, job_state="RUNNING", interfaces=macs, tenant=True)
        client.send_jobconfig(**job, job_state="RUNNING", interfaces=macs[:1], tenant=True)  # it gave one back
        client.send_jobconfig(**job, job_state="COMPLETED", interfaces=macs[:1], tenant=True)
    except InvalidReportError as err:
        raise SystemExit(f"the report is wrong: {err}") from None  # err.field says which part
    except DeliveryError as err:
        raise SystemExit(f"not delivered after {err.attempts} attempts: {err}") from None  # err.status is HTTP's

"""A report of each kind with every field set."""

from cvji.jobs.report import JobState, of_macs
from cvji.nodes.inventory import Nic, NodeReport
from tests.unit.test_records import MACS, job_report

FULL = job_report(
    run=2,
    state=JobState.COMPLETED,
    end=1_700_000_060,
    kept=of_macs(MACS[:3]),
    newest=1_699_999_000,
    finished=1_700_000_050,
    switched=True,
)
NODE = NodeReport("gpu-1", (Nic("eth1", MACS[0], ("10.0.0.1", "fe80::1")), Nic("eth2", MACS[1], ())))

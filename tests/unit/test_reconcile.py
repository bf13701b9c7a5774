"""`cvji reconcile --end`: what is sent for an entry that nobody reports any more."""

from datetime import UTC, datetime

import msgspec
import pytest

from cvji.cloudvision.reading import JobEntry
from cvji.reconcile import _cancelled

NOW = 1_767_225_600.0


@pytest.mark.parametrize("zone", ["Z", "+00:00", ""])
def test_an_entry_whose_start_has_no_zone_can_be_ended(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    raw = f'{{"key": {{"id": "a"}}, "state": "JOB_STATE_RUNNING", "startTime": "2025-12-31T00:00:00{zone}"}}'
    entry = msgspec.json.decode(raw, type=JobEntry)
    sent = _cancelled(entry, NOW)
    assert (sent.start_time, sent.end_time) == (
        "2025-12-31T00:00:00Z",
        datetime.fromtimestamp(NOW, UTC).isoformat()[:19] + "Z",
    )

"""An etcd restored from a backup: resourceVersions go back, and no watch tells."""

from typing import Any, cast

import pytest

from cvji.kube.client import ApiError
from tests.unit.listwatch import event, page, play, thing

AWAY = ApiError(0, "connection refused")


def test_what_vanished_with_a_restored_backup_is_deleted(caplog: pytest.LogCaptureFixture) -> None:
    """The API server would accept the old version, and send nothing until it has counted past it."""
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "1001"}})
    emitted, script, _ = play(
        page(999, thing("a", 10), thing("b", 900)),
        [bookmark, AWAY],
        page(510, thing("a", 10)),
        [],
        newest=[ApiError(503, "etcd"), "509"],
    )
    assert emitted == ["applied a=0", "applied b=0", "listed", "deleted b=0", "listed"]
    assert "resourceVersion" not in script.asked[2]
    assert script.looks == 2
    assert "resourceVersion went back from 1001 to 509" in caplog.text


@pytest.mark.parametrize("newest", ["1001", "1002", "10000", "", "0999", "x", "-5", "\u0663", "9" * 5000])
def test_a_version_that_is_not_certainly_older_is_watched_on(newest: str) -> None:
    emitted, script, _ = play(page(1001, thing("a", 10)), AWAY, [event("ADDED", thing("b", 1002))], newest=[newest])
    assert emitted == ["applied a=0", "listed", "applied b=0"]
    assert script.looks == 1


def test_the_newest_version_is_asked_for_only_after_a_failure() -> None:
    added = [[event("ADDED", thing(f"a{number}", 8 + number))] for number in range(3)]
    _, script, _ = play(page(7), *cast("Any", added))
    assert script.looks == 0

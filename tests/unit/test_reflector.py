"""List-watch (issue: nothing missed, nothing twice), against a scripted API server."""

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
import pytest

from cvji.kube.client import Api, ApiError
from cvji.kube.events import Applied, ClusterEvent, Listed
from cvji.kube.reflector import Reflector
from tests.unit.listwatch import JOBS, Script, Thing, event, in_short, page, play, thing


def test_pages_then_a_watch_from_the_lists_version() -> None:
    emitted, script, _ = play(
        page(7, thing("a", 3), more="next"),
        page(7, thing("b", 5)),
        [
            event("MODIFIED", thing("a", 9, 1)),
            event("DELETED", thing("b", 10, 2)),
            event("ADDED", thing("c", 11)),
        ],
    )
    assert emitted == ["applied a=0", "applied b=0", "listed", "applied a=1", "deleted b=2", "applied c=0"]
    assert [query.get("continue") for query in script.asked[:2]] == [None, "next"]
    assert {**script.asked[2]} | {"timeoutSeconds": 0} == {
        "watch": "1",
        "resourceVersion": "7",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": 0,
    }
    assert 300 <= int(script.asked[2]["timeoutSeconds"]) <= 600


def test_a_closed_watch_goes_on_from_the_last_version_seen_bookmarks_included() -> None:
    emitted, script, _ = play(
        page(7),
        [event("ADDED", thing("a", 8)), event("BOOKMARK", {"metadata": {"resourceVersion": "20"}})],
        [event("ADDED", thing("b", 21))],
    )
    assert emitted == ["listed", "applied a=0", "applied b=0"]
    assert script.asked[2]["resourceVersion"] == "20"


@pytest.mark.parametrize(
    "gone",
    [
        ApiError(410, "too old"),
        [event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})],
        [event("ERROR", {"kind": "Status", "reason": "Gone"})],
    ],
)
def test_410_lists_again_and_finds_what_was_missed(gone: Any) -> None:
    emitted, script, _ = play(
        page(7, thing("a", 3), thing("b", 4), thing("c", 5)),
        gone,
        page(30, thing("a", 3), thing("c", 28, 9), thing("d", 29)),
        [],
    )
    assert emitted[3:] == ["listed", "applied c=9", "applied d=0", "deleted b=0", "listed"]
    assert "resourceVersion" not in script.asked[2]


def test_410_over_and_over_is_no_busy_loop() -> None:
    again: list[bytes | list[bytes | Exception] | Exception] = [page(7), ApiError(410, "too old")] * 6
    _, script, _ = play(*again, page(7), [])
    assert len(script.waited) >= 5
    assert script.waited == sorted(script.waited)


def test_a_version_that_an_outage_outlasted_is_listed_again_at_once() -> None:
    away = [ApiError(0, "connection refused")] * 8
    emitted, script, _ = play(page(7, thing("a", 3)), *away, ApiError(410, "too old"), page(30), [])
    assert emitted == ["applied a=0", "listed", "deleted a=0", "listed"]
    assert len(script.waited) == len(away) + 1  # after the 410 there was none, and one for the watch that ended at once


def test_a_watch_that_ends_at_once_is_no_busy_loop() -> None:
    _, script, _ = play(page(7), [], [], [], [])
    assert len(script.waited) == 4


def test_the_list_expiring_between_two_pages_begins_again_and_loses_nothing() -> None:
    emitted, _, _ = play(
        page(7, thing("a", 3), more="next"), ApiError(410, "continue too old"), page(9, thing("b", 5)), []
    )
    assert emitted == ["applied a=0", "applied b=0", "deleted a=0", "listed"]


def test_a_failing_list_forgets_nothing() -> None:
    emitted, _, _ = play(
        page(7, thing("a", 3)),
        ApiError(410, ""),
        page(9, more="next"),
        ApiError(500, "etcd"),
        page(9, thing("a", 3)),
        [],
    )
    assert emitted == ["applied a=0", "listed", "listed"]


def test_an_object_that_cannot_be_read_is_logged_once_and_is_not_deleted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    emitted, _, reflector = play(
        page(7, thing("a", 3, 1), thing("b", 4)),
        [event("MODIFIED", thing("a", 8, "no number")), event("MODIFIED", thing("a", 9, "still none"))],
        ApiError(410, ""),
        page(20, thing("a", 9, "still none"), thing("b", 4)),
        [event("MODIFIED", thing("a", 21, 2)), event("DELETED", thing("a", 22, "odd"))],
    )
    assert emitted == ["applied a=1", "applied b=0", "listed", "listed", "applied a=2", "deleted a=2"]
    warnings = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    assert warnings == ["jobs.batch a is skipped: Expected `int`, got `str` - at `$.value`"]
    assert reflector.state.decode_failures == 3


def test_an_object_without_a_name_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    nameless = {"metadata": {"uid": "u1", "resourceVersion": "4"}, "value": "x"}
    emitted, _, _ = play(
        page(7, nameless, thing("b", 4)), [event("ADDED", {"value": "x"}), b'{"type":"ADDED","object":3}']
    )
    assert emitted == ["applied b=0", "listed"]
    assert "jobs.batch without a name (uid u1) is skipped" in caplog.text
    assert "uid missing too" in caplog.text


@pytest.mark.parametrize("broken", [b'{"type":"MODIFIED","obj', b"<html>", b"[]", b"\xff\xfe"])
def test_a_line_cut_short_resumes_from_the_last_whole_event(broken: bytes) -> None:
    emitted, script, _ = play(page(7), [event("ADDED", thing("a", 8)), broken], [event("ADDED", thing("b", 9))])
    assert emitted == ["listed", "applied a=0", "applied b=0"]
    assert script.asked[2]["resourceVersion"] == "8"


def test_forbidden_is_logged_once_and_retried_slowly(caplog: pytest.LogCaptureFixture) -> None:
    emitted, script, _ = play(*[ApiError(403, "no")] * 4, page(7, thing("a", 3)), [])
    assert emitted == ["lost", "applied a=0", "listed"]
    assert max(script.waited[:2]) <= 2
    assert min(script.waited[2:4]) >= 30
    assert caplog.text.count("HTTP 403: no") == 1


def test_an_api_server_that_does_not_know_its_permissions_yet_is_asked_again_soon() -> None:
    away = [ApiError(0, "connection refused")] * 3
    emitted, _, _ = play(*away, *[ApiError(403, "no")] * 2, page(7, thing("a", 3)), [])
    assert emitted == ["applied a=0", "listed"]


def test_no_longer_served_ends_it_and_keeps_what_was_known() -> None:
    script_end = page(9)
    emitted, script, reflector = play(page(7, thing("a", 3)), ApiError(410, ""), ApiError(404, "gone"), script_end)
    assert emitted == ["applied a=0", "listed", "lost"]
    assert script.steps == [script_end]
    assert reflector._known


def test_a_kind_whose_list_keeps_failing_does_not_hold_up_the_rest() -> None:
    emitted, script, _ = play(*[ApiError(500, "conversion webhook")] * 8, page(7), [])
    assert emitted == ["lost", "listed"]
    assert script.waited[:8] == sorted(script.waited[:8])


def test_pages_that_expire_over_and_over_are_given_up_for_one_whole_list() -> None:
    emitted, script, _ = play(
        page(7, thing("a", 3), more="next"),
        ApiError(410, "continue too old"),
        page(9, thing("a", 3), thing("b", 5)),
        [],
    )
    assert emitted == ["applied a=0", "applied b=0", "listed"]
    assert [query.get("limit") for query in script.asked[:3]] == [500, 500, None]


def test_a_list_that_never_gets_on_is_a_failure_and_no_endless_loop() -> None:
    same = page(7, thing("a", 3), more="same")
    emitted, script, _ = play(same, same, page(9, thing("a", 3)), [])
    assert emitted == ["applied a=0", "listed"]
    assert len(script.waited) == 2


def test_a_list_without_a_version_is_watched_from_where_the_server_likes() -> None:
    bare = json.dumps({"metadata": {}, "items": [thing("a", 3)]}).encode()
    emitted, script, _ = play(bare, [event("ADDED", thing("a", 3)), event("ADDED", thing("b", 4))], [])
    assert emitted == ["applied a=0", "listed", "applied b=0"]
    assert [query.get("resourceVersion") for query in script.asked] == [None, "", "4"]


def test_an_object_nested_deeper_than_the_decoder_goes_is_read_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    deep = thing("deep", 8) | {"odd": json.loads("[" * 500 + "]" * 500)}
    body = page(7, thing("a", 3), deep).replace(b"[" * 500, b"[" * 5_000).replace(b"]" * 500, b"]" * 5_000)
    emitted, _, _ = play(body, [])
    assert emitted == ["applied a=0", "applied deep=0", "listed"]
    assert caplog.text == ""


def test_a_kind_served_again_shows_what_was_deleted_meanwhile() -> None:
    _, _, before = play(page(7, thing("a", 3), thing("b", 4)), ApiError(404, "gone"))
    emitted, _, _ = play(page(30, thing("b", 4)), [], known=before._known)
    assert emitted == ["deleted a=0", "listed"]


def test_a_list_that_failed_long_enough_is_given_up_whatever_failed_before_it() -> None:
    """A watch that had failed for long already, and then an expired version."""
    emitted, _, _ = play(
        page(7), *[ApiError(500, "no")] * 9, ApiError(410, ""), *[ApiError(500, "no")] * 2, page(9), []
    )
    assert emitted == ["listed", "lost", "listed"]


def test_a_relist_ends_the_watch_and_says_in_which_round_it_listed() -> None:
    rounds = [0]
    ended: list[str] = []

    class Doubted(Script):
        """Is asked for a new list in the middle of a watch."""

        def watch(self, path: str, query: Mapping[str, str | int], opened: Any, *, accept: str) -> Iterator[bytes]:
            opened(lambda: ended.append("watch"))
            for line in super().watch(path, query, opened, accept=accept):
                if not ended:
                    rounds[0] += 1
                    reflector.relist()
                    raise ApiError(0, "shut down")
                yield line

    script = Doubted(page(7, thing("a", 3)), [event("ADDED", thing("b", 8))], page(9, thing("b", 8)), [])
    emitted: list[ClusterEvent] = []
    reflector = Reflector(
        cast("Api", script),
        JOBS,
        msgspec.json.Decoder(Thing).decode,
        emitted.extend,
        stop=script.stop,
        round=lambda: rounds[0],
        clock=lambda: 0.0,
    )
    waits: list[float] = []
    reflector._wait = waits.append  # type: ignore[method-assign,assignment]
    reflector.run()
    assert list(map(in_short, emitted)) == ["applied a=0", "listed", "applied b=0", "deleted a=0", "listed"]
    assert [happened.round for happened in emitted if isinstance(happened, Listed)] == [0, 1]
    assert ended == ["watch"]
    assert len(waits) == 1  # for the last watch, which ended at once; not for the one that we ended


def test_metadata_alone_is_asked_for_and_never_whole_objects() -> None:
    _, script, _ = play(page(7), [], metadata_only=True, page_size=50)
    assert script.asked[0] == {"limit": 50}
    assert script.accepted == [
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    ]


def test_a_full_queue_holds_back_the_reading() -> None:
    """And so the API server: nothing piles up in between."""
    taken: queue.Queue[list[ClusterEvent]] = queue.Queue(2)
    pulled = 0

    def lines() -> Iterator[bytes]:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield event("ADDED", thing(f"t{number}", 8 + number))

    class Endless(Script):
        """A watch that has a hundred events ready at once."""

        def watch(self, path: str, query: Mapping[str, str | int], opened: Any, *, accept: str) -> Iterator[bytes]:
            self._next(query)
            return lines()

    script = Endless(page(7), [])
    reflector = Reflector(
        cast("Api", script), JOBS, msgspec.json.Decoder(Thing).decode, taken.put, stop=script.stop, clock=lambda: 0.0
    )
    reflector._wait = lambda _: None  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=reflector.run, daemon=True)
    thread.start()
    names: list[str] = []
    while len(names) < 100:
        assert pulled <= len(names) + 5
        names += [
            happened.object.name
            for happened in taken.get(timeout=10)
            if isinstance(happened, Applied) and isinstance(happened.object, Thing)
        ]
        assert pulled <= len(names) + 5
    thread.join(10)
    assert names == [f"t{number}" for number in range(100)]

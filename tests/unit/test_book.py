"""The book: written before it is sent, acknowledged afterwards, kept for a while. Time is a number here."""

import msgspec
import pytest

from cvji.jobs.report import JobState, RunReport, of_macs
from cvji.nodes.inventory import Nic, NodeReport
from cvji.reports.book import (
    HISTORY_AGE,
    HISTORY_SIZE,
    WAITING,
    Acknowledge,
    Action,
    Book,
    Check,
    Forget,
    Newest,
    Send,
    Write,
    key_of,
)
from cvji.reports.records import Delivery, ListedRecord, Reason, Record, Stored

RUN = RunReport("uid", 1, "job", "team", "batch/Job", JobState.RUNNING, 100, None, of_macs(["02:00:00:00:00:01"]))
DONE = msgspec.structs.replace(RUN, state=JobState.COMPLETED, end=200)
KEY = key_of(RUN)
NODE = NodeReport("n1", (Nic("e0", "02:00:00:00:00:09", ()),))


def book(*, durable: bool = True, resync: float = 0.0, history: float = HISTORY_AGE) -> Book:
    return Book("lab", durable=durable, resync=resync, history=history)


def delivered(one: Book, report: RunReport | NodeReport, now: float = 0) -> None:
    """Report it, and let everything succeed at once."""
    one.put(report, now)
    settle(one, now)


def settle(one: Book, now: float) -> None:
    while actions := list(one.take()):
        for action in actions:
            if isinstance(action, Write):
                one.written(action.record.key, action.record.revision, now)
            elif isinstance(action, Send):
                one.delivered(action.key, action.revision, now)


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_a_report_is_written_then_sent_then_acknowledged() -> None:
    one = book()
    one.put(RUN, 0)
    assert list(one.take()) == [Write(Record(KEY, 1, RUN))]
    assert one.newest(KEY) is None  # not to be sent yet
    one.written(KEY, 1, 5)
    assert list(one.take()) == [Send(KEY, 1)]
    assert one.newest(KEY) == Newest(1, RUN)
    one.delivered(KEY, 1, 6)
    assert list(one.take()) == [Acknowledge(KEY, 1, Delivery(Reason.ACCEPTED, 6))]
    assert one.unsettled() == 0


def test_how_long_reports_wait_counts_from_when_they_were_due_whatever_they_wait_for() -> None:
    one = book()
    one.put(RUN, 100)
    one.put(DONE, 130)
    assert one.oldest_age(160) == 60
    settle(one, 170)
    assert one.oldest_age(180) == 0
    one.put(DONE, 200)
    assert one.oldest_age(190) == 0  # the clock was set back


def test_without_records_a_report_is_sent_at_once_and_nothing_else_happens() -> None:
    one = book(durable=False)
    one.put(RUN, 0)
    assert list(one.take()) == [Send(KEY, 1)]
    one.delivered(KEY, 1, 6)
    one.put(DONE, 0)
    one.finish(DONE, 0)
    assert list(one.take()) == [Send(KEY, 2)]
    one.delivered(KEY, 2, 7)
    assert list(one.take()) == []
    assert len(one._entries) == 0


def test_what_is_written_while_a_newer_report_comes_is_not_sent() -> None:
    one = book()
    one.put(RUN, 0)
    one.put(DONE, 0)
    list(one.take())
    one.written(KEY, 1, 0)
    assert list(one.take()) == []
    one.written(KEY, 2, 0)
    assert list(one.take()) == [Send(KEY, 2)]


def test_an_answer_to_an_older_report_does_not_settle_the_newer_one() -> None:
    one = book()
    one.put(RUN, 0)
    one.written(KEY, 1, 0)
    one.put(DONE, 0)
    list(one.take())
    one.delivered(KEY, 1, 1)
    assert one.unsettled() == 1
    one.written(KEY, 2, 1)
    assert list(one.take()) == [Send(KEY, 2)]


@pytest.mark.parametrize("restored", [True, False])
def test_a_late_answer_about_a_keys_former_entry_does_not_settle_its_new_one(restored: bool) -> None:
    one, key, gone = book(), key_of(NODE), NodeReport("n1", ())
    if restored:
        one.restore(listed(gone, delivered=False), 0)
        (former,) = (action.revision for action in one.take() if isinstance(action, Send))
    else:
        one.put(gone, 0)
        (former,) = (action.record.revision for action in one.take() if isinstance(action, Write))
        one.written(key, former, 0)
    one.delivered(key, former, 1)
    one.put(NODE, 2)
    write = list(one.take())[-1]
    assert isinstance(write, Write)
    one.written(key, former, 3)
    one.delivered(key, former, 3)
    assert (one.newest(key), one.unsettled()) == (None, 1)
    one.written(key, write.record.revision, 4)
    assert list(one.take()) == [Send(key, write.record.revision)]
    assert one.newest(key) == Newest(write.record.revision, NODE)


def test_what_only_a_successor_needs_is_written_and_not_sent() -> None:
    one = book()
    delivered(one, RUN)
    kept = msgspec.structs.replace(RUN, kept=RUN.holds)
    one.keep(kept)
    assert list(one.take()) == [Write(Record(KEY, 2, kept))]
    one.written(KEY, 2, 9)
    assert list(one.take()) == [Acknowledge(KEY, 2, Delivery(Reason.ACCEPTED, 9))]


def test_what_no_record_holds_stays_in_memory_until_it_is_delivered() -> None:
    one = book()
    one.put(DONE, 0)
    one.written(KEY, 1, 0, remembered=False)
    one.finish(DONE, 0)
    one.advance(WAITING)
    assert one.newest(KEY) == Newest(1, DONE)
    one.written(KEY, 1, 60)  # the record could be written after all
    one.advance(60 + WAITING)
    assert one.newest(KEY) == Newest(1, None)


def test_an_older_record_does_not_stand_in_for_the_end_that_could_not_be_written() -> None:
    one = book()
    delivered(one, RUN)
    one.put(DONE, 10)
    one.written(KEY, 2, 10, remembered=False)
    one.finish(DONE, 10)
    one.advance(10 + WAITING)
    assert one.newest(KEY) == Newest(2, DONE)


def test_what_follows_from_an_action_is_done_with_it_and_one_that_fails_costs_only_itself() -> None:
    one = book()
    one.put(RUN, 0)
    one.put(msgspec.structs.replace(RUN, job="other"), 0)
    for action in one.take():
        assert isinstance(action, Write)
        break  # it failed
    found = []
    for action in one.take():
        found.append(type(action))
        if isinstance(action, Write):
            one.written(action.record.key, action.record.revision, 0, remembered=False)
    assert found == [Write, Send]


def test_what_waits_for_long_says_why_and_leaves_memory_once_nothing_follows() -> None:
    one = book()
    one.put(DONE, 0)
    one.written(KEY, 1, 0)
    one.finish(DONE, 0)
    away = Delivery(Reason.UNREACHABLE, 3, "connection refused")
    one.failed(KEY, 1, away)
    list(one.take())
    one.advance(WAITING - 1)
    assert list(one.take()) == []
    assert one.next_deadline() == WAITING
    one.advance(WAITING)
    assert list(one.take()) == [Acknowledge(KEY, 1, away)]
    assert one.newest(KEY) == Newest(1, None)
    one.delivered(KEY, 1, 60)
    assert list(one.take()) == [Acknowledge(KEY, 1, Delivery(Reason.ACCEPTED, 60))]
    assert len(one._entries) == 0


def test_a_report_whose_record_was_deleted_after_memory_had_given_it_up_is_waited_for_no_more() -> None:
    one = book()
    one.put(DONE, 0)
    one.written(KEY, 1, 0)
    one.finish(DONE, 0)
    one.lost(KEY, 1)
    assert one.unsettled() == 1  # it is in memory still
    one.advance(WAITING)
    one.lost(KEY, 0)
    assert one.unsettled() == 1
    one.lost(KEY, 1)
    assert (one.unsettled(), one.oldest_age(30 * 86_400), one.newest(KEY)) == (0, 0, None)
    one.put(DONE, 60)  # its job is seen again
    one.lost(KEY, 1)
    assert one.unsettled() == 1


def test_a_refusal_stands_in_the_record() -> None:
    one = book()
    one.put(RUN, 0)
    one.written(KEY, 1, 0)
    list(one.take())
    refusal = Delivery(Reason.REFUSED, 3, "HTTP 400: no")
    one.failed(KEY, 1, refusal)
    assert list(one.take()) == [Acknowledge(KEY, 1, refusal)]


def test_the_record_of_what_is_over_goes_after_a_day() -> None:
    one = book()
    delivered(one, DONE, now=20)
    list(one.take())
    one.finish(DONE, 50)
    one.advance(49 + HISTORY_AGE)
    assert list(one.take()) == []
    one.advance(50 + HISTORY_AGE)
    assert list(one.take()) == [Forget(KEY)]
    assert one.next_deadline() is None


def test_the_record_of_what_is_over_goes_at_once_if_the_operator_wants_none() -> None:
    one = book(history=0)
    delivered(one, DONE, now=20)
    list(one.take())
    one.finish(DONE, 25)
    assert one.next_deadline() == 25
    one.advance(25)
    assert list(one.take()) == [Forget(KEY)]


def test_no_more_than_a_thousand_records_of_what_is_over_are_kept() -> None:
    one = book()
    for number in range(HISTORY_SIZE + 5):
        run = msgspec.structs.replace(DONE, job=f"uid-{number}")
        delivered(one, run, now=number)
        one.finish(run, number)
    list(one.take())
    one.advance(HISTORY_SIZE)
    assert list(one.take()) == [Forget(("job", f"uid-{number}")) for number in range(5)]


def test_a_second_run_makes_the_first_history() -> None:
    one = book()
    delivered(one, DONE)
    assert len(one._entries) == 1  # its job's object stands: a successor must know how many runs there were
    delivered(one, msgspec.structs.replace(RUN, run=2))
    assert len(one._entries) == 1
    one.advance(HISTORY_AGE)
    assert Forget(KEY) in one.take()


def test_the_record_of_a_removed_node_goes_with_its_delivery() -> None:
    one = book()
    delivered(one, NODE)
    one.put(NodeReport("n1", ()), 0)
    assert kinds(list(one.take())) == ["Write"]
    one.written(("node", "n1"), 2, 0)
    list(one.take())
    one.delivered(("node", "n1"), 2, 1)
    assert kinds(list(one.take())) == ["Acknowledge", "Forget"]
    assert one.nodes() == 0


def listed(
    report: RunReport | NodeReport, *, delivered: bool = True, location: str = "lab", changed: bool = False
) -> ListedRecord:
    record = Record(key_of(report), 0, report)
    return ListedRecord(record, Stored("x", "1", 1, 0), delivered, None, location, changed)


def test_a_successor_sends_what_was_not_delivered_and_nothing_else() -> None:
    one = book()
    one.restore(listed(RUN), 0)
    one.restore(listed(NODE, delivered=False), 0)
    assert list(one.take()) == [Send(("node", "n1"), 0)]
    assert one.newest(("node", "n1")) == Newest(0, NODE)
    one.delivered(("node", "n1"), 0, 1)
    assert list(one.take()) == [Acknowledge(("node", "n1"), 0, Delivery(Reason.ACCEPTED, 1))]
    assert one.unsettled() == 0


def test_a_new_location_is_reported() -> None:
    one = book()
    one.restore(listed(RUN, location="elsewhere"), 0)
    assert list(one.take()) == [Write(Record(KEY, 1, RUN))]


@pytest.mark.parametrize("how", ["deleted", "edited"])
def test_a_record_that_somebody_changed_is_written_again(how: str) -> None:
    one = book()
    delivered(one, RUN)
    one.rewrite(KEY) if how == "deleted" else one.recheck(listed(RUN, changed=True))
    (write,) = one.take()
    assert write == Write(Record(KEY, 2, RUN))
    one.written(KEY, 2, 5)
    assert list(one.take()) == [Acknowledge(KEY, 2, Delivery(Reason.ACCEPTED, 5))]


def test_a_record_that_is_nobodys_is_deleted() -> None:
    one = book()
    one.recheck(listed(RUN))
    assert list(one.take()) == [Forget(KEY)]


def test_everything_that_runs_is_repeated_once_a_round_evenly_spread() -> None:
    one = book(resync=3600)
    runs = [msgspec.structs.replace(RUN, job=f"uid-{number}") for number in range(10)]
    for run in runs:
        delivered(one, run)
    delivered(one, msgspec.structs.replace(DONE, job="over"))
    one.advance(0)
    times: dict[str, list[int]] = {}
    for now in range(0, 3 * 3600, 60):
        one.advance(now)
        for action in one.take():
            if isinstance(action, Send):
                times.setdefault(action.key[1], []).append(now)
                one.delivered(action.key, action.revision, now)
    assert set(times) == {run.job for run in runs}
    assert all(len(at) in (1, 2) for at in times.values())
    assert len({at[0] for at in times.values()}) == 10


@pytest.mark.parametrize("jump", [3 * 86_400, -3 * 86_400])
def test_a_clock_that_jumps_does_not_replay_the_rounds_in_between(jump: int) -> None:
    one = book(resync=3600)
    for number in range(10):
        delivered(one, msgspec.structs.replace(RUN, job=f"uid-{number}"))
    for now in range(0, 4000, 60):
        one.advance(10**6 + now)
        settle(one, now)
    sends = 0
    for now in range(0, 3600, 60):
        one.advance(10**6 + jump + now)
        actions = list(one.take())
        sends += sum(isinstance(action, Send) for action in actions)
    assert sends <= 10
    one.advance(10**6 + jump + 3700)
    assert any(isinstance(action, Check | Send) for action in one.take())

"""The informer put together, without a server that answers."""

import queue

from cvji.cloudvision.client import Client, Token
from cvji.commands import InformerSettings
from cvji.informer.inbox import Message, RecordGone
from cvji.informer.run import Informer
from cvji.jobs.report import JobState, RunReport, of_macs
from cvji.reports.book import WAITING, Newest, key_of
from cvji.settings import CloudVision
from cvji.telemetry.metrics import Metrics
from tests.unit.api import FakeApi

DONE = RunReport("uid", 1, "job", "team", "batch/Job", JobState.COMPLETED, 100, 200, of_macs(["02:00:00:00:00:01"]))


def test_a_report_whose_record_was_deleted_while_cloudvision_was_away_raises_no_alarm_for_ever() -> None:
    inbox: queue.Queue[Message] = queue.Queue()
    settings = InformerSettings(location="lab", state_namespace="cloudvision")
    client = Client(CloudVision("localhost:1"), Token("secret"))
    informer = Informer(settings, FakeApi(), Metrics(), client=client, inbox=inbox)  # which has no records
    book, key = informer.reporter.book, key_of(DONE)
    book.put(DONE, 0)
    book.written(key, 1, 0)
    book.finish(DONE, 0)
    book.advance(WAITING)
    assert book.newest(key) == Newest(1, None)
    informer.deliver.put(key, 1)
    message = inbox.get(timeout=20)
    informer.deliver.close()
    assert message == RecordGone(key, 1)
    informer.loop._take(message)
    assert informer.loop.look().outbox == 0

"""Whatever an object holds, reading it ends in an object or in an error that its reader knows."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvji.jobs.attachments import multus_macs
from cvji.jobs.kinds import Registry
from cvji.jobs.nics import read_claim
from cvji.jobs.pods import read_pod
from cvji.kube.client import ApiError
from cvji.kube.objects import DEPTH, ObjectList, WatchEvent, known_time, shallow
from cvji.kube.served import decode
from cvji.macs import unpack
from cvji.nodes.inventory import read_node_state
from cvji.settings import NodeInterfaceType
from tests.simulator.objects import Object, ended, job, networks, pod, pod_status, running

REGISTRY = Registry([("example.com", "Training")])
UNREADABLE = (msgspec.MsgspecError, UnicodeError)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def named(obj: Object) -> Object:
    obj["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return obj


TIMES = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z")
OWNER = named(job("kubeflow.org", "PyTorchJob", "j"))
CLAIM = {
    "metadata": {"name": "c", "uid": "u"},
    "status": {
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
        "devices": [{"networkData": {"hardwareAddress": "02:00:00:00:00:01"}}],
    },
}
NODE = {
    "metadata": {"name": "n", "uid": "u"},
    "status": {
        "interfaces": [{"name": "a", "mac": "02:00:00:00:00:01", "ip": "10.0.0.1", "Vfs": [{"pciAddress": "x"}]}]
    },
}
SAMPLES: list[tuple[Any, Object]] = [
    (
        lambda raw: read_pod(REGISTRY, raw),
        named(pod("p", OWNER, "02:00:00:00:00:01") | {"status": pod_status("Succeeded", *TIMES)}),
    ),
    (read_claim, CLAIM),
    (lambda raw: read_node_state(NodeInterfaceType.ALL, raw), NODE),
    *(
        (lambda raw, kind=kind: REGISTRY.read(kind, raw), named(job(*kind.key, "j", owner=OWNER)) | {"status": status})
        for kind in Registry()
        for status in (running(*kind.key, TIMES[0]), ended(*kind.key, "FAILED", *TIMES))
    ),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(["[]", "{}", "[[]]", "[{}]", '{"": {}}', "[null]", "-1" + "0" * 400]).map(json.loads),
    st.sampled_from(["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-06-30T23:59:60Z"]),
    st.datetimes().map(lambda at: at.isoformat() + "+14:00"),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document where another value may stand: its container and key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *places(value[key])]]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_value_anywhere_in_an_object_breaks_its_reader(data: st.DataObject) -> None:
    read, sample = data.draw(st.sampled_from(SAMPLES))
    document = json.loads(json.dumps(sample))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document)))
        container[key] = data.draw(ODD)
    with contextlib.suppress(*UNREADABLE):
        read(json.dumps(document).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-", b'"\\ud800"', b'"\xff"', b"[", b"'x'"])
def test_what_is_no_json_is_an_error_that_is_known(word: bytes) -> None:
    with pytest.raises(UNREADABLE):
        read_pod(REGISTRY, b'{"metadata":{"name":"p","uid":"u"},"status":{"phase":%s}}' % word)


def test_an_annotation_of_brackets_is_a_problem_and_no_crash() -> None:
    macs, problem = multus_macs('[{"x":' + deep(100_000).decode() + "}]")
    assert macs == ()
    assert "network-status annotation is not a list of networks" in problem


@pytest.mark.parametrize("levels", [900, 1_000, 9_990, 200_000])
def test_one_deep_object_harms_neither_its_page_nor_itself(levels: int) -> None:
    bad, good = named(pod("bad", OWNER, "02:00:00:00:00:01")), named(pod("good", OWNER, "02:00:00:00:00:02"))
    items = [json.dumps(item).encode() for item in (bad, good)]
    items[0] = items[0].replace(b'"spec": {', b'"spec": {"odd": {"\\"[{": [1, %s, "]"]}, ' % deep(levels))
    page = decode(msgspec.json.Decoder(ObjectList), b'{"metadata":{"continue":"x"},"items":[%s]}' % b",".join(items))
    assert page.metadata.continue_ == "x"
    assert [unpack(read_pod(REGISTRY, raw).macs) for raw in page.items or ()] == [
        ("02:00:00:00:00:01",),
        ("02:00:00:00:00:02",),
    ]
    event = decode(msgspec.json.Decoder(WatchEvent), b'{"type":"ADDED","object":%s}' % items[0])
    assert read_pod(REGISTRY, event.object).node == "worker-0"


def test_deep_and_broken_is_an_api_error() -> None:
    for tail in (b"", b'"', b'"\\', b"}"):
        with pytest.raises(ApiError):
            decode(msgspec.json.Decoder(ObjectList), b'{"metadata":{},"items":' + b"[" * 5_000 + tail)


@given(
    st.recursive(
        st.one_of(st.text(), st.integers(), st.none()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=30)
def test_what_is_shallow_stays_as_it_is(value: Any) -> None:
    body = json.dumps(value).encode()
    assert shallow(body) == body
    buried = b"[" * (DEPTH - 1) + b"[1]" + b"]" * (DEPTH - 1)
    assert shallow(buried) == buried
    assert shallow(b'{"a":[' + buried + b'],"b":' + body + b"}")[-len(body) - 5 :] == b'"b":' + body + b"}"


def test_the_ends_of_the_calendar_are_no_times() -> None:
    for text in ("9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"):
        found = msgspec.json.decode(b'{"metadata":{"name":"j","uid":"u"},"status":{"startTime":"%s"}}' % text.encode())
        kind = next(iter(Registry()))
        assert REGISTRY.read(kind, json.dumps(found).encode()).started is None
    assert known_time(None) is None


def test_a_network_status_sound_but_for_one_entry_gives_the_others() -> None:
    note = json.loads(networks("02:00:00:00:00:01", "nine", "02:00:00:00:00:02"))
    macs, problem = multus_macs(json.dumps(note))
    assert macs == ("02:00:00:00:00:01", "02:00:00:00:00:02")
    assert "'nine'" in problem

"""The checkpoint's ConfigMaps: whoever took them over last is the only one who can write."""

import base64
import json
from typing import Any, cast

import pytest

from cvji.kube.checkpoint import Checkpoint, LostFenceError, TooLargeError
from cvji.kube.client import Api, ApiError

BASE = "/api/v1/namespaces/cloudvision/configmaps"


class Store:
    """ConfigMaps with the API server's rules."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.namespace = True
        self.limit = 1024 * 1024
        self.lose_answer = False

    def get(self, path: str, *, timeout: float) -> bytes:
        assert timeout > 0
        if path.removeprefix(BASE + "/") not in self.maps:
            raise ApiError(404, "not found")
        return json.dumps(self.maps[path.removeprefix(BASE + "/")]).encode()

    def send(self, method: str, path: str, body: bytes, *, timeout: float) -> bytes:
        assert timeout > 0
        asked = json.loads(body)
        name = asked["metadata"]["name"]
        assert path == (BASE if method == "POST" else f"{BASE}/{name}")
        if not self.namespace:
            raise ApiError(404, 'namespaces "cloudvision" not found')
        if len(base64.b64decode(asked["binaryData"]["ledger"])) > self.limit:
            raise ApiError(422, "Too long: must have at most 1048576 bytes")
        old = self.maps.get(name)
        if method == "POST" and old:
            raise ApiError(409, "already exists")
        if method == "PUT":
            if old is None:
                raise ApiError(404, "not found")
            if asked["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
                raise ApiError(409, "the object has been modified")
        self.version += 1
        asked["metadata"]["resourceVersion"] = str(self.version)
        self.maps[name] = asked
        if self.lose_answer:
            self.lose_answer = False
            raise ApiError(0, "connection reset")
        return json.dumps(asked).encode()

    def open(self, identity: str) -> Checkpoint:
        return Checkpoint(cast("Api", self), "cloudvision", "shard", 4, identity)


@pytest.fixture
def store() -> Store:
    return Store()


def test_what_one_wrote_the_next_reads(store: Store) -> None:
    first, second = store.open("a"), store.open("b")
    assert first.take_over() == []
    first.write(1, b"one")
    first.write(3, b"three")
    assert second.take_over() == [b"one", b"three"]


@pytest.mark.parametrize("shard", range(4))
def test_after_a_takeover_the_former_writer_can_write_nothing_not_even_what_it_never_had(
    store: Store, shard: int
) -> None:
    first, second = store.open("a"), store.open("b")
    first.take_over()
    first.write(1, b"one")
    second.take_over()
    with pytest.raises(LostFenceError):
        first.write(shard, b"late")
    second.write(shard, b"new")


def test_a_takeover_begun_before_another_and_ended_after_it_fails(store: Store) -> None:
    class Slow(Store):
        """Lets somebody else take over between this one's reading and writing."""

        def send(self, method: str, path: str, body: bytes, *, timeout: float) -> bytes:
            if not store.maps:
                store.open("quick").take_over()
            return store.send(method, path, body, timeout=timeout)

        def get(self, path: str, *, timeout: float) -> bytes:
            return store.get(path, timeout=timeout)

    with pytest.raises(LostFenceError):
        Slow().open("slow").take_over()


def test_a_write_whose_answer_was_lost_is_written_again(store: Store) -> None:
    checkpoint = store.open("a")
    checkpoint.take_over()
    store.lose_answer = True
    with pytest.raises(ApiError):
        checkpoint.write(2, b"once")
    with pytest.raises(ApiError, match="written again"):
        checkpoint.write(2, b"once")
    checkpoint.write(2, b"twice")
    assert store.open("b").take_over() == [b"twice"]


def test_a_configmap_deleted_by_hand_is_made_anew(store: Store) -> None:
    checkpoint = store.open("a")
    checkpoint.take_over()
    store.maps.clear()
    with pytest.raises(ApiError, match="is not there"):
        checkpoint.write(2, b"data")
    checkpoint.write(2, b"data")
    assert store.open("b").take_over() == [b"data"]


def test_a_namespace_that_does_not_exist_is_an_error_that_passes(store: Store) -> None:
    checkpoint = store.open("a")
    store.namespace = False
    for _ in range(2):
        with pytest.raises(ApiError, match="namespaces"):
            checkpoint.take_over()
    store.namespace = True
    assert checkpoint.take_over() == []


def test_a_shard_beyond_a_configmaps_limit_is_told_apart_from_trouble_that_passes(store: Store) -> None:
    checkpoint = store.open("a")
    checkpoint.take_over()
    with pytest.raises(TooLargeError):
        checkpoint.write(0, b"x" * (store.limit + 1))
    checkpoint.write(0, b"x" * store.limit)

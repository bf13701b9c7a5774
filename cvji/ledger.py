"""What CloudVision has been told: one record per job and node, in shards that fit a ConfigMap each. Pure.

A record is written down before its report is sent and again once it is acknowledged. So whatever instant the
informer dies at, its successor knows every job that CloudVision may hold, and repeats at most the last report.

While CloudVision is away, jobs end and go that it must still be told of. They alone grow in number with time and not
with the cluster. So they are spilled to a backlog of a few hundred bytes each, and taken back when it is their turn.
"""

import math
import struct
import uuid
import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from cvji.jobs.report import JobReport, JobState

SHARDS = 16
FORMAT = 1
# A ConfigMap holds 1 MiB; a shard that inflates to over 64 times that is not ours.
INFLATED_LIMIT = 64 * 1024 * 1024

Key = tuple[str, str]  # ("job", uid) or ("node", name)
STATES = tuple(JobState)


class LedgerError(ValueError):
    """A shard cannot be read; the message says why."""


class JobRecord(msgspec.Struct):
    """The newest report of a job, whether CloudVision took it, and whether the job's object is gone."""

    report: JobReport
    told: bool = False
    gone: bool = False


class NodeRecord(msgspec.Struct):
    """The fingerprint of a node's newest report, empty for its removal, and whether CloudVision took it."""

    mark: bytes
    told: bool = False


class _Job(msgspec.Struct, array_like=True):
    """A job in a shard: a UUID as its 16 bytes, times in seconds, MACs as six bytes each."""

    uid: bytes
    name: str
    namespace: str
    kind: str
    state: int
    start: int
    end: int | None
    nodes: list[str] | None
    macs: bytes
    kept: list[str] | bytes
    told: bool
    gone: bool = False


class _Shard(msgspec.Struct, array_like=True):
    format: int
    jobs: list[_Job]
    nodes: dict[str, tuple[bytes, bool]]


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Shard).decode
_SINCE = struct.Struct("d")


def shard_of(key: Key) -> int:
    """The shard that a key's record is in."""
    return zlib.crc32(key[1].encode("utf-8", "surrogatepass")) % SHARDS


class Ledger:
    """The records, and which shards differ from what was last written."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.dirty: set[int] = set()
        self.leaving: dict[str, None] = {}  # of the jobs those that are gone and yet to be told of, in that order
        # The rest of these, by shard: since when each waits, and its record as in the shard.
        self._backlog: list[list[bytes]] = [[] for _ in range(SHARDS)]
        self._jobs_in: list[dict[str, None]] = [{} for _ in range(SHARDS)]
        self._nodes_in: list[dict[str, None]] = [{} for _ in range(SHARDS)]

    def put_job(self, report: JobReport) -> None:
        """A report is about to be sent."""
        shard = shard_of(("job", report.id))
        record = self.jobs.get(report.id)
        gone = record is not None and record.gone and report.end is not None
        self.jobs[report.id] = JobRecord(report, gone=gone)
        if not gone:
            self.leaving.pop(report.id, None)
        if spilled := self._backlog[shard]:
            uid = _uid_bytes(report.id)
            if any(uid in data for data in spilled):
                self._backlog[shard] = [data for data in spilled if _spilled(data).uid != uid]
        self._jobs_in[shard][report.id] = None
        self.dirty.add(shard)

    def put_node(self, node: str, mark: bytes) -> None:
        """A node's report is about to be sent, or its removal if there is no mark."""
        self.nodes[node] = NodeRecord(mark)
        shard = shard_of(("node", node))
        self._nodes_in[shard][node] = None
        self.dirty.add(shard)

    def keep(self, uid: str, kept: tuple[str, ...]) -> None:
        """A running job now keeps this of pods that succeeded."""
        record = self.jobs.get(uid)
        if record is not None and record.report.end is None:
            record.report = msgspec.structs.replace(record.report, kept=kept)
            self.dirty.add(shard_of(("job", uid)))

    def told_job(self, report: JobReport) -> None:
        """CloudVision took `report`; of an ended job nothing more is needed than that."""
        record = self.jobs.get(report.id)
        if record is None or _said(record.report) != _said(report):
            return  # a newer one is on its way
        if record.told:
            return
        record.told = True
        if report.end is not None:
            record.report = msgspec.structs.replace(record.report, holds=())
        self.dirty.add(shard_of(("job", report.id)))
        self._drop_if_done(report.id)

    def told_node(self, node: str, mark: bytes) -> None:
        """CloudVision took a node's report, or its removal if there is no mark."""
        record = self.nodes.get(node)
        if record is None or record.mark != mark or record.told:
            return
        shard = shard_of(("node", node))
        self.dirty.add(shard)
        record.told = True
        if not mark:
            del self.nodes[node]
            del self._nodes_in[shard][node]

    def forget_job(self, uid: str) -> None:
        """The job's object is gone; its record goes too once CloudVision knows of its end."""
        record = self.jobs.get(uid)
        if record is not None:
            record.gone = True
            self.leaving[uid] = None
            self._drop_if_done(uid)

    def _drop_if_done(self, uid: str) -> None:
        record = self.jobs[uid]
        if record.gone and record.told and record.report.end is not None:
            shard = shard_of(("job", uid))
            del self.jobs[uid]
            del self._jobs_in[shard][uid]
            self.leaving.pop(uid, None)
            self.dirty.add(shard)

    # --- the backlog ----------------------------------------------------------------------------------

    def spill(self, uid: str, since: float) -> None:
        """Move a job that is `leaving` to the backlog; it has waited `since` then."""
        shard = shard_of(("job", uid))
        self._backlog[shard].append(_SINCE.pack(since) + _ENCODE(_pack(self.jobs.pop(uid))))
        del self._jobs_in[shard][uid], self.leaving[uid]

    def take_back(self) -> tuple[JobReport, float] | None:
        """Move a job from the backlog to those that are `leaving`: its report, and since when it has waited."""
        shard = next((shard for shard, spilled in enumerate(self._backlog) if spilled), None)
        if shard is None:
            return None
        data = self._backlog[shard].pop(0)
        record = _unpack(_spilled(data))
        report = record.report
        self.jobs[report.id] = record
        self._jobs_in[shard][report.id] = self.leaving[report.id] = None
        return report, _SINCE.unpack_from(data)[0]

    def backlog(self) -> tuple[int, float]:
        """How many jobs are in it, and since when the first of them has waited, infinity if none; by any thread."""
        data = [data for spilled in self._backlog for data in list(spilled)]
        return len(data), min((_SINCE.unpack_from(one)[0] for one in data), default=math.inf)

    # --- shards -------------------------------------------------------------------------------------

    def encode(self, shard: int) -> bytes:
        """A shard as it is to be stored."""
        jobs: list[Any] = [_pack(self.jobs[uid]) for uid in self._jobs_in[shard]]
        jobs += [msgspec.Raw(data[_SINCE.size :]) for data in self._backlog[shard]]
        nodes = {node: (self.nodes[node].mark, self.nodes[node].told) for node in self._nodes_in[shard]}
        return zlib.compress(_ENCODE(_Shard(FORMAT, jobs, nodes)), 1)

    def load(self, data: bytes, now: float) -> None:
        """Take in a shard as it was stored; what is in the backlog waits since `now`.

        Raises LedgerError; then nothing of it is taken in.
        """
        try:
            inflate = zlib.decompressobj()
            plain = inflate.decompress(data, INFLATED_LIMIT)
            if inflate.unconsumed_tail:
                raise LedgerError("it inflates beyond all measure")
            found = _DECODE(plain)
            if found.format != FORMAT:
                raise LedgerError(f"its format is {found.format}, and this program knows {FORMAT}")
            records = [_unpack(job) for job in found.jobs]
        except (zlib.error, msgspec.MsgspecError, ValueError, IndexError, OverflowError, OSError) as err:
            raise LedgerError(f"a part of the checkpoint cannot be read: {err}") from None
        for record in records:
            self.jobs[record.report.id] = record
            self._jobs_in[shard_of(("job", record.report.id))][record.report.id] = None
            if record.gone:
                self.leaving[record.report.id] = None
                self.spill(record.report.id, now)
        for node, (mark, told) in found.nodes.items():
            self.nodes[node] = NodeRecord(mark, told)
            self._nodes_in[shard_of(("node", node))][node] = None


def _said(report: JobReport) -> tuple[object, ...]:
    """What of a report CloudVision is told."""
    return (report.state, report.start, report.end, report.holds, report.nodes)


_DECODE_JOB = msgspec.msgpack.Decoder(_Job).decode


def _spilled(data: bytes) -> _Job:
    return _DECODE_JOB(data[_SINCE.size :])


def _pack(record: JobRecord) -> _Job:
    report = record.report
    return _Job(
        uid=_uid_bytes(report.id),
        name=report.name,
        namespace=report.namespace,
        kind=report.kind,
        state=STATES.index(report.state),
        start=int(report.start.timestamp()),
        end=int(report.end.timestamp()) if report.end else None,
        nodes=list(report.holds) if report.nodes else None,
        macs=b"" if report.nodes else _mac_bytes(report.holds),
        kept=list(report.kept) if report.nodes else _mac_bytes(report.kept),
        told=record.told,
        gone=record.gone and report.end is not None,
    )


def _unpack(job: _Job) -> JobRecord:
    nodes = job.nodes is not None
    report = JobReport(
        id=_uid_text(job.uid),
        name=job.name,
        namespace=job.namespace,
        kind=job.kind,
        state=STATES[job.state],
        start=datetime.fromtimestamp(job.start, UTC),
        end=None if job.end is None else datetime.fromtimestamp(job.end, UTC),
        holds=tuple(job.nodes) if job.nodes is not None else _mac_texts(job.macs),
        nodes=nodes,
        kept=_mac_texts(job.kept) if isinstance(job.kept, bytes) else tuple(job.kept),
    )
    return JobRecord(report, job.told, job.gone)


def _uid_bytes(uid: str) -> bytes:
    """A marked form: `u` and 16 bytes for a UUID in its usual form, `t` and the text for anything else."""
    try:
        found = uuid.UUID(uid)
    except ValueError:
        found = None
    return (
        b"u" + found.bytes if found is not None and str(found) == uid else b"t" + uid.encode("utf-8", "surrogatepass")
    )


def _uid_text(data: bytes) -> str:
    return str(uuid.UUID(bytes=data[1:])) if data[:1] == b"u" else data[1:].decode("utf-8", "surrogatepass")


def _mac_bytes(macs: tuple[str, ...]) -> bytes:
    return bytes.fromhex("".join(macs).replace(":", ""))


def _mac_texts(data: bytes) -> tuple[str, ...]:
    return tuple(data[start : start + 6].hex(":") for start in range(0, len(data), 6))

"""The fan-out queue: one send becomes jobs, and a worker runs one job. The only file that knows SQS.

There are two levels and never a chain. A *send job* is what a backend puts on the queue (its form is
`job.schema.json`, and public): who gets which event. The worker enumerates the receivers page by page into
*post jobs* of at most `JOB_RECEIVERS`, each with the envelope as it goes out, and puts them on the same
queue. A sender in Python that has read all receivers, and they are at most `SPLIT_LIMIT`, puts the post jobs
there itself. A post job that leaves receivers over puts a smaller one, at most `MAX_ROUNDS` in all.

Everything is at least once: a worker that dies in the middle of a job leaves its message on the queue, and
another one does the whole job again. All of them use the send's `id`, so a receiver drops what it has seen.
"""

import functools
import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.exceptions import ClientError

from roomcast import envelope, metrics
from roomcast import names as rooms
from roomcast.errors import InvalidDataError, InvalidNameError, JobError, PayloadTooLargeError
from roomcast.management_api.client import Gateway
from roomcast.management_api.pool import PostReport
from roomcast.names import Room
from roomcast.store import Receiver, Store

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

VERSION = 1
DIRECT_LIMIT = 200
"""A send to more receivers than this goes over the queue, where there is one."""
JOB_RECEIVERS = 100
"""Of one post job as it is made here. Small jobs let all workers end at nearly the same time."""
MAX_JOB_RECEIVERS = 500
"""Of one post job as it is taken."""
MAX_ROUNDS = 4
"""Post jobs that may follow one another for receivers that were left over."""
POST_BUDGET = 20.0
"""Seconds for the posts of one post job."""
SCAN_SEGMENTS = 4
_NOT_OPEN_YET_WAITS = (0.2, 0.4, 0.8)  # s; between the tries at a connection that may be not open yet
_BATCH_MESSAGES = 10  # SQS's limit for one SendMessageBatch
SPLIT_LIMIT = _BATCH_MESSAGES * JOB_RECEIVERS
"""A send to more receivers than this is enumerated by the worker: so many jobs fit into one batch of SQS."""
_BATCH_BYTES = 1_000_000  # SQS's limit is 1 MiB for all messages of a batch together
_PUT_TRIES = 5
_LONGEST_PAUSE = 300  # s
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SendJob:
    """One send.

    Attributes:
        to: a user's id, a room, or None for everybody.
        event: its name.
        data: the application's part.
        id: the send's id.
    """

    to: str | Room | None
    event: str
    data: object
    id: str | None = None

    def dump(self) -> str:
        """The public form."""
        if isinstance(self.to, Room):
            to: dict[str, object] = {"room": self.to.name}
        else:
            to = {"all": True} if self.to is None else {"user": self.to}
        job = {"version": VERSION, "to": to, "event": self.event, "data": self.data}
        return _dump(job if self.id is None else {**job, "id": self.id})


@dataclass(frozen=True, slots=True)
class PostJob:
    """An envelope and who gets it.

    Attributes:
        id: the send's id, for the log.
        room: the room that was sent to, if any.
        text: the envelope.
        receivers: at most 500.
        round: how many post jobs went before, for receivers that were left over.
    """

    id: str
    room: str | None
    text: str
    receivers: tuple[Receiver, ...]
    round: int = 0

    @classmethod
    def split(
        cls, id_: str, room: str | None, text: str, receivers: Iterable[Receiver]
    ) -> "Iterator[PostJob]":
        """One envelope to any number of receivers, read a job ahead only."""
        return (cls(id_, room, text, chunk) for chunk in _chunks(receivers, JOB_RECEIVERS))

    def dump(self) -> str:
        """The form that this file alone reads."""
        receivers = [[r.connection_id, r.connected_at, r.was_open] for r in self.receivers]
        return _dump(
            {
                "version": VERSION,
                "id": self.id,
                "room": self.room,
                "envelope": self.text,
                "receivers": receivers,
                "round": self.round,
            }
        )


def parse(text: str) -> SendJob | PostJob:
    """Read a job.

    Raises:
        JobError: it is none; nothing else is raised, whatever the text.
    """
    try:
        job = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JobError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(job, dict):
        raise JobError("no JSON object")
    if isinstance(job.get("version"), bool) or job.get("version") != VERSION:
        raise JobError(f"version must be {VERSION}")
    return _parse_post_job(job) if "receivers" in job else _parse_send_job(job)


def deliver(
    gateway: Gateway,
    store: Store,
    receivers: Mapping[str, Receiver],
    body: bytes,
    *,
    room: str | None = None,
    clock: Callable[[], float] = time.time,
    budget: float = 10.0,
    rate: float | None = None,
) -> PostReport:
    """Post to the receivers; prune those that are gone.

    A connection that may be not open yet and answers 410 is asked again for some time, and never pruned.

    Args:
        gateway: where to post.
        store: where to prune.
        receivers: by connection id.
        body: the envelope, encoded.
        room: the room that was sent to, if any.
        clock: epoch seconds.
        budget: seconds for the posts.
        rate: posts a second at most.
    """
    report = gateway.post(receivers, body, budget=budget, rate=rate)
    for wait in _NOT_OPEN_YET_WAITS:
        young = {i for i in report.gone if receivers[i].young(clock())}
        if not young:
            break
        time.sleep(wait)
        again = gateway.post(young, body, budget=budget, rate=rate)
        report.gone = [i for i in report.gone if i not in young] + again.gone
        report.sent += again.sent
        report.failed += again.failed
        report.unknown += again.unknown
        report.why |= again.why
    now = clock()
    for connection_id in report.gone:
        if not receivers[connection_id].young(now):
            store.prune(receivers[connection_id], [room] if room else [])
    return report


@dataclass(frozen=True, slots=True)
class Redriven:
    """What `Queue.redrive` did: how many jobs are on the queue again, how many dead letters are no jobs."""

    moved: int
    bad: int


class Queue:
    """The fan-out queue.

    Args:
        url: the queue's.
        session: botocore's, where the caller has one. A client is made of it at the first job.
    """

    def __init__(self, url: str, session: botocore.session.Session | None = None) -> None:
        self._url = url
        self._session = session

    @functools.cached_property
    def _client(self) -> "SQSClient":
        client: SQSClient = (self._session or botocore.session.get_session()).create_client("sqs")  # type: ignore[assignment]
        return client

    def put(self, jobs: Iterable[SendJob | PostJob], delay: float = 0) -> None:
        """Put jobs on the queue, in batches as large as SQS takes.

        Args:
            jobs: read one batch ahead only, so there may be any number.
            delay: seconds until they can be received.

        Raises:
            botocore.exceptions.ClientError: SQS refuses. Jobs of earlier batches are on the queue.
        """
        for batch in _batches(job.dump() for job in jobs):
            entries: Any = [
                {"Id": str(number), "MessageBody": text, "DelaySeconds": int(delay)}
                for number, text in enumerate(batch)
            ]
            for attempt in range(_PUT_TRIES):
                if attempt:
                    time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311  guards nothing
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
                refused = {entry["Id"]: entry for entry in answer.get("Failed", [])}
                entries = [entry for entry in entries if entry["Id"] in refused]
                if not entries:
                    break
            else:
                raise _refused(next(iter(refused.values())))

    def give_back(self, receipt: str, pause: float) -> None:
        """Let a message that was received be received again after a pause.

        Args:
            receipt: the record's `receiptHandle`.
            pause: seconds.
        """
        self._client.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=int(pause)
        )

    def redrive(self) -> Redriven:
        """Move the jobs among the dead letters back to the queue; what is no job stays.

        Raises:
            botocore.exceptions.ClientError: SQS refuses, or the queue has no dead letters. What was moved
                before is moved.
        """
        policy = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
        name = json.loads(policy["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        dead = self._client.get_queue_url(QueueName=name)["QueueUrl"]
        moved = 0
        bad: list[str] = []
        while messages := self._client.receive_message(
            QueueUrl=dead, MaxNumberOfMessages=_BATCH_MESSAGES, VisibilityTimeout=300
        ).get("Messages"):
            for message in messages:
                try:
                    job = parse(message["Body"])
                except JobError as error:
                    _LOG.error("bad job messageId=%s reason=%s", message["MessageId"], error.reason)
                    bad.append(message["ReceiptHandle"])
                    continue
                if isinstance(job, SendJob) and job.id is None:
                    # The id that its first tries had; on the queue again it is another message.
                    job = replace(job, id=message["MessageId"])
                self.put([job])
                self._client.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
                moved += 1
        for receipt in bad:
            self._client.change_message_visibility(QueueUrl=dead, ReceiptHandle=receipt, VisibilityTimeout=0)
        return Redriven(moved, len(bad))


class Worker:
    """Runs jobs.

    Args:
        store: the tables.
        gateway: the management API.
        queue: where the jobs come from, and where post jobs go.
        rate: posts a second at most, over all jobs that this worker runs.
        clock: epoch seconds.
    """

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        queue: Queue,
        *,
        rate: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._queue = queue
        self._rate = rate
        self._clock = clock

    def run(self, record: Mapping[str, Any]) -> bool:
        """Run the job of one SQS record.

        A job that no try can do is given back at once, so that the queue's `maxReceiveCount` soon moves it to
        the dead letters; one that failed for now after a pause.

        Args:
            record: of the event that Lambda passes.

        Returns:
            Whether it is done. False: it stays on the queue, and the reason is in the log.
        """
        message_id, receipt = record["messageId"], record["receiptHandle"]
        attributes = record.get("attributes", {})
        try:
            job = parse(record["body"])
            if isinstance(job, SendJob):
                sent_at = float(attributes.get("SentTimestamp", self._clock() * 1000)) / 1000
                self._enumerate(job, job.id or message_id, sent_at)
            else:
                self._post(job)
        except JobError as error:
            _LOG.error("bad job messageId=%s reason=%s", message_id, error.reason)
            self._queue.give_back(receipt, 0)
        except _NotDoneError as error:
            pause = _pause(int(attributes.get("ApproximateReceiveCount", 1)))
            _LOG.warning("job not done messageId=%s again in %d s: %s", message_id, pause, error)
            self._queue.give_back(receipt, pause)
        except Exception:  # noqa: BLE001  DynamoDB, SQS: whatever failed, the other records go on
            pause = _pause(int(attributes.get("ApproximateReceiveCount", 1)))
            _LOG.exception("job failed messageId=%s again in %d s", message_id, pause)
            self._queue.give_back(receipt, pause)
        else:
            return True
        return False

    def _enumerate(self, job: SendJob, id_: str, sent_at: float) -> None:
        room = job.to.name if isinstance(job.to, Room) else None
        try:
            text = envelope.build(job.event, job.data, id=id_, room=room, now=sent_at)
        except (InvalidDataError, PayloadTooLargeError) as error:
            raise JobError(str(error)) from None
        count = 0

        def post_jobs() -> Iterator[PostJob]:
            nonlocal count
            for post_job in PostJob.split(id_, room, text, self._receivers(job)):
                count += len(post_job.receivers)
                yield post_job

        jobs = post_jobs()
        first, second = next(jobs, None), next(jobs, None)
        if first is not None and second is None:
            self._post(first)  # few receivers need no second message
        elif first is not None and second is not None:
            self._queue.put(itertools.chain((first, second), jobs))
        _LOG.info("enumerated id=%s receivers=%d", id_, count)

    def _receivers(self, job: SendJob) -> Iterator[Receiver]:
        if job.to is None:
            for page in self._store.all_receiver_pages(SCAN_SEGMENTS):
                yield from page
        elif isinstance(job.to, Room):
            yield from self._store.room_receivers(job.to)
        else:
            yield from self._store.user_receivers(job.to)

    def _post(self, job: PostJob) -> None:
        began = time.monotonic()
        receivers = {receiver.connection_id: receiver for receiver in job.receivers}
        report = deliver(
            self._gateway,
            self._store,
            receivers,
            job.text.encode(),
            room=job.room,
            clock=self._clock,
            budget=POST_BUDGET,
            rate=self._rate,
        )
        # 4xx is about this one receiver: a client that is too slow (429 on each of its tries, while others
        # got theirs), or one that may not be posted to. It is counted and given up.
        left = [i for i, why in report.why.items() if not why.startswith("4")]
        if (
            report.why
            and len(report.why) == len(receivers)
            and all(w[:3] == "403" for w in report.why.values())
        ):
            left = list(receivers)  # but nobody may be posted to: the worker itself is refused
        log = _LOG.error if left and job.round + 1 >= MAX_ROUNDS else _LOG.info
        log(
            "posted id=%s round=%d sent=%d gone=%d failed=%d unknown=%d left=%d ms=%d",
            job.id,
            job.round,
            len(report.sent),
            len(report.gone),
            len(report.failed),
            len(report.unknown),
            len(left),
            (time.monotonic() - began) * 1000,
        )
        metrics.emit(
            {
                "Sent": len(report.sent),
                "Gone": len(report.gone),
                "Failed": len(report.failed),
                "Unknown": len(report.unknown),
                "PublishToPost": (self._clock() - _sent_at(job.text)) * 1000,
            }
        )
        if left and len(left) == len(receivers):
            raise _NotDoneError(next(iter(report.reasons)))
        if left and job.round + 1 < MAX_ROUNDS:
            smaller = replace(job, receivers=tuple(receivers[i] for i in left), round=job.round + 1)
            self._queue.put([smaller], delay=_pause(job.round))


def _sent_at(text: str) -> float:
    """When an envelope says that it was sent, in epoch seconds."""
    return datetime.fromisoformat(json.loads(text)["timestamp"]).timestamp()


class _NotDoneError(Exception):
    """Not one receiver of a post job was reached."""


def _parse_send_job(job: dict[str, Any]) -> SendJob:
    for key in job.keys() - {"version", "to", "event", "data", "id"}:
        raise JobError(f"unknown key {key!r:.80}")
    if "data" not in job:
        raise JobError("data is missing")
    for key in ("event", "id"):
        value = job.get(key, None if key == "event" else "-")
        if not isinstance(value, str) or not 1 <= len(value) <= envelope.MAX_NAME_CHARS:
            raise JobError(f"{key} must be a string of 1 to {envelope.MAX_NAME_CHARS} characters")
    return SendJob(_parse_target(job.get("to")), job["event"], job["data"], job.get("id"))


def _parse_target(to: object) -> str | Room | None:
    try:
        match to:
            case {"user": user, **rest} if not rest:
                return rooms.user_id(user)
            case {"room": room, **rest} if not rest:
                return rooms.parse(room)
            case {"all": True, **rest} if not rest:
                return None
    except InvalidNameError as error:
        raise JobError(f"to: {error}") from None
    raise JobError('to must be {"user": ...}, {"room": ...} or {"all": true}')


def _parse_post_job(job: dict[str, Any]) -> PostJob:
    match job:
        case {
            "id": str(id_),
            "room": None | str() as room,
            "envelope": str(text),
            "receivers": [*listed],
            "round": int(number),
        } if len(listed) <= MAX_JOB_RECEIVERS:
            return PostJob(id_, room, text, tuple(map(_receiver, listed)), number)
    raise JobError("no post job")


def _receiver(entry: object) -> Receiver:
    match entry:
        case [str(connection_id), str(connected_at), bool(was_open)]:
            return Receiver(connection_id, connected_at, was_open)
    raise JobError("no receiver in a post job")


def _dump(job: Mapping[str, object]) -> str:
    # ASCII alone: SQS refuses some characters that JSON may hold.
    return json.dumps(job, separators=(",", ":"), allow_nan=False)


def _chunks(receivers: Iterable[Receiver], size: int) -> Iterator[tuple[Receiver, ...]]:
    chunk: list[Receiver] = []
    for receiver in receivers:
        chunk.append(receiver)
        if len(chunk) == size:
            yield tuple(chunk)
            chunk = []
    if chunk:
        yield tuple(chunk)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == _BATCH_MESSAGES or size + len(text) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _pause(tries: int) -> float:
    """Seconds until the next try (full jitter, in whole seconds for SQS)."""
    return random.randint(1, min(_LONGEST_PAUSE, 5 * 2**tries))  # noqa: S311  guards nothing


def _refused(entry: Mapping[str, Any]) -> Exception:
    error: Any = {"Error": {"Code": entry.get("Code", ""), "Message": entry.get("Message", "")}}
    return ClientError(error, "SendMessageBatch")

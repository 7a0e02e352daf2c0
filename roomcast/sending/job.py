"""The jobs of the fan-out queue, and their form as JSON. Pure.

A *send job* is what a backend puts on the queue (its form is `job.schema.json`, and public): who gets which
event. The worker splits a large one into *slice jobs*, one for each part of the room or of the connections
table, so that no invocation reads all receivers, and a retry repeats one part. Each slice is read into *post
jobs*, with the envelope as it goes out. A small send has fewer levels: a sender in Python that has read all
receivers, and they are at most `SendLimits.split`, puts the post jobs there itself.

A *presence job* is a look at who is there; what comes of it is enumerated and posted like a send.

Lambda stops a queue that feeds itself after about 16 hops. The longest way here is 14: the send job, up to
`MAX_SLICE_HOPS` slice jobs (a slice of more than `SLICE_RECEIVERS` goes on in another one), and up to
`MAX_ROUNDS` post jobs, for receivers that were left over.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from roomcast import envelope
from roomcast.connection import Receiver
from roomcast.errors import InvalidNameError, JobError
from roomcast.rooms import Rooms
from roomcast.sending import audience
from roomcast.sending.audience import Audience
from roomcast.store.receivers import Slice

VERSION = 1
MAX_JOB_RECEIVERS = 500
"""Of one post job as it is taken."""
MAX_ROUNDS = 5
"""Post jobs that may follow one another for receivers that were left over. Lambda stops a queue that feeds
itself after about 16 hops."""
MAX_SLICE_HOPS = 8
"""Slice jobs that may follow one another; the last one reads to the end of its slice."""
SLICE_RECEIVERS = 10_000
"""That one slice job reads, except for the last one of a slice."""
JOBS_PER_BATCH = 10
"""SQS's limit for one SendMessageBatch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """From how many receivers on a send goes which way.

    Attributes:
        direct: a send to more receivers than this goes over the queue, where there is one.
        job_receivers: of one post job. Small jobs let all workers end at nearly the same time.
        split: a send to more receivers than this is enumerated by the worker: the post jobs of this many fit
            into one batch of SQS.
    """

    direct: int = 200
    job_receivers: int = 100
    split: int = JOBS_PER_BATCH * 100


FUNCTION_LIMITS = SendLimits(direct=100)
"""Of a function whose client waits: a quarter of a vCPU posts that many in about a second."""


@dataclass(frozen=True, slots=True)
class SendJob:
    """One send.

    Attributes:
        to: who gets it.
        event: its name.
        data: the application's part.
        id: the send's id.
    """

    to: Audience
    event: str
    data: object
    id: str | None = None

    def dump(self) -> str:
        """The public form."""
        job = {"version": VERSION, "to": self.to.dump(), "event": self.event, "data": self.data}
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
        read_at: epoch seconds at which the receivers were read.
    """

    id: str
    room: str | None
    text: str
    receivers: tuple[Receiver, ...]
    round: int = 0
    read_at: float = 0

    @classmethod
    def split(
        cls,
        id_: str,
        room: str | None,
        text: str,
        receivers: Iterable[Receiver],
        size: int,
        read_at: float,
    ) -> "Iterator[PostJob]":
        """One envelope to any number of receivers, at most `size` a job, read a job ahead only."""
        rest = iter(receivers)
        while chunk := tuple(itertools.islice(rest, size)):
            yield cls(id_, room, text, chunk, read_at=read_at)

    def dump(self) -> str:
        """The private form, which only the worker reads."""
        receivers = [[r.connection_id, r.connected_at, r.was_open, r.expires_at] for r in self.receivers]
        return _dump(
            {
                "version": VERSION,
                "id": self.id,
                "room": self.room,
                "envelope": self.text,
                "receivers": receivers,
                "round": self.round,
                "readAt": self.read_at,
            }
        )


@dataclass(frozen=True, slots=True)
class NewestJob:
    """The newest message of a last value, whatever it is when the job is done.

    Attributes:
        room: which.
        turn: of its stream, which the job ends; None: it is posted whatever others have done.
    """

    room: str
    turn: int | None

    def dump(self) -> str:
        """The private form, which only the worker reads."""
        return _dump({"version": VERSION, "newest": self.room, "turn": self.turn})


@dataclass(frozen=True, slots=True)
class SliceJob:
    """An envelope and a part of those who get it.

    Attributes:
        id: the send's id, for the log.
        room: the room that was sent to, if any.
        text: the envelope.
        part: what to read.
        cursor: where the job before has stopped.
        hop: how many slice jobs went before.
    """

    id: str
    room: str | None
    text: str
    part: Slice
    cursor: Mapping[str, Any] | None = None
    hop: int = 0

    def dump(self) -> str:
        """The private form, which only the worker reads."""
        return _dump(
            {
                "version": VERSION,
                "id": self.id,
                "room": self.room,
                "envelope": self.text,
                "slice": [self.part.partition, self.part.segment, self.part.of],
                "cursor": self.cursor,
                "hop": self.hop,
            }
        )


@dataclass(frozen=True, slots=True)
class PresenceJob:
    """A look at whether a user is present in a room, or at how many are.

    Attributes:
        room: its name.
        user_id: the user; None: how many there are.
    """

    room: str
    user_id: str | None = None

    def dump(self) -> str:
        """The private form, which only the worker reads."""
        return _dump({"version": VERSION, "presence": self.room, "user": self.user_id})


Job = SendJob | NewestJob | SliceJob | PostJob | PresenceJob


def parse(text: str, rooms: Rooms) -> Job:
    """Read a job.

    Args:
        text: the message of the queue.
        rooms: the kinds of room that there are.

    Raises:
        JobError: it is malformed; nothing else is raised, whatever the text.
    """
    try:
        job = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JobError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(job, dict):
        raise JobError("not a JSON object")
    if isinstance(job.get("version"), bool) or job.get("version") != VERSION:
        raise JobError(f"version must be {VERSION}")
    if "receivers" in job:
        return _parse_post_job(job)
    if "newest" in job:
        return _parse_newest_job(job)
    if "presence" in job:
        return _parse_presence_job(job, rooms)
    return _parse_slice_job(job) if "slice" in job else _parse_send_job(job, rooms)


def _parse_send_job(job: dict[str, Any], rooms: Rooms) -> SendJob:
    for key in job.keys() - {"version", "to", "event", "data", "id"}:
        raise JobError(f"unknown key {key!r:.80}")
    if "data" not in job:
        raise JobError("data is missing")
    for key in ("event", "id"):
        value = job.get(key, None if key == "event" else "-")
        if not isinstance(value, str) or not 1 <= len(value) <= envelope.MAX_NAME_CHARS:
            raise JobError(f"{key} must be a string of 1 to {envelope.MAX_NAME_CHARS} characters")
    return SendJob(audience.parse(job.get("to"), rooms), job["event"], job["data"], job.get("id"))


def _parse_post_job(job: dict[str, Any]) -> PostJob:
    read_at = job.get("readAt", 0)
    match job:
        case {
            "id": str(id_),
            "room": None | str() as room,
            "envelope": str(text),
            "receivers": [*listed],
            "round": int(number),
        } if len(listed) <= MAX_JOB_RECEIVERS and isinstance(read_at, int | float):
            return PostJob(id_, room, text, tuple(map(_receiver, listed)), number, read_at)
    raise JobError("not a post job")


def _receiver(entry: object) -> Receiver:
    match entry:
        case [str(connection_id), str(connected_at), bool(was_open), None | int() as expires_at]:
            return Receiver(connection_id, connected_at, was_open, expires_at)
        case [str(connection_id), str(connected_at), bool(was_open)]:  # of an older backend
            return Receiver(connection_id, connected_at, was_open)
    raise JobError("a malformed receiver in a post job")


def _parse_newest_job(job: dict[str, Any]) -> NewestJob:
    match job:
        case {"newest": str(room), "turn": None | int() as turn}:
            return NewestJob(room, turn)
    raise JobError("not a job of a last value")


def _parse_slice_job(job: dict[str, Any]) -> SliceJob:
    match job:
        case {
            "id": str(id_),
            "room": None | str() as room,
            "envelope": str(text),
            "slice": [None | str() as partition, int(segment), int(of)],
            "cursor": None | dict() as cursor,
            "hop": int(hop),
        }:
            return SliceJob(id_, room, text, Slice(partition, segment, of), cursor, hop)
    raise JobError("not a slice job")


def _parse_presence_job(job: dict[str, Any], rooms: Rooms) -> PresenceJob:
    match job:
        case {"presence": str(room), "user": None | str() as user_id}:
            try:
                return PresenceJob(rooms.parse(room).name, user_id)
            except InvalidNameError as error:
                raise JobError(str(error)) from None
    raise JobError("not a presence job")


def _dump(job: Mapping[str, object]) -> str:
    # ASCII only: SQS refuses some characters that JSON may hold.
    return json.dumps(job, separators=(",", ":"), allow_nan=False, default=envelope.of_dataclass)

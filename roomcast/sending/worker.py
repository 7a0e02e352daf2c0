"""The worker of the fan-out queue: runs one job."""

import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from roomcast import aws, envelope, metrics
from roomcast.connection import Receiver
from roomcast.errors import InvalidNameError, InvalidSendError, JobError, RoomcastError
from roomcast.management_api.client import ManagementApi
from roomcast.management_api.report import Failure
from roomcast.rooms import Room
from roomcast.sending.audience import ToRoom, of_room
from roomcast.sending.coalescing import is_posted_now, milliseconds
from roomcast.sending.job import (
    MAX_ROUNDS,
    MAX_SLICE_HOPS,
    SLICE_RECEIVERS,
    Job,
    NewestJob,
    PostJob,
    PresenceJob,
    SendJob,
    SendLimits,
    SliceJob,
    parse,
)
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.numbering import number
from roomcast.sending.posting import post
from roomcast.sending.presence import look
from roomcast.store import Store
from roomcast.store.receivers import Slice
from roomcast.store.replay import Head

POST_BUDGET = 20.0
"""Seconds for the posts of one post job."""
FRESH_SECONDS = 5.0
"""Receivers that were read longer ago than this are read again before they are posted to."""
_JOB_SECONDS = 90.0  # for everything that a job asks of AWS but its posts; the function has 120 s
_LONGEST_PAUSE = 300  # s
_LOG = logging.getLogger(__name__)


class Worker:
    """Runs jobs.

    Args:
        store: the tables.
        management_api: the management API.
        queue: where the jobs come from, and where post jobs go.
        rate: posts a second at most, over all jobs that this worker runs.
        limits: how large the post jobs are that it makes.
        clock: epoch seconds.
    """

    def __init__(
        self,
        store: Store,
        management_api: ManagementApi,
        queue: JobQueue,
        *,
        rate: float | None = None,
        limits: SendLimits = SendLimits(),  # noqa: B008  frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._management_api = management_api
        self._queue = queue
        self._rate = rate
        self._limits = limits
        self._clock = clock

    def run(self, record: Mapping[str, Any]) -> bool:
        """Run the job of one SQS record.

        A job that no try can do is given back at once, so that the queue's `maxReceiveCount` soon moves it to
        the dead-letter queue; one that failed for now after a pause.

        Args:
            record: of the event that Lambda passes.

        Returns:
            Whether it is done. False: it stays on the queue, and the reason is in the log.
        """
        message_id, receipt = record["messageId"], record["receiptHandle"]
        attributes = record.get("attributes", {})
        sent_at = float(attributes.get("SentTimestamp", self._clock() * 1000)) / 1000
        receives = int(attributes.get("ApproximateReceiveCount", 1))
        pause = _pause(receives)
        try:
            with aws.within(_JOB_SECONDS):
                job = parse(record["body"], self._store.rooms)
                self._do(job, message_id, sent_at, again=receives > 1)
        except JobError as error:
            _LOG.error("bad job messageId=%s reason=%s", message_id, error.reason)
            self._give_back(receipt, 0)
        except _NotDoneError as error:
            _LOG.warning("job not done messageId=%s again in %d s: %s", message_id, pause, error)
            self._give_back(receipt, pause)
        except Exception:  # noqa: BLE001  DynamoDB, SQS: whatever failed, the other records go on
            _LOG.exception("job failed messageId=%s again in %d s", message_id, pause)
            self._give_back(receipt, pause)
        else:
            return True
        return False

    def _give_back(self, receipt: str, pause: float) -> None:
        """Let the job be received again after a pause; where SQS refuses, after its visibility timeout."""
        try:
            self._queue.give_back(receipt, pause)
        except Exception:  # noqa: BLE001  the batch's other records must not fail with it
            _LOG.exception("a job that was not done waits for its visibility timeout")

    def _do(self, job: Job, message_id: str, sent_at: float, *, again: bool) -> None:
        match job:
            case NewestJob():
                self._post_newest(job, again=again)
            case PresenceJob():
                for event, data in look(self._store, self._queue, job, again=again):
                    self._tell(ToRoom(self._store.rooms.parse(job.room)), event, data)
            case PostJob():
                self._post(job, min(job.read_at, sent_at))
            case SliceJob():
                self._read(job)
            case SendJob():
                self._begin(job, job.id or message_id, sent_at)

    def _begin(self, job: SendJob, id_: str, sent_at: float) -> None:
        room = job.to.partition
        seen: list[Head] = []
        try:  # once: this job may run twice, and a sender that got no answer may send it twice
            text, _ = number(
                self._store, job.to, job.event, job.data, id_, now=sent_at, once=True, seen=seen.append
            )
        except InvalidSendError as error:
            raise JobError(str(error)) from None
        if is_posted_now(self._store, self._queue, job.to.target, seen[-1] if seen else None, self._clock):
            self._spread(id_, room, text, job.to.slices(self._store))

    def _post_newest(self, job: NewestJob, *, again: bool) -> None:
        """Post the newest message of a last value, unless another job has read it later."""
        try:
            room = self._store.rooms.parse(job.room)
        except InvalidNameError as error:
            raise JobError(str(error)) from None
        history, kept = self._store.history, room.history
        if history is None or kept is None:
            raise JobError(f"{room.name} keeps no history")
        until = milliseconds(self._clock() + kept.window)
        there = history.head(room.name) if job.turn is None else None
        if job.turn is not None:
            there = self._store.windows.next_turn(room.name, job.turn, until)
            is_mine = there is not None and there.held_until == until
            if there is not None and there.turn > job.turn and not (is_mine or again):
                return
        found = history.recover(room.name, None, kept, head=there.position if there else None)
        for message in found.messages:  # one, or none where it has expired
            to = of_room(room)
            self._spread(message.id, to.partition, message.envelope, to.slices(self._store))

    def _tell(self, to: ToRoom, event: str, data: Mapping[str, object]) -> None:
        """Bring an event that is not numbered to a room: to a small one at once, whatever parts it has."""
        id_, read_at = envelope.new_id(), self._clock()
        text = envelope.build(event, data, id=id_, room=to.room, now=read_at)
        found = self._store.receivers.of_room(to.target)
        receivers = tuple(itertools.islice(found, self._limits.direct + 1))
        if len(receivers) > self._limits.direct:
            self._spread(id_, to.room, text, to.slices(self._store))
        elif receivers:
            self._post(PostJob(id_, to.room, text, receivers, read_at=read_at), read_at)

    def _spread(self, id_: str, room: str | None, text: str, parts: list[Slice]) -> None:
        """Make slices into jobs; a single one is read here."""
        if len(parts) > 1:
            self._queue.put(SliceJob(id_, room, text, part) for part in parts)
            _LOG.info("sliced id=%s slices=%d", id_, len(parts))
        else:
            self._read(SliceJob(id_, room, text, parts[0]))

    def _read(self, job: SliceJob) -> None:
        """Make a slice into post jobs; if it is long, up to a page, from which another slice job goes on.

        The jobs of a page are on the queue before the next page is read. Where one job is all, it is done
        here.
        """
        count = members = 0
        read_at = self._clock()
        for page in self._store.receivers.pages(job.part, job.cursor):
            size = self._limits.job_receivers
            jobs = list(PostJob.split(job.id, job.room, job.text, page.receivers, size, read_at))
            if len(jobs) == 1 and not count and not page.cursor:
                self._post(jobs[0], read_at)
            elif jobs:
                self._queue.put(jobs)
            count += len(page.receivers)
            members += page.members
            if page.cursor and count >= SLICE_RECEIVERS and job.hop + 1 < MAX_SLICE_HOPS:
                self._queue.put([replace(job, cursor=page.cursor, hop=job.hop + 1)])
                break
            read_at = self._clock()
        _LOG.info("enumerated id=%s receivers=%d", job.id, count)
        if job.room is not None:
            try:
                self._note_size(self._store.rooms.parse(job.room), job, members)
            except Exception:  # noqa: BLE001  the next send to the room does it
                _LOG.exception("the size of a room is not noted yet")

    def _note_size(self, room: Room, job: SliceJob, members: int) -> None:
        """Spread a room whose own partition has many, and say to those who join about how many there are."""
        if job.part.partition == room.name:
            self._store.members.note_size(room, members)
        partitions = max(1, job.part.of - 1)
        # The members of a room that is spread are where a hash puts them: any partition is like another.
        is_sample = job.hop == 0 and job.part.segment == min(1, partitions - 1)
        if is_sample and room.history is not None and self._store.history is not None:
            count = members * partitions
            is_small = count <= self._limits.split  # then whoever numbers its sends writes it
            (self._store.history.found if is_small else self._store.history.note)(room.name, count)

    def _still(self, job: PostJob, read_at: float) -> dict[str, Receiver]:
        """The receivers of a job that may get it now."""
        now = self._clock()
        if now - read_at > FRESH_SECONDS:
            return self._store.receivers.still(job.receivers, job.room)
        return {r.connection_id: r for r in job.receivers if r.expires_at is None or r.expires_at > now}

    def _post(self, job: PostJob, read_at: float) -> None:
        began, published_at = time.monotonic(), _published_at(job.text)
        receivers = self._still(job, read_at)
        if len(receivers) < len(job.receivers):
            _LOG.info("ended meanwhile id=%s receivers=%d", job.id, len(job.receivers) - len(receivers))
        report = post(
            self._management_api,
            self._store,
            [receivers.values()],
            job.text.encode(),
            room=job.room,
            clock=self._clock,
            budget=POST_BUDGET,
            rate=self._rate,
            again=job.round > 0,
            waits_for_slow=False,  # they get their other tries from smaller jobs, which hold up nobody
        )
        last = job.round + 1 >= MAX_ROUNDS
        left = {i: why for i, why in report.failures.items() if _comes_again(why, last=last)}
        left |= {i: report.failures[i] for i in report.refused}  # the worker itself may not post
        # One that was let down here and comes again is not counted yet.
        failed, unknown = (sum(i not in left for i in ids) for ids in (report.failed, report.unknown))
        log = _LOG.error if left and last else _LOG.info
        log(
            "posted id=%s round=%d sent=%d gone=%d failed=%d unknown=%d left=%d ms=%d",
            job.id,
            job.round,
            len(report.sent),
            len(report.gone),
            failed,
            unknown,
            len(left),
            (time.monotonic() - began) * 1000,
        )
        metrics.emit(
            {
                "Sent": len(report.sent),
                "Gone": len(report.gone),
                "Failed": failed,
                "Unknown": unknown,
                "PublishToPost": (self._clock() - published_at) * 1000,
            }
        )
        only_slow = all(why.status == 429 and (job.round or not why.throttled) for why in left.values())
        if left and len(left) == len(receivers) and not only_slow:
            raise _NotDoneError(next(iter(report.reasons)))
        if left and not last:
            smaller = replace(job, receivers=tuple(receivers[i] for i in left), round=job.round + 1)
            self._queue.put([smaller], delay=random.randint(1, 5 * 2**job.round))  # noqa: S311  as `_pause`


def _comes_again(why: Failure, *, last: bool) -> bool:
    """Whether a receiver is in the smaller job that follows: also a slow client, as long as one does."""
    return why.worth_another_try or (why.status == 429 and not last)


def _published_at(text: str) -> float:
    """When an envelope says that it was sent, in epoch seconds.

    Raises:
        JobError: it is not an envelope.
    """
    try:
        return datetime.fromisoformat(json.loads(text)["timestamp"]).timestamp()
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise JobError(f"not an envelope: {type(error).__name__}") from None


class _NotDoneError(RoomcastError):
    """Not one receiver of a post job was reached; the worker gives the job back."""


def _pause(tries: int) -> int:
    """Whole seconds until the next try, random between a half and all of a time that grows threefold.

    The five receives of a job take at least four minutes together, so an outage of that length costs no send.
    """
    longest = min(_LONGEST_PAUSE, 20 * 3 ** (tries - 1))
    return random.randint(longest // 2, longest)  # noqa: S311  spreads load, guards nothing

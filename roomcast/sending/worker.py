"""The worker of the fan-out queue: runs one job."""

import itertools
import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from roomcast import envelope, metrics
from roomcast.errors import InvalidSendError, JobError, RoomcastError
from roomcast.management_api.client import ManagementApi
from roomcast.sending.job import MAX_ROUNDS, PostJob, SendJob, SendLimits, parse
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.posting import post
from roomcast.store import Store

POST_BUDGET = 20.0
"""Seconds for the posts of one post job."""
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
        room = job.to.room
        try:
            text = envelope.build(job.event, job.data, id=id_, room=room, now=sent_at)
        except InvalidSendError as error:
            raise JobError(str(error)) from None
        count, size = 0, self._limits.job_receivers

        def post_jobs() -> Iterator[PostJob]:
            nonlocal count
            for post_job in PostJob.split(
                id_, room, text, job.to.receivers(self._store, parallel=True), size
            ):
                count += len(post_job.receivers)
                yield post_job

        jobs = post_jobs()
        first, second = next(jobs, None), next(jobs, None)
        if first is not None and second is None:
            self._post(first)  # few receivers need no second message
        elif first is not None and second is not None:
            self._queue.put(itertools.chain((first, second), jobs))
        _LOG.info("enumerated id=%s receivers=%d", id_, count)

    def _post(self, job: PostJob) -> None:
        began = time.monotonic()
        receivers = {receiver.connection_id: receiver for receiver in job.receivers}
        report = post(
            self._management_api,
            self._store,
            receivers,
            job.text.encode(),
            room=job.room,
            clock=self._clock,
            budget=POST_BUDGET,
            rate=self._rate,
        )
        left = [i for i, failure in report.failures.items() if failure.worth_another_try]
        if report.was_refused_altogether:
            left = list(receivers)  # the worker itself may not post
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


class _NotDoneError(RoomcastError):
    """Not one receiver of a post job was reached; the worker gives the job back."""


def _pause(tries: int) -> float:
    """Seconds until the next try (full jitter, in whole seconds for SQS)."""
    return random.randint(1, min(_LONGEST_PAUSE, 5 * 2**tries))  # noqa: S311  guards nothing

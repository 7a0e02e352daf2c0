"""The fan-out queue: the only file that knows SQS.

Everything is at least once: a worker that dies in the middle of a job leaves its message on the queue, and
another one does the whole job again. All of them use the send's `id`, so a receiver drops what it has seen.
"""

import functools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from roomcast import aws
from roomcast.aws_client.failures import refused
from roomcast.errors import JobError
from roomcast.rooms import Rooms
from roomcast.sending.job import JOBS_PER_BATCH, Job, NewestJob, SendJob, parse

if TYPE_CHECKING:
    import botocore.session
    from mypy_boto3_sqs import SQSClient

_BATCH_BYTES = 1_000_000  # SQS's limit is 1 MiB for all messages of a batch together
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Redriven:
    """What `JobQueue.redrive` did.

    Attributes:
        moved: how many jobs are on the queue again.
        bad: how many messages are malformed.
    """

    moved: int
    bad: int


class JobQueue:
    """The fan-out queue.

    Args:
        url: the queue's.
        session: botocore's, where the caller has one. A client is made of it at the first job.
    """

    def __init__(self, url: str, session: "botocore.session.Session | None" = None) -> None:
        self._url = url
        self._session = session

    @functools.cached_property
    def _client(self) -> "SQSClient":
        client: SQSClient = aws.client("sqs", self._session)
        return client

    def close(self) -> None:
        """Close the connections to SQS. A later call opens others."""
        if "_client" in self.__dict__:
            self._client.close()

    def put(self, jobs: Iterable[Job], delay: float = 0) -> None:
        """Put jobs on the queue, in batches as large as SQS takes.

        Args:
            jobs: read one batch ahead only, so there may be any number.
            delay: seconds until they can be received.

        Raises:
            AwsRefusedError: SQS refuses to the end. Jobs of earlier batches are on the queue.
            AwsUnansweredError: it does not answer; likewise.
        """
        for batch in _batches(job.dump() for job in jobs):
            entries: Any = [
                {"Id": str(number), "MessageBody": text, "DelaySeconds": int(delay)}
                for number, text in enumerate(batch)
            ]
            for _ in aws.attempts():
                answer = aws.call(self._client.send_message_batch, QueueUrl=self._url, Entries=entries)
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
        aws.call(
            self._client.change_message_visibility,
            QueueUrl=self._url,
            ReceiptHandle=receipt,
            VisibilityTimeout=int(pause),
        )

    def redrive(self, rooms: Rooms) -> Redriven:
        """Move the jobs of the dead-letter queue back to the queue; malformed messages stay.

        Args:
            rooms: the kinds of room that there are.

        Raises:
            AwsRefusedError: SQS refuses, or there is no dead-letter queue. What was moved
                before stays moved.
        """
        sqs = self._client
        policy = aws.call(sqs.get_queue_attributes, QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
        name = dead_letter_queue(policy["Attributes"]["RedrivePolicy"])
        dead = aws.call(sqs.get_queue_url, QueueName=name)["QueueUrl"]
        moved = 0
        bad: list[str] = []
        while messages := aws.call(
            sqs.receive_message, QueueUrl=dead, MaxNumberOfMessages=JOBS_PER_BATCH, VisibilityTimeout=300
        ).get("Messages"):
            for message in messages:
                try:
                    job = parse(message["Body"], rooms)
                except JobError as error:
                    _LOG.error("bad job messageId=%s reason=%s", message["MessageId"], error.reason)
                    bad.append(message["ReceiptHandle"])
                    continue
                if isinstance(job, SendJob) and job.id is None:
                    # The id that its first tries had; on the queue again it is another message.
                    job = replace(job, id=message["MessageId"])
                if isinstance(job, NewestJob):
                    job = replace(job, turn=None)  # it may have ended its turn, and not posted
                self.put([job])
                aws.call(sqs.delete_message, QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
                moved += 1
        for receipt in bad:
            aws.call(sqs.change_message_visibility, QueueUrl=dead, ReceiptHandle=receipt, VisibilityTimeout=0)
        return Redriven(moved, len(bad))


def dead_letter_queue(policy: str) -> str:
    """The name of the dead-letter queue, from a queue's attribute `RedrivePolicy`."""
    arn: str = json.loads(policy)["deadLetterTargetArn"]
    return arn.rpartition(":")[2]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == JOBS_PER_BATCH or size + len(text) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _refused(entry: Mapping[str, Any]) -> Exception:
    error: Any = {"Error": {"Code": entry.get("Code", ""), "Message": entry.get("Message", "")}}
    return refused(error, "SendMessageBatch")

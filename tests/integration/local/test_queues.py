"""SQS event sources: batches, partial failures, and what comes again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from roomcast_dev.testing import WebSocketStack, run_stack
from tests.integration.local.conftest import PLAIN


class Queue:
    """The queue of a fresh stack, and what its function got."""

    def __init__(self, stack: WebSocketStack) -> None:
        self.stack = stack
        self.sqs = stack.client("sqs")
        self.url = stack.stack.outputs["JobsUrl"]

    def send(self, *bodies: str) -> None:
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]
        self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def batches(self) -> list[dict[str, Any]]:
        rows = self.stack.rows(self.stack.stack.outputs["EventsTable"])
        return [json.loads(row["event"]["S"]) for row in rows if row["connectionId"]["S"] == "jobs"]

    def bodies(self) -> list[str]:
        return sorted(body for batch in self.batches() for body in batch["bodies"])

    def left(self, url: str | None = None) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


@pytest.fixture
def queue() -> Iterator[Queue]:
    with run_stack(PLAIN) as stack:
        yield Queue(stack)


def test_messages_reach_the_function_in_batches_and_are_deleted(queue: Queue) -> None:
    queue.send(*"abcdefg")
    queue.stack.eventually(lambda: queue.bodies() == list("abcdefg"))
    assert max(len(batch["bodies"]) for batch in queue.batches()) <= 3
    queue.stack.eventually(lambda: queue.left() == 0)


def test_a_record_is_as_lambda_gives_it(queue: Queue) -> None:
    attribute = {"kind": {"DataType": "String", "StringValue": "x"}}
    queue.sqs.send_message(QueueUrl=queue.url, MessageBody="a", MessageAttributes=attribute)
    record = queue.stack.eventually(queue.batches)[0]["records"][0]
    assert set(record) == {
        "messageId",
        "receiptHandle",
        "body",
        "attributes",
        "messageAttributes",
        "md5OfBody",
        "eventSource",
        "eventSourceARN",
        "awsRegion",
    }
    assert record["eventSource"] == "aws:sqs"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["messageAttributes"]["kind"] == {"dataType": "String", "stringValue": "x"}


def test_only_what_failed_comes_again_and_ends_in_the_dead_letter_queue(queue: Queue) -> None:
    queue.send("fail", "good")
    queue.stack.eventually(lambda: queue.bodies() == ["fail", "good"])
    queue.stack.eventually(lambda: queue.bodies() == ["fail", "fail", "good"])
    dead = queue.stack.stack.outputs["DeadUrl"]
    queue.stack.eventually(lambda: queue.left(dead) == 1, timeout=8)
    assert queue.left() == 0


def test_a_batch_whose_function_raises_comes_again_whole(queue: Queue) -> None:
    queue.send("raise", "good")
    queue.stack.eventually(lambda: queue.bodies() == ["good", "good", "raise", "raise"], timeout=8)

"""SQS event sources: polls a queue and gives its messages to a function, with Lambda's batch rules."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from roomcast_dev.local.console import Console
from roomcast_dev.local.lambda_host.invocation import FunctionError, Invoke
from roomcast_dev.local.template.model import REGION, QueueMapping

# Ours: seconds. Messages that are sent are announced; this finds those that were delayed or failed.
POLL_INTERVAL = 1.0
RECEIVE_MAXIMUM = 10  # SQS quota: messages a receive
DELETE_MAXIMUM = 10  # SQS quota: messages a DeleteMessageBatch
DEFAULT_CONCURRENCY = 5  # Lambda starts to poll a queue with five batches at a time


class QueuePoller:
    """Serves one event source mapping until it is stopped.

    A batch that the function took is deleted; of one with `batchItemFailures` only what succeeded; of one
    that failed nothing, so that its messages come again after the queue's visibility timeout.

    Args:
        mapping: which function, and how large a batch.
        queue_arn: evaluated.
        sqs: a boto3 client.
        invoke: runs the function.
    """

    def __init__(
        self, mapping: QueueMapping, queue_arn: str, sqs: Any, invoke: Invoke, console: Console
    ) -> None:
        self._mapping = mapping
        self._arn = queue_arn
        self._sqs = sqs
        self._invoke = invoke
        self._console = console
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(mapping.maximum_concurrency or DEFAULT_CONCURRENCY)
        self._received: deque[dict[str, Any]] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._taken: deque[str] = deque()  # receipt handles of what the function took, to be deleted
        self._deleter: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._url = ""

    async def start(self) -> None:
        """Begin to poll."""
        name = self._arn.rsplit(":", 1)[-1]
        self._url = (await asyncio.to_thread(self._sqs.get_queue_url, QueueName=name))["QueueUrl"]
        self._task = asyncio.create_task(self._poll())

    def wake(self) -> None:
        """A message may be there: look now."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop polling and give up batches under way."""
        tasks = [task for task in (self._task, self._deleter, *self._batches) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            await self._slots.acquire()
            messages: list[dict[str, Any]] = []
            try:
                messages = await self._gather()
            except Exception as problem:  # noqa: BLE001 boto3 raises many; the queue may come back
                self._console.problem(f"polling {self._arn} failed: {problem}")
            if messages:
                task = asyncio.create_task(self._batch(messages))
                self._batches.add(task)
                task.add_done_callback(self._batches.discard)
                continue
            self._slots.release()
            try:
                await asyncio.wait_for(self._wake.wait(), POLL_INTERVAL)
            except TimeoutError:
                continue

    async def _gather(self) -> list[dict[str, Any]]:
        """Receive up to a batch, waiting up to the batching window once there is a first message.

        What one receive brings beyond the batch goes into the next ones.
        """
        messages: list[dict[str, Any]] = []
        deadline = 0.0
        while len(messages) < self._mapping.batch_size:
            if self._received:
                messages.append(self._received.popleft())
                continue
            self._wake.clear()
            answer = await asyncio.to_thread(
                self._sqs.receive_message,
                QueueUrl=self._url,
                MaxNumberOfMessages=RECEIVE_MAXIMUM,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            self._received += answer.get("Messages", [])
            if (self._received or messages) and not deadline:
                deadline = time.monotonic() + self._mapping.window
            if self._received:
                continue
            if not messages or time.monotonic() >= deadline:
                break
            await asyncio.sleep(min(0.05, self._mapping.window))
        return messages

    async def _batch(self, messages: list[dict[str, Any]]) -> None:
        started = time.perf_counter()
        failed, why = {message["MessageId"] for message in messages}, ""
        try:
            result = await self._invoke(
                self._mapping.function, {"Records": [self._record(message) for message in messages]}
            )
            if self._mapping.reports_failures:
                failed, why = _failures(result, failed)
            else:
                failed = set()
        except FunctionError as failure:
            why = str(failure)
        finally:
            self._slots.release()
        self._taken += [m["ReceiptHandle"] for m in messages if m["MessageId"] not in failed]
        if self._taken and (self._deleter is None or self._deleter.done()):
            self._deleter = asyncio.create_task(self._delete())
        detail = f"{len(messages)} messages, {len(failed)} failed" if failed else f"{len(messages)} messages"
        self._console.event("queue", self._arn.rsplit(":", 1)[-1][-16:], detail, started=started, error=why)

    async def _delete(self) -> None:
        """Delete what was taken, with each call all that has come up during the one before."""
        while self._taken:
            handles = [self._taken.popleft() for _ in range(min(len(self._taken), DELETE_MAXIMUM))]
            entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
            try:
                await asyncio.to_thread(self._sqs.delete_message_batch, QueueUrl=self._url, Entries=entries)
            except Exception as problem:  # noqa: BLE001 as above; what was not deleted comes again
                self._console.problem(f"deleting from {self._arn} failed: {problem}")

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: {key[0].lower() + key[1:]: value for key, value in attribute.items()}
                for name, attribute in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message.get("MD5OfBody", ""),
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": REGION,
        }


def _failures(result: Any, every: set[str]) -> tuple[set[str], str]:
    """Which messages failed; a report that Lambda would not understand fails them all."""
    if result is None or result == "" or result == {}:
        return set(), ""
    try:
        items = result["batchItemFailures"]
        reported = {item["itemIdentifier"] for item in items or ()}
    except (TypeError, KeyError):
        return every, "the function returned no proper batchItemFailures"
    if not reported <= every:
        return every, "batchItemFailures names a message that was not in the batch"
    return reported, ""

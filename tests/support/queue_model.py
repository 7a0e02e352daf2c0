"""The fan-out queue and its worker, for state machines."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from roomcast.sending.worker import Worker
from tests.support.stepping import Operation, SteppedMachine

VISIBILITY = 60.0  # s; for which SQS hides a message from other workers


@dataclass
class Message:
    """One message of the queue."""

    id: str
    body: str
    sent_at: float
    visible_at: float
    receives: int = 0


class QueueModel:
    """SQS: at least once, and a message comes back where its worker died."""

    def __init__(self, world: "QueueMachine") -> None:
        self._world = world
        self.messages: dict[str, Message] = {}

    def put(self, jobs: Iterable[Any], delay: float = 0) -> None:
        for job in jobs:
            body = job.dump()
            Operation.stop_here()
            now = self._world.now
            message = Message(f"m{next(self._world.ticks)}", body, now, now + delay)
            self.messages[message.id] = message

    def give_back(self, receipt: str, pause: float) -> None:
        Operation.stop_here()
        if receipt in self.messages:
            self.messages[receipt].visible_at = self._world.now + pause

    def visible(self) -> list[Message]:
        return [m for m in self.messages.values() if m.visible_at <= self._world.now]

    def receive(self, message: Message) -> dict[str, Any]:
        message.visible_at = self._world.now + VISIBILITY
        message.receives += 1
        return {
            "messageId": message.id,
            "receiptHandle": message.id,
            "body": message.body,
            "attributes": {
                "SentTimestamp": str(int(message.sent_at * 1000)),
                "ApproximateReceiveCount": str(message.receives),
            },
        }


class QueueMachine(SteppedMachine):
    """A machine with a queue, whose worker may die in a job.

    Attributes:
        queue: the queue.
        worker: runs its jobs.
    """

    worker: Worker

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.queue = QueueModel(self)
        self._in_flight: list[tuple[Message, Operation]] = []

    def take(self, message: Message, steps: int) -> None:
        """Let the worker begin a job."""
        record = self.queue.receive(message)
        operation = self.start(lambda: self.worker.run(record))
        self._in_flight.append((message, operation))
        self.step(operation, steps)

    def collect(self) -> None:
        super().collect()
        for message, operation in list(self._in_flight):
            if operation.ended is not None:
                self._in_flight.remove((message, operation))
                if operation.done and operation.result:
                    self.queue.messages.pop(message.id, None)

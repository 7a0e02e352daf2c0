"""What streams cost: units of a send, a join and a recovery; a hot stream; a storm; the price next to others.

    python bench/streams.py [--quick] [--json FILE]

On AWS's DynamoDB Local, which counts capacity as DynamoDB does (a write whose condition failed is counted
here: DynamoDB charges it, and no answer says so).

- *Units.* A stored message of 1 KB, a join, a rejoin that has missed 0, 10 or 1,000 messages.
- *A hot stream.* 1, 4 and 16 senders, each a process of its own as far as the store knows, append to one
  stream as fast as they can. Every call takes 5 ms, as between Lambda and DynamoDB, of a virtual clock and on
  the tests' model of DynamoDB: an emulator next to 16 senders on two cores would measure itself.
- *A storm.* 10,000 members of one room come back within 32 s through 50 warm functions. The units of the
  busiest partition key in a second are compared with what DynamoDB gives one: 3,000 reads, 1,000 writes.
- *The price* of a million messages to rooms of 20, with everything that the send and the posts use, next to
  the list prices of AppSync Events and Ably (`docs/costs.md` has their sources).
"""

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))

from botocore.exceptions import ClientError

from bench.peers.common import finish, options
from roomcast.store.dynamodb import Tables
from roomcast.store.history import History, Position, Retention
from tests.fakes.dynamodb import FakeDynamoDB
from tests.support.dynamodb_local import dynamodb_local
from tests.support.history import create_history
from tests.support.stepping import Operation

ROOM = "chat_room_bench"
KEEP = Retention(seconds=86_400, messages=1_000)
READS, WRITES = 3_000, 1_000  # units a second that DynamoDB gives one partition key
MEMBERS, WITHIN, WARM = 10_000, 32, 50
BODY = "x" * 850  # with its attributes a message is just under 1 KB
DISTANCE = 0.005  # s; between Lambda and DynamoDB
TARGETS = {
    "write_units_per_message": ("<=", 2.0),
    "rejoin_read_units": ("<=", 1.0),
    "storm_peak_share": ("<=", 1.0),
}
APPSYNC = {"operation": 1.00 / 1e6}
ABLY = {"message": 2.50 / 1e6}
WRITE_UNIT, READ_UNIT, SOCKET_MESSAGE = 0.625 / 1e6, 0.125 / 1e6, 1.00 / 1e6


class Meter:
    """A client whose calls are counted in units, for each partition key."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("exceptions", "meta", "can_paginate", "get_paginator"):
            return method

        def call(**arguments: Any) -> Any:
            try:
                answer = method(**arguments, ReturnConsumedCapacity="TOTAL")
            except ClientError:
                self._count(name, arguments, {})
                raise
            self._count(name, arguments, answer)
            return answer

        return call

    def _count(self, name: str, arguments: dict[str, Any], answer: dict[str, Any]) -> None:
        consumed = answer.get("ConsumedCapacity", {})
        keys = list(_keys(arguments))
        total = (
            sum(one["CapacityUnits"] for one in consumed)
            if isinstance(consumed, list)
            else consumed.get("CapacityUnits", 1.0)
        )
        with self._lock:
            self.calls[name] += 1
            for key in keys:
                counted = self.reads if name in ("get_item", "query", "batch_get_item") else self.writes
                counted[key] += total / len(keys)

    @contextmanager
    def counting(self) -> Iterator["Meter"]:
        """Begin at zero."""
        for counter in (self.reads, self.writes, self.calls):
            counter.clear()
        yield self


def _keys(arguments: dict[str, Any]) -> Iterator[str]:
    if "TransactItems" in arguments:
        for action in arguments["TransactItems"]:
            yield from _keys(next(iter(action.values())))
    elif "Key" in arguments or "Item" in arguments:
        yield arguments.get("Key", arguments.get("Item"))["stream"]["S"]
    else:
        yield arguments["ExpressionAttributeValues"][":stream"]["S"]


def build(id_: str) -> Callable[[Position], str]:
    return lambda at: f"{at.seq} {id_} {BODY}"


def new(client: Any) -> History:
    return History(Tables(client, "connections", "rooms"), "history")


def units(meter: Meter, figures: dict[str, float]) -> None:
    """Of a send, a join and recoveries."""
    history = new(meter)
    history.append(ROOM, "first", build("first"), KEEP)
    count = 50
    with meter.counting():
        for number in range(count):
            history.append(ROOM, f"m{number}", build(f"m{number}"), KEEP)
        figures["write_units_per_message"] = sum(meter.writes.values()) / count
        figures["read_units_per_message"] = sum(meter.reads.values()) / count
    with meter.counting():
        head = new(meter).recover(ROOM, None, KEEP).position
        figures["join_read_units"] = sum(meter.reads.values())
    with meter.counting():
        new(meter).recover(ROOM, head, KEEP)
        figures["rejoin_read_units"] = sum(meter.reads.values())
    while head.seq < 1_001:
        head = history.append(ROOM, f"n{head.seq}", build(f"n{head.seq}"), KEEP)
    for missed in (10, 1_000):
        with meter.counting():
            found = new(meter).recover(ROOM, Position(head.epoch, head.seq - missed), KEEP)
            assert found.recovered
            assert len(found.messages) == missed
            figures[f"recovery_of_{missed}_read_units"] = sum(meter.reads.values())


class Distant:
    """A client in virtual time: each call takes `DISTANCE`, more or less, and the senders take turns.

    Args:
        client: the one that is asked.
        wait: lets the caller wait.
    """

    def __init__(self, client: Any, wait: Callable[[float], None]) -> None:
        self._client = client
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            self._wait(DISTANCE / 2 * random.lognormvariate(0, 0.3))
            try:
                return method(**arguments)
            finally:
                self._wait(DISTANCE / 2 * random.lognormvariate(0, 0.3))

        return call


def hot_stream(senders: int, seconds: float) -> tuple[float, float]:
    """Sends a second, and write units a send."""
    random.seed(senders)
    fake = FakeDynamoDB()
    create_history(fake)
    meter, now, sent = Meter(fake), [0.0], 0

    def wait(pause: float) -> None:
        current = Operation.current()
        assert current is not None
        current.at = now[0] + pause
        Operation.stop_here()

    def sender(number: int) -> Callable[[], None]:
        client: Any = Distant(meter, wait)
        history = History(Tables(client, "connections", "rooms", clock=lambda: now[0]), "history")

        def work() -> None:
            nonlocal sent
            while now[0] < seconds:
                history.append("chat_room_hot", f"{number}-{sent}", build("hot"), KEEP)
                sent += 1

        return work

    with mock.patch("time.sleep", wait):
        running = [Operation(number, sender(number)) for number in range(senders)]
        while running:
            following = min(running, key=lambda operation: operation.at)
            now[0] = max(now[0], following.at)
            following.step(1)
            running = [operation for operation in running if operation.ended is None]
    return sent / now[0], sum(meter.writes.values()) / sent


def storm(meter: Meter, missed: int, members: int) -> tuple[float, float]:
    """Shares of one partition's reads and of its writes, in the mean second of the storm."""
    head = new(meter).position(ROOM)
    warm = [new(meter) for _ in range(WARM)]
    with meter.counting():
        for number in range(members):
            found = warm[number % WARM].recover(ROOM, Position(head.epoch, head.seq - missed), KEEP)
            assert found.recovered
        scale = MEMBERS / members / WITHIN
        reads = max(meter.reads.values(), default=0) * scale
        return reads / READS, max(meter.writes.values(), default=0) * scale / WRITES


def prices(figures: dict[str, float]) -> None:
    """A million messages, each to a room of 20."""
    writes = figures["write_units_per_message"] * WRITE_UNIT
    members = figures["read_units_of_20_members"] * READ_UNIT
    posts = 20 * SOCKET_MESSAGE
    figures["dollars_a_million_sends"] = 1e6 * (writes + members + posts)
    figures["dollars_a_million_sends_without_history"] = 1e6 * (members + posts)
    figures["dollars_appsync"] = 1e6 * 21 * APPSYNC["operation"]
    figures["dollars_ably"] = 1e6 * 21 * ABLY["message"]


def main() -> None:
    chosen = options("What streams cost in units, and what one stream can take.")
    figures: dict[str, float] = {"read_units_of_20_members": 1.0}
    with dynamodb_local() as client:
        create_history(client)
        meter = Meter(client)
        units(meter, figures)
        for senders in (1, 4, 16):
            rate, each = hot_stream(senders, 3 if chosen.quick else 10)
            figures[f"hot_stream_sends_per_second_{senders}"] = rate
            figures[f"hot_stream_write_units_per_message_{senders}"] = each
        figures["hot_stream_sends_per_second"] = max(
            figures[f"hot_stream_sends_per_second_{senders}"] for senders in (1, 4, 16)
        )
        for missed in (0, 10, 100):
            reads, writes = storm(meter, missed, 1_000 if chosen.quick else MEMBERS)
            figures[f"storm_reads_share_{missed}"] = reads
            figures[f"storm_writes_share_{missed}"] = writes
        figures["storm_peak_share"] = max(
            figures[f"storm_{kind}_share_{missed}"] for kind in ("reads", "writes") for missed in (0, 10, 100)
        )
    prices(figures)
    finish(figures, TARGETS, chosen.json)


if __name__ == "__main__":
    main()

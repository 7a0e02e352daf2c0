"""Large rooms and broadcasts: joins a second, and what one invocation has to read.

On AWS's DynamoDB Local and MiniStack's queue, with the store and the worker as they are.

- *Joins.* Users with a grant join one room. Each write of their transactions is counted for the partition
  that it goes to (2 units for up to 1 KB, as AWS documents), before the room is spread and after it. DynamoDB
  writes 1,000 units a second to a partition: the busiest one sets the limit.
- *A room of 100,000.* The worker splits the send and reads every slice, and each invocation is timed. The
  posts are simulated at the pace of the stage `prod` (as `bench/broadcast.py` does), from the times measured
  here.
- *A broadcast to 1,000,000.* Its 200 slices hold 5,000 each. As many slices of that size as the table here
  has are read, and 200 slice jobs are put on the queue: the longest invocation of all is the figure.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import botocore.session
from botocore.credentials import Credentials

from bench.broadcast import PROD, Constants, even_slices, simulate
from bench.peers.common import finish, options
from roomcast.connection import Connection
from roomcast.management_api.client import ManagementApi
from roomcast.sending.audience import Everybody, ToRoom
from roomcast.sending.job import Job, SendJob, SliceJob
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.worker import Worker
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.items import MEMBER, grant_key, member_key, membership_key
from roomcast.store.receivers import MAX_SLICES, SLICE_RECEIVERS, Slice
from roomcast_dev.local.ministack.process import MiniStack
from tests.builders import APP, chat, create_tables
from tests.support.dynamodb_local import dynamodb_local

PARTITION_UNITS = 1_000  # write units a second that DynamoDB gives one partition
END = 9_999_999_999
ROOM = chat("large")
TARGETS = {
    "room_100k_over_floor": ("<=", 1.2),
    "broadcast_1m_longest_invocation_s": ("<=", 60.0),
    "granted_joins_per_second_a_room": (">=", 500.0),
}


class Partitions:
    """Counts the write units of each partition key of the rooms table."""

    def __init__(self, client: Any) -> None:
        self.units: Counter[str] = Counter()
        client.meta.events.register("provide-client-params.dynamodb.TransactWriteItems", self._count)

    def _count(self, params: dict[str, Any], **_: object) -> None:
        for write in params["TransactItems"]:
            ((_, body),) = write.items()
            key = body.get("Item", body.get("Key"))
            if "room" in key:
                self.units[key["room"]["S"]] += 2


def write(client: Any, table: str, items: Iterable[dict[str, Any]]) -> None:
    """Put many items."""
    rest = list(items)

    def batch(chunk: list[dict[str, Any]]) -> None:
        requests = {table: [{"PutRequest": {"Item": item}} for item in chunk]}
        while requests:
            requests = client.batch_write_item(RequestItems=requests).get("UnprocessedItems")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(batch, (rest[at : at + 25] for at in range(0, len(rest), 25))))


def person(number: int) -> dict[str, Any]:
    """The item of a connection."""
    return {
        "connectionId": {"S": f"TWegAcC4EowC{number:07}="},
        "userId": {"S": f"user-{number}"},
        "userRole": {"S": "user"},
        "userName": {"S": "A Name"},
        "userEmail": {"S": "a.name@example.test"},
        "connectedAt": {"S": "2026-01-01T00:00:00.000Z"},
        "issuedAt": {"N": "1"},
        "ttl": {"N": str(END)},
        "expiresAt": {"N": str(END)},
    }


def joins(client: Any, count: int) -> float:
    """Joins a second that one room bears: the busiest partition's, once the room is spread."""
    create_tables(client)
    write(client, "connections", map(person, range(count)))
    write(client, "rooms", (grant_key(ROOM.name, f"user-{number}") for number in range(count)))
    counted = Partitions(client)
    figures = []
    for spread in (False, True):
        store = Store(Tables(client, "connections", "rooms"), APP.rooms)
        if spread:
            store.members.note_size(ROOM, 1_000)
        counted.units.clear()
        half = range(count // 2) if not spread else range(count // 2, count)
        for number in half:
            connection = Connection(
                connection_id=person(number)["connectionId"]["S"],
                user_id=f"user-{number}",
                role="user",
                connected_at="2026-01-01T00:00:00.000Z",
                ttl=END,
                expires_at=END,
                rooms=frozenset(),
                issued_at=1,
            )
            # A new process each time: how soon a busy one spreads the room is another matter.
            members = store.members if spread else Store(store.tables).members
            assert members.join(connection, ROOM, needs_grant=True)
        (key, units), *_ = counted.units.most_common(1)
        a_second = PARTITION_UNITS * len(half) / units
        figures.append(a_second)
        print(
            f"joins {'after' if spread else 'before'} the room is spread: {len(half)} joins, "
            f"{sum(counted.units.values()) / len(half):.1f} units each in the rooms table; "
            f"busiest of {len(counted.units):,} partitions {key} with {units / len(half):.3f} a join: "
            f"{a_second:,.0f} joins/s"
        )
    for table in ("connections", "rooms"):
        client.delete_table(TableName=table)
    return figures[-1]


class Timed:
    """A worker whose invocations are timed, and a queue from which they come."""

    def __init__(self, client: Any, sqs: Any, url: str) -> None:
        self._sqs, self._url = sqs, url
        api = ManagementApi("https://127.0.0.1:1/x", region="x", credentials=Credentials("AKID", "SECRET"))
        self.queue = JobQueue(url, _Session(sqs))
        self._worker = Worker(Store(Tables(client, "connections", "rooms"), APP.rooms), api, self.queue)

    def run(self, job: Job) -> float:
        """Seconds of one invocation."""
        record = {"messageId": "m", "receiptHandle": "r", "body": job.dump()}
        began = time.perf_counter()
        assert self._worker.run(record)
        return time.perf_counter() - began

    def slices(self) -> list[SliceJob]:
        """The slice jobs that are on the queue, which is empty then."""
        found = []
        for body in self._empty():
            job = json.loads(body)
            if "slice" in job:
                part = Slice(*job["slice"])
                sent = (job["id"], job["room"], job["envelope"])
                found.append(SliceJob(*sent, part, job["cursor"], job["hop"]))
        return found

    def receivers(self) -> tuple[int, float]:
        """How many receivers the post jobs on the queue have, which is empty then; seconds to fetch one."""
        began = time.perf_counter()
        bodies = self._empty()
        took = time.perf_counter() - began
        return sum(len(json.loads(body).get("receivers", ())) for body in bodies), took / max(1, len(bodies))

    def _empty(self) -> list[str]:
        bodies: list[str] = []
        ask = {"QueueUrl": self._url, "MaxNumberOfMessages": 10}
        while messages := self._sqs.receive_message(**ask).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return bodies


class _Session(botocore.session.Session):
    """A session that gives the client of MiniStack's queue."""

    def __init__(self, sqs: Any) -> None:
        super().__init__()
        self._sqs = sqs

    def create_client(self, *_: Any, **__: Any) -> Any:
        return self._sqs


def enumerate_all(timed: Timed, send: SendJob, expected: int) -> tuple[float, list[float], list[int], float]:
    """Split a send and read its slices: seconds of the send job, of each slice, receivers, and of a fetch."""
    sliced = timed.run(send)
    times, sizes, fetches = [], [], []
    waiting = timed.slices()
    while waiting:
        times.append(timed.run(waiting.pop(0)))
        size, fetch = timed.receivers()
        sizes.append(size)
        fetches.append(fetch)
    assert sum(sizes) == expected, f"{sum(sizes)} of {expected} were enumerated"
    return sliced, times, sizes, sum(fetches) / len(fetches)


def main() -> None:
    """Measure, simulate, show, write."""
    chosen = options(__doc__.splitlines()[0])
    figures = asyncio.run(_measure(quick=chosen.quick))
    finish(figures, TARGETS, chosen.json)


async def _measure(*, quick: bool) -> dict[str, float]:
    ministack = MiniStack()
    await ministack.start()
    try:
        with dynamodb_local() as client:
            return await asyncio.to_thread(_figures, client, ministack.client("sqs"), quick=quick)
    finally:
        await ministack.stop()


def _figures(client: Any, sqs: Any, *, quick: bool) -> dict[str, float]:
    figures = {"granted_joins_per_second_a_room": joins(client, 1_000 if quick else 4_000)}
    timed = Timed(client, sqs, sqs.create_queue(QueueName="fanout")["QueueUrl"])
    workers, pace = PROD["fanout_concurrency"], PROD["fanout_rate"]
    data = {"text": "x" * 1_000}

    members, table = 100_000, 20_000 if quick else 100_000
    create_tables(client)
    write(client, "rooms", [{**member_key(ROOM.name, MEMBER), "ttl": {"N": str(END)}}])
    write(client, "rooms", (_member(number) for number in range(members)))
    write(client, "connections", map(person, range(table)))
    timed.run(SendJob(ToRoom(ROOM), "warm", data))
    timed.slices()
    sliced, times, sizes, fetch = enumerate_all(timed, SendJob(ToRoom(ROOM), "e", data), members)
    constants = Constants(
        start=fetch, sliced=sliced, per_receiver=sum(times) / members, fetch=fetch, post=fetch
    )
    floor, took = members / (workers * pace), simulate(sizes, constants, workers, pace)
    figures["room_100k_over_floor"] = took / floor
    print(
        f"room of {members:,}: {len(sizes)} slices of up to {max(sizes):,}, split in {sliced:.2f} s, longest "
        f"{max(times):.2f} s; last receiver simulated at {took:.2f} s, floor {floor:.2f} s"
    )

    sliced, times, sizes, _ = enumerate_all(timed, SendJob(Everybody(), "e", data), table)
    began = time.perf_counter()
    text = json.dumps({"event": "e", "data": data})
    timed.queue.put(SliceJob("id", None, text, Slice(segment=k, of=MAX_SLICES)) for k in range(MAX_SLICES))
    put = time.perf_counter() - began
    print(
        f"broadcast to {table:,}: {len(sizes)} slices of {min(sizes):,} to {max(sizes):,}, "
        f"split in {sliced:.2f} s, longest {max(times):.2f} s; "
        f"{MAX_SLICES} slice jobs are on the queue in {put:.2f} s"
    )
    scale = SLICE_RECEIVERS / (table / len(sizes))  # to the 5,000 that a slice of a million has
    figures["broadcast_1m_longest_invocation_s"] = max(sliced + put, max(times) * max(1.0, scale))
    constants = Constants(
        start=fetch, sliced=sliced + put, per_receiver=sum(times) / table, fetch=fetch, post=fetch
    )
    million = simulate(even_slices(1_000_000), constants, workers, pace)
    figures["broadcast_1m_over_floor"] = million / (1_000_000 / (workers * pace))
    return figures


def _member(number: int) -> dict[str, Any]:
    item = person(number)
    kept = {name: item[name] for name in ("userId", "connectedAt", "ttl", "expiresAt")}
    return {**membership_key(ROOM.name, item["connectionId"]["S"], spread=True), **kept}


if __name__ == "__main__":
    main()

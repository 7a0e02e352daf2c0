"""What becomes of one send under each fault, and how much slow clients hold up other sends.

Each row is one send to a room over the queue: service, queue, four workers, and a fake management API on a
real socket. The tables are the tests' fake of DynamoDB, which may throttle; the queue is in memory with SQS's
delays, visibility timeout and dead-letter queue, and its time runs 60 times faster, so that a row takes
seconds. A worker that is killed ends in the middle of a job, before or after its posts, without a word to the
queue.

A receiver is *lost* if it has no message and nobody says so: it is neither gone nor counted as failed or
unknown, and in no job of the dead-letter queue. `x calm` compares the time until the last receiver has the
message with the run without a fault.

`slow_N_ratio`: the time of sends to 200 healthy receivers while another send runs in the same process, to
receivers of whom N % read too slowly, over the same time when none is slow; and likewise of a worker that has
a post job with slow clients before two without. The larger of the two.
"""

import heapq
import itertools
import logging
import math
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

sys.path.insert(0, str(Path(__file__).parent.parent))

from botocore.credentials import Credentials

from bench.peers.common import finish, options
from roomcast import envelope
from roomcast.connection import Receiver
from roomcast.management_api.client import ManagementApi
from roomcast.management_api.report import PostReport
from roomcast.sending.job import Job, PostJob, parse
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP, chat, create_tables, identity
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.management_api import GONE, RESET, THROTTLED, FakeManagementApi, Reply, Request

ROOM = chat("r1")
WORKERS, RATE = 4, 300  # posts a second of each worker
FASTER = 60  # than SQS's own delays
VISIBILITY, RECEIVES = 720.0, 5  # s, and how often a message is received: as the stack sets them
SLOW = (1, 5, 20)
TARGETS = {"lost": ("<=", 0.0), **{f"slow_{n}_ratio": ("<=", 1.2) for n in SLOW}}
KEYS = Credentials("AKID", "SECRET")


class Killed(BaseException):
    """The worker's process ends."""


@dataclass
class Queue:
    """SQS with one queue and its dead-letter queue, in memory; its time runs faster."""

    dead: list[str] = field(default_factory=list)
    _waiting: list[tuple[float, int, str, int]] = field(default_factory=list)  # due, number, body, receives
    _hidden: dict[str, tuple[float, str, int]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, jobs: Iterable[Job], delay: float = 0) -> None:
        for job in jobs:
            with self._lock:
                self._push(time.monotonic() + delay / FASTER, job.dump(), 0)

    def give_back(self, receipt: str, pause: float) -> None:
        with self._lock:
            _, body, receives = self._hidden.pop(receipt)
            self._push(time.monotonic() + pause / FASTER, body, receives)

    def receive(self) -> dict[str, Any] | None:
        now = time.monotonic()
        with self._lock:
            for receipt in [r for r, (due, _, _) in self._hidden.items() if due <= now]:
                _, body, receives = self._hidden.pop(receipt)
                self._push(now, body, receives)
            while self._waiting and self._waiting[0][0] <= now:
                _, number, body, receives = heapq.heappop(self._waiting)
                if receives == RECEIVES:
                    self.dead.append(body)
                    continue
                receipt = str(next(self._numbers))
                self._hidden[receipt] = (now + VISIBILITY / FASTER, body, receives + 1)
                attributes = {
                    "ApproximateReceiveCount": str(receives + 1),
                    "SentTimestamp": str(int(time.time() * 1000)),
                }
                return {
                    "messageId": str(number),
                    "receiptHandle": receipt,
                    "body": body,
                    "attributes": attributes,
                }
        return None

    def delete(self, receipt: str) -> None:
        with self._lock:
            self._hidden.pop(receipt, None)

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return not self._waiting and not self._hidden

    def _push(self, due: float, body: str, receives: int) -> None:
        heapq.heappush(self._waiting, (due, next(self._numbers), body, receives))


class LockedDynamoDB(FakeDynamoDB):
    """The fake for several threads."""

    def __init__(self) -> None:
        super().__init__()
        lock = threading.RLock()

        def locked(call: Callable[..., Any]) -> Callable[..., Any]:
            def one_at_a_time(*positional: Any, **arguments: Any) -> Any:
                with lock:
                    return call(*positional, **arguments)

            return one_at_a_time

        for name in ("get", "put", "update", "delete", "batch_get", "batch_write", "transact_write"):
            name += "_items" if name == "transact_write" else "_item"
            setattr(self, name, locked(getattr(self, name)))
        self.query, self.scan = locked(self.query), locked(self.scan)  # type: ignore[method-assign]


class Api(FakeManagementApi):
    """The fake, which notes when each receiver had its first message, and breaks some connections."""

    resets = 0.0

    def __enter__(self) -> Self:
        self.first: dict[str, float] = {}
        return super().__enter__()

    def reply_to(self, request: Request) -> Reply:
        reply = super().reply_to(request)
        if request.connection_id in self.delivered:
            self.first.setdefault(request.connection_id, request.at)
        return RESET if random.random() < self.resets else reply


class Counts(logging.Handler):
    """What the workers say that became of their posts."""

    _LINE = re.compile(r"posted id=\S+ round=\d+ sent=(\d+) gone=(\d+) failed=(\d+) unknown=(\d+)")

    def __init__(self) -> None:
        super().__init__()
        self.totals = dict.fromkeys(("sent", "gone", "failed", "unknown"), 0)

    def emit(self, record: logging.LogRecord) -> None:
        if found := self._LINE.search(record.getMessage()):
            for name, count in zip(self.totals, found.groups(), strict=True):
                self.totals[name] += int(count)


class MortalApi(ManagementApi):
    """A worker's management API, at which the worker may die: before its posts or after them."""

    busy = doomed = False

    def post(self, *positional: Any, **options: Any) -> PostReport:
        self.busy = True
        try:
            if self.doomed and random.random() < 0.5:
                raise Killed
            report = super().post(*positional, **options)
            if self.doomed:
                raise Killed
            return report
        finally:
            self.busy = False


class Crew:
    """Workers as Lambda runs them, each with a pool of its own; one that is killed is replaced."""

    def __init__(self, store: Store, api: Api, queue: Queue, *, killed_every: float | None) -> None:
        self._store, self._queue, self._endpoint = store, queue, api.endpoint
        self._stop = threading.Event()
        self._apis: list[MortalApi | None] = [None] * WORKERS
        self._threads = [threading.Thread(target=self._serve, args=(n,)) for n in range(WORKERS)]
        if killed_every is not None:
            self._threads.append(threading.Thread(target=self._kill, args=(killed_every,)))
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _serve(self, number: int) -> None:
        while not self._stop.is_set():
            api = MortalApi(self._endpoint, region="us-east-1", credentials=KEYS)
            self._apis[number] = api
            worker = Worker(self._store, api, cast("JobQueue", self._queue), rate=RATE)
            try:
                self._work(worker)
            except Killed:
                pass
            finally:
                api.close()

    def _work(self, worker: Worker) -> None:
        while not self._stop.is_set():
            record = self._queue.receive()
            if record is None:
                time.sleep(0.005)
            elif worker.run(record):
                self._queue.delete(record["receiptHandle"])

    def _kill(self, every: float) -> None:
        while not self._stop.wait(every):
            busy = [api for api in self._apis if api and api.busy]
            if busy:
                random.choice(busy).doomed = True


@dataclass(frozen=True)
class World:
    """What goes wrong in one row.

    Attributes:
        slow: the share of the receivers that read too slowly.
        limit: the account's quota in requests a second.
        resets: the share of requests whose connection breaks before the answer.
        killed_every: seconds after which a worker dies.
        throttled: the share of calls that the tables refuse.
        late_index: whether the index of users shows what changed 2 s later.
        gone: the share of the receivers that have left without a word.
    """

    slow: float = 0.0
    limit: float | None = None
    resets: float = 0.0
    killed_every: float | None = None
    throttled: float = 0.0
    late_index: bool = False
    gone: float = 0.02


ROWS = {
    "calm": World(),
    "throttled table (30 % of calls)": World(throttled=0.3),
    "throttled account (half the rate)": World(limit=WORKERS * RATE / 2),
    "1 % slow clients": World(slow=0.01),
    "5 % slow clients": World(slow=0.05),
    "20 % slow clients": World(slow=0.2),
    "1 % resets": World(resets=0.01),
    "a worker killed each second": World(killed_every=1.0),
    "an index 2 s late": World(late_index=True),
}


def run(world: World, receivers: int) -> dict[str, float]:
    """One send in that world, until the queue is empty."""
    random.seed(7)
    dynamodb = LockedDynamoDB()
    create_tables(dynamodb)
    store = Store(Tables(cast("Any", dynamodb), "connections", "rooms"), APP.rooms)
    dynamodb.index_lags = True  # until all are there: the fake copies a whole table with each change
    ids = [f"c{number}=" for number in range(receivers)]
    for connection_id in ids:
        store.connections.connect(connection_id, identity(connection_id.strip("=")))
        connection = store.connections.get(connection_id)
        assert connection
        store.members.join(connection, ROOM, needs_grant=False)
    if world.late_index:
        threading.Timer(2, dynamodb.catch_up).start()
    else:
        dynamodb.catch_up()
    shuffled = random.sample(ids, receivers)
    slow = set(shuffled[: round(world.slow * receivers)])
    gone = set(shuffled[len(slow) : len(slow) + round(world.gone * receivers)])
    counts = Counts()
    log = logging.getLogger("roomcast.sending.worker")
    log.addHandler(counts)
    queue = Queue()
    with Api(limit=world.limit) as api:
        api.resets = world.resets
        for connection_id in slow:
            api.script(connection_id, THROTTLED)
        for connection_id in gone:
            api.script(connection_id, GONE)
        if world.throttled:
            dynamodb.fault = lambda _: Fault.THROTTLED if random.random() < world.throttled else None
        management_api = ManagementApi(api.endpoint, region="us-east-1", credentials=KEYS)
        service = WebSocketService(store, management_api, cast("JobQueue", queue))
        began = time.monotonic()
        report = service.send_to_room(ROOM.name, "e", {"n": 1})
        assert report.queued
        crew = Crew(store, api, queue, killed_every=world.killed_every)
        while not queue.is_empty and time.monotonic() - began < 300:
            time.sleep(0.02)
        crew.end()
        service.close()
        delivered = {i: len(bodies) for i, bodies in api.delivered.items() if bodies}
        took = max(api.first.values()) - began
    log.removeHandler(counts)
    dead = 0
    for job in map(parse, queue.dead):
        dead += len(job.receivers) if isinstance(job, PostJob) else receivers
    missing = [i for i in ids if i not in delivered and i not in gone]
    totals = counts.totals
    return {
        **totals,
        "dead": dead,
        "lost": max(0, len(missing) - totals["failed"] - totals["unknown"] - dead),
        "repeated": sum(times - 1 for times in delivered.values()),
        "seconds": took,
    }


def next_to_a_send(share: float) -> float:
    """Seconds of five sends to 200 healthy receivers, one after another, while a send to 1,000 runs."""
    others = [f"o{number}=" for number in range(200)]
    ids = [f"s{number}=" for number in range(1_000)]
    with Api() as api:
        for connection_id in ids[: round(share * len(ids))]:
            api.script(connection_id, THROTTLED)
        gateway = ManagementApi(api.endpoint, region="us-east-1", credentials=KEYS)
        gateway.post(others, b"warm")
        thread = threading.Thread(target=gateway.post, args=(ids, b"x"))
        thread.start()
        total = 0.0
        for _ in range(5):
            began = time.monotonic()
            assert len(gateway.post(others, b"y").sent) == len(others)
            total += time.monotonic() - began
            time.sleep(0.1)
        thread.join()
        gateway.close()
    return total


def behind_a_job(share: float) -> float:
    """Seconds until a worker has done a job of 100, of whom some are slow, and two of 100 healthy ones."""
    text = envelope.build("e", {"n": 1}, id="x")
    dynamodb = LockedDynamoDB()
    create_tables(dynamodb)
    store = Store(Tables(cast("Any", dynamodb), "connections", "rooms"), APP.rooms)
    queue = Queue()
    with Api() as api:
        ids = [f"c{number}=" for number in range(300)]
        for connection_id in ids[: round(share * 100)]:
            api.script(connection_id, THROTTLED)
        gateway = ManagementApi(api.endpoint, region="us-east-1", credentials=KEYS)
        gateway.post(ids[200:], b"warm")
        worker = Worker(store, gateway, cast("JobQueue", queue), rate=600)
        receivers = [Receiver(i, "2026-01-01T00:00:00.000Z") for i in ids]
        queue.put(PostJob.split("x", None, text, receivers, 100, time.time()))
        began = time.monotonic()
        for _ in range(3):
            record = queue.receive()
            assert record
            assert worker.run(record)
        took = time.monotonic() - began
        gateway.close()
    return took


def ratios(repeats: int) -> dict[str, float]:
    """How much longer both take next to slow clients.

    Each figure is the best of several runs, in turns, so that other load of the machine counts little.
    """
    shares = (0, *SLOW)
    best: dict[tuple[str, int], float] = {}
    for _, measure, percent in itertools.product(range(repeats), (next_to_a_send, behind_a_job), shares):
        key = (measure.__name__, percent)
        best[key] = min(best.get(key, math.inf), measure(percent / 100))
    found = {}
    for percent in SLOW:
        each = {name: best[name, percent] / best[name, 0] for name, _ in best}
        print(f"{percent:2} % slow: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in each.items()))
        found[f"slow_{percent}_ratio"] = max(each.values())
    return found


def main() -> None:
    """Print the rows and the ratios."""
    arguments = options(__doc__ or "")
    receivers, repeats = (1_200, 5) if arguments.quick else (3_000, 12)
    logging.getLogger("roomcast").setLevel(logging.INFO)
    logging.getLogger("roomcast").propagate = False
    logging.getLogger("roomcast").addHandler(logging.NullHandler())
    columns = ("sent", "gone", "failed", "unknown", "dead", "lost", "repeated")
    print(f"{receivers:,} receivers, {WORKERS} workers of {RATE} posts/s")
    print(f"{'':34}" + "".join(f"{column:>9}" for column in columns) + f"{'seconds':>9}{'x calm':>8}")
    lost, calm = 0.0, 0.0
    for name, world in ROWS.items():
        row = run(world, receivers)
        calm = calm or row["seconds"]
        lost += row["lost"]
        cells = "".join(f"{row[column]:9,.0f}" for column in columns)
        print(f"{name:34}{cells}{row['seconds']:9.1f}{row['seconds'] / calm:8.2f}", flush=True)
    figures = {"lost": lost}
    figures |= ratios(repeats)
    finish(figures, TARGETS, arguments.json)


if __name__ == "__main__":
    main()

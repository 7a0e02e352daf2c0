"""Last values with a window: the first and the newest of several sends are posted, and none is lost.

`test_stream_machine.py` tries it in any interleaving; here is what each part does.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from roomcast.rooms import Rooms
from roomcast.sending.audience import ToRoom
from roomcast.sending.coalescing import LATE
from roomcast.sending.job import Job, NewestJob, SendJob
from roomcast.sending.sender import SendReport
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from tests.builders import APP
from tests.fakes.management_api import FakeManagementApi
from tests.integration.test_revocation import Line, Stage

ROOM = "dashboard_user_u1"
WINDOW = 5
ROOMS = APP.rooms.with_window(WINDOW)


class Queue(Line):
    """A queue that the test empties itself, and that knows how long its jobs wait."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []

    def put(self, jobs: Iterable[Job], delay: float = 0) -> None:
        added = list(jobs)
        super().put(added)
        self.delays += [delay] * len(added)


class Dashboard(Stage):
    """`u1` has a dashboard open, and a backend with a queue sends to it."""

    def __init__(self, api: FakeManagementApi, rooms: Rooms = ROOMS) -> None:
        super().__init__(api)
        self.line = self.queue = Queue()
        client: Any = self.dynamodb
        tables = Tables(client, "connections", "rooms", history="history", clock=lambda: self.now)
        self.store = Store(tables, rooms)
        self.service = self.backend(self.queue)
        self.worker = Worker(self.store, self.management_api, self.queue, clock=lambda: self.now)
        self.connect("c1=")
        assert self.act("c1=", "dashboard:join") == "dashboard:joined"
        self.service.position(ROOM)  # begins

    def backend(self, queue: Queue | None) -> WebSocketService:
        return WebSocketService(self.store, self.management_api, queue, clock=lambda: self.now)

    def send(self, value: object, **more: Any) -> SendReport:
        return self.service.send_to_room(ROOM, "dashboard:update", value, **more)

    def work(self, receives: int = 1) -> list[Job]:
        """Let the worker do all jobs."""
        jobs, self.queue.waiting = list(self.queue.waiting), deque()
        for job in jobs:
            record = {"messageId": "m", "receiptHandle": "r", "body": job.dump()}
            counted = {"ApproximateReceiveCount": str(receives)}
            assert self.worker.run({**record, "attributes": counted})
            self.now += 0.01
        return jobs

    @property
    def heard(self) -> list[tuple[int, object]]:
        return [(m["seq"], m["data"]) for m in map(json.loads, self.api.delivered["c1="])]


@pytest.fixture
def stage(api: FakeManagementApi) -> Iterator[Dashboard]:
    stage = Dashboard(api)
    yield stage
    stage.management_api.close()


def test_the_first_and_the_newest_are_posted(stage: Dashboard) -> None:
    reports = []
    for value in "abcd":
        reports.append(stage.send(value))
        stage.now += 1
    assert [(r.seq, r.sent, r.queued) for r in reports] == [
        (1, 1, False),
        *((seq, 0, True) for seq in (2, 3, 4)),
    ]
    assert stage.heard == [(1, "a")]
    assert stage.queue.delays == [WINDOW - 1]
    stage.now += 1
    stage.work()
    assert stage.heard == [(1, "a"), (4, "d")]


def test_what_a_job_posts_begins_the_next_window(stage: Dashboard) -> None:
    stage.send("a")
    stage.send("b")
    stage.now += WINDOW
    stage.work()
    assert stage.send("c").queued
    stage.now += WINDOW
    stage.work()
    stage.now += WINDOW
    assert stage.send("d").sent == 1
    assert stage.heard == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_a_send_that_is_replaced_makes_two_calls(stage: Dashboard) -> None:
    stage.send("a")
    stage.send("b")
    stage.dynamodb.calls.clear()
    stage.send("c")
    assert stage.dynamodb.calls == {"PutItem": 1, "UpdateItem": 1}


def test_without_a_window_every_send_is_posted_with_the_calls_of_before(api: FakeManagementApi) -> None:
    stage = Dashboard(api, APP.rooms)
    stage.send("a")
    stage.dynamodb.calls.clear()
    stage.send("b")
    assert stage.dynamodb.calls == {"PutItem": 1, "UpdateItem": 1, "Query": 1}
    assert [data for _, data in stage.heard] == ["a", "b"]
    stage.management_api.close()


def test_a_backend_without_a_queue_posts_every_send(stage: Dashboard) -> None:
    stage.service = stage.backend(None)
    assert [stage.send(value).sent for value in "abc"] == [1, 1, 1]


def test_of_two_jobs_of_one_turn_one_posts(stage: Dashboard) -> None:
    """Two senders put one each before either could say so."""
    stage.send("a")
    stage.send("b")
    stage.queue.put(stage.queue.waiting)
    stage.now += WINDOW
    assert len(stage.work()) == 2
    assert stage.heard == [(1, "a"), (2, "b")]


def test_a_job_that_comes_again_posts(stage: Dashboard) -> None:
    """It may have ended its turn and died."""
    stage.send("a")
    stage.send("b")
    stage.now += WINDOW
    head = stage.store.history and stage.store.history.head(ROOM)
    assert head
    stage.store.windows.next_turn(ROOM, head.turn, 0)
    stage.queue.put(stage.queue.waiting)
    stage.work(receives=2)
    assert {data for _, data in stage.heard} == {"a", "b"}


def test_a_job_that_was_lost_is_put_again(stage: Dashboard) -> None:
    stage.send("a")
    stage.send("b")
    stage.queue.waiting.clear()
    stage.now += WINDOW + LATE - 1
    stage.send("c")
    assert not stage.queue.waiting  # it may still come
    stage.now += 1
    stage.send("d")
    stage.send("e")
    assert len(stage.work()) == 1
    assert stage.heard == [(1, "a"), (5, "e")]


def test_a_job_on_the_queue_is_coalesced_too(stage: Dashboard) -> None:
    """What a backend in another language puts there."""
    for value in "abc":
        assert stage.run(SendJob(ToRoom(ROOMS.parse(ROOM)), "e", value, value))
    stage.now += WINDOW
    [job] = stage.work()
    assert isinstance(job, NewestJob)
    assert [data for _, data in stage.heard] == ["a", "c"]


def test_a_send_that_is_repeated_with_its_id_looks_at_the_window_too(stage: Dashboard) -> None:
    stage.send("a")
    first = stage.send("b", id="one")
    again = stage.send("b", id="one")
    assert (first.seq, again.seq, again.queued) == (2, 2, True)
    assert len(stage.queue.waiting) == 1


def test_a_value_that_has_expired_is_not_posted(stage: Dashboard) -> None:
    stage.send("a")
    stage.send("b")
    stage.now += 25 * 3600
    stage.work()
    assert stage.heard == [(1, "a")]


@pytest.mark.parametrize("room", ["nothing", "order_1"])
def test_a_job_for_a_room_that_there_is_not_is_a_bad_one(stage: Dashboard, room: str) -> None:
    stage.store.rooms = replace_kinds()
    record = {"messageId": "m", "receiptHandle": "r", "body": NewestJob(room, 0).dump()}
    assert not stage.worker.run(record)
    assert stage.queue.given_back == [0]


def replace_kinds() -> Rooms:
    """Rooms of which none keeps anything."""
    [kind] = [kind for kind in APP.rooms.kinds if kind.pattern.startswith("chat")]
    return Rooms([kind._replace(pattern="order_{id}", history=None)])

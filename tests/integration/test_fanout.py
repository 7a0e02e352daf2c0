"""The fan-out queue end to end on moto's SQS: every receiver gets the message, whatever fails on the way."""

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import botocore.session
import pytest

from lambdas import fanout
from roomcast import envelope
from roomcast.connection import Receiver
from roomcast.functions.cold_start import wiring
from roomcast.management_api.client import ManagementApi
from roomcast.management_api.limits import PoolLimits
from roomcast.rooms import Room
from roomcast.sending.audience import Everybody
from roomcast.sending.job import MAX_ROUNDS, Job, NewestJob, PostJob, SendJob, SendLimits
from roomcast.sending.job_queue import JobQueue, Redriven
from roomcast.sending.sender import SendReport
from roomcast.sending.worker import Worker
from roomcast.service import WebSocketService
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.receivers import Slice
from tests.builders import APP, chat, dashboard, identity
from tests.fakes.management_api import (
    FAILING,
    FORBIDDEN,
    GARBAGE,
    GONE,
    OK,
    THROTTLED,
    UNAVAILABLE,
    FakeManagementApi,
    Reply,
)

pytestmark = pytest.mark.usefixtures("functions")
CHAT = chat("r1")
LIMIT, JOB = SendLimits().direct // 5, SendLimits().job_receivers // 5
LIMITS = SendLimits(direct=LIMIT, job_receivers=JOB, split=LIMIT + JOB)


class Pump:
    """Does what Lambda's event source mapping does, without waiting: batches of one, partial failures."""

    def __init__(self, client: Any, url: str, dead_url: str) -> None:
        self.client = client
        self.url = url
        self.dead_url = dead_url
        self.bodies: list[str] = []

    def receive(self) -> dict[str, Any] | None:
        answer = self.client.receive_message(QueueUrl=self.url, MessageSystemAttributeNames=["All"])
        for message in answer.get("Messages", []):
            return {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
        return None

    def run(self) -> None:
        """Until the queue is empty."""
        while record := self.receive():
            self.bodies.append(record["body"])
            answer = fanout.handler({"Records": [record]}, None)
            if answer == {"batchItemFailures": []}:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=record["receiptHandle"])
            else:
                assert answer == {"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}

    def put(self, job: object) -> None:
        self.client.send_message(QueueUrl=self.url, MessageBody=json.dumps(job))

    @property
    def post_jobs(self) -> list[dict[str, Any]]:
        return [job for job in map(json.loads, self.bodies) if "receivers" in job]

    @property
    def dead(self) -> list[str]:
        """The dead-letter queue."""
        answer = self.client.receive_message(QueueUrl=self.dead_url, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", [])]


@pytest.fixture
def pump(aws: botocore.session.Session, monkeypatch: pytest.MonkeyPatch, functions: None) -> Iterator[Pump]:
    client: Any = aws.create_client("sqs")
    dead_url = client.create_queue(QueueName="dead")["QueueUrl"]
    dead_arn = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": dead_arn["QueueArn"], "maxReceiveCount": 3}
    url = client.create_queue(QueueName="fanout", Attributes={"RedrivePolicy": json.dumps(redrive)})
    monkeypatch.setenv("WEBSOCKET_FANOUT_QUEUE_URL", url["QueueUrl"])
    monkeypatch.setenv("WEBSOCKET_FANOUT_RATE", "10000")
    monkeypatch.setattr("roomcast.sending.worker.random.randint", lambda *_: 0)  # nobody waits for SQS here
    wiring.cache_clear()
    wiring().pool_limits = PoolLimits(backoff_base=0.01)
    # A fifth of the real numbers: moto takes its time for each connection.
    wiring().send_limits = LIMITS
    yield Pump(client, url["QueueUrl"], dead_url)
    for queue in (url["QueueUrl"], dead_url):
        client.delete_queue(QueueUrl=queue)


@pytest.fixture
def service(pump: Pump) -> Iterator[WebSocketService]:
    """One that knows the queue."""
    service = WebSocketService.from_settings(Settings.from_env(), limits=LIMITS)
    yield service
    service.close()


def queue() -> JobQueue:
    """The worker's."""
    found = wiring().job_queue
    assert found is not None
    return found


def people(store: Store, count: int, room: Room | None = None, user_id: str = "u1") -> list[str]:
    """So many connections, all members of the room."""
    ids = [f"{user_id}-{number}=" for number in range(count)]
    for connection_id in ids:
        store.connections.connect(connection_id, identity(user_id))
        if room:
            connection = store.connections.get(connection_id)
            assert connection
            store.members.join(connection, room, needs_grant=False)
    return ids


def once(api: FakeManagementApi, ids: Iterable[str]) -> bool:
    """Whether each of these, and nobody else, got one message."""
    return {i: len(bodies) for i, bodies in api.delivered.items()} == dict.fromkeys(ids, 1)


def test_up_to_the_limit_a_send_is_posted_at_once(
    service: WebSocketService, pump: Pump, api: FakeManagementApi, store: Store
) -> None:
    ids = people(store, LIMIT)
    assert service.broadcast("e", {}).sent == LIMIT
    assert once(api, ids)
    assert pump.receive() is None


@pytest.mark.parametrize("to", ["user", "room", "all"])
@pytest.mark.parametrize(("count", "send_jobs"), [(LIMIT + 1, 0), (LIMIT + JOB, 0), (LIMIT + JOB + 1, 1)])
def test_above_the_limit_a_send_goes_over_the_queue_and_reaches_everybody(
    count: int,
    send_jobs: int,
    to: str,
    service: WebSocketService,
    pump: Pump,
    api: FakeManagementApi,
    store: Store,
) -> None:
    ids = people(store, count, CHAT)
    if to != "all":
        people(store, 3, user_id="someone-else")
    sends: dict[str, Callable[[], SendReport]] = {
        "user": lambda: service.send_to_user("u1", "e", {"ü": 1}),
        "room": lambda: service.send_to_room("chat_room_r1", "e", {"ü": 1}),
        "all": lambda: service.broadcast("e", {"ü": 1}),
    }
    report = sends[to]()
    assert (report.queued, report.sent) == (1, 0)
    assert api.requests == []
    pump.run()
    assert once(api, ids)
    envelopes = {body for bodies in api.delivered.values() for body in bodies}
    assert len(envelopes) == 1
    envelope = json.loads(envelopes.pop())
    assert (envelope["event"], envelope["data"], envelope["id"]) == ("e", {"ü": 1}, report.id)
    room = {"room": "chat_room_r1", "user": "user_u1", "all": None}[to]
    assert (envelope.get("room"), envelope.get("seq")) == (room, 1 if room else None)
    assert report.seq == envelope.get("seq")
    # Two levels: a send job where the sender has not read them all, and post jobs that make no others.
    assert len(pump.bodies) == send_jobs + len(pump.post_jobs)
    sizes = [len(job["receivers"]) for job in pump.post_jobs]
    assert sizes == [JOB] * (count // JOB) + [count % JOB] * (count % JOB > 0)


def test_a_job_of_another_backend_reaches_a_few_without_a_second_message(
    pump: Pump, api: FakeManagementApi, store: Store
) -> None:
    ids = people(store, 3)
    pump.put({"version": 1, "to": {"user": "u1"}, "event": "order", "data": [1]})
    pump.run()
    assert once(api, ids)
    assert len(pump.bodies) == 1
    envelope = json.loads(api.delivered[ids[0]][0])
    assert (envelope["event"], envelope["data"]) == ("order", [1])
    assert envelope["id"]  # the message's: it is the same when the job is run again


def test_a_job_for_nobody_is_done(pump: Pump, api: FakeManagementApi) -> None:
    pump.put({"version": 1, "to": {"room": "chat_room_empty"}, "event": "e", "data": {}})
    pump.run()
    assert api.requests == []
    assert pump.dead == []


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({"version": 1, "to": {"room": "kitchen"}, "event": "e", "data": {}}, "kitchen"),
        ({"version": 7}, "version must be 1"),
        ({"version": 1, "to": {"all": True}, "event": "e", "data": "x" * 40_000}, "over the limit"),
        ({"version": 1, "to": {"all": True}, "event": "e", "data": "\ud800"}, "JSON cannot hold data"),
    ],
)
def test_a_bad_job_goes_to_the_dead_letters_with_a_reason_in_the_log(
    pump: Pump, api: FakeManagementApi, caplog: pytest.LogCaptureFixture, job: object, reason: str
) -> None:
    pump.put(job)
    pump.run()
    assert [json.loads(body) for body in pump.dead] == [job]
    assert reason in caplog.text
    assert "x" * 100 not in caplog.text
    assert api.requests == []


def test_what_one_job_leaves_over_a_smaller_one_does(
    pump: Pump, api: FakeManagementApi, store: Store, service: WebSocketService
) -> None:
    ids = people(store, 50)
    api.script(ids[0], *[FAILING] * 5, OK)
    api.script(ids[1], GARBAGE, OK)
    api.script(ids[2], GONE)
    api.script(ids[3], FORBIDDEN)
    service.broadcast("e", {})
    pump.run()
    assert once(api, set(ids) - {ids[2], ids[3]})
    assert sorted(i for job in pump.post_jobs if job["round"] == 1 for i, *_ in job["receivers"]) == sorted(
        ids[:2]
    )
    assert api.tries(ids[3]) == 1
    assert pump.dead == []


def test_one_slow_client_is_given_up_and_counted(
    pump: Pump, api: FakeManagementApi, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ids = people(store, JOB)
    api.script(ids[7], THROTTLED)
    pump.put({"version": 1, "to": {"all": True}, "event": "e", "data": {}})
    with caplog.at_level(logging.INFO):
        pump.run()
    assert once(api, set(ids) - {ids[7]})
    assert f"sent={JOB - 1} gone=0 failed=0 unknown=0 left=1" in caplog.text
    assert "sent=0 gone=0 failed=1 unknown=0 left=0" in caplog.text
    assert api.tries(ids[7]) >= MAX_ROUNDS


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_any_number_of_slow_clients_is_given_up_and_is_no_dead_letter(
    pump: Pump, api: FakeManagementApi, store: Store, caplog: pytest.LogCaptureFixture, share: float
) -> None:
    ids = people(store, 100)
    slow = set(ids[: int(100 * share)])
    for connection_id in slow:
        api.script(connection_id, THROTTLED)
    text = envelope.build("e", {}, id="x")
    job = PostJob(
        "x", None, text, tuple(Receiver(i, "2026-01-01T00:00:00.000Z") for i in ids), read_at=time.time()
    )
    pump.put(json.loads(job.dump()))
    record = pump.receive()
    assert record
    began = time.monotonic()
    assert fanout.handler({"Records": [record]}, None) == {"batchItemFailures": []}
    assert time.monotonic() - began < 1.0  # 11 s, and the dead-letter queue, when they passed for the account
    with caplog.at_level(logging.INFO):
        pump.run()
    assert once(api, set(ids) - slow)
    assert f"sent=0 gone=0 failed={len(slow)} unknown=0 left=0" in caplog.text
    assert min(api.tries(connection_id) for connection_id in slow) >= MAX_ROUNDS
    assert pump.dead == []


def test_an_outage_is_waited_out_on_the_queue(
    pump: Pump, api: FakeManagementApi, store: Store, service: WebSocketService
) -> None:
    ids = people(store, LIMIT + 1)
    api.always = UNAVAILABLE
    service.broadcast("e", {})
    record = pump.receive()
    assert record
    assert fanout.handler({"Records": [record]}, None)["batchItemFailures"]
    api.always = OK
    pump.run()
    assert once(api, ids)
    assert pump.dead == []


@pytest.mark.parametrize("fault", [UNAVAILABLE, FORBIDDEN])
def test_what_never_works_ends_in_the_dead_letters_with_bounded_calls(
    pump: Pump, api: FakeManagementApi, store: Store, fault: Reply
) -> None:
    people(store, 30)
    api.always = fault
    pump.put({"version": 1, "to": {"all": True}, "event": "e", "data": {}})
    pump.run()
    dead = [json.loads(body) for body in pump.dead]
    assert sum(len(job["receivers"]) for job in dead) == 30
    assert max(Counter(request.connection_id for request in api.requests).values()) <= 3 * 5


def test_a_receiver_that_stays_unknown_is_tried_in_a_few_rounds_only(
    pump: Pump, api: FakeManagementApi, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ids = people(store, 30)
    for connection_id in ids[:3]:
        api.script(connection_id, GARBAGE)
    pump.put({"version": 1, "to": {"all": True}, "event": "e", "data": {}})
    pump.run()
    assert once(api, ids[3:])
    assert all(api.tries(connection_id) <= 3 * MAX_ROUNDS for connection_id in ids[:3])
    assert sum(len(json.loads(body)["receivers"]) for body in pump.dead) == 3


def test_redrive_moves_jobs_back_and_leaves_what_is_no_job(
    pump: Pump, api: FakeManagementApi, store: Store
) -> None:
    ids = people(store, 3)
    api.always = FORBIDDEN
    pump.put({"version": 1, "to": {"user": "u1"}, "event": "e", "data": {}})
    pump.put({"version": 7})
    pump.run()
    assert api.delivered == {}
    api.always = OK
    assert queue().redrive(APP.rooms) == Redriven(moved=1, bad=1)
    pump.run()
    assert once(api, ids)
    # The same id as in the first tries: a receiver can tell a repetition.
    assert {json.loads(request.body)["id"] for request in api.requests} == {
        json.loads(api.delivered[ids[0]][0])["id"]
    }
    assert [json.loads(body) for body in pump.dead] == [{"version": 7}]
    assert queue().redrive(APP.rooms) == Redriven(moved=0, bad=0)  # it is in use just now


def test_redrive_lets_a_job_of_a_last_value_post_whatever_others_have_done(
    pump: Pump, store: Store, service: WebSocketService, api: FakeManagementApi
) -> None:
    [connection_id] = people(store, 1)
    found = store.connections.get(connection_id)
    assert found
    room = dashboard(found.user_id)
    store.members.join(found, room, needs_grant=False)
    pump.put({"version": 1, "newest": "nothing", "turn": 0})
    pump.run()
    pump.client.purge_queue(QueueUrl=pump.dead_url)
    service.send_to_room(room.name, "e", {})
    pump.client.send_message(QueueUrl=pump.dead_url, MessageBody=NewestJob(room.name, 0).dump())
    store.windows.next_turn(room.name, 0, 0)  # the job did, and failed then
    assert queue().redrive(APP.rooms) == Redriven(moved=1, bad=0)
    pump.run()
    assert len(api.delivered[connection_id]) == 2


def test_one_bad_record_does_not_fail_the_others_of_its_batch(
    pump: Pump, api: FakeManagementApi, store: Store
) -> None:
    ids = people(store, 2)
    pump.put({"bad": "job"})
    pump.put({"version": 1, "to": {"all": True}, "event": "e", "data": {}})
    records = [pump.receive(), pump.receive()]
    [bad] = [record for record in records if record and "bad" in record["body"]]
    answer = fanout.handler({"Records": records}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": bad["messageId"]}]}
    assert once(api, ids)


def test_a_worker_that_is_killed_in_the_middle_leaves_no_receiver_out(
    pump: Pump, api: FakeManagementApi, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = people(store, 60)
    api.always = Reply(delay=0.1)
    wiring().send_limits = SendLimits(job_receivers=60)
    pump.put({"version": 1, "to": {"all": True}, "event": "e", "data": {}})
    record = pump.receive()
    assert record
    child = os.fork()
    if child == 0:
        try:
            fanout.handler({"Records": [record]}, None)
        finally:
            os._exit(1)
    while len(api.requests) < 20:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    reached = {request.connection_id for request in api.requests}
    assert 0 < len(reached) < len(ids)
    # What SQS does once the visibility timeout is over.
    pump.client.change_message_visibility(
        QueueUrl=pump.url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=0
    )
    api.always = OK
    pump.run()
    counts = {connection_id: len(api.delivered[connection_id]) for connection_id in ids}
    assert min(counts.values()) >= 1
    assert max(counts.values()) <= 2
    assert {body for bodies in api.delivered.values() for body in bodies} == {api.delivered[ids[0]][0]}


@pytest.mark.slow
def test_workers_that_are_throttled_together_slow_down_and_reach_everybody(
    pump: Pump, api: FakeManagementApi, store: Store, service: WebSocketService
) -> None:
    ids = people(store, 60)
    api.always = THROTTLED
    service.broadcast("e", {})
    timer = threading.Timer(0.5, lambda: setattr(api, "always", OK))
    timer.start()
    pump.run()
    timer.join()
    assert once(api, ids)


def test_slices_hold_every_connection_once_and_go_on_from_their_cursors(store: Store) -> None:
    ids = people(store, 100)
    for of in (1, 3, 8):
        found = []
        for segment in range(of):
            pages = store.receivers.pages(Slice(segment=segment, of=of))
            found += [receiver.connection_id for page in pages for receiver in page.receivers]
        assert sorted(found) == sorted(ids)


class _Million:
    """DynamoDB with a million connections; each page is made when it is asked for, as 1 MB of items is."""

    page = 4_000
    pages = 250

    def __init__(self) -> None:
        self.pages_read = 0

    def scan(self, **arguments: Any) -> dict[str, Any]:
        kept = {"connectedAt": {"S": "2026-01-01T00:00:00.000Z"}, "ttl": {"N": "9" * 10}}
        kept["expiresAt"] = kept["ttl"]
        segment, of = arguments["Segment"], arguments["TotalSegments"]
        mine = range(segment * self.page * self.pages // of, (segment + 1) * self.page * self.pages // of)
        start = int(arguments.get("ExclusiveStartKey", {"at": {"N": str(mine.start)}})["at"]["N"])
        end = min(start + self.page, mine.stop)
        self.pages_read += 1
        items = [{"connectionId": {"S": f"TWegA{i:09}="}, **kept} for i in range(start, end)]
        more = {"LastEvaluatedKey": {"at": {"N": str(end)}}} if end < mine.stop else {}
        return {"Items": items, **more}


class _Line(JobQueue):
    """A queue whose jobs the test runs one after the other, and which measures post jobs instead."""

    def __init__(self) -> None:
        super().__init__("none")
        self.waiting: deque[str] = deque()
        self.receivers = 0
        self.largest = 0

    def put(self, jobs: Iterable[Job], delay: float = 0) -> None:
        for job in jobs:
            if isinstance(job, PostJob):
                self.receivers += len(job.receivers)
                self.largest = max(self.largest, len(job.dump()))
            else:
                self.waiting.append(job.dump())


@pytest.mark.slow
def test_a_million_receivers_are_enumerated_in_bounded_memory(api: FakeManagementApi) -> None:
    """The peak was 20 MB over that of an idle process when this was written, and 16 MB of Python objects."""
    child = os.fork()  # a process of its own has a peak of its own
    if child == 0:
        try:
            before = _peak_mb()
            client, line = _Million(), _Line()
            store: Any = Store(Tables(client, "connections", "rooms"), APP.rooms)  # type: ignore[arg-type]
            worker = Worker(store, ManagementApi(api.endpoint), line)
            line.put([SendJob(Everybody(), "e", {"text": "x" * 1000})])
            invocations, longest = 0, 0
            while line.waiting:
                read = client.pages_read
                assert worker.run({"messageId": "m", "receiptHandle": "r", "body": line.waiting.popleft()})
                longest = max(longest, client.pages_read - read)
                invocations += 1
            assert line.receivers == 1_000_000
            assert line.largest < 64 * 1024
            assert longest <= 3  # pages of 4,000: no invocation has more than a small part of it
            assert invocations <= 1 + 200
            os._exit(min(_peak_mb() - before, 254))
        finally:
            os._exit(255)
    grown = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert grown < 64


def _peak_mb() -> int:
    """Of this process's resident memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 1_000_000

"""Who is out stays out: revocations, the limit of connections, and jobs that have waited."""

import itertools
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from roomcast.connection import YOUNG_SECONDS, Identity
from roomcast.errors import HandshakeError, ManagementApiError
from roomcast.functions import actions, handshake
from roomcast.functions.handshake import Handshake
from roomcast.management_api.client import ManagementApi
from roomcast.management_api.limits import PoolLimits
from roomcast.sending.audience import Everybody, ToRoom
from roomcast.sending.job import Job, PostJob, SendJob, SliceJob
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.worker import FRESH_SECONDS, Worker
from roomcast.service import WebSocketService
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.tokens.authentication import sign_token
from roomcast.tokens.secret_keys import StaticKeys
from roomcast.wiring import Wiring
from tests.builders import APP, SECRET, chat, create_tables
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.management_api import FORBIDDEN, GONE, HANG, OK, UNAVAILABLE, FakeManagementApi

CHAT = chat("r1")


class Line(JobQueue):
    """A queue that the test empties itself."""

    def __init__(self) -> None:
        super().__init__("none")
        self.waiting: deque[Job] = deque()
        self.given_back: list[float] = []
        self.refuses = False

    def put(self, jobs: Iterable[Job], delay: float = 0) -> None:
        self.waiting += jobs

    def give_back(self, receipt: str, pause: float) -> None:
        if self.refuses:
            raise ClientError({"Error": {"Code": "InternalError"}}, "ChangeMessageVisibility")
        self.given_back.append(pause)


@dataclass
class Stage:
    """A stage on fakes, whose clock the test moves."""

    api: FakeManagementApi
    dynamodb: FakeDynamoDB = field(default_factory=FakeDynamoDB)
    now: float = field(default_factory=lambda: float(int(time.time())))
    line: Line = field(default_factory=Line)

    def __post_init__(self) -> None:
        create_tables(self.dynamodb)
        client: Any = self.dynamodb
        self.store = Store(Tables(client, "connections", "rooms", clock=lambda: self.now), APP.rooms)
        self.management_api = ManagementApi(
            self.api.endpoint,
            region="x",
            credentials=Credentials("AKID", "SECRET"),
            limits=PoolLimits(backoff_base=0.01),
        )
        self.service = WebSocketService(self.store, self.management_api, index_lag=0, clock=lambda: self.now)
        self.worker = Worker(self.store, self.management_api, self.line, clock=lambda: self.now)
        self.settings = Settings(connections_table="connections", rooms_table="rooms", max_connections=3)

    def wiring(self, **settings: Any) -> Wiring:
        wiring = Wiring(self.settings._replace(**settings))
        wiring.store, wiring.management_api = self.store, self.management_api
        wiring.keys = StaticKeys(SECRET)
        wiring.application = APP
        return wiring

    def connect(self, connection_id: str, user_id: str = "u1", **settings: Any) -> None:
        """Its handshake."""
        token = sign_token(SECRET, user_id=user_id, now=self.now - 1)
        handshake.admit(self.wiring(**settings), Handshake(connection_id, {"token": token}, {}))

    def act(self, connection_id: str, action: str, **fields: Any) -> str:
        """Its action; the code or the name of the answer, or `closed`."""
        body = json.dumps({"action": action, **fields})
        answer = actions.handle(self.wiring(), connection_id, body)
        if answer is None:
            return "closed"
        envelope = json.loads(answer)
        return str(envelope["data"].get("code", envelope["event"]))

    def run(self, job: Job, age: float = 0) -> bool:
        """Let the worker do a job that has been on the queue for some seconds."""
        sent = str(int((self.now - age) * 1000))
        attributes = {"SentTimestamp": sent, "ApproximateReceiveCount": "1"}
        record = {"messageId": "m", "receiptHandle": "r", "body": job.dump(), "attributes": attributes}
        return self.worker.run(record)

    def kept(self) -> set[str]:
        return {receiver.connection_id for receiver in self.store.receivers.of_everybody()}


@pytest.fixture
def stage(api: FakeManagementApi) -> Iterator[Stage]:
    stage = Stage(api)
    yield stage
    stage.management_api.close()


# A user is revoked.


def test_every_connection_of_a_revoked_user_ends_whatever_fails(stage: Stage, api: FakeManagementApi) -> None:
    for number in range(5):
        stage.connect(f"c{number}=", max_connections=9)
    stage.now += YOUNG_SECONDS + 1
    api.script("c0=", UNAVAILABLE)
    api.script("c3=", HANG)
    stage.management_api._limits = PoolLimits(backoff_base=0.01, request_timeout=0.2)
    with pytest.raises(ManagementApiError, match="2 of 5 connections could not be closed"):
        stage.service.revoke_user("u1")
    assert sorted(api.deleted) == ["c1=", "c2=", "c4="]
    assert stage.kept() == set()
    api.always = OK
    assert stage.service.send_to_user("u1", "e", {}).sent == 0
    assert stage.act("c0=", "dashboard:join") == "closed"


def test_an_item_that_cannot_be_deleted_spares_no_other(stage: Stage, api: FakeManagementApi) -> None:
    for number in range(3):
        stage.connect(f"c{number}=")
    stage.now += YOUNG_SECONDS + 1
    delete = stage.dynamodb.update_item

    def refuse_one(**arguments: Any) -> Any:
        if arguments["Key"] == {"connectionId": {"S": "c1="}}:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "UpdateItem")
        return delete(**arguments)

    stage.dynamodb.update_item = refuse_one  # type: ignore[method-assign]
    with pytest.raises(ClientError, match="AccessDenied"):
        stage.service.disconnect_user("u1")
    assert sorted(api.deleted) == ["c0=", "c1=", "c2="]
    assert stage.kept() == {"c1="}


def test_a_connection_that_the_index_shows_late_joins_nothing_and_extends_nothing(stage: Stage) -> None:
    stage.dynamodb.index_lags = True
    stage.service.grant_room(CHAT.name, "u1")
    stage.connect("late=")
    stage.now += 1
    assert stage.service.revoke_user("u1") == 0  # the index does not show it
    assert stage.act("late=", "dashboard:join") == "forbidden"
    assert stage.act("late=", "chat:join_room", roomId="r1") == "forbidden"
    old = sign_token(SECRET, user_id="u1", now=stage.now - 10)
    assert stage.act("late=", "auth:refresh", token=old) == "invalid_token"
    assert stage.service.send_to_room(CHAT.name, "e", {}).sent == 0
    stage.dynamodb.catch_up()
    assert stage.service.revoke_user("u1") == 1


def test_the_looks_go_on_until_nothing_new_is_found(stage: Stage, api: FakeManagementApi) -> None:
    """Each look is one Query; the index shows one more connection at each of the first three."""
    stage.dynamodb.index_lags = True
    stage.connect("c0=")
    stage.dynamodb.catch_up()
    looks = iter(["c1=", "c2=", "c3="])

    def show_one_more(operation: str) -> None:
        if operation != "Query":
            return
        stage.dynamodb.catch_up()
        if late := next(looks, None):
            identity = Identity("u1", "user", "", "", int(stage.now) + 60, int(stage.now) + 60)
            stage.store.connections.connect(late, identity)  # hidden until the next look

    stage.now += YOUNG_SECONDS + 1
    stage.dynamodb.fault = show_one_more
    assert stage.service.revoke_user("u1") == 4
    assert stage.kept() == set()


def test_a_connection_that_is_not_open_yet_is_closed_when_it_opens(
    stage: Stage, api: FakeManagementApi
) -> None:
    stage.connect("opening=")
    api.script("opening=", GONE, GONE, OK)
    assert stage.service.disconnect_user("u1") == 1
    assert api.deleted == ["opening="]


def test_a_stolen_token_that_was_revoked_closes_nobody(stage: Stage, api: FakeManagementApi) -> None:
    stolen = sign_token(SECRET, user_id="u1", now=stage.now - 10)
    stage.store.revocations.revoke("u1")
    stage.now += 2
    stage.connect("own=", max_connections=1)
    with pytest.raises(HandshakeError) as refused:
        handshake.admit(stage.wiring(max_connections=1), Handshake("thief=", {"token": stolen}, {}))
    assert refused.value.status == 401
    assert (api.requests, stage.kept()) == ([], {"own="})


# The limit of connections.


@pytest.mark.parametrize("when_over_max", ["close_oldest", "refuse_new"])
def test_handshakes_at_the_same_time_keep_to_the_limit(
    stage: Stage, api: FakeManagementApi, when_over_max: str
) -> None:
    """12 at once: each is kept before any of them looks."""
    stage.dynamodb.index_lags = True
    for number in range(12):
        identity = Identity("u1", "user", "", "", int(stage.now) + 60, int(stage.now) - 1)
        stage.store.connections.connect(f"c{number:02}=", identity)
        stage.now += 0.001
    api.always = GONE  # none of them is open yet
    let_in = set()
    for number in range(12):
        try:
            handshake._keep_to_limit(stage.wiring(when_over_max=when_over_max), f"c{number:02}=", "u1")
            let_in.add(f"c{number:02}=")
        except HandshakeError as error:
            assert error.status == 429
    newest, oldest = {"c09=", "c10=", "c11="}, {"c00=", "c01=", "c02="}
    assert let_in == stage.kept() == (newest if when_over_max == "close_oldest" else oldest)


@pytest.mark.parametrize("fault", [UNAVAILABLE, HANG, FORBIDDEN])
def test_a_fault_of_the_management_api_lets_the_new_connection_in(
    stage: Stage, api: FakeManagementApi, fault: Any
) -> None:
    for number in range(3):
        stage.connect(f"c{number}=")
        stage.now += 0.001
    api.always = fault
    began = time.monotonic()
    stage.connect("new=")
    assert time.monotonic() - began < 3  # a second each for the last event and for the close
    assert "new=" in stage.kept()
    api.always = OK
    stage.connect("newer=")  # and what is over the limit is closed by the next
    assert stage.kept() == {"c2=", "new=", "newer="}


def test_a_fault_of_dynamodb_behind_the_connect_lets_it_in(stage: Stage) -> None:
    stage.dynamodb.fault = lambda operation: Fault.THROTTLED if operation == "Query" else None
    stage.connect("c1=")
    assert stage.kept() == {"c1="}


def test_connections_whose_disconnect_was_lost_refuse_nobody(stage: Stage, api: FakeManagementApi) -> None:
    stage.now -= YOUNG_SECONDS + 60
    for number in range(3):
        stage.connect(f"c{number}=", when_over_max="refuse_new")
        stage.now += 0.001
    stage.now = time.time()
    with pytest.raises(HandshakeError) as refused:
        stage.connect("c3=", when_over_max="refuse_new")
    assert (refused.value.status, stage.kept()) == (429, {"c0=", "c1=", "c2="})
    api.script("c1=", GONE)
    stage.connect("c4=", when_over_max="refuse_new")
    assert stage.kept() == {"c0=", "c2=", "c4="}


# A connection that is told to go.


@pytest.mark.parametrize("fault", [UNAVAILABLE, HANG])
def test_a_flooder_that_does_not_read_costs_two_seconds_at_most(
    stage: Stage, api: FakeManagementApi, fault: Any
) -> None:
    api.always = fault
    began = time.monotonic()
    assert stage.act("unknown=", "ping") == "closed"
    assert time.monotonic() - began < 2.5
    assert {request.method for request in api.requests} == {"POST", "DELETE"}  # whatever became of the post


# Jobs that have waited.


def member(stage: Stage, connection_id: str, user_id: str = "u1") -> None:
    stage.service.grant_room(CHAT.name, user_id)
    stage.connect(connection_id, user_id)
    assert stage.act(connection_id, "chat:join_room", roomId="r1") == "chat:joined_room"


def queued(stage: Stage, to: Any = ToRoom(CHAT)) -> PostJob:  # noqa: B008  frozen
    """The post job of a send, as it is put on the queue."""
    receivers = tuple(itertools.chain.from_iterable(to.pages(stage.store)))
    text = json.dumps({"event": "e", "data": {}, "timestamp": "2026-01-01T00:00:00.000Z"})
    return PostJob("id", to.room, text, receivers, read_at=stage.now)


def test_a_job_is_not_posted_after_a_receivers_token_has_ended(stage: Stage, api: FakeManagementApi) -> None:
    member(stage, "c1=")
    job = queued(stage)
    [receiver] = job.receivers
    assert receiver.expires_at
    assert stage.run(job)
    assert len(api.delivered["c1="]) == 1
    stage.now = receiver.expires_at
    assert stage.run(replace(job, read_at=stage.now))
    assert stage.run(job, age=3600)
    assert len(api.delivered["c1="]) == 1


@pytest.mark.parametrize("out", ["revoke_room", "revoke_user", "leave"])
@pytest.mark.parametrize("to", [ToRoom(CHAT), Everybody()])
def test_a_job_that_waited_is_not_posted_to_who_is_out_meanwhile(
    stage: Stage, api: FakeManagementApi, out: str, to: Any
) -> None:
    member(stage, "c1=")
    member(stage, "c2=", "u2")
    job = queued(stage, to)
    stage.now += FRESH_SECONDS + 1
    if out == "revoke_room":
        stage.service.revoke_room(CHAT.name, "u1")
    elif out == "revoke_user":
        stage.service.revoke_user("u1")
    else:
        stage.act("c1=", "chat:leave_room", roomId="r1")
    assert stage.run(job, age=FRESH_SECONDS + 1)
    assert len(api.delivered["c2="]) == 1
    assert bool(api.delivered["c1="]) is (isinstance(to, Everybody) and out != "revoke_user")


def test_credentials_refused_in_the_middle_of_a_job_lose_nobody(stage: Stage, api: FakeManagementApi) -> None:
    for number in range(10):
        member(stage, f"c{number}=", f"u{number}")
    for number in range(4, 10):
        api.script(f"c{number}=", FORBIDDEN)
    assert stage.run(queued(stage))
    [rest] = stage.line.waiting
    assert isinstance(rest, PostJob)
    assert {r.connection_id for r in rest.receivers} == {f"c{number}=" for number in range(4, 10)}
    assert not stage.run(rest)  # nobody at all: it is given back, and ends in the dead-letter queue
    assert stage.line.given_back


def test_a_bad_envelope_is_found_before_anything_is_posted(stage: Stage, api: FakeManagementApi) -> None:
    member(stage, "c1=")
    for text in ("", "7", "[]", "{}", '{"timestamp": 7}', '{"timestamp": "soon"}'):
        assert not stage.run(replace(queued(stage), text=text))
    assert api.requests == []
    assert set(stage.line.given_back) == {0}


def test_a_job_that_cannot_be_given_back_fails_only_itself(stage: Stage) -> None:
    stage.line.refuses = True
    assert not stage.worker.run({"messageId": "m", "receiptHandle": "r", "body": "no job"})


def test_an_outage_of_four_minutes_is_outlived_by_the_five_receives_of_a_job(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.sending.worker.random.randint", lambda low, _: low)  # the shortest pauses
    job = SendJob(ToRoom(CHAT), "e", {}).dump()
    record = {"messageId": "m", "receiptHandle": "r", "body": job}
    monkeypatch.setattr(stage.store.receivers, "slices_of_room", lambda _: 1 / 0)
    for receive in range(1, 6):
        attributes = {"SentTimestamp": "0", "ApproximateReceiveCount": str(receive)}
        assert not stage.worker.run({**record, "attributes": attributes})
    assert sum(stage.line.given_back[:4]) > 4 * 60


def test_a_broadcast_finds_the_connection_that_was_answered_just_before(
    stage: Stage, api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a consistent Scan is sure to show it; one that is not shows the table of a moment ago here."""
    stage.connect("c1=")
    scan, before = stage.dynamodb.scan, stage.dynamodb.scan(TableName="connections")
    stage.connect("c2=")

    def lagging(**arguments: Any) -> Any:
        return scan(**arguments) if arguments.get("ConsistentRead") else before

    monkeypatch.setattr(stage.dynamodb, "scan", lagging)
    assert stage.service.broadcast("e", {}).sent == 2
    assert stage.run(SendJob(Everybody(), "e", {}))
    assert {i: len(bodies) for i, bodies in api.delivered.items()} == {"c1=": 2, "c2=": 2}


def test_a_slice_goes_on_from_its_cursor_and_a_chain_of_them_ends(
    stage: Stage, api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice that is far larger than expected: a few jobs follow one another, and reach everybody."""
    monkeypatch.setattr("roomcast.sending.worker.SLICE_RECEIVERS", 2)
    scan = stage.dynamodb.scan
    monkeypatch.setattr(stage.dynamodb, "scan", lambda **arguments: scan(**{**arguments, "Limit": 2}))
    for number in range(30):
        stage.connect(f"c{number:02}=", f"u{number}")
    stage.line.put([SendJob(Everybody(), "e", {})])
    hops = []
    while stage.line.waiting:
        job = stage.line.waiting.popleft()
        if isinstance(job, SliceJob):
            hops.append(job.hop)
        assert stage.run(job)
    assert {i: len(bodies) for i, bodies in api.delivered.items()} == {f"c{n:02}=": 1 for n in range(30)}
    assert 0 < max(hops) < 8

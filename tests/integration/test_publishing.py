"""What clients publish: who may, what everyone gets, what a repeat does, and how much is too much."""

import json
from typing import Any

import pytest

from lambdas import connect, default
from roomcast import SendLimits, WebSocketService
from roomcast.functions.cold_start import wiring
from roomcast.functions.publishing import BURST, MAX_SIGNAL_BYTES, MAX_SIGNAL_MEMBERS
from roomcast.rooms import Kind, Publish, Retention, Rooms
from roomcast.sending.job import PostJob, SliceJob, parse
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.rate import Rate
from roomcast_dev.checker import check
from roomcast_dev.records import read
from tests.builders import APP, connect_event, create_tables, message_event, token
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.management_api import FAILING, GONE, OK, THROTTLED, FakeManagementApi

pytestmark = pytest.mark.usefixtures("functions")
CHAT = "chat_room_r1"


def let_in(connection_id: str, user_id: str, role: Any = "user") -> None:
    event = connect_event(connection_id, token=token(user_id, role))
    assert connect.handler(event, None)["statusCode"] == 200


def act(connection_id: str, action: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    answer = default.handler(message_event(connection_id, action=action, **fields), None)
    reply = json.loads(answer["body"])
    assert reply.get("replyTo") == fields.get("id")
    return reply["event"], reply["data"]


def send(connection_id: str = "c1=", **fields: Any) -> tuple[str, dict[str, Any]]:
    asked = {"room": CHAT, "event": "chat:message", "data": {"text": "hi"}, "id": "one"} | fields
    return act(connection_id, "rooms:send", **asked)


def got(api: FakeManagementApi, connection_id: str) -> list[dict[str, Any]]:
    return [json.loads(body) for body in api.delivered[connection_id]]


@pytest.fixture
def members(service: WebSocketService) -> None:
    """Two connections of u1 and one of u2, all in the room."""
    for user, connection_id in (("u1", "c1="), ("u1", "c1b="), ("u2", "c2=")):
        service.grant_room(CHAT, user)
        let_in(connection_id, user)
        assert act(connection_id, "chat:join_room", roomId="r1")[1]["success"]


def chats(monkeypatch: pytest.MonkeyPatch, history: Retention | None, publish: Publish) -> None:
    """Declare chat rooms otherwise."""
    kind = Kind("chat_room_{room_id}", "granted", history, publish=publish)
    monkeypatch.setattr(wiring().store, "rooms", Rooms([kind]))


class Queue:
    """Keeps what is put on the fan-out queue."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def put(self, jobs: Any, delay: float = 0) -> None:
        del delay
        self.jobs += [parse(job.dump(), APP.rooms) for job in jobs]


@pytest.fixture
def queue() -> Queue:
    made: Any = Queue()
    wiring().job_queue = made
    return made  # type: ignore[no-any-return]


def test_a_message_reaches_every_member_with_its_sender_and_its_number(
    members: None, api: FakeManagementApi, service: WebSocketService
) -> None:
    event, data = send()
    assert event == "rooms:sent"
    at = service.position(CHAT)
    assert at is not None
    assert data == {"room": CHAT, "id": data["id"], "seq": 1, "epoch": at.epoch}
    for connection_id in ("c1=", "c1b=", "c2="):
        [envelope] = got(api, connection_id)
        assert envelope.pop("timestamp")
        assert envelope == {
            "event": "chat:message",
            "data": {"text": "hi"},
            "id": data["id"],
            "room": CHAT,
            "seq": 1,
            "epoch": at.epoch,
            "from": {"id": "u1", "name": "U1", "replyTo": "one"},
        }


def test_who_was_away_gets_it_with_its_sender(members: None, service: WebSocketService) -> None:
    at = service.position(CHAT)
    assert at is not None
    send()
    since = {"epoch": at.epoch, "seq": at.seq}
    _, data = act("c2=", "rooms:join", rooms=[{"room": CHAT, "since": since}])
    [message] = data["rooms"][0]["messages"]
    assert message["from"]["id"] == "u1"


def test_the_history_checker_judges_what_is_published_as_a_send(
    members: None, api: FakeManagementApi
) -> None:
    """The records of two pages that publish: sound, and found out where an answer is not what was heard."""
    _, joined = act("c2=", "rooms:join", rooms=[{"room": CHAT}])
    [entry] = joined["rooms"]
    at = {"room": CHAT, "epoch": entry["epoch"], "seq": entry["seq"]}
    records: list[dict[str, Any]] = [
        {"who": "page2", "what": "joined", **at, "user": "u2", "recovered": False, "wasRecovering": False}
    ]
    for number in range(3):
        _, answer = send(id=f"m{number}")
        records.append({"who": "page1", "what": "appended", **answer})
    for envelope in got(api, "c2="):
        heard = {key: envelope[key] for key in ("room", "epoch", "seq", "id")}
        records.append({"who": "page2", "what": "delivered", **heard})

    def violations() -> list[int]:
        lines = map(json.dumps, records)
        return [violation.invariant for violation in check(read(lines, "f"), complete=True).violations]

    assert violations() == []
    records[2]["id"] = "another"
    assert violations() == [1]


def test_landinghubs_action_sends_a_chat_message(members: None, api: FakeManagementApi) -> None:
    event, data = act("c1=", "chat:send_message", roomId="r1", message="hi")
    assert (event, data["roomId"], data["success"], data["seq"]) == ("chat:sent_message", "r1", True, 1)
    [envelope] = got(api, "c2=")
    assert (envelope["event"], envelope["data"]) == ("chat:message", {"roomId": "r1", "message": "hi"})
    assert envelope["from"] == {"id": "u1", "name": "U1"}
    assert act("c1=", "chat:send_message", roomId="r1")[0] == "chat:error"


def test_a_client_says_nothing_about_its_sender(members: None, api: FakeManagementApi) -> None:
    said: dict[str, Any] = {"from": {"id": "u2"}, "seq": 7, "epoch": "e", "timestamp": "never"}
    send(**said)
    [envelope] = got(api, "c2=")
    assert (envelope["from"]["id"], envelope["seq"]) == ("u1", 1)
    assert "u1@x.test" not in json.dumps(envelope)


def test_a_repeat_is_the_same_message(members: None, api: FakeManagementApi) -> None:
    first, again = send()[1], send()[1]
    assert again == first
    assert {envelope["id"] for envelope in got(api, "c2=")} == {first["id"]}
    assert send("c1b=")[1] == first  # the user's, on a new connection after a cut


def test_an_id_of_somebody_else_or_for_something_else_is_another_message(members: None) -> None:
    first = send()[1]
    others = [
        send("c2=")[1],
        send(data={"text": "bye"})[1],
        send(event="chat:edited")[1],
    ]
    assert [other["seq"] for other in others] == [2, 3, 4]
    assert len({first["id"], *(other["id"] for other in others)}) == 4


def test_no_client_takes_the_id_of_a_backends_send(members: None, service: WebSocketService) -> None:
    taken = send()[1]["id"]
    service.send_to_room(CHAT, "e", {}, id="one")
    assert send(id="one", data={"text": "new"})[1]["seq"] == 3
    assert send(id=taken, data={"text": "hi"})[1]["seq"] == 4


def test_an_id_that_counts_actions_names_no_message(members: None) -> None:
    assert [send(id="7")[1]["seq"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"room": "chat_room_r2"}, "not_a_member"),
        ({"room": "user"}, "forbidden"),
        ({"room": "no room"}, "invalid_room"),
        ({"event": ""}, "invalid_event"),
        ({"event": 7}, "invalid_event"),
        ({"event": "x" * 129}, "invalid_event"),
        *(
            ({"event": name}, "invalid_event")
            for name in ("client:gap", "rooms:joined", "presence:left", "auth:checked", "dashboard:update")
        ),
        *(({"event": name}, "invalid_event") for name in ("error", "pong", "connect", "chat:joined_room")),
        ({"data": "x" * 31_000}, "too_large"),
    ],
)
@pytest.mark.parametrize("action", ["rooms:send", "rooms:signal"])
def test_what_is_refused_reaches_nobody(
    members: None, api: FakeManagementApi, action: str, fields: Any, code: str
) -> None:
    asked = {"room": CHAT, "event": "e", "data": 1, "id": "one"} | fields
    event, data = act("c1=", action, **asked)
    assert (event, data["code"]) == ("error", code)
    assert got(api, "c2=") == []


@pytest.mark.parametrize("action", ["rooms:send", "rooms:signal"])
def test_data_is_needed(members: None, action: str) -> None:
    assert act("c1=", action, room=CHAT, event="e", id="1")[1]["code"] == "invalid_data"


def test_a_kind_says_who_may_publish(monkeypatch: pytest.MonkeyPatch, members: None) -> None:
    let_in("boss=", "boss", role="admin")
    act("boss=", "chat:join_room", roomId="r1")
    chats(monkeypatch, Retention(10), ("admin",))
    assert send()[1]["code"] == "forbidden"
    assert send("boss=")[0] == "rooms:sent"
    chats(monkeypatch, Retention(10), "none")
    assert send("boss=")[1]["code"] == "forbidden"


@pytest.mark.parametrize("action", ["rooms:send", "rooms:signal"])
def test_who_is_revoked_publishes_nothing(
    members: None, service: WebSocketService, store: Store, action: str
) -> None:
    service.revoke_room(CHAT, "u1")
    fields = {"room": CHAT, "event": "e", "data": 1, "id": "one"}
    assert act("c1=", action, **fields)[1]["code"] == "not_a_member"
    store.revocations.revoke("u2")  # the index shows the connection late: it is not closed yet
    assert act("c2=", action, **fields)[1]["code"] == "not_a_member"


def test_a_user_has_one_rate_over_all_connections(members: None) -> None:
    wiring().settings = wiring().settings._replace(sends_per_second=1)
    outcomes = [send(("c1=", "c1b=")[n % 2], id=f"m{n}") for n in range(BURST + 4)]
    refused = [data for event, data in outcomes if event == "error"]
    assert {data["code"] for data in refused} == {"rate_limited"}
    assert all(0 < data["retryAfter"] <= 1 for data in refused)
    assert 1 <= len(refused) <= 4
    assert send("c2=", id="m")[0] == "rooms:sent"


def test_the_rate_of_a_user_is_exact() -> None:
    clock = [1_800_000_000.0]
    dynamodb: Any = FakeDynamoDB()
    create_tables(dynamodb)
    rates = Store(Tables(dynamodb, "connections", "rooms", clock=lambda: clock[0]), APP.rooms).user_rates
    rate = Rate(5, burst=3)
    assert [rates.take("u1", "sends", rate) for _ in range(4)] == [0, 0, 0, 0.2]
    assert rates.take("u1", "signals", rate) == 0
    assert rates.take("u2", "sends", rate) == 0
    clock[0] += 0.2  # as it said
    assert [rates.take("u1", "sends", rate) for _ in range(2)] == [0, 0.2]
    clock[0] += 60
    dynamodb.calls.clear()
    assert [rates.take("u1", "sends", rate) for _ in range(4)] == [0, 0, 0, 0.2]
    assert dynamodb.calls == {"UpdateItem": 1 + 2 + 2 + 1}


def test_a_large_room_is_left_to_the_queue(members: None, queue: Queue, api: FakeManagementApi) -> None:
    wiring().send_limits = SendLimits(direct=2, job_receivers=2)
    event, data = send()
    assert (event, data["seq"]) == ("rooms:sent", 1)
    assert got(api, "c2=") == []
    assert [type(job) for job in queue.jobs] == [PostJob, PostJob]
    assert sum(len(job.receivers) for job in queue.jobs) == 3
    assert json.loads(queue.jobs[0].text)["from"]["id"] == "u1"


@pytest.mark.parametrize("history", [Retention(10), None])
def test_a_very_large_room_is_left_to_the_worker_with_its_sender(
    members: None, queue: Queue, monkeypatch: pytest.MonkeyPatch, history: Retention | None
) -> None:
    chats(monkeypatch, history, "members")
    wiring().send_limits = SendLimits(direct=1, split=2)
    send()
    [job] = queue.jobs
    assert isinstance(job, SliceJob)
    assert json.loads(job.text)["from"]["id"] == "u1"


def test_a_slow_member_holds_up_no_publisher_and_gets_it_by_the_queue(
    members: None, queue: Queue, api: FakeManagementApi
) -> None:
    api.script("c2=", THROTTLED)
    assert send()[0] == "rooms:sent"
    [job] = queue.jobs
    assert [receiver.connection_id for receiver in job.receivers] == ["c2="]
    assert job.round == 1


def test_a_member_that_is_gone_is_pruned(members: None, api: FakeManagementApi, rows: Any) -> None:
    api.script("c2=", GONE)
    send()
    assert "c2=" not in {row["connectionId"] for row in rows("connections")}


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.LOST_REQUEST])
def test_while_the_tables_do_not_answer_a_client_is_told_to_try_again(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    dynamodb: Any = FakeDynamoDB()
    create_tables(dynamodb)
    store = Store(Tables(dynamodb, "connections", "rooms", history="history"), APP.rooms)
    monkeypatch.setattr(wiring(), "store", store)
    monkeypatch.setattr("roomcast.aws.PATIENCE", 0.3)
    let_in("c1=", "u1", "admin")
    act("c1=", "chat:join_room", roomId="r1")
    is_down = [True]
    monkeypatch.setattr(
        dynamodb, "fault", lambda name: fault if is_down[0] and name == "BatchGetItem" else None
    )
    assert send()[1]["code"] == "unavailable"
    is_down[0] = False
    assert send()[0] == "rooms:sent"


def test_a_signal_reaches_the_others_once_and_is_not_kept(
    members: None, api: FakeManagementApi, service: WebSocketService
) -> None:
    fields = {"room": CHAT, "event": "chat:typing", "data": {"on": True}}
    assert default.handler(message_event("c1=", action="rooms:signal", **fields), None) == {"statusCode": 200}
    assert got(api, "c1=") == []
    for connection_id in ("c1b=", "c2="):
        [envelope] = got(api, connection_id)
        assert envelope.keys() == {"event", "data", "timestamp", "room", "from"}
        assert envelope["from"] == {"id": "u1", "name": "U1"}
    history = service.history(CHAT)
    assert history is not None
    assert (history.position.seq, history.messages) == (0, ())
    assert act("c1=", "rooms:signal", id="8", **fields) == ("rooms:signaled", {"room": CHAT})


@pytest.mark.parametrize("reply", [THROTTLED, FAILING])
def test_a_signal_is_tried_once(members: None, api: FakeManagementApi, queue: Queue, reply: Any) -> None:
    api.script("c2=", reply, OK)
    act("c1=", "rooms:signal", room=CHAT, event="e", data=1, id="1")
    assert api.tries("c2=") == 1
    assert (len(got(api, "c1b=")), queue.jobs) == (1, [])


def test_a_large_room_takes_no_signals(
    members: None, api: FakeManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.functions.publishing.MAX_SIGNAL_MEMBERS", 2)
    fields = {"room": CHAT, "event": "e", "data": 1, "id": "1"}
    assert act("c1=", "rooms:signal", **fields)[1]["code"] == "room_too_large"
    assert got(api, "c2=") == []
    assert MAX_SIGNAL_MEMBERS == 50


def test_a_signal_is_small_and_has_a_rate_of_its_own(members: None) -> None:
    fields: dict[str, Any] = {"room": CHAT, "event": "e", "id": "1"}
    assert act("c1=", "rooms:signal", data="x" * MAX_SIGNAL_BYTES, **fields)[1]["code"] == "too_large"
    slow = Rate(0.001, burst=1)
    assert wiring().store.user_rates.take("u1", "signals", slow) == 0
    event, data = act("c1=", "rooms:signal", data=1, **fields)
    assert (event, data["code"]) == ("error", "rate_limited")
    assert send()[0] == "rooms:sent"

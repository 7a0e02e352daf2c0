"""Server events: what happens to users is on the bus, numbered, and a fault of it hurts nobody."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from lambdas import connect, default, disconnect
from roomcast import WebSocketService, aws
from roomcast.aws_client.failures import ours
from roomcast.functions.cold_start import wiring
from roomcast.settings import ServerEventRules
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.event_numbers import EventNumbers
from tests.builders import chat, connect_event, create_tables, disconnect_event, message_event, token
from tests.fakes.dynamodb import FakeDynamoDB, Fault
from tests.fakes.event_bus import DENIED, SILENT, THROTTLED, FakeEventBus
from tests.fakes.management_api import GONE, FakeManagementApi

KINDS = "connected,disconnected,joined,left,published"
ROOM = "chat_room_r1"
ROOMS = [{"room": f"chat_room_r{number}"} for number in range(1, 13)]


@pytest.fixture
def bus(functions: None, monkeypatch: pytest.MonkeyPatch) -> FakeEventBus:
    """All kinds of events are on, and go to a bus in this process."""
    made, client = FakeEventBus(), aws.client
    monkeypatch.setattr(aws, "client", lambda of, *more: made if of == "events" else client(of, *more))
    monkeypatch.setattr("roomcast.aws._BASE", 0.001)
    monkeypatch.setenv("WEBSOCKET_SERVER_EVENTS", f"roomcast.landinghub.prod:{KINDS}@default")
    wiring.cache_clear()
    return made


def let_in(connection_id: str = "c1=", user_id: str = "u1") -> None:
    event = connect_event(connection_id, token=token(user_id))
    assert connect.handler(event, None)["statusCode"] == 200


def act(action: str, connection_id: str = "c1=", at: int | None = None, **fields: Any) -> dict[str, Any]:
    event = message_event(connection_id, action=action, **fields)
    if at is not None:
        event["requestContext"]["requestTimeEpoch"] = at
    data: dict[str, Any] = json.loads(default.handler(event, None)["body"])["data"]
    return data


def join(connection_id: str = "c1=", user_id: str = "u1", **more: Any) -> None:
    wiring().store.members.grant(chat("r1"), user_id)
    assert act("chat:join_room", connection_id, roomId="r1", **more)["success"]


def kinds(bus: FakeEventBus) -> list[tuple[str, int]]:
    return [(kind, detail["seq"]) for kind, detail in bus.seen()]


def test_a_visit_is_on_the_bus_with_its_numbers(bus: FakeEventBus) -> None:
    let_in()
    join(at=1_764_000_000_000, id="7")
    sent = act("rooms:send", room=ROOM, event="chat:message", data={"text": "a secret"}, id="a message")
    act("chat:leave_room", roomId="r1", at=1_764_000_000_001)
    join()
    disconnect.handler(disconnect_event(), None)
    found = bus.seen()
    times = [detail.pop("at") for _, detail in found]
    assert all(time.endswith("Z") for time in times)
    about = {"stage": "prod", "userId": "u1", "connectionId": "c1="}
    assert found == [
        ("connected", {**about, "seq": 1}),
        ("joined", {**about, "room": ROOM, "asked": "001764000000000.000000000000007", "seq": 2}),
        ("published", {**about, "room": ROOM, "event": "chat:message", "id": sent["id"], "seq": 3}),
        ("left", {**about, "room": ROOM, "asked": "001764000000001.000000000000000", "seq": 4}),
        ("joined", {**about, "room": ROOM, "seq": 5}),
        ("disconnected", {**about, "rooms": [ROOM], "seq": 6}),
    ]
    assert {(entry["Source"], entry["EventBusName"]) for entry in bus.entries} == {
        ("roomcast.landinghub.prod", "default")
    }


def test_no_body_no_token_and_no_address_leaves_the_stage(bus: FakeEventBus) -> None:
    given = token("u1")
    assert connect.handler(connect_event(token=given), None)["statusCode"] == 200
    join()
    act("rooms:send", room=ROOM, event="chat:message", data={"text": "a secret"}, id="a message")
    disconnect.handler(disconnect_event(), None)
    text = json.dumps(bus.entries)
    assert len(bus.entries) == 4
    for secret in ("a secret", given, "u1@x.test", "U1"):
        assert secret not in text


def test_each_user_has_numbers_of_its_own(bus: FakeEventBus) -> None:
    let_in()
    let_in("c2=", "u2")
    let_in("c3=")
    assert [(d["userId"], d["seq"]) for _, d in bus.seen()] == [("u1", 1), ("u2", 1), ("u1", 2)]


def test_only_the_kinds_that_are_wanted_are_numbered(
    bus: FakeEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_SERVER_EVENTS", "roomcast.landinghub.prod:connected,left@mine")
    wiring.cache_clear()
    let_in()
    join()
    act("chat:leave_room", roomId="r1")
    disconnect.handler(disconnect_event(), None)
    assert kinds(bus) == [("connected", 1), ("left", 2)]
    assert {entry["EventBusName"] for entry in bus.entries} == {"mine"}


def test_several_rooms_are_joined_with_numbers_in_a_row_and_few_calls(bus: FakeEventBus) -> None:
    let_in()
    for number in range(1, 12):
        wiring().store.members.grant(chat(f"r{number}"), "u1")
    calls = bus.calls
    rooms = act("rooms:join", rooms=ROOMS)["rooms"]
    assert [each["success"] for each in rooms] == [True] * 11 + [False]
    joined = [detail for kind, detail in bus.seen() if kind == "joined"]
    assert [detail["seq"] for detail in joined] == list(range(2, 13))
    assert sorted(detail["room"] for detail in joined) == sorted(each["room"] for each in ROOMS[:11])
    assert bus.calls == calls + 2  # of ten entries each
    act("rooms:leave", rooms=["chat_room_r1"])
    assert bus.seen()[-1][1]["seq"] == 13  # the number of the refused room was given back


def test_what_is_refused_takes_no_number(bus: FakeEventBus) -> None:
    let_in()
    assert act("chat:join_room", roomId="r1")["code"] == "forbidden"
    wiring().store.revocations.revoke("u1")
    assert connect.handler(connect_event("c2=", token=token("u1")), None) == {"statusCode": 401}
    wiring().store.revocations.lift("u1")
    act("chat:leave_room", roomId="r1")  # is not in it
    act("rooms:send", room=ROOM, event="chat:message", data=1, id="a message")
    assert kinds(bus) == [("connected", 1)]
    let_in("c3=")
    assert kinds(bus)[1:] == [("connected", 2)]


def test_numbers_that_were_taken_meanwhile_are_not_given_twice(store: Store) -> None:
    numbers = store.event_numbers
    assert numbers.take("u1", 3) == 3
    numbers.give_back("u1", 3, 2)
    assert numbers.take("u1") == 2
    assert numbers.take("u1") == 3
    numbers.give_back("u1", 2, 1)  # 3 is used: 2 stays unused
    assert numbers.take("u1") == 4


def test_a_number_that_is_given_back_twice_is_not_given_twice() -> None:
    """The answer of the first one is lost, and somebody takes the number before the retry."""
    client: Any = FakeDynamoDB()
    create_tables(client)
    numbers = Store(Tables(client, "connections", "rooms")).event_numbers
    assert numbers.take("u1") == 1
    turns = iter([Fault.LOST_ANSWER])
    taken: list[int] = []

    def fault(operation: str) -> Fault | None:
        if operation == "TransactWriteItems":
            fault_now = next(turns, None)
            if fault_now is None and not taken:
                taken.append(0)
                taken[0] = numbers.take("u1")
            return fault_now
        return None

    client.fault = fault
    numbers.give_back("u1", 1, 1)
    assert taken == [1]
    assert numbers.take("u1") == 2


def test_a_room_left_before_it_was_joined_is_not_reported_as_joined(bus: FakeEventBus) -> None:
    """API Gateway runs what a client sends at the same time: the leave that came second is done first."""
    let_in()
    act("chat:leave_room", roomId="r1", at=2000)
    join(at=1000)
    assert [kind for kind, _ in bus.seen()] == ["connected"]


def test_what_a_backend_ends_is_on_the_bus(bus: FakeEventBus) -> None:
    service = WebSocketService.from_env()
    let_in()
    join()
    let_in("c2=", "u2")
    service.revoke_room(ROOM, "u1")
    service.disconnect_user("u1")
    service.revoke_user("u2")
    disconnect.handler(disconnect_event("c1="), None)  # API Gateway's word for what the service has closed
    service.close()
    last = [(kind, d["userId"], d["connectionId"], d["seq"]) for kind, d in bus.seen()[3:]]
    assert last == [
        ("left", "u1", "c1=", 3),
        ("disconnected", "u1", "c1=", 4),
        ("disconnected", "u2", "c2=", 2),
    ]
    assert "asked" not in bus.seen()[3][1]


def test_a_connection_that_is_found_dead_is_reported_by_whoever_finds_it(
    bus: FakeEventBus, api: FakeManagementApi
) -> None:
    """Its `$disconnect` never came."""
    let_in()
    join()
    let_in("c2=", "u2")
    join("c2=", "u2")
    api.script("c1=", GONE)
    act("rooms:send", "c2=", room=ROOM, event="chat:message", data=1, id="a message")
    dead = [detail for kind, detail in bus.seen() if kind == "disconnected"]
    assert [(d["userId"], d["connectionId"], d["rooms"], d["seq"]) for d in dead] == [
        ("u1", "c1=", [ROOM], 3)
    ]


def test_an_end_that_dies_half_way_is_reported_by_who_goes_on(
    bus: FakeEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in()
    with monkeypatch.context() as patch:
        patch.setattr(wiring().store.tables, "delete_rows", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            disconnect.handler(disconnect_event(), None)
    assert kinds(bus) == [("connected", 1)]
    disconnect.handler(disconnect_event(), None)
    assert kinds(bus)[1:] == [("disconnected", 2)]


def test_the_oldest_connection_that_is_closed_is_reported(
    bus: FakeEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBSOCKET_MAX_CONNECTIONS_PER_USER", "1")
    wiring.cache_clear()
    let_in()
    let_in("c2=")
    assert kinds(bus) == [("connected", 1), ("connected", 2), ("disconnected", 3)]


@pytest.mark.parametrize(
    ("script", "calls"),
    [
        ([THROTTLED, THROTTLED], 3),
        ([SILENT], 2),
        ([{0: "ThrottlingException"}, {0: "InternalFailure"}, {0: "InternalException"}], 4),
    ],
    ids=["throttled", "no answer", "the entry failed"],
)
def test_what_the_bus_does_not_take_for_now_is_put_again(
    bus: FakeEventBus, script: list[Any], calls: int
) -> None:
    bus.script = script
    let_in()
    assert kinds(bus) == [("connected", 1)]
    assert bus.calls == calls


def test_of_a_batch_only_what_failed_is_put_again(bus: FakeEventBus) -> None:
    let_in()
    for number in range(1, 4):
        wiring().store.members.grant(chat(f"r{number}"), "u1")
    bus.script = [{1: "ThrottlingException"}]
    act("rooms:join", rooms=ROOMS[:3])
    assert sorted(seq for _, seq in kinds(bus)) == [1, 2, 3, 4]


def test_an_answer_that_is_lost_repeats_the_event_with_its_number(bus: FakeEventBus) -> None:
    bus.lost_answers = 1
    let_in()
    assert kinds(bus) == [("connected", 1), ("connected", 1)]


@pytest.mark.parametrize("script", [[DENIED], [{0: "MalformedDetail"}]], ids=["all", "one"])
def test_what_the_bus_refuses_is_lost_and_leaves_a_hole(
    bus: FakeEventBus,
    script: list[Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WEBSOCKET_METRICS", "stack")
    bus.script = script
    let_in()
    join()
    assert kinds(bus) == [("joined", 2)]
    assert "not reported event=connected userId=u1 count=1: " in caplog.text
    assert '"EventsLost":1' in capsys.readouterr().out


def test_a_bus_that_never_takes_anything_holds_up_nobody_for_long(
    bus: FakeEventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomcast.server_events.SECONDS", 0.02)
    monkeypatch.setattr("roomcast.aws._BASE", 0.005)
    bus.script = [THROTTLED] * 1000
    let_in()
    join()
    disconnect.handler(disconnect_event(), None)
    assert bus.entries == []
    assert 3 <= bus.calls < 100


def test_numbers_that_cannot_be_had_hold_up_nobody(
    bus: FakeEventBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise ours(THROTTLED) or AssertionError

    monkeypatch.setattr(EventNumbers, "take", refuse)
    let_in()
    join()
    act("chat:leave_room", roomId="r1")
    disconnect.handler(disconnect_event(), None)
    assert bus.calls == 0
    assert caplog.text.count("not reported event=") == 4


def test_where_no_time_is_left_nothing_more_is_asked(bus: FakeEventBus) -> None:
    events = wiring().server_events
    assert events
    with aws.within(-1):
        events.tell("connected", "u1", "c1=", {})
    assert bus.calls == 0
    assert wiring().store.event_numbers.take("u1") == 1


def test_what_aws_does_not_say_keeps_its_number(bus: FakeEventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was joined is unknown: the missing number says so."""
    let_in()
    wiring().store.members.grant(chat("r1"), "u1")

    def fail(*_: object, **__: object) -> bool:
        raise ours(SILENT) or AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(wiring().store.members, "join", fail)
        with pytest.raises(Exception, match=r"events\.test"):
            act("chat:join_room", roomId="r1")
    join()
    assert kinds(bus) == [("connected", 1), ("joined", 3)]


def test_the_log_says_what_is_on_the_bus(bus: FakeEventBus, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        let_in()
    assert bus.calls == 1
    assert "event connected userId=u1 seq=1" in caplog.messages


def test_off_nothing_is_imported_numbered_or_put(functions: None) -> None:
    let_in()
    join()
    act("chat:leave_room", roomId="r1")
    disconnect.handler(disconnect_event(), None)
    assert wiring().server_events is None
    assert wiring().store.tables.ended is None
    assert wiring().store.event_numbers.take("u1") == 1
    code = (
        "import sys, lambdas.connect, lambdas.default, lambdas.disconnect, lambdas.fanout, roomcast.service\n"
    )
    code += "print([m for m in sys.modules if 'server_events' in m or 'event_numbers' in m])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_the_rules_are_read_as_they_are_written() -> None:
    arn = "arn:aws:events:eu-west-1:123456789012:event-bus/audit"
    text = f"roomcast.acme.qa:connected,left@{arn}"
    rules = ServerEventRules.parse("K", text)
    assert rules == ServerEventRules(
        source="roomcast.acme.qa", kinds=frozenset({"connected", "left"}), bus=arn
    )
    assert rules.dumps() == text


def test_they_get_through_eventbridge_to_a_rule(
    functions: None, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With moto's EventBridge: what a consumer's queue gets."""
    # For input templates, which the rule does not have, moto needs a package that is not here.
    monkeypatch.setattr("moto.events.models.EventTemplateParser.parse", lambda event, **_: event)
    events, sqs = aws.create_client("events"), aws.create_client("sqs")
    events.create_event_bus(Name="audit")
    url = sqs.create_queue(QueueName="consumer")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["roomcast.landinghub.prod"], "detail-type": ["connected"]}
    events.put_rule(Name="r", EventBusName="audit", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="r", EventBusName="audit", Targets=[{"Id": "q", "Arn": arn}])
    monkeypatch.setenv("WEBSOCKET_SERVER_EVENTS", f"roomcast.landinghub.prod:{KINDS}@audit")
    wiring.cache_clear()
    let_in()
    disconnect.handler(disconnect_event(), None)
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    bodies = [json.loads(message["Body"]) for message in found]
    assert [(b["source"], b["detail-type"], b["detail"]["seq"]) for b in bodies] == [
        ("roomcast.landinghub.prod", "connected", 1)
    ]
    wiring().store.tables.close()
    events.remove_targets(Rule="r", EventBusName="audit", Ids=["q"])
    events.delete_rule(Name="r", EventBusName="audit")
    events.delete_event_bus(Name="audit")
    sqs.delete_queue(QueueUrl=url)

"""Each role may do exactly what its function's code does: no right is missing, none is left over."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.session
import pytest
from moto import mock_aws

from lambdas import connect, count, default, disconnect, fanout
from roomcast import aws
from roomcast.connection import Identity, Receiver
from roomcast.envelope import build
from roomcast.functions.cold_start import wiring
from roomcast.rooms import Retention
from roomcast.sending.job import PostJob, PresenceJob, SendLimits
from roomcast.service import WebSocketService
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast.store.receivers import Receivers
from tests.builders import (
    APP,
    OTHER_SECRET,
    SECRET,
    chat,
    connect_event,
    disconnect_event,
    message_event,
    token,
)
from tests.fakes.management_api import GONE, OK, FakeManagementApi
from tests.infra.resources import Resources

CONNECTIONS = "landinghub-websocket-connections-prod"
ROOMS = "landinghub-websocket-rooms-prod"
HISTORY = "landinghub-websocket-history-prod"
MANAGEMENT_API = "arn:<partition>:execute-api:<region>:<accountid>:WebSocket/Api/prod"
QUEUE = "landinghub-websocket-fanout-prod"
POLLING = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
"""What Lambda itself does with the role, to read the queue."""

RIGHTS = {
    "Connect": {
        CONNECTIONS: {
            "dynamodb:BatchGetItem",
            "dynamodb:DeleteItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
        },
        ROOMS: {
            "dynamodb:BatchWriteItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        QUEUE: {"sqs:SendMessage"},
        f"{MANAGEMENT_API}/DELETE/@connections/*": {"execute-api:ManageConnections"},
        f"{MANAGEMENT_API}/GET/@connections/*": {"execute-api:ManageConnections"},
        f"{MANAGEMENT_API}/POST/@connections/*": {"execute-api:ManageConnections"},
        "JwtSecret/Secret": {"secretsmanager:GetSecretValue"},
        "WebSocket/OnConnect/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
    "Disconnect": {
        CONNECTIONS: {"dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
        ROOMS: {"dynamodb:BatchWriteItem", "dynamodb:UpdateItem"},
        QUEUE: {"sqs:SendMessage"},
        "WebSocket/OnDisconnect/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
    "Default": {
        CONNECTIONS: {
            "dynamodb:BatchGetItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:UpdateItem",
        },
        ROOMS: {
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        HISTORY: {
            "dynamodb:BatchGetItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        QUEUE: {"sqs:SendMessage"},
        f"{MANAGEMENT_API}/DELETE/@connections/*": {"execute-api:ManageConnections"},
        f"{MANAGEMENT_API}/POST/@connections/*": {"execute-api:ManageConnections"},
        "JwtSecret/Secret": {"secretsmanager:GetSecretValue"},
        "WebSocket/OnMessage/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
    "Fanout": {
        CONNECTIONS: {
            "dynamodb:BatchGetItem",
            "dynamodb:DeleteItem",
            "dynamodb:Scan",
            "dynamodb:UpdateItem",
        },
        ROOMS: {
            "dynamodb:BatchWriteItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        },
        HISTORY: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"},
        QUEUE: {"sqs:ChangeMessageVisibility", "sqs:SendMessage", *POLLING},
        f"{MANAGEMENT_API}/POST/@connections/*": {"execute-api:ManageConnections"},
        "FanOut/Worker/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
}

WATCHED = {
    "Count": {
        CONNECTIONS: {"dynamodb:Scan"},
        ROOMS: {"dynamodb:PutItem"},
        "Monitoring/Counter/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    }
}
"""Where the stage is watched."""


BUS = "arn:<partition>:events:<region>:<accountid>:event-bus/audit"


def with_events(rights: dict[str, set[str]]) -> dict[str, set[str]]:
    """What may be done where the stage has server events on."""
    return rights | {BUS: {"events:PutEvents"}, ROOMS: rights[ROOMS] | {"dynamodb:UpdateItem"}}


def of_stage(rights: dict[str, set[str]], stage: str) -> dict[str, set[str]]:
    return {
        name.replace("-prod", f"-{stage}").replace("/prod/", f"/{stage}/"): actions
        for name, actions in rights.items()
    }


@pytest.mark.parametrize("function", RIGHTS)
def test_server_events_need_the_numbers_and_one_bus(resources: dict[str, Resources], function: str) -> None:
    assert resources["events"].rights(function) == of_stage(with_events(RIGHTS[function]), "events")
    assert resources["events"].rights("Count") == of_stage(WATCHED["Count"], "events")


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
@pytest.mark.parametrize("function", RIGHTS)
def test_a_role_may_do_this_and_nothing_else(
    resources: dict[str, Resources], stage: str, function: str
) -> None:
    assert resources[stage].rights(function) == of_stage(RIGHTS[function], stage)


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_every_function_is_in_the_list(resources: dict[str, Resources], stage: str) -> None:
    functions = resources[stage].of_type("AWS::Lambda::Function").values()
    names = {function["Properties"]["FunctionName"].rpartition("websocket")[2] for function in functions}
    assert names == set(RIGHTS) | (set(WATCHED) if stage == "prod" else set())


def test_who_counts_may_read_the_connections_and_keep_the_count(resources: dict[str, Resources]) -> None:
    assert resources["prod"].rights("Count") == WATCHED["Count"]


class Calls:
    """Everything that is asked of AWS, as the rights that it needs."""

    def __init__(self) -> None:
        self.rights: dict[str, set[str]] = {}

    def record(self, **event: Any) -> None:
        """A handler of botocore's event `before-parameter-build`."""
        params, model = event["params"], event["model"]
        service = model.service_model.endpoint_prefix
        for resource, operation in _needs(model.name, params):
            self.rights.setdefault(resource, set()).add(f"{service}:{operation}")


def _needs(operation: str, params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if operation == "TransactWriteItems":
        # Authorized as what it is made of.
        names = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
        for item in params["TransactItems"]:
            ((kind, write),) = item.items()
            yield write["TableName"], names.get(kind, "ConditionCheckItem")
    elif "RequestItems" in params:
        yield from ((table, operation) for table in params["RequestItems"])
    elif "IndexName" in params:
        yield f"{params['TableName']}/index/{params['IndexName']}", operation
    elif operation == "PutEvents":
        for entry in params["Entries"]:
            yield f"arn:<partition>:events:<region>:<accountid>:event-bus/{entry['EventBusName']}", operation
    elif "QueueUrl" in params:
        yield params["QueueUrl"].rpartition("/")[2], operation.removesuffix("Batch")
    else:
        yield params.get("TableName") or params["SecretId"], operation


@dataclass
class Backend:
    """The tables of the template and its secret on moto, a management API, and what the functions call."""

    store: Store
    management_api: FakeManagementApi
    calls: Calls
    monkeypatch: pytest.MonkeyPatch

    def tell(self, **settings: str) -> None:
        """Change what the functions are told, and make them cold."""
        for key, value in settings.items():
            self.monkeypatch.setenv(key, value)
        wiring.cache_clear()

    def report_events(self, resources: dict[str, Resources]) -> None:
        """Have server events on."""
        self.tell(
            WEBSOCKET_SERVER_EVENTS=resources["events"].environment("Connect")["WEBSOCKET_SERVER_EVENTS"]
        )

    def take_rights(self) -> dict[str, set[str]]:
        """The rights that the calls since the last time needed."""
        rights, self.calls.rights = self.calls.rights, {}
        for request in self.management_api.requests:
            resource = f"{MANAGEMENT_API}/{request.method}/@connections/*"
            rights[resource] = {"execute-api:ManageConnections"}
        self.management_api.requests.clear()
        return rights


@pytest.fixture
def backend(resources: dict[str, Resources], monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    prod = resources["prod"]
    with mock_aws(), FakeManagementApi(stage="/prod") as management_api:
        plain = botocore.session.get_session()
        dynamodb: Any = plain.create_client("dynamodb")
        creatable = (
            "TableName",
            "BillingMode",
            "AttributeDefinitions",
            "KeySchema",
            "GlobalSecondaryIndexes",
        )
        for table in prod.of_type("AWS::DynamoDB::Table").values():
            dynamodb.create_table(**{k: v for k, v in table["Properties"].items() if k in creatable})
        sqs: Any = plain.create_client("sqs")
        queue_url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        secrets: Any = plain.create_client("secretsmanager")
        secrets.create_secret(Name="JwtSecret/Secret", SecretString=SECRET)

        calls = Calls()
        recording = botocore.session.get_session()
        recording.register("before-parameter-build.*.*", calls.record)
        monkeypatch.setattr(aws, "client", lambda service, _=None: recording.create_client(service))
        backend = Backend(
            Store(Tables(dynamodb, CONNECTIONS, ROOMS, history=HISTORY), APP.rooms),
            management_api,
            calls,
            monkeypatch,
        )
        environment = {key: value for name in RIGHTS for key, value in prod.environment(name).items()}
        here = {
            "WEBSOCKET_API_ENDPOINT": management_api.endpoint,
            "WEBSOCKET_FANOUT_QUEUE_URL": queue_url,
            "WEBSOCKET_APPLICATION": "lambdas.app",  # `app` is CDK's here
        }
        backend.tell(**environment | here)
        events: Any = plain.create_client("events")
        events.create_event_bus(Name="audit")
        yield backend
        events.delete_event_bus(Name="audit")
        wiring.cache_clear()
        # moto forgets only when the last mock of the process ends, and that may be another test's.
        for name in (CONNECTIONS, ROOMS, HISTORY):
            dynamodb.delete_table(TableName=name)
        sqs.delete_queue(QueueUrl=queue_url)
        secrets.delete_secret(SecretId="JwtSecret/Secret", ForceDeleteWithoutRecovery=True)


def let_in(connection_id: str, **claims: Any) -> None:
    assert connect.handler(connect_event(connection_id, token=token(**claims)), None)["statusCode"] == 200


def connecting(backend: Backend) -> None:
    let_in("c1=")
    let_in("c2=", user_id="u2")
    now = int(time.time())
    connect.handler(connect_event("c3=", token=token(secret=OTHER_SECRET)), None)  # the keys are read again
    backend.store.tickets.put("t" * 43, Identity("u3", "user", "", "", now + 60, now))
    connect.handler(connect_event("c4=", ticket="t" * 43), None)
    let_in("c5=", user_id="u4", role="admin")
    default.handler(message_event("c5=", action="chat:join_room", roomId="r1"), None)
    backend.tell(WEBSOCKET_MAX_CONNECTIONS_PER_USER="1")
    let_in("c6=", user_id="u4")  # the oldest is closed
    backend.tell(WEBSOCKET_OVER_MAX_CONNECTIONS="refuse_new")
    connect.handler(connect_event("c7=", token=token("u4")), None)  # the others are looked at


def disconnecting(backend: Backend) -> None:
    let_in("c1=", role="admin")
    default.handler(message_event("c1=", action="chat:join_room", roomId="r1"), None)
    disconnect.handler(disconnect_event("c1="), None)
    disconnect.handler(disconnect_event("never-seen="), None)


def talking(backend: Backend) -> None:
    let_in("c1=")
    for room_id in ("r1", "r2"):
        backend.store.members.grant(chat(room_id), "u1")
    for action in ("dashboard:join", "dashboard:refresh", "ping", "no such action"):
        default.handler(message_event("c1=", action=action), None)
    service = WebSocketService.from_env()
    since = {"epoch": "none", "seq": 0}
    for _ in range(2):
        default.handler(
            message_event("c1=", action="rooms:join", rooms=[{"room": "user", "since": since}]), None
        )
        service.send_to_user("u1", "e", {})
    default.handler(message_event("c1=", action="rooms:history", room="user"), None)
    default.handler(message_event("c1=", action="rooms:history", room="user", since=since), None)
    default.handler(message_event("c1=", action="ping", rooms=["user"]), None)
    service.close()
    for action in ("chat:join_room", "chat:leave_room"):
        default.handler(message_event("c1=", action=action, roomId="r1"), None)
    for pause in (0.0,) * 9 + (1.1, 0.0):  # so many that the function asks whether the room is large
        time.sleep(pause)
        default.handler(message_event("c1=", action="chat:join_room", roomId="r2"), None)
        default.handler(message_event("c1=", action="chat:leave_room", roomId="r2"), None)
    backend.management_api.script("c2=", GONE)  # is pruned
    let_in("c2=", user_id="u2")
    backend.store.members.grant(chat("r1"), "u2")
    for connection_id in ("c1=", "c2="):
        default.handler(message_event(connection_id, action="chat:join_room", roomId="r1"), None)
    default.handler(message_event("c1=", action="rooms:signal", room="chat_room_r1", event="e", data=1), None)

    def publish(id_: str) -> None:
        sent = message_event("c1=", action="chat:send_message", roomId="r1", message="hi", id=id_)
        assert "chat:sent_message" in default.handler(sent, None)["body"]

    wiring().management_api.has_sent = False
    with backend.monkeypatch.context() as patch:
        patch.setattr("roomcast.sending.posting._ALL_GONE", 1)
        backend.management_api.script("c1=", GONE)
        publish("1")  # all are gone: is it the right stage?
    backend.management_api.script("c1=", OK)
    publish("a message")
    default.handler(message_event("c2=", action="chat:join_room", roomId="r1"), None)
    let_in("c3=", user_id="u2")
    default.handler(message_event("c3=", action="chat:join_room", roomId="r1"), None)
    del wiring().sender
    wiring().send_limits = SendLimits(direct=1)
    publish("2")  # over the queue
    backend.tell()  # cold: the secret is read here, and not by the handshake before
    default.handler(message_event("c1=", action="auth:refresh", token=token(ttl=7200)), None)
    default.handler(message_event("c1=", action="dashboard:leave"), None)
    default.handler(message_event("unknown="), None)  # is told so, and closed
    default.handler(message_event("unknown=", action="auth:check", token=token()), None)  # revoked?


def run_job(body: str, receives: int = 1) -> None:
    """Let the worker have one job as SQS hands it out."""
    sqs: Any = botocore.session.get_session().create_client("sqs")
    queue = wiring().settings.fanout_queue_url
    sqs.send_message(QueueUrl=queue, MessageBody=body)
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    record: dict[str, Any] = {"messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"]}
    record |= {"body": body, "attributes": {"ApproximateReceiveCount": str(receives)}}
    fanout.handler({"Records": [record]}, None)
    while left := sqs.receive_message(QueueUrl=queue).get("Messages"):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=left[0]["ReceiptHandle"])


def fanning_out(backend: Backend) -> None:
    let_in("boss=", user_id="boss", role="admin")
    default.handler(message_event("boss=", action="dashboard:join"), None)
    for user in ("u1", "u2"):
        let_in(f"{user}=", user_id=user)
        default.handler(message_event(f"{user}=", action="dashboard:join"), None)
    for to in ({"user": "u1"}, {"room": "dashboard_user_u1"}, {"all": True}):
        run_job(json.dumps({"version": 1, "to": to, "event": "e", "data": {}}))
    store = Store.from_settings(wiring().settings)
    other = store.history
    assert other is not None
    retention = Retention(messages=1)
    other.append("dashboard_user_u1", "m2", lambda _: "{}", retention)  # the worker's next number
    run_job(json.dumps({"version": 1, "to": {"room": "dashboard_user_u1"}, "event": "e", "data": {}}))
    run_job("no job")  # is given back
    text = build("e", {})
    run_job(PostJob("i", None, text, (Receiver("u2=", ""),)).dump())  # read long ago, so it is read again
    default.handler(message_event("boss=", action="chat:join_room", roomId="r1"), None)
    here = PresenceJob("chat_room_r1", "boss").dump()
    run_job(here)  # has joined
    disconnect.handler(disconnect_event("boss="), None)
    run_job(here, receives=2)
    with backend.monkeypatch.context() as patch:
        patch.setattr("roomcast.store.presence.GRACE", -1)
        run_job(here)  # has left
    let_in("boss=", user_id="boss", role="admin")
    default.handler(message_event("boss=", action="dashboard:join"), None)
    del wiring().worker
    wiring().send_limits = SendLimits(job_receivers=1)
    run_job(json.dumps({"version": 1, "to": {"all": True}, "event": "e", "data": {}}))  # more than one job
    backend.monkeypatch.setattr("roomcast.store.members.MANY_MEMBERS", 1)
    run_job(json.dumps({"version": 1, "to": {"room": "dashboard_admin"}, "event": "e", "data": {}}))
    backend.management_api.script("u1=", GONE)
    run_job(json.dumps({"version": 1, "to": {"room": "dashboard_user_u1"}, "event": "e", "data": {}}))


@pytest.mark.parametrize("events", [False, True], ids=["", "with server events"])
@pytest.mark.parametrize(
    ("function", "module", "act"),
    [
        ("Connect", connect, connecting),
        ("Disconnect", disconnect, disconnecting),
        ("Default", default, talking),
        ("Fanout", fanout, fanning_out),
        ("Count", count, lambda _: count.handler({}, None)),
    ],
)
def test_a_role_may_do_just_what_its_code_asks_of_aws(
    backend: Backend,
    resources: dict[str, Resources],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    module: Any,
    act: Callable[[Backend], None],
    events: bool,
) -> None:
    asked: dict[str, set[str]] = {}
    allowed = (RIGHTS | WATCHED)[function]
    if events:
        backend.report_events(resources)
        allowed = with_events(allowed) if function in RIGHTS else allowed
    handler = module.handler

    def recorded(event: dict[str, Any], context: object) -> Any:
        backend.take_rights()  # the other functions' and the test's own
        answer = handler(event, context)
        for resource, actions in backend.take_rights().items():
            asked.setdefault(resource, set()).update(actions)
        return answer

    monkeypatch.setattr(module, "handler", recorded)
    act(backend)
    expected = {name: actions for name, actions in allowed.items() if not name.endswith("/Logs")}
    assert asked == {name: actions - POLLING for name, actions in expected.items()}


BACKEND = {
    CONNECTIONS: {
        "dynamodb:BatchGetItem",
        "dynamodb:DeleteItem",
        "dynamodb:Scan",
        "dynamodb:UpdateItem",
    },
    f"{CONNECTIONS}/index/UserIdIndex": {"dynamodb:Query"},
    ROOMS: {
        "dynamodb:BatchWriteItem",
        "dynamodb:DeleteItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
    },
    HISTORY: {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"},
    f"{MANAGEMENT_API}/DELETE/@connections/*": {"execute-api:ManageConnections"},
    f"{MANAGEMENT_API}/POST/@connections/*": {"execute-api:ManageConnections"},
    QUEUE: {"sqs:SendMessage"},
}


@pytest.mark.parametrize("events", [False, True], ids=["", "with server events"])
def test_the_policy_for_backends_allows_just_what_the_service_asks_of_aws(
    backend: Backend,
    resources: dict[str, Resources],
    monkeypatch: pytest.MonkeyPatch,
    events: bool,
) -> None:
    assert resources["prod"].backend_rights() == BACKEND
    assert resources["events"].backend_rights() == of_stage(with_events(BACKEND), "events")
    if events:
        backend.report_events(resources)
    settings = Settings.from_env()
    service = WebSocketService.from_settings(settings, index_lag=0)
    service.grant_room("chat_room_r1", "u1")
    for user in ("u1", "u2", "u3"):
        let_in(f"{user}=", user_id=user)
    for action in ("dashboard:join", "chat:join_room"):
        default.handler(message_event("u1=", action=action, roomId="r1"), None)
    backend.take_rights()  # of all that came before

    service.send_to_user("u1", "e", {})
    service.send_to_room("chat_room_r1", "e", {})
    service.history("user_u1")
    service.broadcast("e", {})
    service.send_to_connection("u1=", "e", {})
    service.grant_room("chat_room_r1", "u1")
    service.revoke_room("chat_room_r1", "u1")
    service.create_ticket("u1")
    service.revoke_user("u1")
    with monkeypatch.context() as patch:
        vanished = Receiver("vanished=", "2026-11-23T00:00:00.000Z")
        patch.setattr(Receivers, "of_user", lambda *_, **__: [vanished])  # closes while it is looked at
        service.disconnect_user("u2")
    service.close()
    queuing = WebSocketService.from_settings(settings, limits=SendLimits(direct=1))
    assert queuing.broadcast("e", {}).queued
    queuing.close()
    assert backend.take_rights() == (with_events(BACKEND) if events else BACKEND)

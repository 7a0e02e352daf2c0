"""Each role may do exactly what its function's code does: no right is missing, none is left over."""

from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from moto import mock_aws

from lambdas import connect, default, disconnect
from realtime import rooms
from realtime.store import Store
from tests.builders import SECRET, connect_event, disconnect_event, message_event, token
from tests.infra.resources import Resources

CONNECTIONS = "landinghub-websocket-connections-prod"
ROOMS = "landinghub-websocket-rooms-prod"

RIGHTS = {
    "Connect": {
        CONNECTIONS: {"dynamodb:PutItem"},
        "JwtSecret/Secret": {"secretsmanager:GetSecretValue"},
        "WebSocket/OnConnect/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
    "Disconnect": {
        CONNECTIONS: {"dynamodb:DeleteItem", "dynamodb:PutItem"},
        ROOMS: {"dynamodb:BatchWriteItem"},
        "WebSocket/OnDisconnect/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
    "Default": {
        CONNECTIONS: {"dynamodb:GetItem", "dynamodb:UpdateItem"},
        ROOMS: {"dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:PutItem"},
        "WebSocket/OnMessage/Logs": {"logs:CreateLogStream", "logs:PutLogEvents"},
    },
}


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
@pytest.mark.parametrize("function", RIGHTS)
def test_a_role_may_do_this_and_nothing_else(
    resources: dict[str, Resources], stage: str, function: str
) -> None:
    of_stage = {name.replace("-prod", f"-{stage}"): actions for name, actions in RIGHTS[function].items()}
    assert resources[stage].rights(function) == of_stage


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_every_function_is_in_the_list(resources: dict[str, Resources], stage: str) -> None:
    functions = resources[stage].of_type("AWS::Lambda::Function").values()
    names = {function["Properties"]["FunctionName"].rpartition("websocket")[2] for function in functions}
    assert names == set(RIGHTS)


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
    else:
        yield params.get("TableName") or params["SecretId"], operation


@pytest.fixture
def backend(
    resources: dict[str, Resources], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Store, Calls]]:
    """The tables of the template and its secret on moto, the functions cold, and what they call recorded."""
    prod = resources["prod"]
    with mock_aws():
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
        secrets: Any = plain.create_client("secretsmanager")
        secrets.create_secret(Name="JwtSecret/Secret", SecretString=SECRET)
        for key, value in _environment(prod).items():
            monkeypatch.setenv(key, value)

        calls = Calls()
        recording = botocore.session.get_session()
        recording.register("before-parameter-build.*.*", calls.record)
        monkeypatch.setattr("botocore.session.get_session", lambda: recording)
        functions = (connect, disconnect, default)
        for function in functions:
            function.parts.cache_clear()
        yield Store(dynamodb, CONNECTIONS, ROOMS), calls
        for function in functions:
            function.parts.cache_clear()


def _environment(prod: Resources) -> dict[str, str]:
    return {
        key: prod.name(value)
        for function in RIGHTS
        for key, value in prod.function(function)["Environment"]["Variables"].items()
    }


def let_in(connection_id: str, **claims: Any) -> None:
    assert connect.handler(connect_event(connection_id, token=token(**claims)), None) == {"statusCode": 200}


def connecting(store: Store) -> None:
    let_in("c1=")
    connect.handler(connect_event("c2=", token=token(secret="x" * 40)), None)  # the keys are read again


def disconnecting(store: Store) -> None:
    let_in("c1=")
    default.handler(message_event("c1=", action="dashboard:join"), None)
    disconnect.handler(disconnect_event("c1="), None)
    disconnect.handler(disconnect_event("never-seen="), None)


def talking(store: Store) -> None:
    let_in("c1=")
    store.grant(rooms.chat("r1"), "u1")
    for action in ("dashboard:join", "dashboard:refresh", "dashboard:leave", "ping", "no such action"):
        default.handler(message_event("c1=", action=action), None)
    for action in ("chat:join_room", "chat:leave_room"):
        default.handler(message_event("c1=", action=action, roomId="r1"), None)


@pytest.mark.parametrize(
    ("function", "module", "act"),
    [
        ("Connect", connect, connecting),
        ("Disconnect", disconnect, disconnecting),
        ("Default", default, talking),
    ],
)
def test_a_role_may_do_just_what_its_code_asks_of_aws(
    backend: tuple[Store, Calls],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    module: Any,
    act: Callable[[Store], None],
) -> None:
    store, calls = backend
    asked: dict[str, set[str]] = {}
    handler = module.handler

    def only_its_own(event: dict[str, Any], context: object) -> Any:
        calls.rights = {}
        answer = handler(event, context)
        for resource, actions in calls.rights.items():
            asked.setdefault(resource, set()).update(actions)
        return answer

    monkeypatch.setattr(module, "handler", only_its_own)
    act(store)
    logs = {name for name in RIGHTS[function] if name.endswith("/Logs")}
    assert asked == {name: actions for name, actions in RIGHTS[function].items() if name not in logs}

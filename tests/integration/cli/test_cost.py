"""`roomcast cost`: the model's quantities are those of the code, and CloudWatch's where a stage is named."""

import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest

from lambdas import connect, default, disconnect
from roomcast.functions.cold_start import wiring
from roomcast.rooms import Rooms
from roomcast.store import Store
from roomcast.store.dynamodb import Tables
from roomcast_dev.cli.pricing import Usage, count
from tests.builders import APP, chat, connect_event, disconnect_event, message_event, token
from tests.integration.cli.conftest import FakeCloudFormation
from tests.unit.cli.conftest import Roomcast

STACK = "landinghub-websocket-prod"
USERS = 240.0


@contextmanager
def units_used(dynamodb: Any) -> Iterator[dict[str, float]]:
    """Adds up what DynamoDB would bill for small items: 2 for a write of a transaction, 1 for any other.

    An item of the connections table that is made or deleted writes the index too; an eventually
    consistent Query is half a unit.
    """
    used = {"writes": 0.0, "reads": 0.0}

    def add(params: dict[str, Any], model: Any, **_: Any) -> None:
        operation = model.name
        if operation == "TransactWriteItems":
            for write in params["TransactItems"]:
                ((kind, body),) = write.items()
                used["writes"] += 2 + (kind == "Put" and body["TableName"] == "connections")
        elif operation == "BatchWriteItem":
            used["writes"] += sum(len(writes) for writes in params["RequestItems"].values())
        elif operation in ("PutItem", "UpdateItem", "DeleteItem"):
            index = "REMOVE userId" in params.get("UpdateExpression", "")
            used["writes"] += 1 + index
        elif operation == "Query":
            used["reads"] += 1 if params.get("ConsistentRead") else 0.5
        else:
            raise AssertionError(f"{operation} is not in the model")

    dynamodb.meta.events.register("provide-client-params.dynamodb", add)
    try:
        yield used
    finally:
        dynamodb.meta.events.unregister("provide-client-params.dynamodb", add)


@pytest.mark.usefixtures("functions")
def test_the_model_uses_what_the_functions_use(dynamodb: Any) -> None:
    # On the client whose calls are counted.
    wiring().store = Store(Tables(dynamodb, "connections", "rooms"), APP.rooms)
    wiring().store.size.last()  # which a warm function reads once a minute
    with units_used(dynamodb) as used:
        assert connect.handler(connect_event(token=token("u1")), None)["statusCode"] == 200
        connected = dict(used)
        default.handler(message_event(action="dashboard:join"), None)
        joined = dict(used)
        time.sleep(0.1)  # two actions within 50 ms are a burst, which costs one more write
        default.handler(message_event(action="ping"), None)
        pinged = dict(used)
        disconnect.handler(disconnect_event(), None)
    # One connection of two hours with one join, and no message.
    month = count(Usage(users=24 / 730, hours=2, messages_in=0, messages_out=0, ping=0))
    assert month["writes"]["connects"] == pytest.approx(connected["writes"])
    assert month["reads"]["connects"] == pytest.approx(connected["reads"])
    joins = month["writes"]["joins"] + month["writes"]["actions"]
    assert joins == pytest.approx(joined["writes"] - connected["writes"])
    assert pinged["writes"] - joined["writes"] == 1
    assert month["writes"]["disconnects"] == pytest.approx(used["writes"] - pinged["writes"])
    assert used["reads"] == connected["reads"]


@pytest.mark.usefixtures("functions")
def test_a_join_with_a_grant_uses_what_the_model_says(dynamodb: Any) -> None:
    quiet = Rooms(kind._replace(presence="none") for kind in APP.rooms.kinds[:-1])
    wiring().store = Store(Tables(dynamodb, "connections", "rooms"), quiet)
    wiring().store.members.grant(chat("r1"), "u1")
    wiring().store.size.last()
    connect.handler(connect_event(token=token("u1")), None)
    with units_used(dynamodb) as used:
        default.handler(message_event(action="rooms:join", rooms=[{"room": "chat_room_r1"}]), None)
    month = count(Usage(users=24 / 730, hours=2, messages_in=0, messages_out=0, ping=0, room_size=2))
    assert month["writes"]["joins"] + month["writes"]["actions"] == pytest.approx(used["writes"])


def make_functions(aws: botocore.session.Session, memory_mb: Mapping[str, int]) -> None:
    """Functions that moto knows the memory of."""
    iam: Any = aws.create_client("iam", region_name="us-east-1")
    lambda_: Any = aws.create_client("lambda", region_name="us-east-1")
    trust = {"Service": "lambda.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": trust, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    role = iam.create_role(RoleName="functions", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("connect.py", "")
    for name, megabytes in memory_mb.items():
        lambda_.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role,
            Handler="connect.handler",
            Code={"ZipFile": code.getvalue()},
            MemorySize=megabytes,
        )


@pytest.fixture
def measured(aws: botocore.session.Session, cloudformation: type[FakeCloudFormation]) -> None:
    """A month of a stage in CloudWatch, and numbers of others that must not be counted."""
    cloudformation.stacks[STACK] = {}
    cloudformation.resources = [
        ("AWS::ApiGatewayV2::Api", "abc123"),
        ("AWS::Lambda::Function", "on-connect"),
        ("AWS::Lambda::Function", "on-default"),
        ("AWS::Lambda::Function", "worker"),
        ("AWS::DynamoDB::Table", "connections"),
        ("AWS::SQS::Queue", "https://sqs.us-east-1.amazonaws.com/123456789012/fanout"),
        ("AWS::Logs::LogGroup", "/logs"),
        ("AWS::IAM::Role", "role"),
    ]
    make_functions(aws, {"on-connect": 512, "on-default": 512, "worker": 1769})
    cloudwatch: Any = aws.create_client("cloudwatch", region_name="us-east-1")
    now = datetime.now(UTC)

    def put(namespace: str, metric: str, value: float, days_ago: float = 1, **dimensions: str) -> None:
        cloudwatch.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {
                    "MetricName": metric,
                    "Timestamp": now - timedelta(days=days_ago),
                    "Value": value,
                    "Dimensions": [{"Name": name, "Value": text} for name, text in dimensions.items()],
                }
            ],
        )

    put("AWS/ApiGateway", "MessageCount", 3_000_000, ApiId="abc123")
    put("AWS/ApiGateway", "MessageCount", 1_000_000, days_ago=29, ApiId="abc123")
    put("AWS/ApiGateway", "MessageCount", 9_000_000, days_ago=40, ApiId="abc123")
    put("AWS/ApiGateway", "MessageCount", 9_000_000, ApiId="another")
    put("AWS/ApiGateway", "ConnectCount", 100_000, ApiId="abc123")
    put("AWS/Lambda", "Invocations", 500_000, FunctionName="on-connect")
    put("AWS/Lambda", "Invocations", 1_500_000, FunctionName="on-default")
    put("AWS/Lambda", "Duration", 20_000_000, FunctionName="on-default")
    put("AWS/Lambda", "Duration", 10_000_000, FunctionName="worker")
    put("AWS/DynamoDB", "ConsumedWriteCapacityUnits", 2_000_000, TableName="connections")
    put(
        "AWS/DynamoDB",
        "ConsumedWriteCapacityUnits",
        400_000,
        TableName="connections",
        GlobalSecondaryIndexName="UserIdIndex",
    )
    put("AWS/DynamoDB", "ConsumedReadCapacityUnits", 800_000, TableName="connections")
    put("AWS/SQS", "NumberOfEmptyReceives", 650_000, QueueName="fanout")
    put("AWS/Logs", "IncomingBytes", 2 * 1024**3, LogGroupName="/logs")


@pytest.mark.usefixtures("measured")
def test_a_stages_own_counts_of_30_days_are_priced(roomcast: Roomcast) -> None:
    """By hand: 4 M messages $4, 100,000 connects x 30 min $0.75, 2 M calls $0.40, 20,000 s x 0.5 GB $0.1333
    and 10,000 s of the worker x 1.7275 GB $0.2303 (aws.md 31), 2.4 M writes $1.50, 0.8 M reads $0.10, 650,000
    polls $0.26, a secret $0.40, its reads $0.50, 2 GB of logs $1, 2 M messages of 1 KB going out $0.1717:
    $9.4454.
    """
    answer = roomcast("cost", "--stage", "prod", "--connection-minutes", "30")
    assert (answer.code, answer.err) == (0, "")
    assert f"{STACK}: the last 30 days" in answer.out
    table = {
        line.split("|")[1].strip(): line.split("|")[5].strip()
        for line in answer.out.splitlines()
        if "| " in line
    }
    assert table == {
        "Component": "$ a month",
        "Connections": "0.75",
        "Messages": "4.00",
        "Lambda calls": "0.40",
        "Lambda time (arm64)": "0.36",
        "DynamoDB writes": "1.50",
        "DynamoDB reads": "0.10",
        "SQS": "0.26",
        "Secrets Manager": "0.40",
        "Secret reads": "0.50",
        "Logs": "1.00",
        "Data to the internet": "0.17",
        "A month": "9.45",
        "A year": "113.34",
    }


def test_a_stage_that_is_not_deployed_is_one_line(
    roomcast: Roomcast, cloudformation: type[FakeCloudFormation]
) -> None:
    answer = roomcast("cost", "--stage", "prod")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "no stack" in answer.err

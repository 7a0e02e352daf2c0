"""Server events on the developer's machine: the same code, MiniStack's EventBridge, the console's line."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from roomcast_dev.local.console import Console
from roomcast_dev.local.project import project_in
from roomcast_dev.testing import WebSocketStack, run_stack
from tests.infra.conftest import CONTEXT, ROOT

KINDS = ["connected", "disconnected", "joined"]


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def stack(output: io.StringIO) -> Iterator[WebSocketStack]:
    stages = {"local": CONTEXT["stages"]["local"] | {"server_events": KINDS}}
    project = replace(project_in(ROOT), context={"stage": "local", "stages": stages})
    with run_stack(project, console=Console(output)) as stack:
        yield stack


def test_a_rule_gets_them_and_the_console_shows_them(stack: WebSocketStack, output: io.StringIO) -> None:
    events, sqs = stack.client("events"), stack.client("sqs")
    url = sqs.create_queue(QueueName="follower")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventPattern=json.dumps({"source": ["roomcast.landinghub.local"]}))
    events.put_targets(Rule="all", Targets=[{"Id": "follower", "Arn": arn}])

    client = stack.connect("u1")
    client.send("dashboard:join")
    client.wait_for("dashboard:joined")
    assert stack.service.disconnect_user("u1") == 1

    found: list[tuple[str, int]] = []

    def followed() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            event = json.loads(message["Body"])
            found.append((event["detail-type"], event["detail"]["seq"]))
        return len(found) >= 3

    stack.eventually(followed)
    assert sorted(found) == [("connected", 1), ("disconnected", 3), ("joined", 2)]
    stack.eventually(lambda: "event joined userId=u1 seq=2" in output.getvalue())
    assert "event connected userId=u1 seq=1" in output.getvalue()

"""What a person reads while the local run goes on."""

import io
import re
from collections.abc import Iterator

import pytest

from roomcast_dev.local.console import Console
from roomcast_dev.local.project import project_in
from roomcast_dev.testing import WebSocketStack, run_stack
from tests.infra.conftest import ROOT


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def stack(output: io.StringIO) -> Iterator[WebSocketStack]:
    with run_stack(project_in(ROOT), console=Console(output)) as stack:
        output.truncate(0)
        output.seek(0)
        yield stack


def test_each_action_send_and_refusal_is_one_line(stack: WebSocketStack, output: io.StringIO) -> None:
    client = stack.connect("u1")
    for action in ("dashboard:join", "ping", "chat:join_room", "nonsense"):
        client.send(action, roomId="42")
    client.wait_for("error")
    stack.service.send_to_room("dashboard_user_u1", "dashboard:update", {"secret": "body"})
    client.wait_for("dashboard:update")
    stack.eventually(lambda: "send " in output.getvalue())
    shown = [re.sub(r"\d+ ms", "", line[13:]) for line in output.getvalue().splitlines()]
    said = sorted(re.sub(r"\S{15}= ", "", line).split() for line in shown)
    assert said == sorted(
        line.split()
        for line in (
            "$connect 200",
            "$default 200 dashboard:join",
            "$default 200 ping",
            "$default 200 chat:join_room chat:error forbidden",
            "$default 200 nonsense error unknown_action",
            "send 1 connection dashboard:update to dashboard_user_u1",
        )
    )
    assert "body" not in output.getvalue()

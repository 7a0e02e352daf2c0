"""`roomcast smoke` against the running stack: it passes, or says which step did not work."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from roomcast_dev.cli import smoke
from roomcast_dev.local.faults import ManagementFault
from roomcast_dev.testing import WebSocketStack
from tests.unit.cli.conftest import Answer
from tests.unit.cli.conftest import Roomcast as InProcess
from tests.unit.cli.conftest import own_directory as own_directory
from tests.unit.cli.conftest import roomcast as in_process  # noqa: F401

STEPS = [
    *("connect with a token", "connect with a ticket", "join a room", "a send to the user"),
    *("a send to the room", "a send to everybody", "leave the room", "no row is left"),
]


def test_every_step_of_a_sound_stage_is_ok(
    websocket_stack: WebSocketStack, roomcast: Callable[..., str]
) -> None:
    bystander = websocket_stack.connect("u1")
    lines = roomcast("smoke").splitlines()
    assert [re.sub(r"  \d+\.\d\d s$", "", line) for line in lines] == [f"ok  {step}" for step in STEPS]
    assert bystander.wait_for("roomcast:smoke")["data"].keys() == {"smoke"}
    names = ("WEBSOCKET_CONNECTIONS_TABLE", "WEBSOCKET_ROOMS_TABLE")
    left = [row for name in names for row in websocket_stack.rows(websocket_stack.environment[name])]
    assert not any("roomcast-smoke" in str(row) for row in left)


def test_nobody_else_is_told_where_it_is_asked_not_to(
    websocket_stack: WebSocketStack, roomcast: Callable[..., str]
) -> None:
    bystander = websocket_stack.connect("u1")
    assert "everybody" not in roomcast("smoke", "--no-broadcast")
    bystander.expect_silence()


@pytest.fixture
def failing(in_process: InProcess, env_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:  # noqa: F811
    """Run the command in this process, where its patience is short."""
    monkeypatch.setattr(smoke, "_GONE_SECONDS", 1.0)

    def run(*arguments: str) -> Answer:
        answer = in_process("smoke", *arguments, "--env-file", str(env_file))
        assert (answer.code, answer.err.count("\n")) == (1, 1), answer
        return answer

    return run


def test_a_refused_connection(websocket_stack: WebSocketStack, failing: Callable[..., Answer]) -> None:
    websocket_stack.faults.refuse_connects = 401
    answer = failing()
    assert answer.out == "failed  connect with a token\n"
    assert "local stage failed the smoke test" in answer.err
    assert "refused the connection: HTTP 401" in answer.err


def test_posts_that_the_gateway_refuses(
    websocket_stack: WebSocketStack, failing: Callable[..., Answer]
) -> None:
    websocket_stack.faults.management = [ManagementFault(status=403)]
    answer = failing()
    assert answer.out.splitlines()[-1] == "failed  a send to the user"


def test_a_row_that_is_left(websocket_stack: WebSocketStack, failing: Callable[..., Answer]) -> None:
    websocket_stack.faults.withhold_disconnect = True
    answer = failing()
    assert answer.out.splitlines()[-1] == "failed  no row is left"
    assert "1 s after the close these rows are left: " in answer.err

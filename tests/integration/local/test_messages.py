"""Messages: which route gets them, what comes back, and that the connection stays open."""

from __future__ import annotations

import json
import time

import pytest

from roomcast_dev.testing import Client, WebSocketStack


def error_of(client: Client, connection_id: str) -> str:
    """The message of the gateway's own error frame."""
    frame = client.receive()
    assert set(frame) == {"message", "connectionId", "requestId"}
    assert frame["connectionId"] == connection_id
    assert frame["requestId"].endswith("=")
    message: str = frame["message"]
    return message


def alive(client: Client) -> None:
    client.websocket.send('{"n": "still here"}')
    assert client.receive()["n"] == "still here"


def route_of(client: Client, body: str) -> str:
    client.websocket.send(body)
    route: str = client.receive()["requestContext"]["routeKey"]
    return route


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[1]",
        "17",
        '{"action": "unknown"}',
        '{"action": null}',
        '{"action": {"a": 1}}',
        '{"other": "silent"}',
        '{"action": "$connect"}',
        '{"action": "$disconnect"}',
        "[" * 5000,
        '{"n": NaN}',
    ],
)
def test_what_matches_no_route_goes_to_default(plain: WebSocketStack, body: str) -> None:
    assert route_of(plain.connect(), body) == "$default"


def test_the_selection_expression_may_go_deeper(guarded: WebSocketStack) -> None:
    client = guarded.connect(query={"key": "k"})
    client.websocket.send('{"meta": {"kind": "echo"}}')
    assert client.receive()["routeKey"] == "echo"


def test_a_body_comes_back_only_over_a_route_response(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("silent")
    client.expect_silence()
    client.send("anything")
    assert client.receive()["requestContext"]["routeKey"] == "$default"


def test_a_function_that_answers_no_body_sends_nothing(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("x", do="empty")
    client.expect_silence()


def test_one_frame_an_inbound_message(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("x", do="huge", bytes=100_000)
    assert len(client.websocket.recv(timeout=5)) == 100_000
    client.expect_silence()


def test_a_mock_route_answers_by_itself(guarded: WebSocketStack) -> None:
    client = guarded.connect(query={"key": "k"})
    client.websocket.send('{"meta": {"kind": "ping"}}')
    assert client.receive() == {"pong": guarded.connection_ids()[0]}


def test_a_mock_route_without_a_route_response_says_nothing(guarded: WebSocketStack) -> None:
    client = guarded.connect(query={"key": "k"})
    client.websocket.send('{"meta": {"kind": "quiet"}}')
    client.expect_silence()


@pytest.mark.parametrize("do", ["raise", "exit", "sys.exit", "malformed", "nothing", "object"])
def test_a_function_that_fails_gives_internal_server_error(plain: WebSocketStack, do: str) -> None:
    client = plain.connect()
    client.send("x", do=do)
    assert error_of(client, plain.connection_ids()[0]) == "Internal server error"
    alive(client)


def test_the_error_comes_without_a_route_response_too(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("silent", do="raise")
    assert error_of(client, plain.connection_ids()[0]) == "Internal server error"


def test_code_that_cannot_be_imported_gives_internal_server_error(plain: WebSocketStack) -> None:
    client = plain.connect()
    for _ in range(2):
        client.send("broken")
        assert error_of(client, plain.connection_ids()[0]) == "Internal server error"
    alive(client)


def test_a_function_over_its_timeout_gives_internal_server_error(plain: WebSocketStack) -> None:
    client = plain.connect()
    started = time.monotonic()
    client.send("x", do="sleep", seconds=30)
    assert error_of(client, plain.connection_ids()[0]) == "Internal server error"
    assert 1.9 < time.monotonic() - started < 4
    alive(client)


def test_an_integration_over_its_timeout_gives_endpoint_request_timed_out(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("impatient", do="sleep", seconds=1.5)
    assert error_of(client, plain.connection_ids()[0]) == "Endpoint request timed out"
    alive(client)


def test_no_route_and_no_default_gives_forbidden(guarded: WebSocketStack) -> None:
    client = guarded.connect(query={"key": "k"})
    client.websocket.send('{"meta": {"kind": "unknown"}}')
    assert error_of(client, guarded.connection_ids()[0]) == "Forbidden"


def test_messages_of_one_connection_run_at_the_same_time(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("x", do="sleep", seconds=1.0, n="slow")
    client.send("x", n="fast")
    assert [client.receive()["n"], client.receive()["n"]] == ["fast", "slow"]


def test_a_message_may_come_in_fragments(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.websocket.send(iter(['{"action":', '"x",', '"n": 5}']))
    assert client.receive()["n"] == 5


def test_text_outside_the_basic_plane_comes_through(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.websocket.send(json.dumps({"n": "żółw 🐢"}, ensure_ascii=False))
    assert client.receive()["n"] == "żółw 🐢"

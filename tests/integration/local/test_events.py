"""Events that a Lambda gets: which keys each of the three kinds has, and which it has not."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from roomcast_dev.testing import WebSocketStack

ALWAYS = {
    "routeKey",
    "eventType",
    "extendedRequestId",
    "requestTime",
    "messageDirection",
    "stage",
    "connectedAt",
    "requestTimeEpoch",
    "identity",
    "requestId",
    "domainName",
    "connectionId",
    "apiId",
}


def kept(stack: WebSocketStack, connection_id: str, event_type: str) -> dict[str, Any]:
    """The event that a handler wrote down."""

    def find() -> Any:
        rows = stack.rows(stack.stack.outputs["EventsTable"])
        return next(
            (
                row["event"]["S"]
                for row in rows
                if (row["connectionId"]["S"], row["eventType"]["S"]) == (connection_id, event_type)
            ),
            None,
        )

    event: dict[str, Any] = json.loads(stack.eventually(find))
    return event


def test_every_event_says_where_it_comes_from(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("anything")
    context = client.receive()["requestContext"]
    assert set(context) == ALWAYS | {"messageId"}
    assert context["stage"] == "v1"
    assert context["messageDirection"] == "IN"
    assert context["requestId"] == context["extendedRequestId"]
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["requestTime"])
    assert abs(context["requestTimeEpoch"] / 1000 - time.time()) < 10
    assert context["identity"]["sourceIp"] in {"127.0.0.1", "::1"}
    assert context["identity"]["userAgent"].startswith("Python")


def test_connected_at_is_the_time_of_the_connect_on_every_event(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("anything")
    context = client.receive()["requestContext"]
    connected_at = kept(plain, context["connectionId"], "CONNECT")["requestContext"]["connectedAt"]
    assert context["connectedAt"] == connected_at
    client.close()
    last = kept(plain, context["connectionId"], "DISCONNECT")["requestContext"]
    assert last["connectedAt"] == connected_at


def test_connect_has_headers_and_query_but_no_body(plain: WebSocketStack) -> None:
    client = plain.connect(query={"name": "a b", "token": "x=y"})
    event = kept(plain, plain.connection_ids()[0], "CONNECT")
    assert set(event) == {
        "headers",
        "multiValueHeaders",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "requestContext",
        "isBase64Encoded",
    }
    assert set(event["requestContext"]) == ALWAYS
    assert event["requestContext"]["routeKey"] == "$connect"
    assert event["queryStringParameters"] == {"name": "a b", "token": "x=y"}
    assert event["multiValueQueryStringParameters"] == {"name": ["a b"], "token": ["x=y"]}
    assert event["headers"]["Sec-WebSocket-Version"] == "13"
    assert event["multiValueHeaders"]["Sec-WebSocket-Version"] == ["13"]
    assert "Connection" not in event["headers"]
    client.close()


def test_connect_without_a_query_has_no_query_keys(plain: WebSocketStack) -> None:
    plain.connect()
    event = kept(plain, plain.connection_ids()[0], "CONNECT")
    assert set(event) == {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}


def test_message_has_a_body_but_no_headers_and_no_query(plain: WebSocketStack) -> None:
    client = plain.connect(query={"a": "b"})
    client.websocket.send('{"action": "x", "text": "żółw 🐢"}')
    event = client.receive()
    del event["n"]  # the handler's own
    assert set(event) == {"requestContext", "body", "isBase64Encoded"}
    assert event["requestContext"]["eventType"] == "MESSAGE"
    assert event["requestContext"]["messageId"]
    assert event["body"] == '{"action": "x", "text": "żółw 🐢"}'
    assert event["isBase64Encoded"] is False


def test_disconnect_has_code_and_reason_and_stub_headers(plain: WebSocketStack) -> None:
    client = plain.connect()
    connection_id = plain.connection_ids()[0]
    client.close(4001, "going home")
    event = kept(plain, connection_id, "DISCONNECT")
    context = event["requestContext"]
    assert set(context) == ALWAYS | {"disconnectStatusCode", "disconnectReason"}
    assert context["disconnectStatusCode"] == 4001
    assert context["disconnectReason"] == "going home"
    assert set(event["headers"]) == {"Host", "x-api-key", "X-Forwarded-For", "x-restapi"}
    assert "queryStringParameters" not in event


def test_disconnect_without_a_code_is_1005(plain: WebSocketStack) -> None:
    client = plain.connect()
    connection_id = plain.connection_ids()[0]
    client.websocket.socket.sendall(b"\x88\x80\x00\x00\x00\x00")  # a close frame with no payload
    context = kept(plain, connection_id, "DISCONNECT")["requestContext"]
    assert context["disconnectStatusCode"] == 1005


def test_a_lost_connection_is_1006(plain: WebSocketStack) -> None:
    plain.connect()
    connection_id = plain.connection_ids()[0]
    plain.drop(connection_id)
    context = kept(plain, connection_id, "DISCONNECT")["requestContext"]
    assert context["disconnectStatusCode"] == 1006
    plain.drop(connection_id)  # it has ended: there is nothing to cut


def test_connection_ids_look_like_those_of_aws(plain: WebSocketStack) -> None:
    plain.connect()
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", plain.connection_ids()[0])

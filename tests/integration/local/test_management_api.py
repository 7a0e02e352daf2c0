"""Management API (`@connections`), asked with boto3 as a backend does.

What any endpoint can be asked, AWS's too, is a row of `tests/conformance`.
"""

from __future__ import annotations

import http.client
import socket
import time
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from roomcast_dev.testing import WebSocketStack


def management(stack: WebSocketStack, url: str | None = None) -> Any:
    """A boto3 client of the stack's management API."""
    session = boto3.Session("test", "test", region_name="us-east-1")
    return session.client(
        "apigatewaymanagementapi",
        endpoint_url=url or stack.stack.callback_url,
        config=Config(retries={"total_max_attempts": 1}),
    )


def error_of(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as failure:
        call(**arguments)
    response = failure.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_post_reaches_the_client(plain: WebSocketStack) -> None:
    client = plain.connect()
    answer = management(plain).post_to_connection(
        ConnectionId=plain.connection_ids()[0], Data='{"text": "żółw"}'.encode()
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert client.receive() == {"text": "żółw"}


@pytest.mark.parametrize("call", ["post_to_connection", "get_connection", "delete_connection"])
def test_a_url_without_the_stage_is_forbidden(plain: WebSocketStack, call: str) -> None:
    """AWS reads `@connections` as the stage then, and no stage has that name."""
    client = plain.connect()
    arguments = {"Data": b"x"} if call == "post_to_connection" else {}
    method = getattr(management(plain, f"http://localhost:{plain.stack.port}"), call)
    connection_id = plain.connection_ids()[0]
    assert error_of(method, ConnectionId=connection_id, **arguments) == ("ForbiddenException", 403)
    client.expect_silence()


def test_get_connection_is_readable_by_boto3(plain: WebSocketStack) -> None:
    client = plain.connect()
    found = management(plain).get_connection(ConnectionId=plain.connection_ids()[0])
    now = datetime.now(UTC)
    assert abs((now - found["ConnectedAt"]).total_seconds()) < 10
    assert abs((now - found["LastActiveAt"]).total_seconds()) < 10
    assert found["Identity"]["SourceIp"] in {"127.0.0.1", "::1"}
    assert found["Identity"]["UserAgent"].startswith("Python")
    client.close()


def test_last_active_moves_with_a_message(plain: WebSocketStack) -> None:
    client = plain.connect()
    api, connection_id = management(plain), plain.connection_ids()[0]
    before = api.get_connection(ConnectionId=connection_id)["LastActiveAt"]
    time.sleep(0.05)
    client.send("silent")
    plain.eventually(lambda: api.get_connection(ConnectionId=connection_id)["LastActiveAt"] > before)


def test_delete_closes_the_connection_and_the_next_call_is_gone(plain: WebSocketStack) -> None:
    client = plain.connect()
    api, connection_id = management(plain), plain.connection_ids()[0]
    answer = api.delete_connection(ConnectionId=connection_id)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert client.wait_closed()[0] == 1000
    assert error_of(api.delete_connection, ConnectionId=connection_id) == ("GoneException", 410)


def test_a_payload_over_128_kb_is_too_large(plain: WebSocketStack) -> None:
    client = plain.connect()
    call, connection_id = management(plain).post_to_connection, plain.connection_ids()[0]
    call(ConnectionId=connection_id, Data=b"x" * 131072)
    assert len(client.websocket.recv(timeout=5)) == 131072
    too_large = error_of(call, ConnectionId=connection_id, Data=b"x" * 131073)
    assert too_large == ("PayloadTooLargeException", 413)


def test_a_client_that_does_not_read_fills_its_buffer_and_posts_get_429(plain: WebSocketStack) -> None:
    with socket.create_connection(("127.0.0.1", plain.stack.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(
            b"GET /v1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        connection_id = plain.eventually(plain.connection_ids)[0]
        call = management(plain).post_to_connection

        def until_refused() -> tuple[str, int]:
            for _ in range(200):
                try:
                    call(ConnectionId=connection_id, Data=b"x" * 131072)
                except ClientError as error:
                    return error.response["Error"]["Code"], error.response["ResponseMetadata"][
                        "HTTPStatusCode"
                    ]
            raise AssertionError("never refused")

        assert until_refused() == ("LimitExceededException", 429)


def test_a_page_that_is_not_there_is_404(plain: WebSocketStack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", plain.stack.port, timeout=5)
    connection.request("GET", "/nothing")
    assert connection.getresponse().status == 404
    connection.close()

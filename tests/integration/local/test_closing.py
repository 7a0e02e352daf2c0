"""Close codes: what a client sees when the gateway ends the connection."""

from __future__ import annotations

import contextlib

import pytest
from websockets.exceptions import ConnectionClosed

from roomcast_dev.testing import WebSocketStack
from tests.integration.local.test_events import kept
from tests.integration.local.test_management_api import management

KB = 1024


def test_delete_connection_closes_with_1000(plain: WebSocketStack) -> None:
    client = plain.connect()
    connection_id = plain.connection_ids()[0]
    management(plain).delete_connection(ConnectionId=connection_id)
    assert client.wait_closed() == (1000, "Connection Closed Normally")
    context = kept(plain, connection_id, "DISCONNECT")["requestContext"]
    assert context["disconnectStatusCode"] == 1000


def test_a_binary_frame_closes_with_1003(plain: WebSocketStack) -> None:
    client = plain.connect()
    connection_id = plain.connection_ids()[0]
    client.websocket.send(b"\x00\x01")
    assert client.wait_closed()[0] == 1003
    assert kept(plain, connection_id, "DISCONNECT")["requestContext"]["disconnectStatusCode"] == 1003


def test_a_frame_of_32_kb_is_taken_and_one_byte_more_closes_with_1009(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.websocket.send("x" * (32 * KB))
    assert len(client.receive()["body"]) == 32 * KB
    client.websocket.send("x" * (32 * KB + 1))
    assert client.wait_closed()[0] == 1009


def test_a_message_of_128_kb_is_taken_and_more_closes_with_1009(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.websocket.send(iter(["x" * (32 * KB)] * 4))
    assert len(client.receive()["body"]) == 128 * KB
    with contextlib.suppress(ConnectionClosed):  # the close may come before the last fragment has left
        client.websocket.send(iter([*["x" * (32 * KB)] * 4, "x"]))
    assert client.wait_closed()[0] == 1009


def test_text_that_is_not_utf_8_closes_with_1007(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.websocket.send(b"\xff\xfe", text=True)
    assert client.wait_closed()[0] == 1007


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_clients_close_code_is_echoed(plain: WebSocketStack, code: int) -> None:
    client = plain.connect()
    client.close(code)
    closed = client.websocket.protocol.close_rcvd
    assert closed is not None
    assert closed.code == code

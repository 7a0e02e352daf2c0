"""Close codes: what a client sees when the gateway ends the connection.

What any endpoint can be asked, AWS's too, is a row of `tests/conformance`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import pytest
from websockets.exceptions import ConnectionClosed

from roomcast_dev.testing import WebSocketStack
from tests.integration.local.test_events import kept
from tests.integration.local.test_handshake import upgrade_request
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


def frame(opcode: int, size: int) -> bytes:
    """One whole frame from a client, masked with zeros."""
    length = struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
    return bytes([0x80 | opcode]) + length + bytes(4) + b"x" * size


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(1, 66 * KB), 1009),
        (frame(1, 8192 * KB), 1009),
        (frame(2, 300) + frame(1, 30 * KB) * 100, 1003),
        (frame(9, 300) + frame(1, 30 * KB) * 100, 1002),  # a control frame may hold 125 bytes
    ],
    ids=["66 KB", "8 MB", "binary", "control frame"],
)
def test_a_client_that_goes_on_sending_still_gets_the_close_frame(
    plain: WebSocketStack, sent: bytes, code: int
) -> None:
    """As a browser does: it reads the close frame when it has sent what it had to send."""
    with socket.create_connection(("127.0.0.1", plain.stack.port), timeout=10) as sock:
        sock.sendall(upgrade_request("/v1"))
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(65536)
        sock.sendall(sent)
        time.sleep(0.1)
        received = received.partition(b"\r\n\r\n")[2]
        while len(received) < 4 and (data := sock.recv(65536)):
            received += data
    assert received[0] == 0x88
    assert struct.unpack_from("!H", received, 2)[0] == code


def test_a_client_that_never_ends_the_connection_is_cut(plain: WebSocketStack) -> None:
    with socket.create_connection(("127.0.0.1", plain.stack.port), timeout=10) as sock:
        sock.sendall(upgrade_request("/v1") + frame(1, 66 * KB))
        started = time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() - started < 8:
                sock.sendall(frame(1, KB))
                time.sleep(0.05)
    assert 1.5 < time.monotonic() - started < 4

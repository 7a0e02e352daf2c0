"""Handshake: which status a client sees, and that nothing is open before `$connect` has answered.

What any endpoint can be asked, AWS's too, is a row of `tests/conformance`.
"""

from __future__ import annotations

import http.client
import io
import socket

import pytest
from websockets.exceptions import InvalidStatus, NegotiationError

from roomcast_dev.testing import WebSocketStack


def refused(stack: WebSocketStack, **query: str) -> int:
    """The status that a refused handshake answers with."""
    with pytest.raises(InvalidStatus) as refusal:
        stack.connect(query=query)
    return refusal.value.response.status_code


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_status_of_a_refusal_is_the_functions_own(plain: WebSocketStack, status: int) -> None:
    assert refused(plain, answer=str(status)) == status
    assert plain.connection_ids() == []


def test_a_redirect_is_a_refusal_too(plain: WebSocketStack) -> None:
    answer = handshake(plain, "/v1?answer=301")
    assert answer.status == 301


@pytest.mark.parametrize("answer", ["raise", "malformed", "nothing"])
def test_a_connect_function_that_raises_or_answers_nonsense_is_502(
    plain: WebSocketStack, answer: str
) -> None:
    assert refused(plain, answer=answer) == 502


def test_posting_from_inside_connect_gives_410(plain: WebSocketStack) -> None:
    assert refused(plain, answer="post") == 410


def test_the_subprotocol_that_connect_answers_with_is_sent_back(plain: WebSocketStack) -> None:
    client = plain.connect(query={"answer": "subprotocol"}, options={"subprotocols": ["chat.v1", "chat.v2"]})
    assert client.websocket.subprotocol == "chat.v2"


def test_a_subprotocol_that_was_not_offered_breaks_the_handshake(plain: WebSocketStack) -> None:
    with pytest.raises(NegotiationError):
        plain.connect(query={"answer": "subprotocol"})


def test_without_an_answer_no_subprotocol_is_chosen(plain: WebSocketStack) -> None:
    client = plain.connect(options={"subprotocols": ["chat.v1"]})
    assert client.websocket.subprotocol is None


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
def test_the_stage_and_the_root_take_clients(plain: WebSocketStack, path: str) -> None:
    assert handshake(plain, path).status == 101


@pytest.mark.parametrize("path", ["/v2", "/v1/more", "//"])
def test_any_other_path_is_403(plain: WebSocketStack, path: str) -> None:
    assert handshake(plain, path).status == 403


@pytest.mark.parametrize("path", ["/{}", "/v1/{}", "/v1/x?token={}"])
def test_a_token_in_a_refused_path_is_not_shown(
    plain: WebSocketStack, output: io.StringIO, path: str
) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ1MSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
    before = len(output.getvalue())
    assert handshake(plain, path.format(token)).status == 403
    shown = plain.eventually(lambda: output.getvalue()[before:])
    assert "403" in shown
    assert "eyJ" not in shown


@pytest.mark.parametrize("version", ["8", "12", "14", "x"])
def test_another_websocket_version_is_426_and_the_header_names_ours(
    plain: WebSocketStack, version: str
) -> None:
    response = handshake(plain, "/v1", version=version)
    assert response.status == 426
    assert response.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("POST /v1 HTTP/1.1", 404),
        ("PUT /v1 HTTP/1.1", 404),
        ("HEAD /v1 HTTP/1.1", 404),
        ("GET /v1 HTTP/1.0", 404),
        ("GET /v1 HTTP/2.0", 505),
    ],
)
def test_only_a_get_of_http_1_1_upgrades(plain: WebSocketStack, start: str, status: int) -> None:
    assert handshake(plain, "/v1", start=start).status == status
    assert plain.connection_ids() == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_offer_of_another_protocol_is_ignored(plain: WebSocketStack, method: str) -> None:
    """As curl --http2 and Java's HttpClient offer h2c with each first request."""
    body = b"{}" if method == "POST" else b""
    offer = (
        f"{method} /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        f"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection(("127.0.0.1", plain.stack.port), timeout=10) as sock:
        for _ in range(2):  # and the connection serves the next request
            sock.sendall(offer)
            response = http.client.HTTPResponse(sock, method=method)
            response.begin()
            assert (response.status, response.read()) == (404, b'{"message": "Not Found"}')


def test_ministack_ignores_the_offer_too(plain: WebSocketStack) -> None:
    connection = http.client.HTTPConnection(plain.stack.ministack.url.removeprefix("http://"), timeout=10)
    headers = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAAP__",
    }
    connection.request("GET", "/_ministack/health", headers=headers)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    "shape",
    [
        "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate\r\nOrigin: http://x",
        "connection: upgrade\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits",
    ],
    ids=["Firefox", "wscat"],
)
def test_the_ways_that_clients_ask_are_taken_and_no_extension_is_agreed(
    plain: WebSocketStack, shape: str
) -> None:
    with socket.create_connection(("127.0.0.1", plain.stack.port), timeout=10) as sock:
        sock.sendall(upgrade_request("/v1").replace(b"Connection: Upgrade", shape.encode()))
        head = sock.recv(65536)
    assert head.startswith(b"HTTP/1.1 101")
    assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
    assert b"sec-websocket-extensions" not in head.lower()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_listens_on_both_loopback_addresses_alone(plain: WebSocketStack, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.connect((host, plain.stack.port))
        assert probe.getpeername()[0] == host
    with socket.socket() as outside, pytest.raises(OSError, match="refused"):
        outside.connect(("127.0.0.2", plain.stack.port))


def test_a_message_sent_with_the_handshake_is_not_lost(plain: WebSocketStack) -> None:
    mask = b"\x00\x00\x00\x00"
    text = b'{"n": 7}'
    frame = bytes([0x81, 0x80 | len(text)]) + mask + text
    with socket.create_connection(("127.0.0.1", plain.stack.port), timeout=5) as sock:
        sock.sendall(upgrade_request("/v1?answer=slow") + frame)
        received = b""
        while b'"n": 7}' not in received:
            data = sock.recv(65536)
            assert data, received
            received += data
    assert received.startswith(b"HTTP/1.1 101")


def test_a_client_that_leaves_during_connect_is_cleaned_up(plain: WebSocketStack) -> None:
    with socket.create_connection(("127.0.0.1", plain.stack.port)) as sock:
        sock.sendall(upgrade_request("/v1?answer=slow&marker=left"))
    table = plain.stack.outputs["EventsTable"]

    def events() -> set[str]:
        rows = plain.rows(table)
        connection_ids = {
            r["connectionId"]["S"]
            for r in rows
            if "marker=left" in r["event"]["S"] or '"marker": "left"' in r["event"]["S"]
        }
        return {r["eventType"]["S"] for r in rows if r["connectionId"]["S"] in connection_ids}

    plain.eventually(lambda: events() == {"CONNECT", "DISCONNECT"})
    assert plain.connection_ids() == []


def upgrade_request(path: str, version: str = "13", start: str = "") -> bytes:
    """A handshake; `start` replaces its first line."""
    return (
        f"{start or f'GET {path} HTTP/1.1'}\r\n"
        "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n\r\n"
    ).encode()


def handshake(
    stack: WebSocketStack, path: str, version: str = "13", start: str = ""
) -> http.client.HTTPResponse:
    """Ask for a WebSocket by hand, and leave."""
    with socket.create_connection(("127.0.0.1", stack.stack.port), timeout=10) as sock:
        sock.sendall(upgrade_request(path, version, start))
        response = http.client.HTTPResponse(sock)
        response.begin()
        return response

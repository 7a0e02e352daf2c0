"""Bytes on the wire: HTTP requests and WebSocket frames as callbacks, nothing of API Gateway.

One `asyncio.Protocol` parses HTTP with httptools and hands an Upgrade to `WebSocket`, which drives the
Sans-I/O protocol of `websockets`: it sees frames, so the limit on a frame and the limit on a message can
be told apart.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol, cast

import httptools
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as HandshakeRequest
from websockets.protocol import State
from websockets.server import ServerProtocol

from roomcast_dev.local.errors import PortInUseError
from roomcast_dev.local.wire.messages import Request, Response

MAX_MESSAGE = 128 * 1024  # API Gateway quota: WebSocket message payload
MAX_FRAME = 32 * 1024  # API Gateway quota: WebSocket frame
MAX_BODY = 8 * 1024 * 1024  # ours: above Lambda's 6 MB answer and SQS's 1 MiB, below what hurts
BACKLOG = 4096  # ours: handshakes that may wait, as when a thousand browsers reconnect at once
CLOSE_TIMEOUT = 2.0  # ours: seconds a client gets to answer a close frame

RESET = Response(0)  # an answer that is none: the connection is cut

Reply = Callable[[Response], None]
OnRequest = Callable[[Request, Reply], None]


class Listener:
    """A server on loopback and the connections that it has taken."""

    def __init__(self, on_request: OnRequest, on_upgrade: Callable[[Upgrade], None] | None = None) -> None:
        self._on_request = on_request
        self._on_upgrade = on_upgrade
        self._servers: list[asyncio.Server] = []
        self.transports: set[asyncio.Transport] = set()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Take connections from sockets that listen already."""
        for sock in sockets:
            self._servers.append(
                await asyncio.get_running_loop().create_server(self._protocol, sock=sock, backlog=BACKLOG)
            )

    def close(self) -> None:
        """Take no more connections, and cut those that are open."""
        for server in self._servers:
            server.close()
        for transport in list(self.transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until every connection has been cut."""
        while self.transports:
            await asyncio.sleep(0)

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(self._on_request, self._on_upgrade, self.transports)


class Upgrade:
    """A WebSocket handshake that waits for a decision: `accept` or `refuse` it, once."""

    __slots__ = ("_protocol", "_rest", "_switching", "headers", "request", "subprotocols")

    def __init__(
        self,
        request: Request,
        headers: list[tuple[str, str]],
        protocol: HttpProtocol,
        switching: bytes,
        subprotocols: list[str],
        rest: bytes,
    ) -> None:
        self.request = request
        self.headers = headers
        """As they came: spelling, order and repetitions."""
        self.subprotocols = subprotocols
        """What the client offers in `Sec-WebSocket-Protocol`."""
        self._protocol = protocol
        self._switching = switching
        self._rest = rest

    @property
    def lost(self) -> bool:
        """Whether the client went away while it waited."""
        return self._protocol.transport is None

    def accept(self, events: WebSocketEvents, subprotocol: str | None = None) -> WebSocket | None:
        """Open the WebSocket; `None` if the client is gone."""
        transport = self._protocol.transport
        if transport is None:
            return None
        head = self._switching
        if subprotocol is not None:
            head = head[:-2] + f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        websocket = WebSocket(transport, events, self._protocol.transports)
        transport.set_protocol(websocket)
        transport.write(head)
        early, self._protocol.early = self._protocol.early, bytearray()
        if self._rest or early:
            websocket.data_received(self._rest + bytes(early))
        return websocket

    def refuse(self, response: Response) -> None:
        """Answer the handshake with an HTTP response and end the connection."""
        self._protocol.refuse(response)


class WebSocketEvents(Protocol):
    """What the owner of a `WebSocket` is told."""

    def on_text(self, text: str) -> None: ...

    def on_close(self, code: int, reason: str) -> None: ...


class HttpProtocol(asyncio.Protocol):
    """Parses requests, answers them in order, hands Upgrades on."""

    def __init__(
        self,
        on_request: OnRequest,
        on_upgrade: Callable[[Upgrade], None] | None,
        transports: set[asyncio.Transport],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.transports = transports
        self.early = bytearray()
        self._on_request = on_request
        self._on_upgrade = on_upgrade
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._upgrading = False
        self._upgrade_request: Request | None = None
        self._raw_headers: list[tuple[str, str]] = []
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._size = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transports.add(self.transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.transport is not None:
            self.transports.discard(self.transport)
        self.transport = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._upgrading:
            self.early += data
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.refuse(Response(400))

    # httptools

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.transport is not None and any(name.lower() == "expect" for name, _ in self._headers):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MAX_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        if "://" in path:  # absolute form, as a proxy would send it
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        peer = self.transport.get_extra_info("peername") if self.transport else None
        request = Request(
            method=self._parser.get_method().decode(),
            path=path,
            query_string=query,
            headers={name.lower(): value for name, value in self._headers},
            body=b"".join(self._body),
            source_ip=peer[0] if peer else "",
        )
        too_large, self._raw_headers = self._size > MAX_BODY, self._headers
        upgrade = self._parser.should_upgrade()
        keep_alive = self._parser.should_keep_alive()
        self._reset()
        if upgrade:
            self._upgrade_request = request
        elif too_large:
            self.refuse(Response(413))
        elif self._busy:
            self._waiting.append((request, keep_alive))
        else:
            self._start(request, keep_alive)

    # Requests

    def _start(self, request: Request, keep_alive: bool) -> None:
        self._busy = True

        def reply(response: Response) -> None:
            if self.transport is None:
                return
            if response is RESET:
                self.transport.abort()
                return
            self.transport.write(_serialize(response, keep_alive, head=request.method == "HEAD"))
            self._busy = False
            if not keep_alive:
                self.transport.close()
            elif self._waiting:
                self._start(*self._waiting.popleft())

        self._on_request(request, reply)

    def refuse(self, response: Response) -> None:
        """Answer and close."""
        if self.transport is not None:
            self.transport.write(_serialize(response, keep_alive=False))
            self.transport.close()

    # Upgrades

    def _upgrade(self, rest: bytes) -> None:
        request = self._upgrade_request
        if request is None or self._on_upgrade is None or self.transport is None:
            self.refuse(Response(400))
            return
        self._upgrading = True
        target = request.path + (f"?{request.query_string}" if request.query_string else "")
        headers = Headers(self._raw_headers)
        answer = ServerProtocol().accept(HandshakeRequest(target, headers))
        if answer.status_code != 101:
            kept = {"Upgrade": "websocket"} if answer.status_code == 426 else {}
            if version := answer.headers.get("Sec-WebSocket-Version"):
                kept["Sec-WebSocket-Version"] = version
            self.refuse(Response(answer.status_code, bytes(answer.body), kept))
            return
        offered = [
            part.strip()
            for value in headers.get_all("Sec-WebSocket-Protocol")
            for part in value.split(",")
            if part.strip()
        ]
        self._on_upgrade(Upgrade(request, self._raw_headers, self, answer.serialize(), offered, rest))


class WebSocket(asyncio.Protocol):
    """An open WebSocket. Text in by `on_text`; `on_close` comes exactly once, whatever ended it."""

    __slots__ = ("_closed", "_events", "_parts", "_timer", "_transport", "_transports", "_ws")

    def __init__(
        self, transport: asyncio.Transport, events: WebSocketEvents, transports: set[asyncio.Transport]
    ) -> None:
        self._transport = transport
        self._transports = transports
        self._events = events
        self._ws = ServerProtocol(state=State.OPEN, max_size=(MAX_MESSAGE, MAX_FRAME))
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []

    @property
    def open(self) -> bool:
        return self._ws.state is State.OPEN

    @property
    def unsent(self) -> int:
        """Bytes that wait because the client does not read."""
        return self._transport.get_write_buffer_size()

    def send(self, payload: bytes) -> None:
        """Send one text frame."""
        self._ws.send_text(payload)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; a client that does not answer is cut off after `CLOSE_TIMEOUT`."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
            self._end(code, reason)
            self._flush()
            self._arm()

    def abort(self) -> None:
        """Drop the TCP connection without a close frame."""
        self._transport.abort()

    # asyncio

    def data_received(self, data: bytes) -> None:
        self._ws.receive_data(data)
        for frame in self._ws.events_received():
            if not isinstance(frame, Frame):
                continue
            if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
                self._parts.append(bytes(frame.data))
                if frame.fin:
                    payload, self._parts = b"".join(self._parts), []
                    self._text(payload)
            elif frame.opcode is Opcode.BINARY:
                self._fail(1003, "Binary frames are not supported")
        self._flush()
        if self._ws.close_sent is not None and not self._closed:
            if self._ws.close_rcvd is not None and self._ws.close_rcvd_then_sent:
                self._end(self._ws.close_rcvd.code, self._ws.close_rcvd.reason)
            else:
                self._end(self._ws.close_sent.code, self._ws.close_sent.reason)
        if self._ws.close_sent is not None:
            self._arm()

    def eof_received(self) -> bool:
        self._ws.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transports.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end(1006, "Connection Closed Abnormally")

    # Helpers

    def _text(self, payload: bytes) -> None:
        if self._ws.state is not State.OPEN:
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self._fail(1007, "Invalid UTF-8")
        else:
            self._events.on_text(text)

    def _fail(self, code: int, reason: str) -> None:
        if self._ws.state is State.OPEN:
            self._ws.fail(code, reason)

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()

    def _arm(self) -> None:
        if self._timer is None and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _end(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._events.on_close(code, reason)


def loopback_socket() -> socket.socket:
    """Listen on a free port of 127.0.0.1."""
    return _bind(socket.AF_INET, "127.0.0.1", 0)


def listen(port: int) -> list[socket.socket]:
    """Bind and listen on 127.0.0.1 and, where it exists, ::1 (browsers take `localhost` for either).

    Port 0 takes one that is free.

    Raises:
        PortInUseError: someone else listens there.
    """
    sockets = [_bind(socket.AF_INET, "127.0.0.1", port)]
    try:
        sockets.append(_bind(socket.AF_INET6, "::1", sockets[0].getsockname()[1]))
    except PortInUseError:
        sockets[0].close()
        if port == 0:
            return listen(0)
        raise
    except OSError:
        return sockets  # a machine without IPv6, or one where ::1 is not configured
    return sockets


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(port) from error
        raise
    return sock


def _serialize(response: Response, keep_alive: bool, *, head: bool = False) -> bytes:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if response.status != 204:
        lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    text = "\r\n".join(lines) + "\r\n\r\n"
    return text.encode("latin-1", "replace") + (b"" if head else response.body)

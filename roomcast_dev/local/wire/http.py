"""HTTP on the wire: requests and WebSocket handshakes as callbacks, nothing of API Gateway.

One `asyncio.Protocol` parses HTTP with httptools and hands a handshake on as an `Upgrade`. A handshake is a
GET of HTTP/1.1 that asks for `websocket`; an offer of any other protocol (h2c) is ignored, as RFC 9110, 7.8
allows.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import httptools
from websockets.datastructures import Headers
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol

from roomcast_dev.local.wire.messages import RESET, OnRequest, Request, Response, serialize
from roomcast_dev.local.wire.sockets import BACKLOG, cut_after, half_close
from roomcast_dev.local.wire.websocket import Upgrade, WebSocket, WebSocketEvents

WEBSOCKET_VERSION = "13"  # RFC 6455, 4.1
MAX_BODY = 8 * 1024 * 1024  # ours: above Lambda's 6 MB response and SQS's 1 MiB, below what hurts

OnUpgrade = Callable[[Upgrade], None]

_OFFER = ("connection", "upgrade", "http2-settings")


class Listener:
    """A server on loopback and the connections that it has taken."""

    def __init__(self, on_request: OnRequest, on_upgrade: OnUpgrade | None = None) -> None:
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


class HttpProtocol(asyncio.Protocol):
    """Parses requests, answers them in order, hands Upgrades on."""

    def __init__(
        self,
        on_request: OnRequest,
        on_upgrade: OnUpgrade | None,
        transports: set[asyncio.Transport],
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.transports = transports
        self._source_ip = ""
        self._early = bytearray()
        self._on_request = on_request
        self._on_upgrade = on_upgrade
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._upgrading = False
        self._ending = False
        self._cut: asyncio.TimerHandle | None = None
        self._upgrade_request: Request | None = None
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
        peer = transport.get_extra_info("peername")
        self._source_ip = peer[0] if peer else ""
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.transport is not None:
            self.transports.discard(self.transport)
        if self._cut is not None:
            self._cut.cancel()
        self.transport = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._upgrading:
            self._early += data
            return
        if self._ending:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._upgrade_request is not None:
                self._upgrade(self._upgrade_request, rest)
            elif not self._ending:
                self.data_received(self._without_offer() + rest)
        except httptools.HttpParserError:
            self.refuse(Response(400))

    # httptools

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            return
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
        request = Request(
            method=self._parser.get_method().decode(),
            path=path,
            query_string=query,
            headers={name.lower(): value for name, value in self._headers},
            body=b"".join(self._body),
            source_ip=self._source_ip,
        )
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self.refuse(Response(505))
            return
        if self._parser.should_upgrade():
            if self._is_handshake(request, version):
                self._upgrade_request = request
            return  # otherwise its body has not been read yet: see `_without_offer`
        too_large, keep_alive = self._size > MAX_BODY, self._parser.should_keep_alive()
        self._reset()
        if self._ending:
            return
        if too_large:
            self.refuse(Response(413))
        elif self._busy:
            self._waiting.append((request, keep_alive))
        else:
            self._start(request, keep_alive)

    def _is_handshake(self, request: Request, version: str) -> bool:
        return (
            self._on_upgrade is not None
            and request.method == "GET"
            and version == "1.1"
            and "websocket" in (part.strip().lower() for part in request.headers["upgrade"].split(","))
        )

    def _without_offer(self) -> bytes:
        """Start to read the same request again, as if it offered no other protocol; returns its head.

        httptools takes what follows any Upgrade for the other protocol, and so does not read the body.
        """
        method, url, version = self._parser.get_method(), self._url, self._parser.get_http_version()
        lines = [f"{name}: {value}" for name, value in self._headers if name.lower() not in _OFFER]
        if not self._parser.should_keep_alive():
            lines.append("Connection: close")
        self._parser = httptools.HttpRequestParser(self)
        self._reset()
        head = "".join(f"{line}\r\n" for line in lines)
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, url, version.encode(), head.encode("latin-1"))

    # Requests

    def _start(self, request: Request, keep_alive: bool) -> None:
        self._busy = True

        def respond(response: Response) -> None:
            if self.transport is None:
                return
            if response is RESET:
                self.transport.abort()
                return
            self.transport.write(serialize(response, keep_alive, head=request.method == "HEAD"))
            self._busy = False
            if not keep_alive:
                self._end()
            elif self._waiting:
                self._start(*self._waiting.popleft())

        self._on_request(request, respond)

    def refuse(self, response: Response) -> None:
        """Answer and close."""
        if self.transport is not None:
            self.transport.write(serialize(response, keep_alive=False))
            self._end()

    def _end(self) -> None:
        self._ending = True
        if self.transport is not None:
            half_close(self.transport)
            self._cut = self._cut or cut_after(self.transport)

    # Upgrades

    def _upgrade(self, request: Request, rest: bytes) -> None:
        if self._on_upgrade is None or self.transport is None:
            return
        target = request.path + (f"?{request.query_string}" if request.query_string else "")
        if request.headers.get("sec-websocket-version", WEBSOCKET_VERSION) != WEBSOCKET_VERSION:
            ours = {"Upgrade": "websocket", "Sec-WebSocket-Version": WEBSOCKET_VERSION}
            self.refuse(Response(426, b"", ours))
            return
        handshake = ServerProtocol().accept(HandshakeRequest(target, Headers(self._headers)))
        if handshake.status_code != 101:
            self.refuse(Response(handshake.status_code, bytes(handshake.body)))
            return
        self._upgrading = True
        self._early += rest
        head = handshake.serialize()
        self._on_upgrade(
            Upgrade(
                request,
                self._headers,
                accept=lambda events, subprotocol: self._accept(head, events, subprotocol),
                refuse=self.refuse,
            )
        )

    def _accept(self, head: bytes, events: WebSocketEvents, subprotocol: str | None) -> WebSocket | None:
        transport = self.transport
        if transport is None:
            return None
        if subprotocol is not None:
            head = head[:-2] + f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        websocket = WebSocket(transport, events, self.transports)
        transport.set_protocol(websocket)
        transport.write(head)
        early, self._early = bytes(self._early), bytearray()
        if early:
            websocket.data_received(early)
        return websocket
